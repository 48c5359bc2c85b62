"""SIOP: without a gold answer, the answers a group agrees on are what a turn moves towards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import (
    Chain,
    ColumnRef,
    Credit,
    Node,
    Where,
    apply,
    chain,
    column,
    difference,
    fill,
    forget,
    mix,
    multiply,
    place,
    read,
    reward_to_go,
    spread,
    task,
    total,
    zscore,
)
from workbench.credit.rules import in_range, one_of
from workbench.losses import token_mean
from workbench.objective import Objective, clipped
from workbench.recipes.base import Recipe
from workbench.segments import number_keys, run_position, seg_count, seg_max, seg_sum

Reward = Literal["process", "majority", "frequency", "gold"]
CLUSTER = "answer_cluster"


@dataclass(frozen=True)
class LogAbove:
    """log(x + eps): the potential of a probability, finite at 0."""

    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return torch.log(x + self.eps)

    def __repr__(self) -> str:
        return f"log(x + {self.eps:g})"


# ------------------------------------------------------------------------------------------------------ the target


def _clusters(batch: Batch, cluster: Credit) -> tuple[Tensor, int, Tensor]:
    """(cluster of each trajectory or -1, number of clusters, task of each cluster)."""
    owner = batch.up("trajectory", "group")
    wrong = cluster.known & ((cluster.values < 0) | (cluster.values != cluster.values.round()))
    if bool(wrong.any()):
        first = int(torch.nonzero(wrong)[0])
        told = f"trajectory {batch.trajectories[first]!r} has {float(cluster.values[first]):g}"
        raise ValueError(f"{CLUSTER}: {told}; expected a whole number from 0 on, or unknown where there is no answer")
    code = torch.where(cluster.known, cluster.values.to(torch.int64), -1)
    key = number_keys(owner, number_keys(code))
    size = int(key.max()) + 1 if len(key) else 0
    home = seg_max(owner.to(torch.float64), key, size).to(torch.int64)
    return key, size, home


def cluster_frequency(batch: Batch, cluster: Credit) -> Tensor:
    """m_c = |c| / rollouts of the task that answered."""
    key, size, home = _clusters(batch, cluster)
    count = seg_count(key, size).to(torch.float64)
    answered = seg_sum(count, home, batch.count("group"))
    share = count / answered[home]
    return torch.where(key >= 0, share[key.clamp_min(0)] if size else 0.0, 0.0)


def reliable_frequency(batch: Batch, cluster: Credit, support: Credit, eta: float) -> Tensor:
    """q_c = softmax over the clusters of a task of log(m_c + 1e-12) + eta rho_c.

    rho_c is the mean support of the cluster's rollouts that have any, 0 if none has.
    """
    key, size, home = _clusters(batch, cluster)
    if not size:
        return torch.zeros(len(key), dtype=torch.float64)
    judged = seg_count(key, size, support.known)
    rho = seg_sum(support.values, key, size, support.known) / judged.clamp_min(1)
    share = cluster_frequency(batch, cluster)
    logit = torch.log(seg_max(share, key, size) + 1e-12) + eta * rho
    mass = torch.exp(logit - seg_max(logit, home, batch.count("group"))[home])
    q = mass / seg_sum(mass, home, batch.count("group"))[home]
    return torch.where(key >= 0, q[key.clamp_min(0)], 0.0)


def in_largest(batch: Batch, cluster: Credit) -> Tensor:
    """1 for the rollouts of the task's largest cluster (of equal ones the first that appears), 0 for the others."""
    key, size, home = _clusters(batch, cluster)
    if not size:
        return torch.zeros(len(key), dtype=torch.float64)
    first = torch.full((size,), len(key)).scatter_reduce_(0, key[key >= 0], torch.nonzero(key >= 0).flatten(), "amin")
    rank = seg_count(key, size).to(torch.float64) * (len(key) + 1) - first  # by size, then by place
    best = rank == seg_max(rank, home, batch.count("group"))[home]
    return torch.where(key >= 0, best[key.clamp_min(0)].to(torch.float64), 0.0)


def _unanswered(credit: Credit, batch: Batch, cluster: ColumnRef) -> Tensor:
    return ~cluster.at(batch, credit.level)[1]


def unanswered() -> Where:
    """Units of rollouts whose answer belongs to no cluster: there is none."""
    return Where("unanswered", _unanswered, (column(CLUSTER),))


def target(eta: float) -> Chain:
    """q_c of each rollout's own cluster; unknown where the rollout gave no answer."""
    cluster = read(CLUSTER, "trajectory")
    if eta == 0.0:
        return chain(apply(cluster_frequency, cluster))
    support = read("cluster_support", "trajectory")
    return chain(apply(reliable_frequency, cluster, support, unknown="skip", eta=eta), forget(unanswered()))


def _nobody_answered(credit: Credit, batch: Batch, cluster: ColumnRef) -> Tensor:
    known = cluster.at(batch, "trajectory")[1]
    owner = batch.up("trajectory", "group")
    return (seg_count(owner, batch.count("group"), known) == 0)[batch.up(credit.level, "group")]


def nobody_answered() -> Where:
    """Units of tasks in which no rollout has a cluster: there is nothing to compare with."""
    return Where("nobody_answered", _nobody_answered, (column(CLUSTER),))


# ----------------------------------------------------------------------------------------------------- the rewards


def _alone(credit: Credit, batch: Batch) -> Tensor:
    owner = batch.up(credit.level, "trajectory")
    return seg_count(owner, batch.count("trajectory"))[owner] + run_position(owner) == 1


def process_reward(q: Node, lam: float, eps: float, probability: str = "cluster_prob", lone: bool = False) -> Node:
    """How much each turn raised the probability of the answer the rollout gave, and the target at its end.

        r_t = q (log(p_t + eps) - log(p_{t-1} + eps)),    r_T = ... + (1 - lam) q

    Args:
        q: of each trajectory.
        lam: in [0, 1]; 1 leaves the end out.
        eps: added to both probabilities.
        probability: column of p after each turn; NAME_start is p after the prompt.
        lone: does the only turn of a rollout have a difference, too? As released it has only the end.
    """
    gain = chain(read(probability, "turn"), difference(f"{probability}_start", LogAbove(eps)))
    gain = chain(multiply(gain, chain(q, spread("turn"))), *([] if lone else [forget(Where("alone", _alone))]))
    return mix(gain, chain(q, place("turn", "unknown")), weights=(1.0, 1.0 - lam), unknown="skip")


def _one(batch: Batch, x: Credit) -> Tensor:
    return torch.ones_like(x.values)


def turn_credit(rewards: Node, gamma: float) -> Chain:
    """z-score over all turn rewards of a task, then what is still to come; a spread below 1e-6 divides by 1."""
    return chain(rewards, zscore(task, ddof=1, eps=1e-6, least=1e-6), reward_to_go(gamma), spread("token"))


def broadcast_credit(rewards: Node) -> Chain:
    """GRPO on the sum of a rollout's rewards: every turn gets the same."""
    z = zscore(task, ddof=1, eps=1e-6, singleton="keep")
    return chain(rewards, total("trajectory"), z, spread("token"))


def _rewards(reward: Reward, lam: float, eta: float, eps: float) -> Node:
    if reward == "process":
        return process_reward(target(eta), lam, eps)
    if reward == "gold":
        one = chain(apply(_one, read("gold_prob_start", "trajectory")))
        return process_reward(one, lam, eps, "gold_prob")
    vote = in_largest if reward == "majority" else cluster_frequency
    return chain(apply(vote, read(CLUSTER, "trajectory")), place("turn"))


def _objective(kl: float) -> Objective:
    return clipped(0.2, aggregate=token_mean, kl=kl)


def siop(
    gamma: float = 1.0,
    lam: float = 0.5,
    eta: float = 1.0,
    eps: float = 1e-8,
    reward: Reward = "process",
    broadcast: bool | None = None,
    kl: float = 0.005,
) -> Recipe:
    """Reward a turn by how much it raised the probability of an answer that many rollouts of the task agree on.

        q_c = softmax_c(log m_c + eta rho_c),   r_t = q_c (log p_t - log p_{t-1}),   r_T = ... + (1 - lam) q_c
        A_t = z(r_t) + gamma A_{t+1}

    c is the cluster of the rollout's own answer, m_c its share, rho_c how well its rollouts' tool responses support
    it, p_t what a frozen scorer thinks of the cluster's answers after turn t.

    Args:
        gamma: discount per turn.
        lam: how much of the reward lies in the turns, in [0, 1]; the end has 1 - lam.
        eta: how much support counts; 0 trusts the majority and needs no support. Of "process" only.
        eps: added to probabilities before the logarithm.
        reward: "process"; the ablations: "majority" (1 in the largest cluster, else 0), "frequency" (m_c, without
            support), "gold" (the gold answer is the only target, q = 1).
        broadcast: GRPO on the sum of a rollout's rewards; by default for "majority" and "frequency", which have one.
        kl: weight of the k3 KL to the reference policy; needs the column "logprob_ref" unless 0.

    Needs: answer_cluster, cluster_support (evidence: answers clustered by entailment or by embeddings), cluster_prob,
        cluster_prob_start (evidence: a frozen scorer's probability of the cluster's answers).
    Holds: no gold answer is read. A rollout without an answer is unknown: it is compared with nobody and not trained.
        Where all agree on a wrong answer, it is what they are rewarded for.
    Source: arXiv:2605.04984 by its abstract and its code. Reconstruction: that no answer is unknown is ours.
    Differs: see `siop_released`.
    """
    one_of("siop", "reward", reward, Reward)
    in_range("siop", "lam", lam, 0.0, 1.0)
    rewards = _rewards(reward, lam, eta, eps)
    together = reward in ("majority", "frequency") if broadcast is None else broadcast
    return Recipe("siop", broadcast_credit(rewards) if together else turn_credit(rewards, gamma), _objective(kl))


def siop_released(
    gamma: float = 1.0,
    lam: float = 0.5,
    eta: float = 1.0,
    eps: float = 1e-8,
    reward: Reward = "process",
    broadcast: bool | None = None,
    kl: float = 0.005,
) -> Recipe:
    """SIOP as released: every turn of a rollout without an answer has the reward 0, and is compared with the others.

    Args: as in `siop`.

    Source: dl-m9/SIOP, verl/utils/siop/siop_process_reward.py and verl/trainer/ppo/core_algos.py.
    Differs: 0 is no neutral reward: after the mean is subtracted it is blame. A difference that could not be scored is
        0 there, too; a scorer that cannot be reached gives zeros everywhere, which is an error here (of the evidence).
        A task in which nobody answered has zeros there and is unknown here: neither moves the policy.
    """
    one_of("siop_released", "reward", reward, Reward)
    in_range("siop_released", "lam", lam, 0.0, 1.0)
    compared = [] if reward == "gold" else [forget(nobody_answered())]
    rewards = chain(_rewards(reward, lam, eta, eps), fill(0.0), *compared)
    together = reward in ("majority", "frequency") if broadcast is None else broadcast
    credit = broadcast_credit(rewards) if together else turn_credit(rewards, gamma)
    return Recipe("siop_released", credit, _objective(kl))
