"""Sampled tokens scored by a policy: the reference of a KL term, a teacher, or the same policy once more."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import torch

from workbench.evidence.base import Meter, Provider, Reads, Sees, Values
from workbench.policy.base import Engine, Policy, Scores
from workbench.rollouts import Rollouts, full_ids
from workbench.trajectory import Group, RecordError, Trajectory

_hashes: WeakKeyDictionary[Engine, tuple[int, str]] = WeakKeyDictionary()


def weights_hash(weights: Mapping[str, torch.Tensor]) -> str:
    """Hash weights by content -> 16 hex digits, the same on every machine.

    SHA-256 of each tensor's name, shape, dtype and bytes, in order of names.

    Example:
        >>> one, other = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([2.0, 1.0])}
        >>> weights_hash(one) == weights_hash(one), weights_hash(one) == weights_hash(other)
        (True, False)
    """
    told = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        told.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
        told.update(flat.view(torch.uint8).numpy() if flat.numel() else b"")
    return told.hexdigest()[:16]


def model_hash(policy: Policy) -> str:
    """Return the hash of a policy's weights, computed once a version.

    An engine without a `model` to look into (a server) is named by policy and version, which only tells its own
    versions apart.
    """
    engine = policy.engine
    model = getattr(engine, "model", None)
    if not isinstance(model, torch.nn.Module):
        return f"{policy.name}@{engine.version}"
    version, known = _hashes.get(engine, (-1, ""))
    if version != engine.version:
        weights = getattr(engine, "weights", None) or model.state_dict()  # of a model, an engine may use a part
        known = weights_hash({name: value for name, value in weights.items() if torch.is_tensor(value)})
        _hashes[engine] = (engine.version, known)
    return known


@dataclass(frozen=True)
class SampledLogprobs(Provider):
    """Score the sampled tokens under a policy, each given all that stood before it.

    Args:
        policy: who scores; its engine must score tokens of the same tokenizer.
        column: name of the column; "logprob_ref" is what KL terms read.
        temperature: of the distribution; that of the sampling where the two are compared.
    """

    policy: Policy = field(metadata={"key": False})
    column: str = "logprob_ref"
    temperature: float = 1.0
    sees: ClassVar[tuple[Sees, ...]] = ("other policy",)
    reads: ClassVar[tuple[Reads, ...]] = ("tokens",)

    @property
    def provides(self) -> Mapping[str, str]:  # type: ignore[override]
        """The one column."""
        return {self.column: "token"}

    @property
    def model(self) -> str:
        """Hash of the scoring policy's weights."""
        return model_hash(self.policy)

    @property
    def policy_version(self) -> int:
        """Version of the scoring policy's weights."""
        return self.policy.engine.version

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Score each sequence once, from its first sampled token on."""
        rollouts = Rollouts(group.trajectories)
        passes = [_pass(rollouts, t, s) for t in group for s in range(len(t.sequences))]
        passes = [one for one in passes if one.places]
        ids, spans = [one.ids for one in passes], [(one.start, len(one.ids)) for one in passes]
        scores = await self._score(ids, spans) if passes else []
        meter.count(calls=len(passes), tokens=sum(map(len, ids)))
        rows: dict[str, list[tuple[int, torch.Tensor]]] = {t.id: [] for t in group}
        for one, found in zip(passes, scores, strict=True):
            values = found.logprobs.detach().float().cpu()
            rows[one.trajectory] += [(turn, values[place - one.start]) for turn, place in one.places]
        # the order of a batch: by turn, and within a turn as they stand
        ordered = [value for t in group for _, value in sorted(rows[t.id], key=lambda row: row[0])]
        together = torch.stack(ordered) if ordered else torch.empty(0)
        return {self.column: Values(together, torch.ones(len(together), dtype=torch.bool))}

    async def _score(self, ids: list[tuple[int, ...]], spans: list[tuple[int, int]]) -> list[Scores]:
        """Ask the engine: a model in this process group by group, for what it kept of one decides the last bits of
        the next; a server for many groups at once."""
        engine = self.policy.engine
        if isinstance(getattr(engine, "model", None), torch.nn.Module):
            return engine.score(ids, spans, temperature=self.temperature)
        return await asyncio.to_thread(engine.score, ids, spans, temperature=self.temperature)


class _Pass(NamedTuple):
    """One forward pass: its tokens, and (turn, position) of every sampled one, in order."""

    trajectory: str
    ids: tuple[int, ...]
    places: list[tuple[int, int]]

    @property
    def start(self) -> int:
        """Position of the first sampled token."""
        return self.places[0][1]


def _pass(rollouts: Rollouts, trajectory: Trajectory, number: int) -> _Pass:
    sequence = trajectory.sequences[number]
    places: list[tuple[int, int]] = []
    at = sequence.prefix.length if sequence.prefix else 0
    for span in sequence.spans:
        if span.origin == "sampled":
            places += [(span.turn, at + i) for i in range(len(span))]
        at += len(span)
    if places and places[0][1] < 1:
        problem = "its first token is sampled: nothing stands before it to score it by"
        raise RecordError(problem, trajectory=trajectory.id, field=f"sequences[{number}]")
    return _Pass(trajectory.id, full_ids(rollouts, trajectory, number), places)
