"""Sums, means, spreads and scans over integer segment ids: the one file with scatters and time loops.

Axis letters: n units, S segments. `key [n]` says which segment a unit belongs to; -1 is none, and the unit is left out.
`known [n]` leaves further units out of every statistic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def _used(key: Tensor, known: Tensor | None, *values: Tensor) -> tuple[Tensor, ...]:
    """Cut keys and values to the units that count; nothing is copied where all do."""
    use = key >= 0 if known is None else (key >= 0) & known
    return (key, *values) if bool(use.all()) else (key[use], *(x[use] for x in values))


def _gathered(per_segment: Tensor, key: Tensor) -> Tensor:
    """Value of each unit's segment; anything for a unit in none."""
    if not len(per_segment):
        return per_segment.new_zeros(len(key))
    return per_segment[key.clamp_min(0) if bool((key < 0).any()) else key]


def repeat(x: Tensor, counts: Tensor) -> Tensor:
    """Repeat each value `counts` times, in order -> [sum of counts].

    Runs are filled, not gathered: on millions of tokens several times faster than an index.

    Example:
        >>> repeat(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2, 0, 1]))
        tensor([1., 1., 3.])
    """
    return torch.from_numpy(x.numpy().repeat(counts.numpy(), axis=0))


def seg_count(key: Tensor, size: int, known: Tensor | None = None) -> Tensor:
    """Count units per segment -> int64 [S]."""
    return torch.bincount(_used(key, known)[0], minlength=size)


def seg_sum(x: Tensor, key: Tensor, size: int, known: Tensor | None = None) -> Tensor:
    """Sum per segment -> [S]; 0 for an empty one.

    Example:
        >>> seg_sum(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 0, 2]), 3)
        tensor([3., 0., 4.])
    """
    key, x = _used(key, known, x)
    return torch.zeros(size, dtype=x.dtype).index_add_(0, key, x)


def seg_mean(x: Tensor, key: Tensor, size: int, known: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
    """Mean per segment, optionally weighted -> [S]; 0 for an empty one.

    Values are shifted by the largest of their segment first, so equal values have exactly that mean: no rounding noise
    that a later division by a tiny spread could blow up. Carries gradients.
    """
    key, x, *mass = _used(key, known, x, *([] if weights is None else [weights.to(x.dtype)]))
    top = seg_max(x.detach(), key, size)
    shifted = x - top[key]
    total = seg_sum(mass[0], key, size) if mass else torch.bincount(key, minlength=size).to(x.dtype)
    above = seg_sum(shifted * mass[0] if mass else shifted, key, size)
    return top + above / torch.where(total == 0, torch.ones_like(total), total)


def seg_var(
    x: Tensor, key: Tensor, size: int, known: Tensor | None = None, ddof: int = 0, mean: Tensor | None = None
) -> Tensor:
    """Variance per segment, `sum (x - mean)^2 / (count - ddof)` -> [S].

    Exactly 0 where all values are equal (see `seg_mean`), and in a segment with count <= ddof.

    Args:
        mean: what `seg_mean` gave, if it is there already.
    """
    mean = seg_mean(x, key, size, known) if mean is None else mean
    key, x = _used(key, known, x)
    gap = x - mean[key]
    count = torch.bincount(key, minlength=size)
    var = seg_sum(gap * gap, key, size) / (count - ddof).clamp_min(1).to(x.dtype)
    return torch.where(count <= ddof, torch.zeros_like(var), var)


def seg_max(x: Tensor, key: Tensor, size: int, known: Tensor | None = None) -> Tensor:
    """Largest value per segment -> [S]; 0 for an empty one."""
    key, x = _used(key, known, x)
    return torch.zeros(size, dtype=x.dtype).scatter_reduce_(0, key, x, "amax", include_self=False)


def seg_min(x: Tensor, key: Tensor, size: int, known: Tensor | None = None) -> Tensor:
    """Smallest value per segment -> [S]; 0 for an empty one."""
    key, x = _used(key, known, x)
    return torch.zeros(size, dtype=x.dtype).scatter_reduce_(0, key, x, "amin", include_self=False)


def seg_last(key: Tensor, size: int) -> Tensor:
    """Index of the last unit of each segment -> int64 [S]; -1 for an empty one."""
    last = torch.full((size,), -1, dtype=torch.int64)
    key, place = _used(key, None, torch.arange(len(key)))
    return last.scatter_reduce_(0, key, place, "amax", include_self=True)


def number_keys(*keys: Tensor) -> Tensor:
    """Number the distinct rows of several keys -> int64 [n]; -1 where any key is -1.

    Example:
        >>> number_keys(torch.tensor([0, 0, 1, 1]), torch.tensor([5, 7, 5, 5]))
        tensor([0, 1, 2, 2])
    """
    joint = keys[0].clone()
    for key in keys[1:]:
        width = int(key.max()) + 1 if len(key) else 1
        joint = torch.where((joint < 0) | (key < 0), torch.full_like(joint, -1), joint * max(width, 1) + key)
    top = int(joint.max()) + 1 if len(joint) else 0
    if top > 8 * len(joint):  # a table would be mostly empty
        _, number = torch.unique(joint, return_inverse=True)
        return number - 1 if bool((joint < 0).any()) else number
    number = torch.cumsum(seg_count(joint, top) > 0, 0) - 1
    return torch.where(joint >= 0, _gathered(number, joint), torch.full_like(joint, -1))


def run_starts(key: Tensor) -> Tensor:
    """First unit of each run of equal keys -> bool [n]."""
    starts = torch.ones(len(key), dtype=torch.bool)
    starts[1:] = key[1:] != key[:-1]
    return starts


def run_position(key: Tensor) -> Tensor:
    """Place of each unit in its run of equal keys, from 0 -> int64 [n].

    Example:
        >>> run_position(torch.tensor([4, 4, 4, 7, 7]))
        tensor([0, 1, 2, 0, 1])
    """
    count = torch.arange(len(key))
    if not len(key):
        return count
    return count - torch.cummax(torch.where(run_starts(key), count, torch.zeros_like(count)), 0).values


def _runs(key: Tensor) -> tuple[Tensor, Tensor]:
    """Last unit and length of each run of equal keys."""
    is_end = torch.ones(len(key), dtype=torch.bool)
    is_end[:-1] = key[1:] != key[:-1]
    ends = torch.nonzero(is_end).flatten()
    return ends, torch.diff(ends, prepend=torch.tensor([-1]))


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
    ends, lengths = _runs(key)
    longest = int(lengths.max()) if len(lengths) else 0
    if longest and longest * len(lengths) <= DENSE * len(x):
        return _scan_rows(x, factor, ends, lengths, longest)
    y = x.clone()
    for step in range(1, longest):
        longer = lengths > step
        ends, lengths = ends[longer], lengths[longer]
        units = ends - step
        y[units] = x[units] + factor[units] * y[units + 1]
    return y


DENSE = 4  # a table of runs x places may be so many times larger than what it holds


def _scan_rows(x: Tensor, factor: Tensor, ends: Tensor, lengths: Tensor, longest: int) -> Tensor:
    """`backward_scan` on a table, a row for all last units, a row for those before them, ...: rows lie in one piece."""
    runs = len(ends)
    same = factor.stride() == (0,)  # one number, expanded
    if runs * longest == len(x):  # all of one length: the table is a transpose
        table = x.view(runs, longest).t().contiguous()
        factors = factor[:1].expand(longest) if same else factor.view(runs, longest).t().contiguous()
        return torch.stack(_rows_up(table.unbind()[::-1], factors.unbind()[::-1])[::-1]).t().reshape(-1)
    cell = repeat(ends * runs + torch.arange(runs), lengths) - torch.arange(len(x)) * runs
    xs = _table(x, cell, longest, runs)
    fs = factor[:1].expand(longest).unbind() if same else _table(factor, cell, longest, runs)
    return torch.stack(_rows_up(xs, fs)).view(-1)[cell]


def _table(v: Tensor, cell: Tensor, rows: int, columns: int) -> tuple[Tensor, ...]:
    """Rows of a table that has the values at the given cells and 0 elsewhere."""
    return v.new_zeros(rows * columns).index_put((cell,), v).view(rows, columns).unbind()


def _rows_up(xs: Sequence[Tensor], fs: Sequence[Tensor]) -> list[Tensor]:
    rows = [xs[0]]
    for x, f in zip(xs[1:], fs[1:], strict=True):
        rows.append((x + f * rows[-1]).to(x.dtype))
    return rows


def next_known(x: Tensor, known: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Give every unknown unit the value of the next known one of its segment.

    Returns:
        (values [n], known [n]); a unit with no known one after it stays unknown.
    """
    n = len(x)
    if bool(known.all()):
        return x, known
    marked = torch.where(known, torch.arange(n), torch.full((n,), n))
    nearest = torch.cummin(marked.flip(0), 0).values.flip(0)  # at or after each unit, of whatever segment
    there = nearest <= repeat(*_runs(key))
    return torch.where(there, x[nearest.clamp_max(n - 1)], x), there


def previous_known(x: Tensor, known: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Give every unknown unit the value of the previous known one of its segment; see `next_known`."""
    values, there = next_known(x.flip(0), known.flip(0), key.flip(0))
    return values.flip(0), there.flip(0)
