"""Parameters of stages as values: numbers, schedules of the update, columns; and columns as predicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.batch import Batch, Level

if TYPE_CHECKING:
    from workbench.credit.core import Credit


@dataclass(frozen=True)
class Schedule:
    """A number that depends on the update: linear from `start` to `end` over `steps` updates, then constant."""

    start: float
    end: float
    steps: int

    def __call__(self, step: int) -> float:
        return self.start + (self.end - self.start) * min(max(step, 0) / max(self.steps, 1), 1.0)

    def __repr__(self) -> str:
        return f"linear({self.start}, {self.end}, {self.steps})"


def linear(start: float, end: float, steps: int) -> Schedule:
    """Return a number that goes from `start` to `end` over `steps` updates.

    Example:
        >>> linear(0, 0.1, 200)(100)
        0.05
    """
    return Schedule(start, end, steps)


@dataclass(frozen=True)
class ColumnRef:
    """A column as a parameter: its values instead of one number, or its flags as a predicate."""

    name: str

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.name,)

    def at(self, batch: Batch, level: Level) -> tuple[Tensor, Tensor]:
        """Values and known flags at a level (copied down if the column is above it)."""
        column = batch[self.name]
        return tuple(batch.down(x, column.level, level) for x in (column.values, column.known))  # type: ignore[return-value]

    def __call__(self, credit: Credit, batch: Batch) -> Tensor:
        """As a predicate: true where the column is known and not 0."""
        values, known = self.at(batch, credit.level)
        return known & (values != 0)

    def __invert__(self) -> Any:
        return Not(self)

    def __repr__(self) -> str:
        return f"column({self.name!r})"


@dataclass(frozen=True)
class Not:
    """The opposite of a predicate."""

    where: Any

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(getattr(self.where, "needs", ()))

    def __call__(self, credit: Credit, batch: Batch) -> Tensor:
        return ~self.where(credit, batch)

    def __repr__(self) -> str:
        return f"~{self.where!r}"


def column(name: str) -> ColumnRef:
    """Refer to a column: as a parameter (its values) or as a predicate (known and not 0)."""
    return ColumnRef(name)


Number = float | Schedule | ColumnRef


def number(value: Number, batch: Batch, level: Level) -> float | Tensor:
    """Evaluate a parameter: a number, a schedule at the batch's step, or a column at a level.

    Raises:
        ValueError: the column has unknown values; a parameter must be known everywhere.
    """
    if isinstance(value, Schedule):
        return value(batch.step)
    if isinstance(value, ColumnRef):
        values, known = value.at(batch, level)
        if not bool(known.all()):
            raise ValueError(f"parameter {value!r}: unknown for {int((~known).sum())} of {len(known)} {level}s")
        return values.to(torch.float64)
    return float(value)
