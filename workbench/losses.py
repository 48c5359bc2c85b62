"""Losses per token, and how they become one number. Each equation is one function; each loss is a value that calls it.

Axis letters: T sampled tokens of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from workbench.batch import Batch, Level
from workbench.segments import run_starts, seg_count, seg_mean

LOG_RATIO_BOUND = 20.0  # verl clamps the token log-ratio to +-20 before the exponential
UNIT_LOG_RATIO_CAP = 10.0  # GSPO and A2TGPO cap the mean log-ratio at +10


class Look(NamedTuple):
    """What a loss sees. All [T] tensors are cut to the same tokens.

    Args:
        logprob: of the sampled tokens under the policy that learns; carries the gradient.
        logprob_old: under the policy that sampled.
        credit: of the recipe, cast to the dtype of `logprob`; 0 where unknown.
        batch: the whole batch.
        tokens: which tokens of the batch these are.
        streams: further credits of the recipe, by name, cut likewise; float64.
        columns: columns by name (copied down to tokens), cut likewise.
        outputs: what else the model says per token, with gradient: "entropy" in nats, "value" of a value head ...
        known: bool, has the token credit? One without (it must not be trained, or was dropped) enters no shared ratio.
    """

    logprob: Tensor
    logprob_old: Tensor
    credit: Tensor
    batch: Batch
    tokens: Tensor
    streams: Mapping[str, Tensor]
    columns: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    known: Tensor


class Loss:
    """A loss per token: a value that says which columns, streams and outputs of the model it reads."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ()

    @property
    def streams(self) -> tuple[str, ...]:
        """Streams of the recipe it reads."""
        return ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """What it asks of the model beside log-probs."""
        return ()

    def __call__(self, look: Look) -> Tensor:
        raise NotImplementedError


# ------------------------------------------------------------------------------------------- ratio and clip


def unit_of(batch: Batch, level: Level) -> Tensor:
    """Return the unit of each token in which a ratio is averaged: "sequence" means the whole trajectory."""
    return batch.up("token", "trajectory" if level == "sequence" else level)


def importance_ratio(
    logprob: Tensor,
    logprob_old: Tensor,
    unit: Tensor | None = None,
    through: Literal["token", "unit"] = "token",
) -> Tensor:
    """Return the importance ratio of each token.

        token:  r_t = exp(l_t - l_old,t)
        unit:   s   = exp(mean over the unit's tokens of (l - l_old))
                r_t = exp(l_t - sg l_t + sg log s)      through="token": the value of s, the token's own gradient
                r_t = s                                 through="unit":  the gradient of all the unit's tokens

    Args:
        logprob, logprob_old: [T].
        unit: int [T], or None for the token ratio; a token in no unit (-1) has its own ratio.
        through: whose log-probs the gradient of a unit's ratio flows through. Where credit is constant in a unit,
            both give the same gradient.

    Returns:
        r [T].

    Source: token: Schulman et al. 2017, arXiv:1707.06347; sequence: GSPO, arXiv:2507.18071, Eq. 7, through="token" is
        GSPO-token; turn: A2TGPO, arXiv:2605.06200 (through="token"), ST-PPO, arXiv:2511.20718 (through="unit").
    """
    gap = logprob - logprob_old
    if unit is None:
        return torch.exp(gap.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND))
    size = int(unit.max()) + 1 if len(unit) else 0
    mean = seg_mean(gap.detach() if through == "token" else gap, unit, size)
    shared = mean[unit.clamp_min(0)] if size > 0 else gap
    if through == "token":
        shared = logprob - logprob.detach() + shared
    return torch.exp(torch.where(unit >= 0, shared, gap).clamp(max=UNIT_LOG_RATIO_CAP))


def clipped_surrogate(ratio: Tensor, advantage: Tensor, low: Tensor, high: Tensor, dual: float | None) -> Tensor:
    """Return the clipped policy loss of each token (to be minimised).

        l = max(-A r, -A clip(r, 1 - low, 1 + high));    dual, for A < 0 only:  l = min(l, -dual * A)

    Args:
        ratio, advantage: [T].
        low, high: half-widths of the clip, [T] or scalars.
        dual: bound of the loss for negative advantages, > 1; None for none.

    Source: Schulman et al. 2017, Eq. 7; dual clip: Ye et al. 2020, arXiv:1912.09729, Eq. 5.
    """
    clipped = torch.minimum(torch.maximum(ratio, 1 - low), 1 + high)
    loss = torch.maximum(-advantage * ratio, -advantage * clipped)
    return loss if dual is None else torch.where(advantage < 0, torch.minimum(loss, -dual * advantage), loss)


def kl_k1(logprob: Tensor, logprob_ref: Tensor) -> Tensor:
    """Return the k1 estimate of KL(policy || reference) per token: d = l - l_ref. Unbiased, can be negative."""
    return logprob - logprob_ref


def kl_k2(logprob: Tensor, logprob_ref: Tensor) -> Tensor:
    """Return the k2 estimate: d^2 / 2. Biased, low variance."""
    return 0.5 * (logprob - logprob_ref) ** 2


def kl_k3(logprob: Tensor, logprob_ref: Tensor) -> Tensor:
    """Return the k3 estimate: exp(d) - d - 1 with d = l_ref - l, bounded as in verl. Unbiased, >= 0.

    Source: Schulman 2020, "Approximating KL divergence"; verl core_algos (d to +-20, result to +-10).
    """
    d = (logprob_ref - logprob).clamp(-20.0, 20.0)
    return (torch.exp(d) - d - 1).clamp(-10.0, 10.0)


# --------------------------------------------------------------------------------------- losses, as values


@dataclass(frozen=True)
class PolicyLoss(Loss):
    """The clipped surrogate at a ratio level.

    Args:
        low, high: clip half-widths.
        ratio: "token", a unit ("turn", "segment" ...) or "sequence".
        dual: bound for negative advantages; None for none.
        clip_scale: stream that multiplies both half-widths per token; None for 1.
        unit_stream: stream whose equal values make the unit of the ratio, instead of `ratio`.
        through: whose gradient a unit's ratio carries; see `importance_ratio`.
    """

    low: float
    high: float
    ratio: Level = "token"
    dual: float | None = None
    clip_scale: str | None = None
    unit_stream: str | None = None
    through: Literal["token", "unit"] = "token"

    @property
    def streams(self) -> tuple[str, ...]:
        return tuple(name for name in (self.clip_scale, self.unit_stream) if name)

    def ratios(self, look: Look) -> Tensor:
        """The ratio of each token [T]."""
        return importance_ratio(look.logprob, look.logprob_old, self.units(look), self.through)

    def units(self, look: Look) -> Tensor | None:
        """The unit of each token in which the ratio is averaged [T], -1 without credit; None for the token ratio."""
        if self.unit_stream:
            unit = torch.unique(look.streams[self.unit_stream], return_inverse=True)[1]
        elif self.ratio == "token":
            return None
        else:
            unit = unit_of(look.batch, self.ratio)[look.tokens]
        return torch.where(look.known, unit, -1)

    def bounds(self, look: Look) -> tuple[Tensor, Tensor]:
        """Clip half-widths of each token [T]."""
        scale = look.streams[self.clip_scale].to(look.credit.dtype) if self.clip_scale else torch.ones_like(look.credit)
        return self.low * scale, self.high * scale

    def is_clipped(self, look: Look) -> Tensor:
        """Tokens whose gradient the clip removes, that of the dual clip included [T]."""
        ratio, (low, high) = self.ratios(look).detach(), self.bounds(look)
        beyond = (ratio < 1 - low) if self.dual is None else (ratio < 1 - low) | (ratio > self.dual)
        return ((look.credit > 0) & (ratio > 1 + high)) | ((look.credit < 0) & beyond)

    def __call__(self, look: Look) -> Tensor:
        low, high = self.bounds(look)
        return clipped_surrogate(self.ratios(look), look.credit, low, high, self.dual)


@dataclass(frozen=True)
class TruncatedPolicyLoss(PolicyLoss):
    """The clipped surrogate where another engine sampled: weighed by how likely the learner finds its tokens.

        w_t = min(p(t) / q(t), cap)      p: the learner before the update, q: the sampler; no gradient
        l_t = w_t * clipped surrogate of the ratio of the learner to itself before the update

    The clip then bounds what the update does, and `cap` what the difference of two engines, or a step of staleness,
    can weigh. The learner before the update is the learner itself: for one update a batch (`Plan.epochs` 1), where its
    ratio to itself is 1.

    Args:
        cap: largest weight.

    Source: Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training" (truncated
        importance sampling); the cap is 2 there.
    """

    cap: float = 2.0

    def correction(self, logprob: Tensor, logprob_old: Tensor) -> Tensor:
        """Return w of each token [T], and no gradient."""
        return importance_ratio(logprob.detach(), logprob_old).clamp(max=self.cap)

    def __call__(self, look: Look) -> Tensor:
        weight = self.correction(look.logprob, look.logprob_old)
        return weight * super().__call__(self._anchored(look))

    def is_clipped(self, look: Look) -> Tensor:
        return super().is_clipped(self._anchored(look))

    def _anchored(self, look: Look) -> Look:
        return look._replace(logprob_old=look.logprob.detach())


@dataclass(frozen=True)
class ClippedAway(Loss):
    """What the clip of a policy loss removed: -A r on the clipped tokens, 0 elsewhere.

    Its gradient is the clipping bias C of ST-PPO: the gradient of the unclipped loss is that of `of` plus C.
    """

    of: PolicyLoss

    @property
    def streams(self) -> tuple[str, ...]:
        return self.of.streams

    def __call__(self, look: Look) -> Tensor:
        gone = self.of.is_clipped(look).to(look.logprob.dtype)
        return -look.credit * self.of.ratios(look) * gone


@dataclass(frozen=True)
class LogProbLoss(Loss):
    """The score-function loss of REINFORCE: -A log p, without ratio and clip."""

    def __call__(self, look: Look) -> Tensor:
        return -look.credit * look.logprob


@dataclass(frozen=True)
class KLLoss(Loss):
    """KL to a reference policy by the k1, k2 or k3 estimator, from a token-level column of its log-probs."""

    estimator: Literal["k1", "k2", "k3"] = "k3"
    reference: str = "logprob_ref"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.reference,)

    def __call__(self, look: Look) -> Tensor:
        kl = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}[self.estimator]
        return kl(look.logprob, look.columns[self.reference])


@dataclass(frozen=True)
class EntropyLoss(Loss):
    """Minus the entropy of the policy at each token (a positive weight keeps it up)."""

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("entropy",)

    def __call__(self, look: Look) -> Tensor:
        return -look.outputs["entropy"]


def value_error(value: Tensor, target: Tensor, old: Tensor | None = None, clip: float | None = None) -> Tensor:
    """Return the squared error of values, optionally clipped: the value gains nothing by moving further than `clip`.

        (V - y)^2,    clipped:  max((V - y)^2, (V_old + clamp(V - V_old, -clip, clip) - y)^2)

    Args:
        value, target: V and y [T].
        old: V_old [T], before the update.
        clip: > 0; None for the plain error.

    Source: the clip is that of the reference implementation of PPO (OpenAI baselines); verl keeps it
        (compute_value_loss).
    """
    plain = (value - target) ** 2
    if clip is None or old is None:
        return plain
    return torch.maximum(plain, (old + (value - old).clamp(-clip, clip) - target) ** 2)


@dataclass(frozen=True)
class ValueLoss(Loss):
    """Squared error of a value head against a stream of returns; see `value_error`.

    Args:
        target: the stream.
        level: "token", or "turn": only at the first sampled token of each turn, 0 elsewhere; aggregate that by
            `unit_sum("turn")`, the mean over turns.
        clip: how far a value may gain by moving from the column `old`; None for no limit.
        old: column of the values before the update.
    """

    target: str
    level: Literal["token", "turn"] = "token"
    clip: float | None = None
    old: str = "value"

    @property
    def needs(self) -> tuple[str, ...]:
        return () if self.clip is None else (self.old,)

    @property
    def streams(self) -> tuple[str, ...]:
        return (self.target,)

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("value",)

    def __call__(self, look: Look) -> Tensor:
        value = look.outputs["value"]
        target, old = look.streams[self.target].to(value.dtype), look.columns.get(self.old)
        error = value_error(value, target, old, self.clip)
        return error if self.level == "token" else error * run_starts(look.batch.token_turn)[look.tokens]


@dataclass(frozen=True)
class CrossEntropyLoss(Loss):
    """Cross-entropy of the sampled tokens: -log p."""

    def __call__(self, look: Look) -> Tensor:
        return -look.logprob


# -------------------------------------------------------------------------------------------- aggregations


@dataclass(frozen=True)
class Aggregate:
    """How losses of tokens become one number: a weight per token.

    Args:
        name: "token_mean", "trajectory_mean", "trajectory_sum", "unit_sum" or "constant".
        size: the divisor of "constant"; the floor added to the divisor of "token_mean".
        unit: level of "unit_sum".
    """

    name: str
    size: float = 0.0
    unit: Level = "turn"

    def __call__(self, batch: Batch, counted: Tensor) -> Tensor:
        """Return w [T] (float64), 0 where not counted."""
        m = counted.to(torch.float64)
        if self.name == "constant":
            return m / self.size
        if self.name == "token_mean":
            return m / max(float(m.sum()) + self.size, 1e-300)
        level = self.unit if self.name == "unit_sum" else "trajectory"
        key, n = batch.up("token", level), batch.count(level)
        count = seg_count(key, n, counted)
        holders = max(int((count > 0).sum()), 1)
        inside = count[key.clamp_min(0)].clamp_min(1) if self.name == "trajectory_mean" else 1
        return m * (key >= 0) / (holders * inside)

    def __repr__(self) -> str:
        shown = {"constant": f"({self.size:g})", "unit_sum": f"({self.unit!r})"}.get(self.name, "")
        return self.name + (shown or (f"(+{self.size:g})" if self.size else ""))


token_mean = Aggregate("token_mean")
"""Sum over counted tokens / number of counted tokens: long trajectories weigh more."""
trajectory_mean = Aggregate("trajectory_mean")
"""Mean over trajectories of the mean over their counted tokens (verl: seq-mean-token-mean)."""
trajectory_sum = Aggregate("trajectory_sum")
"""Mean over trajectories of the sum over their counted tokens (verl: seq-mean-token-sum)."""


def unit_sum(unit: Level = "turn") -> Aggregate:
    """Mean over units of the sum over their counted tokens."""
    return Aggregate("unit_sum", unit=unit)


def constant_length(size: float) -> Aggregate:
    """Sum over counted tokens / a constant: unbiased in length (Dr. GRPO)."""
    if size <= 0:
        raise ValueError(f"constant_length: expected a positive divisor, got {size}")
    return Aggregate("constant", size)
