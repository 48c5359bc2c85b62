"""A scripted player that makes mistakes: what a small policy is warm-started on."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from workbench.envs.hop import ARGUMENT
from workbench.envs.oracle import Call
from workbench.trajectory import Message, Part, ToolCall, Trajectory, Turn

if TYPE_CHECKING:
    from workbench.envs.base import Task
    from workbench.envs.chain import Chain

MISTAKES = ("relation", "thing", "repeat", "answer")


def imperfect_demonstration(env: Chain, task: Task, rng: random.Random, error_rate: float) -> Trajectory:
    """Play a task by the oracle's best calls, each replaced by a mistake with probability `error_rate`.

    A mistake is, with equal chance, a search for another relation, a search for another thing, the last search
    again, or an answer that is wrong or comes too early.

    Args:
        env: a chain world; the task is played in a fresh episode of it.
        task: what is played.
        rng: where the mistakes come from.
        error_rate: in [0, 1].

    Returns:
        what happened, without tokens: a renderer writes the calls. Each turn's `extra["mistake"]` names the mistake
        ("" for none).
    """
    if not 0 <= error_rate <= 1:
        raise ValueError(f"error_rate: expected a probability, got {error_rate!r}")
    env = env.fresh()
    prompt = env.reset(task, 0)
    turns: list[Turn] = []
    while not env.progress.done and len(turns) < env.max_turns:
        mistake = rng.choice(MISTAKES) if rng.random() < error_rate else ""
        call = _mistaken(env, turns, mistake, rng) if mistake else env.best()
        action = _message(call, len(turns))
        state = env.state_key
        reply = env.respond(action)
        rewards = {name: float(value) for name, value in reply.columns.items()}
        extra = {"mistake": mistake}
        turns.append(Turn(action, reply.messages, state_key=state, rewards=rewards, stop_reason="stop", extra=extra))
    done = env.progress.done
    return Trajectory(
        f"demonstration/{task.id}",
        task.id,
        prompt=prompt,
        turns=tuple(turns),
        outcome=env.progress.outcome if done else 0.0,
        gold=task.gold,
        truncated=not done,
        stop_reason="done" if done else "max_turns",
    )


def _mistaken(env: Chain, turns: list[Turn], mistake: str, rng: random.Random) -> Call:
    """Return a call that makes the mistake in the present state; the best one where there is nothing to spoil."""
    from workbench.envs.chain import COLOURS, DIGITS, RELATIONS, THINGS, query_for

    searches = [turn.action.calls[0] for turn in turns if turn.action.calls[0].name == "search"]
    best = env.best()
    if mistake == "repeat" and searches:
        return {"name": "search", "arguments": dict(searches[-1].arguments or {})}
    if mistake == "answer" or best["name"] == "answer":
        return {"name": "answer", "arguments": {"text": f"{rng.choice(DIGITS)} {rng.choice(DIGITS)}"}}
    relation, _, thing = best["arguments"]["query"].partition(" of ")
    if mistake == "thing":
        return {
            "name": "search",
            "arguments": {"query": query_for(relation, f"{rng.choice(COLOURS)} {rng.choice(THINGS)}")},
        }
    return {"name": "search", "arguments": {"query": query_for(rng.choice(RELATIONS), thing)}}


def _message(call: Call, turn: int) -> Message:
    """Write a call as an action; its raw text is the plain-text line."""
    value = call["arguments"][ARGUMENT[call["name"]]]
    line = f"{call['name'].capitalize()}: {value}"
    made = ToolCall(f"turn{turn}.call0", call["name"], raw=line, arguments=call["arguments"])
    return Message(f"turn{turn}", "assistant", (Part(text=line),), calls=(made,))
