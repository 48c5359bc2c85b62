"""Methods with a value head: PPO with GAE over tokens and over turns; and the KL to a reference inside the reward."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import (
    Chain,
    Credit,
    Schedule,
    Stage,
    add,
    chain,
    gae,
    number,
    place,
    read,
    same_level,
    spread,
    stage,
    total,
    zscore,
)
from workbench.credit import batch as everything
from workbench.credit.params import ColumnRef
from workbench.credit.rules import one_of
from workbench.losses import PolicyLoss, ValueLoss, kl_k1, kl_k2, kl_k3, token_mean, unit_sum
from workbench.objective import Objective, Term
from workbench.recipes.base import Recipe, _without_untrainable

Estimator = Literal["k1", "k2", "k3"]


def sampled_kl(logprob_old: Tensor, logprob_ref: Tensor, estimator: Estimator = "k1") -> Tensor:
    """Return an estimate of KL(policy that sampled || reference) at each token.

        d = l_old - l_ref;    k1: d    k2: d^2 / 2    k3: exp(-d) + d - 1 (bounded as in `kl_k3`)

    Args:
        logprob_old, logprob_ref: [T], of the sampled tokens.
        estimator: which one.

    Example:
        >>> sampled_kl(torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -1.0])).tolist()
        [0.5, -1.0]
    """
    return {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}[estimator](logprob_old, logprob_ref)


def _kl_penalty(credit: Credit, batch: Batch, beta: float | Schedule, estimator: Estimator, reference: str) -> Credit:
    if credit.level != "token":
        raise ValueError(f"kl_penalty: log-probs are of tokens, the reward is on {credit.level!r}; place it first")
    (old, was), (ref, there) = (ColumnRef(name).at(batch, "token") for name in ("logprob_old", reference))
    kl = sampled_kl(old.to(torch.float64), ref.to(torch.float64), estimator)
    known = credit.known & was & there
    rewards = torch.where(known, credit.values - number(beta, batch, "token") * kl, 0.0)
    return replace(credit, values=rewards, known=known)


def kl_penalty(beta: float | Schedule, estimator: Estimator = "k1", reference: str = "logprob_ref") -> Stage:
    """Subtract the KL to a reference policy from the reward of each token, before returns are taken.

        r_t = x_t - beta * k(l_old,t, l_ref,t)

    It is part of the reward: later credit (returns, advantages, baselines) sees it, its own gradient is none. The
    other way, a term of the loss, is `Term("kl", KLLoss(...))`.

    Args:
        beta: weight, a number or a schedule of the step.
        estimator: see `sampled_kl`; k1 is unbiased and can be negative.
        reference: column of the reference's log-probs.

    A token whose log-probs are unknown gets no reward that is known.

    Source: Ouyang et al. 2022, arXiv:2203.02155, Eq. 2; verl's use_kl_in_reward (apply_kl_penalty).
    Differs: beta does not adapt to a target; `linear(...)` moves it.

    Example:
        >>> from workbench.credit import chain, place, read
        >>> chain(read("outcome"), place("token"), kl_penalty(0.01))
        read('outcome') > place('token') > kl_penalty(0.01)
    """
    one_of("kl_penalty", "estimator", estimator, Estimator)
    params = {"beta": beta, "estimator": estimator, "reference": reference}
    return stage(kl_penalty, _kl_penalty, same_level, params, columns=("logprob_old", reference))


def _trained(credit: Credit, batch: Batch) -> Credit:
    return _without_untrainable(credit, batch)


def trained() -> Stage:
    """Drop units that must not be trained before time is counted: a step is something this policy did."""
    return stage(trained, _trained, same_level, {})


def _token_reward(reward: str | None, beta: float | Schedule, estimator: Estimator) -> Chain:
    """The outcome at the last trained token, or turn rewards at the last of each turn, minus the KL penalty."""
    signal = read("outcome") if reward is None else read(reward, "turn")
    penalty = () if beta == 0.0 else (kl_penalty(beta, estimator),)
    return chain(signal, place("token"), *penalty, trained())


def _whiten() -> Stage:
    """verl's masked_whiten over the batch: (x - mean) / sqrt(var + 1e-8), sample variance."""
    return zscore(everything, ddof=1, eps=0.0, eps_root=1e-8)


def ppo(
    low: float = 0.2,
    high: float | None = None,
    gamma: float = 1.0,
    lam: float = 1.0,
    value_weight: float = 0.5,
    value_clip: float | None = None,
    whiten: bool = True,
    kl_reward: float | Schedule = 0.0,
    estimator: Estimator = "k1",
    reward: str | None = None,
) -> Recipe:
    """Compare what came with what a value head expected, at every token.

        d_t = r_t + gamma V_{t+1} - V_t,    A_t = d_t + gamma lam A_{t+1},    y_t = A_t + V_t,    V after the end = 0
        loss = PPO clip(A whitened over the batch) + value_weight mean_t (V(s_t) - y_t)^2

    t runs over the sampled tokens of a trajectory, one behind the other: observations take no time, nor do turns that
    must not be trained (a turn reward on such a turn counts for nothing; the outcome is on the last trained token).

    Args:
        low, high: clip half-widths; `high` is `low` by default.
        gamma, lam: discount and mixing, per token. At lam < 1 an outcome fades within some tens of tokens.
        value_weight: of the value loss.
        value_clip: how far a value may gain by moving from what it was; None for no limit.
        whiten: centre and scale the advantages over the tokens of the batch; returns are of the raw ones.
        kl_reward: beta of `kl_penalty`, a number or a schedule; needs the column "logprob_ref" unless 0.
        estimator: of that KL.
        reward: column of turn rewards, each at its turn's last token; None: the outcome at the last token.

    Needs: outcome (or the turn rewards); value, from the learner's value head; logprob_ref if kl_reward is not 0.
    Holds: with lam = gamma = 1 and no values, the raw advantage is the outcome.
    Source: Schulman et al. 2017, arXiv:1707.06347, Eqs. 7, 9 and 11; Schulman et al. 2016, arXiv:1506.02438, Eq. 16.
    Differs: no entropy bonus; whitening, gamma and lam as verl has them for language models.
    """
    advantage = chain(_token_reward(reward, kl_reward, estimator), gae(gamma, lam, "value"))
    credit = chain(advantage, _whiten()) if whiten else advantage
    value = Term("value", ValueLoss("returns", clip=value_clip), value_weight, token_mean)
    policy = Term("policy", PolicyLoss(low, low if high is None else high))
    return Recipe("ppo", credit, Objective((policy, value)), {"returns": chain(advantage, add("value"))})


def ppo_turn(
    low: float = 0.2,
    high: float | None = None,
    gamma: float = 1.0,
    lam: float = 1.0,
    value_weight: float = 0.5,
    value_clip: float | None = None,
    whiten: bool = True,
    kl_reward: float | Schedule = 0.0,
    estimator: Estimator = "k1",
    reward: str | None = None,
    ratio: Literal["token", "turn"] = "token",
) -> Recipe:
    """PPO in which a whole turn is one action: values and GAE at turn boundaries, one advantage for a turn's tokens.

        d_k = r_k + gamma V_{k+1} - V_k,    A_k = d_k + gamma lam A_{k+1},    y_k = A_k + V_k
        V_k: value of the state before the turn's first sampled token; the value loss is a mean over turns, there only

    Args:
        low, high, value_weight, value_clip, whiten, kl_reward, estimator: as in `ppo`; whitened over the turns of the
            batch; the KL of a turn is the sum over its tokens.
        gamma, lam: discount and mixing, per turn.
        reward: column of turn rewards; None: the outcome at the last turn.
        ratio: of the policy loss, at tokens or at turns.

    Needs: outcome (or the turn rewards); turn_value, from the learner's value head; logprob_ref if kl_reward is not 0.
    Holds: all tokens of a turn get the same.
    Source: named in arXiv:2512.17008 (turn-level advantage estimation); GAE as in arXiv:1506.02438, Eq. 16.
    Differs: that paper was not read; this is GAE with a turn as the unit of time, and PPO's loss as in `ppo`.
    """
    one_of("ppo_turn", "ratio", ratio, Literal["token", "turn"])
    rewards = chain(_token_reward(reward, kl_reward, estimator), total("turn"))
    advantage = chain(rewards, gae(gamma, lam, "turn_value"))
    credit = chain(advantage, *((_whiten(),) if whiten else ()), spread("token"))
    value = Term("value", ValueLoss("returns", "turn", value_clip, "turn_value"), value_weight, unit_sum("turn"))
    policy = Term("policy", PolicyLoss(low, low if high is None else high, ratio))
    returns = chain(advantage, add("turn_value"), spread("token"))
    return Recipe("ppo_turn", credit, Objective((policy, value)), {"returns": returns})
