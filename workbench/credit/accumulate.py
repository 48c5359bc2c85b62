"""Accumulate: what a unit receives from those after it (or counts before it, or below it in a tree)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from workbench.batch import Batch, Level
from workbench.credit.core import Credit, Stage, stage
from workbench.credit.params import Number, number
from workbench.credit.rules import one_of, within_trajectory
from workbench.segments import backward_scan, run_position, seg_max, seg_sum

Gap = Literal["skip", "zero"]
Rescale = Literal["sqrt_terms"]


def _factors(gamma: Number, batch: Batch, level: Level, n: int) -> Tensor:
    return torch.as_tensor(number(gamma, batch, level), dtype=torch.float64).expand(n)


def _scan(credit: Credit, owner: Tensor, factor: Tensor, gap: Gap) -> Tensor:
    """Reward-to-go of the known units; a gap is stepped over, or discounts once more."""
    if gap == "zero":
        return backward_scan(torch.where(credit.known, credit.values, 0.0), owner, factor)
    if bool(credit.known.all()):
        return backward_scan(credit.values, owner, factor)
    use = torch.nonzero(credit.known).flatten()
    out = credit.values.clone()
    some = factor[:1].expand(len(use)) if factor.stride() == (0,) else factor[use]  # one number stays one
    out[use] = backward_scan(credit.values[use], owner[use], some)
    return out


def _reward_to_go(credit: Credit, batch: Batch, gamma: Number, gap: Gap, rescale: str | None) -> Credit:
    owner = batch.up(credit.level, "trajectory")
    y = _scan(credit, owner, _factors(gamma, batch, credit.level, len(credit)), gap)
    if rescale == "sqrt_terms":
        terms = backward_scan(credit.known.to(torch.float64), owner, torch.ones((), dtype=torch.float64).expand(len(y)))
        y = y / torch.sqrt(terms.clamp_min(1.0))
    return replace(credit, values=torch.where(credit.known, y, credit.values))


def reward_to_go(gamma: Number = 1.0, *, gap: Gap = "skip", rescale: Rescale | None = None) -> Stage:
    """Accumulate what comes later in the same trajectory.

        y_k = x_k + gamma * y_{k+1}                        ("sqrt_terms": then divided by sqrt(number of terms))

    Args:
        gamma: discount per unit; a number, a schedule or a column.
        gap: an unknown unit in between: "skip" (no discount step) or "zero" (a discount step, nothing added).
        rescale: "sqrt_terms" divides by the root of the number of known units from k on (A2TGPO).

    An unknown unit stays unknown. Runs over a trajectory's own units; a shared prefix takes from its branches only by
    `backup`.
    """
    one_of("reward_to_go", "gap", gap, Gap)
    if rescale is not None:
        one_of("reward_to_go", "rescale", rescale, Rescale)
    return stage(reward_to_go, _reward_to_go, within_trajectory, {"gamma": gamma, "gap": gap, "rescale": rescale})


def _gae(credit: Credit, batch: Batch, gamma: Number, lam: Number, value: str, within: Level) -> Credit:
    v = batch[value]
    if v.level != credit.level:
        raise ValueError(f"gae: the value column {value!r} is on {v.level!r}, the credit on {credit.level!r}")
    use = torch.nonzero(credit.known & v.known).flatten()
    owner = batch.up(credit.level, within)[use]
    g = _factors(gamma, batch, credit.level, len(credit))[use]
    decay = _factors(lam, batch, credit.level, len(credit))[use]
    x, now = credit.values[use], v.values.to(torch.float64)[use]
    nxt = torch.cat([now[1:], torch.zeros(1, dtype=torch.float64)])[: len(use)]
    ends = torch.ones(len(use), dtype=torch.bool)
    ends[:-1] = owner[1:] != owner[:-1]
    error = x + g * torch.where(ends, torch.zeros_like(nxt), nxt) - now
    out = credit.values.clone()
    out[use] = backward_scan(error, owner, g * decay)
    return replace(credit, values=out, known=credit.known & v.known)


def gae(gamma: Number, lam: Number, value: str = "value", within: Level = "trajectory") -> Stage:
    """Estimate advantages from rewards and values.

        d_k = x_k + gamma V_{k+1} - V_k,    y_k = d_k + gamma lam y_{k+1},    V after the last unit = 0

    Args:
        gamma, lam: discount and mixing, per unit.
        value: column of values on the credit's level.
        within: the scan ends at each end of this level ("turn" for the inner pass of a bi-level estimate).

    Units whose reward or value is unknown are stepped over: time runs over units that were acted, not over
    observation tokens.

    Source: Schulman et al. 2016, arXiv:1506.02438, Eqs. 11-16.
    """
    params = {"gamma": gamma, "lam": lam, "value": value, "within": within}
    return stage(gae, _gae, within_trajectory, params, columns=(value,))


def _count_before(credit: Credit, batch: Batch, where: Callable[[Credit, Batch], Tensor]) -> Credit:
    flag = (where(credit, batch) & credit.known).to(torch.float64)
    before = torch.cumsum(flag, 0) - flag
    at = torch.arange(len(credit)) - run_position(batch.up(credit.level, "trajectory"))
    return replace(credit, values=before - before[at])


def count_before(where: Any) -> Stage:
    """Count the earlier units of the trajectory for which a predicate holds: y_k = #{ j < k : where(x_j) }."""
    return stage(count_before, _count_before, within_trajectory, {"where": where})


def _depth(parent: Tensor) -> Tensor:
    """Number of ancestors of each turn."""
    depth = torch.zeros_like(parent)
    above = parent.clone()
    while bool((above >= 0).any()):
        depth += (above >= 0).to(depth.dtype)
        above = torch.where(above >= 0, parent[above.clamp_min(0)], above)
    return depth


def _backup(credit: Credit, batch: Batch, how: str) -> Credit:
    if credit.level != "turn":
        raise ValueError(f"backup: runs over the tree of turns, got level {credit.level!r}")
    parent, n = batch.turn_parent, len(credit)
    depth = _depth(parent)
    y, known = credit.values.clone(), credit.known.clone()
    leaves = torch.ones(n, dtype=torch.float64)
    for level in range(int(depth.max()) if n else 0, 0, -1):
        child = torch.nonzero((depth == level) & known).flatten()
        up = parent[child]
        mass = leaves[child] if how == "visits" else torch.ones(len(child), dtype=torch.float64)
        total = seg_sum(mass, up, n)
        got = total > 0
        best = seg_max(y[child], up, n) if how == "max" else seg_sum(mass * y[child], up, n) / total.clamp_min(1e-300)
        y, known = torch.where(got, best, y), known | got
        leaves = torch.where(got, seg_sum(leaves[child], up, n), leaves)
    return replace(credit, values=y, known=known if credit.dropped is None else known & (credit.dropped == 0))


def backup(how: Literal["mean", "max", "visits"] = "mean") -> Stage:
    """Give every turn of a tree what its continuations are worth.

        y_k = x_k at a leaf;    otherwise the mean, the maximum, or the mean weighted by leaves, of y over its children

    A turn's own value is used only at a leaf. An unknown leaf is left out; a turn with a known child becomes known.
    """
    if how not in ("mean", "max", "visits"):
        raise ValueError(f"backup: expected 'mean', 'max' or 'visits', got {how!r}")
    return stage(backup, _backup, within_trajectory, {"how": how})
