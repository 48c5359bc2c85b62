"""Methods whose turns carry rewards: from the world (GiGPO) or from a gold tool trace (MatchTIR)."""

from __future__ import annotations

from typing import Literal

from workbench.credit import (
    Stage,
    center,
    chain,
    mix,
    place,
    read,
    reward_to_go,
    same_state,
    spread,
    task,
    task_and_turn,
    total,
    zscore,
)
from workbench.credit.core import Chain
from workbench.credit.normalise import Singleton
from workbench.credit.peers import PeersLike
from workbench.credit.rules import one_of
from workbench.losses import token_mean, trajectory_mean
from workbench.objective import clipped
from workbench.recipes.base import Recipe

Norm = Literal["mean", "mean_std"]


def _normed(peers: PeersLike, norm: Norm, singleton: Singleton) -> Stage:
    one_of("gigpo", "norm", norm, Norm)
    return center(peers, singleton=singleton) if norm == "mean" else zscore(peers, ddof=1, singleton=singleton)


def _step_return(gamma: float, reward: str | None) -> Chain:
    """Return of each turn; without a turn reward, the outcome arrives at the last turn."""
    signal = chain(read("outcome"), place("turn")) if reward is None else chain(read(reward, "turn"))
    return chain(signal, reward_to_go(gamma))


def gigpo(
    gamma: float = 0.95, turn_weight: float = 1.0, norm: Norm = "mean_std", reward: str | None = "turn_reward"
) -> Recipe:
    """Rank the episode against its task, then each turn against the other visits of its state.

        A_t = (R_i - mean_j R_j) / F  +  w (G_t - mean_{l : same state} G_l) / F_s,    G_t = r_t + gamma G_{t+1}

    Args:
        gamma: discount per turn.
        turn_weight: w >= 0; 0 leaves the episode term.
        norm: F is the sample spread ("mean_std") or 1 ("mean").
        reward: column of turn rewards; None where only the outcome is known: it arrives at the last turn.

    Needs: outcome, state, and the turn rewards.
    Holds: the turn term has zero mean within a state; a turn whose state was met once has none.
    Source: Feng et al. 2025, arXiv:2505.10978, Eqs. 3 and 5-8.
    Differs: episode statistics over trajectories, as Eq. 3 says; `gigpo_released` takes them over turns.
    """
    episode = chain(read("outcome"), _normed(task, norm, "keep"), spread("turn"))
    turn = chain(_step_return(gamma, reward), _normed(same_state, norm, "zero"))
    credit = chain(mix(episode, turn, weights=(1.0, turn_weight)), spread("token"))
    return Recipe("gigpo", credit, clipped(0.2, aggregate=token_mean))


def gigpo_released(
    gamma: float = 0.95,
    turn_weight: float = 1.0,
    norm: Norm = "mean",
    reward: str | None = "turn_reward",
    over_turns: bool = True,
    kl: float = 0.01,
) -> Recipe:
    """GiGPO as released: episode statistics over step rows, so that long episodes weigh more.

    Args:
        gamma, turn_weight, norm, reward: as in `gigpo`.
        over_turns: take the episode statistics over turns (the default of the release) or over trajectories.
        kl: weight of the k3 KL to the reference policy; needs the column "logprob_ref" unless 0.

    Source: verl-agent, gigpo/core_gigpo.py, modes mean_norm and mean_std_norm.
    Differs: from the paper's Eq. 3 by `spread` before the normalisation; a lone row keeps its raw outcome. The release
        also takes 0.1 off the rewards of an invalid action: that is a matter of the rewards, not of the credit.
    """
    normed = _normed(task, norm, "keep")
    episode = chain(read("outcome"), *((spread("turn"), normed) if over_turns else (normed, spread("turn"))))
    turn = chain(_step_return(gamma, reward), _normed(same_state, norm, "zero"))
    credit = chain(mix(episode, turn, weights=(1.0, turn_weight)), spread("token"))
    return Recipe("gigpo_released", credit, clipped(0.2, aggregate=token_mean, kl=kl))


def _matchtir(gamma: float, weight: float, reward: str) -> Chain:
    z = {"ddof": 1, "eps": 1e-6, "singleton": "keep"}
    whole = chain(read(reward, "turn"), total("trajectory"), zscore(task, **z), spread("turn"))  # type: ignore[arg-type]
    turn = chain(read(reward, "turn"), reward_to_go(gamma), zscore(task_and_turn, **z))  # type: ignore[arg-type]
    return chain(mix(whole, turn, weights=(weight, weight)), spread("token"))


def matchtir(gamma: float = 0.9, reward: str = "match_turn_reward") -> Recipe:
    """Reward each turn by how well its tool calls match a gold trace; compare episodes, and turns at the same place.

        A_t = z_task(sum_t r_t)  +  z_(task, t)(G_t),    G_t = r_t + gamma G_{t+1}

    Args:
        gamma: discount per turn.
        reward: column of turn rewards: the matching score, and answer F1 at the turn that answers.

    Needs: match_turn_reward (evidence: a gold tool trace, matched greedily, optimally or by transport).
    Holds: zero mean within a group where every turn has peers. A turn without peers keeps its raw return.
    Source: arXiv:2601.10712, Eqs. 8-11; the plain sum is what the paper's figure shows.
    Differs: see `matchtir_released`.
    """
    objective = clipped(0.2, aggregate=trajectory_mean)
    return Recipe("matchtir", _matchtir(gamma, 1.0, reward), objective)


def matchtir_released(
    gamma: float = 0.9, reward: str = "match_turn_reward", kl: float = 0.001, entropy: float = 0.001
) -> Recipe:
    """MatchTIR as released: the two terms are averaged.

    Args:
        gamma, reward: as in `matchtir`.
        kl: weight of the k3 KL to the reference policy; needs the column "logprob_ref" unless 0.
        entropy: weight of the entropy bonus; needs the model's entropy per token unless 0.

    Source: quchangle1/MatchTIR, verl/trainer/ppo/core_algos.py (the discount 0.9 is a constant there).
    Differs: (trajectory + turn) / 2 where the paper's figure shows a sum; the "hungarian" matching of the release is
        greedy by descending score (a choice of the evidence).
    """
    objective = clipped(0.2, aggregate=trajectory_mean, dual=3.0, kl=kl, entropy=entropy)
    return Recipe("matchtir_released", _matchtir(gamma, 0.5, reward), objective)
