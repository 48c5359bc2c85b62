"""What the board games share: one move a turn, a position that is a string, and an oracle that judges every move.

A game says how a position is drawn, what a move makes of it and what its oracle says of the move. `Game` plays the
episode: it reads the call, refuses what is no move with a fixed text, counts turns, keeps snapshots.
"""

from __future__ import annotations

import random
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from workbench.envs.base import Step, Task, Tool
from workbench.envs.demonstrate import imperfect_demonstration
from workbench.envs.oracle import Call
from workbench.envs.playing import Playing
from workbench.envs.splits import check_split
from workbench.trajectory import Message, Part, ToolCall, Trajectory

INVALID = -2.0
"""What a turn without a move that can be made is worth, whatever the game. Source: VPR, the rewards of its games."""

ONE_CALL = "error : one call a turn"
Shot = tuple[str, list[tuple[str, str, str]], str]
"""A worked example: question, [(tool, argument, result), ...], argument of the last move."""


def move_tool(name: str, description: str, argument: str) -> Tool:
    """Return a tool with one text argument: what fits on a line of plain text."""
    schema = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    return Tool(name, description, schema)


def read_numbers(text: Any, count: int) -> tuple[int, ...] | None:
    """Read `count` whole numbers of one or two digits with blanks or commas between them; None if it is anything else.

    Example:
        >>> read_numbers("1, 3 4", 3), read_numbers("1 3", 3), read_numbers("1 -3 4", 3)
        ((1, 3, 4), None, None)
    """
    parts = text.replace(",", " ").split() if isinstance(text, str) and len(text) < 100 else []
    fits = len(parts) == count and all(re.fullmatch("[0-9]{1,2}", part) for part in parts)
    return tuple(int(part) for part in parts) if fits else None


@dataclass(frozen=True)
class Played:
    """What a move made of a position, and what the oracle says of it.

    Args:
        position: after the move, and after the answer of a rival.
        value: V(position before, move): the oracle's graded reward.
        on_path: is it a good move: in Tic-Tac-Toe as good as any, else one that is worth more than 0?
        refused: why the move could not be made (fixed texts); "" if it was made.
        ended: text that the game ends with; "" if it goes on.
        outcome: the end result, once it has ended.
        columns: what else the oracle knows of the move.
    """

    position: str
    value: float
    on_path: bool
    refused: str = ""
    ended: str = ""
    outcome: float | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Where an episode stands: the position, turns taken, is it over, the outcome once it is."""

    position: str = ""
    turn: int = 0
    done: bool = False
    outcome: float | None = None


class Game(Playing[Progress]):
    """One episode of a board game (see `workbench.envs.base.Environment` for the contract).

    A game sets `NUMBERS` (how many whole numbers each tool takes) and gives the methods below; its knob `max_turns` is
    the most turns of an episode, refused moves included.
    """

    NUMBERS: Mapping[str, int]
    ARGUMENT: str
    max_turns: int
    seed: int
    _progress = Progress()

    @property
    @abstractmethod
    def tools(self) -> tuple[Tool, ...]:
        """The moves."""

    @abstractmethod
    def generate(self, split: str, seed: int, number: int) -> Task:
        """Make a task, a function of its split, the seed and its number."""

    @abstractmethod
    def begin(self, task: Task) -> str:
        """Return the position a task begins in.

        Raises:
            ValueError: the task's data is none of this game.
        """

    @abstractmethod
    def check_position(self, task: Task, position: str) -> None:
        """Refuse a string that is no position of a task.

        Raises:
            ValueError: it is none.
        """

    @abstractmethod
    def view(self, position: str) -> str:
        """Return a position as the agent sees it."""

    @abstractmethod
    def play(self, task: Task, position: str, tool: str, numbers: Sequence[int]) -> Played:
        """Make a move; one that cannot be made is `refused`, never an exception."""

    def known(self, position: str) -> Mapping[str, Any]:
        """Return what the oracle knows of a position, whatever led to it: columns of every turn."""
        return {}

    @abstractmethod
    def legal(self) -> list[Call]:
        """Return the moves that can be made in the present position."""

    @abstractmethod
    def best(self) -> Call:
        """Return the oracle's move in the present position."""

    # -- the contract ----------------------------------------------------------------------------------------

    def tasks(self, split: str, count: int, seed: int = 0) -> list[Task]:
        """Generate `count` tasks of a split ("train", "test" or "shots"); each is a function of (seed, its number)."""
        check_split(split)
        return [self.generate(split, seed, number) for number in range(count)]

    @property
    def state_key(self) -> str:
        """The task and the position; empty before a task has begun."""
        if self._task is None:
            return ""
        return f"{self._task.id}|{self._progress.position}" + ("|done" if self._progress.done else "")

    def reset(self, task: Task, seed: int = 0) -> tuple[Message, ...]:
        """Begin a task; return its question. All chance is the task's own, so the seed changes nothing."""
        position = self.begin(task)
        self.check_position(task, position)
        self._task, self._progress = task, Progress(position)
        return (Message("question", "user", (Part(text=task.question),)),)

    def respond(self, message: Message) -> Step:
        """Make the first call of an action; further ones, or none at all, get an error text.

        A malformed call and a move that cannot be made leave the position as it is, cost the turn, and are worth
        `INVALID`; the observation says why and shows the position again.
        """
        self.check_goes_on()
        now = self._progress
        call = message.calls[0] if message.calls else None
        numbers = self._read(call)
        if call is None or numbers is None:
            made = Played(now.position, INVALID, False, refused=self._usage(call))
        else:
            made = self.play(self.task, now.position, call.name, numbers)
        over = made.outcome is not None
        self._progress = Progress(made.position, now.turn + 1, over, made.outcome)
        columns = {
            "malformed": numbers is None or len(message.calls) > 1,
            "illegal": bool(made.refused),
            "oracle_on_path": made.on_path,
            "oracle_value": made.value,
            **self.known(made.position),
            **made.columns,
        }
        return Step(self._replies(message, made), done=over, outcome=made.outcome, columns=columns)

    def snapshot(self) -> Mapping[str, Any]:
        """Return the task and the progress as plain JSON."""
        return self.snapshot_of(asdict(self._progress))

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot of this or another episode of the same game.

        Raises:
            ValueError: it holds no position of this game.
        """
        task, progress = Task(**snapshot["task"]), Progress(**snapshot["progress"])
        self.check_position(task, progress.position)
        self._task, self._progress = task, progress

    # -- the oracle, and who plays by it ---------------------------------------------------------------------

    def judge(self, call: Call) -> Played:
        """Return what the oracle says of a call made now; the episode stays where it is.

        Raises:
            ValueError: it is no call of this game.
        """
        numbers = self._read(ToolCall("judged", call["name"], arguments=call["arguments"]))
        if numbers is None:
            raise ValueError(f"expected a call such as {self.best()}, got {call!r}")
        return self.play(self.task, self.progress.position, call["name"], numbers)

    def oracle(self) -> Mapping[str, Any]:
        """Return the `best` call and the `values` of all moves that can be made: [(call, value), ...]."""
        return {"best": self.best(), "values": [(call, self.judge(call).value) for call in self.legal()]}

    def imperfect_demonstration(self, task: Task, rng: random.Random, error_rate: float) -> Trajectory:
        """Return a scripted play of a task: the oracle's moves, each replaced by any legal one with that rate."""
        return imperfect_demonstration(self, task, rng, error_rate, any_move)

    @property
    def shots(self) -> list[Shot]:
        """Two worked examples, of tasks that are in no other split."""
        return [self._shot(task) for task in self.tasks("shots", 2, self.seed)]

    # -- small parts -----------------------------------------------------------------------------------------

    def call(self, tool: str, *numbers: int) -> Call:
        """Return a call, e.g. {"name": "play", "arguments": {"cell": "5"}}."""
        return {"name": tool, "arguments": {self.ARGUMENT: " ".join(map(str, numbers))}}

    def _read(self, call: ToolCall | None) -> tuple[int, ...] | None:
        if call is None or call.arguments is None or call.name not in self.NUMBERS:
            return None
        return read_numbers(call.arguments.get(self.ARGUMENT), self.NUMBERS[call.name])

    def _usage(self, call: ToolCall | None) -> str:
        """Say how a call is written: of the tool that was meant, or of any."""
        meant = [call.name] if call is not None and call.name in self.NUMBERS else list(self.NUMBERS)
        plural = {name: "a number" if self.NUMBERS[name] == 1 else f"{self.NUMBERS[name]} numbers" for name in meant}
        return "error : " + " or ".join(f"{name} needs {what}" for name, what in plural.items())

    def _replies(self, message: Message, made: Played) -> tuple[Message, ...]:
        text = " : ".join(part for part in (made.refused, made.ended, self.view(made.position)) if part)
        if not message.calls:
            return (Message(f"{message.id}.0", "user", (Part(text=text),)),)
        texts = [text, *[ONE_CALL] * (len(message.calls) - 1)]
        return tuple(
            Message(f"{message.id}.{n}", "tool", (Part(text=said),), call.name, answers=call.id)
            for n, (call, said) in enumerate(zip(message.calls, texts, strict=True))
        )

    def _shot(self, task: Task) -> Shot:
        """Play a task by the oracle; the last move is what the example ends with."""
        env, calls = self.fresh(), []
        env.reset(task)
        while True:
            call = env.best()
            made = ToolCall("shot", call["name"], arguments=call["arguments"])
            reply = env.respond(Message("shot", "assistant", calls=(made,)))
            if reply.done or len(calls) + 1 >= self.max_turns:
                return task.question, calls, call["arguments"][self.ARGUMENT]
            calls.append((call["name"], call["arguments"][self.ARGUMENT], reply.messages[0].text))


def any_move(env: Any, last: Call | None, rng: random.Random) -> tuple[str, Call]:
    """Make a mistake in a game: any move that can be made, which may be a good one."""
    return "any", rng.choice(env.legal())
