"""Questions about real countries that take one to four searches to answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from workbench.envs.base import Task
from workbench.envs.countries import PHRASES, Country, all_documents, countries, sentence, value_of, whole_index
from workbench.envs.hop import Documents, Shot, findable, shot_of
from workbench.envs.index import Index
from workbench.envs.splits import check_split, draw, first, split_of

_ASKED = ("currency", "continent", "language", "population", "capital")


@dataclass
class Gazetteer(Documents):
    """Multi-hop questions over the facts of about 240 countries; every question has one answer.

        1 hop    What is the currency of Finland?
        2 hops   What is the currency of the country whose capital is Helsinki?
        3 hops   What is the currency of the most populous neighbour of the country whose capital is Helsinki?
        4 hops   ... of the most populous neighbour of the most populous neighbour of the country whose ...

    A document is one sentence, one fact. Splits go by the country a question starts from. Which questions there are
    depends on `hops` and `asks` alone; `seed` draws the distractors and the worked examples.

    Args:
        hops: searches a question takes, 1 to 4.
        distractors: documents in the index beside those that answer the question; None: all of the world.
        seed: of distractors and worked examples.
        asks: relations that may be asked for, of "currency", "continent", "language", "population", "capital".
        results: documents a search returns.
        limit: characters of an observation; what is longer is cut and says so.
        max_turns: turns of an episode; 0 is one more than `hops`.

    Example:
        >>> env = Gazetteer(hops=2)
        >>> task = env.tasks("test", 1, seed=0)[0]
        >>> [call["name"] for call in task.gold["calls"]]
        ['search', 'search', 'answer']
    """

    hops: int = 2
    distractors: int | None = None
    seed: int = 0
    asks: tuple[str, ...] = ("currency", "language", "population")
    results: int = 1
    limit: int = 2000
    max_turns: int = 0

    def __post_init__(self) -> None:
        if self.hops not in (1, 2, 3, 4):
            raise ValueError(f"hops: expected 1, 2, 3 or 4, got {self.hops!r}")
        unknown = set(self.asks) - set(_ASKED)
        if unknown or not self.asks:
            raise ValueError(f"asks: expected some of {_ASKED}, got {self.asks!r}")
        if self.distractors is not None and self.distractors < 0:
            raise ValueError(f"distractors: expected a count or None (all), got {self.distractors}")
        self.asks = tuple(self.asks)
        self.max_turns = self.max_turns or self.hops + 1

    def tasks(self, split: str, count: int, seed: int = 0) -> list[Task]:
        """Draw `count` different tasks of a split ("train", "test" or "shots"); relations take turns.

        Drawing more tasks with the same seed begins with the same ones.

        Raises:
            ValueError: the split has fewer questions than that.
        """
        check_split(split)
        mixed = _mixed(_questions(self.hops, self.asks, split), "gazetteer", split, seed)
        return [self._with_documents(task) for task in first(mixed, count)]

    def index(self, task: Task) -> Index:
        """Return all documents of the world, or those of the task if there are `distractors`."""
        documents = task.data.get("documents")
        return whole_index() if documents is None else Index(documents)

    @property
    def shots(self) -> list[Shot]:
        """Three worked examples, of countries that no train or test question starts from; they ask in `asks`' order."""
        mixed = _mixed(_questions(self.hops, self.asks, "shots"), "shots", self.seed)
        in_turn = sorted(mixed[: len(self.asks)], key=lambda task: self.asks.index(task.data["asks"]))
        return [shot_of(task) for task in _one_a_country([*in_turn, *mixed[len(self.asks) :]])[:3]]

    def _with_documents(self, task: Task) -> Task:
        if self.distractors is None:
            return task
        gold = task.gold["documents"]
        others = [document for document in all_documents() if document not in gold]
        kept = set(draw(others, min(self.distractors, len(others)), "distractors", self.seed, task.id)) | set(gold)
        documents = [document for document in all_documents() if document in kept]
        return Task(task.id, task.question, task.gold, {**task.data, "documents": documents})


# ---------------------------------------------------------------------------------------------- the questions


@lru_cache(maxsize=32)
def _questions(hops: int, asks: tuple[str, ...], split: str) -> tuple[Task, ...]:
    """Every question of a split whose gold searches each find their document."""
    capitals = Counter(country.facts.get("capital") for country in countries().values())
    sources = [c for c in countries().values() if split_of("gazetteer", c.code) == split]
    asked = [_task(c, hops, ask) for c in sources for ask in asks if hops == 1 or _hidden(c, capitals)]
    return tuple(task for task in asked if task is not None and findable(task, whole_index()))


def _hidden(country: Country, capitals: Counter[str | None]) -> bool:
    """True if the capital belongs to one country alone and does not give its name away (Mexico City does)."""
    capital, name = country.facts.get("capital", ""), country.name
    return capitals[capital] == 1 and capital not in name and name not in capital


def _task(source: Country, hops: int, ask: str) -> Task | None:
    """Build a question; None where a fact on the way is unknown or the way comes back to a country."""
    way = list(_way(source, max(0, hops - 2)))
    last = way[-1]
    if len({c.code for c in way}) != max(1, hops - 1) or ask not in last.facts:
        return None
    if ask == "capital" and hops == 2:  # the question would hold its answer
        return None
    facts = [(c, "neighbour") for c in way[:-1]] + [(last, ask)]
    queries = [f"{PHRASES[relation]} of {c.name}" for c, relation in facts]
    documents = [sentence(c, relation) for c, relation in facts]
    subject = source.name
    if hops > 1:
        subject = f"the country whose capital is {source.facts['capital']}"
        queries = [subject.removeprefix("the "), *queries]
        documents = [sentence(source, "capital"), *documents]
    subject = "the most populous neighbour of " * (len(way) - 1) + subject
    answer = value_of(last, ask)
    calls = [{"name": "search", "arguments": {"query": query}} for query in queries]
    gold = {
        "answer": answer,
        "aliases": [answer, *last.aliases.get(ask, ())],
        "calls": [*calls, {"name": "answer", "arguments": {"text": answer}}],
        "documents": documents,
    }
    question = f"What is the {PHRASES[ask]} of {subject}?"
    return Task(f"gazetteer-{hops}-{source.code}-{ask}", question, gold, {"source": source.code, "asks": ask})


def _way(source: Country, steps: int) -> Iterator[Country]:
    """The source, its most populous neighbour, that one's, ...; ends early where there is none."""
    yield source
    if steps and "neighbour" in source.facts:
        yield from _way(countries()[source.facts["neighbour"]], steps - 1)


def _mixed(tasks: Sequence[Task], *key: str | int) -> list[Task]:
    """Shuffle questions such that the relations asked for take turns, as far as the questions reach."""
    shuffled = draw(tasks, len(tasks), *key)
    before: Counter[str] = Counter()
    round_of: dict[str, int] = {}
    for task in shuffled:
        round_of[task.id] = before[task.data["asks"]]
        before[task.data["asks"]] += 1
    return sorted(shuffled, key=lambda task: round_of[task.id])


def _one_a_country(tasks: Sequence[Task]) -> list[Task]:
    """Keep the first question of each country."""
    kept: dict[str, Task] = {}
    for task in tasks:
        kept.setdefault(task.data["source"], task)
    return list(kept.values())
