"""Sums, means, spreads and scans over integer segment ids: the one file with scatters and time loops.

Axis letters: n units, S segments. `key [n]` says which segment a unit belongs to; -1 is none, and the unit is left out.
`known [n]` leaves further units out of every statistic.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _within(key: Tensor, known: Tensor | None) -> Tensor:
    return key >= 0 if known is None else (key >= 0) & known


def seg_count(key: Tensor, size: int, known: Tensor | None = None) -> Tensor:
    """Count units per segment -> int64 [S]."""
    return torch.bincount(key[_within(key, known)], minlength=size)


def seg_sum(x: Tensor, key: Tensor, size: int, known: Tensor | None = None) -> Tensor:
    """Sum per segment -> [S]; 0 for an empty one.

    Example:
        >>> seg_sum(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 0, 2]), 3)
        tensor([3., 0., 4.])
    """
    use = _within(key, known)
    return torch.zeros(size, dtype=x.dtype).index_add_(0, key[use], x[use])


def seg_mean(x: Tensor, key: Tensor, size: int, known: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
    """Mean per segment, optionally weighted -> [S]; 0 for an empty one."""
    mass = torch.ones_like(x) if weights is None else weights.to(x.dtype)
    total = seg_sum(mass, key, size, known)
    mean = seg_sum(x * mass, key, size, known) / torch.where(total == 0, torch.ones_like(total), total)
    return mean


def seg_var(x: Tensor, key: Tensor, size: int, known: Tensor | None = None, ddof: int = 0) -> Tensor:
    """Variance per segment, `sum (x - mean)^2 / (count - ddof)` -> [S]; exactly 0 where all values are equal.

    Equal values give exactly 0 (not rounding noise), tested by max = min; so does a segment with count <= ddof.
    """
    mean = seg_mean(x, key, size, known)
    gap = torch.where(key >= 0, x - mean[key.clamp_min(0)], torch.zeros_like(x))
    count = seg_count(key, size, known)
    var = seg_sum(gap * gap, key, size, known) / (count - ddof).clamp_min(1).to(x.dtype)
    flat = seg_max(x, key, size, known) == seg_min(x, key, size, known)
    return torch.where(flat | (count <= ddof), torch.zeros_like(var), var)


def seg_max(x: Tensor, key: Tensor, size: int, known: Tensor | None = None) -> Tensor:
    """Largest value per segment -> [S]; 0 for an empty one."""
    use = _within(key, known)
    return torch.zeros(size, dtype=x.dtype).scatter_reduce_(0, key[use], x[use], "amax", include_self=False)


def seg_min(x: Tensor, key: Tensor, size: int, known: Tensor | None = None) -> Tensor:
    """Smallest value per segment -> [S]; 0 for an empty one."""
    use = _within(key, known)
    return torch.zeros(size, dtype=x.dtype).scatter_reduce_(0, key[use], x[use], "amin", include_self=False)


def seg_last(key: Tensor, size: int) -> Tensor:
    """Index of the last unit of each segment -> int64 [S]; -1 for an empty one."""
    last = torch.full((size,), -1, dtype=torch.int64)
    use = key >= 0
    return last.scatter_reduce_(0, key[use], torch.arange(len(key))[use], "amax", include_self=True)


def number_keys(*keys: Tensor) -> Tensor:
    """Number the distinct rows of several keys -> int64 [n]; -1 where any key is -1.

    Example:
        >>> number_keys(torch.tensor([0, 0, 1, 1]), torch.tensor([5, 7, 5, 5]))
        tensor([0, 1, 2, 2])
    """
    if len(keys[0]) == 0:
        return keys[0].clone()
    joint = keys[0].clone()
    for key in keys[1:]:
        width = int(key.max()) + 1 if len(key) else 1
        joint = torch.where((joint < 0) | (key < 0), torch.full_like(joint, -1), joint * max(width, 1) + key)
    _, number = torch.unique(joint, return_inverse=True)
    return number - 1 if bool((joint < 0).any()) else number


def _distance_to_end(key: Tensor) -> Tensor:
    """Steps from each unit to the last unit of its run of equal keys -> int64 [n]."""
    n = len(key)
    is_end = torch.ones(n, dtype=torch.bool)
    is_end[:-1] = key[1:] != key[:-1]
    ends = torch.nonzero(is_end).flatten()
    run = torch.cumsum(is_end, 0) - is_end.to(torch.int64)
    return ends[run] - torch.arange(n)


def backward_scan(x: Tensor, key: Tensor, factor: Tensor) -> Tensor:
    """Accumulate from the end of each segment.

        y_k = x_k + factor_k * y_{k+1},    y after the last unit = 0

    Args:
        x: values [n], units of a segment contiguous and in order.
        key: segment ids [n].
        factor: what the next unit's sum is multiplied with [n].

    Returns:
        y [n].

    Example:
        >>> backward_scan(torch.tensor([1.0, 1.0, 5.0]), torch.tensor([0, 0, 1]), torch.full((3,), 0.5))
        tensor([1.5000, 1.0000, 5.0000])
    """
    y = x.clone()
    if len(x) == 0:
        return y
    distance = _distance_to_end(key)
    order = torch.argsort(distance, stable=True)
    at = 0
    for step, width in enumerate(torch.bincount(distance).tolist()):
        units = order[at : at + width]
        at += width
        if step > 0:
            y[units] = x[units] + factor[units] * y[units + 1]
    return y


def next_known(x: Tensor, known: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Give every unknown unit the value of the next known one of its segment.

    Returns:
        (values [n], known [n]); a unit with no known one after it stays unknown.
    """
    index = torch.where(known, torch.arange(len(x)), torch.full((len(x),), -1))
    source = _carry_backward(index, key)
    return torch.where(source >= 0, x[source.clamp_min(0)], x), source >= 0


def previous_known(x: Tensor, known: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Give every unknown unit the value of the previous known one of its segment; see `next_known`."""
    values, there = next_known(x.flip(0), known.flip(0), key.flip(0))
    return values.flip(0), there.flip(0)


def _carry_backward(index: Tensor, key: Tensor) -> Tensor:
    """Index of the nearest marked unit at or after each one in its run; -1 if there is none."""
    n = len(index)
    if n == 0:
        return index
    far = torch.full_like(index, n)
    marked = torch.where(index >= 0, index, far).flip(0)
    nearest = torch.cummin(marked, 0).values.flip(0)
    end = torch.arange(n) + _distance_to_end(key)
    return torch.where(nearest <= end, nearest, torch.full_like(nearest, -1))
