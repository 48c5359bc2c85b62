"""Text worlds: a tool-call interface, a gold answer, an exact oracle where the world allows one."""

from __future__ import annotations

from typing import Any

from workbench.envs.base import Environment, Step, Task, Tool

__all__ = ["Environment", "Step", "Task", "Tool", "load"]


def load(name: str, **params: Any) -> Environment:
    """Return a world by its name, for the command line and saved runs.

    Args:
        name: "gazetteer" (questions about real countries) or "chain" (generated facts, exact oracle).
        params: the knobs of that world; see `Gazetteer` and `Chain`.

    Raises:
        ValueError: there is no such world.

    Example:
        >>> load("gazetteer", hops=1).max_turns
        2
    """
    from workbench.envs.chain import Chain
    from workbench.envs.gazetteer import Gazetteer

    worlds = {"gazetteer": Gazetteer, "chain": Chain}
    if name not in worlds:
        raise ValueError(f"world: expected one of {sorted(worlds)}, got {name!r}")
    return worlds[name](**params)
