"""Where the signal dies: groups without different outcomes, by cause and step, with what is behind each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.runs import Run
from workbench.view.base import View
from workbench.view.escape import one_line
from workbench.view.frames import framed
from workbench.view.html.collapse import collapse_board
from workbench.view.maps import CreditMap, Methods, credits_of
from workbench.view.pack import pack
from workbench.view.payload import collapse, position
from workbench.view.payload.run import metrics, training_credit
from workbench.view.reprs import Picture
from workbench.view.sources import widget_script
from workbench.view.turn_heat import of_group

if TYPE_CHECKING:
    import pandas as pd

    from workbench.view.widget import Answer

STEPS = 24  # kept steps whose groups a file carries, the newest
MAPS_BYTES = 1_500_000  # of credit maps a file carries, before they are compressed
MAPS = 48


class CollapseBoard(View):
    """Groups whose outcomes do not differ, by cause; the measures of credit and update beside; what is behind each.

    Args:
        source: a run (its stored metrics and rollouts; nothing in its folder is run), or the rollouts of one batch:
            then it is the batch's autopsy.
        methods: with rollouts, recipes or credits whose dead groups are counted too; see `credits_of`. A run has the
            credit it taught with.

    Raises:
        TypeError: neither, or methods with a run.
    """

    title, kind = "Collapse", "collapse_board"

    def __init__(self, source: Run | Rollouts, methods: Methods = ()):
        if not isinstance(source, (Run, Rollouts)):
            raise TypeError(f"CollapseBoard: expected a Run or Rollouts, got {type(source).__name__}")
        if isinstance(source, Run) and methods:
            raise TypeError("CollapseBoard: a run has the credit it taught with; give methods with rollouts only")
        self.source = source
        self.credits = credits_of(source, methods) if isinstance(source, Rollouts) else {}
        self._read: tuple[Any, ...] = ()  # the kept step that was read last

    @property
    def _board(self) -> dict[str, Any]:
        """What there is now: a run may still go on."""
        return self._autopsy if isinstance(self.source, Rollouts) else _of_run(self.source)

    @cached_property
    def _autopsy(self) -> dict[str, Any]:
        return collapse.of_rollouts(self.source, self.credits)

    def picture(self, *, wide: bool = False) -> Picture:
        return Picture(self._board, collapse_board)

    def interactive(self) -> dict[str, Any]:
        board = self._board
        shown = {**board, "groups": {}}
        if board["one"]:
            shown["groups"] = {"1": board["groups"][: collapse.GROUPS]}
            shown["hidden"] = max(0, len(board["groups"]) - collapse.GROUPS)
        return {**shown, "unread": {}}

    def for_page(self) -> dict[str, Any]:
        """Return the payload for a file: with the groups of kept steps, and the maps of some of their rollouts."""
        board, room = self.interactive(), MAPS_BYTES
        names: list[str] = []
        maps: list[np.ndarray] = []
        for step in board["kept"][-STEPS:][::-1]:
            try:
                listed = self._groups(step)
            except Exception as error:  # somebody's idea of a file: the other steps may do
                board["unread"][str(step)] = one_line(str(error), 400)
                continue
            board["groups"][str(step)] = listed
            for group in listed:
                if len(maps) < MAPS and group["rollouts"]:
                    packed = self._map(step, group["rollouts"][0]["id"])
                    if len(packed) <= room:
                        room -= len(packed)
                        names.append(f"{step} {group['rollouts'][0]['id']}")
                        maps.append(packed)
        script = widget_script(("credit_map",)) if maps else ""
        return {**board, "carried": {"script": script, "names": names, "maps": maps}}

    # -- what stands behind a step -------------------------------------------------------------------------

    def _at(self, step: int) -> tuple[Rollouts, Mapping[str, Credit]]:
        if isinstance(self.source, Rollouts):
            return self.source, self.credits
        folder = self.source.path / "trajectories" / f"step-{step - 1:08d}"
        made = folder.stat().st_mtime_ns if folder.exists() else 0  # a run that is resumed may write it again
        if self._read[:2] != (step, made):
            rollouts = self.source.rollouts(step - 1)
            self._read = (step, made, (rollouts, training_credit(rollouts)))
        return self._read[2]

    def _groups(self, step: int) -> list[dict[str, Any]]:
        return collapse.groups(*self._at(step))[: collapse.GROUPS]

    def _map(self, step: int, identity: str) -> np.ndarray:
        """Return the packed interactive payload of a rollout's credit map -> uint8."""
        rollouts, credits = self._at(step)
        place = position(rollouts, identity)
        part, chosen = of_group(rollouts, credits, rollouts.trajectories[place].group)
        return np.frombuffer(pack(CreditMap(part, identity, chosen).interactive()), np.uint8)

    def answers(self) -> Mapping[str, Answer]:
        return {"groups": self._ask_groups, "open": self._open, "again": lambda args, call: self.interactive()}

    def _ask_groups(self, args: Mapping[str, Any], call: Any) -> dict[str, Any]:
        return {"groups": self._groups(int(args["step"]))}

    def _open(self, args: Mapping[str, Any], call: Any) -> dict[str, Any]:
        """Return the packed credit map of one rollout, and the module that draws it where the page lacks it."""
        script = {"script": widget_script(("credit_map",))} if args.get("script") else {}
        return {**script, "map": self._map(int(args["step"]), str(args["trajectory"]))}

    # -- tables ----------------------------------------------------------------------------------------------

    def frame(self, state: Mapping[str, Any]) -> pd.DataFrame:
        """Return one row a step; of a batch, or once a step is opened, one row a group of it (of the chosen cause).

        Steps: step (from 1), groups, the share of each cause, and the measures. Groups: step, group, cause, members,
        known, chance (P(dead)), one column a method that says what its credit does there, trajectories (ids).
        """
        board, step = self._board, state.get("step")
        if not board["one"] and step not in board["kept"]:
            return framed(_steps(board))
        step = 1 if board["one"] else int(step)
        every = board["groups"] if board["one"] else collapse.groups(*self._at(step))
        shown = [g for g in every if state.get("cause") in (None, g["cause"])]
        rows = [_row(step, g) for g in shown]
        names = list(rows[0]) if rows else list(GROUP_COLUMNS)
        return framed({name: [row[name] for row in rows] for name in names})


GROUP_COLUMNS = ("step", "group", "cause", "members", "known", "chance", "trajectories")


def _row(step: int, g: Mapping[str, Any]) -> dict[str, Any]:
    known = sum(r["outcome"] is not None for r in g["rollouts"])
    told = {"step": step, "group": g["group"], "cause": g["cause"], "members": len(g["rollouts"]), "known": known}
    return {**told, "chance": g["chance"], **g["credit"], "trajectories": [r["id"] for r in g["rollouts"]]}


def _steps(board: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {"step": board["last"], "groups": board["count"]}
    out |= {c["name"]: c["share"].astype(np.float64) for c in board["causes"]}
    for tile in board["tiles"]:
        out[tile["key"]] = tile["y"].astype(np.float64)
        if "forecast" in tile:
            out["forecast"] = tile["forecast"].astype(np.float64)
    return out


def _of_run(run: Run) -> dict[str, Any]:
    read = metrics(run)
    kept = [int(path.name.removeprefix("step-")) + 1 for path in run.trajectories]
    return collapse.of_rows(read["rows"], run.path.name or str(run.path), kept, read["problem"])
