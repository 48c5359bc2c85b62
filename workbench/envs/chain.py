"""Lookup chains over generated facts: nothing to memorise, and an exact oracle."""

from __future__ import annotations

import random
from dataclasses import dataclass

from workbench.envs.base import Task
from workbench.envs.hop import findable
from workbench.envs.index import Index, index_of
from workbench.envs.lookup import Lookup, lookup_task
from workbench.envs.splits import split_of
from workbench.envs.words import CODE, COLOURS, DIGITS, RELATIONS, THINGS, code, fact, query_for, words
from workbench.seeds import seed_for

__all__ = ["CODE", "COLOURS", "DIGITS", "RELATIONS", "THINGS", "Chain", "fact", "query_for", "words"]

SHARE_NEAR = 0.5  # of the distractors that say something else about a thing of the chain


@dataclass
class Chain(Lookup):
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

    def index(self, task: Task) -> Index:
        """Return the task's own facts."""
        return index_of(tuple(task.data["facts"]))

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
            if findable(task, self.index(task)):
                return task


def _task(name: str, relations: tuple[str, ...], things: list[str], distractors: int, rng: random.Random) -> Task:
    """Lay a chain through the first things, surround it with other facts, ask for its end.

    No fact is told twice with two values: a (relation, thing) pair occurs once in a task, so the answer is unique.
    """
    path = things[: len(relations)]
    values = [*path[1:], code(rng)]
    chain = [fact(r, t, v) for r, t, v in zip(relations, path, values, strict=True)]
    facts = [*chain, *_distractors(set(zip(relations, path, strict=True)), path, things, distractors, rng)]
    rng.shuffle(facts)
    return lookup_task(name, relations, path, values, {"facts": facts})


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
    return [fact(relation, thing, code(rng) if relation == CODE else rng.choice(outside)) for relation, thing in chosen]
