"""A scripted player with a habit: it reads some words as others, so what imitates it fails on the same questions.

Mistakes made at random teach a policy to doubt, not to err: its most likely action stays the right one. A habit
teaches it to err where the habit applies, and only rarely shows it the way out.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from workbench.envs.demonstrate import Spoil
from workbench.envs.oracle import Call

MISREAD = {"guard": "owner", "twin": "friend", "maker": "owner"}
"""Word that is read wrongly -> word it is taken for."""
Habit = Callable[[Any, Call], "Call | None"]
"""From (world in its present state, its best call) to what is done by habit instead; None where the habit is silent."""


def misread(call: Call) -> Call | None:
    """Return a search with its first word read wrongly; None where there is nothing to misread.

    Example:
        >>> misread({"name": "search", "arguments": {"query": "guard of red box"}})
        {'name': 'search', 'arguments': {'query': 'owner of red box'}}
        >>> misread({"name": "search", "arguments": {"query": "friend of red box"}}) is None
        True
    """
    word, _, rest = str(call["arguments"].get("query", "")).partition(" ")
    if word not in MISREAD:
        return None
    return {"name": "search", "arguments": {"query": f"{MISREAD[word]} {rest}"}}


def misread_search(env: Any, best: Call) -> Call | None:
    """Misread the best search of a world, whatever state it is in: the habit of the worlds of facts."""
    return misread(best)


def with_misreading(spoil: Spoil, error_rate: float, rate: float, habit: Habit = misread_search) -> Spoil:
    """Return what to do in every turn: a random mistake, or the habit where it applies, or the best call.

    For `imperfect_demonstration(..., error_rate=1.0, spoil=...)`, which then leaves every turn to it.

    Args:
        spoil: makes a random mistake of the world.
        error_rate: share of turns that are such a mistake.
        rate: share of the other turns in which the habit has something to say, and is followed.
        habit: of the script; by default a word of `MISREAD` in the best search is misread.

    Raises:
        ValueError: a share is outside [0, 1].
    """
    if not (0 <= error_rate <= 1 and 0 <= rate <= 1):
        raise ValueError(f"with_misreading: expected shares in [0, 1], got error_rate {error_rate!r}, rate {rate!r}")

    def choose(env: Any, last: Call | None, rng: random.Random) -> tuple[str, Call]:
        if rng.random() < error_rate:
            return spoil(env, last, rng)
        best = env.best()
        wrong = habit(env, best)
        return ("misread", wrong) if wrong is not None and rng.random() < rate else ("", best)

    return choose
