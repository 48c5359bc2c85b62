"""What went wrong while reading, as values."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

from workbench.trajectory import RecordError

_SHOWN = 20


@dataclass(frozen=True)
class Problem:
    """One record that could not be read as it stands.

    Args:
        file: name of the file, inside the folder that was read.
        line: of that file, counted from 1 (the row, in a Parquet file); None if no line is to blame.
        id: of the trajectory, when it could be read.
        problem: what was expected and what came, with the turn and the field.
        torn: True for a last line that was never written to its end (the writer was stopped): skipped, not an error.
    """

    file: str
    line: int | None
    id: str | None
    problem: str
    torn: bool = False

    def __str__(self) -> str:
        line = "" if self.line is None else f", line {self.line}"
        name = "" if self.id is None else f", trajectory {self.id!r}"
        return f"{self.file}{line}{name}: {self.problem}"


@dataclass(frozen=True)
class Report:
    """What a reader found.

    Args:
        source: what was read.
        format: which format it was recognised as.
        good: how many trajectories could be read.
        problems: one entry a record that could not.
        lost: what the format does not hold, one sentence each.
    """

    source: str
    format: str
    good: int
    problems: tuple[Problem, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was lost, then the problems (the first 20 in full)."""
        shown = tuple(f"skipped {p}" for p in self.problems[:_SHOWN])
        rest = len(self.problems) - len(shown)
        more = (f"and {rest} more problems; `workbench.store.read_report(path)` lists them",) if rest > 0 else ()
        return (*self.lost, *shown, *more)


OnProblem = Callable[[Problem], None]


def problem_of(error: RecordError, file: str, line: int | None = None) -> Problem:
    """Return the problem an error tells of."""
    name = error.trajectory
    return Problem(file, error.line if error.line is not None else line, name, str(_placeless(error)))


def _placeless(error: RecordError) -> RecordError:
    """The error without what a `Problem` says itself: trajectory and line."""
    return RecordError(error.problem, turn=error.turn, field=error.field)


def raise_problem(problem: Problem) -> None:
    """Raise the problem as an error; only warn about a torn last line.

    Raises:
        RecordError: with file, line and id of the record.
    """
    if problem.torn:
        warnings.warn(str(problem), stacklevel=3)
        return
    raise RecordError(f"{problem.file}: {problem.problem}", trajectory=problem.id, line=problem.line)
