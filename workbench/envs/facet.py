"""Items hidden behind clues: each search narrows one running list, so belief moves at every turn."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.envs import narrowing
from workbench.envs.base import Task
from workbench.envs.demonstrate import imperfect_demonstration
from workbench.envs.hop import Hop, Progress, Shot, shot_of
from workbench.envs.oracle import Call
from workbench.envs.splits import check_split, split_of, tries
from workbench.envs.words import CODE, COLOURS, RELATIONS, THINGS
from workbench.seeds import seed_for
from workbench.trajectory import Trajectory

AGAIN = CODE
"""The search that starts the list anew."""
FILLERS = {"the", "is", "of"}
MISTAKES = ("attribute", "value", "repeat", "answer")


def name_of(item: int) -> str:
    """Return the code of an item: its number, digit by digit.

    Example:
        >>> name_of(7), name_of(31)
        ('0 7', '3 1')
    """
    return f"{item // 10} {item % 10}"


def search_for(attribute: int, value: int) -> str:
    """Return the search for a value, e.g. "owner is red"."""
    return f"{RELATIONS[attribute]} is {COLOURS[value]}"


def read_search(query: str, attributes: int, values: int) -> narrowing.Filter | None:
    """Read a search: (attribute, value), or None to start anew.

    Raises:
        ValueError: it is neither.

    Example:
        >>> read_search("the owner is blue", 5, 3), read_search("code", 5, 3)
        ((0, 1), None)
    """
    said = [word for word in query.lower().split() if word not in FILLERS]
    if said == [AGAIN]:
        return None
    if len(said) != 2:
        raise ValueError(query)
    return RELATIONS[:attributes].index(said[0]), COLOURS[:values].index(said[1])


@dataclass
class Facet(Hop):
    """A question whose answer is the one item that fits every clue.

        what is the code of the box ? the owner is red the twin is blue the maker is red
        search("owner is red")  -> 0 4 or 0 9 or 1 7 or 2 2
        search("twin is blue")  -> 0 4 or 2 2
        search("maker is red")  -> 2 2
        answer("2 2")

    A search keeps of the items listed now those with that value, and says which; `search("code")` lists all again (it
    says how many, for their codes are always those from "0 0" on). What the items are like is drawn anew for every
    task; splits go by the question. What an ideal observer believes is exact: `workbench.envs.narrowing`.

    Args:
        items: how many, 2 to 100.
        attributes: of an item, 1 to 6.
        values: of an attribute, 2 to 10.
        clues: in the question, 1 to `attributes`.
        seed: of the worked examples.
        max_turns: turns of an episode; 0 is `clues` + 3. The oracle counts with it: set it here, not in the rollout.

    Example:
        >>> env = Facet()
        >>> task = env.tasks("train", 1)[0]
        >>> len(task.data["items"]), len(task.data["clues"])
        (32, 3)
    """

    items: int = 32
    attributes: int = 5
    values: int = 3
    clues: int = 3
    seed: int = 0
    max_turns: int = 0
    limit = 2000  # longer than any list: the belief counts with lists that are seen whole

    def __post_init__(self) -> None:
        bounds = {"items": (2, 100), "attributes": (1, len(RELATIONS)), "values": (2, len(COLOURS))}
        for name, (low, high) in {**bounds, "clues": (1, self.attributes)}.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: expected {low} to {high}, got {getattr(self, name)!r}")
        self.max_turns = self.max_turns or self.clues + 3

    def tasks(self, split: str, count: int, seed: int = 0) -> list[Task]:
        """Generate `count` tasks of a split ("train", "test" or "shots"); each is a function of (seed, its number)."""
        check_split(split)
        return [self._generate(split, seed, number) for number in range(count)]

    def find(self, query: str) -> tuple[Progress, str]:
        """Narrow the list, or start it anew; a search that is neither finds nothing and changes nothing."""
        now = self.progress
        try:
            read_search(query, self.attributes, self.values)
        except ValueError:
            return now, ""
        after = Progress((*now.found, query), now.turn, now.done, now.outcome)
        return after, self._listing(self.task, after.found)

    @property
    def state_key(self) -> str:
        """The task and the items listed now, however they came to be; empty before a task has begun."""
        if self._task is None:
            return ""
        listed = " ".join(str(i) for i in sorted(self._seen(self.task, self.progress.found).listed))
        return f"{self.task.id}|{listed}" + ("|done" if self.progress.done else "")

    # -- what an ideal observer believes ------------------------------------------------------------------------

    def posterior(self, searches: Sequence[str] | None = None) -> dict[str, float]:
        """Return the exact probability of each answer after these searches; None is the present state."""
        found = self.progress.found if searches is None else searches
        return {name_of(i): p for i, p in enumerate(self._belief(self.task, found))}

    def columns(self, task: Task, before: Progress, after: Progress) -> dict[str, Any]:
        """Return the oracle's labels of a turn, and the belief of an ideal observer before and after it."""
        was, now = self._belief(task, before.found), self._belief(task, after.found)
        gold, away = int(task.data["answer"]), self._distance(task, after.found)
        labels = {
            "oracle_on_path": away < self._distance(task, before.found),
            "oracle_reachable": away <= self.max_turns - after.turn,
            "oracle_distance": away,
        }
        if after.outcome is not None:
            right = after.outcome > 0
            sure = right and narrowing.determined(now)
            labels = {"oracle_on_path": sure, "oracle_reachable": right, "oracle_distance": 0 if right else -1}
        belief = {"oracle_posterior_before": was[gold], "oracle_posterior": now[gold]}
        return {**labels, **belief, "oracle_entropy": narrowing.entropy(now)}

    def oracle(self) -> Mapping[str, Any]:
        """Return what is known about the present state.

        Returns:
            `distance` (calls to the answer by asking clue after clue), `reachable`, the `best` call, `entropy` of the
            belief in nats, `determined` (is the answer certain?) and `posterior` (of each answer).
        """
        belief = self._belief(self.task, self.progress.found)
        away = self._distance(self.task, self.progress.found)
        return {
            "distance": away,
            "reachable": not self.progress.done and away <= self.max_turns - self.progress.turn,
            "best": self.best(),
            "entropy": narrowing.entropy(belief),
            "determined": narrowing.determined(belief),
            "posterior": self.posterior(),
        }

    def best(self) -> Call:
        """Return the best next call: the answer if certain, the list anew if it lost what matters, else a clue."""
        return self._best(self.task, self.progress.found)

    def imperfect_demonstration(self, task: Task, rng: random.Random, error_rate: float) -> Trajectory:
        """Return a scripted play of a task with mistakes; see `workbench.envs.demonstrate`."""
        return imperfect_demonstration(self, task, rng, error_rate, spoiled)

    @property
    def shots(self) -> list[Shot]:
        """Three worked examples, of questions that are in no other split."""
        return [shot_of(task) for task in self.tasks("shots", 3, self.seed)]

    # -- small parts --------------------------------------------------------------------------------------------

    def _seen(self, task: Task, searches: Sequence[str]) -> narrowing.Seen:
        made = [read_search(query, self.attributes, self.values) for query in searches]
        return narrowing.replay(task.data["items"], self.values, made)

    def _belief(self, task: Task, searches: Sequence[str]) -> list[float]:
        return narrowing.posterior(self._seen(task, searches), dict(task.data["clues"]), self.values)

    def _distance(self, task: Task, searches: Sequence[str]) -> int:
        return narrowing.distance(self._seen(task, searches), dict(task.data["clues"]), self.values)

    def _listing(self, task: Task, searches: Sequence[str]) -> str:
        """Return what the last search says."""
        if read_search(searches[-1], self.attributes, self.values) is None:
            return f"{name_of(self.items) if self.items < 100 else '1 0 0'} found"
        return " or ".join(name_of(i) for i in sorted(self._seen(task, searches).listed))

    def _best(self, task: Task, searches: Sequence[str]) -> Call:
        seen, clues = self._seen(task, searches), dict(task.data["clues"])
        missing = narrowing.missing_clues(seen, clues, self.values)
        if not missing:
            sure = self._belief(task, searches).index(1.0)
            return {"name": "answer", "arguments": {"text": name_of(sure)}}
        anew = narrowing.lost(seen, clues, self.values)
        return _search(AGAIN if anew else search_for(missing[0], clues[missing[0]]))

    def _generate(self, split: str, seed: int, number: int) -> Task:
        """Draw questions until one belongs to the split, then the items as `workbench.envs.narrowing` says."""
        name = f"facet-{self.items}.{self.attributes}.{self.values}-{self.clues}-{split}-{seed}-{number}"
        rng = random.Random(seed_for(name))
        for _ in tries(name):
            asked = rng.sample(range(self.attributes), self.clues)
            clues = [(attribute, rng.randrange(self.values)) for attribute in asked]
            thing = rng.choice(THINGS)
            if split_of("facet", thing, *(search_for(*clue) for clue in sorted(clues))) == split:
                break
        answer = rng.randrange(self.items)
        items = [self._draw(i == answer, dict(clues), rng) for i in range(self.items)]
        said = " ".join(f"the {search_for(*clue)}" for clue in clues)
        data = {"items": items, "clues": [list(clue) for clue in clues], "answer": answer, "split": split}
        task = Task(name, f"what is the {CODE} of the {thing} ? {said}", {}, data)
        return Task(task.id, task.question, self._gold(task), data)

    def _draw(self, fits: bool, clues: Mapping[int, int], rng: random.Random) -> list[int]:
        """Draw an item that fits every clue, or one that does not."""
        while True:
            item = [rng.randrange(self.values) for _ in range(self.attributes)]
            if fits:
                return [clues.get(attribute, value) for attribute, value in enumerate(item)]
            if any(item[attribute] != value for attribute, value in clues.items()):
                return item

    def _gold(self, task: Task) -> dict[str, Any]:
        """Return the gold answer and the trace of best calls with what they say."""
        answer, calls, said = name_of(int(task.data["answer"])), [], []
        searches: list[str] = []
        while (call := self._best(task, searches))["name"] == "search":
            searches.append(call["arguments"]["query"])
            calls.append(call)
            said.append(self._listing(task, searches))
        return {"answer": answer, "aliases": [answer], "calls": [*calls, call], "documents": said}


def _search(query: str) -> Call:
    return {"name": "search", "arguments": {"query": query}}


def spoiled(env: Facet, last: Call | None, rng: random.Random) -> tuple[str, Call]:
    """Make a mistake in a world of clues.

    With equal chance a search for an attribute no clue speaks of, for another value of a clue's, the last search
    again, or a guess among the items listed; where there is nothing to spoil in that way, one of the others.
    """
    mistake, best = rng.choice(MISTAKES), env.best()
    clues = dict(env.task.data["clues"])
    if mistake == "repeat" and last is not None:
        return mistake, last
    if mistake == "answer" or best["name"] == "answer":
        others = [i for i in range(env.items) if i != env.task.data["answer"]]
        listed = [i for i in others if env.posterior()[name_of(i)] > 0]
        return mistake, {"name": "answer", "arguments": {"text": name_of(rng.choice(listed or others))}}
    free = [attribute for attribute in range(env.attributes) if attribute not in clues]
    if mistake == "attribute" and free:
        return mistake, _search(search_for(rng.choice(free), rng.randrange(env.values)))
    attribute = rng.choice(list(clues))
    return mistake, _search(search_for(attribute, rng.choice([v for v in range(env.values) if v != clues[attribute]])))
