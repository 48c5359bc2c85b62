"""Which level a stage makes of which: what lets a chain refuse at construction what cannot work."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from workbench.batch import BASE_LEVELS, Level

ANY = "?"
"""The level of a column that only the batch knows."""

LevelRule = Callable[[Level | None], Level]
"""Level in -> level out, raising ValueError for what cannot work. None: nothing came in yet. ANY: not known yet."""


def one_of(stage: str, name: str, value: Any, options: Any) -> None:
    """Refuse a value that is not among the options of a `Literal`."""
    if value not in get_args(options):
        raise ValueError(f"{stage}: expected {name}={' or '.join(map(repr, get_args(options)))}, got {value!r}")


def in_range(stage: str, name: str, value: Any, low: float, high: float = math.inf) -> None:
    """Refuse a number outside [low, high] (NaN is); a schedule or a column is looked at where it is used.

    Example:
        >>> in_range("siop", "lam", 1.5, 0.0, 1.0)
        Traceback (most recent call last):
        ValueError: siop: expected lam from 0 to 1, got 1.5
    """
    if isinstance(value, (int, float)) and not low <= value <= high:
        told = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"
        raise ValueError(f"{stage}: expected {name} {told}, got {value!r}")


def same_level(level: Level | None) -> Level:
    """Rule of a stage that keeps the level."""
    return level or ANY


def within_trajectory(level: Level | None) -> Level:
    """Rule of a stage that needs several units in a trajectory, in order."""
    if level in ("trajectory", "group", "batch"):
        raise ValueError(f"needs units in order inside a trajectory, got one value a {level}; spread or place it first")
    return level or ANY


@dataclass(frozen=True)
class Always:
    """Rule of a signal: its own level, whatever came before."""

    level: Level

    def __call__(self, level: Level | None) -> Level:
        return self.level


@dataclass(frozen=True)
class Deeper:
    """Rule of a stage that goes down to `to`."""

    to: Level

    def __call__(self, level: Level | None) -> Level:
        if _orders(level, self.to) and BASE_LEVELS.index(level) < BASE_LEVELS.index(self.to):  # type: ignore[arg-type]
            raise ValueError(
                f"goes down to {self.to!r}, but the credit is on {level!r} already; use total or average to go up"
            )
        return self.to


@dataclass(frozen=True)
class Higher:
    """Rule of a stage that goes up to `to`."""

    to: Level

    def __call__(self, level: Level | None) -> Level:
        if _orders(level, self.to) and BASE_LEVELS.index(level) > BASE_LEVELS.index(self.to):  # type: ignore[arg-type]
            raise ValueError(
                f"goes up to {self.to!r}, but the credit is above it on {level!r}; use spread or place to go down"
            )
        return self.to


def _orders(one: Level | None, other: Level) -> bool:
    """Can the two be compared before a batch is seen?"""
    return one in BASE_LEVELS and other in BASE_LEVELS
