"""Predicates: which units a stage means. Values, so that they can be read, compared and saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.batch import Batch, Level
from workbench.credit.core import Credit
from workbench.credit.params import Not
from workbench.credit.peers import Peers, PeersLike, position
from workbench.segments import run_starts, seg_count, seg_max, seg_min, seg_sum


@dataclass(frozen=True)
class Where:
    """A named predicate `(Credit, Batch) -> bool [n]`."""

    name: str
    fn: Callable[..., Tensor]
    params: tuple[Any, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(name for value in self.params for name in getattr(value, "needs", ()))

    def __call__(self, credit: Credit, batch: Batch) -> Tensor:
        return self.fn(credit, batch, *self.params)

    def __invert__(self) -> Not:
        return Not(self)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.params))})"


def keyed(credit: Credit, batch: Batch, peers: PeersLike) -> tuple[Tensor, int]:
    """Return the peer key of each unit and the number of peer sets."""
    key = _keys(batch, credit.level, peers)
    if len(key) != len(credit):
        raise ValueError(f"peers {peers!r} gave {len(key)} keys for {len(credit)} {credit.level}s")
    return key, int(key.max()) + 1 if len(key) else 0


def _keys(batch: Batch, level: Level, peers: PeersLike) -> Tensor:
    """Keys of named peers, computed once a batch; what any other function says is asked again."""
    if not isinstance(peers, Peers):
        return peers(batch, level)
    if (peers, level) not in batch.keys:
        batch.keys[peers, level] = peers(batch, level)
    return batch.keys[peers, level]


def _gather(per_set: Tensor, key: Tensor, alone: Any) -> Tensor:
    """Copy a value per peer set to its members; units compared with nobody get `alone`."""
    if not len(per_set):
        return torch.full((len(key),), alone, dtype=per_set.dtype)
    if not bool((key < 0).any()):
        return per_set[key]
    return torch.where(key >= 0, per_set[key.clamp_min(0)], torch.full((), alone, dtype=per_set.dtype))


def _constant(credit: Credit, batch: Batch, peers: PeersLike) -> Tensor:
    key, size = keyed(credit, batch, peers)
    flat = seg_max(credit.values, key, size, credit.known) == seg_min(credit.values, key, size, credit.known)
    return _gather(flat, key, True)


def _fewer_than(credit: Credit, batch: Batch, count: int, peers: PeersLike) -> Tensor:
    key, size = keyed(credit, batch, peers)
    return _gather(seg_count(key, size, credit.known), key, 1) < count


def _last(credit: Credit, batch: Batch) -> Tensor:
    is_last = torch.zeros(len(credit), dtype=torch.bool)
    ends = batch.last(credit.level, "trajectory")
    is_last[ends[ends >= 0]] = True
    return is_last


def _first(credit: Credit, batch: Batch) -> Tensor:
    return run_starts(batch.up(credit.level, "trajectory"))


def _equals(credit: Credit, batch: Batch, value: float) -> Tensor:
    return credit.known & (credit.values == value)


def _above(credit: Credit, batch: Batch, value: float) -> Tensor:
    return credit.known & (credit.values > value)


def _every(credit: Credit, batch: Batch, count: int) -> Tensor:
    return (position(batch, credit.level) + 1) % count == 0


def _widest(credit: Credit, batch: Batch, share: float, peers: PeersLike) -> Tensor:
    key, size = keyed(credit, batch, peers)
    count = seg_count(key, size, credit.known)
    mean = seg_sum(credit.values, key, size, credit.known) / count.clamp_min(1)
    square = seg_sum((credit.values - _gather(mean, key, 0.0)) ** 2, key, size, credit.known)
    spread = torch.where(count > 1, square / (count - 1).clamp_min(1), -1.0)  # of variances: they have the same order
    chosen = torch.zeros(size, dtype=torch.bool)
    chosen[torch.argsort(spread, descending=True, stable=True)[: max(int(share * size), 1)]] = True
    comparable = spread >= 0
    return _gather(chosen & comparable if bool(comparable.any()) else torch.ones_like(chosen), key, False)


def constant(peers: PeersLike) -> Where:
    """Units whose peers' known values are all exactly equal (a lone unit included)."""
    return Where("constant", _constant, (peers,))


def fewer_than(count: int, peers: PeersLike) -> Where:
    """Units with fewer than `count` known peers, themselves included."""
    return Where("fewer_than", _fewer_than, (count, peers))


def equals(value: float) -> Where:
    """Units whose credit is known and exactly `value`."""
    return Where("equals", _equals, (value,))


def above(value: float) -> Where:
    """Units whose credit is known and greater than `value`."""
    return Where("above", _above, (value,))


def last() -> Where:
    """The last unit of each trajectory (for turns: the one that answers)."""
    return Where("last", _last)


def first() -> Where:
    """The first unit of each trajectory."""
    return Where("first", _first)


def every(count: int) -> Where:
    """Each `count`-th unit of a trajectory, counted from 1 (a turn of a branch goes on counting); 1 is all."""
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"every: expected a whole number of at least 1, got {count!r}")
    return Where("every", _every, (count,))


def widest(share: float, peers: PeersLike) -> Where:
    """Units of the sets of peers that differ most: of n sets the int(share n), at least one, with the largest spread.

    Args:
        share: in (0, 1].
        peers: the sets; of equal spreads the first counts. Fewer than two known units have no spread; where no set has
            one there is nothing to choose by, and all are meant.
    """
    if not 0 < share <= 1:
        raise ValueError(f"widest: expected a share above 0 and at most 1, got {share!r}")
    return Where("widest", _widest, (share, peers))
