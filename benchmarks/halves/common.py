"""What both halves of `trainer_vs_trl.py` share: the tasks of a step, and what is said of played episodes.

The world and the size of a group come from the environment: a half is a process of its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from workbench import envs
from workbench.envs.base import Task
from workbench.seeds import seed_for

GROUPS, SIZE, SEED = 8, int(os.environ.get("HALF_SIZE", "8")), 0
NAME = os.environ.get("HALF_WORLD", "chain")
WORLD = envs.load(NAME)


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
