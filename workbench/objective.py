"""Credit to loss: a sum of named terms, each a loss per token with its own mask and aggregation.

    loss = sum_terms weight * sum_t w_t * l_t        w_t: one weight a token, from the aggregation, over the whole batch

Axis letters: T sampled tokens of the batch. Because every aggregation is a weight per token that is computed before the
batch is cut, micro-batches and ranks add up to the very same gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from workbench import show
from workbench.batch import Batch, Level
from workbench.credit import Credit, Schedule
from workbench.losses import Aggregate, EntropyLoss, KLLoss, Look, PolicyLoss, token_mean

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
    loss: Any
    weight: float | Schedule = 1.0
    aggregate: Aggregate = token_mean
    over: Literal["credited", "trainable"] = "credited"

    def counted(self, batch: Batch, credit: Credit) -> Tensor:
        """Which tokens of the whole batch count [T]."""
        if self.over == "credited":
            return credit.known
        if "trainable" not in batch.columns:
            return torch.ones(batch.count("token"), dtype=torch.bool)
        return batch["trainable"].values[batch.token_turn]

    def weight_at(self, step: int) -> float:
        """The weight at an update."""
        return self.weight(step) if isinstance(self.weight, Schedule) else float(self.weight)


GradientRule = Callable[[Mapping[str, Tensor], Callable[[Tensor], Tensor]], Tensor]
"""(gradient by term, norm over the whole model) -> gradient. The loop then takes one backward pass a term."""


@dataclass(frozen=True)
class DivideByNorm:
    """Divide one term's gradient by the norm of another's: g / ||C||, unchanged where C = 0.

    Source: ST-PPO, arXiv:2511.20718, Eqs. 7-8. The zero-norm case is a reconstruction.
    """

    term: str
    by: str
    least: float = 0.0

    def __call__(self, gradients: Mapping[str, Tensor], norm: Callable[[Tensor], Tensor]) -> Tensor:
        size = norm(gradients[self.by])
        size = size.clamp_min(self.least) if self.least else size
        return gradients[self.term] / torch.where(size == 0, torch.ones_like(size), size)


class Result(NamedTuple):
    """What an objective says about some tokens: the loss, its terms, and shares for the metrics."""

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

    def weights(self, batch: Batch, credit: Credit) -> dict[str, Tensor]:
        """Return per term its weight per token of the whole batch [T], float64."""
        return {
            term.name: term.weight_at(batch.step) * term.aggregate(batch, term.counted(batch, credit))
            for term in self.terms
        }

    def __call__(
        self,
        logprob: Tensor,
        batch: Batch,
        credit: Credit,
        streams: Mapping[str, Credit] | None = None,
        *,
        tokens: Tensor | None = None,
        entropy: Tensor | None = None,
    ) -> Result:
        """Compute the loss of some tokens of a batch.

        Args:
            logprob: [t] under the learning policy, for the tokens given (all by default).
            batch: the whole batch; `logprob_old` is read from it.
            credit: token-level credit of the whole batch.
            streams: token-level credits by name.
            tokens: which tokens, int [t]; whole units where a ratio is averaged over units. Parts add up to the whole.
            entropy: [t] in nats, if a term needs it.

        Raises:
            ValueError: credit is not on tokens, a length does not fit, or a counted token's old log-prob is unknown.
        """
        look, known = self._look(logprob, batch, credit, streams or {}, tokens, entropy)
        terms = {}
        for name, w, term in zip(*self._rows(batch, credit), self.terms, strict=True):
            terms[name] = (term.loss(look) * w[look.tokens].to(logprob.dtype)).sum()
        policy = [term.loss for term in self.terms if isinstance(term.loss, PolicyLoss)]
        clipped = int((policy[0].is_clipped(look) & known).sum()) if policy else 0
        count = int(known.sum())
        loss = torch.stack(list(terms.values())).sum()
        return Result(loss, terms, clipped / max(count, 1), count)

    def _rows(self, batch: Batch, credit: Credit) -> tuple[list[str], list[Tensor]]:
        weights = self.weights(batch, credit)
        return list(weights), list(weights.values())

    def _look(
        self,
        logprob: Tensor,
        batch: Batch,
        credit: Credit,
        streams: Mapping[str, Credit],
        tokens: Tensor | None,
        entropy: Tensor | None,
    ) -> tuple[Look, Tensor]:
        if credit.level != "token" or len(credit) != batch.count("token"):
            raise ValueError(f"objective: needs credit on the {batch.count('token')} tokens, got {credit.level!r}")
        at = torch.arange(batch.count("token")) if tokens is None else tokens
        if len(logprob) != len(at):
            raise ValueError(f"objective: {len(at)} tokens need as many log-probs, got {len(logprob)}")
        known = credit.known[at]
        look = Look(
            logprob,
            _old(logprob, batch, at, known),
            torch.where(known, credit.values[at], 0.0).to(logprob.dtype),
            batch,
            at,
            {name: streams[name].values[at].to(logprob.dtype) for name in self.streams},
            {name: batch[name].values[at].to(logprob.dtype) for name in self.needs},
            entropy,
        )
        return look, known

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
    """A loss as text, without what it merely reads."""
    import dataclasses

    shown = [
        f"{f.name}={getattr(loss, f.name)!r}"
        for f in dataclasses.fields(loss)
        if f.name not in ("needs", "streams") and getattr(loss, f.name) is not None
    ]
    return f"{type(loss).__name__}({', '.join(shown)})"


def _old(logprob: Tensor, batch: Batch, at: Tensor, known: Tensor) -> Tensor:
    """Sampling log-probs; where nobody stored any column, the policy is taken as its own sampler (ratio 1)."""
    if "logprob_old" not in batch.columns:
        return logprob.detach()
    column = batch["logprob_old"]
    missing = known & ~column.known[at]
    if bool(missing.any()):
        first = int(at[torch.nonzero(missing)[0]])
        raise ValueError(
            f"logprob_old: unknown for {int(missing.sum())} credited tokens, the first is token {first} of trajectory "
            f"{batch.trajectories[int(batch.turn_trajectory[batch.token_turn[first]])]!r}; "
            "score the rollouts with the policy that sampled them first"
        )
    return torch.where(column.known[at], column.values[at].to(logprob.dtype), logprob.detach())


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
