"""Normalise: compare each unit with its peers. Statistics use known values only.

The field's silent mismatches live here: sample or population spread, eps inside or outside the root, what a lone member
gets, what an equal group gets. Every one of them is a parameter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit.core import Credit, Stage, stage
from workbench.credit.params import ColumnRef, Number, number
from workbench.credit.peers import PeersLike
from workbench.credit.peers import batch as everything
from workbench.credit.rules import one_of, same_level
from workbench.credit.where import _gather, keyed
from workbench.segments import seg_count, seg_max, seg_mean, seg_min, seg_sum, seg_var

Singleton = Literal["zero", "keep", "drop"]
By = Literal["std", "mean"]
ALONE = "no peers"


def _alone(credit: Credit, key: Tensor, size: int) -> Tensor:
    """Units that are the only known one among their peers."""
    return credit.known & (_gather(seg_count(key, size, credit.known), key, 1) <= 1)


def _finish(credit: Credit, values: Tensor, alone: Tensor, singleton: Singleton, divisor: float = 1.0) -> Credit:
    """Give lone units what the rule says ("keep": x / divisor); unknown units keep their value and stay unknown."""
    lone = credit.values / divisor if singleton == "keep" else 0.0
    values = torch.where(alone, lone, values)
    values = torch.where(credit.known, values, credit.values)
    out = replace(credit, values=values)
    return out.drop(alone, ALONE) if singleton == "drop" else out


def _shifted(credit: Credit, key: Tensor, size: int) -> Tensor:
    """Values minus the largest of their peers: equal peers are exactly 0, so no rounding noise becomes credit."""
    return credit.values - _gather(seg_max(credit.values, key, size, credit.known), key, 0.0)


def _others_mean(x: Tensor, key: Tensor, size: int, known: Tensor, mass: Tensor) -> Tensor:
    """Mean of each unit's peers, itself left out; 0 without any."""
    total = _gather(seg_sum(x * mass, key, size, known), key, 0.0) - x * mass
    others = _gather(seg_count(key, size, known), key, 1) - 1
    weight = _gather(seg_sum(mass, key, size, known), key, 0.0) - mass
    return torch.where(others > 0, total / torch.where(weight == 0, torch.ones_like(x), weight), torch.zeros_like(x))


def _center(
    credit: Credit, batch: Batch, peers: PeersLike, singleton: Singleton, leave_one_out: bool, weights: ColumnRef | None
) -> Credit:
    key, size = keyed(credit, batch, peers)
    x = _shifted(credit, key, size)
    mass = torch.ones_like(x) if weights is None else x.new_ones(()) * number(weights, batch, credit.level)
    if leave_one_out:
        mean = _others_mean(x, key, size, credit.known, mass)
    else:
        mean = _gather(seg_mean(x, key, size, credit.known, mass), key, 0.0)
    return _finish(credit, x - mean, _alone(credit, key, size), singleton)


def center(
    peers: PeersLike, *, singleton: Singleton = "zero", leave_one_out: bool = False, weights: ColumnRef | None = None
) -> Stage:
    """Subtract the mean of each unit's peers.

        y_k = x_k - mean { x_l : l peer of k }

    Args:
        peers: who is compared with whom.
        singleton: credit of a unit without peers: "zero", "keep" (y = x) or "drop".
        leave_one_out: leave k itself out of its mean (RLOO).
        weights: column of weights of the mean.

    The known values sum to zero within every peer set of two or more (without `leave_one_out` and `weights`).

    Source: Shao et al. 2024, arXiv:2402.03300, sec. 4.1; leave-one-out: Ahmadian et al. 2024, arXiv:2402.14740.
        singleton="keep" is verl's choice, "zero" that of IGPO and GiGPO's step term.
    """
    one_of("center", "singleton", singleton, Singleton)
    params = {"peers": peers, "singleton": singleton, "leave_one_out": leave_one_out, "weights": weights}
    return stage(center, _center, same_level, params)


def _divisor(var: Tensor, eps: float, eps_root: float, least: float) -> Tensor:
    """sqrt(var + eps_root) + eps, or 1 where that root is not above `least`."""
    root = torch.sqrt(var + eps_root)
    return torch.where(root <= least, torch.ones_like(root), root + eps)


def _scale(
    credit: Credit,
    batch: Batch,
    peers: PeersLike,
    ddof: int,
    eps: float,
    eps_root: float,
    least: float,
    by: str,
    singleton: Singleton,
) -> Credit:
    key, size = keyed(credit, batch, peers)
    if by == "mean":
        mean = _gather(seg_mean(credit.values, key, size, credit.known), key, 0.0)
        divisor = torch.where(mean.abs() <= least, torch.ones_like(mean), mean + eps)
    else:
        var = seg_var(credit.values, key, size, credit.known, ddof)
        divisor = _gather(_divisor(var, eps, eps_root, least), key, 1.0)
    y = credit.values / divisor
    return _finish(credit, y, _alone(credit, key, size), singleton, 1.0 + eps)


def scale(
    peers: PeersLike,
    *,
    ddof: int = 1,
    eps: float = 1e-6,
    eps_root: float = 0.0,
    least: float = 0.0,
    by: By = "std",
    singleton: Singleton = "keep",
) -> Stage:
    """Divide by the spread of each unit's peers.

        y_k = x_k / (sqrt(var { x_l : l peer of k } + eps_root) + eps)

    Args:
        peers: who is compared with whom.
        ddof: 1 for the sample variance, 0 for the population's.
        eps: added to the root.
        eps_root: added inside the root.
        least: a root not above it is replaced by 1 (equal peers divide by 1, not by eps).
        by: divide by the "std", or by the "mean" (MaxRL).
        singleton: a unit without peers: "keep" (spread 1, eps still added), "zero" or "drop".
    """
    one_of("scale", "by", by, By)
    one_of("scale", "singleton", singleton, Singleton)
    params = {"peers": peers, "ddof": ddof, "eps": eps, "eps_root": eps_root, "least": least}
    return stage(scale, _scale, same_level, {**params, "by": by, "singleton": singleton})


def _zscore(
    credit: Credit,
    batch: Batch,
    peers: PeersLike,
    ddof: int,
    eps: float,
    eps_root: float,
    least: float,
    singleton: Singleton,
    fewest: int,
    below: PeersLike,
) -> Credit:
    key, size = keyed(credit, batch, peers)
    y = _standard(credit, key, size, ddof, eps, eps_root, least)
    if fewest > 1:
        few = _gather(seg_count(key, size, credit.known), key, 1) < fewest
        wide, wide_size = keyed(credit, batch, below)
        y = torch.where(few, _standard(credit, wide, wide_size, ddof, eps, eps_root, least), y)
        alone = _alone(credit, wide, wide_size) & few
    else:
        alone = _alone(credit, key, size)
    return _finish(credit, y, alone, singleton, 1.0 + eps)


def _standard(credit: Credit, key: Tensor, size: int, ddof: int, eps: float, eps_root: float, least: float) -> Tensor:
    """(x - mean) / spread, exactly 0 where all peers are equal."""
    x, known = credit.values, credit.known
    mean = seg_mean(x, key, size, known)
    divisor = _divisor(seg_var(x, key, size, known, ddof, mean), eps, eps_root, least)
    return (x - _gather(mean, key, 0.0)) / _gather(divisor, key, 1.0)


def zscore(
    peers: PeersLike,
    *,
    ddof: int = 1,
    eps: float = 1e-6,
    eps_root: float = 0.0,
    least: float = 0.0,
    singleton: Singleton = "zero",
    fewest: int = 1,
    below: PeersLike = everything,
) -> Stage:
    """Subtract the mean of each unit's peers and divide by their spread.

        y_k = (x_k - mean) / (sqrt(var + eps_root) + eps),    mean and var over { x_l : l peer of k }

    Args:
        peers: who is compared with whom.
        ddof, eps, eps_root, least: as in `scale`.
        singleton: a unit without peers: "zero", "keep" (mean 0, spread 1: y = x / (1 + eps)) or "drop".
        fewest: a peer set with fewer known members uses the statistics of `below` instead.
        below: the wider peers for those.

    A peer set of equal values gives exactly 0, in every convention.

    Source: ddof=1, eps=1e-6, singleton="keep": GRPO in verl, MatchTIR. ddof=0, eps_root=1e-8, eps=1e-6, "zero":
        IGPO, A2TGPO, DR-Venus. ddof=0, eps=1e-8: VPR.
    """
    one_of("zscore", "singleton", singleton, Singleton)
    params = {"peers": peers, "ddof": ddof, "eps": eps, "eps_root": eps_root, "least": least}
    return stage(zscore, _zscore, same_level, {**params, "singleton": singleton, "fewest": fewest, "below": below})


def _minmax(credit: Credit, batch: Batch, peers: PeersLike, eps: float, least: float) -> Credit:
    key, size = keyed(credit, batch, peers)
    low = _gather(seg_min(credit.values, key, size, credit.known), key, 0.0)
    width = _gather(seg_max(credit.values, key, size, credit.known), key, 0.0) - low
    flat = width <= least
    y = torch.where(flat, torch.zeros_like(low), (credit.values - low) / torch.where(flat, 1.0, width + eps))
    return replace(credit, values=torch.where(credit.known, y, credit.values))


def minmax(peers: PeersLike, *, eps: float = 0.0, least: float = 0.0) -> Stage:
    """Map each unit's peers to [0, 1]: y = (x - min) / (max - min + eps); peers that span at most `least` give 0."""
    return stage(minmax, _minmax, same_level, {"peers": peers, "eps": eps, "least": least})


def _clip(credit: Credit, batch: Batch, low: Number | None, high: Number | None) -> Credit:
    y = credit.values
    for bound, keep in ((low, torch.maximum), (high, torch.minimum)):
        if bound is not None:
            y = keep(y, torch.as_tensor(number(bound, batch, credit.level), dtype=torch.float64))
    return replace(credit, values=y)


def clip(low: Number | None = None, high: Number | None = None) -> Stage:
    """Bound the credit: y = min(max(x, low), high)."""
    return stage(clip, _clip, same_level, {"low": low, "high": high})


def _add(credit: Credit, batch: Batch, column: str, weight: Number) -> Credit:
    values, known = ColumnRef(column).at(batch, credit.level)
    w = number(weight, batch, credit.level)
    return replace(credit, values=credit.values + w * values.to(torch.float64), known=credit.known & known)


def add(column: str, weight: Number = 1.0) -> Stage:
    """Add a column (copied down to the credit's level) times a weight: an external baseline is `add("value", -1)`."""
    return stage(add, _add, same_level, {"column": column, "weight": weight}, columns=(column,))
