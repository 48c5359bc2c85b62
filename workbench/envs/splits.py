"""Which split an entity belongs to: a hash decides, so no two splits can share it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

from workbench.seeds import SEED_BITS, seed_for

Item = TypeVar("Item")

SPLITS = ("train", "test", "shots")
SHARES = {"shots": 0.1, "test": 0.3, "train": 0.6}


def split_of(world: str, *entity: str) -> str:
    """Return the split of what a question is about: "shots" (10 %), "test" (30 %) or "train" (60 %).

    The split depends on the world's name and the entity alone: neither on a seed nor on a knob.

    Example:
        >>> split_of("gazetteer", "FI") in SPLITS
        True
    """
    place = seed_for("split", world, *entity) / 2**SEED_BITS
    for name, share in SHARES.items():
        if place < share:
            return name
        place -= share
    return "train"


def check_split(split: str) -> None:
    """Refuse a split that does not exist."""
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {SPLITS}, got {split!r}")


def first(items: Sequence[Item], count: int) -> list[Item]:
    """Return the first `count` items.

    Raises:
        ValueError: there are fewer.
    """
    if count > len(items):
        raise ValueError(f"asked for {count} tasks, this split has {len(items)}; ask for fewer, or loosen a knob")
    return list(items[:count])


def draw(items: Sequence[Item], count: int, *key: str | int) -> list[Item]:
    """Draw `count` different items in an order that `key` decides; drawing more begins with the same ones."""
    shuffled = list(items)
    random.Random(seed_for("draw", *key)).shuffle(shuffled)
    return first(shuffled, count)


def tries(task: str, most: int = 10_000) -> Iterator[int]:
    """Count the draws of a question until one belongs to a task's split.

    Raises:
        ValueError: none did in `most` draws: the world has too few questions to fill its splits.
    """
    yield from range(most)
    raise ValueError(f"{task}: no question of that split in {most} draws; give the world more to ask (knobs)")
