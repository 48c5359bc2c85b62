"""Selections that views share: in the page without a kernel, and in Python with one."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Selection:
    """What a reader selected.

    Args:
        trajectories: ids.
        turns: (trajectory id, turn), turns counted as in the views and frames.
        expression: the same for `frame.query(...)`, for any frame with the columns `trajectory` and `turn`.
        by: "click", "brush", "search", "rule", "python".
    """

    trajectories: tuple[str, ...] = ()
    turns: tuple[tuple[str, int], ...] = ()
    expression: str = ""
    by: str = "python"

    def __bool__(self) -> bool:
        return bool(self.trajectories or self.turns)

    def of(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the selected rows of a frame with the columns `trajectory` and (if turns are selected) `turn`."""
        if self.turns:
            chosen = set(self.turns)
            return frame[[pair in chosen for pair in zip(frame["trajectory"], frame["turn"], strict=True)]]
        return frame[frame["trajectory"].isin(self.trajectories)]

    def to_json(self) -> dict[str, Any]:
        return {
            "trajectories": list(self.trajectories),
            "turns": [list(pair) for pair in self.turns],
            "expression": self.expression or expression(self.trajectories, self.turns),
            "by": self.by,
        }


def selection_of(data: Mapping[str, Any]) -> Selection:
    """Read a selection as a view sends it; anything that is no id or turn is left out."""
    turns = [(t, int(k)) for t, k in data.get("turns", ()) if isinstance(t, str)]
    ids = tuple(t for t in data.get("trajectories", ()) if isinstance(t, str))
    return Selection(ids, tuple(turns), str(data.get("expression", "")), str(data.get("by", "click")))


def expression(trajectories: tuple[str, ...] = (), turns: tuple[tuple[str, int], ...] = ()) -> str:
    """Return a pandas expression for `frame.query(...)`.

    Example:
        >>> expression(turns=(("a", 0), ("a", 2)))
        '(trajectory == "a" and turn in [0, 2])'
    """
    by: dict[str, list[int]] = {}
    for name, turn in turns:
        by.setdefault(name, []).append(turn)
    if by:
        return " or ".join(f"(trajectory == {json.dumps(t)} and turn in {ks})" for t, ks in by.items())
    return f"trajectory in {json.dumps(list(trajectories))}" if trajectories else ""


class Link:
    """A name under which views share their selection.

    Views of one link follow each other in the page; `link.selection` is the latest of those with a kernel.

    Example:
        >>> link = Link("mine")
        >>> link.select(trajectories=["run/0"])
        >>> link.selection.expression
        'trajectory in ["run/0"]'
    """

    def __init__(self, name: str = ""):
        self.name = name or f"link-{uuid.uuid4().hex[:8]}"
        self.selection = Selection()
        self._widgets: list[Any] = []
        self._listeners: list[Callable[[Selection], None]] = []

    def select(self, trajectories: Any = (), turns: Any = ()) -> None:
        """Select from Python: live views follow."""
        chosen = Selection(tuple(trajectories), tuple((str(t), int(k)) for t, k in turns))
        self._changed(Selection(chosen.trajectories, chosen.turns, expression(chosen.trajectories, chosen.turns)))
        for widget in self._widgets:
            widget.pushed = self.selection.to_json()

    def observe(self, listener: Callable[[Selection], None]) -> None:
        """Call `listener(selection)` whenever the selection changes."""
        self._listeners.append(listener)

    def join(self, widget: Any) -> None:
        """Follow a widget's selection."""
        self._widgets.append(widget)
        widget.observe(lambda change: self._changed(selection_of(change["new"])), names="selection")

    def _changed(self, selection: Selection) -> None:
        self.selection = selection
        for listener in self._listeners:
            listener(selection)

    def __repr__(self) -> str:
        return f"Link({self.name!r}, {self.selection!r})"
