"""Who learns together: one process alone, or several that share a batch (`workbench.scale.ranks`).

The learner is written once, for any number of processes: each goes through its share of the parts, gradients are
summed, and what is decided (may the step be made? is a number not finite?) is decided by all or by none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor

from workbench.train.parts import Part

Found = TypeVar("Found")


class Ranks:
    """One process alone: all parts are its own, and its sums are those of the batch."""

    size = 1

    def share(self, parts: Sequence[Part]) -> list[Part]:
        """Return the parts this process goes through."""
        return list(parts)

    def keep_pace(self, parts: Sequence[Part], idle: Callable[[Part], object]) -> None:
        """Make as many passes as the process with the most parts: a pass is a meeting of all where weights are shared.

        Args:
            parts: of the whole batch.
            idle: a pass over a part that adds nothing to the gradient.
        """

    def add_up(self, weights: Sequence[Tensor]) -> None:
        """Sum over processes the gradients of weights that each of them holds whole.

        Those of weights that are shared out are summed on the way back through the model, and are left as they are.

        Args:
            weights: that learn, in the same order in every process.
        """

    def gather(self, found: list[Found]) -> list[Found]:
        """Return what all processes found, the same list in each."""
        return found

    def any(self, here: bool) -> bool:
        """Return whether it holds in any process."""
        return here

    def agree(self, problem: str | None) -> None:
        """Raise FloatingPointError in all processes if one has a problem; says the first."""
        if problem is not None:
            raise FloatingPointError(problem)


ALONE = Ranks()


def own(tensor: Any) -> Tensor:
    """Return what this process holds of a tensor that may be shared out over processes."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def whole(tensor: Any) -> Tensor:
    """Return all of a tensor that may be shared out over processes; then all of them must ask."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
