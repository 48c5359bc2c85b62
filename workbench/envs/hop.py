"""Multi-hop question answering by search: what the worlds of this family share.

An episode is a question, any number of `search(query)` calls, and one `answer(text)` that ends it. `Hop` plays the
episode; a world says what a search finds and which facts of a turn it knows. Most look into documents: `Documents`.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workbench.envs.answers import exact_match
from workbench.envs.base import Step, Task, Tool
from workbench.envs.index import Index
from workbench.envs.playing import Playing
from workbench.trajectory import Message, Part, ToolCall

SEARCH = Tool(
    "search",
    "Search the documents.",
    {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
)
ANSWER = Tool(
    "answer",
    "Give the final answer.",
    {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
)
ARGUMENT = {"search": "query", "answer": "text"}

Shot = tuple[str, list[tuple[str, str]], str]
"""A worked example: question, [(query, result), ...], answer."""

# Every error text is fixed, so that a model with a closed list of words can read it; the reason stands in the call.
NOTHING_FOUND = "nothing found"
NO_SUCH_CALL = "error : use search or answer"
NO_ARGUMENT = {"search": "error : search needs a query", "answer": "error : answer needs a text"}
FIXED_TEXTS = (NOTHING_FOUND, NO_SUCH_CALL, *NO_ARGUMENT.values())


def cut(text: str, limit: int) -> str:
    """Cut a text to `limit` characters and say how many are missing.

    Example:
        >>> cut("abcdef", 4)
        'abcd [2 more characters cut]'
    """
    return text if len(text) <= limit else f"{text[:limit]} [{len(text) - limit} more characters cut]"


def _text(text: str) -> tuple[Part, ...]:
    return (Part(text=text),)


def problem_of(call: ToolCall) -> str | None:
    """Return the error text a malformed call is answered with, or None if the call is well formed."""
    if call.name not in ARGUMENT:
        return NO_SUCH_CALL
    given = (call.arguments or {}).get(ARGUMENT[call.name])
    return None if isinstance(given, str) and given.strip() else NO_ARGUMENT[call.name]


def shot_of(task: Task) -> Shot:
    """Return a task as a worked example: its gold searches with what they find, and the answer."""
    queries = [call["arguments"]["query"] for call in task.gold["calls"][:-1]]
    return task.question, list(zip(queries, task.gold["documents"], strict=True)), task.gold["answer"]


def findable(task: Task, index: Index) -> bool:
    """True if each gold search of a task puts its gold document first."""
    queries = [call["arguments"]["query"] for call in task.gold["calls"][:-1]]
    return [index.search(query) for query in queries] == [[document] for document in task.gold["documents"]]


@dataclass(frozen=True)
class Progress:
    """Where an episode stands.

    Args:
        found: documents found so far, each once, in the order they were found.
        turn: turns taken.
        done: has an answer been given?
        outcome: 1.0 right, 0.0 wrong; None before the answer.
    """

    found: tuple[str, ...] = ()
    turn: int = 0
    done: bool = False
    outcome: float | None = None

    def after_search(self, documents: Sequence[str]) -> Progress:
        """Return the progress once `documents` have been found."""
        found = tuple(dict.fromkeys((*self.found, *documents)))
        return Progress(found, self.turn, self.done, self.outcome)

    def after_answer(self, outcome: float) -> Progress:
        """Return the progress once an answer has been given."""
        return Progress(self.found, self.turn, True, outcome)

    def after_turn(self) -> Progress:
        """Return the progress one turn later."""
        return Progress(self.found, self.turn + 1, self.done, self.outcome)


class Hop(Playing[Progress]):
    """One episode of a world of this family (see `workbench.envs.base.Environment` for the contract).

    A world gives `tasks`, `find` and, if it knows more about a turn, `columns`; and the knobs `limit` (characters of
    an observation) and `max_turns`.
    """

    limit: int
    max_turns: int
    _progress = Progress()

    @abstractmethod
    def tasks(self, split: str, count: int, seed: int = 0) -> list[Task]:
        """Draw `count` tasks of a split."""

    @abstractmethod
    def find(self, query: str) -> tuple[Progress, str]:
        """Return the progress after a search in the present state, and what the search says ("" for nothing)."""

    def columns(self, task: Task, before: Progress, after: Progress) -> dict[str, Any]:
        """Return what the world knows about a turn."""
        return {}

    # -- the contract ----------------------------------------------------------------------------------------

    @property
    def tools(self) -> tuple[Tool, ...]:
        """`search(query)` and `answer(text)`."""
        return (SEARCH, ANSWER)

    @property
    def state_key(self) -> str:
        """The task and the set of documents found so far, in whatever order; empty before a task has begun."""
        if self._task is None:
            return ""
        found = hashlib.blake2b("\n".join(sorted(self._progress.found)).encode(), digest_size=6).hexdigest()
        return f"{self._task.id}|{found}" + ("|done" if self._progress.done else "")

    def reset(self, task: Task, seed: int = 0) -> tuple[Message, ...]:
        """Begin a task; return its question. These worlds draw nothing, so the seed changes nothing."""
        self._task, self._progress = task, Progress()
        return (Message("question", "user", _text(task.question)),)

    def respond(self, message: Message) -> Step:
        """Make the calls of an action in order, up to the first well-formed `answer`.

        A malformed call, or an action without any, gets an error text as its observation.
        """
        self.check_goes_on()
        before, malformed, replies = self._progress, not message.calls, []
        for number, call in enumerate(message.calls):
            if self._progress.done:
                break
            malformed = malformed or problem_of(call) is not None
            text = self._make(call)
            if text is not None:
                replies.append(
                    Message(f"{message.id}.{number}", "tool", _text(cut(text, self.limit)), call.name, answers=call.id)
                )
        if not message.calls:
            replies.append(Message(f"{message.id}.0", "user", _text(NO_SUCH_CALL)))
        self._progress = self._progress.after_turn()
        after = self._progress
        columns = {"malformed": malformed, **self.columns(self.task, before, after)}
        return Step(tuple(replies), done=after.done, outcome=after.outcome, columns=columns)

    def _make(self, call: ToolCall) -> str | None:
        """Make one call; return its observation, or None where there is nothing to say (the answer)."""
        problem = problem_of(call)
        if problem is not None or call.arguments is None:
            return problem
        given = call.arguments[ARGUMENT[call.name]]
        if call.name == "answer":
            self._progress = self._progress.after_answer(exact_match(given, self.task.gold["aliases"]))
            return None
        self._progress, found = self.find(given)
        return found or NOTHING_FOUND

    def snapshot(self) -> Mapping[str, Any]:
        """Return the task and the progress as plain JSON."""
        return self.snapshot_of({**asdict(self._progress), "found": list(self._progress.found)})

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot of this or another episode of the same world."""
        progress = snapshot["progress"]
        self._task = Task(**snapshot["task"])
        self._progress = Progress(**{**progress, "found": tuple(progress["found"])})


class Documents(Hop):
    """A world whose searches look into a list of documents.

    A world gives `index` beside what `Hop` asks for, and the knob `results`: documents a search returns.
    """

    results: int

    @abstractmethod
    def index(self, task: Task) -> Index:
        """Return the documents of a task."""

    def find(self, query: str) -> tuple[Progress, str]:
        """Return the progress with the documents that match best, and their texts, a line each."""
        documents = self.index(self.task).search(query, self.results)
        return self._progress.after_search(documents), "\n".join(documents)
