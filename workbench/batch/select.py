"""The batch of some of its trajectories."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.batch.columns import Column, Unit

if TYPE_CHECKING:
    from workbench.batch.maps import Batch


def _members(holder: Tensor, chosen: Tensor) -> Tensor:
    """Indices of the units whose holder is chosen, in the order of `chosen`."""
    rank = torch.full((int(max(holder.max(), chosen.max())) + 1 if len(holder) and len(chosen) else 0,), -1)
    if not len(rank):
        return torch.empty(0, dtype=torch.int64)
    rank[chosen] = torch.arange(len(chosen))
    place = rank[holder]
    order = torch.argsort(place, stable=True)
    return order[place[order] >= 0]


def _renumber(values: Tensor, kept: Tensor, size: int) -> Tensor:
    """Translate old indices to positions in `kept`; -1 for what is gone."""
    new = torch.full((size + 1,), -1, dtype=torch.int64)
    new[kept] = torch.arange(len(kept))
    return new[values]  # index -1 reads the extra last entry, which is -1


def select(b: Batch, chosen: Tensor) -> Batch:
    """Return the batch of the chosen trajectories, in that order; see `Batch.select`."""
    n = b.count("trajectory")
    if len(chosen) and (int(chosen.min()) < 0 or int(chosen.max()) >= n):
        raise ValueError(f"select: expected indices in [0, {n}), got {chosen.tolist()[:10]}")
    if len(torch.unique(chosen)) != len(chosen):
        raise ValueError("select: a trajectory is named twice")
    turns = _members(b.turn_trajectory, chosen)
    tokens = _members(b.turn_trajectory[b.token_turn], chosen)
    group = b.trajectory_group[chosen]
    kept_groups = list(dict.fromkeys(group.tolist()))
    kept = {
        "token": tokens,
        "turn": turns,
        "trajectory": chosen,
        "group": torch.tensor(kept_groups, dtype=torch.int64),
        "batch": torch.tensor([0]),
    }
    units: dict[str, Unit] = {}
    for name, unit in b.units.items():
        of = unit.of[kept[unit.base]]
        old = torch.tensor(list(dict.fromkeys(i for i in of.tolist() if i >= 0)), dtype=torch.int64)
        kept[name] = old
        units[name] = Unit(unit.base, _renumber(of, old, unit.count))
    columns = {
        name: Column(c.level, c.values[kept[c.level]], c.known[kept[c.level]], c.provenance)
        for name, c in b.columns.items()
    }
    return replace(
        b,
        turn_trajectory=_renumber(b.turn_trajectory[turns], chosen, n),
        trajectory_group=_renumber(group, kept["group"], len(b.groups)),
        token_turn=_renumber(b.token_turn[tokens], turns, b.count("turn")),
        turn_index=b.turn_index[turns],
        turn_parent=_renumber(b.turn_parent[turns], turns, b.count("turn")),
        token_sequence=b.token_sequence[tokens],
        token_position=b.token_position[tokens],
        units=units,
        columns=columns,
        trajectories=tuple(b.trajectories[i] for i in chosen.tolist()),
        groups=tuple(b.groups[i] for i in kept_groups),
    )
