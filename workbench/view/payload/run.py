"""A run of training as plain data: how it is, what was measured since the last look, the newest rollouts.

    state = {"cursor": "", "after_step": -1}                      what a viewer keeps between two looks
    news = look(run, **state)                                     JSON-able; a viewer that polls reads this and no more
    rows = news["metrics"]["rows"] if news["metrics"]["anew"] else rows + news["metrics"]["rows"]
    state = {"cursor": news["metrics"]["cursor"], "after_step": news["rollouts"]["step"]}

A run folder may come from anybody: nothing in it is run or imported, and whatever stands in it arrives as text, as a
finite number, or as None. A run that is resumed cuts what stood after its last checkpoint; `anew` says so.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.runs import LIVING, Run, Runs
from workbench.view.escape import one_line
from workbench.view.payload.maps import group_overview

TEXT = 2_000  # characters of a reason, a note, an alarm
LARGEST = 1e100  # a number beyond this is nobody's measurement, and would overflow in sums
KEYS = 200  # measures of a step
NEWEST = 16  # rollouts of the newest step that are shown


def look(run: Run, cursor: str = "", after_step: int = -1, newest: int = NEWEST) -> dict[str, Any]:
    """Return how a run is and what is new.

    Args:
        run: anybody's.
        cursor: `["metrics"]["cursor"]` of the look before; "" asks for all.
        after_step: `["rollouts"]["step"]` of the look before; rollouts come only if newer ones were kept.
        newest: rollouts of that step that are shown; 0 reads none.

    Returns:
        kind: "run"; status: see `status`; metrics: see `metrics`; rollouts: see `rollouts`.
    """
    return {
        "kind": "run",
        "status": status(run),
        "metrics": metrics(run, cursor),
        "rollouts": rollouts(run, after_step, newest) if newest else {"step": after_step, "new": None, "problem": ""},
    }


def status(run: Run) -> dict[str, Any]:
    """Return how a run is.

    Returns:
        name, path; state, reason, step, steps, notes, alive: of `Run.status`; asked: recipe, env, policy, made, as they
        were written down; good_step: of the last checkpoint; kept: steps whose rollouts were kept; weights: are they
        there; silent_s: seconds since its process said something, None where that says nothing; ships: is there code
        that going on would load; can: what can be asked of it now ("pause", "stop", "go_on", "resume").
    """
    now, config = run.status, _config(run)
    said = config.get("text") if isinstance(config.get("text"), Mapping) else {}
    asked = {name: one_line(str(said.get(name, "")), 400) for name in ("recipe", "env", "policy")}
    return {
        "name": run.path.name or str(run.path),
        "path": str(run.path),
        "state": now.state,
        "reason": now.reason[:TEXT],
        "step": now.step,
        "steps": now.steps or _whole(config.get("steps")) or 0,
        "notes": [note[:TEXT] for note in now.notes[:20]],
        "alive": run.alive,
        "asked": {**asked, "made": one_line(str(config.get("made", "")), 40)},
        "good_step": run.good_step,
        "kept": [int(path.name.removeprefix("step-")) for path in run.trajectories],
        "weights": run.weights is not None,
        "silent_s": _silent(run) if now.state in LIVING else None,
        "ships": (run.path / "code").is_dir(),
        "can": CAN[now.state],
    }


CAN = {
    "starting": ["stop"],
    "running": ["pause", "stop"],
    "paused": ["go_on", "stop"],
    "stopped": ["resume"],
    "failed": ["resume"],
    "finished": [],
}


def _config(run: Run) -> dict[str, Any]:
    try:
        config = run.config
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _silent(run: Run) -> float | None:
    try:
        return max(0.0, time.time() - (run.path / "status.json").stat().st_mtime)
    except OSError:
        return None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


# ------------------------------------------------------------------------------------------------- the metrics


def metrics(run: Run, cursor: str = "") -> dict[str, Any]:
    """Return the steps that were measured since a cursor.

    Returns:
        rows: see `clean`; cursor: for the next look; anew: forget the rows of before, `rows` is everything; problem:
        why the file could not be read, "" if it could.
    """
    try:
        news = run.metrics_after(cursor)
    except (OSError, ValueError) as error:
        return {"rows": [], "cursor": cursor, "anew": False, "problem": str(error)[:TEXT]}
    rows = [clean(row, n) for n, row in enumerate(news.rows) if isinstance(row, Mapping)]
    return {"rows": rows, "cursor": news.cursor, "anew": news.anew, "problem": ""}


def clean(row: Mapping[str, Any], position: int = 0) -> dict[str, Any]:
    """Return a line of metrics as finite numbers (None: unknown), `collapse_causes` as counts and `alarms` as texts.

    Example:
        >>> clean({"step": 3, "outcome": 0.5, "kl": float("nan"), "x": "text", "alarms": {"dead": "why"}})
        {'step': 3, 'outcome': 0.5, 'kl': None, 'collapse_causes': {}, 'alarms': {'dead': 'why'}}
    """
    step = _whole(row.get("step"))
    numbers = {str(k): _finite(v) for k, v in list(row.items())[:KEYS] if v is None or isinstance(v, (int, float))}
    causes, alarms = (row.get(k) if isinstance(row.get(k), Mapping) else {} for k in ("collapse_causes", "alarms"))
    counts = {one_line(str(k), 60): n for k, v in causes.items() if (n := _whole(v)) is not None and n >= 0}
    texts = {one_line(str(k), 60): one_line(str(v), TEXT) for k, v in alarms.items()}
    return {**numbers, "step": position if step is None else step, "collapse_causes": counts, "alarms": texts}


def _finite(value: Any) -> float | int | None:
    if isinstance(value, bool):
        return int(value)
    try:
        return value if value is not None and math.isfinite(value) and abs(value) < LARGEST else None
    except OverflowError:  # a whole number that no float can hold
        return None


# ------------------------------------------------------------------------------------------------ the rollouts


def rollouts(run: Run, after_step: int = -1, newest: int = NEWEST) -> dict[str, Any]:
    """Return the newest rollouts that were kept after a step.

    Returns:
        step: of the rollouts, `after_step` if there are no newer ones; new: an overview with the credit they taught
        with (`payload.group_overview`), None if there are none; problem: why newer ones could not be read, else "".
    """
    problem = ""
    for path in reversed(run.trajectories):
        step = int(path.name.removeprefix("step-"))
        if step <= after_step:
            break
        try:
            found = run.rollouts(step)
            return {"step": step, "new": _overview(found, step, newest), "problem": problem}
        except Exception as error:  # being written, or somebody's idea of a file: the one before may do
            problem = problem or f"the rollouts of step {step} cannot be read: {one_line(str(error), 400)}"
    return {"step": after_step, "new": None, "problem": problem}


def _overview(found: Rollouts, step: int, newest: int) -> dict[str, Any]:
    shown = group_overview(found, training_credit(found), rows=newest)
    what = "with the credit they taught with" if shown["methods"] else "without credit"
    return {**shown, "title": f"Newest rollouts: step {step + 1:,}, {what}", "rest": f"`run.rollouts({step})` has all"}


def training_credit(rollouts: Rollouts) -> dict[str, Credit]:
    """Return the credit that kept rollouts taught with, under the name of its recipe; empty if none was kept."""
    column = rollouts.columns.get("training_credit")
    if column is None or column.values.ndim != 1:
        return {}
    credit = Credit(column.values.double(), column.level, column.known)
    why = rollouts.columns.get("training_dropped")
    if why is not None and why.level == column.level:
        given = why.provenance.parameters.get("reasons")
        reasons = [str(reason) for reason in given] if isinstance(given, Sequence) else []
        for number, reason in enumerate(reasons, start=1):
            credit = credit.drop((why.values == number) & why.known, reason)
    return {str(column.provenance.parameters.get("recipe", "training credit")): credit}


# --------------------------------------------------------------------------------------------------- many runs


def runs(found: Runs, limit: int = 200) -> dict[str, Any]:
    """Return a table of runs: name, state, step, last outcome, what was asked, reason."""
    rows = []
    for run in found[:limit]:
        now, read = status(run), metrics(run)
        last = read["rows"][-1] if read["rows"] else {}
        picked = {key: now[key] for key in ("name", "path", "state", "step", "steps", "reason", "asked")}
        rows.append({**picked, "outcome": last.get("outcome"), "problem": read["problem"]})
    return {"kind": "runs", "rows": rows, "hidden": max(0, len(found) - limit)}


def size(payload: Mapping[str, Any]) -> int:
    """Return the bytes of a payload as JSON."""
    return len(json.dumps(payload, allow_nan=False).encode())
