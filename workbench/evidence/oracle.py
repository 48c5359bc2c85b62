"""What a world's oracle said about each turn, recorded during the rollout: from the turns into columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench.evidence.base import Meter, Provider, Reads, Sees, Values
from workbench.trajectory import Group, RecordError, Trajectory


@dataclass(frozen=True)
class Recorded(Provider):
    """Read facts that a world recorded beside the turns (was the call on a shortest path, could the answer be reached).

    A turn without the fact is unknown. Booleans become 1.0 and 0.0.

    Args:
        facts: column name -> name under which it was recorded, looked up in the turn's `rewards`, then in its `extra`
            (directly or under "columns").
        looks_at: what the world's oracle looked at; the default is the gold answer.
    """

    facts: Mapping[str, str]
    looks_at: tuple[Sees, ...] = ("gold",)
    reads: ClassVar[tuple[Reads, ...]] = ("results", "extra")

    @classmethod
    def of(cls, *names: str) -> Recorded:
        """Read facts into columns of the same names."""
        return cls({name: name for name in names})

    @property
    def provides(self) -> Mapping[str, str]:  # type: ignore[override]
        """One turn column a fact."""
        return dict.fromkeys(self.facts, "turn")

    @property
    def sees(self) -> tuple[Sees, ...]:  # type: ignore[override]
        """What the oracle looked at."""
        return self.looks_at

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Read each fact of each turn."""
        return {
            column: Values.of(recorded_number(t, k, fact) for t in group for k in range(len(t.turns)))
            for column, fact in self.facts.items()
        }


def recorded(trajectory: Trajectory, turn: int, fact: str) -> Any:
    """Return what was recorded beside a turn under a name, or None."""
    t = trajectory.turns[turn]
    for place in (t.rewards, t.extra, t.extra.get("columns", {})):
        if isinstance(place, Mapping) and place.get(fact) is not None:
            return place[fact]
    return None


def recorded_number(trajectory: Trajectory, turn: int, fact: str) -> float | None:
    """Return a number that was recorded beside a turn (true is 1, false 0), or None.

    Raises:
        RecordError: it is no finite number.
    """
    value = recorded(trajectory, turn, fact)
    if value is None:
        return None
    if isinstance(value, (bool, int, float)) and math.isfinite(value):
        return float(value)
    problem = f"expected a number or a boolean for {fact!r}, got {type(value).__name__} {str(value)[:40]!r}"
    raise RecordError(problem, trajectory=trajectory.id, turn=turn, field="extra")
