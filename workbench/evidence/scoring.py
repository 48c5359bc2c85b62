"""Sampled tokens scored by a policy: the reference of a KL term, a teacher, or the same policy once more."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch

from workbench.evidence.base import Meter, Provider, Reads, Sees, Values
from workbench.policy.base import Engine, Policy, Scores
from workbench.policy.scoring import check_scores
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

    An engine without a `model` to look into (a server) is named by its `fingerprint`, or else by policy and version,
    which only tells its own versions apart.
    """
    engine = policy.engine
    model = getattr(engine, "model", None)
    if not isinstance(model, torch.nn.Module):
        return getattr(engine, "fingerprint", None) or f"{policy.name}@{engine.version}"
    version, known = _hashes.get(engine, (-1, ""))
    if version != engine.version:
        weights = getattr(engine, "weights", None) or model.state_dict()  # of a model, an engine may use a part
        known = weights_hash({name: value for name, value in weights.items() if torch.is_tensor(value)})
        _hashes[engine] = (engine.version, known)
    return known


def check_vocabulary(policy: Policy, rollouts: Rollouts) -> None:
    """Refuse a policy to which the tokens of the rollouts are other words: what it would say of them is nonsense.

    Args:
        policy: who is to score them.
        rollouts: of each policy that played, the first sampled tokens whose text was recorded are compared.

    Raises:
        RecordError: names the trajectory and turn, what was written and what this policy reads there.
    """
    seen: set[str] = set()
    for t in rollouts:
        for span in (s for sequence in t.sequences for s in sequence.spans):
            if span.origin != "sampled" or not span.pieces or t.turns[span.turn].policy in seen:
                continue
            seen.add(t.turns[span.turn].policy)
            written, read = "".join(span.pieces), "".join(_read_by(policy, span.ids))
            if written != read:
                problem = (
                    f"its tokens say {written[:40]!r}, and policy {policy.name!r} reads {read[:40]!r}: it has another "
                    "tokenizer. Give one with that of the policy that played"
                )
                raise RecordError(problem, trajectory=t.id, turn=span.turn, field="sequences")


def _read_by(policy: Policy, ids: Sequence[int]) -> tuple[str, ...]:
    try:
        return policy.renderer.pieces(ids)
    except (IndexError, KeyError, OverflowError, TypeError, ValueError):  # no such tokens
        return ("(no text)",)


@dataclass(frozen=True)
class SampledLogprobs(Provider):
    """Score the sampled tokens under a policy, each given all that stood before it.

    Args:
        policy: who scores; of the same tokenizer as the policy that played.
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

    def check(self, rollouts: Rollouts) -> None:
        """Refuse a policy with another tokenizer."""
        check_vocabulary(self.policy, rollouts)

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Score each sequence once, from its first sampled token on."""
        return {self.column: await score_sampled(self.policy, group, meter, temperature=self.temperature)}


@dataclass(frozen=True)
class TokenEntropy(Provider):
    """Ask how unsure the policy was at each sampled token: `token_entropy`, over its whole vocabulary.

        H_j = - sum_v p(v | context) log p(v | context)

    Args:
        policy: whose distribution; its engine must give entropies (`Engine.score(entropy=True)`).
        temperature: of the distribution; give that of the sampling where it was not 1.
    """

    policy: Policy = field(metadata={"key": False})
    temperature: float = 1.0
    provides: ClassVar[Mapping[str, str]] = {"token_entropy": "token"}
    reads: ClassVar[tuple[Reads, ...]] = ("tokens",)

    @property
    def model(self) -> str:
        """Hash of the policy's weights."""
        return model_hash(self.policy)

    @property
    def policy_version(self) -> int:
        """Version of the policy's weights."""
        return self.policy.engine.version

    def check(self, rollouts: Rollouts) -> None:
        """Refuse a policy with another tokenizer."""
        check_vocabulary(self.policy, rollouts)

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Forward each sequence once."""
        found = await score_sampled(self.policy, group, meter, temperature=self.temperature, entropy=True)
        return {"token_entropy": found}


Lead = Callable[[Trajectory, tuple[int, ...]], tuple[int, ...] | None]
"""What a sequence is scored as: (trajectory, ids) -> other ids with the same end, or None for not at all."""


async def score_sampled(
    policy: Policy,
    group: Group,
    meter: Meter,
    *,
    temperature: float = 1.0,
    entropy: bool = False,
    lead: Lead | None = None,
) -> Values:
    """Score the sampled tokens of a group, each sequence in one forward pass.

    Args:
        policy: who scores.
        group: whose tokens.
        meter: what it costs is counted here.
        temperature: of the distribution.
        entropy: return the entropy of the distribution of each token instead of its log-prob.
        lead: changes what stands before the tokens.

    Returns:
        one entry a sampled token, in the order of a batch (by turn); unknown where `lead` says so.

    Raises:
        ValueError: an entropy is asked of an engine that gives none.
    """
    rollouts = Rollouts(group.trajectories)
    found = [_pass(rollouts, t, s, lead) for t in group for s in range(len(t.sequences))]
    passes = [one for one in found if one.places]
    asked = [one for one in passes if one.ids]
    ids, spans = [one.ids for one in asked], [(one.start, len(one.ids)) for one in asked]
    answered = await _ask(policy, ids, spans, temperature, entropy) if asked else []
    scores = check_scores(policy.name, answered, spans, entropy=entropy)
    meter.count(calls=len(asked), tokens=sum(map(len, ids)))
    values = {one: _numbers(policy, score, entropy) for one, score in zip(asked, scores, strict=True)}
    rows: dict[str, list[tuple[int, torch.Tensor | None]]] = {t.id: [] for t in group}
    for one in passes:
        of = values.get(one)
        rows[one.trajectory] += [(turn, None if of is None else of[at - one.start]) for turn, at in one.places]
    # the order of a batch: by turn, and within a turn as they stand
    ordered = [value for t in group for _, value in sorted(rows[t.id], key=lambda row: row[0])]
    together = torch.stack([torch.zeros(()) if v is None else v for v in ordered]) if ordered else torch.empty(0)
    return Values(together, torch.tensor([v is not None for v in ordered], dtype=torch.bool))


def _numbers(policy: Policy, scores: Scores, entropy: bool) -> torch.Tensor:
    if entropy and scores.entropy is None:
        raise ValueError(
            f"the engine of {policy.name!r} gives no entropies; use one that runs the model in this process"
        )
    of = scores.entropy if entropy else scores.logprobs
    assert of is not None
    return of.detach().float().cpu()


async def _ask(
    policy: Policy, ids: list[tuple[int, ...]], spans: list[tuple[int, int]], temperature: float, entropy: bool
) -> list[Scores]:
    """Ask the engine: a model in this process group by group, for what it kept of one decides the last bits of
    the next; a server for many groups at once."""
    engine = policy.engine
    if isinstance(getattr(engine, "model", None), torch.nn.Module):
        return engine.score(ids, spans, temperature=temperature, entropy=entropy)
    return await asyncio.to_thread(engine.score, ids, spans, temperature=temperature, entropy=entropy)


@dataclass(frozen=True, eq=False)
class _Pass:
    """One forward pass: its tokens (none: it is not made), and (turn, position) of every sampled one, in order."""

    trajectory: str
    ids: tuple[int, ...]
    places: list[tuple[int, int]]

    @property
    def start(self) -> int:
        """Position of the first sampled token."""
        return self.places[0][1]


def _pass(rollouts: Rollouts, trajectory: Trajectory, number: int, lead: Lead | None = None) -> _Pass:
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
    ids = full_ids(rollouts, trajectory, number)
    if lead is None or not places:
        return _Pass(trajectory.id, ids, places)
    changed = lead(trajectory, ids)
    shift = 0 if changed is None else len(changed) - len(ids)
    return _Pass(trajectory.id, changed or (), [(turn, place + shift) for turn, place in places])
