"""How far methods part on each turn: by sign, by rank, by share of the credit.

    values [M, K]: one row a method, one column a turn, NaN where a method gives no credit
    owner [K]: rollout of each turn, not decreasing

Each measure lies in [0, 1] and does not mind the size of a method's numbers. With fewer than two methods there is
nothing to compare: NaN.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np

MEASURES = {
    "rank": "largest difference of a turn's rank inside its rollout, 0 (worst turn) to 1 (best), between two methods",
    "sign": "share of the pairs of methods that give the turn different signs",
    "share": "half the difference of the turn's share of its rollout's credit, mean over pairs of methods",
}


class Apart(NamedTuple):
    """How far methods part.

    Args:
        turn: [K], NaN where fewer than two methods give the turn credit.
        rollout: [N], NaN where no turn can be compared.
    """

    turn: np.ndarray
    rollout: np.ndarray


def apart(measure: str, values: np.ndarray, owner: np.ndarray, rollouts: int) -> Apart:
    """Measure how far methods part on every turn and rollout.

    Args:
        measure: one of `MEASURES`. A rollout has the mean over its turns of "rank" and "sign", and of "share" the sum
            (which takes time with the square of the number of methods).
        values: [M, K], NaN where a method gives no credit.
        owner: [K] rollout of each turn, not decreasing.
        rollouts: N.

    Raises:
        ValueError: no such measure.

    Example:
        >>> values = np.array([[1.0, 0.0, -1.0], [-2.0, 0.0, 2.0]])
        >>> [float(apart(m, values, np.zeros(3, int), 1).rollout[0]) for m in ("rank", "sign")]
        [0.6666666666666666, 0.6666666666666666]
    """
    if measure not in MEASURES:
        raise ValueError(f"disagreement: expected one of {list(MEASURES)}, got {measure!r}")
    if measure == "share":
        return by_share(values, owner, rollouts)
    turn = by_rank(values, owner, rollouts) if measure == "rank" else by_sign(values)
    told = ~np.isnan(turn)
    return Apart(turn, _mean(turn[told], owner[told], rollouts))


def _mean(values: np.ndarray, owner: np.ndarray, rollouts: int) -> np.ndarray:
    """Mean of each rollout's values, NaN without any -> [N]."""
    size = np.bincount(owner, minlength=rollouts)
    return np.where(size > 0, np.bincount(owner, weights=values, minlength=rollouts) / np.maximum(size, 1), np.nan)


def by_sign(values: np.ndarray) -> np.ndarray:
    """Return the share of pairs of methods with different signs (0 is a sign of its own) -> [K]."""
    plus, minus, zero = (values > 0).sum(0), (values < 0).sum(0), (values == 0).sum(0)
    told = plus + minus + zero
    pairs = told * (told - 1) / 2
    differ = plus * minus + plus * zero + minus * zero
    return np.where(pairs > 0, differ / np.maximum(pairs, 1), np.nan)


def by_rank(values: np.ndarray, owner: np.ndarray, rollouts: int) -> np.ndarray:
    """Return the largest difference between two methods of a turn's scaled rank inside its rollout -> [K].

    A method that credits a single turn of a rollout ranks nothing there, and is left out.
    """
    ranks = np.stack([scaled_ranks(row, owner, rollouts) for row in values]) if len(values) else values
    return _range(ranks)


def by_share(values: np.ndarray, owner: np.ndarray, rollouts: int) -> Apart:
    """Return half the difference of a turn's share of its rollout's credit, mean over pairs of methods.

        d_k = 1/2 | a_k / sum |a|  -  b_k / sum |b| |        over the turns that both credit

    A rollout has the sum over its turns: for two methods `compare.disagreement`'s score.
    """
    turn, rollout = _Mean(len(owner)), _Mean(rollouts)
    for a, b in combinations(values, 2):
        both = np.flatnonzero(~np.isnan(a) & ~np.isnan(b))
        mine = owner[both]
        shares = []
        for x in (a[both], b[both]):
            size = np.bincount(mine, weights=np.abs(x), minlength=rollouts)
            shares.append(x / np.where(size > 0, size, 1.0)[mine])
        gap = 0.5 * np.abs(shares[0] - shares[1])
        turn.add(both, gap)
        found = np.unique(mine)
        rollout.add(found, np.bincount(mine, weights=gap, minlength=rollouts)[found])
    return Apart(turn.value(), rollout.value())


class _Mean:
    """A mean per place, gathered step by step."""

    def __init__(self, places: int):
        self.total, self.size = np.zeros(places), np.zeros(places)

    def add(self, at: np.ndarray, values: np.ndarray) -> None:
        self.total[at] += values
        self.size[at] += 1

    def value(self) -> np.ndarray:
        return np.where(self.size > 0, self.total / np.maximum(self.size, 1), np.nan)


def scaled_ranks(values: np.ndarray, owner: np.ndarray, rollouts: int) -> np.ndarray:
    """Rank the turns of each rollout from 0 (least credit) to 1 (most), equal ones by their mean -> [K].

    Example:
        >>> scaled_ranks(np.array([3.0, 1.0, np.nan, 3.0, 5.0]), np.array([0, 0, 0, 0, 1]), 2).tolist()
        [0.75, 0.0, nan, 0.75, nan]
    """
    out = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    at = known[np.lexsort((values[known], owner[known]))]
    if not len(at):
        return out
    mine, v = owner[at], values[at]
    starts = np.r_[True, mine[1:] != mine[:-1]]
    place = np.arange(len(at)) - np.maximum.accumulate(np.where(starts, np.arange(len(at)), 0))
    tie = np.cumsum(starts | np.r_[True, v[1:] != v[:-1]]) - 1
    mean = np.bincount(tie, weights=place) / np.bincount(tie)
    size = np.bincount(mine, minlength=rollouts)[mine]
    out[at] = np.where(size > 1, mean[tie] / np.maximum(size - 1, 1), np.nan)
    return out


def _range(values: np.ndarray) -> np.ndarray:
    """Largest minus smallest of each column; NaN with fewer than two numbers."""
    if not len(values):
        return np.full(values.shape[1:], np.nan)
    told = (~np.isnan(values)).sum(0)
    high = np.where(np.isnan(values), -np.inf, values).max(0)
    low = np.where(np.isnan(values), np.inf, values).min(0)
    return np.where(told > 1, high - np.where(told > 1, low, 0.0), np.nan)
