"""Lookup chains in one fixed world: what was learned of it earlier makes the middle hops inform about the answer."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from workbench.envs.base import Task
from workbench.envs.hop import Progress
from workbench.envs.index import Index, words_of
from workbench.envs.lookup import Lookup, lookup_task
from workbench.envs.narrowing import entropy
from workbench.envs.splits import split_of, tries
from workbench.envs.words import CODE, COLOURS, DIGITS, RELATIONS, THINGS, code, fact, query_for
from workbench.seeds import SEED_BITS, seed_for

Facts = Mapping[tuple[str, str], str]
"""(relation, thing) -> value"""


class World(Index):
    """Every fact of a world; a search that names a fact finds that fact, any other what BM25 finds.

    BM25 alone takes a text as a bag of words and could not tell the twin of a thing from the thing it is the twin of.
    """

    def __init__(self, facts: Facts):
        self.facts = dict(facts)
        super().__init__([fact(relation, thing, value) for (relation, thing), value in self.facts.items()])
        named = zip(self.facts, self.documents, strict=True)
        self._by_name = {tuple(words_of(query_for(*pair))): document for pair, document in named}

    @property
    def things(self) -> list[str]:
        """The things of the world, in order."""
        return [thing for relation, thing in self.facts if relation == CODE]

    def search(self, query: str, count: int = 1) -> list[str]:
        """Return the fact the query names, else the `count` best documents."""
        words = tuple(word for word in words_of(query) if word != "the")
        return [self._by_name[words]] if words in self._by_name else super().search(query, count)


@lru_cache(maxsize=8)
def world(things: int, seed: int) -> World:
    """Draw a world: each relation leads from each thing to any other with equal chance; codes are uniform."""
    rng = random.Random(seed_for("known world", things, seed))
    names = rng.sample([f"{colour} {thing}" for colour in COLOURS for thing in THINGS], things)
    facts = {
        (relation, name): rng.choice([other for other in names if other != name])
        for relation in RELATIONS
        for name in names
    }
    return World({**facts, **{(CODE, name): code(rng) for name in names}})


def belief(start: str, relations: Sequence[str], things: Sequence[str], facts: Facts) -> dict[str, float]:
    """Return the exact probability of each code at the end of a chain, for one who knows some facts of the world.

        p_0 = [x = start],   p_{k+1}(y) = sum_x p_k(x) P(r_k of x is y)

    where P is 1 for a known fact, and uniform over all other things (or over the 100 codes) for an unknown one. A
    question names no relation twice, so no fact is used twice and this is exact under the way worlds are drawn.

    Args:
        start: the thing the question starts from.
        relations: in the order they are looked up; the last one is the code.
        things: all things of the world.
        facts: those that are known.

    Example:
        >>> belief("a", ["twin", "code"], ["a", "b", "c"], {("code", "b"): "4 7"})["4 7"]
        0.505
    """
    at = {start: 1.0}
    for relation in relations:
        then: dict[str, float] = {}
        for thing, p in at.items():
            value = facts.get((relation, thing))
            everything = _codes() if relation == CODE else [other for other in things if other != thing]
            for possible in everything if value is None else [value]:
                then[possible] = then.get(possible, 0.0) + (p / len(everything) if value is None else p)
        at = then
    return at


@lru_cache(maxsize=8)
def _remembered(things: int, seed: int, memory: float) -> Facts:
    facts = world(things, seed).facts
    return {p: value for p, value in facts.items() if seed_for("remembered", seed, *p) / 2**SEED_BITS < memory}


def _codes() -> list[str]:
    return [f"{tens} {ones}" for tens in DIGITS for ones in DIGITS]


@dataclass
class Known(Lookup):
    """A chain of lookups as in `Chain`, but all tasks ask about one world.

        what is the code of the friend of the owner of red box ?
        search("owner of red box")   -> the owner of red box is blue cat
        ...

    A policy that has seen the world before can know what comes next, so each hop may change what it believes of the
    answer. The reference observer, whose belief is recorded, knows a fixed share of the world's facts and what the
    searches of the episode found. Splits go by the question; the facts are shared: that is the point.

    Args:
        hops: searches a question takes, 1 to 6; the last one finds the code.
        things: of the world, 3 to 80; each has six relations and a code.
        memory: share of the facts that the reference observer knows, in [0, 1].
        world: seed of the world, and of what the observer remembers of it.
        seed: of the worked examples.
        max_turns: turns of an episode; 0 is `hops` + 3. The oracle counts with it: set it here, not in the rollout.
        limit: characters of an observation; what is longer is cut and says so.

    Example:
        >>> env = Known(hops=2)
        >>> one, two = env.tasks("train", 2)
        >>> env.index(one) is env.index(two), len(env.index(one).documents)
        (True, 140)
    """

    hops: int = 3
    things: int = 20
    memory: float = 0.5
    world: int = 0
    seed: int = 0
    max_turns: int = 0
    limit: int = 2000

    def __post_init__(self) -> None:
        for name, low, high in (("hops", 1, len(RELATIONS)), ("things", 3, 80), ("memory", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: expected {low} to {high}, got {getattr(self, name)!r}")
        self.results = 1
        self.max_turns = self.max_turns or self.hops + 3

    def index(self, task: Task) -> World:
        """Return the world: the same for all tasks."""
        return world(self.things, self.world)

    def remembered(self) -> dict[tuple[str, str], str]:
        """Return the facts the reference observer knows; a larger memory knows all that a smaller one does."""
        return dict(_remembered(self.things, self.world, self.memory))

    def posterior(self, found: Sequence[str] | None = None) -> dict[str, float]:
        """Return the exact probability of each answer for the reference observer; None is the present state.

        Answers that are not named have probability 0.
        """
        return self._belief(self.task, self.progress.found if found is None else found)

    def columns(self, task: Task, before: Progress, after: Progress) -> dict[str, Any]:
        """Return the oracle's labels of a turn, and the reference observer's belief before and after it."""
        was, now, gold = self._belief(task, before.found), self._belief(task, after.found), task.gold["answer"]
        held = {"oracle_posterior_before": was.get(gold, 0.0), "oracle_posterior": now.get(gold, 0.0)}
        return {**super().columns(task, before, after), **held, "oracle_entropy": entropy(list(now.values()))}

    def oracle(self) -> Mapping[str, Any]:
        """Return what is known about the present state: as in `Lookup`, and `posterior`, `entropy`, `determined`."""
        held = self.posterior()
        sure = sum(p > 0 for p in held.values()) == 1
        return {**super().oracle(), "posterior": held, "entropy": entropy(list(held.values())), "determined": sure}

    def _belief(self, task: Task, found: Sequence[str]) -> dict[str, float]:
        whole = self.index(task)
        read = {pair: value for pair, value in whole.facts.items() if fact(*pair, value) in found}
        known = {**_remembered(self.things, self.world, self.memory), **read}
        return belief(task.data["things"][0], task.data["relations"], whole.things, known)

    def _generate(self, split: str, seed: int, number: int) -> Task:
        """Draw questions until one belongs to the split, and walk through the world to its answer."""
        name = f"known-{self.hops}-{self.things}.{self.world}-{split}-{seed}-{number}"
        rng, whole = random.Random(seed_for(name)), world(self.things, self.world)
        for _ in tries(name):
            relations = (*rng.sample(RELATIONS, self.hops - 1), CODE)
            path = [rng.choice(whole.things)]
            if split_of("known", path[0], *relations) == split:
                break
        values: list[str] = []
        for relation in relations:
            values.append(whole.facts[relation, path[-1]])
            path.append(values[-1])
        return lookup_task(name, relations, path[:-1], values, {})
