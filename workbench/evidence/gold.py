"""The gold-answer probe: how likely the policy finds the gold answer after every turn. Fills `gold_logprob`.

    gold_logprob_t = mean over the gold answer's tokens j of  log pi(a_j | what the agent saw after turn t, a_<j)

The answer is forced where the agent would write next, in the policy's own format (`Renderer.answer_probe`). All turns,
rollouts and aliases of a group are scored together; what they share goes through the model once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import torch

from workbench.evidence.answers import gold_answers
from workbench.evidence.base import Meter, Provider, Reads, Sees, Values
from workbench.evidence.contexts import Tokens, after_turn, before_turn
from workbench.evidence.scoring import check_vocabulary, model_hash
from workbench.policy.base import Policy
from workbench.policy.hf import HFEngine
from workbench.policy.packed import check_finite, check_packing, score_pack
from workbench.policy.scoring import ROUNDING, check_scores
from workbench.policy.token_tree import LIMIT, Range, pack
from workbench.rollouts import Rollouts
from workbench.trajectory import Group, RecordError, Trajectory

Aliases = Literal["first", "best", "mean"]
FEWER = 3
"""The engine's own keys are used where that forwards this many times fewer token places than packing: a place costs it
about twice as much there (benchmarks/probe.py, table c), because rows are padded and keys copied to them."""
BEFORE = -1
"""The place before a trajectory's first own turn."""


class Probe(NamedTuple):
    """One forced answer.

    Args:
        member: index of the trajectory in its group.
        turn: after this turn, or `BEFORE`.
        ids: what the agent saw there, and the answer in its format.
        span: [start, stop) of the answer's tokens in `ids`.
    """

    member: int
    turn: int
    ids: Tokens
    span: Range


@dataclass(frozen=True)
class GoldProbe(Provider):
    """Ask the policy after every turn how likely the gold answer is: `gold_logprob` and `gold_logprob_start`.

        gold_logprob[t]     = mean_j log pi(a_j | context after turn t and its observation, a_<j)
        gold_logprob_start  = the same where the trajectory's own story begins: after the prompt; for a branch after
                              the last turn it shares with its parent

    Their differences telescope: the gains of a trajectory's turns sum to its last value minus the start. The answer
    is tokenised in place; a token that overlaps it counts. Log-probs are the policy's own, at temperature 1.

    Unknown: after the last turn (unless `after_last`) and turns that are passed over, without a gold answer, without
    tokens.

    Args:
        policy: whose belief is asked; its renderer gives the form of the answer.
        aliases: of several accepted answers, "first" asks for the first only; "best" takes the likeliest at each place
            (it may change from turn to turn); "mean" the mean of their log-probs.
        after_last: also ask after the last turn (which, as a rule, has just answered).
        every_turn: ask after the turns k, 2k, 3k ... only, counted from 1 (a branch goes on counting).
        limit: most tokens of one masked pass (see `workbench.policy.token_tree`).

    Source: Wang et al., IGPO, arXiv 2510.14967, sec. 3; released `info_gain.py`, `vectorized_gt_logprob.py`.
    Differs: the release forces "Now there's enough information to answer</think><answer>..." whatever the agent's
        format; here it is the renderer's own answer (`Answer: ...`, a call of the answering tool). The first release
        cut the answer's tokens by lengths of separately tokenised text, which merges shift; here (as in its second) by
        place in the text. Only the first alias is asked there, as is the default here.
    """

    policy: Policy = field(metadata={"key": False})
    aliases: Aliases = "first"
    after_last: bool = False
    every_turn: int = 1
    limit: int = field(default=LIMIT, metadata={"key": False})  # changes rounding only

    provides: ClassVar[Mapping[str, str]] = {"gold_logprob": "turn", "gold_logprob_start": "trajectory"}
    sees: ClassVar[tuple[Sees, ...]] = ("gold",)
    reads: ClassVar[tuple[Reads, ...]] = ("tokens", "gold")

    def __post_init__(self) -> None:
        if not isinstance(self.policy, Policy):
            raise TypeError(f"expected a Policy whose beliefs are asked, got {type(self.policy).__name__}")
        if self.aliases not in ALIASES:
            raise ValueError(f"expected aliases of {sorted(ALIASES)}, got {self.aliases!r}")
        if self.every_turn < 1:
            raise ValueError(f"expected every_turn of at least 1, got {self.every_turn!r}")
        if isinstance(self.policy.engine, HFEngine):
            check_packing(self.policy.engine.model)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The fields, and what a forced answer looks like."""
        return {**super().parameters, "policy": self.policy.name, "form": self.form}

    @property
    def form(self) -> str:
        """How an answer is forced, shown on "Paris"."""
        return "".join(self.policy.renderer.pieces(self.policy.renderer.answer_probe("Paris")[0]))

    @property
    def model(self) -> str:
        """Hash of the weights asked."""
        return model_hash(self.policy)

    @property
    def policy_version(self) -> int:
        """Version of the weights asked."""
        return self.policy.engine.version

    def check(self, rollouts: Rollouts) -> None:
        """Refuse rollouts of which nothing can be probed.

        Raises:
            RecordError: no trajectory has tokens, or none has a gold answer, or the policy has another tokenizer than
                who played; says what to do.
        """
        if not len(rollouts):
            return
        if not any(t.has_tokens for t in rollouts):
            problem = "no trajectory has tokens, and the gold-answer probe continues them; play the tasks with a policy"
            raise RecordError(problem, field="sequences")
        if not any(gold_answers(t) for t in rollouts):
            problem = "no trajectory has a gold answer to probe for; give gold={'answer': ...}"
            raise RecordError(problem, field="gold")
        check_vocabulary(self.policy, rollouts)

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Probe all turns and rollouts of a group at once."""
        probes = self.probes(group)
        asked = list(dict.fromkeys((probe.ids, probe.span) for probe in probes))  # rollouts share the prompt's
        scores = self.score([ids for ids, _ in asked], [span for _, span in asked], meter)
        mean = {one: float(score.double().mean()) for one, score in zip(asked, scores, strict=True)}
        found: dict[tuple[int, int], list[float]] = {}
        for probe in probes:
            value = sound(self.policy, mean[probe.ids, probe.span], group.trajectories[probe.member], probe.turn)
            found.setdefault((probe.member, probe.turn), []).append(value)
        best = {place: ALIASES[self.aliases](means) for place, means in found.items()}
        return {
            "gold_logprob": Values.of([best.get((m, k)) for m, t in enumerate(group) for k in range(len(t.turns))]),
            "gold_logprob_start": Values.of([best.get((m, BEFORE)) for m in range(len(group))]),
        }

    def probes(self, group: Group) -> list[Probe]:
        """List the forced answers of a group: members in order, their places in order, the aliases of each."""
        rollouts = Rollouts(group.trajectories)
        return [
            Probe(member, turn, (*context, *ids), (len(context) + start, len(context) + stop))
            for member, trajectory in enumerate(group)
            for turn, context in self._places(trajectory, rollouts)
            for ids, (start, stop) in self.answers(trajectory)
        ]

    def _places(self, trajectory: Trajectory, rollouts: Rollouts) -> list[tuple[int, Tokens]]:
        if not trajectory.turns or not trajectory.has_tokens:
            return []
        last = len(trajectory.turns) - (0 if self.after_last else 1)
        earlier = 0 if trajectory.parent is None else len(trajectory.path(rollouts.by_id).turns) - len(trajectory.turns)
        asked = [turn for turn in range(last) if (earlier + turn + 1) % self.every_turn == 0]
        seen = {BEFORE: before_turn(trajectory, 0, rollouts)}
        seen.update({turn: after_turn(trajectory, turn, rollouts) for turn in asked})
        return [(turn, context) for turn, context in seen.items() if context is not None]

    def answers(self, trajectory: Trajectory) -> list[tuple[list[int], Range]]:
        """Return each accepted answer as it is forced: its tokens, and [start, stop) of the answer in them."""
        golds = gold_answers(trajectory) or []
        forced = [self.policy.renderer.answer_probe(gold) for gold in golds[: 1 if self.aliases == "first" else None]]
        for gold, (_, (start, stop)) in zip(golds, forced, strict=False):
            if start >= stop:
                problem = f"the gold answer {gold!r} has no tokens; give a text or leave it out"
                raise RecordError(problem, trajectory=trajectory.id, field="gold")
        return forced

    def score(self, sequences: Sequence[Tokens], spans: Sequence[Range], meter: Meter) -> list[torch.Tensor]:
        """Score the spans: in a packed pass; from the engine's own keys where it still has most of them.

        Returns:
            per sequence the log-probs of its span.
        """
        engine = self.policy.engine
        if not sequences:
            return []
        if not isinstance(engine, HFEngine):
            meter.count(calls=len(sequences), tokens=sum(stop for _, stop in spans))
            found = check_scores(self.policy.name, engine.score(sequences, spans), spans, numbers=False)
            return [scores.logprobs for scores in found]
        tree = pack(sequences, spans)
        with engine.lock:  # it may be sampling in another thread
            missing = _missing(engine, sequences, spans)
            if len(missing) * max(missing) * FEWER <= len(tree):
                meter.count(calls=len(sequences), tokens=sum(missing))
                return check_finite([scores.logprobs.float().cpu() for scores in engine.score(sequences, spans)])
            meter.count(calls=len(sequences), tokens=len(tree))
            return score_pack(engine.model, tree, limit=self.limit)


def _missing(engine: HFEngine, sequences: Sequence[Tokens], spans: Sequence[Range]) -> list[int]:
    """Count the tokens of each sequence whose keys the engine does not have, or needs anew to predict the span."""
    return [stop - engine.tree.find(ids[: start - 1])[0] for ids, (start, stop) in zip(sequences, spans, strict=True)]


def sound(policy: Policy, logprob: float, trajectory: Trajectory, turn: int | None) -> float:
    """Return a mean log-prob of an answer, or raise RecordError where it can be none; it names the turn."""
    if not -math.inf < logprob <= ROUNDING:
        problem = f"policy {policy.name!r} answered {logprob}, which is no log-probability; check its weights"
        raise RecordError(problem, trajectory=trajectory.id, turn=turn if turn is None else max(turn, 0))
    return logprob


def _first(means: Sequence[float]) -> float:
    return means[0]


def _mean(means: Sequence[float]) -> float:
    return sum(means) / len(means)


ALIASES: dict[str, Callable[[Sequence[float]], float]] = {"first": _first, "best": max, "mean": _mean}


@dataclass(frozen=True)
class OnGoldProbe(Provider):
    """Base of providers that force the gold answer at places of their own.

    Args:
        policy: whose belief is asked.
    """

    policy: Policy = field(metadata={"key": False})

    @cached_property
    def probe(self) -> GoldProbe:
        """The gold-answer probe of the same policy."""
        return GoldProbe(self.policy)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The fields, and what a forced answer looks like."""
        return {**super().parameters, "policy": self.policy.name, "form": self.probe.form}

    @property
    def model(self) -> str:
        """Hash of the weights asked."""
        return model_hash(self.policy)

    @property
    def policy_version(self) -> int:
        """Version of the weights asked."""
        return self.policy.engine.version

    def check(self, rollouts: Rollouts) -> None:
        """Refuse rollouts of which nothing can be probed; see `GoldProbe.check`."""
        self.probe.check(rollouts)
