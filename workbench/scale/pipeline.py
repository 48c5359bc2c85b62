"""From rollouts and updates to steps: what overlaps, and what a learner's share of the batch takes."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean

from workbench.scale.rates import EngineRates, LearnerRates, Rates
from workbench.scale.simulate import Episode, Played, Work, continuous, draw, rounds


def step_seconds(rollouts: Sequence[float], learns: Sequence[float], between: float, asynchronous: int) -> float:
    """Return the mean seconds of a step of a pipeline.

    Synchronous: a step plays, learns, and hands on the weights (`between`), one after the other:

        T = mean(rollout + learn) + between

    `asynchronous=a`: rollout k may begin when the weights of update k - 1 - a are there, so that playing and learning
    overlap; engines and learners both stop while weights are handed on:

        begin_k = max(played_{k-1} + between, handed_{k-1-a});  played_k = begin_k + rollout_k
        handed_k = max(played_k, handed_{k-1}) + learn_k + between

    Args:
        rollouts, learns: seconds of each step; at least two steps where they overlap.
        between: seconds of what can overlap with neither.
        asynchronous: how many steps old the weights of a rollout may be.

    Example:
        >>> step_seconds([10] * 4, [6] * 4, 1, 0), step_seconds([10] * 4, [6] * 4, 1, 1)
        (17.0, 11.0)
    """
    if asynchronous == 0:
        return fmean([r + u for r, u in zip(rollouts, learns, strict=True)]) + between
    played, handed = [], []
    for k, (rollout, learn) in enumerate(zip(rollouts, learns, strict=True)):
        ready = handed[k - 1 - asynchronous] if k > asynchronous else 0.0
        begin = max(played[-1] + between if played else 0.0, ready)
        played.append(begin + rollout)
        handed.append(max(played[-1], handed[-1] if handed else 0.0) + learn + between)
    return (handed[-1] - handed[0]) / (len(handed) - 1)


def learner_seconds(episodes: Sequence[Episode], learners: int, rates: LearnerRates, micro_tokens: int) -> float:
    """Return the seconds of an update: that of the learner with the most tokens, its share packed into passes.

    The longest go first, each to the learner with the least so far; all learners make as many passes as the one with
    the most, because they exchange weights in each. What a group shares is counted once for each member (trees of
    tokens would save it).

    Example:
        >>> from workbench.scale.simulate import Turn
        >>> four = [Episode(0, 40, (Turn(40, 60, 0.0),))] * 4
        >>> learner_seconds(four, 2, LearnerRates(step=1.0, pass_=0.5, token=0.01, head=0.0), 100)     # 1 + 2 (.5 + 1)
        4.0
    """
    least = [(0.0, n) for n in range(learners)]
    tokens, scored = [0.0] * learners, [0.0] * learners
    for episode in sorted(episodes, key=length, reverse=True):
        _, n = heapq.heappop(least)
        tokens[n] += length(episode)
        scored[n] += sum(turn.sampled for turn in episode.turns)
        heapq.heappush(least, (tokens[n], n))
    longest = max(length(episode) for episode in episodes)
    most = max(range(learners), key=lambda n: tokens[n])
    passes = max(1, -(-int(tokens[most]) // max(micro_tokens, longest)))
    return rates.learn_s(tokens[most], scored[most], passes)


def local_step(episodes: Sequence[Episode], rates: Rates, micro_tokens: int) -> dict[str, float]:
    """Return the seconds of the parts of a step of one process that plays in rounds, then learns from trees of tokens.

    Args:
        episodes: of the step.
        rates: of this process: engine and learner.
        micro_tokens: of one pass of the learner.
    """
    tokens = round(rates.merged * tokens_once(episodes))
    turns = sum(len(episode.turns) for episode in episodes)
    sampled = sum(turn.sampled for episode in episodes for turn in episode.turns)
    passes = max(1, -(-tokens // micro_tokens))
    parts = {
        "rollout": rounds(episodes, rates.engine).seconds + rates.turn * turns,
        "credit": rates.credit * sampled,
        "learn": rates.learner.learn_s(tokens, sampled, passes),
    }
    return {**parts, "step": sum(parts.values())}


def tokens_once(episodes: Sequence[Episode]) -> int:
    """Return the tokens of episodes with each group's prompt counted once."""
    prompts = sum({episode.group: episode.prompt for episode in episodes}.values())
    return prompts + sum(length(episode) - episode.prompt for episode in episodes)


def length(episode: Episode) -> int:
    """Return the tokens of an episode at its end."""
    return episode.prompt + sum(t.sampled for t in episode.turns) + sum(t.read for t in episode.turns[1:])


@lru_cache(maxsize=64)
def drawn(work: Work, seed: int) -> tuple[Episode, ...]:
    """Return the drawn episodes of a step; the same again for another split."""
    return tuple(draw(work, seed))


@lru_cache(maxsize=4096)
def played(work: Work, seed: int, engines: int, rates: EngineRates, most: int) -> Played:
    """Return how the drawn episodes of a step go; the same again for another number of learners."""
    return continuous(drawn(work, seed), engines, rates, most)
