"""Watching a run: once, or until it ends, in a notebook or in a terminal. It only reads; ending it ends no run.

In a notebook three outputs stand below each other and are drawn anew in place: how it is (HTML that survives an
untrusted notebook), the curves (plotly's own MIME type, no widget), the newest rollouts (HTML).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workbench.runs import Run, follow
from workbench.view import payload
from workbench.view.figure import MIME, figure
from workbench.view.frames import framed
from workbench.view.html import run as html_run
from workbench.view.html.parts import REPR_BYTES, frame, note
from workbench.view.maps import View
from workbench.view.reprs import Picture
from workbench.view.words import plain_text

if TYPE_CHECKING:
    import pandas as pd

Bundle = dict[str, Any]


class RunView(View):
    """A run as one sees it: its state and measures, its curves, its newest rollouts.

    Args:
        run: anybody's; nothing in its folder is run.
    """

    title = "Run"

    def __init__(self, run: Run):
        self.run = run

    def picture(self, *, wide: bool = False) -> Picture:
        return Picture(payload.look(self.run), html_run.run)

    def figure(self) -> Any:
        """Return the curves as a `plotly.graph_objects.Figure`."""
        import plotly.graph_objects as go

        return go.Figure(figure(payload.look(self.run, newest=0)["metrics"]["rows"]))

    def to_frame(self) -> pd.DataFrame:
        """Return one row a step with everything that was measured as a number."""
        rows = payload.look(self.run, newest=0)["metrics"]["rows"]
        names = dict.fromkeys(k for row in rows for k, v in row.items() if not isinstance(v, dict))
        measured = [{k: v for k, v in row.items() if not isinstance(v, dict)} for row in rows]
        return framed({name: [row.get(name) for row in measured] for name in names})


class Watcher:
    """What was seen of a run so far; each `look` reads what is new and returns the three outputs."""

    def __init__(self, run: Run):
        self.run, self.rows, self.status, self.problem = run, [], {}, ""
        self.cursor, self.after_step, self.shown = "", -1, {"step": -1, "new": None, "problem": ""}

    def look(self, remark: str = "") -> tuple[Bundle, Bundle, Bundle]:
        """Read what is new; return the bundles of state, curves and rollouts."""
        self.read()
        return self._state(remark), self._curves(), self._rollouts()

    def read(self) -> tuple[bool, bool]:
        """Read what is new; say if the rows of before were forgotten, and if there are other rollouts."""
        before = self.shown
        news = payload.look(self.run, self.cursor, self.after_step)
        measured, played = news["metrics"], news["rollouts"]
        self.rows = measured["rows"] if measured["anew"] else [*self.rows, *measured["rows"]]
        self.status, self.cursor, self.problem = news["status"], measured["cursor"], measured["problem"]
        if measured["anew"]:  # a resumed run may have cut these too
            played = payload.look(self.run, self.cursor)["rollouts"]
            self.shown = played
        elif played["new"] is not None:
            self.shown = played
        self.after_step = self.shown["step"]
        return bool(measured["anew"]), self.shown is not before

    def _state(self, remark: str) -> Bundle:
        said = frame(note(remark)) if remark else ""
        shown = html_run.state(self.status, self.rows, self.problem)
        text = plain_text({"kind": "run", "status": self.status, "metrics": self._metrics()})
        return {"text/plain": text, "text/html": f"{shown}{said}"}

    def _metrics(self) -> dict[str, Any]:
        return {"rows": self.rows, "problem": self.problem}

    def _curves(self) -> Bundle:
        if len(self.rows) < 2:
            said = "Curves begin with the second step."
            return {"text/plain": said, "text/html": str(frame(note(said)))}
        return {"text/plain": f"curves of {len(self.rows):,} steps", MIME: {**figure(self.rows), "config": CONFIG}}

    def _rollouts(self) -> Bundle:
        shown = html_run.newest(self.shown, REPR_BYTES)
        text = plain_text(self.shown["new"]) if self.shown["new"] else "no rollouts were kept yet"
        return {"text/plain": text, "text/html": str(shown)}


CONFIG = {"displaylogo": False}
HERE = "Watching ended here; the run goes on. run.watch() looks again."


def watch(run: Run, follow_on: bool = False, every_s: float = 2.0) -> None:
    """Show a run; see `Run.watch`."""
    if in_notebook():
        _in_notebook(run, follow_on, every_s)
    elif follow_on:
        follow(run, every_s)
    else:
        print(RunView(run))


def in_notebook() -> bool:
    """Say if a notebook's kernel runs this."""
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")


def _in_notebook(run: Run, follow_on: bool, every_s: float) -> None:
    watcher = Watcher(run)
    draw = outputs()
    draw(watcher.look())
    if not follow_on:
        return
    try:
        while run.alive:
            time.sleep(every_s)
            draw(watcher.look())
        draw(watcher.look())  # what it said last
    except KeyboardInterrupt:
        draw(watcher.look(HERE))


def outputs() -> Callable[[tuple[Bundle, ...]], None]:
    """Return a function that displays bundles below each other, and later ones in their place where they differ."""
    from IPython.display import display

    handles: list[Any] = []
    before: list[Bundle] = []

    def draw(bundles: tuple[Bundle, ...]) -> None:
        if not handles:
            handles.extend(display(one, raw=True, display_id=True) for one in bundles)
        for handle, old, new in zip(handles, before, bundles, strict=False):
            if old != new:
                handle.update(new, raw=True)
        before[:] = bundles

    return draw
