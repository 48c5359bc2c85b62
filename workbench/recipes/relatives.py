"""Relatives of the turn-level methods whose evidence is a reward, a value or a potential a turn."""

from __future__ import annotations

from typing import Literal

from workbench.credit import (
    Chain,
    Node,
    add,
    center,
    chain,
    difference,
    fill,
    first,
    forget,
    gae,
    last,
    mix,
    place,
    read,
    reward_to_go,
    share,
    spread,
    task,
    task_and_turn,
    total,
    zscore,
)
from workbench.credit.rules import one_of
from workbench.losses import PolicyLoss, ValueLoss, token_mean, trajectory_mean
from workbench.objective import Objective, Term, clipped
from workbench.recipes.base import Recipe
from workbench.recipes.critic import _whiten, trained


def mt_grpo(weight: float = 1.0, reward: str = "turn_reward") -> Recipe:
    """Compare each turn's reward with its siblings' at the same turn, and the outcome with theirs; add the two.

        A_t = weight z_(task, t)(r_t) + z_task(R)

    Args:
        weight: of the turn's own term; 0 is GRPO.
        reward: column of turn rewards.

    Needs: outcome, turn_reward (recorded by the world).
    Holds: a turn is credited for its own reward only, not for later ones: a step that pays off two turns on gets
        nothing for it. A turn without peers has the outcome's term alone, and so has the answer where it has no reward
        of its own; another turn whose reward is unknown gets no credit.
    Source: arXiv:2505.11821 (MT-GRPO), the abstract of its first version, and its released code, read as text.
    Differs: the release knows one call and one answer (`mt_grpo_released`); more turns, each compared with the same
        turn of its siblings, are the natural extension and not the authors'; spread convention as in GRPO.
    """
    answer = mix(chain(read("outcome"), place("turn", "unknown")), weights=(0.0,))
    own = mix(chain(read(reward, "turn"), zscore(task_and_turn)), answer, unknown="skip")
    outcome = chain(read("outcome"), zscore(task), spread("turn"))
    credit = chain(mix(own, outcome, weights=(weight, 1.0)), spread("token"))
    return Recipe("mt_grpo", credit, clipped(0.2, aggregate=trajectory_mean))


def mt_grpo_released(
    weight: float = 1.0,
    reward: str = "turn_reward",
    estimate: Literal["additive", "cumulative"] = "additive",
    gamma: float = 1.0,
) -> Recipe:
    """MT-GRPO as released: a rollout has one turn reward r, and it counts for the turn of the call alone.

        additive:    A_0 = z(R) + weight z(r),    A_t = z(R) for t > 0;    a rollout of one turn: z(r + R)
        cumulative:  A_0 = z(r + gamma R),        A_t = z(R) for t > 0;    a rollout of one turn: z(r + gamma R)

    Args:
        weight: of the turn's term (additive).
        reward: column of turn rewards; r is their sum over the rollout, what is unknown counts as 0.
        estimate: the release's "aae" or "cae".
        gamma: weight of the outcome in the sum (cumulative).

    Needs: outcome, turn_reward (recorded by the world).
    Holds: all z-scores are over the rollouts of the task, with the spread of a sample; a lone rollout gets 0.
    Source: SiliangZeng/Multi-Turn-RL-Agent, verifiers/trainers/mt_grpo_env_trainer.py @7860de6, read as text.
    Differs: there the call is found as the first reply with a "<result>" and its tokens by where the mask flips; here
        it is the first turn of a rollout of several. Its script allows one call; where more are made, later ones get
        nothing of their own, there and here. Loss: the mean over all tokens, clip 0.2, no KL, as in its script.
    """
    one_of("mt_grpo_released", "estimate", estimate, Literal["additive", "cumulative"])
    sums = chain(read(reward, "turn"), fill(0.0), total("trajectory"))
    against = zscore(task, eps=1e-4)
    outcome = chain(read("outcome"), against)
    both = chain(mix(sums, read("outcome"), weights=(1.0, 1.0 if estimate == "additive" else gamma)), against)
    call = mix(chain(sums, against), outcome, weights=(weight, 1.0)) if estimate == "additive" else both
    turns = mix(
        chain(call, spread("turn"), forget(~first()), forget(last())),
        chain(outcome, spread("turn"), forget(first())),
        chain(both, spread("turn"), forget(~first()), forget(~last())),
        unknown="skip",
    )
    return Recipe("mt_grpo_released", chain(turns, spread("token")), clipped(0.2))


def bilevel_gae(
    gamma_turn: float = 1.0,
    lam_turn: float = 1.0,
    gamma: float = 1.0,
    lam: float = 1.0,
    reward: str | None = None,
    value_weight: float = 0.5,
    whiten: bool = True,
) -> Recipe:
    """Estimate advantages twice: over the turns of a rollout, then over the tokens inside each turn.

        turns:   d_k = r_k + gamma_turn V_{k+1} - V_k,    A_k = d_k + gamma_turn lam_turn A_{k+1}
        tokens:  r_j = A_k + V_k at the last token of turn k, else 0;    A_j by GAE(gamma, lam) inside the turn

    V_k: value before the turn's first token. The inner pass gets a finished target for each turn, so a discount over
    tokens does not fade the outcome of early turns.

    Args:
        gamma_turn, lam_turn: discount and mixing per turn.
        gamma, lam: per token, inside a turn.
        reward: column of turn rewards; None: the outcome at the last turn.
        value_weight: of the value loss.
        whiten: centre and scale over the tokens of the batch, as `ppo` does.

    Needs: outcome (or the turn rewards); turn_value and value, from the learner's value head.
    Holds: with all four 1 and no values, the raw advantage of every token is its turn's return.
    Source: RAGEN (arXiv:2504.20073), ragen/trainer/core_algos.py, compute_bi_level_gae_advantage_return, read; named
        Bi-Level GAE in VAGEN (arXiv:2510.16907, abstract).
    Differs: turns are data here; the release takes a token for a turn's end where its reward is not 0, so that a turn
        with a reward of exactly 0 is none. V_k is there the value before the turn's last token, when the action is
        taken; one lambda serves both passes. With all four numbers 1 that makes no difference.
    """
    rewards = chain(read("outcome"), place("turn")) if reward is None else chain(read(reward, "turn"))
    turns = chain(rewards, gae(gamma_turn, lam_turn, "turn_value"), add("turn_value"))
    advantage = chain(turns, place("token"), trained(), gae(gamma, lam, "value", within="turn"))
    credit = chain(advantage, _whiten()) if whiten else advantage
    value = Term("value", ValueLoss("returns"), value_weight, token_mean)
    objective = Objective((Term("policy", PolicyLoss(0.2, 0.2)), value))
    return Recipe("bilevel_gae", credit, objective, {"returns": chain(advantage, add("value"))})


def grounded(potential: str) -> Node:
    """The potential after each turn; 0 at the last one, where the episode is over."""
    end = mix(chain(read("outcome"), place("turn", "unknown")), weights=(0.0,))
    return mix(chain(read(potential, "turn"), forget(last())), end, unknown="skip")


def shaping_reward(potential: str, gamma: float) -> Node:
    """F_t = gamma Phi_t - Phi_{t-1}, with Phi = 0 once the episode is over; NAME_start is Phi at first."""
    phi = grounded(potential)
    change = chain(phi, difference(f"{potential}_start"))
    return change if gamma == 1.0 else mix(change, phi, weights=(1.0, gamma - 1.0))


def potential_shaping(gamma: float = 1.0, potential: str = "gold_logprob", reward: str | None = None) -> Recipe:
    """Add to each turn's reward how much closer it came, in a way that changes no policy's rank.

        r'_t = r_t + gamma Phi_t - Phi_{t-1},   A_t = G'_t - mean over the siblings at turn t,   Phi_end = 0

    Args:
        gamma: discount per turn.
        potential: turn column of Phi after each turn (NAME_start: before the first); by default how likely the policy
            finds the gold answer, in logarithms.
        reward: column of turn rewards; None: the outcome at the last turn.

    Needs: outcome, gold_logprob, gold_logprob_start (evidence: the gold-answer probe).
    Holds: with gamma 1 the shaping of a rollout sums to -Phi_0, the same for all rollouts of a task: the first turn's
        credit is that without shaping. Later turns are compared with siblings in other states; there it tells.
    Source: Ng, Harada and Russell 1999, "Policy invariance under reward transformations", Theorem 1; that the last
        potential must be 0 in episodes: Grzes 2017, "Reward shaping in episodic reinforcement learning".
    """
    plain = chain(read("outcome"), place("turn")) if reward is None else chain(read(reward, "turn"))
    shaped = mix(plain, shaping_reward(potential, gamma))
    credit = chain(shaped, reward_to_go(gamma), center(task_and_turn), spread("token"))
    return Recipe("potential_shaping", credit, clipped(0.2, aggregate=trajectory_mean))


def progress_share(progress: str = "match_reward", temperature: float = 1.0) -> Recipe:
    """Split the outcome over the turns by the progress each made, then compare what is still to come.

        r_t = R exp(p_t / temperature) / sum_k exp(p_k / temperature),   A_t = G_t - mean over the siblings at turn t

    Args:
        progress: turn column of p; by default how well the turn's calls match a gold trace.
        temperature: small gives all to the best turn, large the same to each.

    Needs: outcome, match_reward (evidence: a gold tool trace).
    Holds: the shares of a rollout sum to its outcome, whatever p is; a failed rollout (0) has nothing to share.
    Source: after SPA-RL, arXiv:2505.20732: abstract and released code (prm/train_our_progress_model.py) read, its body
        not. Reconstruction: the softmax and the comparison with siblings.
    Differs: there the policy's network with a linear head learns contributions whose sum is fitted to the outcome, PPO
        is run on them, and an action the world could carry out earns 0.5 more; here p is a column and the softmax
        makes the sum right. The released script for WebShop writes over the learned contributions with the outcome
        minus the mean of the other rollouts.
    """
    shares = chain(read("outcome"), share(progress, temperature, "turn"))
    credit = chain(shares, reward_to_go(), center(task_and_turn), spread("token"))
    return Recipe("progress_share", credit, clipped(0.2, aggregate=trajectory_mean))


def outcome_at_end() -> Chain:
    """The outcome at the last turn; the others are unknown."""
    return chain(read("outcome"), place("turn", "unknown"))
