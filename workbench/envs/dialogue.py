"""A small supportive dialogue: a scripted user whose distance from being satisfied is known after every turn."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.envs.base import Step, Task, Tool
from workbench.envs.comfort import (
    KINDS,
    PHRASES,
    WORST,
    Kind,
    State,
    best_kind,
    distance,
    kind_of,
    line,
    moved,
    replies_needed,
)
from workbench.envs.demonstrate import imperfect_demonstration
from workbench.envs.games import move_tool
from workbench.envs.oracle import Call
from workbench.envs.playing import Playing
from workbench.envs.splits import check_split, split_of, tries
from workbench.envs.words import COLOURS, THINGS
from workbench.seeds import seed_for
from workbench.trajectory import Message, Part, ToolCall, Trajectory

Shot = tuple[str, list[tuple[str, str, str]], str]
"""A worked example: question, [(tool, argument, result), ...], last reply."""
SAY = move_tool("say", "Say something to the user.", "text")
SILENCE = "are you there ?"
REACTIONS = {-1: "yes", 0: "hm", 1: "no"}
"""What the user begins with: closer, the same, further away."""
AGAIN = "again ?"


@dataclass(frozen=True)
class Progress:
    """Where an episode stands.

    Args:
        state: of the user.
        said: what the agent said, in order, as the user remembers it.
        turn, done: turns taken, is the user satisfied?
    """

    state: State = State(0, 0, 0)
    said: tuple[str, ...] = ()
    turn: int = 0
    done: bool = False

    @property
    def outcome(self) -> float | None:
        """1.0 once the user is satisfied, None before."""
        return 1.0 if self.done else None


@dataclass
class Dialogue(Playing[Progress]):
    """Help a user who has lost something, in a few turns.

        my red box is gone : I feel bad , why did it happen
        say("The reason is bad luck")  -> no : I feel awful , why did it happen
        say("I am sorry")              -> yes : I feel bad , why did it happen
        say("That is hard")            -> yes : why did it happen
        say("It is no fault of yours") -> yes : thank you

    What helps when is in `workbench.envs.comfort`; the same words twice do nothing. Text without a call counts as said.
    The user's state is exact and recorded: `state_distance` and `state_distance_before` a turn. Help that comes too
    early makes the user feel worse at once; comfort also pays later, when reasons and plans are heard: rewards now and
    returns tell different stories.

    The outcome is 1 once the user is satisfied; an episode that reaches the limit is truncated (0).

    Args:
        worst: the most an axis begins with, 1 to 5.
        seed: of the worked examples.
        max_turns: turns of an episode; 0 is the most replies a user can need, and 1.

    Source: MAPO / MICA (arXiv:2603.06194) has simulated users and a judge of their state; this user is ours.

    Example:
        >>> env = Dialogue()
        >>> env.reset(env.tasks("train", 1)[0])[0].text
        'my blue door is gone : why did it happen , what can I do now'
    """

    worst: int = 4
    seed: int = 0
    max_turns: int = 0
    _progress = Progress()

    def __post_init__(self) -> None:
        if not 1 <= self.worst <= WORST:
            raise ValueError(f"worst: expected 1 to {WORST}, got {self.worst!r}")
        if self.max_turns < 0:
            raise ValueError(f"max_turns: expected 0 (the world says) or more, got {self.max_turns!r}")
        self.max_turns = self.max_turns or replies_needed(State(self.worst, self.worst, self.worst)) + 1

    # -- the contract ----------------------------------------------------------------------------------------

    @property
    def tools(self) -> tuple[Tool, ...]:
        """`say(text)`"""
        return (SAY,)

    @property
    def state_key(self) -> str:
        """The task, the user's state and what was said, in whatever order; empty before a task has begun."""
        if self._task is None:
            return ""
        said = "/".join(sorted(set(self._progress.said)))
        return f"{self._task.id}|{' '.join(map(str, self._progress.state))}|{said}"

    def tasks(self, split: str, count: int, seed: int = 0) -> list[Task]:
        """Generate `count` tasks of a split ("train", "test" or "shots"); each is a function of (seed, its number)."""
        check_split(split)
        return [self._generate(split, seed, number) for number in range(count)]

    def reset(self, task: Task, seed: int = 0) -> tuple[Message, ...]:
        """Begin a task; return what the user says first. The user draws nothing, so the seed changes nothing.

        Raises:
            ValueError: the task has no state of a user, or one that is satisfied already.
        """
        self._task, self._progress = task, Progress(_state(task))
        return (Message("question", "user", (Part(text=task.question),)),)

    def respond(self, message: Message) -> Step:
        """Let the user react to what was said: the text of the first call of `say`, else the text as it stands."""
        self.check_goes_on("the user is satisfied")
        call, text = _said(message)
        now, heard = self._progress, " ".join(text.lower().split())
        kind = kind_of(heard) if heard and heard not in now.said else "none"
        state = moved(now.state, kind)
        done = distance(state) == 0
        self._progress = Progress(state, (*now.said, heard) if heard else now.said, now.turn + 1, done)
        needed = replies_needed(state)
        columns = {
            "malformed": not heard,
            "state_distance_before": distance(now.state),
            "state_distance": distance(state),
            "oracle_on_path": needed < replies_needed(now.state),
            "oracle_reachable": needed <= self.max_turns - now.turn - 1,
            "oracle_distance": needed,
            "heard_as": kind,
        }
        reply = self._reply(now, state, heard)
        answers = {"role": "tool", "author": "say", "answers": call.id} if call else {"role": "user"}
        said = Message(f"{message.id}.0", parts=(Part(text=reply),), **answers)  # type: ignore[arg-type]
        return Step((said,), done=done, outcome=1.0 if done else None, columns=columns)

    def snapshot(self) -> Mapping[str, Any]:
        """Return the task and the progress as plain JSON."""
        now = self._progress
        return self.snapshot_of({"state": list(now.state), "said": list(now.said), "turn": now.turn, "done": now.done})

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot of this or another episode of the same world."""
        now = snapshot["progress"]
        self._task = Task(**snapshot["task"])
        self._progress = Progress(State(*now["state"]), tuple(now["said"]), now["turn"], now["done"])

    # -- the oracle, and who plays by it ---------------------------------------------------------------------

    def oracle(self) -> Mapping[str, Any]:
        """Return the user's `state` and `distance`, how many replies are `needed`, and the `best` call."""
        state = self.progress.state
        needed, left = replies_needed(state), self.max_turns - self.progress.turn
        known = {"state": state._asdict(), "distance": distance(state), "needed": needed, "reachable": needed <= left}
        return {**known, "best": self.best()}

    def best(self) -> Call:
        """Return a reply of the best kind in words not said yet."""
        return self.reply_of(best_kind(self.progress.state))

    def reply_of(self, kind: Kind) -> Call:
        """Return a reply of a kind, in words not said yet as long as there are some."""
        phrases = PHRASES[kind]
        new = [phrase for phrase in phrases if phrase.lower() not in self.progress.said]
        return {"name": "say", "arguments": {"text": (new or list(phrases))[0]}}

    def imperfect_demonstration(self, task: Task, rng: random.Random, error_rate: float) -> Trajectory:
        """Return a scripted play of a task, with replies of any kind, old words included, at that rate."""
        return imperfect_demonstration(self, task, rng, error_rate, any_reply)

    @property
    def shots(self) -> list[Shot]:
        """Two worked examples, of users that are in no other split."""
        return [_shot(self.fresh(), task) for task in self.tasks("shots", 2, self.seed)]

    # -- small parts -----------------------------------------------------------------------------------------

    def _reply(self, before: Progress, state: State, heard: str) -> str:
        if not heard:
            return f"{SILENCE} : {line(state)}"
        was, is_ = distance(before.state), distance(state)
        reaction = AGAIN if heard in before.said else REACTIONS[(is_ > was) - (is_ < was)]
        return f"{reaction} : {line(state)}"

    def _generate(self, split: str, seed: int, number: int) -> Task:
        """Draw users until one belongs to the split."""
        name = f"dialogue-{self.worst}-{split}-{seed}-{number}"
        rng = random.Random(seed_for(name))
        for _ in tries(name):
            state = State(*(rng.randint(0, self.worst) for _ in range(3)))
            lost = f"{rng.choice(COLOURS)} {rng.choice(THINGS)}"
            if any(state) and split_of("dialogue", lost, *map(str, state)) == split:
                break
        return Task(name, f"my {lost} is gone : {line(state)}", {}, {"state": list(state), "split": split})


def _said(message: Message) -> tuple[ToolCall | None, str]:
    """Return the first call of `say` that can be read and its text; without one, the message's own text."""
    for call in message.calls:
        given = (call.arguments or {}).get("text")
        if call.name == "say" and isinstance(given, str):
            return call, given
    return None, message.text


def _state(task: Task) -> State:
    given = task.data.get("state")
    fits = isinstance(given, Sequence) and len(given) == 3 and all(type(x) is int and 0 <= x <= WORST for x in given)
    if not fits or not any(given):
        expected = f"three whole numbers of 0 to {WORST}, one of them above 0"
        raise ValueError(f"task {task.id!r}: expected data['state'], {expected}; got {given!r}")
    return State(*given)


def hasty(env: Any, best: Call) -> Call | None:
    """Answer what a user asks while they feel too bad to hear it: a habit for `workbench.envs.misread`."""
    feels, sees, acts = env.progress.state
    if feels <= 1 or not (sees or acts):
        return None
    return env.reply_of("explain" if sees else "plan")  # type: ignore[no-any-return]


def any_reply(env: Any, last: Call | None, rng: random.Random) -> tuple[str, Call]:
    """Make a mistake: any phrase of any kind, which may be a good one, or said before."""
    return "any", {"name": "say", "arguments": {"text": rng.choice(PHRASES[rng.choice(KINDS)])}}


def _shot(env: Dialogue, task: Task) -> Shot:
    """Play a task by the oracle; the last reply is what the example ends with."""
    env.reset(task)
    calls: list[tuple[str, str, str]] = []
    while True:
        text = env.best()["arguments"]["text"]
        made = ToolCall("shot", "say", arguments={"text": text})
        reply = env.respond(Message("shot", "assistant", calls=(made,)))
        if reply.done:
            return task.question, calls, text
        calls.append(("say", text, reply.messages[0].text))
