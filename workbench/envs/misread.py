"""A scripted player with a habit: it reads some words as others, so what imitates it fails on the same questions.

Mistakes made at random teach a policy to doubt, not to err: its most likely action stays the right one. A habit
teaches it to err where the habit applies, and only rarely shows it the way out.
"""

from __future__ import annotations

import random
from typing import Any

from workbench.envs.demonstrate import Spoil
from workbench.envs.oracle import Call

MISREAD = {"guard": "owner", "twin": "friend", "maker": "owner"}
"""Word that is read wrongly -> word it is taken for."""


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


def with_misreading(spoil: Spoil, error_rate: float, rate: float) -> Spoil:
    """Return what to do in every turn: a random mistake, or the habit where it applies, or the best call.

    For `imperfect_demonstration(..., error_rate=1.0, spoil=...)`, which then leaves every turn to it.

    Args:
        spoil: makes a random mistake of the world.
        error_rate: share of turns that are such a mistake.
        rate: share of the other turns with a word of `MISREAD` in their best call in which it is misread.

    Raises:
        ValueError: a share is outside [0, 1].
    """
    if not (0 <= error_rate <= 1 and 0 <= rate <= 1):
        raise ValueError(f"with_misreading: expected shares in [0, 1], got error_rate {error_rate!r}, rate {rate!r}")

    def choose(env: Any, last: Call | None, rng: random.Random) -> tuple[str, Call]:
        if rng.random() < error_rate:
            return spoil(env, last, rng)
        best = env.best()
        wrong = misread(best)
        return ("misread", wrong) if wrong is not None and rng.random() < rate else ("", best)

    return choose
