"""The contract of evidence: what fills columns that a rollout does not carry, with where each number came from.

Whatever needs a model, a judge, a gold answer or memory happens here, before the credit maths, and is stored. A
provider is given one group (all trajectories of one task) at a time, so that equal groups are computed once: a result
is kept under the hash of its provider, its parameters and the content it reads, never under a date.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch

from workbench._async import run as run_anywhere
from workbench.batch import Column, Provenance, make_column
from workbench.rollouts import Rollouts
from workbench.trajectory import Group, Trajectory

Sees = Literal["future", "gold", "group", "other policy"]
SEES: tuple[Sees, ...] = ("future", "gold", "group", "other policy")
Reads = Literal["messages", "tokens", "gold", "results", "states", "extra"]
LEVELS = ("token", "turn", "trajectory", "group")
Result = TypeVar("Result")


class Values(NamedTuple):
    """What a provider found for one group: one entry a unit, in the group's order.

    Args:
        values: [n, ...] tensor; an entry that is not known may hold anything.
        known: [n] bool.
    """

    values: torch.Tensor
    known: torch.Tensor

    @classmethod
    def of(cls, entries: Iterable[float | int | bool | None]) -> Values:
        """Build from plain numbers; None is unknown.

        Example:
            >>> Values.of([0.5, None]).known.tolist()
            [True, False]
        """
        listed = list(entries)
        known = [entry is not None for entry in listed]
        present = [entry for entry in listed if entry is not None]
        whole = bool(present) and all(isinstance(entry, int) for entry in present)
        dtype = torch.int64 if whole else torch.float64
        values = torch.tensor([0 if entry is None else entry for entry in listed], dtype=dtype)
        return cls(values, torch.tensor(known, dtype=torch.bool))


@dataclass
class Meter:
    """Counts what a computation costs.

    Args:
        calls: model, judge or tool calls made.
        tokens: tokens that went through a model.
    """

    calls: int = 0
    tokens: int = 0

    def count(self, calls: int = 0, tokens: int = 0) -> None:
        """Add to the cost."""
        self.calls += calls
        self.tokens += tokens


@runtime_checkable
class Evidence(Protocol):
    """A provider of columns. `Provider` is a base class that fills in what is usual."""

    @property
    def name(self) -> str:
        """Readable id, part of the cache key."""

    @property
    def provides(self) -> Mapping[str, str]:
        """Column name to level ("token", "turn", "trajectory" or "group")."""

    @property
    def sees(self) -> tuple[Sees, ...]:
        """What it looks at beyond the past of the unit it judges."""

    @property
    def reads(self) -> tuple[Reads, ...]:
        """Parts of a trajectory that can change its result; their content is part of the cache key."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Whatever else can change its result, as plain JSON."""

    @property
    def model(self) -> str:
        """Hash of the model's weights; "" if there is none."""

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Return every column of `provides` for one group: its trajectories in order, the units of each in order.

        Turns are a trajectory's own; tokens are its sampled ones, turn by turn (`Trajectory.sampled`).
        """

    def state(self) -> Mapping[str, Any]:
        """Return what it remembers, as plain JSON."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""


class Provider:
    """Base of providers that remember nothing: a frozen dataclass whose fields are its parameters.

    A field that is no plain JSON (an engine ...) is left out of `parameters` by `field(metadata={"key": False})`; the
    provider then answers for it in `model` or `parameters`.
    """

    provides: ClassVar[Mapping[str, str]] = {}
    sees: ClassVar[tuple[Sees, ...]] = ()
    reads: ClassVar[tuple[Reads, ...]] = ("messages",)
    version: ClassVar[int] = 1
    """Raise it when the result changes for equal parameters."""

    @property
    def name(self) -> str:
        """Class name."""
        return type(self).__name__

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The fields that are plain JSON."""
        if not dataclasses.is_dataclass(self):
            return {"version": self.version}
        named = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata.get("key", True)}
        return {**named, "version": self.version}

    @property
    def model(self) -> str:
        """No model."""
        return ""

    def check(self, rollouts: Rollouts) -> None:
        """Refuse rollouts on which it can fill nothing at all; called once, before any group."""

    def state(self) -> Mapping[str, Any]:
        """Return nothing: it remembers nothing."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Refuse a state that is not empty."""
        if state:
            raise ValueError(f"{self.name} remembers nothing, but was given a state with {sorted(state)}")


class Record(NamedTuple):
    """A computed group and its cost."""

    columns: Mapping[str, Values]
    calls: int
    tokens: int
    seconds: float


class Store(Protocol):
    """Where results are kept by content: `workbench.evidence.cache.Cache`."""

    def key(self, provider: Evidence, group: Group) -> str:
        """Hash what can change the result."""

    def get(self, key: str) -> Record | None:
        """Return the result under a key, or None."""

    def put(self, key: str, record: Record) -> None:
        """Keep a result."""


# -------------------------------------------------------------------------------------------------- collect


def collect(
    rollouts: Rollouts,
    providers: Iterable[Evidence],
    *,
    cache: Store | None = None,
    concurrency: int = 32,
) -> Rollouts:
    """Return the rollouts with the columns of all providers. Works in a notebook too, where an event loop runs.

    Args:
        rollouts: what happened.
        providers: what fills columns; a list from `for_recipe`, or your own.
        cache: where results are kept; None keeps them for this process.
        concurrency: groups a provider works on at a time.

    Raises:
        ValueError: two providers give the same column, or one gives the wrong number of entries.
    """
    return run_sync(collect_async(rollouts, providers, cache=cache, concurrency=concurrency))


async def collect_async(
    rollouts: Rollouts,
    providers: Iterable[Evidence],
    *,
    cache: Store | None = None,
    concurrency: int = 32,
) -> Rollouts:
    """Do what `collect` does, from asynchronous code."""
    from workbench.evidence.cache import MEMORY

    listed, store = list(providers), MEMORY if cache is None else cache
    if not listed:
        return rollouts  # its batch is built already
    _refuse_doubles(listed)
    columns: dict[str, Column] = {}
    for provider in listed:  # of no rollouts at all there is nothing to check, and every column is there and empty
        if isinstance(provider, Provider) and len(rollouts):
            provider.check(rollouts)
        gate = asyncio.Semaphore(concurrency)
        records = await asyncio.gather(*(_group_record(provider, g, store, gate) for g in rollouts.groups))
        for name, level in provider.provides.items():
            found = _stitch(rollouts, level, [record.columns[name] for record in records])
            count, source = len(found.values), _provenance(provider, records)
            columns[name] = make_column(name, level, found.values, found.known, count, source)
    return replace(rollouts, columns={**rollouts.columns, **columns})


def run_sync(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end; in a thread of its own where an event loop already runs (a notebook)."""
    return run_anywhere(work)


async def _group_record(provider: Evidence, group: Group, cache: Store, gate: asyncio.Semaphore) -> Record:
    name = cache.key(provider, group)
    async with gate:
        # what remembers is asked anew: a kept result would leave its memory as it was
        if not provider.state() and (kept := cache.get(name)) is not None:
            return kept
        meter, start = Meter(), time.perf_counter()
        columns = await provider.compute(group, meter)
        record = Record(dict(columns), meter.calls, meter.tokens, time.perf_counter() - start)
        _check(provider, group, record)
        if not provider.state():  # nor may the first result of what has just begun to remember be kept
            cache.put(name, record)
        return record


def _check(provider: Evidence, group: Group, record: Record) -> None:
    missing = set(provider.provides) ^ set(record.columns)
    if missing:
        raise ValueError(f"{provider.name} says it provides {sorted(provider.provides)}; group {group.id!r}: {missing}")
    for name, level in provider.provides.items():
        if level not in LEVELS:
            raise ValueError(f"{provider.name}, column {name!r}: expected a level of {LEVELS}, got {level!r}")
        expected = 1 if level == "group" else sum(units(t, level) for t in group)
        got = record.columns[name]
        if len(got.values) != expected or len(got.known) != expected:
            raise ValueError(
                f"{provider.name}, column {name!r}, group {group.id!r}: expected {expected} entries (one a {level}), "
                f"got {len(got.values)} values and {len(got.known)} known flags"
            )
        known = got.values[got.known]
        if known.is_floating_point() and not torch.isfinite(known).all():
            raise ValueError(
                f"{provider.name}, column {name!r}, group {group.id!r}: a value is NaN or infinite; "
                "mark it unknown (known=False) instead"
            )


def units(trajectory: Trajectory, level: str) -> int:
    """Count the units of a level in one trajectory."""
    if level == "trajectory":
        return 1
    if level == "turn":
        return len(trajectory.turns)
    return sum(len(s) for seq in trajectory.sequences for s in seq.spans if s.origin == "sampled")


def _stitch(rollouts: Rollouts, level: str, found: Sequence[Values]) -> Values:
    """Put the groups' entries into the rollouts' order of trajectories (groups may be interleaved)."""
    if level == "group":
        pieces = list(found)
    else:
        piece_of: dict[str, Values] = {}
        for group, entries in zip(rollouts.groups, found, strict=True):
            start = 0
            for t in group:
                stop = start + units(t, level)
                piece_of[t.id] = Values(entries.values[start:stop], entries.known[start:stop])
                start = stop
        pieces = [piece_of[t.id] for t in rollouts.trajectories]
    filled = [p for p in pieces if len(p.values)] or pieces or [Values.of([])]
    dtype = filled[0].values.dtype
    for piece in filled:  # an all-unknown group is float; whole numbers elsewhere become float with it
        dtype = torch.promote_types(dtype, piece.values.dtype)
    return Values(torch.cat([p.values.to(dtype) for p in filled]), torch.cat([p.known for p in filled]))


def _provenance(provider: Evidence, records: Sequence[Record]) -> Provenance:
    """Say where a column came from; the cost is that of computing it once, also when it was kept."""
    return Provenance(
        provider=provider.name,
        parameters=dict(provider.parameters),
        model=provider.model,
        policy_version=getattr(provider, "policy_version", None),
        prompt=getattr(provider, "prompt", ""),
        sees=tuple(provider.sees),
        calls=sum(r.calls for r in records),
        tokens=sum(r.tokens for r in records),
        seconds=sum(r.seconds for r in records),
    )


def _refuse_doubles(providers: Sequence[Evidence]) -> None:
    owner: dict[str, str] = {}
    for provider in providers:
        for name in provider.provides:
            if name in owner:
                raise ValueError(f"column {name!r} is given by {owner[name]} and by {provider.name}; pass one of them")
            owner[name] = provider.name
