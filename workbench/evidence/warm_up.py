"""A gate for gains that are noise at first: shut until a running mean of the outcomes is high enough. For DR-Venus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from workbench.evidence.base import Meter, Provider, Reads, Sees, Values
from workbench.rollouts import Rollouts
from workbench.trajectory import Group


def running_mean(before: float | None, now: float, rate: float) -> float:
    """Return m_s = rate x_s + (1 - rate) m_{s-1}; the first value as it is.

    Example:
        >>> running_mean(None, 0.5, 0.1), running_mean(0.5, 1.0, 0.1)
        (0.5, 0.55)
    """
    return now if before is None else rate * now + (1 - rate) * before


@dataclass(eq=False)
class WarmUp(Provider):
    """Say for all rollouts of a step whether gains count yet: `gains_on`, 1 or 0. For `dr_venus(warm_up=True)`.

        gains_on = 1 from the first step on before which the running mean of the steps' mean outcomes is >= threshold

    It never shuts again. What a step brings counts for later steps only, so the first step has none. It remembers, and
    a checkpoint keeps what: use one for each run. A step whose outcomes are all unknown leaves the mean as it is.

    Args:
        threshold: of the running mean of outcomes.
        rate: weight of a step in it, in (0, 1]; the release's is 0.1.

    Source: DR-Venus, released ray_trainer.py, `ig_warmup_threshold` and `ig_warmup_ema_alpha`.
    Differs: the release does not probe while gains are off; here the probe is asked all the same.

    Example:
        >>> gate = WarmUp(threshold=0.4)
        >>> gate.mean, gate.on
        (None, False)
    """

    threshold: float
    rate: float = 0.1
    mean: float | None = field(default=None, init=False, metadata={"key": False})
    on: bool = field(default=False, init=False, metadata={"key": False})
    provides: ClassVar[Mapping[str, str]] = {"gains_on": "trajectory"}
    sees: ClassVar[tuple[Sees, ...]] = ()
    reads: ClassVar[tuple[Reads, ...]] = ("results",)

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate: expected more than 0 and at most 1, got {self.rate!r}")

    def check(self, rollouts: Rollouts) -> None:
        """Decide for these rollouts by what was before, then take their outcomes into the mean."""
        self.on = self.on or (self.mean is not None and self.mean >= self.threshold)
        outcomes = [t.outcome for t in rollouts if t.outcome is not None]
        if outcomes:
            self.mean = running_mean(self.mean, sum(outcomes) / len(outcomes), self.rate)

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Return the decision, once a rollout."""
        return {"gains_on": Values.of(float(self.on) for _ in group)}

    def state(self) -> Mapping[str, Any]:
        """Return the running mean, and whether gains count."""
        return {"mean": self.mean, "on": self.on}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a kept state."""
        self.mean, self.on = state["mean"], state["on"]
