"""How far a simulated user still is after each turn: as the world recorded it, or as an unsure judge would see it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from workbench.evidence.base import Meter, Provider, Reads, Values
from workbench.evidence.oracle import recorded
from workbench.rollouts import Rollouts
from workbench.seeds import seed_for
from workbench.trajectory import Group, RecordError, Trajectory


@dataclass(frozen=True)
class UserDistance(Provider):
    """Read the user's distance from being satisfied: `state_distance` after each turn, `state_distance_start` at first.

    A turn of which the world recorded nothing is unknown, and so is the start where the first turn has none.

    Args:
        noise: standard deviation of a judge's error, added to every distance (which stays 0 or more); 0 is the truth.
        seed: of the errors; equal rollouts get equal errors.
        fact, before: names of what the world recorded: the distance after a turn and before it.

    Source: MAPO / MICA (arXiv:2603.06194), where a model judges the state; here a script knows it.
    """

    noise: float = 0.0
    seed: int = 0
    fact: str = "state_distance"
    before: str = "state_distance_before"
    provides: ClassVar[Mapping[str, str]] = {"state_distance": "turn", "state_distance_start": "trajectory"}
    reads: ClassVar[tuple[Reads, ...]] = ("messages", "results", "extra")

    def __post_init__(self) -> None:
        if not 0 <= self.noise < float("inf"):
            raise ValueError(f"noise: expected a standard deviation, 0 or more, got {self.noise!r}")

    def check(self, rollouts: Rollouts) -> None:
        """Refuse rollouts of a world that recorded no distance at all.

        Raises:
            ValueError: names what was looked for.
        """
        turns = [(t, k) for t in rollouts for k in range(len(t.turns))]
        if turns and all(recorded(t, k, self.fact) is None for t, k in turns):
            raise ValueError(
                f"state_distance: no turn has a recorded {self.fact!r}; play the dialogue world, or add the column of "
                "your own judge with rollouts.with_column('state_distance', 'turn', values, known)"
            )

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Read the turns of each rollout; the start of a branch is that of its whole story."""
        after = [self._judged(t, n, k, self.fact) for n, t in enumerate(group) for k in range(len(t.turns))]
        starts = [self._start(t.path(group), n) for n, t in enumerate(group)]
        return {"state_distance": Values.of(after), "state_distance_start": Values.of(starts)}

    def _start(self, whole: Trajectory, number: int) -> float | None:
        return self._judged(whole, number, 0, self.before) if whole.turns else None

    def _judged(self, trajectory: Trajectory, number: int, turn: int, fact: str) -> float | None:
        truth = recorded(trajectory, turn, fact)
        if truth is None:
            return None
        if type(truth) not in (int, float) or not 0 <= truth < float("inf"):
            problem = f"expected a distance of 0 or more under {fact!r}, got {truth!r}"
            raise RecordError(problem, trajectory=trajectory.id, turn=turn, field="rewards")
        if self.noise == 0:
            return float(truth)
        said = trajectory.turns[turn].action.text
        error = random.Random(seed_for("distance", self.seed, number, turn, fact, said)).gauss(0.0, self.noise)
        return max(0.0, float(truth) + error)
