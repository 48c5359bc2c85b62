"""Answers of a group clustered, and a frozen scorer's belief in them after every turn: what SIOP reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

from workbench.evidence.answers import find_answer, gold_answers
from workbench.evidence.base import Meter, Provider, Reads, Sees, Values
from workbench.evidence.contexts import Tokens, after_action, after_turn, before_turn
from workbench.evidence.gold import GoldProbe
from workbench.evidence.relations import ClusterBy, Embedding, Entailment, Relation, best_relation
from workbench.evidence.scoring import check_vocabulary, model_hash
from workbench.policy.base import Policy
from workbench.policy.token_tree import Range
from workbench.rollouts import Rollouts
from workbench.trajectory import Group, RecordError, Trajectory

Place = Literal["action", "observation"]
Target = Literal["cluster", "gold"]


def cluster_answers(answers: Sequence[str | None], relation: Relation, question: str = "") -> list[int | None]:
    """Cluster greedily: each answer that has no cluster opens one and takes in the later ones that say the same.

    They are compared with that first answer only, so the result depends on the order.

    Args:
        answers: of the rollouts of one task; None (or an empty text) gave none and is in no cluster.
        relation: when two answers say the same.
        question: stands before both.

    Source: SIOP, released `cluster_answers`.
    """
    found: list[int | None] = [None] * len(answers)
    left = [i for i, answer in enumerate(answers) if answer]
    number = 0
    while left:
        first, *rest = left
        same = relation.same(question, str(answers[first]), [str(answers[i]) for i in rest])
        if len(same) != len(rest):
            raise ValueError(f"{type(relation).__name__}: asked about {len(rest)} answers, got {len(same)} verdicts")
        for i in (first, *(i for i, equal in zip(rest, same, strict=True) if equal)):
            found[i] = number
        left = [i for i, equal in zip(rest, same, strict=True) if not equal]
        number += 1
    return found


def references(answers: Sequence[str | None], clusters: Sequence[int | None], most: int = 3) -> list[tuple[str, ...]]:
    """Return for each rollout the first `most` distinct answers of its cluster; () without an answer.

    Example:
        >>> references(["Paris", "paris, france", None], [0, 0, None])
        [('Paris', 'paris, france'), ('Paris', 'paris, france'), ()]
    """
    told: dict[int, list[str]] = {}
    for answer, cluster in zip(answers, clusters, strict=True):
        if cluster is not None and (text := str(answer).strip()) not in told.setdefault(cluster, []):
            told[cluster].append(text)
    return [() if cluster is None else tuple(told[cluster][:most]) for cluster in clusters]


def mixture_probability(logprobs: Sequence[float]) -> float:
    """p = mean over the references of exp(mean log-prob of its tokens).

    Example:
        >>> round(mixture_probability([0.0, -1000.0]), 3)
        0.5
    """
    return sum(math.exp(one) for one in logprobs) / len(logprobs)


@dataclass(frozen=True)
class AnswerClusters(Provider):
    """Which answers of a group say the same, and how well each rollout's tool responses support its cluster's.

        answer_cluster    number of the cluster in the group; unknown without an answer
        cluster_support   mean support of the cluster's first answer by the rollout's responses; unknown without any

    Args:
        relation: compares texts: `Entailment`, or `Embedding` where no NLI model can be had; None takes the first that
            is there. What was used is in the columns' provenance as "cluster_by".
        cluster_by: instead of a relation: "nli" (an error where no NLI model is on this machine) or "embedding".
        answer: name of the call that answers.
        characters: so much of a response is read.

    Source: SIOP, arXiv:2605.04984; released `siop_cluster_pass`.
    Differs: the release puts the whole rendered prompt before each answer; here it is the question.
    """

    relation: Relation | None = field(default=None, metadata={"key": False})
    answer: str = "answer"
    characters: int = 2000
    cluster_by: ClusterBy | None = None
    provides: ClassVar[Mapping[str, str]] = {"answer_cluster": "trajectory", "cluster_support": "trajectory"}
    sees: ClassVar[tuple[Sees, ...]] = ("group", "future")
    reads: ClassVar[tuple[Reads, ...]] = ("messages",)

    def __post_init__(self) -> None:
        if self.cluster_by not in (None, "nli", "embedding"):
            raise ValueError(f"cluster_by: expected 'nli', 'embedding' or None, got {self.cluster_by!r}")
        if self.relation is not None and self.cluster_by not in (None, self.relation.cluster_by):
            given = f"cluster_by={self.cluster_by!r} and a relation that is {self.relation.cluster_by!r}"
            raise ValueError(f"expected one of relation and cluster_by, got {given}")

    @cached_property
    def compare(self) -> Relation:
        """The relation that is used."""
        if self.relation is not None:
            return self.relation
        if self.cluster_by == "nli":
            return Entailment.load()
        return Embedding() if self.cluster_by == "embedding" else best_relation()

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The fields, and what compares: its name and rule."""
        return {**super().parameters, **self.compare.parameters}

    @property
    def model(self) -> str:
        """Hash of what compares."""
        return self.compare.model_hash

    def last_answer(self, trajectory: Trajectory) -> str | None:
        """Return the answer a rollout gives last, or None."""
        said = [found for turn in trajectory.turns if (found := find_answer(turn, self.answer))]
        return said[-1] if said else None

    def clusters(self, group: Group) -> tuple[list[str | None], list[int | None]]:
        """Return the answer and the cluster of every rollout."""
        answers = [self.last_answer(t) for t in group]
        return answers, cluster_answers(answers, self.compare, question_of(group.trajectories[0]))

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Cluster one group."""
        answers, clusters = self.clusters(group)
        told = references(answers, clusters, 1)
        supports = [self._support(t, one[0]) if one else None for t, one in zip(group, told, strict=True)]
        meter.count(calls=len(group))
        return {"answer_cluster": Values.of(clusters), "cluster_support": Values.of(supports)}

    def _support(self, trajectory: Trajectory, reference: str) -> float | None:
        observed = [m.text.strip() for turn in trajectory.turns for m in turn.observations if m.role == "tool"]
        said = [text[: self.characters] for text in observed if text]
        if not said:
            return None
        scores = self.compare.support(said, [reference] * len(said))
        if len(scores) != len(said) or not all(0.0 <= score <= 1.0 + 1e-6 for score in scores):
            problem = f"{type(self.compare).__name__}: expected {len(said)} supports in [0, 1], got {scores}"
            raise RecordError(problem, trajectory=trajectory.id)
        return sum(scores) / len(scores)


def question_of(trajectory: Trajectory) -> str:
    """Return what was asked: what the world recorded, else the last message of the prompt."""
    asked = trajectory.extra.get("question")
    return str(asked) if asked else (trajectory.prompt[-1].text if trajectory.prompt else "")


class _Asked(NamedTuple):
    member: int
    turn: int
    ids: Tokens
    span: Range


@dataclass(frozen=True)
class ReferenceProbe(Provider):
    """Ask a frozen scorer how likely the answers of a rollout's own cluster are after every turn: `cluster_prob`.

        cluster_prob[t]     = mean_k exp(mean log p(reference k | prompt and everything up to the end of action t))
        cluster_prob_start  = the same after the prompt alone

    As released, what came back from action t is not read yet: it shows one turn later. Unknown where the rollout gave
    no answer, or has no tokens.

    Args:
        scorer: a policy that is not trained, of the same tokenizer as the one that played; its renderer gives the form
            of the answer.
        clusters: which answers are whose.
        references: so many different answers of a cluster are asked for.
        after: "action", as released; "observation" reads what came back, too.
        target: "cluster", or "gold": the gold answer instead (the columns are then gold_prob and gold_prob_start).

    Source: SIOP, arXiv:2605.04984; released `siop_cluster_pass` and `score_pseudo_inputs`.
    Differs: the answer is forced in the renderer's own form, behind the rollout's own tokens. A scorer that is missing
        or answers nonsense is an error; the release goes on with zeros.
    """

    scorer: Policy = field(metadata={"key": False})
    clusters: AnswerClusters = field(default_factory=AnswerClusters, metadata={"key": False})
    references: int = 3
    after: Place = "action"
    target: Target = "cluster"
    reads: ClassVar[tuple[Reads, ...]] = ("tokens", "messages", "gold")

    def __post_init__(self) -> None:
        if not isinstance(self.scorer, Policy):
            raise TypeError(f"expected a frozen Policy that scores answers, got {type(self.scorer).__name__}")
        if self.after not in ("action", "observation") or self.target not in ("cluster", "gold") or self.references < 1:
            given = f"after={self.after!r}, target={self.target!r}, references={self.references}"
            raise ValueError(f"expected after 'action' or 'observation', target 'cluster' or 'gold'; got {given}")

    @property
    def provides(self) -> Mapping[str, str]:  # type: ignore[override]
        """The probability after each turn, and after the prompt."""
        return {f"{self.target}_prob": "turn", f"{self.target}_prob_start": "trajectory"}

    @property
    def sees(self) -> tuple[Sees, ...]:  # type: ignore[override]
        """The whole group, or the gold answer; and another policy's belief."""
        return ("gold", "other policy") if self.target == "gold" else ("group", "future", "other policy")

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The fields, the scorer's name and form, and what the clusters were made by."""
        made = dict(self.clusters.parameters) if self.target == "cluster" else {}
        return {**super().parameters, **made, "scorer": self.scorer.name, "form": self.probe.form}

    @property
    def model(self) -> str:
        """Hash of the scorer's weights, and of what compares answers."""
        return model_hash(self.scorer) + (self.clusters.model if self.target == "cluster" else "")

    @cached_property
    def probe(self) -> GoldProbe:
        """The probe that forces an answer in the scorer's format."""
        return GoldProbe(self.scorer)

    def check(self, rollouts: Rollouts) -> None:
        """Refuse rollouts behind which nothing can be scored.

        Raises:
            RecordError: no trajectory has tokens, or for target "gold" a gold answer, or the scorer has another
                tokenizer than the policy that played.
        """
        if not any(t.has_tokens for t in rollouts):
            problem = "no trajectory has tokens, and the scorer continues them; play the tasks with a policy"
            raise RecordError(problem, field="sequences")
        if self.target == "gold" and not any(gold_answers(t) for t in rollouts):
            problem = "no trajectory has a gold answer to score; give gold={'answer': ...}, or the target 'cluster'"
            raise RecordError(problem, field="gold")
        check_vocabulary(self.scorer, rollouts)

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Score all places and references of a group together."""
        rollouts, told = Rollouts(group.trajectories), self._told(group)
        asked = [one for member, t in enumerate(group) for one in self._of(member, t, told[member], rollouts)]
        distinct = list(dict.fromkeys((one.ids, one.span) for one in asked))
        scores = self.probe.score([ids for ids, _ in distinct], [span for _, span in distinct], meter)
        if len(scores) != len(distinct):
            raise ValueError(f"scorer {self.scorer.name!r}: asked for {len(distinct)} answers, got {len(scores)}")
        mean = {one: float(score.double().mean()) for one, score in zip(distinct, scores, strict=True)}
        found: dict[tuple[int, int], list[float]] = {}
        for one in asked:
            value = self._sound(mean[one.ids, one.span], group.trajectories[one.member], one.turn)
            found.setdefault((one.member, one.turn), []).append(value)
        probability = {place: mixture_probability(logs) for place, logs in found.items()}
        turns, start = self.provides
        return {
            turns: Values.of(probability.get((m, k)) for m, t in enumerate(group) for k in range(len(t.turns))),
            start: Values.of(probability.get((m, -1)) for m in range(len(group))),
        }

    def _sound(self, logprob: float, trajectory: Trajectory, turn: int) -> float:
        if not -math.inf < logprob <= 1e-4:
            problem = f"scorer {self.scorer.name!r} answered {logprob}, which is no log-probability; check its weights"
            raise RecordError(problem, trajectory=trajectory.id, turn=max(turn, 0))
        return logprob

    def _told(self, group: Group) -> list[tuple[str, ...]]:
        if self.target == "gold":
            return [tuple((gold_answers(t) or [])[:1]) for t in group]
        answers, clusters = self.clusters.clusters(group)
        return references(answers, clusters, self.references)

    def _of(self, member: int, trajectory: Trajectory, told: Sequence[str], rollouts: Rollouts) -> list[_Asked]:
        if not told or not trajectory.has_tokens or not trajectory.turns:
            return []
        look = after_action if self.after == "action" else after_turn
        seen = {-1: before_turn(trajectory, 0, rollouts)}
        seen.update({k: look(trajectory, k, rollouts) for k in range(len(trajectory.turns))})
        forced = [self.scorer.renderer.answer_probe(text) for text in told]
        return [
            _Asked(member, turn, (*context, *ids), (len(context) + start, len(context) + stop))
            for turn, context in seen.items()
            if context is not None
            for ids, (start, stop) in forced
            if stop > start
        ]
