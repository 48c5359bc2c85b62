"""How a recipe has its rounds played where whole episodes will not do: several candidates in every state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.credit.rules import one_of

Ties = Literal["first", "random"]


@dataclass(frozen=True)
class Candidates:
    """Several actions are drawn in every state, an oracle judges them, and the episode goes on from the best.

    A recipe that has it (`Recipe.candidates`) is trained on such rounds by `train`, `launch` and `one_step`; any other
    is trained so by `dataclasses.replace(recipe, candidates=Candidates(oracle="oracle_value"))`.

    A task of the plan is played `plan.size` / `count` times, at least once: the first state costs as many samples as a
    group of whole episodes, each later one as many again.

    Args:
        count: K, candidates a state, at least 2.
        oracle: the number beside a turn, recorded by the world, that decides which one is played on.
        ties: "first" takes the first of the best, "random" any of them, decided by the seed.
        skip_at: where at least this share of the states has candidates of one value only, nothing of the round is
            trained on (its turns say so); above 1 never. The release has 0.93.

    Source: VPR (arXiv:2605.10325), second released variant.

    Example:
        >>> Candidates(count=4)
        Candidates(count=4, oracle='oracle_value', ties='first', skip_at=0.93)
    """

    count: int = 4
    oracle: str = "oracle_value"
    ties: Ties = "first"
    skip_at: float = 0.93

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"Candidates.count: expected at least 2 in a state, got {self.count!r}")
        one_of("Candidates", "ties", self.ties, Ties)
