"""How recipes differ: agreement of their credit, error against true credit, and collapse of groups. Pure functions.

    agreement(a, b) over units known in both; rollouts on which two recipes disagree most; bias and rank correlation
    against a measured column; share of groups whose outcomes are all equal, with an interval and a forecast.

Axis letters: n units, N trajectories, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from workbench.batch import Batch, Level
from workbench.credit import Credit
from workbench.recipes.base import Recipe
from workbench.segments import seg_count, seg_max, seg_mean, seg_min

if TYPE_CHECKING:
    import pandas as pd

# --------------------------------------------------------------------------------------------------- two columns

Measure = Literal["spearman", "pearson", "sign"]


def ranks(x: Tensor) -> Tensor:
    """Rank values from 1, equal ones by their mean rank -> float64 [n].

    Example:
        >>> ranks(torch.tensor([3.0, 1.0, 3.0])).tolist()
        [2.5, 1.0, 2.5]
    """
    _, place, count = torch.unique(x, return_inverse=True, return_counts=True)
    last = torch.cumsum(count, 0).to(torch.float64)
    return (last - (count.to(torch.float64) - 1) / 2)[place]


def pearson(x: Tensor, y: Tensor) -> float | None:
    """Correlate two columns; None for fewer than two values or a constant column."""
    if len(x) < 2 or bool((x == x[0]).all()) or bool((y == y[0]).all()):
        return None
    a, b = x.to(torch.float64) - x.to(torch.float64).mean(), y.to(torch.float64) - y.to(torch.float64).mean()
    scale = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return max(-1.0, min(1.0, float((a * b).sum()) / scale)) if scale > 0 else None


def spearman(x: Tensor, y: Tensor) -> float | None:
    """Correlate the ranks of two columns (ties share their mean rank); None where `pearson` gives None.

    Source: Spearman 1904, "The proof and measurement of association between two things".
    """
    return pearson(ranks(x), ranks(y))


def sign_agreement(x: Tensor, y: Tensor) -> float | None:
    """Share of units on which two columns have the same sign (0 is a sign of its own); None without units."""
    return float((x.sign() == y.sign()).to(torch.float64).mean()) if len(x) else None


MEASURES = {"spearman": spearman, "pearson": pearson, "sign": sign_agreement}


def _both(a: Credit, b: Credit) -> Tensor:
    if a.level != b.level or len(a) != len(b):
        raise ValueError(f"compare: expected credit of the same units, got {len(a)} {a.level}s and {len(b)} {b.level}s")
    return a.known & b.known


def agreement(a: Credit, b: Credit, measure: Measure = "spearman") -> float | None:
    """Measure how far two credits agree over the units known in both; None where that says nothing."""
    if measure not in MEASURES:
        raise ValueError(f"agreement: expected one of {list(MEASURES)}, got {measure!r}")
    both = _both(a, b)
    return MEASURES[measure](a.values[both], b.values[both])


def agreement_by_trajectory(a: Credit, b: Credit, batch: Batch, measure: Measure = "spearman") -> list[float | None]:
    """Measure the agreement inside every trajectory -> N values, None where it says nothing (one turn, all equal)."""
    return [MEASURES[measure](a.values[at], b.values[at]) for at in _common(a, b, batch)]


def _common(a: Credit, b: Credit, batch: Batch) -> tuple[Tensor, ...]:
    """Units known in both, by trajectory."""
    at = torch.nonzero(_both(a, b)).flatten()
    counts = seg_count(batch.up(a.level, "trajectory")[at], batch.count("trajectory"))
    return torch.split(at, counts.tolist())


# ------------------------------------------------------------------------------------------------ several recipes


def credits_of(recipes: Sequence[Recipe], batch: Batch, level: Level = "turn") -> dict[str, Credit]:
    """Compute every recipe's credit on a level.

    Raises:
        ValueError: two recipes have one name (rename with `dataclasses.replace(recipe, name=...)`).
    """
    names = [recipe.name for recipe in recipes]
    if len(set(names)) != len(names):
        raise ValueError(f"compare: recipes need different names, got {names}; use dataclasses.replace(r, name=...)")
    return {recipe.name: recipe.credit(batch, to=level) for recipe in recipes}


def agreement_matrix(credits: Mapping[str, Credit], measure: Measure = "spearman") -> pd.DataFrame:
    """Return the agreement of every pair as a frame; missing where a pair says nothing."""
    import pandas as pd

    values = [[agreement(a, b, measure) for b in credits.values()] for a in credits.values()]
    return pd.DataFrame(values, index=list(credits), columns=list(credits), dtype=float)


class Disagreement(NamedTuple):
    """How far two recipes part on one trajectory.

    Args:
        trajectory: its id.
        place: its index in the batch.
        score: half the L1 distance between the shares of credit, in [0, 1]: 0 is the same map up to its size.
        signs: share of its units whose signs differ.
    """

    trajectory: str
    place: int
    score: float
    signs: float


def _shares(x: Tensor) -> Tensor:
    size = float(x.abs().sum())
    return x / size if size > 0 else x


def disagreement(a: Credit, b: Credit, batch: Batch) -> list[Disagreement]:
    """Rank trajectories by how differently two recipes share credit inside them, the worst first.

        score = 1/2 sum_k | a_k / sum |a|  -  b_k / sum |b| |        over units known in both

    Scale does not count, so recipes of different magnitude can be compared. A recipe that credits nothing there is as
    far from one that does as half the whole (score 1/2). Trajectories without a common unit are left out.
    """
    out = []
    for n, at in enumerate(_common(a, b, batch)):
        if len(at):
            x, y = a.values[at], b.values[at]
            score = 0.5 * float((_shares(x) - _shares(y)).abs().sum())
            out.append(Disagreement(batch.trajectories[n], n, score, 1.0 - (sign_agreement(x, y) or 0.0)))
    return sorted(out, key=lambda d: (-d.score, -d.signs, d.place))


# ---------------------------------------------------------------------------------------------------- true credit


class Error(NamedTuple):
    """Credit against a measured column, over units known in both.

    Args:
        units: number of those.
        bias: mean of credit - truth, both as they are.
        scaled_rmse: root mean square error after the credit was scaled to fit best (least squares, no shift), in
            units of the truth's root mean square: 0 is perfect, 1 is as good as no credit.
        rank_correlation: Spearman's; None where it says nothing.
        signs: share of units with the right sign, those left out whose truth is exactly 0 or not told from 0.
    """

    units: int
    bias: float | None
    scaled_rmse: float | None
    rank_correlation: float | None
    signs: float | None


def error_against(credit: Credit, batch: Batch, truth: str, standard_error: str | None = None) -> Error:
    """Compare credit with a column of true credit.

    Args:
        credit: on the level of the column.
        truth: the column, such as advantages measured by branching many times before and after every turn.
        standard_error: its column of standard errors; a unit within two of them of 0 has no sign.
    """
    column = batch[truth]
    x, y = credit, Credit(column.values.to(torch.float64), column.level, column.known)
    both = _both(x, y)
    a, b = x.values[both], y.values[both]
    if not len(a):
        return Error(0, None, None, None, None)
    told = b != 0
    if standard_error is not None:
        spread = batch[standard_error]
        told = told & spread.known[both] & (b.abs() > 2 * spread.values.to(torch.float64)[both])
    power, size = float((a * a).sum()), float((b * b).mean())
    fit = float((a * b).sum()) / power if power > 0 else 0.0
    rmse = math.sqrt(float(((fit * a - b) ** 2).mean()) / size) if size > 0 else None
    signs = sign_agreement(a[told], b[told])
    return Error(len(a), float((a - b).mean()), rmse, spearman(a, b), signs)


# -------------------------------------------------------------------------------------------------------- collapse


class Interval(NamedTuple):
    """A share with its bounds."""

    share: float
    low: float
    high: float


def wilson(k: int, n: int, z: float = 1.959964) -> Interval:
    """Return a share k / n with Wilson's interval; (nan, 0, 1) for n = 0.

        centre = (k + z^2 / 2) / (n + z^2),    half = z sqrt(k (n - k) / n + z^2 / 4) / (n + z^2)

    Args:
        k, n: how many of how many.
        z: quantile; 1.96 for 95 %.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Example:
        >>> [round(v, 3) for v in wilson(5, 10)]
        [0.5, 0.237, 0.763]
    """
    if not 0 <= k <= n:
        raise ValueError(f"wilson: expected 0 <= k <= n, got k = {k}, n = {n}")
    if n == 0:
        return Interval(math.nan, 0.0, 1.0)
    centre, half = (k + z * z / 2) / (n + z * z), z * math.sqrt(k * (n - k) / n + z * z / 4) / (n + z * z)
    return Interval(k / n, max(0.0, centre - half), min(1.0, centre + half))


Cause = Literal[
    "varied", "all solved", "all failed", "all truncated", "unparsable", "all equal", "single survivor", "unknown"
]
"""Why the outcomes of a group cannot be told apart. "all truncated" and "unparsable" need more than outcomes to be
known: `workbench.outcomes.causes` says them."""


def cause_of_collapse(batch: Batch, outcome: str = "outcome", solved: float = 1.0, failed: float = 0.0) -> list[Cause]:
    """Say per group why its outcomes cannot be told apart -> G causes.

    "varied": they can. "all solved" / "all failed" / "all equal": two or more known, all at `solved`, at `failed`, or
    at another value. "single survivor": one known outcome. "unknown": none.
    """
    column, group, size = batch[outcome], batch.up(batch[outcome].level, "group"), batch.count("group")
    x = column.values.to(torch.float64)
    count, low, high = (
        seg_count(group, size, column.known),
        seg_min(x, group, size, column.known),
        seg_max(x, group, size, column.known),
    )
    named: dict[float, Cause] = {solved: "all solved", failed: "all failed"}
    out: list[Cause] = []
    for n, lo, hi in zip(count.tolist(), low.tolist(), high.tolist(), strict=True):
        equal = named.get(lo, "all equal") if lo == hi else "varied"
        out.append("unknown" if n == 0 else "single survivor" if n == 1 else equal)
    return out


@dataclass(frozen=True)
class Collapse:
    """Groups that teach nothing to a method that only knows outcomes.

    Args:
        share: of the groups with a known outcome, how many have no two different ones; with Wilson's interval.
        causes: number of groups by cause.
        forecast: the share to be expected, were outcomes of a task independent draws with its measured success rate:
            mean over groups of p^G + (1 - p)^G; None where outcomes are not only solved or failed.
    """

    share: Interval
    causes: Mapping[str, int]
    forecast: float | None


def forecast(p: float, members: int) -> float:
    """Return the probability that all members of a group solve it or all fail: p^G + (1 - p)^G.

    Example:
        >>> forecast(0.5, 4)
        0.125
    """
    if not 0 <= p <= 1 or members < 1:
        raise ValueError(f"forecast: expected 0 <= p <= 1 and members >= 1, got p = {p}, members = {members}")
    return p**members + (1 - p) ** members


def collapse(batch: Batch, outcome: str = "outcome", solved: float = 1.0, failed: float = 0.0) -> Collapse:
    """Measure how many groups have collapsed, why, and how many were to be expected.

    The forecast takes one success rate for all tasks; where tasks differ in difficulty, more groups collapse than that.
    """
    causes = cause_of_collapse(batch, outcome, solved, failed)
    counts: dict[str, int] = {cause: causes.count(cause) for cause in dict.fromkeys(causes)}
    seen = len(causes) - counts.get("unknown", 0)
    column, group = batch[outcome], batch.up(batch[outcome].level, "group")
    x = column.values.to(torch.float64)
    binary = bool(((x == solved) | (x == failed))[column.known].all()) and seen > 0
    expected = None
    if binary:
        rate = float(seg_mean((x == solved).to(torch.float64), torch.zeros_like(group), 1, column.known))
        sizes = [n for n in seg_count(group, batch.count("group"), column.known).tolist() if n > 0]
        expected = sum(forecast(rate, n) for n in sizes) / len(sizes)
    return Collapse(wilson(seen - counts.get("varied", 0), seen), counts, expected)
