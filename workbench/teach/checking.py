"""Check a reader's function: cases made at check time, properties, and the misconception a wrong one looks like.

The cases go from small to large. The counter-example is the smallest case on which the function is wrong and which
tells its misconception from the truth and, if one can, from every other misconception.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from workbench.teach.table import Table, bundle, number

Args = tuple[Any, ...]
Values = Any  # nested tuples of floats
Solution = Callable[..., Any]

RELATIVE, ABSOLUTE = 1e-3, 1e-5  # float32 passes, and so does TRL's eps of 1e-4 beside verl's 1e-6
MOST = 12  # rows of a counter-example


@dataclass(frozen=True)
class Misconception:
    """A wrong solution that people write.

    Args:
        name: short, an identifier.
        says: what it does, in one sentence, as told to the reader ("You ...").
        wrong: the wrong solution.
        like: (args, got, want) -> does this wrong answer look like it? By default: it equals that of `wrong`.
    """

    name: str
    says: str
    wrong: Solution
    like: Callable[[Args, Values, Values], bool] | None = None

    def explains(self, args: Args, got: Values, want: Values) -> bool:
        """Is `got` what this misconception gives, and not what is right?"""
        if same(got, want):
            return False
        return self.like(args, got, want) if self.like else same(got, values(self.wrong(*args)))


@dataclass(frozen=True)
class Property:
    """What a right solution holds on every case.

    Args:
        says: the property, in one sentence.
        holds: (args, got, solution) -> does it?
    """

    says: str
    holds: Callable[[Args, Values, Solution], bool]


@dataclass(frozen=True)
class Exercise:
    """An exercise and how it is checked.

    Args:
        name: e.g. "ex1".
        title: what is to be written.
        cases: random generator -> arguments of calls, small ones first.
        truth: the right values, computed with the library.
        misconceptions: known wrong solutions.
        properties: what holds on every case.
        rows: (args, got, want) -> the case as a table.
        hints: from a nudge to nearly all; never the code.
    """

    name: str
    title: str
    cases: Callable[[Random], Sequence[Args]]
    truth: Solution
    misconceptions: tuple[Misconception, ...]
    properties: tuple[Property, ...]
    rows: Callable[[Args, Values, Values], Table]
    hints: tuple[str, ...]

    def __call__(self, solution: Solution, seed: int = 0) -> Verdict:
        """Check a solution on cases of a seed.

        Raises:
            NotImplementedError: it is a stub still.
        """
        try:
            tried = [_try(solution, args, self.truth) for args in self.cases(Random(seed))]
        except NotImplementedError as stub:
            raise NotImplementedError(*stub.args) from None  # without the frames between, which say nothing to a reader
        failed = [one for one in tried if one.problem or not same(one.got, one.want)]
        if not failed:
            return Verdict(self, True, len(tried))
        named, shown = self._diagnose(failed)
        broken = () if shown.problem else tuple(p.says for p in self.properties if _breaks(p, failed, solution))
        return Verdict(self, False, len(tried), len(failed), named, shown, broken)

    def _diagnose(self, failed: Sequence[Tried]) -> tuple[Misconception | None, Tried]:
        """Return the misconception that explains most failures, and the case that shows it best."""
        clean = [one for one in failed if not one.problem]
        found = {m.name: [one for one in clean if m.explains(one.args, one.got, one.want)] for m in self.misconceptions}
        best = max(self.misconceptions, key=lambda m: len(found[m.name]))
        if not found[best.name]:
            return None, failed[0]
        others = [m for m in self.misconceptions if m is not best]
        alone = [one for one in found[best.name] if not any(m.explains(one.args, one.got, one.want) for m in others)]
        return best, (alone or found[best.name])[0]

    def hint(self, level: int = 1) -> Hint:
        """Return a hint; each level says more."""
        if not 1 <= level <= len(self.hints):
            raise ValueError(f"{self.name}: hints go from 1 to {len(self.hints)}, got {level}")
        return Hint(f"Hint {level} of {len(self.hints)}: {self.hints[level - 1]}")


@dataclass(frozen=True)
class Tried:
    """One call of a solution: what went in, what came out, what is right, and what went wrong with the call itself."""

    args: Args
    got: Values
    want: Values
    problem: str = ""


@dataclass(frozen=True)
class Hint:
    """A hint, shown as text."""

    text: str

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Verdict:
    """What a check found; shows itself.

    Args:
        exercise: which.
        passed: is the solution right on every case?
        cases: how many were tried.
        failed: how many went wrong.
        misconception: the one it looks like; None if it looks like none that is known.
        counterexample: the call that is shown.
        broken: properties that do not hold.
    """

    exercise: Exercise
    passed: bool
    cases: int
    failed: int = 0
    misconception: Misconception | None = None
    counterexample: Tried | None = None
    broken: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.passed

    @property
    def lines(self) -> tuple[str, ...]:
        """What is said, before the counter-example."""
        if self.passed:
            return (f"{self.exercise.name}: right on all {self.cases} cases.",)
        said = [f"{self.exercise.name}: not yet. Wrong on {self.failed} of {self.cases} cases."]
        if self.misconception:
            said.append(f"This looks like '{self.misconception.name}': {self.misconception.says}")
        elif self.counterexample and self.counterexample.problem:
            said.append(self.counterexample.problem)
        else:
            said.append("It is none of the misconceptions known here; the case below is the smallest that goes wrong.")
        said += [f"Does not hold: {what}" for what in self.broken]
        return (*said, f"More help: check.hint({self.exercise.name!r}, 1) to {len(self.exercise.hints)}.")

    @property
    def table(self) -> Table | None:
        """The counter-example; None if there is none."""
        one = self.counterexample
        if one is None:
            return None
        return self.exercise.rows(one.args, None if one.problem else one.got, one.want)

    def __repr__(self) -> str:
        return "\n".join([*self.lines, *([str(self.table)] if self.table else [])])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return bundle(repr(self), self.lines, self.table, self.passed)


# --------------------------------------------------------------------------------------------------- values


def values(thing: Any) -> Values:
    """Return numbers as nested tuples of floats, whatever holds them (lists, tensors, arrays).

    Example:
        >>> values([[1, 2], []])
        ((1.0, 2.0), ())
    """
    if hasattr(thing, "tolist"):
        thing = thing.tolist()
    if isinstance(thing, (list, tuple)):
        return tuple(values(one) for one in thing)
    if hasattr(thing, "tolist"):
        return values(thing.tolist())
    return float(thing)


def same(a: Values, b: Values) -> bool:
    """Are two nested values equal, up to rounding? NaN equals nothing."""
    if isinstance(a, tuple) != isinstance(b, tuple):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def shape(thing: Values) -> str:
    """Say how many numbers there are, and in which rows."""
    if not isinstance(thing, tuple):
        return "one number"
    if any(isinstance(one, tuple) for one in thing):
        return f"{len(thing)} rows of " + ", ".join(str(len(one)) if isinstance(one, tuple) else "1" for one in thing)
    return f"{len(thing)} numbers"


def _try(solution: Solution, args: Args, truth: Solution) -> Tried:
    """Call a solution on copies; an error in it is a finding, but a stub is a stub."""
    want, mine = values(truth(*args)), copy.deepcopy(args)
    try:
        returned = solution(*mine)
        if returned is None:
            return Tried(args, None, want, "Your function returned nothing; is a `return` missing?")
        got = values(returned)
    except NotImplementedError:
        raise
    except Exception as error:  # whatever a reader's function raises is shown to the reader
        return Tried(args, None, want, f"Your function raised {type(error).__name__}: {error}")
    if shape(got) != shape(want):
        return Tried(args, got, want, f"Expected {shape(want)}, your function returned {shape(got)}.")
    if mine != args:
        return Tried(args, got, want, "Your function changed the lists it was given; make new ones.")
    return Tried(args, got, want)


def _breaks(prop: Property, failed: Sequence[Tried], solution: Solution) -> bool:
    """Does a property break on a failed case?"""
    for one in failed[:MOST]:
        if one.problem:
            continue
        try:
            if not prop.holds(copy.deepcopy(one.args), one.got, solution):
                return True
        except Exception:  # it went through the case itself, but not through the changed one
            return True
    return False


__all__ = ["Exercise", "Hint", "Misconception", "Property", "Tried", "Verdict", "number", "same", "shape", "values"]
