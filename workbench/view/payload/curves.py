"""Curves of several runs and seeds as plain data: each seed as measured, and their mean with its interval.

    runs, a mapping of them, or a tidy frame  --seeds_of-->  [Seed]  --curves-->  payload

Seeds of one method are put together step by step: y is their mean, the band Student's 95 % interval of that mean (a
seed is one observation), and where x is no step, the place is the mean of the seeds' places at that step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workbench.glossary import ENTRIES
from workbench.runs import Run
from workbench.view.escape import one_line
from workbench.view.html.run import first_word
from workbench.view.payload import run as of_run
from workbench.view.payload.monitor import totals

if TYPE_CHECKING:
    import pandas as pd

X = ("step", "rollouts", "tokens", "seconds")
HUES = ("0,114,178", "213,94,0", "0,158,115", "204,121,167", "230,159,0", "86,180,233")
DASHES = ((), (6, 3), (2, 2), (9, 3, 2, 3), (13, 4), (4, 2, 1, 2))
"""Colour and dash of the lines, as in `widgets/charts.js`: a test compares them."""
NUMBERS = 3_600  # points of all lines together, in an output that a notebook stores: 33 bytes each, in its two forms
POINTS = 400  # of a line on a page
SHARES = {"outcome", "success", "collapsed", "dead_groups", "shaping_only", "truncated", "malformed", "failed"}
SHARES |= {"clip_share", "ratio_off"}


class Seed(NamedTuple):
    """What one run measured.

    Args:
        method: seeds of one method are drawn as one line.
        seed: its name.
        x: {"step", and what else is known: values [T]}; steps count from 1 and rise.
        y: {metric: values [T]}; nan is unknown.
    """

    method: str
    seed: str
    x: Mapping[str, np.ndarray]
    y: Mapping[str, np.ndarray]


# ------------------------------------------------------------------------------------------------ where they come from


def seeds_of(source: Any, metrics: Sequence[str], by: str = "method") -> list[Seed]:
    """Return the seeds of runs, of a mapping from method to runs, or of a tidy frame.

    Args:
        source: a run, several, a mapping from the name of a method to one or several; or a frame with the columns `by`,
            "seed" (may be missing), "step" (counted from 1), the metrics, and "rollouts", "tokens", "seconds" (spent by
            then) where they are known. A run's method is its recipe.
        metrics: keys of a row of metrics, or columns.
        by: column that names the method.

    Raises:
        TypeError: something else.
        KeyError: a frame lacks a column; says which it has.
        ValueError: a frame has several rows of one step of a seed.
    """
    if hasattr(source, "columns") and hasattr(source, "groupby"):
        return _of_frame(source, metrics, by)
    if isinstance(source, Run):
        return [_of_run(source, metrics)]
    if isinstance(source, Mapping):
        listed = [(str(name), run) for name, given in source.items() for run in _listed(given)]
        return [_of_run(run, metrics, name) for name, run in listed]
    return [_of_run(run, metrics) for run in _listed(source)]


def _listed(given: Any) -> list[Run]:
    listed = [given] if isinstance(given, Run) else list(given) if isinstance(given, Iterable) else [given]
    if wrong := [one for one in listed if not isinstance(one, Run)]:
        raise TypeError(f"curves: expected runs, a mapping to runs, or a frame; got a {type(wrong[0]).__name__}")
    return listed


def _of_run(run: Run, metrics: Sequence[str], method: str = "") -> Seed:
    """Read a run, whatever somebody wrote into it."""
    rows, asked = of_run.metrics(run)["rows"], of_run.status(run)["asked"]
    spent = totals(rows)
    x = {name: _array([one[name] for one in spent]) for name in X}
    known = {name: values for name, values in x.items() if name == "step" or (len(values) and not _unknown(values))}
    y = {metric: _array([row.get(metric) for row in rows]) for metric in metrics}
    return Seed(method or first_word(asked["recipe"]) or "run", run.path.name or str(run.path), known, y)


def _of_frame(frame: pd.DataFrame, metrics: Sequence[str], by: str) -> list[Seed]:
    if missing := [name for name in (by, "step", *metrics) if name not in frame.columns]:
        raise KeyError(f"curves: the frame has no column {missing}; it has {[str(c) for c in frame.columns]}")
    keys = [by, "seed"] if "seed" in frame.columns else [by]
    out = []
    for key, part in frame.groupby(keys, sort=False):
        part = part.sort_values("step", kind="stable")
        numbers = {name: part[name].to_numpy(np.float64, na_value=np.nan) for name in (*X, *metrics) if name in part}
        x = {name: numbers[name] for name in X if name in numbers and not _unknown(numbers[name])}
        if part["step"].duplicated().any():
            raise ValueError(f"curves: expected one row a step of {key!r}, got several; choose rows, or name a seed")
        named = [str(one) for one in (key if isinstance(key, tuple) else (key,))]
        out.append(Seed(named[0], named[-1] if len(named) > 1 else "", x, {m: numbers[m] for m in metrics}))
    return out


def _array(values: Sequence[float | None]) -> np.ndarray:
    return np.array([math.nan if v is None else v for v in values], np.float64)


def _unknown(values: np.ndarray) -> bool:
    return bool(np.isnan(values).any())


# ------------------------------------------------------------------------------------------------------- the numbers


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of the known ones of the last `window` values at each place; nan where the value is unknown.

    Example:
        >>> smoothed(np.array([0.0, 1.0, np.nan, 3.0]), 2).tolist()
        [0.0, 0.5, nan, 3.0]
    """
    there = ~np.isnan(values)
    total, count = np.cumsum(np.where(there, values, 0.0)), np.cumsum(there)
    before = np.maximum(np.arange(len(values)) - window, -1)
    less = np.where(before >= 0, total[before], 0.0), np.where(before >= 0, count[before], 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(there, (total - less[0]) / (count - less[1]), np.nan)


def over_seeds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, low, high and number of known values over the first axis; Student's 95 % interval of the mean.

        m -+ t_(n-1) s / sqrt(n)        nan with fewer than two

    Args:
        values: [seeds, T]; nan is unknown.

    Source: Student 1908, "The probable error of a mean".

    Example:
        >>> [round(float(v[0]), 3) for v in over_seeds(np.array([[0.1], [0.2], [0.3]]))]
        [0.2, -0.048, 0.448, 3.0]
    """
    from scipy.special import stdtrit

    there = ~np.isnan(values)
    n = there.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, values, 0.0).sum(0) / n
        spread = np.sqrt(np.where(there, values - mean, 0.0).__pow__(2).sum(0) / (n - 1))
        half = np.where(n > 1, stdtrit(np.maximum(n - 1, 1), 0.975) * spread / np.sqrt(n), np.nan)
    return mean, mean - half, mean + half, n


def curves(
    seeds: Sequence[Seed], metrics: Sequence[str], x: str = "step", smooth: int = 1, each: int | None = None
) -> dict[str, Any]:
    """Return what is drawn.

    Args:
        seeds: of `seeds_of`.
        metrics: a panel each.
        x: one of `X`.
        smooth: steps a smoothed value is the mean of; 1 smooths nothing.
        each: every how many steps are kept; by default so many as an output has room for.

    Returns:
        x: as asked; axes: those all seeds know; smooth; each: steps a point stands for; panels: metric, what (the
        glossary's words), percent, lines: name, look, x {axis: [T]}, y, low, high, n [T], seeds (seed, x, y as
        measured).

    Raises:
        ValueError: not all seeds know this x, or a window below 1.
    """
    axes = [name for name in X if all(name in seed.x for seed in seeds)]
    if x not in axes and seeds:
        raise ValueError(f"curves: expected x in {axes}, which all runs know, got {x!r}")
    if smooth < 1:
        raise ValueError(f"curves: expected smooth >= 1, got {smooth}")
    longest = max((len(seed.x["step"]) for seed in seeds), default=0)
    lines = len(metrics) * (len(seeds) + 3 * len({seed.method for seed in seeds}))
    each = each or max(1, math.ceil(longest / max(12, NUMBERS // max(1, lines))))
    methods = list(dict.fromkeys(seed.method for seed in seeds))
    return {
        "kind": "curves",
        "x": x,
        "axes": axes or ["step"],
        "smooth": smooth,
        "each": each,
        "steps": longest,
        "panels": [_panel(metric, methods, seeds, smooth, each) for metric in metrics],
    }


def _panel(metric: str, methods: Sequence[str], seeds: Sequence[Seed], smooth: int, each: int) -> dict[str, Any]:
    entry = ENTRIES.get(metric)
    lines = [_line(m, k, [s for s in seeds if s.method == m], metric, smooth, each) for k, m in enumerate(methods)]
    values = [v for line in lines for one in line["seeds"] for v in one["y"][~np.isnan(one["y"])]]
    percent = metric in SHARES and all(0 <= v <= 1 for v in values)
    return {"metric": one_line(metric, 60), "what": entry.what if entry else "", "percent": percent, "lines": lines}


def _line(name: str, look: int, seeds: Sequence[Seed], metric: str, smooth: int, each: int) -> dict[str, Any]:
    """Put the seeds of a method on their common steps; thin all of it to every `each`-th step, and the last."""
    steps = np.unique(np.concatenate([seed.x["step"] for seed in seeds]))
    at = [np.searchsorted(steps, seed.x["step"]) for seed in seeds]
    y = np.full((len(seeds), len(steps)), np.nan)
    axes = [axis for axis in X if all(axis in seed.x for seed in seeds)]
    places = {axis: np.full(y.shape, np.nan) for axis in axes}
    for k, seed in enumerate(seeds):
        y[k, at[k]] = smoothed(seed.y[metric], smooth)
        for axis in axes:
            places[axis][k, at[k]] = seed.x[axis]
    mean, low, high, n = over_seeds(y)
    keep = _every(len(steps), each)
    return {
        "name": one_line(name, 60),
        "look": look,
        "x": {axis: over_seeds(values)[0][keep] for axis, values in places.items()},
        **{key: v[keep] for key, v in {"y": mean, "low": low, "high": high, "n": n.astype(np.float64)}.items()},
        "seeds": [_seed(seed, metric, each) for seed in seeds],
    }


def _seed(seed: Seed, metric: str, each: int) -> dict[str, Any]:
    keep = _every(len(seed.x["step"]), each)
    return {
        "seed": one_line(seed.seed, 60),
        "x": {axis: v[keep] for axis, v in seed.x.items()},
        "y": seed.y[metric][keep],
    }


def _every(count: int, each: int) -> np.ndarray:
    """Return every `each`-th place, counted from the last: no mean is taken, so nothing is smoothed unsaid."""
    return np.arange(count - 1, -1, -each)[::-1]
