"""What training eats: examples and pairs."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.trajectory.records import Record, check_number, require
from workbench.trajectory.sequences import check_logprobs, token_ids


@dataclass(frozen=True)
class Example(Record):
    """What SFT, reward-weighted, DAgger and distillation training eat.

    Args:
        ids: token ids of one forward pass.
        weights: loss weight per token, 0 for context; same length.
        logprobs_old: per token, or None if unknown.
        source: (trajectory id, turn) it was made from.
        reason: why it is in the training set.
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    logprobs_old: tuple[float | None, ...] | None = None
    source: tuple[str, int] | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", token_ids(self.ids))
        object.__setattr__(self, "weights", tuple(self.weights))
        lengths = {"weights": self.weights, "logprobs_old": self.logprobs_old}
        for name, values in lengths.items():
            good = values is None or len(values) == len(self.ids)
            require(good, f"expected one per token ({len(self.ids)}), got {len(values or ())}", field=name)
        for weight in self.weights:
            check_number(weight, "weights")
            require(weight is not None, "a weight is a number; 0 for context", field="weights")
        if self.logprobs_old is not None:
            object.__setattr__(self, "logprobs_old", tuple(self.logprobs_old))
            check_logprobs(self.logprobs_old, "logprobs_old")


@dataclass(frozen=True)
class Pair(Record):
    """What preference training eats: two continuations of the same context.

    Args:
        chosen, rejected: the two, as examples.
        turn: at which turn they part; None if whole trajectories are compared.
        weight: of this pair in the loss, >= 0.
        reason: why one is preferred.
    """

    chosen: Example
    rejected: Example
    turn: int | None = None
    weight: float = 1.0
    reason: str = ""

    def __post_init__(self) -> None:
        check_number(self.weight, "weight")
        require(self.weight >= 0, f"expected a weight >= 0, got {self.weight}", field="weight")
