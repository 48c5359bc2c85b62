"""What the lookup worlds share: a question that is answered fact by fact, and the exact oracle of such a chain."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.envs.base import Task
from workbench.envs.demonstrate import imperfect_demonstration, spoiled_lookup
from workbench.envs.hop import Documents, Progress, Shot, shot_of
from workbench.envs.oracle import Call, Labels, best_call, distance, labels
from workbench.envs.splits import check_split
from workbench.envs.words import fact, query_for
from workbench.trajectory import Message, ToolCall, Trajectory


class Lookup(Documents):
    """A world of lookup chains; it gives `index` and `_generate`, and the knobs `hops` and `seed`."""

    hops: int
    seed: int

    @abstractmethod
    def _generate(self, split: str, seed: int, number: int) -> Task:
        """Make a task, a function of its split, the seed and its number."""

    def tasks(self, split: str, count: int, seed: int = 0) -> list[Task]:
        """Generate `count` tasks of a split ("train", "test" or "shots"); each is a function of (seed, its number)."""
        check_split(split)
        return [self._generate(split, seed, number) for number in range(count)]

    def columns(self, task: Task, before: Progress, after: Progress) -> dict[str, Any]:
        """Return the oracle's labels of a turn."""
        left = self.max_turns - after.turn
        said = labels(task.data["chain"], before.found, after.found, left, after.outcome)
        return {"oracle_on_path": said.on_path, "oracle_reachable": said.reachable, "oracle_distance": said.distance}

    def oracle(self) -> Mapping[str, Any]:
        """Return what the oracle knows about the present state: `distance`, `reachable` and the `best` call."""
        away = distance(self.task.data["chain"], self.progress.found)
        reachable = not self.progress.done and away <= self.max_turns - self.progress.turn
        return {"distance": away, "reachable": reachable, "best": self.best()}

    def best(self) -> Call:
        """Return the best next call of the present state."""
        return best_call(self.task.gold["calls"], self.task.data["chain"], self.progress.found)

    def judge(self, call: Call) -> Labels:
        """Return what the oracle would say about a call made now; the episode stays where it is."""
        other = self.fresh()
        other.restore(self.snapshot())
        made = ToolCall("judged", call["name"], arguments=call["arguments"])
        before = self.progress.found
        after = other.respond(Message("judged", "assistant", calls=(made,)))
        left = self.max_turns - other.progress.turn
        return labels(self.task.data["chain"], before, other.progress.found, left, after.outcome)

    def imperfect_demonstration(self, task: Task, rng: random.Random, error_rate: float) -> Trajectory:
        """Return a scripted play of a task with mistakes; see `workbench.envs.demonstrate`."""
        return imperfect_demonstration(self, task, rng, error_rate, spoiled_lookup)

    @property
    def shots(self) -> list[Shot]:
        """Three worked examples, of questions that are in no other split; fewer if the split has no more."""
        different: dict[str, Task] = {}
        for task in self.tasks("shots", 12, self.seed):
            different.setdefault(task.question, task)
        return [shot_of(task) for task in list(different.values())[:3]]


def lookup_task(
    name: str, relations: Sequence[str], things: Sequence[str], values: Sequence[str], data: Mapping[str, Any]
) -> Task:
    """Ask for the end of a chain of facts.

    Args:
        name: id of the task, `world-knob-knob-split-seed-number`.
        relations, things, values: of the facts in order; each value but the last is the next thing.
        data: what else the world needs.
    """
    chain = [fact(r, t, v) for r, t, v in zip(relations, things, values, strict=True)]
    searches = [query_for(r, t) for r, t in zip(relations, things, strict=True)]
    calls = [{"name": "search", "arguments": {"query": query}} for query in searches]
    gold = {
        "answer": values[-1],
        "aliases": [values[-1]],
        "calls": [*calls, {"name": "answer", "arguments": {"text": values[-1]}}],
        "documents": chain,
    }
    split = name.split("-")[3]
    own = {"chain": chain, "relations": list(relations), "things": list(things), "split": split}
    asked = " of the ".join(reversed(relations))
    return Task(name, f"what is the {asked} of {things[0]} ?", gold, {**data, **own})
