"""Lookup chains over generated facts: nothing to memorise, and an exact oracle."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.envs.base import Task
from workbench.envs.demonstrate import imperfect_demonstration
from workbench.envs.hop import FIXED_TEXTS, Hop, Progress, Shot, findable, shot_of
from workbench.envs.index import Index
from workbench.envs.oracle import Call, Labels, best_call, distance, labels
from workbench.envs.splits import check_split, split_of
from workbench.seeds import seed_for
from workbench.trajectory import Message, ToolCall, Trajectory

COLOURS = ("red", "blue", "green", "black", "white", "pink", "gold", "grey", "brown", "orange")
THINGS = ("box", "cat", "door", "lamp", "ship", "tree", "bird", "ring")
RELATIONS = ("owner", "friend", "guard", "twin", "maker", "keeper")
CODE = "code"
DIGITS = tuple("0123456789")
GRAMMAR = ("the", "of", "is", "what", "?")
SHARE_NEAR = 0.5  # of the distractors that say something else about a thing of the chain


def words() -> tuple[str, ...]:
    """Return every word this world ever says, sorted; its texts are these words, one blank between two."""
    fixed = (word for text in FIXED_TEXTS for word in text.split())
    return tuple(sorted({*COLOURS, *THINGS, *RELATIONS, CODE, *DIGITS, *GRAMMAR, *fixed}))


def query_for(relation: str, thing: str) -> str:
    """Return the search for a fact, e.g. "owner of red box"."""
    return f"{relation} of {thing}"


def fact(relation: str, thing: str, value: str) -> str:
    """Return a fact as it is written, e.g. "the owner of red box is blue cat"."""
    return f"the {relation} of {thing} is {value}"


@dataclass
class Chain(Hop):
    """A question whose answer is a number at the end of a chain of fresh facts.

        what is the code of the friend of the owner of red box ?
        search("owner of red box")   -> the owner of red box is blue cat
        search("friend of blue cat") -> the friend of blue cat is green ring
        search("code of green ring") -> the code of green ring is 4 7
        answer("4 7")

    The facts are drawn anew for every task. Splits go by the question: the relations in it and the thing it starts at.
    A search returns one document, which is what makes the oracle exact.

    Args:
        hops: searches a question takes, 1 to 6; the last one finds the code.
        distractors: facts of a task that do not lead to the answer; half of them about things of the chain.
        seed: of the worked examples.
        max_turns: turns of an episode; 0 is `hops` + 3, so that two mistakes can be mended. The oracle counts with it:
            set it here, not in the rollout.
        limit: characters of an observation; what is longer is cut and says so.

    Example:
        >>> env = Chain(hops=2)
        >>> task = env.tasks("train", 1, seed=0)[0]
        >>> len(task.data["chain"]), len(task.data["facts"])
        (2, 10)
    """

    hops: int = 3
    distractors: int = 8
    seed: int = 0
    max_turns: int = 0
    limit: int = 2000

    def __post_init__(self) -> None:
        if not 1 <= self.hops <= len(RELATIONS):
            raise ValueError(f"hops: expected 1 to {len(RELATIONS)}, got {self.hops!r}")
        if not 0 <= self.distractors <= 200:
            raise ValueError(f"distractors: expected 0 to 200, got {self.distractors!r}")
        self.results = 1
        self.max_turns = self.max_turns or self.hops + 3

    def tasks(self, split: str, count: int, seed: int = 0) -> list[Task]:
        """Generate `count` tasks of a split ("train", "test" or "shots"); each is a function of (seed, its number)."""
        check_split(split)
        return [self._generate(split, seed, number) for number in range(count)]

    def index(self, task: Task) -> Index:
        """Return the task's own facts."""
        return Index(task.data["facts"])

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
        return imperfect_demonstration(self, task, rng, error_rate)

    @property
    def shots(self) -> list[Shot]:
        """Three worked examples, of questions that are in no other split."""
        return [shot_of(task) for task in self.tasks("shots", 3, self.seed)]

    def _generate(self, split: str, seed: int, number: int) -> Task:
        """Draw until the question belongs to the split and each gold search finds its fact.

        BM25 takes a text as a bag of words: among many facts, "the twin of grey bird is white lamp" can come before
        "the twin of grey lamp is orange box" when "twin of grey lamp" is asked. Such a draw is thrown away.
        """
        name = f"chain-{self.hops}-{self.distractors}-{split}-{seed}-{number}"
        rng = random.Random(seed_for("chain", self.hops, self.distractors, split, seed, number))
        while True:
            relations = (*rng.sample(RELATIONS, self.hops - 1), CODE)
            things = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
            rng.shuffle(things)
            if split_of("chain", things[0], *relations) != split:
                continue
            task = _task(name, relations, things, self.distractors, rng)
            if findable(task, Index(task.data["facts"])):
                return task


def _task(name: str, relations: tuple[str, ...], things: list[str], distractors: int, rng: random.Random) -> Task:
    """Lay a chain through the first things, surround it with other facts, ask for its end.

    No fact is told twice with two values: a (relation, thing) pair occurs once in a task, so the answer is unique.
    """
    path = things[: len(relations)]
    values = [*path[1:], _code(rng)]
    chain = [fact(r, t, v) for r, t, v in zip(relations, path, values, strict=True)]
    queries = [query_for(r, t) for r, t in zip(relations, path, strict=True)]
    facts = [*chain, *_distractors(set(zip(relations, path, strict=True)), path, things, distractors, rng)]
    rng.shuffle(facts)
    asked = " of the ".join(reversed(relations))
    calls = [{"name": "search", "arguments": {"query": query}} for query in queries]
    gold = {
        "answer": values[-1],
        "aliases": [values[-1]],
        "calls": [*calls, {"name": "answer", "arguments": {"text": values[-1]}}],
        "documents": chain,
    }
    data = {"facts": facts, "chain": chain, "relations": list(relations), "things": path, "split": name.split("-")[3]}
    return Task(name, f"what is the {asked} of {path[0]} ?", gold, data)


def _distractors(
    taken: set[tuple[str, str]], path: list[str], things: list[str], count: int, rng: random.Random
) -> list[str]:
    """Draw facts about (relation, thing) pairs that are not taken, half of them about things of the chain."""
    pairs = [(relation, thing) for thing in things for relation in (*RELATIONS, CODE) if (relation, thing) not in taken]
    near = [pair for pair in pairs if pair[1] in path]
    far = [pair for pair in pairs if pair[1] not in path]
    close = min(len(near), round(count * SHARE_NEAR))
    chosen = rng.sample(near, close) + rng.sample(far, count - close)
    outside = things[len(path) :]
    return [
        fact(relation, thing, _code(rng) if relation == CODE else rng.choice(outside)) for relation, thing in chosen
    ]


def _code(rng: random.Random) -> str:
    return f"{rng.choice(DIGITS)} {rng.choice(DIGITS)}"
