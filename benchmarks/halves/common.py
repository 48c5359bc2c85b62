"""What both halves of `trainer_vs_trl.py` share: the tasks of a step, and what is said of played episodes."""

from __future__ import annotations

from collections.abc import Sequence

from workbench import envs
from workbench.envs.base import Task
from workbench.seeds import seed_for

GROUPS, SIZE, SEED = 8, 8, 0
WORLD = envs.load("chain")


def batch_of() -> int:
    """Return the trajectories of an update."""
    return GROUPS * SIZE


def tasks_of(step: int) -> Sequence[Task]:
    """Return the tasks the workbench plays at a step, so that both sides play the same ones."""
    return WORLD.tasks("train", GROUPS, seed_for("tasks", SEED, step, 0) % 10**9)


def share_of(played: Sequence[dict[str, float]]) -> dict[str, float | int]:
    """Return how many episodes were played, their success, and the mean of their turns."""
    count = max(len(played), 1)
    means = {name: round(sum(one[name] for one in played) / count, 3) for name in ("outcome", "turns")}
    return {"episodes": len(played), **means}
