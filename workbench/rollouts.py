"""A set of trajectories with its evidence: what a rollout or a reader returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from workbench import show
from workbench.batch import Batch, Column, Level, Provenance, Unit, codes, make_column
from workbench.batch.columns import GIVEN
from workbench.trajectory import Group, Match, RecordError, Trajectory
from workbench.trajectory.records import members

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Rollouts:
    """Trajectories in order, columns of evidence on them, and notes on what a reader could not keep.

    Args:
        trajectories: ids are unique.
        columns: evidence, in the order of `batch()`.
        units: further unit maps, in the order of `batch()`.
        notes: one sentence each: what was lost or is unavailable, and why.
    """

    trajectories: tuple[Trajectory, ...]
    columns: Mapping[str, Column] = field(default_factory=dict)
    units: Mapping[str, Unit] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "trajectories", members(self.trajectories, Trajectory, "trajectories"))
        object.__setattr__(self, "columns", MappingProxyType(dict(self.columns)))
        object.__setattr__(self, "units", MappingProxyType(dict(self.units)))
        object.__setattr__(self, "notes", tuple(self.notes))
        seen: set[str] = set()
        for t in self.trajectories:
            if t.id in seen:
                raise RecordError("the id is used twice", trajectory=t.id, field="id")
            seen.add(t.id)
        for t in self.trajectories:
            if t.parent is not None:
                _check_ancestors(self, t)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "trajectories": self.trajectories,
            "columns": dict(self.columns),
            "units": dict(self.units),
            "notes": self.notes,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, MappingProxyType(value) if isinstance(value, dict) else value)

    # -- a collection ------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.trajectories)

    def __iter__(self) -> Iterator[Trajectory]:
        return iter(self.trajectories)

    def __getitem__(self, key: Any) -> Any:
        """Return one trajectory (by position or id), or the `Rollouts` of a slice, of positions, ids or a mask."""
        if isinstance(key, str) or (hasattr(key, "__index__") and not hasattr(key, "__len__")):
            return self.trajectories[self._position(key)]
        chosen = list(range(len(self))[key]) if isinstance(key, slice) else self._chosen(list(key))
        kept = self.batch().select(chosen)
        out = Rollouts(
            tuple(self.trajectories[i] for i in chosen),
            {name: kept.columns[name] for name in self.columns},
            {name: kept.units[name] for name in self.units},
            self.notes,
        )
        out.__dict__["_batch"] = kept  # what a branch knows through a parent left out (turn index, prefix) stays known
        return out

    def _chosen(self, keys: list[Any]) -> list[int]:
        """Positions of a list of positions and ids, or of a mask of flags."""
        flags = [getattr(key, "item", lambda key=key: key)() for key in keys]  # those of numpy and torch too
        if flags and all(isinstance(flag, bool) for flag in flags):
            if len(flags) != len(self):
                raise IndexError(f"a mask needs one flag a trajectory ({len(self)}), got {len(flags)}")
            return [n for n, flag in enumerate(flags) if flag]
        return [self._position(flag) for flag in flags]

    def _position(self, key: Any) -> int:
        if not isinstance(key, str):
            return range(len(self))[key]
        if key not in self.by_id:
            raise KeyError(f"no trajectory {key!r}; there are {len(self)}, the first {list(self.by_id)[:3]}")
        return list(self.by_id).index(key)

    @cached_property
    def by_id(self) -> Mapping[str, Trajectory]:
        """Trajectories by id."""
        return {t.id: t for t in self.trajectories}

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Groups in order of appearance."""
        members: dict[str, list[Trajectory]] = {}
        for t in self.trajectories:
            members.setdefault(t.group, []).append(t)
        return tuple(Group(name, tuple(ts)) for name, ts in members.items())

    @property
    def has_tokens(self) -> bool:
        """True if every trajectory with turns has its token ids."""
        return bool(self.trajectories) and all(t.has_tokens for t in self.trajectories if t.turns)

    def search(self, pattern: str, *, regex: bool = False) -> list[Match]:
        """Find text in all messages; see `Trajectory.search`."""
        return [hit for t in self.trajectories for hit in t.search(pattern, regex=regex)]

    def to_frame(self) -> pd.DataFrame:
        """Return one row a turn, with every turn-level column and the trajectory's outcome beside it."""
        import pandas as pd

        frames = [t.to_frame() for t in self.trajectories if t.turns]
        frame = pd.concat(frames, ignore_index=True) if frames else Trajectory("-", "-").to_frame()
        frame["outcome"] = [t.outcome for t in self.trajectories for _ in t.turns]
        for name, column in self.columns.items():
            if column.level == "turn" and column.values.ndim == 1:
                pairs = zip(column.values.tolist(), column.known.tolist(), strict=True)
                frame[name] = [v if k else None for v, k in pairs]
        return frame

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return show.mimebundle(self)

    # -- the maths ---------------------------------------------------------------------------------------

    @cached_property
    def _batch(self) -> Batch:
        return _build(self)

    def batch(self, step: int = 0) -> Batch:
        """Return the index maps and columns of these trajectories; `step` is the update they belong to."""
        return self._batch if step == 0 else self._batch.at_step(step)

    def with_column(
        self, name: str, level: Level, values: Any, known: Any = None, provenance: Provenance = GIVEN
    ) -> Rollouts:
        """Return the rollouts with one more column of evidence; see `workbench.batch.make_column`."""
        column = make_column(name, level, values, known, self.batch().count(level), provenance)
        return replace(self, columns={**self.columns, name: column})

    def with_unit(self, name: str, base: Level, of: Any) -> Rollouts:
        """Return the rollouts with one more unit map; see `Batch.with_unit`."""
        return replace(self, units={**self.units, name: self.batch().with_unit(name, base, of).units[name]})

    def with_notes(self, *notes: str) -> Rollouts:
        """Return the rollouts with further notes."""
        return replace(self, notes=(*self.notes, *notes))


# ------------------------------------------------------------------------------- trajectories to index maps


def _build(rollouts: Rollouts) -> Batch:
    ts = rollouts.trajectories
    group, _, group_names = codes(t.group for t in ts)
    turns = [(n, k) for n, t in enumerate(ts) for k in range(len(t.turns))]
    number = {at: i for i, at in enumerate(turns)}
    position = {t.id: n for n, t in enumerate(ts)}
    batch = Batch(
        turn_trajectory=torch.tensor([n for n, _ in turns], dtype=torch.int64),
        trajectory_group=group,
        token_turn=torch.empty(0, dtype=torch.int64),
        turn_index=torch.tensor([_offset(rollouts, n, position) + k for n, k in turns], dtype=torch.int64),
        turn_parent=torch.tensor([_parent(rollouts, n, k, position, number) for n, k in turns], dtype=torch.int64),
        token_sequence=torch.empty(0, dtype=torch.int64),
        token_position=torch.empty(0, dtype=torch.int64),
        trajectories=tuple(t.id for t in ts),
        groups=group_names,
    )
    batch = _with_standard_columns(_with_tokens(batch, rollouts, number), ts)
    for name, unit in rollouts.units.items():
        batch = batch.with_unit(name, unit.base, unit.of)
    for name, c in rollouts.columns.items():
        batch = batch.with_column(name, c.level, c.values, c.known, c.provenance)
    return batch


def _check_ancestors(rollouts: Rollouts, t: Trajectory) -> None:
    """Refuse a trajectory that is its own ancestor."""
    above, seen = t, {t.id}
    while above.parent is not None and above.parent[0] in rollouts.by_id:
        above = rollouts.by_id[above.parent[0]]
        if above.id in seen:
            raise RecordError(f"its ancestors run in a circle through {above.id!r}", trajectory=t.id, field="parent")
        seen.add(above.id)


def _ancestor(rollouts: Rollouts, n: int, position: Mapping[str, int]) -> int | None:
    parent = rollouts.trajectories[n].parent
    return None if parent is None else position.get(parent[0])


def _offset(rollouts: Rollouts, n: int, position: Mapping[str, int]) -> int:
    """How many turns of its ancestors come before a trajectory's own."""
    t = rollouts.trajectories[n]
    if t.parent is None:
        return 0
    above = _ancestor(rollouts, n, position)
    return t.parent[1] + 1 + (_offset(rollouts, above, position) if above is not None else 0)


def _parent(
    rollouts: Rollouts, n: int, k: int, position: Mapping[str, int], number: Mapping[tuple[int, int], int]
) -> int:
    """The turn before turn k of trajectory n; -1 at a root or where the parent is not here."""
    if k > 0:
        return number[n, k - 1]
    t, above = rollouts.trajectories[n], _ancestor(rollouts, n, position)
    if t.parent is None or above is None:
        return -1
    if t.parent[1] >= 0:
        if (above, t.parent[1]) not in number:
            problem = f"branches after turn {t.parent[1]} of {t.parent[0]!r}, which has no such turn"
            raise RecordError(problem, trajectory=t.id, field="parent")
        return number[above, t.parent[1]]
    return _parent(rollouts, above, 0, position, number)


def full_ids(rollouts: Rollouts, trajectory: Trajectory, sequence: int) -> tuple[int, ...]:
    """Return the token ids of one forward pass, the prefix that is stored with an ancestor included.

    Raises:
        RecordError: the ancestor is not among the rollouts, or its sequence is shorter than the prefix.
    """
    s = trajectory.sequences[sequence]
    if s.prefix is None:
        return s.ids

    def wrong(problem: str) -> RecordError:
        return RecordError(problem, trajectory=trajectory.id, field=f"sequences[{sequence}].prefix")

    above = rollouts.by_id.get(s.prefix.trajectory)
    if above is None:
        raise wrong(f"its tokens begin in {s.prefix.trajectory!r}, which is not here; read both together")
    if s.prefix.sequence >= len(above.sequences):
        raise wrong(f"{above.id!r} has no sequence {s.prefix.sequence}")
    before = full_ids(rollouts, above, s.prefix.sequence)
    if len(before) < s.prefix.length:
        raise wrong(f"prefix of {s.prefix.length} tokens, but {above.id!r} has {len(before)}")
    return before[: s.prefix.length] + s.ids


def _forward_ids(rollouts: Rollouts, t: Trajectory, s: int) -> torch.Tensor | None:
    """Ids of one forward pass; None where the ancestor that holds its prefix is not here."""
    prefix = t.sequences[s].prefix
    if prefix is not None and prefix.trajectory not in rollouts.by_id:
        return None
    return torch.tensor(full_ids(rollouts, t, s), dtype=torch.int64)


def _with_tokens(batch: Batch, rollouts: Rollouts, number: Mapping[tuple[int, int], int]) -> Batch:
    turn: list[int] = []
    sequence: list[int] = []
    place: list[int] = []
    logprob: list[float | None] = []
    sequences: list[torch.Tensor | None] = []
    for n, t in enumerate(rollouts.trajectories):
        rows: list[tuple[int, int, int, float | None]] = []
        for s, seq in enumerate(t.sequences):
            at = seq.prefix.length if seq.prefix else 0
            for span in seq.spans:
                if span.origin == "sampled":
                    probs = span.logprobs or (None,) * len(span)
                    rows += [(number[n, span.turn], len(sequences), at + i, p) for i, p in enumerate(probs)]
                at += len(span)
            sequences.append(_forward_ids(rollouts, t, s))
        rows.sort(key=lambda row: row[0])  # stable: position order within a turn is kept
        for k, s_id, at, p in rows:
            turn.append(k)
            sequence.append(s_id)
            place.append(at)
            logprob.append(p)
    out = replace(
        batch,
        token_turn=torch.tensor(turn, dtype=torch.int64),
        token_sequence=torch.tensor(sequence, dtype=torch.int64),
        token_position=torch.tensor(place, dtype=torch.int64),
        sequences=tuple(sequences),
    )
    known = [p is not None for p in logprob]
    values = torch.tensor([p if p is not None else 0.0 for p in logprob], dtype=torch.float32)
    return out.with_column("logprob_old", "token", values, known, Provenance("rollout"))


def _with_standard_columns(batch: Batch, ts: tuple[Trajectory, ...]) -> Batch:
    """Columns that the trajectories carry themselves."""
    turns = [turn for t in ts for turn in t.turns]
    here = Provenance("rollout")
    batch = batch.with_column("outcome", "trajectory", _floats(t.outcome for t in ts), *_known(t.outcome for t in ts))
    truncated = torch.tensor([t.truncated for t in ts], dtype=torch.bool)
    trainable = torch.tensor([turn.trainable for turn in turns], dtype=torch.bool)
    batch = batch.with_column("truncated", "trajectory", truncated, provenance=here)
    batch = batch.with_column("trainable", "turn", trainable, provenance=here)
    rewards = [turn.reward for turn in turns]
    batch = batch.with_column("turn_reward", "turn", _floats(rewards), *_known(rewards))
    for name in dict.fromkeys(name for t in ts for name in t.rewards):
        values = [t.rewards.get(name) for t in ts]
        batch = batch.with_column(name, "trajectory", _floats(values), *_known(values))
    for name in dict.fromkeys(name for turn in turns for name in turn.rewards):
        values = [turn.rewards.get(name) for turn in turns]
        batch = batch.with_column(name, "turn", _floats(values), *_known(values))
    for name, keys in (("state", [t.state_key for t in turns]), ("agent", [t.agent for t in turns])):
        coded, known, names = codes(keys)
        batch = replace(batch.with_column(name, "turn", coded, known, here), labels={**batch.labels, name: names})
    return batch


def _floats(values: Iterable[float | None]) -> torch.Tensor:
    return torch.tensor([0.0 if v is None else v for v in values], dtype=torch.float64)


def _known(values: Iterable[float | None]) -> tuple[torch.Tensor, Provenance]:
    return torch.tensor([v is not None for v in values], dtype=torch.bool), Provenance("rollout")
