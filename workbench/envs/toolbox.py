"""A small store behind an API of tools: what is asked for can be checked call by call, and in the end."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench.envs.answers import exact_match
from workbench.envs.base import Step, Task, Tool
from workbench.envs.demonstrate import imperfect_demonstration
from workbench.envs.oracle import Call
from workbench.envs.playing import Playing
from workbench.envs.splits import check_split, split_of, tries
from workbench.envs.store_api import (
    ARGUMENT,
    MOST,
    NEEDS,
    NO_SUCH_TOOL,
    TOOLS,
    Store,
    played,
    run_call,
    share,
    trace_problem,
)
from workbench.envs.words import COLOURS, THINGS
from workbench.seeds import seed_for
from workbench.trajectory import Message, Part, ToolCall, Trajectory

Shot = tuple[str, list[tuple[str, str, str]], str]
"""A worked example: question, [(tool, argument, result), ...], answer."""
LARGEST = 5  # of the numbers a request names
FULLEST = 9  # of what a thing holds at first


@dataclass(frozen=True)
class Progress:
    """Where an episode stands.

    Args:
        store: how many are in each thing.
        followed: calls of the gold trace made so far, in order.
        turn, done, outcome: turns taken, is it over, the outcome once it is.
    """

    store: Store
    followed: int = 0
    turn: int = 0
    done: bool = False
    outcome: float | None = None


class _Episode(Playing[Progress]):
    """One episode of a `Toolbox`."""

    max_turns: int
    _progress = Progress({})

    @property
    def tools(self) -> tuple[Tool, ...]:
        """`count(thing)`, `add(what)`, `take(what)` and `answer(text)`."""
        return TOOLS

    @property
    def state_key(self) -> str:
        """The task, what is in the store, and how much of the gold trace was made; empty before a task has begun."""
        if self._task is None:
            return ""
        held = " ".join(str(self._progress.store[thing]) for thing in sorted(self._progress.store))
        return f"{self._task.id}|{held}|{self._progress.followed}" + ("|done" if self._progress.done else "")

    def reset(self, task: Task, seed: int = 0) -> tuple[Message, ...]:
        """Begin a task; return what is asked. This world draws nothing, so the seed changes nothing.

        Raises:
            ValueError: the gold trace does not fit the tools, fails, or does not lead to the goal.
        """
        check_task(task, self.tools)
        self._task, self._progress = task, Progress(dict(task.data["store"]))
        return (Message("question", "user", (Part(text=task.question),)),)

    def respond(self, message: Message) -> Step:
        """Make the calls of an action in order, up to the first well-formed `answer`.

        A malformed call, one that fails, or an action without any gets an error text as its observation.
        """
        self.check_goes_on()
        before, worked, malformed, replies = self._progress, 0, not message.calls, []
        for number, call in enumerate(message.calls):
            if self._progress.done:
                break
            problem = problem_of(call)
            said, fine = (problem, False) if problem else self._make(call)  # what is wrong is said, never raised
            worked, malformed = worked + fine, malformed or bool(problem)
            if said:
                replies.append(
                    Message(f"{message.id}.{number}", "tool", (Part(text=said),), call.name, answers=call.id)
                )
        if not message.calls:
            replies.append(Message(f"{message.id}.0", "user", (Part(text=NO_SUCH_TOOL),)))
        self._progress = replace(self._progress, turn=before.turn + 1)
        after = self._progress
        columns = {
            "malformed": malformed,
            "calls_ok": worked,
            "state_share": share(after.store, self.task.gold["store"]),
            "on_trace": after.followed > before.followed,
        }
        return Step(tuple(replies), done=after.done, outcome=after.outcome, columns=columns)

    def _make(self, call: ToolCall) -> tuple[str, bool]:
        """Make a call; return what it says ("" for an answer), and whether a tool worked."""
        assert call.arguments is not None
        given, now = call.arguments[ARGUMENT[call.name]], self._progress
        calls = self.task.gold["calls"]
        next_ = calls[now.followed] if now.followed < len(calls) else {}
        meets = next_.get("name") == call.name and _same(next_["arguments"][ARGUMENT[call.name]], given)
        followed = now.followed + meets
        if call.name == "answer":
            right = exact_match(given, self.task.gold["aliases"]) and share(now.store, self.task.gold["store"]) == 1.0
            self._progress = replace(now, followed=followed, done=True, outcome=float(right))
            return "", False
        done = run_call(now.store, call.name, given)
        self._progress = replace(now, store=done.store, followed=followed)
        return done.said, done.worked

    def best(self) -> Call:
        """Return the next call of the gold trace; the answer once all of it was made."""
        calls = self.task.gold["calls"]
        return calls[min(self.progress.followed, len(calls) - 1)]

    def snapshot(self) -> Mapping[str, Any]:
        """Return the task and the progress as plain JSON."""
        now = self._progress
        return self.snapshot_of({**now.__dict__, "store": dict(now.store)})

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot of this or another episode of the same world."""
        self._task, self._progress = Task(**snapshot["task"]), Progress(**snapshot["progress"])


@dataclass
class Toolbox(_Episode):
    """Do what is asked with the tools of a small store, then answer.

        add 3 to red box , take from gold tree what blue cat holds , what does gold tree hold ?
        add("3 red box")      -> red box holds 7
        count("blue cat")     -> blue cat holds 2
        take("2 gold tree")   -> gold tree holds 5
        answer("5")

    The outcome is 1 if the answer is right and every thing holds what it should. A turn records how many of its calls
    worked (`calls_ok`), which share of the things hold what they should after it (`state_share`; some do from the
    beginning), and whether it made the next call of the gold trace (`on_trace`; other ways may be as good).

    Args:
        changes: asked for, 1 to 6; about half of them take their number from another thing.
        things: in the store, 2 to 8.
        seed: of the worked examples.
        max_turns: turns of an episode; 0 is 2 a change, and 4: more than any gold trace has.

    Example:
        >>> env = Toolbox(changes=1)
        >>> task = env.tasks("train", 1)[0]
        >>> [call["name"] for call in task.gold["calls"]]
        ['add', 'count', 'answer']
    """

    changes: int = 2
    things: int = 3
    seed: int = 0
    max_turns: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (("changes", 1, 6), ("things", 2, 8)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: expected {low} to {high}, got {getattr(self, name)!r}")
        if self.max_turns < 0:
            raise ValueError(f"max_turns: expected 0 (the world says) or more, got {self.max_turns!r}")
        self.max_turns = self.max_turns or 2 * self.changes + 4

    def tasks(self, split: str, count: int, seed: int = 0) -> list[Task]:
        """Generate `count` tasks of a split ("train", "test" or "shots"); each is a function of (seed, its number)."""
        check_split(split)
        return [self._generate(split, seed, number) for number in range(count)]

    def _generate(self, split: str, seed: int, number: int) -> Task:
        """Draw requests until one belongs to the split."""
        name = f"toolbox-{self.changes}-{self.things}-{split}-{seed}-{number}"
        rng = random.Random(seed_for(name))
        every = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
        for _ in tries(name):
            store = {thing: rng.randint(1, FULLEST) for thing in rng.sample(every, self.things)}
            asked, calls = _requests(store, self.changes, rng)
            if split_of("toolbox", asked) == split:
                break
        goal = played(store, calls)
        gold = {"answer": calls[-1]["arguments"]["text"], "calls": calls, "store": dict(goal)}
        gold["aliases"] = [gold["answer"]]
        return Task(name, asked, gold, {"store": store, "split": split})

    def imperfect_demonstration(self, task: Task, rng: random.Random, error_rate: float) -> Trajectory:
        """Return a scripted play of a task: the gold trace, with calls of other numbers or things at that rate."""
        return imperfect_demonstration(self, task, rng, error_rate, spoiled)

    @property
    def shots(self) -> list[Shot]:
        """Two worked examples, of requests that are in no other split."""
        return [_shot(self.fresh(), task) for task in self.tasks("shots", 2, self.seed)]


def problem_of(call: ToolCall) -> str:
    """Return the error text a malformed call is answered with; "" if it is well formed."""
    if call.name not in ARGUMENT:
        return NO_SUCH_TOOL
    given = (call.arguments or {}).get(ARGUMENT[call.name])
    return "" if isinstance(given, str) and given.strip() else NEEDS[call.name]


def check_task(task: Task, tools: Sequence[Tool]) -> None:
    """Refuse a task whose gold trace cannot be played with these tools, or does not lead to its goal and an answer.

    Raises:
        ValueError: names the task, the call or thing, and what is wrong with it.
    """
    where = f"task {task.id!r}: the gold trace does not fit"
    store, goal = task.data.get("store"), task.gold.get("store")
    if not isinstance(store, Mapping) or not isinstance(goal, Mapping) or set(store) != set(goal) or not store:
        raise ValueError(f"task {task.id!r}: expected data['store'] and gold['store'] with the same things")
    for name, held in (("data['store']", store), ("gold['store']", goal)):
        odd = next((thing for thing, n in held.items() if type(n) is not int or not 0 <= n <= MOST), None)
        if odd is not None:
            raise ValueError(f"task {task.id!r}: {name} of {odd!r}: expected 0 to {MOST}, got {held[odd]!r}")
    if problem := trace_problem(task.gold.get("calls"), tools):
        raise ValueError(f"{where} the tools: {problem}")
    calls = task.gold["calls"]
    if not calls or calls[-1]["name"] != "answer" or any(call["name"] == "answer" for call in calls[:-1]):
        raise ValueError(f"{where}: expected one answer, as its last call, got {[call['name'] for call in calls]}")
    try:
        after = played(store, calls)
    except ValueError as error:
        raise ValueError(f"task {task.id!r}: {error}") from None
    if dict(after) != dict(goal):
        raise ValueError(f"{where} the goal: it leads to {dict(after)}, gold['store'] is {dict(goal)}")
    answer, aliases = calls[-1]["arguments"]["text"], task.gold.get("aliases")
    texts = isinstance(aliases, Sequence) and not isinstance(aliases, str) and all(isinstance(a, str) for a in aliases)
    if not texts or not exact_match(answer, aliases):
        raise ValueError(f"{where} the answers: it answers {answer!r}, gold['aliases'] is {aliases!r}")


def _requests(store: Store, changes: int, rng: random.Random) -> tuple[str, list[Call]]:
    """Draw what is asked, and the calls that do it; what a reader has seen is not counted again."""
    asked, calls, seen, now = [], [], set(), dict(store)
    for _ in range(changes):
        thing, other = rng.sample(list(store), 2)
        by_other = rng.random() < 0.5 and 0 < now[other] <= MOST - now[thing]
        number = now[other] if by_other else rng.randint(1, LARGEST)
        less = number <= now[thing] and (rng.random() < 0.5 or now[thing] + number > MOST)
        name = "take" if less else "add"
        way = "from" if name == "take" else "to"
        asked.append(f"{name} {way} {thing} what {other} holds" if by_other else f"{name} {number} {way} {thing}")
        if by_other and other not in seen:
            calls.append({"name": "count", "arguments": {"thing": other}})
        calls.append({"name": name, "arguments": {"what": f"{number} {thing}"}})
        seen |= {thing, other} if by_other else {thing}
        now = dict(played(now, calls[-1:]))
    last = rng.choice(list(store))
    if last not in seen:
        calls.append({"name": "count", "arguments": {"thing": last}})
    calls.append({"name": "answer", "arguments": {"text": str(now[last])}})
    return " , ".join([*asked, f"what does {last} hold ?"]), calls


def _same(a: Any, b: Any) -> bool:
    return str(a).lower().split() == str(b).lower().split()


def add_for_take(env: Any, best: Call) -> Call | None:
    """Put in what should be taken out: a habit for `workbench.envs.misread`."""
    return {**best, "name": "add"} if best["name"] == "take" else None


def spoiled(env: Any, last: Call | None, rng: random.Random) -> tuple[str, Call]:
    """Make a mistake: another thing (every other time any at all, so that the call fails), or another number."""
    best = env.best()
    (key, value), things = next(iter(best["arguments"].items())), list(env.progress.store)
    if rng.random() < 0.5:
        things = [f"{rng.choice(COLOURS)} {rng.choice(THINGS)}"]
    number = str(rng.randint(1, LARGEST))
    if best["name"] == "answer":
        return "answer", {"name": "answer", "arguments": {key: number}}
    if best["name"] == "count" or rng.random() < 0.5:
        amount = "" if best["name"] == "count" else value.split()[0] + " "
        return "thing", {"name": best["name"], "arguments": {key: amount + rng.choice(things)}}
    return "number", {"name": best["name"], "arguments": {key: f"{number} {value.split(maxsplit=1)[1]}"}}


def _shot(env: Any, task: Task) -> Shot:
    """Return a task as a worked example."""
    env.reset(task)
    calls = []
    for call in task.gold["calls"][:-1]:
        made = ToolCall("shot", call["name"], arguments=call["arguments"])
        reply = env.respond(Message("shot", "assistant", calls=(made,)))
        calls.append((call["name"], call["arguments"][ARGUMENT[call["name"]]], reply.messages[0].text))
    return task.question, calls, task.gold["answer"]
