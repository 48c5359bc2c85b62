"""Integer maps between levels, and the named columns on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from workbench import show
from workbench.batch.columns import BASE_LEVELS, GIVEN, Column, Level, Provenance, Unit, make_column
from workbench.batch.select import select
from workbench.segments import repeat, run_position, seg_count, seg_last


def _ints(name: str, values: Any, top: int | None, lowest: int = 0) -> Tensor:
    """A one-dimensional int64 map with values in [lowest, top)."""
    v = torch.as_tensor(values, dtype=torch.int64)
    if v.ndim != 1:
        raise ValueError(f"{name}: expected a one-dimensional integer map, got shape {tuple(v.shape)}")
    if len(v) and (int(v.min()) < lowest or (top is not None and int(v.max()) >= top)):
        raise ValueError(f"{name}: expected values in [{lowest}, {top}), got {int(v.min())} .. {int(v.max())}")
    return v


def _in_order(name: str, values: Tensor) -> None:
    if bool((values[1:] < values[:-1]).any()):
        first = int(torch.nonzero(values[1:] < values[:-1])[0]) + 1
        raise ValueError(f"{name}: entries must not decrease (units of one parent stand together); entry {first} does")


@dataclass(frozen=True)
class Batch:
    """Index maps, units and columns of a set of trajectories.

    Args:
        turn_trajectory: [K] trajectory of each turn, not decreasing.
        trajectory_group: [N] group of each trajectory.
        token_turn: [T] turn of each sampled token, not decreasing.
        turn_index: [K] position of the turn in the whole story (a branch goes on counting).
        turn_parent: [K] the turn before it, in its parent trajectory for the first turn of a branch; -1 at a root.
        token_sequence: [T] sequence each token stands in.
        token_position: [T] position of the token in that sequence.
        units: further named integer maps.
        columns: named values.
        step: the update this batch belongs to (schedules read it).
        trajectories, groups: ids, for messages and pictures.
        labels: names of the codes of a column ("state", "agent").
        sequences: token ids of each forward pass, prefix included; None where its prefix is with an absent parent.
    """

    turn_trajectory: Tensor
    trajectory_group: Tensor
    token_turn: Tensor
    turn_index: Tensor
    turn_parent: Tensor
    token_sequence: Tensor
    token_position: Tensor
    units: Mapping[str, Unit] = field(default_factory=dict)
    columns: Mapping[str, Column] = field(default_factory=dict)
    step: int = 0
    trajectories: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sequences: tuple[Tensor | None, ...] = ()

    def __post_init__(self) -> None:
        for name in ("units", "columns", "labels"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        _in_order("turn_trajectory", self.turn_trajectory)
        _in_order("token_turn", self.token_turn)

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: dict(v) if isinstance(v := getattr(self, f.name), Mapping) else v for f in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, MappingProxyType(value) if isinstance(value, dict) else value)

    @classmethod
    def of_maps(
        cls,
        turn_trajectory: Any,
        trajectory_group: Any,
        token_turn: Any = None,
        *,
        turn_index: Any = None,
        turn_parent: Any = None,
        step: int = 0,
    ) -> Batch:
        """Build a batch from bare maps.

        Args:
            turn_trajectory: [K], not decreasing.
            trajectory_group: [N] integers or any hashable ids.
            token_turn: [T], not decreasing; None for a batch without tokens.
            turn_index: [K]; by default the turns of a trajectory are counted from 0.
            turn_parent: [K]; by default the turn before it in the same trajectory.

        Example:
            >>> batch = Batch.of_maps([0, 0, 1], ["a", "a"]).with_column("outcome", "trajectory", [1.0, 0.0])
            >>> batch.count("turn"), batch.up("turn", "group").tolist()
            (3, [0, 0, 0])
        """
        names = tuple(dict.fromkeys(str(g) for g in _listed(trajectory_group)))
        code = {g: i for i, g in enumerate(names)}
        group = torch.tensor([code[str(g)] for g in _listed(trajectory_group)], dtype=torch.int64)
        turn_t = _ints("turn_trajectory", turn_trajectory, len(group))
        token_t = _ints("token_turn", [] if token_turn is None else token_turn, len(turn_t))
        place, count = run_position(turn_t), torch.arange(len(turn_t))
        parent = torch.where(place == 0, torch.full_like(count, -1), count - 1)
        return cls(
            turn_trajectory=turn_t,
            trajectory_group=group,
            token_turn=token_t,
            turn_index=place if turn_index is None else _ints("turn_index", turn_index, None),
            turn_parent=parent if turn_parent is None else _ints("turn_parent", turn_parent, len(turn_t), -1),
            token_sequence=turn_t[token_t],
            token_position=torch.arange(len(token_t)),
            step=step,
            trajectories=tuple(str(i) for i in range(len(group))),
            groups=names,
        )

    # -- levels ------------------------------------------------------------------------------------------

    @property
    def has_tokens(self) -> bool:
        """True if there are sampled tokens to give credit to."""
        return len(self.token_turn) > 0

    def count(self, level: Level) -> int:
        """How many units a level has."""
        sizes = {
            "token": len(self.token_turn),
            "turn": len(self.turn_trajectory),
            "trajectory": len(self.trajectory_group),
            "group": len(self.groups),
            "batch": 1,
        }
        if level in sizes:
            return sizes[level]
        return self._unit(level).count

    def _unit(self, name: str) -> Unit:
        if name not in self.units:
            raise ValueError(f"no level or unit {name!r}; there are {[*BASE_LEVELS, *self.units]}")
        return self.units[name]

    def up(self, low: Level, high: Level) -> Tensor:
        """Return for each unit of `low` the unit of `high` that holds it -> int64 [count(low)]; -1 for none.

        Raises:
            ValueError: `high` does not hold `low` (a segment that crosses turns is in no one turn).
        """
        if low == high:
            return torch.arange(self.count(low))
        if high == "batch":
            return torch.zeros(self.count(low), dtype=torch.int64)
        steps = {
            ("token", "turn"): lambda: self.token_turn,
            ("turn", "trajectory"): lambda: self.turn_trajectory,
            ("trajectory", "group"): lambda: self.trajectory_group,
            ("token", "trajectory"): lambda: self.turn_trajectory[self.token_turn],
            ("turn", "group"): lambda: self.trajectory_group[self.turn_trajectory],
            ("token", "group"): lambda: self.trajectory_group[self.turn_trajectory[self.token_turn]],
        }
        if (low, high) in steps:
            return steps[low, high]()
        if high in self.units:
            return self._into_unit(low, high)
        if low in self.units and high in ("turn", "trajectory", "group"):
            return self._out_of_unit(low, high)
        for name in (low, high):
            self.count(name)  # a level that is not there at all is the better error
        raise ValueError(f"level {high!r} does not hold level {low!r}")

    def _into_unit(self, low: Level, name: str) -> Tensor:
        unit = self._unit(name)
        if low == unit.base:
            return unit.of
        if low == "token" and unit.base == "turn":
            return unit.of[self.token_turn]
        raise ValueError(f"unit {name!r} is over {unit.base}s; {low!r} is not inside it")

    def _out_of_unit(self, name: str, high: Level) -> Tensor:
        unit = self._unit(name)
        outer = self.up(unit.base, high)
        holder = torch.full((unit.count,), -1, dtype=torch.int64)
        use = unit.of >= 0
        holder[unit.of[use]] = outer[use]
        if bool((holder[unit.of[use]] != outer[use]).any()):
            raise ValueError(f"unit {name!r} crosses {_plural(high)}, so none of them holds it")
        return holder

    def holds(self, high: Level, low: Level) -> bool:
        """True if no unit of `low` lies in two of `high`: then values go up from `low` to `high`."""
        try:
            self.up(low, high)
        except ValueError:
            return False
        return True

    @cached_property
    def keys(self) -> dict[Any, Tensor]:
        """Peer keys that were asked for once, by (peers, level); what holds them asks again for nothing."""
        return {}

    @cached_property
    def _tokens_per_turn(self) -> Tensor:
        return seg_count(self.token_turn, self.count("turn"))

    def down(self, values: Tensor, high: Level, low: Level) -> Tensor:
        """Copy a value per `high` unit to every `low` unit inside it -> [count(low)]; zero where there is none.

        Tokens stand together by turn, so they are filled by runs: much cheaper than a gather over millions.

        Example:
            >>> batch = Batch.of_maps([0, 0, 1], ["a", "a"], [0, 0, 1, 2])
            >>> batch.down(torch.tensor([1.0, 2.0]), "trajectory", "token").tolist()
            [1.0, 1.0, 1.0, 2.0]
        """
        if low == "token" and high in ("turn", "trajectory", "group", "batch"):
            return repeat(self.down(values, high, "turn"), self._tokens_per_turn)
        if high == low:
            return values
        holder = self.up(low, high)
        copied = values[holder.clamp_min(0)] if len(values) else values.new_zeros(len(holder))
        return torch.where(holder >= 0, copied, torch.zeros_like(copied))

    def last(self, low: Level, high: Level) -> Tensor:
        """Index of the last `low` unit in each `high` unit -> int64 [count(high)]; -1 for none."""
        return seg_last(self.up(low, high), self.count(high))

    # -- columns -----------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Column:
        if name not in self.columns:
            raise ValueError(f"no column {name!r}; there are {sorted(self.columns)}")
        return self.columns[name]

    def with_column(
        self, name: str, level: Level, values: Any, known: Any = None, provenance: Provenance = GIVEN
    ) -> Batch:
        """Return the batch with one more column; see `make_column`."""
        column = make_column(name, level, values, known, self.count(level), provenance)
        return replace(self, columns={**self.columns, name: column})

    def with_unit(self, name: str, base: Level, of: Any) -> Batch:
        """Return the batch with one more unit map.

        Args:
            base: "token" or "turn".
            of: unit per token or turn, numbered in order; -1 where none.

        Raises:
            ValueError: wrong length, an unknown base, or a unit that lies in two trajectories.
        """
        if base not in ("token", "turn") or name in BASE_LEVELS:
            raise ValueError(f"unit {name!r}: expected base 'token' or 'turn' and a new name, got base {base!r}")
        v = _ints(f"unit {name!r}", of, None, -1)
        if len(v) != self.count(base):
            raise ValueError(f"unit {name!r}: there are {self.count(base)} {base}s, got {len(v)} entries")
        out = replace(self, units={**self.units, name: Unit(base, v)})
        _in_order(f"unit {name!r}: trajectory of each unit", out.up(name, "trajectory"))
        return out

    def at_step(self, step: int) -> Batch:
        """Return the batch as that of another update (schedules change)."""
        return replace(self, step=step)

    def select(self, trajectories: Iterable[int]) -> Batch:
        """Return the batch of some trajectories, in the given order.

        Raises:
            ValueError: an index out of range, or named twice.
        """
        return select(self, torch.as_tensor(list(trajectories), dtype=torch.int64))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return show.mimebundle(self)


def _plural(level: Level) -> str:
    return "trajectories" if level == "trajectory" else f"{level}s"


def _listed(values: Any) -> list[Any]:
    return values.tolist() if isinstance(values, Tensor) else list(values)
