"""ARTIST: one reward of several rules for a rollout that calls tools; what the tools wrote is not learned."""

from __future__ import annotations

from workbench.credit import Node, chain, fill, mix, read, spread, task, zscore
from workbench.losses import trajectory_mean
from workbench.objective import clipped
from workbench.recipes.base import Recipe


def answer_reward(answer: float) -> Node:
    """R = answer [right] + format + successful calls / all calls; a rollout without calls adds 0."""
    calls = chain(read("tool_success", "trajectory"), fill(0.0))
    return mix(read("outcome"), read("format_score", "trajectory"), calls, weights=(answer, 1.0, 1.0))


def calling_reward(state: float, calls: float, form: float) -> Node:
    """R = state (matched state / all of it) + calls (matched calls / gold calls) + form (format)."""
    parts = (read(name, "trajectory") for name in ("state_match", "call_match", "format_score"))
    return mix(*parts, weights=(state, calls, form))


def _recipe(name: str, reward: Node, ddof: int, eps: float, kl: float) -> Recipe:
    credit = chain(reward, zscore(task, ddof=ddof, eps=eps), spread("token"))
    return Recipe(name, credit, clipped(0.2, aggregate=trajectory_mean, kl=kl))


def artist(answer: float = 2.0, ddof: int = 0, eps: float = 1e-8, kl: float = 0.001) -> Recipe:
    """GRPO on the sum of a right answer, a good form and tool calls that worked.

        R = 2 [right] + format + successful calls / calls,    A = (R - mean) / (std + eps)

    Args:
        answer: weight of the right answer.
        ddof, eps: of the spread.
        kl: weight of the k3 KL to the reference policy; needs the column "logprob_ref" unless 0.

    Needs: outcome, format_score (evidence: 1 well formed throughout, 0.5 if only the answer is), tool_success
        (evidence: the share of the calls that worked; unknown without calls).
    Holds: tokens of tool outputs are in no loss: no recipe here has them. A rollout without calls gets 0 of the last
        term, so that a useless call that works pays 1.
    Source: arXiv:2505.01441, abstract, and notes by others. Reconstruction: sizes of the format terms, 0 without calls,
        spread convention, kl.
    """
    return _recipe("artist", answer_reward(answer), ddof, eps, kl)


def artist_calls(
    state: float = 0.5, calls: float = 0.5, form: float = 0.1, ddof: int = 0, eps: float = 1e-8, kl: float = 0.001
) -> Recipe:
    """ARTIST for function calling: GRPO on how much of the goal state and of the gold trace was reached.

        R = 0.5 matched state / state + 0.5 matched calls / gold calls + 0.1 format

    Args:
        state, calls, form: weights of the three; the format score is in [0, 1], as in `artist`.
        ddof, eps, kl: as in `artist`.

    Needs: state_match (evidence: recorded by the world at the end), call_match (evidence: gold calls made exactly),
        format_score.
    Holds: a right state reached by another way than the gold trace has the state's share only.
    Source: arXiv:2505.01441, abstract, and notes by others. Reconstruction: the form is worth 0.1 in all, as the notes
        have it; their 0.025 a tag is here 0.05 where only the answer can be read.
    """
    return _recipe("artist_calls", calling_reward(state, calls, form), ddof, eps, kl)
