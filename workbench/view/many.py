"""Curves of several runs and seeds: in a notebook by plotly's MIME type, in a file by the charts of the other views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.view.base import View
from workbench.view.figure import MIME
from workbench.view.html import curves as html
from workbench.view.payload import curves as payload
from workbench.view.reprs import Picture

if TYPE_CHECKING:
    import pandas as pd


class Curves(View):
    """Methods as lines over steps, rollouts, tokens or seconds: each seed thin, their mean with its 95 % interval.

    Args:
        source: a run, several, a mapping from the name of a method to its runs, or a tidy frame; see
            `payload.curves.seeds_of`. Runs are read now: nothing in their folders is run.
        metric: key of a row of metrics (`workbench.glossary`) or column; several are small multiples.
        by: column of a frame that names the method.
        x: "step", "rollouts", "tokens" or "seconds" (spent by then).
        smooth: the thick line is the mean of so many steps; what was measured stays beside it.

    Raises:
        TypeError, KeyError, ValueError: see `seeds_of` and `payload.curves.curves`.
    """

    title, kind = "Curves", "curves"

    def __init__(
        self,
        source: Any,
        metric: str | Sequence[str] = "outcome",
        *,
        by: str = "method",
        x: str = "step",
        smooth: int = 1,
    ):
        self.metrics = [metric] if isinstance(metric, str) else list(metric)
        self.seeds = payload.seeds_of(source, self.metrics, by)
        self.x, self.smooth = x, smooth
        self._drawn({})  # an axis that is not known is said here, not when it is shown

    def _drawn(self, state: Mapping[str, Any], each: int | None = None) -> dict[str, Any]:
        chosen = state.get("x")
        known = all(chosen in seed.x for seed in self.seeds)
        return payload.curves(self.seeds, self.metrics, chosen if chosen and known else self.x, self.smooth, each)

    def picture(self, *, wide: bool = False) -> Picture:
        return Picture(self._drawn(self.state), html.curves)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """Return the plotly figure, and the still picture for whoever draws no plotly."""
        drawn = self._drawn(self.state)
        figure = {**html.plotly(drawn), "config": {"displaylogo": False}}
        return {**self.picture().bundle(), MIME: figure} if drawn["steps"] else self.picture().bundle()

    def figure(self) -> Any:
        """Return the curves as a `plotly.graph_objects.Figure`."""
        import plotly.graph_objects as go

        return go.Figure(html.plotly(self._drawn(self.state)))

    def interactive(self) -> dict[str, Any]:
        longest = max((len(seed.x["step"]) for seed in self.seeds), default=0)
        drawn = self._drawn({}, each=max(1, -(-longest // payload.POINTS)))
        return {**_arrays(drawn), "said": {axis: html.said({**drawn, "x": axis}) for axis in drawn["axes"]}}

    def frame(self, state: Mapping[str, Any]) -> pd.DataFrame:
        """Return one row a step of each line, none left out.

        Columns: metric, method, seed (missing: the mean over seeds), step and the other x that are known, value (of a
        seed as measured; of the mean smoothed, if it is), low, high (95 % interval of the mean), seeds (known there).
        """
        import pandas as pd

        drawn, frames = self._drawn(state, each=1), []
        for panel in drawn["panels"]:
            for line in panel["lines"]:
                named = {"metric": panel["metric"], "method": line["name"]}
                around = {"value": line["y"], "low": line["low"], "high": line["high"], "seeds": line["n"]}
                frames.append(pd.DataFrame({**named, "seed": None, **line["x"], **around}))
                for one in line["seeds"]:
                    own = {"seed": one["seed"], **one["x"], "value": one["y"]}
                    frames.append(pd.DataFrame({**named, **own, "low": np.nan, "high": np.nan, "seeds": 1.0}))
        columns = ["metric", "method", "seed", *drawn["axes"], "value", "low", "high", "seeds"]
        return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def _arrays(value: Any) -> Any:
    """Return a payload with its numbers as the page has arrays for."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float32)
    if isinstance(value, dict):
        return {key: _arrays(one) for key, one in value.items()}
    return [_arrays(one) for one in value] if isinstance(value, list) else value
