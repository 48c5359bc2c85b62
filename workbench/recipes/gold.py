"""Methods that ask the policy how likely the gold answer has become: information gain per turn."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import (
    Chain,
    Credit,
    Node,
    Schedule,
    Stage,
    apply,
    chain,
    delta,
    fill,
    forget,
    last,
    mix,
    place,
    read,
    reward_to_go,
    spread,
    task,
    task_and_turn,
    zscore,
)
from workbench.credit.peers import PeersLike
from workbench.credit.rules import one_of
from workbench.losses import PolicyLoss, trajectory_mean
from workbench.objective import Objective, Term, clipped
from workbench.recipes.base import Recipe

Gain = Literal["prob", "logprob"]
Norm = Literal["joint", "separate"]
Weight = float | Schedule


def information_gain(gain: Gain) -> Chain:
    """How much a turn raised the probability of the gold answer.

        prob:     r_t = exp(tau_t) - exp(tau_{t-1})        logprob:  r_t = tau_t - tau_{t-1}

    tau_t is the mean log-prob of the gold answer's tokens after turn t, tau_0 after the prompt alone. The last turn
    answers and has none.

    Source: IGPO, arXiv:2510.14967, Eqs. 3-4 (prob); the released script uses logprob.
    """
    one_of("information_gain", "gain", gain, Gain)
    link = torch.exp if gain == "prob" else None
    return chain(delta("gold_logprob", "gold_logprob_start", link), forget(last()))


def igpo_z(peers: PeersLike) -> Stage:
    """The z-score of the IGPO family: population variance, 1e-8 inside the root, 1e-6 outside, a lone value 0."""
    return zscore(peers, ddof=0, eps_root=1e-8, eps=1e-6)


def times(node: Node, weight: Weight) -> Node:
    """A node multiplied by a weight (itself if the weight is 1)."""
    return node if weight == 1.0 else mix(node, weights=(weight,))


def at_answer(*stages: Node) -> Chain:
    """The outcome after some stages, as the reward of the last turn."""
    return chain(read("outcome"), *stages, place("turn", "unknown"))


def igpo(
    gamma: float = 1.0,
    gain: Gain = "prob",
    norm: Norm = "joint",
    outcome_weight: Weight = 1.0,
    gain_weight: Weight = 1.0,
) -> Recipe:
    """Reward every turn by the information it gained about the gold answer, and the last one by the outcome.

        r_t = gain_t (t < T),  r_T = R;    A_t = z(r_t) + gamma A_{t+1}

    Args:
        gamma: discount per turn.
        gain: difference of probabilities or of log-probabilities.
        norm: "joint" z-scores gains and outcomes of a group in one pool; "separate" in a pool each.
        outcome_weight, gain_weight: of the raw rewards (a curriculum; cancels out under "separate").

    Needs: gold_logprob, gold_logprob_start (evidence: the gold-answer probe), outcome.
    Holds: an unscored turn takes the credit of the next scored one and adds no discount step.
    Source: arXiv:2510.14967, Eqs. 3-8.
    Differs: nothing from the paper's joint form; see `igpo_released`.
    """
    one_of("igpo", "norm", norm, Norm)
    process, outcome = times(information_gain(gain), gain_weight), chain(read("outcome"))
    if norm == "joint":
        pooled = mix(process, times(at_answer(), outcome_weight), unknown="skip")
        rewards = chain(pooled, igpo_z(task))
    else:
        ends = chain(times(outcome, outcome_weight), igpo_z(task), place("turn", "unknown"))
        rewards = chain(mix(chain(process, igpo_z(task)), ends, unknown="skip"))
    credit = chain(rewards, reward_to_go(gamma), fill("next"), spread("token"))
    return Recipe("igpo", credit, clipped(0.2, aggregate=trajectory_mean))


def clip_widening(batch: Batch, z: Credit, beta: float) -> Tensor:
    """A2TGPO's clip scale: c = 1 + beta (2 sigmoid(z) - 1), in (1 - beta, 1 + beta).

    Source: arXiv:2605.06200, Eq. 11.
    """
    return 1.0 + beta * (2.0 * torch.sigmoid(z.values) - 1.0)


def _ones(batch: Batch, credit: Credit) -> Tensor:
    return torch.ones_like(credit.values)


def clip_scale(z: Node, beta: float) -> Chain:
    """The clip scale of every token: from the turn's z-score, 1 at the answer."""
    answer = chain(apply(_ones, chain(read("outcome"))), place("turn", "unknown"))
    return chain(
        mix(apply(clip_widening, z, beta=beta), answer, unknown="skip"), fill("next"), fill(1.0), spread("token")
    )


def turn_and_outcome(z: Node, gamma: float, alpha: float) -> Chain:
    """Rescaled sum of later z-scores, plus the outcome's z-score on every turn."""
    process = chain(z, reward_to_go(gamma, rescale="sqrt_terms"), fill("next"), fill(0.0))
    outcome = chain(read("outcome"), igpo_z(task), spread("turn"))
    return chain(mix(process, outcome, weights=(alpha, 1.0)), spread("token"))


def a2tgpo(
    gamma: float = 1.0,
    beta: float = 0.3,
    gain: Gain = "prob",
    alpha: float = 1.0,
    low: float = 3e-3,
    high: float = 4e-3,
) -> Recipe:
    """Compare a turn's information gain with the same turn of its siblings; clip useful turns more loosely.

        A_t = alpha D_t / sqrt(n_t) + z(R),   D_t = sum_{k >= t} gamma^{k-t} z_{(task, k)}(gain_k),   n_t terms
        c_t = 1 + beta (2 sigmoid(z_t) - 1),  turn ratio clipped to [1 - c_t low, 1 + c_t high]

    Args:
        gamma: discount per turn.
        beta: how far the clip is widened or narrowed.
        gain: difference of probabilities or of log-probabilities.
        alpha: weight of the process term; 1 in the paper.
        low, high: clip half-widths of the turn ratio.

    Needs: gold_logprob, gold_logprob_start (evidence: the gold-answer probe), outcome.
    Holds: the answer turn gets z(R) and clip scale 1; a turn without peers adds 0.
    Source: arXiv:2605.06200, Eqs. 3-11.
    Differs: see `a2tgpo_released`.
    """
    z = chain(information_gain(gain), igpo_z(task_and_turn))
    loss = PolicyLoss(low, high, ratio="turn", clip_scale="clip_scale")
    objective = Objective((Term("policy", loss, 1.0, trajectory_mean),))
    return Recipe("a2tgpo", turn_and_outcome(z, gamma, alpha), objective, {"clip_scale": clip_scale(z, beta)})
