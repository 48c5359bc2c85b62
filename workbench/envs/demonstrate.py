"""A scripted player that makes mistakes: what a small policy is warm-started on."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol, Self

from workbench.envs.base import Step, Task
from workbench.envs.oracle import Call
from workbench.envs.words import COLOURS, RELATIONS, THINGS, code, query_for
from workbench.trajectory import Message, Part, ToolCall, Trajectory, Turn


class Standing(Protocol):
    """Where an episode stands."""

    @property
    def done(self) -> bool: ...
    @property
    def outcome(self) -> float | None: ...


class Guided(Protocol):
    """A world whose oracle names the best next call."""

    max_turns: int

    @property
    def progress(self) -> Standing: ...
    @property
    def state_key(self) -> str: ...
    def fresh(self) -> Self: ...
    def reset(self, task: Task, seed: int = 0) -> tuple[Message, ...]: ...
    def respond(self, message: Message) -> Step: ...
    def best(self) -> Call: ...


Spoil = Callable[[Any, "Call | None", random.Random], tuple[str, Call]]
"""From (world in its present state, last search made, where the choice comes from) to (name of the mistake, call)."""

MISTAKES = ("relation", "thing", "repeat", "answer")


def imperfect_demonstration(env: Guided, task: Task, rng: random.Random, error_rate: float, spoil: Spoil) -> Trajectory:
    """Play a task by the oracle's best calls, each replaced by a mistake with probability `error_rate`.

    Args:
        env: a world with an oracle; the task is played in a fresh episode of it.
        task: what is played.
        rng: where the mistakes come from.
        error_rate: in [0, 1].
        spoil: makes a mistake of that world.

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
        mistake, call = ("", env.best()) if rng.random() >= error_rate else spoil(env, _last_search(turns), rng)
        action = _message(call, len(turns))
        state = env.state_key
        reply = env.respond(action)
        rewards = {name: float(value) for name, value in reply.columns.items() if not isinstance(value, str)}
        texts = {name: value for name, value in reply.columns.items() if isinstance(value, str)}
        extra = {**texts, "mistake": mistake}
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


def _last_search(turns: list[Turn]) -> Call | None:
    calls = [turn.action.calls[0] for turn in turns if turn.action.calls[0].name == "search"]
    return {"name": "search", "arguments": dict(calls[-1].arguments or {})} if calls else None


def spoiled_lookup(env: Guided, last: Call | None, rng: random.Random) -> tuple[str, Call]:
    """Make a mistake in a lookup chain.

    With equal chance a search for another relation, a search for another thing, the last search again, or an answer
    that is made up; where there is nothing to spoil in that way, one of the others.
    """
    mistake, best = rng.choice(MISTAKES), env.best()
    if mistake == "repeat" and last is not None:
        return mistake, last
    if mistake == "answer" or best["name"] == "answer":
        return mistake, {"name": "answer", "arguments": {"text": code(rng)}}
    relation, _, thing = best["arguments"]["query"].partition(" of ")
    if mistake == "thing":
        query = query_for(relation, f"{rng.choice(COLOURS)} {rng.choice(THINGS)}")
    else:
        query = query_for(rng.choice(RELATIONS), thing)
    return mistake, {"name": "search", "arguments": {"query": query}}


def _message(call: Call, turn: int) -> Message:
    """Write a call as an action; its raw text is the plain-text line."""
    (value,) = call["arguments"].values()
    line = f"{call['name'].capitalize()}: {value}"
    made = ToolCall(f"turn{turn}.call0", call["name"], raw=line, arguments=call["arguments"])
    return Message(f"turn{turn}", "assistant", (Part(text=line),), calls=(made,))
