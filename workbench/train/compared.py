"""What runs of several seeds say: intervals over seeds, paired differences, learning curves, credit by kind of turn.

Pure functions of the lines `workbench.train.sweep` keeps. A seed is one observation: tasks inside a run are not
independent of each other, for they were all played by the same weights.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal, NamedTuple

from workbench.train.sweep import SEEDS, best_rate
from workbench.train.tally import Cell, Kind, together

Line = Mapping[str, Any]
What = Literal["credit", "outcome"]
SEARCHES: tuple[Kind, ...] = ("useful", "useless")


class Mean(NamedTuple):
    """A mean over seeds with its interval; bounds are None with fewer than two seeds."""

    mean: float
    low: float | None
    high: float | None
    seeds: int


class Difference(NamedTuple):
    """A method against another, seed by seed.

    Args:
        method: whose success is meant.
        mean: of the differences, with its interval at the level asked for.
        p: of the paired t-test; None with fewer than two seeds.
        adjusted: p after Holm's correction for all methods compared.
        told: is it distinguishable, that is, is the corrected p below 1 - level?
    """

    method: str
    mean: Mean
    p: float | None
    adjusted: float | None
    told: bool


# ---------------------------------------------------------------------------------------------------- statistics


def over_seeds(values: Sequence[float], level: float = 0.95) -> Mean:
    """Return the mean and Student's interval: mean +- t_(n-1) s / sqrt(n), s the sample spread.

    Args:
        values: one a seed, at least one.
        level: of the interval.

    Source: Student 1908, "The probable error of a mean".

    Example:
        >>> [round(v, 3) for v in over_seeds([0.1, 0.2, 0.3])]
        [0.2, -0.048, 0.448, 3]
    """
    from scipy.stats import t

    n = len(values)
    if not n:
        raise ValueError("over_seeds: expected at least one seed, got none")
    mean = math.fsum(values) / n
    if n < 2:
        return Mean(mean, None, None, n)
    half = float(t.ppf(0.5 + level / 2, n - 1)) * _spread(values) / math.sqrt(n)
    return Mean(mean, mean - half, mean + half, n)


def _spread(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def paired_p(differences: Sequence[float]) -> float | None:
    """Return the two-sided p of the paired t-test; None with fewer than two differences.

    Where all differences are equal it is what p goes to as their spread goes to 0: 0, or 1 where all are 0.

    Example:
        >>> round(paired_p([0.1, 0.2, 0.3]), 3)
        0.074
        >>> paired_p([0.5, 0.5, 0.5]), paired_p([0.0, 0.0]), paired_p([0.5])
        (0.0, 1.0, None)
    """
    from scipy.stats import t

    n = len(differences)
    if n < 2:
        return None
    if _spread(differences) == 0:
        return 0.0 if any(differences) else 1.0
    value = math.fsum(differences) / n / (_spread(differences) / math.sqrt(n))
    return float(2 * t.sf(abs(value), n - 1))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return p values corrected for how many there are: sorted, the k-th smallest of m times m - k + 1, never falling.

    Args:
        ps: None is left alone and not counted.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    Example:
        >>> holm([0.01, 0.04, None, 0.03])
        [0.03, 0.06, None, 0.06]
    """
    order = sorted((p, at) for at, p in enumerate(ps) if p is not None)
    out: list[float | None] = [None] * len(ps)
    least = 0.0
    for rank, (p, at) in enumerate(order):
        least = max(least, min(1.0, p * (len(order) - rank)))
        out[at] = least
    return out


# ------------------------------------------------------------------------------------------------------ the runs


def reported(lines: Iterable[Line]) -> list[Line]:
    """Return the runs that count: of the reported seeds, at the rate the tuning seeds chose."""
    kept = list(lines)
    out = []
    for line in kept:
        if line["seed"] in SEEDS and line["rate"] == best_rate(kept, line["world"], line["method"]):
            out.append(line)
    return sorted(out, key=lambda line: line["seed"])


def of(lines: Iterable[Line], world: str, method: str) -> list[Line]:
    """Return the lines of a method in a world."""
    return [line for line in lines if (line["world"], line["method"]) == (world, method)]


def solved(line: Line, how: str = "success") -> float:
    """Return the share of test tasks solved after training, sampled ("success") or by likeliest tokens ("greedy")."""
    right, count = line[how]
    return float(right) / float(count)


def final(lines: Iterable[Line], world: str, method: str, how: str = "success") -> Mean:
    """Return the share of test tasks solved after training, over the reported seeds."""
    return over_seeds([solved(line, how) for line in of(lines, world, method)])


def against(lines: Sequence[Line], world: str, base: str = "grpo", level: float = 0.95) -> list[Difference]:
    """Compare every method with another, seed by seed (same tasks, same test tasks).

    Args:
        lines: of `reported`.
        base: whom all are compared with.
        level: of the intervals (not corrected) and of the verdict (corrected).
    """
    mine = {line["seed"]: solved(line) for line in of(lines, world, base)}
    methods = list(dict.fromkeys(line["method"] for line in lines if line["world"] == world and line["method"] != base))
    pairs = {
        m: [solved(line) - mine[line["seed"]] for line in of(lines, world, m) if line["seed"] in mine] for m in methods
    }
    pairs = {method: found for method, found in pairs.items() if found}
    ps = [paired_p(found) for found in pairs.values()]
    out = []
    for (method, found), p, adjusted in zip(pairs.items(), ps, holm(ps), strict=True):
        told = adjusted is not None and adjusted < 1 - level
        out.append(Difference(method, over_seeds(found, level), p, adjusted, told))
    return out


# ----------------------------------------------------------------------------------------------------- the curves


def smoothed(values: Sequence[float | None], window: int) -> list[float]:
    """Return the mean of the last `window` known values at each place (of fewer at the beginning); nan where none is.

    Example:
        >>> smoothed([0.0, 1.0, None, 3.0], 2)
        [0.0, 0.5, 1.0, 3.0]
    """
    out = []
    for at in range(len(values)):
        known = [v for v in values[max(0, at - window + 1) : at + 1] if v is not None]
        out.append(math.fsum(known) / len(known) if known else math.nan)
    return out


def curves(lines: Iterable[Line], world: str, method: str, name: str, window: int = 5) -> list[list[float]]:
    """Return one smoothed curve a seed of a metric kept at every step, at the places of `rollouts_after`."""
    return [_on_grid(line, smoothed(line["steps_seen"][name], window)) for line in of(lines, world, method)]


def rollouts_after(line: Line) -> list[int]:
    """Return how many rollouts had been played after each step of a run that never samples again."""
    return [(step + 1) * line["groups"] * line["size"] for step in range(line["steps"])]


def _on_grid(line: Line, values: Sequence[float]) -> list[float]:
    """Return the value of the last step that was through at each place of `rollouts_after`; nan before the first.

    A run that samples again (it says how many rollouts a step took) makes fewer steps of the same rollouts.
    """
    if "rollouts" not in line["steps_seen"]:
        return list(values)
    through = list(accumulate(line["steps_seen"]["rollouts"]))
    return [[math.nan, *values][bisect_right(through, place)] for place in rollouts_after(line)]


# ----------------------------------------------------------------------------------------- going on and stopping


def cells(line: Line, blocks: slice = slice(None)) -> list[Cell]:
    """Return the turns of a run by kind and place, over some of its blocks of steps."""
    return together([Cell(*cell) for cell in block] for block in line["turns_seen"][blocks])


def mean_credit(
    found: Iterable[Cell], kinds: Sequence[Kind], places: Sequence[int] | None = None, what: What = "credit"
) -> float | None:
    """Return the mean credit of a turn of these kinds (at these places); None if there is none.

    Args:
        found: of `cells`.
        kinds, places: which turns; None is every place.
        what: the method's credit, or what the outcome alone says of the same turns.

    Example:
        >>> mean_credit([Cell(0, "early", 2, -1.0), Cell(1, "early", 2, 3.0)], ["early"])
        0.5
    """
    chosen = [cell for cell in found if cell.kind in kinds and (places is None or cell.place in places)]
    turns = sum(cell.turns for cell in chosen)
    return math.fsum(getattr(cell, what) for cell in chosen) / turns if turns else None


def unit(found: Iterable[Cell], what: What = "credit") -> float:
    """Return the mean |credit| of a turn, the unit in which methods of different scale can be compared."""
    cells = list(found)
    total = math.fsum(cell.size if what == "credit" else cell.outcome_size for cell in cells)
    return total / max(sum(cell.turns for cell in cells), 1)


def stopping_edge(found: Sequence[Cell], what: What = "credit", least: int = 10) -> float | None:
    """Return how much more an early answer gets than going on at the same place, weighed by early answers.

        sum_k n_k (c_k(early) - c_k(search)) / sum_k n_k      over places k with `least` or more of each

    Above 0 the method pays for giving up the search there. That is no mistake as such: a guess may be worth more than
    what this policy makes of going on. What the outcome says of the same turns tells.

    Args:
        found: of `cells`.
        what: as in `mean_credit`.
        least: turns of each kind a place must have.
    """
    total = weight = 0.0
    for place in sorted({cell.place for cell in found}):
        here = [cell for cell in found if cell.place == place]
        stops, goes = (_count(here, kinds) for kinds in (("early",), SEARCHES))
        if stops >= least and goes >= least:
            edge = (mean_credit(here, ["early"], what=what) or 0.0) - (mean_credit(here, SEARCHES, what=what) or 0.0)
            total, weight = total + stops * edge, weight + stops
    return total / weight if weight else None


def _count(found: Iterable[Cell], kinds: Sequence[str]) -> int:
    return sum(cell.turns for cell in found if cell.kind in kinds)
