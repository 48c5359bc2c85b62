"""The contract of an environment: a text world that answers messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from workbench.trajectory import Message


@dataclass(frozen=True)
class Tool:
    """A tool an agent may call.

    Args:
        name: what the agent calls it.
        description: one sentence for the prompt.
        parameters: JSON schema of its arguments (an "object" schema).
    """

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """One task instance.

    Args:
        id: stable and readable; becomes the group id of its trajectories.
        question: what is asked.
        gold: "answer" (str), "aliases" (list of str), "calls" (gold tool trace: list of {"name", "arguments"}) and
            whatever else the world knows.
        data: what the world needs to play it; plain JSON.
    """

    id: str
    question: str
    gold: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What comes back from an action.

    Args:
        messages: observations (role "tool" with `answers` set, or "user").
        reward: reward of the turn; None is unknown.
        done: is the episode over?
        truncated: is it over by a limit?
        outcome: the end result, once `done`; None is unknown.
        columns: further facts of the turn by name (oracle labels ...); numbers, booleans or strings.
    """

    messages: tuple[Message, ...] = ()
    reward: float | None = None
    done: bool = False
    truncated: bool = False
    outcome: float | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Environment(Protocol):
    """A world, and one episode in it. `fresh()` gives another episode that shares what is heavy (an index).

    A world may also have `max_turns` (turns of an episode; a rollout's default), `shots` (worked examples for the
    prompt) and `oracle()` (what it knows about the present state). `step` may be a plain function: it then runs in a
    thread.
    """

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools an agent may call."""

    @property
    def state_key(self) -> str:
        """The state the next action is taken in; equal keys are the same state."""

    def tasks(self, split: str, count: int, seed: int) -> Sequence[Task]:
        """Draw `count` tasks of a split ("train" or "test"); the same seed gives the same tasks."""

    def fresh(self) -> Environment:
        """Return a new episode of the same world."""

    def reset(self, task: Task, seed: int) -> tuple[Message, ...]:
        """Begin a task; return the messages before the first turn."""

    async def step(self, message: Message) -> Step:
        """Answer an action. A malformed call gets an error observation, never an exception."""

    def snapshot(self) -> Mapping[str, Any]:
        """Return the state of the episode as plain JSON."""

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot of this or another episode of the same world."""
