"""How far methods part on each turn: by sign, by rank, by share of the credit.

    values [M, K]: one row a method, one column a turn, NaN where a method gives no credit
    owner [K]: rollout of each turn, not decreasing

Each measure lies in [0, 1] and does not mind the size of a method's numbers. With fewer than two methods there is
nothing to compare: NaN.
"""

from __future__ import annotations

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
        measure: one of `MEASURES`. A rollout has the mean over its turns of "rank" and "sign", the sum of "share".
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
    turn = {"rank": by_rank, "sign": by_sign, "share": by_share}[measure](values, owner, rollouts)
    told = ~np.isnan(turn)
    size = np.bincount(owner[told], minlength=rollouts)
    total = np.bincount(owner[told], weights=turn[told], minlength=rollouts)
    over = np.ones_like(size) if measure == "share" else np.maximum(size, 1)
    return Apart(turn, np.where(size > 0, total / over, np.nan))


def by_sign(values: np.ndarray, owner: np.ndarray, rollouts: int) -> np.ndarray:
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


def by_share(values: np.ndarray, owner: np.ndarray, rollouts: int) -> np.ndarray:
    """Return half the difference of a turn's share of its rollout's credit, mean over pairs -> [K].

        share_k = v_k / sum |v|,      turn_k = mean over pairs (a, b) of 1/2 |share^a_k - share^b_k|

    Over two methods that credit the same turns the sum over a rollout is `compare.disagreement`'s score.
    """
    size = np.stack([np.bincount(owner, weights=np.nan_to_num(np.abs(v)), minlength=rollouts) for v in values])
    share = values / np.where(size > 0, size, 1.0)[:, owner]
    ordered = np.sort(share, axis=0)  # NaN last
    told = (~np.isnan(share)).sum(0)
    # sum over pairs of |x - y| from sorted values: the i-th smallest of m counts 2 i - m + 1 times
    weight = 2.0 * np.arange(len(values))[:, None] - told[None, :] + 1
    total = np.nansum(ordered * weight, axis=0)
    pairs = told * (told - 1) / 2
    return np.where(pairs > 0, 0.5 * total / np.maximum(pairs, 1), np.nan)


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
