"""Credit to loss: a sum of named terms, each a loss per token with its own mask and aggregation.

    loss = sum_terms weight * sum_t w_t * l_t        w_t: one weight a token, from the aggregation, over the whole batch

Axis letters: T sampled tokens of the batch. Because every aggregation is a weight per token that is computed before the
batch is cut, micro-batches and ranks add up to the very same gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from workbench import show
from workbench.batch import Batch, Level
from workbench.credit import ColumnRef, Credit, Schedule
from workbench.losses import (
    Aggregate,
    EntropyLoss,
    KLLoss,
    Look,
    Loss,
    PolicyLoss,
    TruncatedPolicyLoss,
    token_mean,
)

# ------------------------------------------------------------------------------------ terms and objectives


@dataclass(frozen=True)
class Term:
    """One named term of an objective.

    Args:
        name: in metrics and gradient rules.
        loss: a value called with a `Look`, giving a loss per token.
        weight: number or schedule; 0 for a term that only a gradient rule uses.
        aggregate: how token losses become one number.
        over: the tokens that count: "credited" (credit known) or "trainable" (all sampled tokens of trainable turns).
    """

    name: str
    loss: Loss
    weight: float | Schedule = 1.0
    aggregate: Aggregate = token_mean
    over: Literal["credited", "trainable"] = "credited"

    def counted(self, batch: Batch, credit: Credit) -> Tensor:
        """Which tokens of the whole batch count [T]."""
        if self.over == "credited":
            return credit.known
        if "trainable" not in batch.columns:
            return torch.ones(batch.count("token"), dtype=torch.bool)
        values, known = ColumnRef("trainable").at(batch, "token")
        return known & (values != 0)

    def weight_at(self, step: int) -> float:
        """The weight at an update."""
        return self.weight(step) if isinstance(self.weight, Schedule) else float(self.weight)


GradientRule = Callable[[Mapping[str, Tensor], Callable[[Tensor], Tensor]], Mapping[str, Tensor]]
"""(gradient by term, norm over the whole model) -> gradient by term. The loop then takes one backward pass a term; the
objective sums what the rule returns with the weights of the terms."""


@dataclass(frozen=True)
class DivideByNorm:
    """Divide one term's gradient by the norm of another's: g / ||C||, unchanged where C = 0; other terms stay.

    Args:
        term: whose gradient is divided.
        by: whose norm divides it; give that term weight 0.
        least: a smaller norm counts as this (1: only ever shrink).

    Source: ST-PPO, arXiv:2511.20718, Eqs. 7-8. The zero-norm case is a reconstruction.
    """

    term: str
    by: str
    least: float = 0.0

    def __call__(self, gradients: Mapping[str, Tensor], norm: Callable[[Tensor], Tensor]) -> Mapping[str, Tensor]:
        size = norm(gradients[self.by]).clamp_min(self.least)
        size = torch.where(size == 0, torch.ones_like(size), size)
        return {**gradients, self.term: gradients[self.term] / size}


class Result(NamedTuple):
    """What an objective says about some tokens.

    Args:
        loss: the weighted sum of the terms.
        terms: each term before its weight; take gradients of these where the objective has a rule.
        clip_share: share of the credited tokens whose gradient the first policy term's clip removes.
        counted: number of credited tokens.
    """

    loss: Tensor
    terms: Mapping[str, Tensor]
    clip_share: float
    counted: int


@dataclass(frozen=True)
class Objective:
    """A sum of terms, and how their gradients are put together if not by summing.

    Args:
        terms: names are unique.
        rule: gradient rule; None sums.
    """

    terms: tuple[Term, ...]
    rule: Any = None

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        if len(set(names)) != len(names):
            raise ValueError(f"objective: term names must be unique, got {names}")

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns the terms read."""
        return tuple(dict.fromkeys(name for term in self.terms for name in term.loss.needs))

    @property
    def streams(self) -> tuple[str, ...]:
        """Streams the terms read."""
        return tuple(dict.fromkeys(name for term in self.terms for name in term.loss.streams))

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the terms ask of the model beside log-probs: "entropy", "value" ..."""
        return tuple(dict.fromkeys(name for term in self.terms for name in term.loss.outputs))

    def weights(self, batch: Batch, credit: Credit) -> dict[str, Tensor]:
        """Return per term the share of each token of the whole batch [T], float64, before the term's weight."""
        return {term.name: term.aggregate(batch, term.counted(batch, credit)) for term in self.terms}

    def total(self, parts: Mapping[str, Tensor], step: int = 0) -> Tensor:
        """Sum one tensor a term (losses or gradients) with the weights of the terms at an update."""
        weighted = [(term.weight_at(step), parts[term.name]) for term in self.terms]
        return sum((w * part for w, part in weighted if w != 0.0), torch.zeros_like(weighted[0][1]))

    def gradient(self, gradients: Mapping[str, Tensor], norm: Callable[[Tensor], Tensor], step: int = 0) -> Tensor:
        """Put the gradients of the terms together: by the rule, then summed with the weights."""
        return self.total(self.rule(gradients, norm) if self.rule else gradients, step)

    def __call__(
        self,
        logprob: Tensor,
        batch: Batch,
        credit: Credit,
        streams: Mapping[str, Credit] | None = None,
        *,
        tokens: Tensor | None = None,
        outputs: Mapping[str, Tensor] | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Result:
        """Compute the loss of some tokens of a batch.

        Args:
            logprob: [t] under the learning policy, for the tokens given (all by default).
            batch: the whole batch; `logprob_old` is read from it.
            credit: token-level credit of the whole batch.
            streams: token-level credits by name.
            tokens: which tokens, int [t]; whole units where a ratio is averaged over units. Parts add up to the whole.
            outputs: what else the model says of these tokens, by name: "entropy" [t] in nats, "value" [t] ...
            weights: what `weights(batch, credit)` returned, so that micro-batches need not ask again.

        Raises:
            ValueError: credit is not on tokens, a length does not fit, or what a counted token needs is unknown.
        """
        weights = self.weights(batch, credit) if weights is None else weights
        look, known = self.look(logprob, batch, credit, streams, tokens, outputs, weights)
        terms = {
            term.name: (term.loss(look) * weights[term.name][look.tokens].to(logprob.dtype)).sum()
            for term in self.terms
        }
        policy = [term.loss for term in self.terms if isinstance(term.loss, PolicyLoss)]
        clipped = int((policy[0].is_clipped(look) & known).sum()) if policy else 0
        count = int(known.sum())
        return Result(self.total(terms, batch.step), terms, clipped / max(count, 1), count)

    def look(
        self,
        logprob: Tensor,
        batch: Batch,
        credit: Credit,
        streams: Mapping[str, Credit] | None = None,
        tokens: Tensor | None = None,
        outputs: Mapping[str, Tensor] | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> tuple[Look, Tensor]:
        """Return what the losses see at some tokens, and which of these have credit; arguments as in a call."""
        streams, outputs = streams or {}, outputs or {}
        weights = self.weights(batch, credit) if weights is None else weights
        if credit.level != "token" or len(credit) != batch.count("token"):
            raise ValueError(f"objective: needs credit on the {batch.count('token')} tokens, got {credit.level!r}")
        at = torch.arange(batch.count("token")) if tokens is None else tokens
        wrong = {name: len(x) for name, x in {"log-probs": logprob, **outputs}.items() if len(x) != len(at)}
        if wrong:
            raise ValueError(f"objective: {len(at)} tokens need as many values, got {wrong}")
        if missing := [name for name in self.outputs if name not in outputs]:
            raise ValueError(f"objective: the terms need {missing} of the model per token; give outputs={{name: [t]}}")
        if missing := [name for name in self.streams if name not in streams]:
            raise ValueError(f"objective: the terms need streams {missing}, got {sorted(streams)}")
        known = credit.known[at]

        def values(name: str, x: Tensor, there: Tensor) -> Tensor:
            counted = self._counted(name, weights, at)
            return _known_values(name, x[at], there[at], counted, batch, at)

        look = Look(
            logprob,
            _old(logprob, batch, at, known),
            torch.where(known, credit.values[at], 0.0).to(logprob.dtype),
            batch,
            at,
            {name: values(name, streams[name].values, streams[name].known) for name in self.streams},
            {name: values(name, *ColumnRef(name).at(batch, "token")).to(logprob.dtype) for name in self.needs},
            outputs,
            known,
        )
        return look, known

    def _counted(self, name: str, weights: Mapping[str, Tensor], at: Tensor) -> Tensor:
        """Tokens that count in a term which reads a column or stream of this name."""
        read = [t.name for t in self.terms if name in (*t.loss.needs, *t.loss.streams)]
        return torch.stack([weights[term][at] != 0 for term in read]).any(0)

    def __repr__(self) -> str:
        parts = [
            f"{term.weight if term.weight != 1.0 else ''}{'*' if term.weight != 1.0 else ''}"
            f"{term.name}[{_plain(term.loss)}; {term.aggregate!r}"
            f"{'' if term.over == 'credited' else '; over ' + term.over}]"
            for term in self.terms
        ]
        return " + ".join(parts) + (f" by {self.rule!r}" if self.rule else "")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return show.mimebundle(self)


def _plain(loss: Any) -> str:
    """A loss as text; parameters that have their default are left out."""
    shown = [f"{f.name}={getattr(loss, f.name)!r}" for f in fields(loss) if getattr(loss, f.name) != f.default]
    return f"{type(loss).__name__}({', '.join(shown)})"


def _old(logprob: Tensor, batch: Batch, at: Tensor, known: Tensor) -> Tensor:
    """Sampling log-probs; where nobody stored any column, the policy is taken as its own sampler (ratio 1)."""
    if "logprob_old" not in batch.columns:
        return logprob.detach()
    column = batch["logprob_old"]
    old = _known_values("logprob_old", column.values[at], column.known[at], known, batch, at).to(logprob.dtype)
    return torch.where(column.known[at], old, logprob.detach())


def _known_values(name: str, values: Tensor, known: Tensor, counted: Tensor, batch: Batch, at: Tensor) -> Tensor:
    """Values with 0 where unknown; an unknown one on a counted token is an error."""
    missing = counted & ~known
    if bool(missing.any()):
        first = int(at[torch.nonzero(missing)[0]])
        hint = "; score the rollouts with the policy that sampled them first" if name == "logprob_old" else ""
        raise ValueError(
            f"{name}: unknown for {int(missing.sum())} credited tokens, the first is token {first} of trajectory "
            f"{batch.trajectories[int(batch.turn_trajectory[batch.token_turn[first]])]!r}{hint}"
        )
    return torch.where(known, values, torch.zeros_like(values))


def clipped(
    low: float = 0.2,
    high: float | None = None,
    *,
    ratio: Level = "token",
    dual: float | None = None,
    clip_scale: str | None = None,
    aggregate: Aggregate = token_mean,
    kl: float | Schedule = 0.0,
    entropy: float = 0.0,
) -> Objective:
    """Return the usual objective: a clipped surrogate, and KL and entropy where their weight is not 0.

    Args:
        low, high: clip half-widths; `high` is `low` by default.
        ratio, dual, clip_scale: see `PolicyLoss`.
        aggregate: of every term.
        kl: weight of the k3 KL to the reference policy (needs the column "logprob_ref").
        entropy: weight of the entropy bonus.
    """
    loss = PolicyLoss(low, low if high is None else high, ratio, dual, clip_scale)
    terms = [Term("policy", loss, 1.0, aggregate)]
    if kl != 0.0:
        terms.append(Term("kl", KLLoss("k3"), kl, aggregate))
    if entropy != 0.0:
        terms.append(Term("entropy", EntropyLoss(), entropy, aggregate))
    return Objective(tuple(terms))


def truncated(objective: Objective, cap: float = 2.0) -> Objective:
    """Return an objective whose policy terms weigh tokens by the truncated ratio of learner and sampler.

    For runs whose sampler is another engine than the learner, or a step behind it; one update a batch.

    Args:
        objective: with a policy term.
        cap: see `TruncatedPolicyLoss`.

    Raises:
        ValueError: it has no policy term.

    Example:
        >>> truncated(clipped(0.2), cap=3.0)
        policy[TruncatedPolicyLoss(low=0.2, high=0.2, cap=3.0); token_mean]
    """

    def weighed(term: Term) -> Term:
        if type(term.loss) is not PolicyLoss:
            return term
        given = {f.name: getattr(term.loss, f.name) for f in fields(term.loss)}
        return replace(term, loss=TruncatedPolicyLoss(**given, cap=cap))

    terms = tuple(map(weighed, objective.terms))
    if terms == objective.terms:
        raise ValueError(f"expected a policy term to weigh, got {objective!r}")
    return replace(objective, terms=terms)


def cap_of(objective: Objective) -> float | None:
    """Return the cap of an objective's truncated correction; None where it has none."""
    caps = [term.loss.cap for term in objective.terms if isinstance(term.loss, TruncatedPolicyLoss)]
    return min(caps, default=None)
