"""Belief in a world of clues: pure functions of the searches made and of what they showed.

Items have attributes. The hidden answer is the one item that fits every clue. A search narrows a running list of items
to those with a given value, or starts the list anew. An ideal observer knows how such worlds are drawn, and sees for
each item that was still listed whether it stayed.

How a world is drawn: the answer is any item with equal chance; it has the values of the clues, its other attributes are
uniform; every other item is uniform over all items that do not fit every clue.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Table = Sequence[Sequence[int]]
"""The value of each attribute of each item."""
Filter = tuple[int, int]
"""(attribute, value)"""
Clues = Mapping[int, int]
"""attribute -> value the answer has"""


@dataclass(frozen=True)
class Seen:
    """What searches have shown.

    Args:
        listed: items on the running list.
        possible: for each item and attribute the values it can still have.
    """

    listed: frozenset[int]
    possible: tuple[tuple[frozenset[int], ...], ...]


def nothing_seen(items: int, attributes: int, values: int) -> Seen:
    """Return the start: every item is listed and may have any value."""
    anything = tuple(frozenset(range(values)) for _ in range(attributes))
    return Seen(frozenset(range(items)), (anything,) * items)


def narrowed(seen: Seen, table: Table, filter: Filter) -> Seen:
    """Return what is known after a search for a value: of the listed items one sees who has it."""
    attribute, value = filter
    listed = frozenset(i for i in seen.listed if table[i][attribute] == value)

    def learned(item: int, known: tuple[frozenset[int], ...]) -> tuple[frozenset[int], ...]:
        if item not in seen.listed:
            return known
        now = known[attribute] & {value} if item in listed else known[attribute] - {value}
        return (*known[:attribute], now, *known[attribute + 1 :])

    return Seen(listed, tuple(learned(i, known) for i, known in enumerate(seen.possible)))


def restarted(seen: Seen) -> Seen:
    """Return what is known once the list is started anew: the same, and every item is listed."""
    return Seen(frozenset(range(len(seen.possible))), seen.possible)


def replay(table: Table, values: int, searches: Sequence[Filter | None]) -> Seen:
    """Return what a series of searches has shown; None starts the list anew."""
    seen = nothing_seen(len(table), len(table[0]), values)
    for search in searches:
        seen = restarted(seen) if search is None else narrowed(seen, table, search)
    return seen


def posterior(seen: Seen, clues: Clues, values: int) -> list[float]:
    """Return the probability of each item to be the answer, given all that was seen.

        p(i) ~ P(seen of i | i is the answer) / P(seen of i | it is not)
             = (fit_i / V^(A - K)) / ((all_i - fit_i) / (V^A - V^(A - K)))

    with A attributes of V values and K clues; all_i counts the descriptions that item i can still have, fit_i those
    among them that fit every clue. The items are independent once the answer is given, which makes this exact. The
    constants are the same for all items and cancel; an item that can only fit (all_i = fit_i) is the answer.

    Returns:
        [items] probabilities, summing to 1.

    Example:
        >>> seen = replay([(0, 0), (0, 1), (1, 0)], 2, [(0, 0)])
        >>> posterior(seen, {0: 0, 1: 0}, 2)
        [0.5, 0.5, 0.0]
    """
    counts = [(_fitting(known, clues), math.prod(len(left) for left in known)) for known in seen.possible]
    if any(0 < fit == every for fit, every in counts):
        return [float(0 < fit == every) for fit, every in counts]
    weights = [fit / (every - fit) for fit, every in counts]
    return [weight / sum(weights) for weight in weights]


def _fitting(known: Sequence[frozenset[int]], clues: Clues) -> int:
    """How many of the descriptions an item can still have fit every clue."""
    free = math.prod(len(left) for attribute, left in enumerate(known) if attribute not in clues)
    return free if all(value in known[attribute] for attribute, value in clues.items()) else 0


def entropy(probabilities: Sequence[float]) -> float:
    """Return the entropy in nats: -sum p ln p.

    Example:
        >>> entropy([1.0, 0.0]), round(entropy([0.5, 0.5]), 4)
        (0.0, 0.6931)
    """
    return sum(-p * math.log(p) for p in probabilities if p > 0)


def determined(probabilities: Sequence[float]) -> bool:
    """True if one answer is certain."""
    return sum(p > 0 for p in probabilities) == 1


def missing_clues(seen: Seen, clues: Clues, values: int) -> list[int]:
    """Return the attributes of the clues still to be asked for, in the clues' order; none once the answer is certain.

    A clue is missing as long as an item that can be the answer is not known to fit it.
    """
    alive = _alive(seen, clues, values)
    if len(alive) == 1:
        return []
    return [a for a, value in clues.items() if any(seen.possible[i][a] != {value} for i in alive)]


def lost(seen: Seen, clues: Clues, values: int) -> bool:
    """True if an item that can be the answer is not listed: asking on may not find it."""
    return not _alive(seen, clues, values) <= seen.listed


def distance(seen: Seen, clues: Clues, values: int) -> int:
    """Return in how many calls the answer is given by asking clue after clue: at most, for a lucky list is shorter.

    One for each missing clue, one to start the list anew if it has lost something that matters, one for the answer.
    """
    missing = missing_clues(seen, clues, values)
    return len(missing) + (bool(missing) and lost(seen, clues, values)) + 1


def _alive(seen: Seen, clues: Clues, values: int) -> set[int]:
    return {i for i, p in enumerate(posterior(seen, clues, values)) if p > 0}
