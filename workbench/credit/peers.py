"""With whom a unit is compared: a value that gives an integer key per unit. Units with equal keys are peers.

Any function `(batch, level) -> int64 [n]` is a `peers` value too; -1 means "compared with nobody".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.batch import Batch, Level
from workbench.segments import number_keys, run_position


@dataclass(frozen=True)
class Peers:
    """A named comparison set.

    Args:
        name: as in the formula.
        fn: (batch, level) -> key int64 [n].
        needs: columns it reads.
    """

    name: str
    fn: Callable[[Batch, Level], Tensor]
    needs: tuple[str, ...] = ()

    def __call__(self, batch: Batch, level: Level) -> Tensor:
        return self.fn(batch, level)

    def __repr__(self) -> str:
        return self.name


PeersLike = Peers | Callable[[Batch, Level], Tensor]


def position(batch: Batch, level: Level) -> Tensor:
    """Return the place of each unit in its trajectory, from 0 (a turn of a branch goes on counting) -> int64 [n]."""
    if level == "turn":
        return batch.turn_index
    return run_position(batch.up(level, "trajectory"))


@dataclass(frozen=True)
class AtTurn:
    """A key of turns, at any level inside a turn."""

    key: Callable[[Batch], Tensor]

    def __call__(self, batch: Batch, level: Level) -> Tensor:
        if level == "turn":
            return self.key(batch)
        holder = batch.up(level, "turn")
        return torch.where(holder >= 0, self.key(batch)[holder.clamp_min(0)], torch.full_like(holder, -1))


@dataclass(frozen=True)
class ByColumn:
    """(task, code of a turn-level integer column); -1 where the code is unknown."""

    name: str

    def __call__(self, batch: Batch) -> Tensor:
        column = batch[self.name]
        if column.level != "turn":
            raise ValueError(f"column {self.name!r}: peers need one number a turn, it is on {column.level!r}")
        values = column.values
        wrong = column.known & ((values < 0) | (values != values.round() if values.is_floating_point() else False))
        if bool(wrong.any()):
            first = int(torch.nonzero(wrong)[0])
            raise ValueError(
                f"column {self.name!r}: {column.level} {first} is {values[first].item()!r}; a number that says who is "
                "compared with whom is whole and at least 0, or unknown"
            )
        code = torch.where(column.known, column.values.to(torch.int64), torch.full_like(batch.turn_index, -1))
        return number_keys(_task(batch, "turn"), code)


def _task(batch: Batch, level: Level) -> Tensor:
    return batch.up(level, "group")


def _turn_of_task(batch: Batch) -> Tensor:
    return number_keys(_task(batch, "turn"), batch.turn_index)


def _task_and_turn(batch: Batch, level: Level) -> Tensor:
    if level in ("trajectory", "group", "batch"):
        raise ValueError(f"task_and_turn compares turns (or other units in order), not one value a {level}")
    if level == "token":
        return AtTurn(_turn_of_task)(batch, level)
    return number_keys(_task(batch, level), position(batch, level))


def _batch_and_turn(batch: Batch, level: Level) -> Tensor:
    return batch.turn_index[batch.token_turn] if level == "token" else position(batch, level)


def _parent_of_task(batch: Batch) -> Tensor:
    elsewhere = (batch.turn_parent < 0) & (batch.turn_index > 0)  # branched from a turn that is not in the batch
    return number_keys(_task(batch, "turn"), torch.where(elsewhere, -1, batch.turn_parent + 1))


def _everything(batch: Batch, level: Level) -> Tensor:
    return torch.zeros(batch.count(level), dtype=torch.int64)


def _trajectory(batch: Batch, level: Level) -> Tensor:
    return batch.up(level, "trajectory")


task = Peers("task", _task)
"""All units of the same task instance (the group)."""
task_and_turn = Peers("task_and_turn", _task_and_turn)
"""Units of the same task at the same place in their trajectory."""
same_state = Peers("same_state", AtTurn(ByColumn("state")), ("state",))
"""Turns of the same task taken in the same state; a turn whose state is unknown is alone."""
siblings = Peers("siblings", AtTurn(_parent_of_task))
"""Turns that continue the same turn: the branches of a tree; first turns of a group are siblings.

A branch whose parent is not in the batch is compared with nobody."""
role = Peers("role", AtTurn(ByColumn("agent")), ("agent",))
"""Turns of the same task by the same agent."""
batch = Peers("batch", _everything)
"""Everything."""
batch_and_turn = Peers("batch_and_turn", _batch_and_turn)
"""All units of the batch at the same place in their trajectory, whatever their task."""
trajectory = Peers("trajectory", _trajectory)
"""Units of the same trajectory."""


def by(name: str) -> Peers:
    """Compare turns of the same task with equal codes of an integer column."""
    return Peers(f"by({name!r})", AtTurn(ByColumn(name)), (name,))
