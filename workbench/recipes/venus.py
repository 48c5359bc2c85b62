"""DR-Venus: information gain for long browsing, with turns that are not scored and turns that break the format."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import (
    Chain,
    Credit,
    Node,
    Stage,
    apply,
    average,
    chain,
    column,
    difference,
    equals,
    every,
    fill,
    forget,
    last,
    mix,
    multiply,
    position,
    read,
    reward_to_go,
    scale,
    spread,
    stage,
    task,
)
from workbench.credit.rules import in_range, one_of, within_trajectory
from workbench.objective import clipped
from workbench.recipes.base import Recipe
from workbench.recipes.gold import Weight, at_answer, igpo_z, times
from workbench.segments import backward_scan, seg_count

VenusNorm = Literal["scaled_separate", "separate", "joint", "raw_ig"]
EPS = 1e-6
GATE = "gains_on"
"""Column of a warm-up: 1 where gains count; see `workbench.evidence.WarmUp`."""


def tool_gain(tool: str | None, every_turn: int = 1) -> Chain:
    """Information gain of the turns that called a tool, each against the last such turn (at first: the prompt).

        r_t = tau_t - tau_{last scored turn before t}

    Args:
        tool: its name; the batch says in the column "called_NAME" which turns called it. None scores every turn.
        every_turn: of these, score the turns k, 2k, 3k ... of a rollout, counted from 1.

    The last turn answers and has none; a turn that is not scored is unknown.

    Source: released ray_trainer.py, `_compute_async_info_gain`: the tool of turn t, and t % ig_compute_freq == 0.
    """
    scored = [] if tool is None else [forget(~column(f"called_{tool}"))]
    if every_turn != 1:
        scored.append(forget(~every(every_turn)))
    return chain(read("gold_logprob"), *scored, difference("gold_logprob_start"), forget(last()))


def diminished(batch: Batch, gain: Credit, rate: float) -> Tensor:
    """r_t / (1 + rate (t - 1)) where r_t > 0, r_t elsewhere; t counts all turns of the rollout, from 1.

    Source: released info_gain.py, `IGPO_IG_DIMINISH_RATE`, before any normalising.
    """
    x = gain.values
    return torch.where(x > 0, x / (1.0 + rate * position(batch, gain.level)), x)


def _broken(at: bool, penalty: float) -> Node:
    """-penalty at the malformed turns: at the last one (True) or at the others."""
    where = ~last() if at else last()
    return mix(chain(read("bad_format", "turn"), forget(equals(0.0)), forget(where)), weights=(-penalty,))


def penalised(reward: Node, answers: bool, penalty: float) -> Node:
    """Replace the reward of malformed turns by -penalty; itself if the penalty is 0."""
    if penalty == 0.0:
        return reward
    return mix(chain(reward, forget(column("bad_format"))), _broken(answers, penalty), unknown="skip")


def _gated(on: Node, off: Node | None) -> Node:
    """`on` where the column "gains_on" is not 0; where it is, `off` (unknown if None)."""
    gate = column(GATE)
    open_ = chain(on, forget(~gate))
    return open_ if off is None else mix(open_, chain(off, forget(gate)), unknown="skip")


def magnitude(batch: Batch, x: Credit) -> Tensor:
    """|x|"""
    return x.values.abs()


def matching_scale(batch: Batch, gain: Credit, outcome: Credit, floor: float, most: float) -> Tensor:
    """s = min(most, max(floor, mean |R|) / (mean |r| + 1e-6)): gains get the size of outcomes."""
    return (outcome.values.clamp_min(floor) / (gain.values + EPS)).clamp_max(most)


def mean_size(z: Node) -> Chain:
    """mean |z| over the whole batch."""
    return chain(apply(magnitude, z), average("batch"))


def gain_scale(gain: Node, outcome: Node, floor: float = 0.3, most: float = 10.0) -> Node:
    """The scale of normalised gains: one number for the whole batch, so every task moves it."""
    return apply(matching_scale, mean_size(gain), mean_size(outcome), floor=floor, most=most)


def _rewards(gain: Node, answer: Node, norm: VenusNorm, floor: float, most: float) -> tuple[Node, Node]:
    """Normalised gains and outcomes, each on its turns."""
    if norm == "joint":
        pooled = chain(mix(gain, answer, unknown="skip"), igpo_z(task))
        return chain(pooled, forget(last())), chain(pooled, forget(~last()))
    outcome = chain(answer, igpo_z(task))
    if norm == "raw_ig":
        return chain(gain, scale(task, ddof=0, eps_root=1e-8, eps=EPS)), outcome
    z = chain(gain, igpo_z(task))
    if norm == "separate":
        return z, outcome
    return multiply(z, chain(gain_scale(z, outcome, floor, most), spread("turn"))), outcome


def _fading(credit: Credit, batch: Batch, least: float) -> Credit:
    owner, n = batch.up(credit.level, "trajectory"), batch.count("trajectory")
    gamma = torch.as_tensor(least, dtype=torch.float64) ** (1.0 / seg_count(owner, n, credit.known).clamp_min(1))
    use = torch.nonzero(credit.known).flatten()
    out = credit.values.clone()
    out[use] = backward_scan(credit.values[use], owner[use], gamma[owner[use]])
    return replace(credit, values=out)


def fading_reward_to_go(least: float) -> Stage:
    """Accumulate with a discount of each trajectory's own: after all its n known units `least` is left.

    y_k = x_k + gamma y_{k+1},    gamma = least ** (1 / n)

    Args:
        least: in (0, 1].
    """
    return stage(fading_reward_to_go, _fading, within_trajectory, {"least": least})


def _outcome_everywhere(outcome: Node) -> Node:
    """The outcome at the answer, carried back to every turn of its trajectory."""
    return chain(outcome, fill("next"))


def dr_venus(
    gamma: float = 0.95,
    norm: VenusNorm = "scaled_separate",
    tool: str | None = None,
    penalty: float = 1.0,
    gain_weight: Weight = 1.0,
    outcome_curriculum: Weight = 1.0,
    gain_curriculum: Weight = 1.0,
    least_weight: float = 0.0,
    floor: float = 0.3,
    most: float = 10.0,
    kl: float = 0.001,
    every_turn: int = 1,
    diminish: float = 0.0,
    warm_up: bool = False,
) -> Recipe:
    """IGPO for long browsing: only some tools are scored, broken turns are punished, gains get the size of outcomes.

        r_t = s z(gain_t) (t < T),  r_T = z(R);    A_t = r_t + gamma A_{t+1} over the turns that are scored

    Args:
        gamma: discount per scored turn.
        norm: "joint" one pool of gains and outcomes; "separate" a pool each; "scaled_separate" separate, then all
            gains of the batch times s = min(most, max(floor, mean |z(R)|) / mean |z(gain)|); "raw_ig" gain / spread,
            not centred, plus z(R) on every turn, without a discount: where all gains of a task are equal, that spread
            is 1e-4, and they become thousands.
        tool: score only the turns that call it (the release: its page visit); None scores every turn.
        penalty: a malformed turn's gain, a malformed answer's outcome, is replaced by minus this, before the pools;
            0 does not look at the format.
        gain_weight: of gains after normalising.
        outcome_curriculum, gain_curriculum: further weights after normalising (a schedule).
        least_weight: > 0 (at most 1) for a discount of each rollout's own, least_weight ** (1 / scored turns), instead
            of gamma.
        floor, most: of the scale, at least 0.
        kl: weight of the k3 KL to the reference policy; needs the column "logprob_ref" unless 0.
        every_turn: score each k-th turn only (counted from 1; with a tool filter both must hold). The other turns need
            no probe: `GoldProbe(policy, every_turn=k)` as evidence makes the same credit for a k-th of the price.
        diminish: > 0 divides a gain above 0 by 1 + diminish (t - 1) before the pools: late gains count less.
        warm_up: outcomes alone, without gains and penalties, where the column gains_on is 0: until a running mean of
            the outcomes is high enough. Train with `evidence=[workbench.evidence.WarmUp(threshold)]`.

    Needs: gold_logprob, gold_logprob_start (the gold-answer probe), outcome; bad_format unless penalty is 0;
        called_TOOL if there is a tool filter; gains_on if there is a warm-up.
    Holds: an unscored turn takes the credit of the next scored one and adds no discount step; with equal outcomes the
        gains stay alive (the floor). Other tasks of the batch change the scale.
    Source: inclusionAI/DR-Venus, RL/verl/trainer/ppo/{info_gain_advantage,ray_trainer}.py, reward_score/info_gain.py,
        train_igpo.sh (whose run has no warm-up, no diminishing, and scores every turn that visits); arXiv:2604.19859.
    Differs: from IGPO by the scale, the filter, the penalty, and weights after normalising. During a warm-up the
        release's curriculum rests; here it goes on. A gain that is not finite is 0 there, and an error of the evidence
        here. The release's outcomes come from a judge; here they are whatever the column says.
    """
    one_of("dr_venus", "norm", norm, VenusNorm)
    for name, value in (("penalty", penalty), ("floor", floor), ("most", most), ("diminish", diminish)):
        in_range("dr_venus", name, value, 0.0)
    in_range("dr_venus", "least_weight", least_weight, 0.0, 1.0)
    plain = tool_gain(tool, every_turn)
    gain = penalised(apply(diminished, plain, rate=diminish) if diminish > 0 else plain, False, penalty)
    answer = penalised(at_answer(), True, penalty)
    if warm_up:
        gain, answer = _gated(gain, None), _gated(answer, at_answer())
    process, outcome = _rewards(gain, answer, norm, floor, most)
    process = times(process, gain_weight)
    if norm == "raw_ig":
        gamma, least_weight = 0.0, 0.0
        process = chain(mix(process, _outcome_everywhere(outcome)), forget(last()))
    rewards = mix(times(process, gain_curriculum), times(outcome, outcome_curriculum), unknown="skip")
    returns = fading_reward_to_go(least_weight) if least_weight > 0 else reward_to_go(gamma)
    return Recipe("dr_venus", chain(rewards, returns, fill("next"), spread("token")), clipped(0.2, kl=kl))
