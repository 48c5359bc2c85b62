"""Compare what recipes say: agreement, the rollouts they disagree about, error against true credit, collapse.

Pure functions of rollouts, batches and credits; no model. What compares credit with gradients is elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import Credit
from workbench.recipes import Recipe
from workbench.segments import seg_count, seg_max, seg_mean, seg_min, seg_sum

if TYPE_CHECKING:
    import pandas as pd

Measure = Literal["spearman", "pearson", "sign"]


class Interval(NamedTuple):
    """A range that holds the true share with the stated confidence."""

    low: float
    high: float


def wilson(count: int, total: int, z: float = 1.959963984540054) -> Interval:
    """Return the Wilson score interval of a share.

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Args:
        count: successes, 0 <= count <= total.
        total: trials; 0 gives (0, 1): nothing is known.
        z: quantile of the normal; the default is 95 % confidence.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Example:
        >>> low, high = wilson(14, 32)
        >>> round(low, 3), round(high, 3)
        (0.282, 0.607)
    """
    if not 0 <= count <= total:
        raise ValueError(f"wilson: expected 0 <= count <= total, got {count} of {total}")
    if total == 0:
        return Interval(0.0, 1.0)
    p, n = count / total, total
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n)))


# ------------------------------------------------------------------------------------------------ collapse


@dataclass(frozen=True)
class Collapse:
    """How many groups say nothing to a method that only knows outcomes.

    Args:
        groups: groups with a known outcome.
        collapsed: those whose known outcomes are all equal.
        causes: collapsed groups by cause: "all solved", "all failed", "all equal", "single survivor".
        forecast: share expected from the success rate alone, mean of p^G + (1 - p)^G over groups; None where outcomes
            are not 0 or 1.
    """

    groups: int
    collapsed: int
    causes: Mapping[str, int]
    forecast: float | None

    @property
    def share(self) -> float:
        """Collapsed groups / groups."""
        return self.collapsed / max(self.groups, 1)

    @property
    def interval(self) -> Interval:
        """95 % Wilson interval of the share."""
        return wilson(self.collapsed, self.groups)


def collapsed_groups(batch: Batch, column: str = "outcome") -> tuple[Tensor, Tensor]:
    """Return (collapsed bool [G], known outcomes int [G]); a group without a known outcome is not collapsed."""
    c, group, size = batch[column], batch.trajectory_group, batch.count("group")
    count = seg_count(group, size, c.known)
    values = c.values.to(torch.float64)
    flat = seg_max(values, group, size, c.known) == seg_min(values, group, size, c.known)
    return flat & (count > 0), count


def collapse(batch: Batch, column: str = "outcome") -> Collapse:
    """Count collapsed groups and why they are.

    Args:
        batch: with a trajectory-level column of outcomes.
        column: its name.
    """
    flat, count = collapsed_groups(batch, column)
    c = batch[column]
    level = seg_max(c.values.to(torch.float64), batch.trajectory_group, len(count), c.known)
    causes = {
        "single survivor": flat & (count == 1),
        "all solved": flat & (count > 1) & (level == 1.0),
        "all failed": flat & (count > 1) & (level == 0.0),
        "all equal": flat & (count > 1) & (level != 0.0) & (level != 1.0),
    }
    return Collapse(
        int((count > 0).sum()),
        int(flat.sum()),
        {name: int(mask.sum()) for name, mask in causes.items() if bool(mask.any())},
        collapse_forecast(c.values[c.known], count[count > 0]),
    )


def collapse_forecast(outcomes: Tensor, sizes: Tensor) -> float | None:
    """Expect the share of collapsed groups if every rollout succeeded with the same chance p.

        mean_g ( p^{n_g} + (1 - p)^{n_g} ),    p = mean outcome

    Args:
        outcomes: known outcomes [n], 0 or 1.
        sizes: members of each group [G].

    Returns:
        a share, or None if there is no outcome or one is neither 0 nor 1. Tasks of unequal difficulty collapse more.
    """
    if not len(outcomes) or not bool(((outcomes == 0) | (outcomes == 1)).all()):
        return None
    p = float(outcomes.to(torch.float64).mean())
    n = sizes.to(torch.float64)
    return float((p**n + (1 - p) ** n).mean())


# ----------------------------------------------------------------------------------------------- agreement


def ranks(x: Tensor) -> Tensor:
    """Return average ranks from 0 (ties share theirs) -> float64 [n]."""
    _, group, count = torch.unique(x, return_inverse=True, return_counts=True)
    before = torch.cumsum(count, 0) - count
    return before[group].to(torch.float64) + (count[group].to(torch.float64) - 1) / 2


def correlation(x: Tensor, y: Tensor) -> float | None:
    """Return Pearson's correlation; None with fewer than two units or where one does not vary."""
    if len(x) < 2:
        return None
    a, b = x - x.mean(), y - y.mean()
    norm = float(a.norm() * b.norm())
    return float((a * b).sum()) / norm if norm > 0 else None


def agreement(one: Credit, other: Credit, measure: Measure = "spearman") -> float | None:
    """Compare two credits of the same units over those both know.

    Args:
        one, other: on the same level of the same batch.
        measure: "spearman" (ranks), "pearson" (values) or "sign" (share of units of equal sign, 0 being a sign).

    Returns:
        a number in [-1, 1] ([0, 1] for "sign"), or None where it is not defined.

    Raises:
        ValueError: the two are on different levels or of different length.
    """
    if one.level != other.level or len(one) != len(other):
        raise ValueError(f"agreement: {len(one)} {one.level}s beside {len(other)} {other.level}s")
    both = one.known & other.known
    x, y = one.values[both], other.values[both]
    if measure == "sign":
        return float((x.sign() == y.sign()).to(torch.float64).mean()) if len(x) else None
    return correlation(ranks(x), ranks(y)) if measure == "spearman" else correlation(x, y)


def agreement_matrix(credits: Mapping[str, Credit], measure: Measure = "spearman") -> pd.DataFrame:
    """Return the agreement of every pair as a table; NaN where it is not defined."""
    import pandas as pd

    names = list(credits)
    rows = [[agreement(credits[a], credits[b], measure) for b in names] for a in names]
    return pd.DataFrame(rows, index=names, columns=names, dtype=float)


def turn_credits(batch: Batch, methods: Mapping[str, Recipe]) -> dict[str, Credit]:
    """Return every method's credit on turns."""
    return {name: recipe.credit(batch, to="turn") for name, recipe in methods.items()}


def disagreement(one: Credit, other: Credit, batch: Batch) -> Tensor:
    """Measure how far two credits are apart in each trajectory, in units of their own size.

        d_i = mean over the units of i of | x / rms(x) - y / rms(y) |

    Args:
        one, other: on the same level of the batch.

    Returns:
        float64 [N]; NaN where no unit has both.
    """
    both = one.known & other.known
    scaled = [c.values / c.values[both].square().mean().sqrt().clamp_min(1e-300) for c in (one, other)]
    owner, size = batch.up(one.level, "trajectory"), batch.count("trajectory")
    gap = seg_mean((scaled[0] - scaled[1]).abs(), owner, size, both)
    return torch.where(seg_count(owner, size, both) > 0, gap, torch.nan)


def most_disagreed(one: Credit, other: Credit, batch: Batch, count: int = 1) -> list[tuple[str, float]]:
    """Return the trajectories two credits disagree about most, with `disagreement`, largest first."""
    gap = disagreement(one, other, batch).nan_to_num(-1.0)
    order = torch.argsort(gap, descending=True, stable=True)[:count].tolist()
    return [(batch.trajectories[i], float(gap[i])) for i in order if gap[i] >= 0]


# ------------------------------------------------------------------------------------ against true credit


class Error(NamedTuple):
    """How a credit compares with true credit over the units both know.

    Args:
        units: how many.
        bias: mean difference.
        rmse: root mean squared difference.
        rank: Spearman correlation over all units.
        within: mean over trajectories of the Spearman correlation within each.
        sign: share of units of equal sign among those whose true credit is not 0.
    """

    units: int
    bias: float | None
    rmse: float | None
    rank: float | None
    within: float | None
    sign: float | None


def error(credit: Credit, truth: Credit, batch: Batch) -> Error:
    """Compare a credit with true credit (an oracle's column, brute-force advantages).

    Args:
        credit, truth: on the same level of the batch.
    """
    both = credit.known & truth.known
    x, y = credit.values[both], truth.values[both]
    if not len(x):
        return Error(0, None, None, None, None, None)
    owner = batch.up(credit.level, "trajectory")[both]
    inside = [correlation(ranks(x[owner == i]), ranks(y[owner == i])) for i in torch.unique(owner).tolist()]
    defined = [r for r in inside if r is not None]
    real = y != 0
    sign = float((x[real].sign() == y[real].sign()).to(torch.float64).mean()) if bool(real.any()) else None
    return Error(
        len(x),
        float((x - y).mean()),
        float((x - y).square().mean().sqrt()),
        correlation(ranks(x), ranks(y)),
        sum(defined) / len(defined) if defined else None,
        sign,
    )


def concentration(credit: Credit, batch: Batch) -> Tensor:
    """Return how much of each trajectory's absolute credit its largest unit has -> [N] in (0, 1]; 0 where all is 0."""
    owner, size = batch.up(credit.level, "trajectory"), batch.count("trajectory")
    size_of = credit.values.abs()
    total = seg_sum(size_of, owner, size, credit.known)
    return seg_max(size_of, owner, size, credit.known) / torch.where(total == 0, torch.ones_like(total), total)
