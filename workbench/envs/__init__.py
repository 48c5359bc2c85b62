"""Text worlds: a tool-call interface, a gold answer, an exact oracle where the world allows one."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from workbench.envs.base import Environment, Step, Task, Tool

__all__ = ["Environment", "Step", "Task", "Tool", "load"]


def load(name: str, **params: Any) -> Environment:
    """Return a world by its name, for the command line and saved runs.

    Args:
        name: "gazetteer" (questions about real countries), "chain" (fresh facts: belief moves at the end), "facet"
            (clues that narrow a list: belief moves at every turn) or "known" (chains in one fixed world: it moves where
            that world is known): generated, with an exact oracle. "tictactoe", "sudoku" and "minesweeper": games
            whose oracle judges each move. "retry": any of these with a user who says "try again". "toolbox": an
            API of tools with gold traces. "dialogue": a user whose state is known.
        params: the knobs of that world; see the class of that name in `workbench.envs`.

    Raises:
        ValueError: there is no such world, or it has no such knob.

    Example:
        >>> load("gazetteer", hops=1).max_turns
        2
    """
    from workbench.envs.chain import Chain
    from workbench.envs.dialogue import Dialogue
    from workbench.envs.facet import Facet
    from workbench.envs.gazetteer import Gazetteer
    from workbench.envs.known import Known
    from workbench.envs.minesweeper import Minesweeper
    from workbench.envs.retry import Retry
    from workbench.envs.sudoku import Sudoku
    from workbench.envs.tictactoe import TicTacToe
    from workbench.envs.toolbox import Toolbox

    worlds: dict[str, Any] = {
        "gazetteer": Gazetteer,
        "chain": Chain,
        "facet": Facet,
        "known": Known,
        "tictactoe": TicTacToe,
        "sudoku": Sudoku,
        "minesweeper": Minesweeper,
        "retry": Retry,
        "toolbox": Toolbox,
        "dialogue": Dialogue,
    }
    if name not in worlds:
        raise ValueError(f"world: expected one of {sorted(worlds)}, got {name!r}")
    knobs = [field.name for field in fields(worlds[name])]
    unknown = sorted(set(params) - set(knobs))
    if unknown:
        raise ValueError(f"{name}: no knob {unknown[0]!r}; there are {knobs}")
    return worlds[name](**params)
