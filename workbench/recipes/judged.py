"""Methods whose turns are judged one by one: by an exact oracle (VPR), or by how far a user still is (MAPO)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from workbench.credit import (
    Node,
    Peers,
    batch_and_turn,
    center,
    chain,
    constant,
    difference,
    drop,
    fill,
    mix,
    place,
    read,
    reward_to_go,
    same_state,
    spread,
    task,
    task_and_turn,
    zscore,
)
from workbench.credit import batch as everything
from workbench.credit.rules import in_range, one_of
from workbench.losses import trajectory_mean
from workbench.objective import clipped
from workbench.recipes.base import Recipe
from workbench.recipes.candidates import Candidates, Ties
from workbench.segments import seg_max

Whiten = Literal["mean_then_batch_whiten", "group_whiten"]
Scope = Literal["group", "batch"]
Source = Literal["reward", "return"]


def verdict(oracle: str, bonus: float, goes_on: bool = False) -> Node:
    """The oracle's value of each action, and at the last turn the outcome times a bonus.

    With `goes_on`, a trajectory whose outcome is unknown has no end of its own (another candidate went on): no bonus.
    """
    value = chain(read(oracle, "turn"))
    if bonus == 0.0:
        return value
    end = chain(read("outcome"), place("turn"), *([fill(0.0)] if goes_on else []))
    return mix(value, end, weights=(1.0, bonus))


def vpr_turns(
    oracle: str = "oracle_on_path", fewest: int = 4, bonus: float = 0.0, eps: float = 1e-8, kl: float = 0.001
) -> Recipe:
    """Compare what the oracle says of an action with all actions of the batch at the same turn.

        A_t = (r_t - mean_t) / (std_t + eps),    over all rollouts of the batch; below `fewest` of them over all turns

    Args:
        oracle: turn column of V(state, action); by default what the lookup worlds record (on a shortest path or not).
        fewest: turns with fewer rollouts take the statistics of the whole batch; 1 is never.
        bonus: of the outcome, added at the last turn.
        eps: added to the population spread.
        kl: weight of the k3 KL to the reference policy; needs the column "logprob_ref" unless 0.

    Needs: the oracle's column; outcome if there is a bonus.
    Holds: no turn is credited for another; different states at one turn are compared. Other tasks change it.
    Source: arXiv:2605.10325; thu-nics/VPR, gigpo/core_gigpo.py, the branch without state groups (read, not run).
    """
    in_range("vpr_turns", "fewest", fewest, 1)
    norm = zscore(batch_and_turn, ddof=0, eps=eps, fewest=fewest, below=everything)
    return Recipe("vpr_turns", chain(verdict(oracle, bonus), norm, spread("token")), clipped(0.2, kl=kl))


def vpr_states(
    oracle: str = "oracle_on_path",
    whiten: Whiten = "mean_then_batch_whiten",
    bonus: float = 0.0,
    eps: float = 1e-8,
    kl: float = 0.001,
    candidates: int = 4,
    ties: Ties = "first",
    skip_at: float = 0.93,
) -> Recipe:
    """Compare what the oracle says of an action with the other actions tried in the same state.

        A = (r - mean_state) / (std_state + eps),    or r - mean_state, standardised over what is left of the batch

    Args:
        oracle, bonus, kl: as in `vpr_turns`.
        whiten: "group_whiten" for the first, "mean_then_batch_whiten" for the second.
        eps: added to the population spread.
        candidates: actions a training tries in every state, the best of which is played on (`Candidates`); 0 plays
            whole episodes, and the actions are those of rollouts that met in a state.
        ties: which of the best is played: "first", as in the release's code, or "random", as in its documentation.
        skip_at: no update where the candidates are equal in this share of the states.

    Needs: the oracle's column, state.
    Holds: a state all of whose actions are equal, or that was met once, is not in the loss.
    Source: thu-nics/VPR, gigpo/core_gigpo.py, the branch with state groups (read, not run).
    Differs: the release leaves out states with a spread of at most 1e-8; here those whose values are equal.
    """
    one_of("vpr_states", "whiten", whiten, Whiten)
    kept = chain(verdict(oracle, bonus, candidates > 0), drop(constant(same_state), "equal in its state"))
    if whiten == "group_whiten":
        credit = chain(kept, zscore(same_state, ddof=0, eps=eps))
    else:
        credit = chain(kept, center(same_state), zscore(everything, ddof=0, eps=eps))
    rounds = Candidates(candidates, oracle, ties, skip_at) if candidates else None
    return Recipe("vpr_states", chain(credit, spread("token")), clipped(0.2, kl=kl), candidates=rounds)


def committed(reward: Tensor, state: Tensor) -> Tensor:
    """Return for each state which candidate is played: the first with the highest reward.

    Args:
        reward: [n] of each candidate.
        state: [n] int64, the state of each, counted from 0.

    Returns:
        [states] int64 index of the candidate.

    Source: VPR's environment code (its documentation says ties are broken at random).

    Example:
        >>> committed(torch.tensor([0.0, 2.0, 2.0, 1.0]), torch.tensor([0, 0, 0, 1])).tolist()
        [1, 3]
    """
    size = int(state.max()) + 1 if len(state) else 0
    best = reward == seg_max(reward, state, size, torch.ones_like(state, dtype=torch.bool))[state]
    out = torch.full((size,), len(state), dtype=torch.int64)
    return out.scatter_reduce_(0, state[best], torch.nonzero(best).flatten(), "amin")


# ------------------------------------------------------------------------------------------------------------- MAPO


def distance_drop(distance: str) -> Node:
    """r_t = distance before the turn - distance after it; the column NAME_start holds the distance at first."""
    return mix(chain(read(distance, "turn"), difference(f"{distance}_start")), weights=(-1.0,))


def mapo_return(reward: Node, gamma: float, ddof: int, eps: float) -> Node:
    """Return of each turn, compared with its siblings' at the same turn."""
    return chain(reward, reward_to_go(gamma), zscore(task_and_turn, ddof=ddof, eps=eps))


def mapo_immediate(reward: Node, gamma: float, ddof: int, eps: float, scope: Scope, source: Source) -> Node:
    """Reward (or return) of each turn, compared with all turns of its task, or of the batch."""
    peers: Peers = task if scope == "group" else everything
    signal = chain(reward) if source == "reward" else chain(reward, reward_to_go(gamma))
    return chain(signal, zscore(peers, ddof=ddof, eps=eps))


def mapo(
    gamma: float = 1.0,
    alpha: float = 0.5,
    beta: float = 0.5,
    distance: str | None = "state_distance",
    scope: Scope = "group",
    source: Source = "reward",
    ddof: int = 0,
    eps: float = 1e-8,
) -> Recipe:
    """Reward a turn by how much closer it brought the user, now (compared with all turns) and later (at its turn).

        r_t = d_{t-1} - d_t,   G_t = r_t + gamma G_{t+1},   A_t = alpha z_(task, t)(G_t) + beta z_task(r_t)

    Args:
        gamma: discount per turn; the paper's is not known.
        alpha, beta: weights of the two.
        distance: turn column of distances d >= 0 after each turn (NAME_start: before the first); None reads the rewards
            themselves from turn_reward.
        scope: z over the turns of the "group" (second version, MICA) or of the "batch" (first version's abstract).
        source: the second term of the "reward" or of the "return".
        ddof, eps: of both z-scores.

    Needs: state_distance, state_distance_start (evidence: a judge of the user's state), or turn_reward.
    Holds: a turn without peers adds 0; with gamma 1 the first turn's return is the whole way.
    Source: arXiv:2603.06194 (MAPO; its third version is called MICA), by detailed notes; spread and edge rules from a
        re-implementation. Reconstruction: gamma.
    """
    one_of("mapo", "scope", scope, Scope)
    one_of("mapo", "source", source, Source)
    reward = chain(read("turn_reward", "turn")) if distance is None else distance_drop(distance)
    late = mapo_return(reward, gamma, ddof, eps)
    now = mapo_immediate(reward, gamma, ddof, eps, scope, source)
    credit = chain(mix(late, now, weights=(alpha, beta)), spread("token"))
    return Recipe("mapo", credit, clipped(0.2, aggregate=trajectory_mean))
