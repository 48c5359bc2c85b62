"""What reproduces quirks of released code: turns that vanish, turns that fuse, baselines by token position.

Nothing else in the package does. Each quirk is an explicit stage, so that a trace shows it.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from workbench.batch import Batch, Level
from workbench.credit import (
    Credit,
    Peers,
    Stage,
    center,
    chain,
    equals,
    fill,
    forget,
    mix,
    place,
    read,
    reward_to_go,
    same_level,
    spread,
    stage,
    task,
)
from workbench.credit.rules import one_of, within_trajectory
from workbench.losses import Aggregate, PolicyLoss, token_mean, trajectory_sum
from workbench.objective import Objective, Term, clipped
from workbench.recipes.base import Recipe
from workbench.recipes.gold import (
    Gain,
    Norm,
    Weight,
    at_answer,
    clip_scale,
    igpo_z,
    information_gain,
    times,
    turn_and_outcome,
)
from workbench.segments import backward_scan, number_keys, seg_count, seg_sum


def igpo_released(
    gamma: float = 1.0,
    gain: Gain = "logprob",
    norm: Norm = "separate",
    outcome_weight: Weight = 1.0,
    gain_weight: Weight = 1.0,
    by_std: bool = True,
    kl: float = 0.001,
    entropy: float = 0.001,
) -> Recipe:
    """IGPO as released in February 2026: a turn whose gain is exactly 0 is no turn.

    A raw gain of 0 leaves the statistics, and a normalised gain of 0 is no boundary either: the turn's tokens take the
    credit of the next turn, and no discount step is added.

    Args:
        gamma, gain, norm, outcome_weight, gain_weight: as in `igpo`, with the defaults of the training script.
        by_std: divide by the spread; False only subtracts the mean (norm_adv_by_std of the release).
        kl: weight of the k3 KL to the reference policy; needs the column "logprob_ref" unless 0.
        entropy: weight of the entropy bonus; needs the model's entropy per token unless 0.

    Source: GuoqingWang1/IGPO, verl/trainer/ppo/core_algos.py and train.sh.
    Differs: from the paper by log-probabilities, separate pools, and the vanishing turns.
    """
    one_of("igpo_released", "norm", norm, Norm)
    normed = igpo_z(task) if by_std else center(task)
    process = chain(times(information_gain(gain), gain_weight), forget(equals(0.0)))
    if norm == "joint":
        pooled = mix(process, times(at_answer(), outcome_weight), unknown="skip")
        rewards = chain(pooled, normed)
        rewards = chain(rewards, _forget_zero_process())
    else:
        ends = chain(times(chain(read("outcome")), outcome_weight), normed, place("turn", "unknown"))
        rewards = chain(mix(chain(process, normed, forget(equals(0.0))), ends, unknown="skip"))
    credit = chain(rewards, reward_to_go(gamma), fill("next"), spread("token"))
    return Recipe("igpo_released", credit, clipped(0.2, dual=3.0, aggregate=trajectory_sum, kl=kl, entropy=entropy))


def _no_boundary(credit: Credit, batch: Batch) -> Credit:
    ends = batch.last(credit.level, "trajectory")
    is_last = torch.zeros(len(credit), dtype=torch.bool)
    is_last[ends[ends >= 0]] = True
    return replace(credit, known=credit.known & (is_last | (credit.values != 0)))


def _forget_zero_process() -> Stage:
    """Forget units at exactly 0, except the last of each trajectory."""
    return stage(_forget_zero_process, _no_boundary, same_level, {})


def igpo_released_2025(reward: str = "token_reward") -> Recipe:
    """IGPO's first release (November 2025): token returns, minus the group's mean return at the same token position.

        G_p = r_p + G_{p+1} within a run of the mask,    A_{i,p} = G_{i,p} - (1 / G) sum_j G_{j,p}

    Args:
        reward: token-level column of rewards (gains and outcome at the boundary tokens).

    Source: GuoqingWang1/IGPO at its first release; historical, not a default.
    Differs: a spread is computed there and not used; rows without a token at a position count as 0 in its mean.
    """
    credit = chain(read(reward, "token"), _run_return(), _position_baseline())
    return Recipe("igpo_released_2025", credit, clipped(0.2, dual=3.0, aggregate=trajectory_sum))


def _sum_in_run(credit: Credit, batch: Batch) -> Credit:
    gap = torch.ones(len(credit), dtype=torch.bool)
    same = batch.token_sequence[1:] == batch.token_sequence[:-1]
    gap[1:] = ~(same & (batch.token_position[1:] == batch.token_position[:-1] + 1))
    rewards = torch.where(credit.known, credit.values, 0.0)
    return replace(credit, values=backward_scan(rewards, torch.cumsum(gap, 0), torch.ones_like(rewards)))


def _run_return() -> Stage:
    """Sum what follows within a run of adjacent tokens: a masked observation cuts the return."""
    return stage(_run_return, _sum_in_run, within_trajectory, {})


def _minus_position_mean(credit: Credit, batch: Batch) -> Credit:
    group = batch.up("token", "group")
    key = number_keys(group, batch.token_position)
    size = int(key.max()) + 1 if len(key) else 0
    members = seg_count(batch.trajectory_group, batch.count("group"))[group]
    return replace(credit, values=credit.values - seg_sum(credit.values, key, size, credit.known)[key] / members)


def _position_baseline() -> Stage:
    """Subtract the group's mean at the same token position; shorter rows count as 0."""
    return stage(_position_baseline, _minus_position_mean, within_trajectory, {})


def _scored_turn(batch: Batch, level: Level) -> Tensor:
    """(task, number of scored turns with a gain other than 0 before this one)."""
    gain = information_gain("logprob")(None, batch)
    counted = gain.known & (gain.values != 0)
    before = torch.cumsum(counted, 0) - counted.to(torch.int64)
    owner = batch.turn_trajectory
    start = torch.full((batch.count("trajectory"),), int(before.max()) + 1 if len(before) else 0)
    start.scatter_reduce_(0, owner, before, "amin", include_self=True)
    return number_keys(batch.up("turn", "group"), before - start[owner])


task_and_scored_turn = Peers("task_and_scored_turn", _scored_turn, ("gold_logprob", "gold_logprob_start"))
"""Turns of the same task, counted by their non-zero gains: an exact zero shifts the alignment."""


def _runs_of_equal(credit: Credit, batch: Batch) -> Credit:
    owner = batch.up(credit.level, "trajectory")
    new = torch.ones(len(credit), dtype=torch.bool)
    new[1:] = (credit.values[1:] != credit.values[:-1]) | (owner[1:] != owner[:-1])
    return replace(credit, values=torch.cumsum(new, 0).to(torch.float64))


def equal_runs() -> Stage:
    """Number the runs of adjacent units with exactly equal credit: how A2TGPO's loss finds its turns."""
    return stage(equal_runs, _runs_of_equal, within_trajectory, {})


def a2tgpo_released(
    gamma: float = 1.0,
    beta: float = 0.3,
    alpha: float = 0.3,
    low: float = 3e-3,
    high: float = 4e-3,
    adaptive: bool = True,
    aggregate: Aggregate = token_mean,
) -> Recipe:
    """A2TGPO as released: process term weighed by 0.3, log-probabilities, and turns found by equal advantages.

    Args:
        gamma, beta, low, high: as in `a2tgpo`.
        alpha: weight of the process term (0.3 in the script, 1.0 the function's default).
        adaptive: scale the clip by c_t.
        aggregate: token mean in the released settings, trajectory mean the function's default.

    Source: CuSO4-Chen/A-TGPO, compute_igpo_step_advantage, compute_policy_loss_gspo_turn, and its 4B script.
    Differs: alpha is not in Eq. 9; gains are of log-probabilities; a turn with a gain of exactly 0 vanishes and shifts
        the alignment of the later ones; adjacent turns with equal advantage share one ratio. Two more are a matter of
        the evidence: the release does not probe the prompt alone, so that the first search has no gain (leave
        gold_logprob_start unknown), and probes the last search before its result.
    """
    z = chain(information_gain("logprob"), forget(equals(0.0)), igpo_z(task_and_scored_turn))
    credit = turn_and_outcome(z, gamma, alpha)
    streams = {"clip_scale": clip_scale(z, beta), "segment": chain(credit, equal_runs())}
    loss = PolicyLoss(low, high, clip_scale="clip_scale" if adaptive else None, unit_stream="segment")
    return Recipe("a2tgpo_released", credit, Objective((Term("policy", loss, 1.0, aggregate),)), streams)
