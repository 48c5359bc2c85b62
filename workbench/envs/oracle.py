"""The exact oracle of a lookup chain: pure functions of the chain and of what was found so far.

A chain of n facts must be found one by one, each by its own search, then the answer given: from a state in which m
facts are missing the answer is m + 1 calls away. No call finds two facts (a search returns one document), and each
fact can be asked for once the one before it is known, so this is exact for a player who does not guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Call = Mapping[str, Any]
"""{"name": ..., "arguments": {...}}"""


@dataclass(frozen=True)
class Labels:
    """What the oracle says about a turn.

    Args:
        on_path: did the turn bring the answer closer? So it stood on a shortest path.
        reachable: can the right answer still be given in the turns that are left after it? (Or was it.)
        distance: calls from the state after it to the right answer; 0 once that was given, -1 if a wrong one was.
    """

    on_path: bool
    reachable: bool
    distance: int


def distance(chain: Sequence[str], found: Sequence[str]) -> int:
    """Return how many calls the answer is away: the facts of the chain still missing, and the answer itself.

    Example:
        >>> distance(["a", "b", "c"], ["x", "a"])
        3
    """
    return len(set(chain) - set(found)) + 1


def best_call(calls: Sequence[Call], chain: Sequence[str], found: Sequence[str]) -> Call:
    """Return the call of a shortest path to make next: the search for the first missing fact, or the answer.

    Args:
        calls: the gold trace: one search a fact of the chain, then the answer.
        chain: the facts, in order.
        found: documents found so far.
    """
    missing = [number for number, fact in enumerate(chain) if fact not in found]
    return calls[missing[0]] if missing else calls[-1]


def labels(
    chain: Sequence[str], before: Sequence[str], after: Sequence[str], turns_left: int, outcome: float | None
) -> Labels:
    """Judge one turn.

    Args:
        chain: the facts that lead to the answer, in order.
        before, after: documents found before and after the turn.
        turns_left: turns the episode may still take after it.
        outcome: what the answer given in this turn was worth; None if none was given.

    Returns:
        the labels. A right answer given too early was a guess: it ends at distance 0, but not on a shortest path.
    """
    if outcome is not None:
        right = outcome > 0
        return Labels(right and distance(chain, after) == 1, right, 0 if right else -1)
    now = distance(chain, after)
    return Labels(now < distance(chain, before), now <= turns_left, now)
