"""An oracle that errs as often as one says: what a method that trusts verdicts does with wrong ones."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from workbench.evidence.base import Meter, Provider, Reads, Sees, Values
from workbench.evidence.oracle import recorded
from workbench.seeds import seed_for
from workbench.trajectory import Group, RecordError, Trajectory


def unreliable(truth: float, grades: Sequence[float], reliability: float, rng: random.Random) -> float:
    """Return a verdict that is right with the probability `reliability`, else another grade, each with equal chance.

        P(verdict = v) = r if v is the truth, else (1 - r) / (number of grades - 1)

    Args:
        truth: what a perfect oracle says; one of `grades`.
        grades: all it could say.
        reliability: r in [0, 1].
        rng: where the chance comes from.

    Example:
        >>> unreliable(1.0, (0.0, 1.0), 1.0, random.Random(0)), unreliable(1.0, (0.0, 1.0), 0.0, random.Random(0))
        (1.0, 0.0)
    """
    if rng.random() < reliability:
        return truth
    return rng.choice([grade for grade in grades if grade != truth])


@dataclass(frozen=True)
class Unreliable(Provider):
    """Give a recorded verdict of an oracle with errors: the same rollouts, judged by a worse and worse oracle.

    Each turn errs by itself, decided by the seed, its place (which rollout of the group, which turn) and what was done
    in which state; so equal rollouts get equal verdicts, whenever they are asked. A turn without a verdict stays
    unknown.

    Args:
        reliability: probability that a verdict is right, in [0, 1].
        fact: the verdict a world recorded, e.g. "oracle_on_path" or "oracle_value".
        column: where the verdicts go; `vpr_turns(oracle=column)` reads them.
        grades: all that a perfect oracle can say, at least two values.
        seed: of the errors.
        looks_at: what the world's oracle looked at.

    Where candidates are drawn in every state, the world's own oracle says which is played on, the verdicts say who is
    credited: `replace(vpr_states(oracle=column), candidates=Candidates(oracle=fact))`.

    Source: VPR (arXiv:2605.10325) reports that a weak oracle hurts; errors that do not depend on the position are ours.
    """

    reliability: float = 1.0
    fact: str = "oracle_on_path"
    column: str = "oracle_verdict"
    grades: tuple[float, ...] = (0.0, 1.0)
    seed: int = 0
    looks_at: tuple[Sees, ...] = ("gold",)
    reads: ClassVar[tuple[Reads, ...]] = ("messages", "results", "extra", "states")

    def __post_init__(self) -> None:
        if not 0 <= self.reliability <= 1:
            raise ValueError(f"reliability: expected a probability, got {self.reliability!r}")
        if len(set(self.grades)) < 2:
            raise ValueError(f"grades: expected at least two different values, got {self.grades!r}")

    @property
    def provides(self) -> Mapping[str, str]:  # type: ignore[override]
        """The one turn column."""
        return {self.column: "turn"}

    @property
    def sees(self) -> tuple[Sees, ...]:  # type: ignore[override]
        """What the oracle looked at."""
        return self.looks_at

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Judge each turn."""
        found = [self._verdict(t, n, k) for n, t in enumerate(group) for k in range(len(t.turns))]
        return {self.column: Values.of(found)}

    def _verdict(self, trajectory: Trajectory, number: int, turn: int) -> float | None:
        truth = recorded(trajectory, turn, self.fact)
        if truth is None:
            return None
        if truth not in self.grades:
            problem = f"{self.fact} is {truth!r}, which is none of the grades {self.grades}; name all it can be"
            raise RecordError(problem, trajectory=trajectory.id, turn=turn, field="rewards")
        t = trajectory.turns[turn]
        rng = random.Random(seed_for("verdict", self.seed, number, turn, t.state_key or "", t.action.text))
        return unreliable(float(truth), self.grades, self.reliability, rng)
