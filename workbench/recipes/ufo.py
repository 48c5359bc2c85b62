"""UFO: an answer that was wrong is met with "try again"; what a later success is worth, and what repeating costs."""

from __future__ import annotations

import re
from dataclasses import replace
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
    drop,
    forget,
    last,
    mix,
    place,
    read,
    spread,
    stage,
    task,
    total,
    widest,
    zscore,
)
from workbench.credit.rules import one_of, within_trajectory
from workbench.losses import EntropyLoss
from workbench.objective import Objective, Term, clipped
from workbench.recipes.base import Recipe
from workbench.recipes.critic import ppo

Count = Literal["answers", "turns"]
Host = Literal["ppo", "grpo"]
TRY_AGAIN = "Incorrect. Please think again."
CORRECT = "Correct!"
MOST = 5
"""Answers an episode may have, as released."""


def same_form(answer: str) -> str:
    """Return what two answers must share to be the same: no white space, lower case.

    Source: UFO, released `_minimal_normalize_answer`.

    Example:
        >>> same_form(" 3 / 4 X")
        '3/4x'
    """
    return re.sub(r"\s+", "", answer.strip().lower())


def feedback(correct: bool, tried: int, most: int = MOST) -> tuple[str, bool]:
    """Return what the user says after an answer, and whether the episode is over.

    Args:
        correct: was it right?
        tried: answers given so far, this one included.
        most: answers allowed.

    Source: UFO, lichengliu03/unary-feedback, ragen/env/metamathqa/env.py. After the last wrong answer it says
        "Correct!", too, which the policy does not see.
    """
    over = correct or tried >= most
    return (CORRECT if over else TRY_AGAIN), over


# ------------------------------------------------------------------------------------------------- retry arithmetic


def decayed(batch: Batch, correct: Credit, before: Credit, gamma: float) -> Tensor:
    """gamma^t for a right answer that t tries came before, 0 for a wrong one."""
    return correct.values * gamma**before.values


def share(batch: Batch, repeated: Credit, valid: Credit) -> Tensor:
    """1 - E / T: share of the T answers that repeat one of the E different ones; 0 without an answer."""
    return repeated.values / valid.values.clamp_min(1.0)


def _so_far(credit: Credit, batch: Batch) -> Credit:
    if credit.level != "turn":
        raise ValueError(f"so_far: runs over the turns of a story, got level {credit.level!r}")
    y, up = torch.where(credit.known, credit.values, 0.0), batch.turn_parent
    known = credit.known & ((up >= 0) | (batch.turn_index == 0))
    while bool((more := up >= 0).any()):  # each round doubles how far back a turn has looked
        at = up.clamp_min(0)
        y, known, up = y + torch.where(more, y[at], 0.0), known & (known[at] | ~more), torch.where(more, up[at], up)
    return replace(credit, values=y, known=known)


def so_far() -> Stage:
    """Sum over the story up to each turn, itself and the turns a branch shares with its parent included.

    Unknown from the first unknown turn on, and where a branch's parent is not in the batch.
    """
    return stage(so_far, _so_far, within_trajectory, {})


def whole(node: Node) -> Chain:
    """Sum over a whole story; unknown where it is for any turn of it."""
    return chain(node, so_far(), forget(~last()), total("trajectory"))


def success(gamma: float, count: Count) -> Node:
    """gamma^t at the right answer; t counts earlier valid "answers", or all earlier "turns" that were tries."""
    valid = read("try_valid", "turn")
    tried: Node = valid if count == "answers" else mix(valid, read("try_broken", "turn"))
    earlier = mix(chain(tried, so_far()), tried, weights=(1.0, -1.0))
    return whole(apply(decayed, read("try_correct", "turn"), earlier, gamma=gamma))


def repetition() -> Node:
    """1 - E / T of each trajectory."""
    return apply(share, whole(read("try_repeated", "turn")), whole(read("try_valid", "turn")))


def retry_reward(gamma: float, repeat: float, invalid: float, count: Count) -> Node:
    """R = gamma^t [right at try t] - repeat (1 - E / T) - invalid (tries that could not be read), of a whole story."""
    broken = whole(read("try_broken", "turn"))
    return mix(success(gamma, count), repetition(), broken, weights=(1.0, -repeat, -invalid))


def of_groups_that_differ(reward: Node, share: float) -> Node:
    """The reward where a task's rewards differ more than those of most tasks of the batch; the others are dropped.

    Source: unary-feedback, config/base.yaml, rollout_filter_ratio 0.25 of type "std": of 8 groups the 2 whose rewards
        have the largest sample deviation are trained on, the others are thrown away once they are played.
    Differs: of a few groups at least one is kept.
    """
    if share == 1.0:
        return reward
    return chain(reward, drop(~widest(share, task), "the rewards of other tasks differ more"))


def _hosted(name: str, reward: Node, host: Host, kl: float | Schedule, entropy: float, share: float) -> Recipe:
    one_of(name, "host", host, Host)
    reward = of_groups_that_differ(reward, share)
    if host == "grpo":
        credit = chain(reward, zscore(task, ddof=1, eps=1e-6), spread("token"))
        return Recipe(name, credit, clipped(0.2, 0.28, entropy=entropy))
    base = ppo(0.2, 0.28, gamma=1.0, lam=1.0, kl_reward=kl)
    assert isinstance(base.chain, Chain) and isinstance(base.streams["returns"], Chain)
    streams = {"returns": chain(reward, *base.streams["returns"].stages[1:])}
    bonus = () if entropy == 0.0 else (Term("entropy", EntropyLoss(), entropy),)
    objective = Objective((*base.objective.terms, *bonus))
    return replace(base, name=name, chain=chain(reward, *base.chain.stages[1:]), streams=streams, objective=objective)


def ufo(
    gamma: float = 0.5,
    repeat: float = 0.5,
    invalid: float = 0.1,
    host: Host = "ppo",
    kl: float | Schedule = 0.001,
    entropy: float = 0.001,
    share: float = 1.0,
) -> Recipe:
    """Pay for a right answer the less the later it comes, and charge for repeating wrong ones.

        R = gamma^t [right at try t] - repeat (1 - E / T) - invalid (tries that could not be read)

    t counts tries from 0; E of the T answers differ. The whole of R arrives at the end. A turn that calls another tool
    is no try.

    Args:
        gamma: decay per try.
        repeat: lambda, charge where all answers are the same but one.
        invalid: charge per try that could not be read.
        host: "ppo" over tokens with a value head and gamma = lam = 1, as published; "grpo" compares with the group.
        kl: of the policy that sampled to the reference, in the reward of each token (ppo); needs the column
            "logprob_ref" unless 0.
        entropy: weight of the entropy bonus; needs the model's entropy per token unless 0.
        share: of the tasks of a batch that are trained on: those whose rewards differ most; 1 is all.

    Needs: try_correct, try_valid, try_repeated, try_broken (evidence: read off the answers); value (ppo).
    Holds: a right fifth answer after four equal wrong ones is worth 1/16 - 0.3 < 0; five different wrong ones, 0.
    Source: arXiv:2507.14295: decay, repetition, a charge for invalid output.
    Differs: see `ufo_released`.
    """
    return _hosted("ufo", retry_reward(gamma, repeat, invalid, "turns"), host, kl, entropy, share)


def ufo_released(
    gamma: float = 0.5,
    repeat: float = 0.5,
    invalid: float = 0.1,
    host: Host = "ppo",
    kl: float | Schedule = 0.001,
    entropy: float = 0.001,
    share: float = 0.25,
) -> Recipe:
    """UFO as released: only valid answers count as tries, and a quarter of the tasks is trained on.

    Args: as in `ufo`.

    Source: lichengliu03/unary-feedback, ragen/env/metamathqa/env.py, ragen/llm_agent/es_manager.py, config/base.yaml.
    Holds: with fewer than 8 tasks in a batch, one of them is trained on.
    Differs: a try that cannot be read does not age the success, it costs 0.1; the paper's t is the turn. An empty
        answer breaks the release's environment; here it is a try that cannot be read. A rollout that a limit ends
        before its last answer is charged for repeating, too; the release pays repetition with the last answer only.
    """
    return _hosted("ufo_released", retry_reward(gamma, repeat, invalid, "answers"), host, kl, entropy, share)


def at_end(reward: Node) -> Chain:
    """The reward at the last turn, 0 at the others: as the released environment pays it."""
    return chain(reward, place("turn"))
