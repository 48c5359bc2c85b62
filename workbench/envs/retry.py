"""A world whose user says "try again": after a wrong end the agent stands where it stood before, and may go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Self

from workbench._async import in_thread
from workbench.envs.base import Environment, Step, Task, Tool
from workbench.recipes.ufo import MOST, TRY_AGAIN, feedback
from workbench.trajectory import Message, Part


@dataclass
class Retry:
    """Any world by name; an end that is not worth 1 is met with "try again" until the attempts are used up.

        search("owner of red box") -> the owner of red box is blue cat
        answer("4 7")              -> Incorrect. Please think again.
        search("code of blue cat") -> the code of blue cat is 2 9
        answer("2 9")              -> (the end)

    What the user says is always the same: it tells that the answer was wrong, and nothing else. The agent keeps what it
    has found. The outcome is that of the last attempt; what an attempt costs is a matter of the recipe (`ufo`).

    Args:
        world: name of the world, as `workbench.envs.load` takes it.
        attempts: ends allowed, at least 1; the last one is final.
        knobs: of that world.
        say: what the user says after a wrong end; "{question}" in it stands for the question. A policy that was never
            told "try again" (the tiny ones) understands the question asked anew better than the released words.
        max_turns: turns of an episode; 0 is what the world says, and one more for each further attempt. The world's
            own oracle counts with it, too.

    Source: UFO (arXiv:2507.14295): one fixed reply, at most 5 answers.
    Differs: the release asks questions that are answered in one turn; here the world may have tools, and what was
        found stays found. The release also shows the numeric reward to the model; here nobody does.

    Example:
        >>> env = Retry("chain", knobs={"hops": 1})
        >>> env.max_turns, env.tools[-1].name
        (8, 'answer')
    """

    world: str = "chain"
    attempts: int = MOST
    knobs: Mapping[str, Any] = field(default_factory=dict)
    say: str = TRY_AGAIN
    max_turns: int = 0

    def __post_init__(self) -> None:
        from workbench.envs import load

        if self.world == "retry":
            raise ValueError("world: a retry of a retry is one with more attempts; name the world itself")
        for name, least in (("attempts", 1), ("max_turns", 0)):
            if type(value := getattr(self, name)) is not int or value < least:
                raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
        if not isinstance(self.say, str) or not self.say.strip():
            raise ValueError(f"say: expected what the user says after a wrong end, got {self.say!r}")
        self.inner: Any = load(self.world, **self.knobs)
        self.max_turns = self.max_turns or self.inner.max_turns + self.attempts - 1
        self.inner.max_turns = self.max_turns
        self.tried = 0

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Those of the world."""
        return self.inner.tools

    @property
    def shots(self) -> list[Any]:
        """The world's worked examples: none has a second attempt."""
        return getattr(self.inner, "shots", [])

    @property
    def state_key(self) -> str:
        """The world's state, and how many attempts were made."""
        return f"{self.inner.state_key}|tried {self.tried}" if self.inner.state_key else ""

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        """Draw the world's tasks."""
        return self.inner.tasks(split, count, seed)

    def fresh(self) -> Self:
        """Return a new episode of the same world."""
        other = copy(self)
        other.inner, other.tried = self.inner.fresh(), 0
        return other

    def reset(self, task: Task, seed: int = 0) -> tuple[Message, ...]:
        """Begin a task; return the world's first messages."""
        self.tried = 0
        return self.inner.reset(task, seed)

    async def step(self, message: Message) -> Step:
        """Answer an action as the world does; take a wrong end back as long as an attempt is left."""
        before = self.inner.snapshot()
        return self._answered(message, before, await _step(self.inner, message))

    def respond(self, message: Message) -> Step:
        """Do what `step` does, for a world that has `respond`."""
        before = self.inner.snapshot()
        return self._answered(message, before, self.inner.respond(message))

    def _answered(self, message: Message, before: Mapping[str, Any], made: Step) -> Step:
        if not made.done:  # it goes on, or a limit of the world's own ends it: no attempt was made
            return replace(made, columns={**made.columns, "attempts": self.tried})
        self.tried += 1
        columns = {**made.columns, "attempts": self.tried}
        _, over = feedback(made.outcome is None or made.outcome >= 1.0, self.tried, self.attempts)
        if over or made.truncated:
            return replace(made, columns=columns)
        self.inner.restore(_one_turn_later(before))
        said = self.say.replace("{question}", self.inner.task.question)
        again = Message(f"{message.id}.again", "user", (Part(text=said),))
        return Step((*made.messages, again), made.reward, columns=columns)

    def oracle(self) -> Mapping[str, Any]:
        """Return what the world's oracle knows about the present state."""
        return self.inner.oracle()

    def snapshot(self) -> Mapping[str, Any]:
        """Return the world's snapshot and the number of attempts."""
        return {"inner": self.inner.snapshot(), "tried": self.tried}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot of this or another episode of the same world."""
        self.inner.restore(snapshot["inner"])
        self.tried = int(snapshot["tried"])


async def _step(env: Environment, message: Message) -> Step:
    """Step a world, which may be written synchronously."""
    import inspect

    step: Any = env.step
    return await (step(message) if inspect.iscoroutinefunction(step) else in_thread(lambda: step(message)))


def _one_turn_later(snapshot: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a snapshot in which one more turn was taken, where it counts turns: a wrong end costs its turn."""
    progress = snapshot.get("progress", {})
    return {**snapshot, "progress": {**progress, "turn": progress["turn"] + 1}} if "turn" in progress else snapshot
