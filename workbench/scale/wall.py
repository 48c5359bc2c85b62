"""Where the wall time of a run went, step by step, and what it cost: from its `metrics.jsonl` alone.

    wall(run)          a frame: seconds of each part, the step's wall time, what overlapped
    bars(run)          the same as stacked bars
    cost(run)          device hours, and how much of them were idle

A local run is one process that does one thing at a time; a scaled one also brings weights to its engines (`sync`) and
waits (`idle`). What a run did not measure is unknown here, not 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.runs import Run, Scale
from workbench.scale.picture import Bars

if TYPE_CHECKING:
    from pandas import DataFrame

PARTS = ("rollout", "evidence", "credit", "learn", "sync", "idle")
"""In the order they are shown; further `seconds_NAME` of a row come behind."""
PREFIX = "seconds_"
MOST_BARS = 60
"""Bars of a picture; more steps are put together, several a bar."""

Row = Mapping[str, Any]


def rows_of(run: Run | str | Path | Sequence[Row]) -> list[Row]:
    """Return the metrics of a run, given as a run, its folder, or the rows themselves.

    Raises:
        ValueError: there is no step yet, or no row says what it took.
    """
    rows = list(Run(run).metrics() if isinstance(run, str | Path) else run.metrics() if isinstance(run, Run) else run)
    if not rows:
        raise ValueError(f"{run}: no step was finished yet, so no time can be told apart")
    if not any(key.startswith(PREFIX) for row in rows for key in row):
        raise ValueError(f"no row has a key that begins with {PREFIX!r}: these are not the metrics of a training run")
    return rows


def wall(run: Run | str | Path | Sequence[Row]) -> DataFrame:
    """Return the seconds of each part, a row a step.

    Args:
        run: a run, its folder, or rows of metrics.

    Returns:
        A frame by step. A column a part, NaN where it was not measured; "wall", the seconds of the step by the clock;
        "overlap", how much more the parts were together than the clock says: what went on at the same time.

    Example:
        >>> wall([{"step": 0, "seconds_rollout": 2.0, "seconds_learn": 1.0, "seconds": 2.5}]).loc[0, "overlap"].item()
        0.5
    """
    import pandas as pd

    rows = rows_of(run)
    seen = dict.fromkeys(key.removeprefix(PREFIX) for row in rows for key in row if key.startswith(PREFIX))
    names = [name for name in PARTS if name in seen] + sorted(set(seen) - set(PARTS))
    table = [{name: _number(row.get(PREFIX + name)) for name in names} for row in rows]
    for found, row in zip(table, rows, strict=True):
        spent = sum(value for name, value in found.items() if value is not None)
        clock = _number(row.get("seconds"))
        found["wall"] = spent if clock is None else clock
        found["overlap"] = max(0.0, spent - (found["wall"] or 0.0))
    steps = [row.get("step", n) for n, row in enumerate(rows)]
    return pd.DataFrame(table, index=pd.Index(steps, name="step"), dtype="float64")


def bars(run: Run | str | Path | Sequence[Row], share: bool = False) -> Bars:
    """Return stacked bars of where the time went, a bar a step, or for many steps the mean of several.

    Args:
        run: a run, its folder, or rows of metrics.
        share: of the parts' sum, instead of seconds.
    """
    frame = wall(run)
    each = -(-len(frame) // MOST_BARS)
    parts = frame.drop(columns=["wall", "overlap"])
    parts = parts.groupby([n // each for n in range(len(frame))]).mean()
    if share:
        parts = parts.div(parts.sum(axis=1), axis=0)
    labels = tuple(str(frame.index[n * each]) for n in range(len(parts)))
    found = {name: [None if value != value else float(value) for value in parts[name]] for name in parts}
    below = "step" + (f" (each bar the mean of {each} steps)" if each > 1 else "")
    return Bars("Where the wall time went", labels, found, "share" if share else "seconds", below)


@dataclass(frozen=True)
class Cost:
    """What the steps of a run cost.

    Args:
        device: "cpu" (a process) or "cuda" (a GPU).
        devices: held the whole time.
        seconds: by the clock, of all steps; time between steps and for starting up is not in it.
        idle: share of the device time in which a device did nothing; None where it cannot be told.
    """

    device: str
    devices: int
    seconds: float
    idle: float | None

    @property
    def hours(self) -> float:
        """Device hours: devices times hours, busy or not."""
        return self.devices * self.seconds / 3600

    def __str__(self) -> str:
        unit = "GPU hours" if self.device == "cuda" else "process hours"
        idle = "idle share unknown" if self.idle is None else f"{self.idle:.0%} of them idle"
        return f"{self.hours:.3g} {unit} ({self.devices} x {self.seconds:.3g} s), {idle}"


def cost(run: Run | str | Path | Sequence[Row], scale: Scale | None = None) -> Cost:
    """Return what the steps of a run cost.

    Args:
        run: a run, its folder, or rows of metrics.
        scale: where it ran; None reads it from the run, rows alone are taken for one process.
    """
    frame, scale = wall(run), scale or scale_of(run)
    seconds = float(frame["wall"].sum())
    return Cost(scale.device, scale.devices, seconds, idle_share(frame, scale))


def idle_share(frame: DataFrame, scale: Scale) -> float | None:
    """Return the share of device time without work; None where the parts do not tell.

        learners work while they learn, engines while they play and score (evidence); nobody during credit and sync:

        1 - sum(learners * learn + engines * (rollout + evidence)) / (devices * wall)

    One process plays and learns itself, and works as long as anything is going on: what is left is `idle`.

    Args:
        frame: of `wall`.
        scale: where it ran.
    """
    total = frame["wall"].sum()
    if not total > 0 or not {"rollout", "learn"} <= set(frame.columns):
        return None
    sums = frame.sum()
    playing = float(sums["rollout"] + sums.get("evidence", 0.0))
    if scale.local:
        return float(sums.get("idle", 0.0)) / float(total) if "idle" in frame else None
    engines = scale.engines * scale.tensor_parallel
    worked = scale.learners * float(sums["learn"]) + engines * playing
    return min(1.0, max(0.0, 1 - worked / (scale.devices * float(total))))


def scale_of(run: Run | str | Path | Sequence[Row]) -> Scale:
    """Return where a run ran, as its `launch.json` says; one process if it does not."""
    if isinstance(run, str | Path):
        run = Run(run)
    given = run.config.get("scale") if isinstance(run, Run) else None
    parameters = given.get("parameters") if isinstance(given, Mapping) else None
    try:
        return Scale(**parameters) if isinstance(parameters, Mapping) else Scale()
    except (TypeError, ValueError):  # written by another version, or by somebody else
        return Scale()


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    return float(value) if known else None
