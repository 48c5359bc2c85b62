"""The closed list of words that the generated worlds are written in."""

from __future__ import annotations

import random

from workbench.envs.hop import FIXED_TEXTS

COLOURS = ("red", "blue", "green", "black", "white", "pink", "gold", "grey", "brown", "orange")
THINGS = ("box", "cat", "door", "lamp", "ship", "tree", "bird", "ring")
RELATIONS = ("owner", "friend", "guard", "twin", "maker", "keeper")
CODE = "code"
DIGITS = tuple("0123456789")
GRAMMAR = ("the", "of", "is", "what", "?")


def words() -> tuple[str, ...]:
    """Return every word these worlds ever say, sorted; their texts are these words, one blank between two."""
    fixed = (word for text in FIXED_TEXTS for word in text.split())
    return tuple(sorted({*COLOURS, *THINGS, *RELATIONS, CODE, *DIGITS, *GRAMMAR, *fixed}))


def query_for(relation: str, thing: str) -> str:
    """Return the search for a fact, e.g. "owner of red box"."""
    return f"{relation} of {thing}"


def fact(relation: str, thing: str, value: str) -> str:
    """Return a fact as it is written, e.g. "the owner of red box is blue cat"."""
    return f"the {relation} of {thing} is {value}"


def code(rng: random.Random) -> str:
    """Draw a code, e.g. "4 7"."""
    return f"{rng.choice(DIGITS)} {rng.choice(DIGITS)}"
