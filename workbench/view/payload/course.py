"""The course of a training as curves, its pace, and its alarms: pure functions of the rows of `payload.run.metrics`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from workbench.compare import wilson

Row = Mapping[str, Any]
POINTS = 400  # of a curve; longer runs are drawn in means of neighbouring steps
RECENT = 20  # steps that the pace is taken from
NOT_COLLAPSED = "varied"
PHASE = "seconds_"


def curves(rows: Sequence[Row], points: int = POINTS) -> dict[str, Any]:
    """Return what the panels draw, at most `points` of each.

    Args:
        rows: cleaned, in order.
        points: neighbouring steps are taken together until there are no more than this.

    Returns:
        step: of each point, the last it stands for, counted from 1; each: how many steps a point stands for; outcome,
        low, high: mean with Wilson's interval over the rollouts of the point (None where outcomes are not all 0 or 1);
        causes: {cause: share of all groups}; seconds: {phase: mean seconds a step}; lines: {name: means} of the rest.
    """
    each = max(1, math.ceil(len(rows) / points))
    parts = [rows[i : i + each] for i in range(0, len(rows), each)]
    outcome = [pooled(part) for part in parts]
    causes = dict.fromkeys(c for row in rows for c in row["collapse_causes"] if c != NOT_COLLAPSED)
    phases = dict.fromkeys(k.removeprefix(PHASE) for row in rows for k in row if k.startswith(PHASE))
    names = dict.fromkeys(k for row in rows for k in row if k not in ("step", "collapse_causes", "alarms"))
    return {
        "step": [part[-1]["step"] + 1 for part in parts],
        "each": each,
        **{name: [one[i] for one in outcome] for i, name in enumerate(("outcome", "low", "high"))},
        "causes": {cause: [share(part, cause) for part in parts] for cause in causes},
        "seconds": {phase: [mean(part, PHASE + phase) for part in parts] for phase in phases},
        "lines": {name: [mean(part, name) for part in parts] for name in names if not name.startswith(PHASE)},
    }


def pooled(rows: Sequence[Row]) -> tuple[float | None, float | None, float | None]:
    """Return mean outcome and its 95 % interval over the rollouts of some steps.

    One step has the interval it was measured with. Several have Wilson's where all outcomes are 0 or 1, else none.

    Example:
        >>> row = {"outcome": 0.5, "outcome_n": 2, "outcome_low": 0.1, "outcome_high": 0.9}
        >>> [round(x, 2) for x in pooled([row, row])]
        [0.5, 0.15, 0.85]
    """
    known = [row for row in rows if row.get("outcome") is not None]
    if not known:
        return None, None, None
    if len(known) == 1:
        return known[0]["outcome"], known[0].get("outcome_low"), known[0].get("outcome_high")
    n = sum(row.get("outcome_n") or 0 for row in known)
    if n <= 0:
        return fmean(row["outcome"] for row in known), None, None
    share = sum(row["outcome"] * (row.get("outcome_n") or 0) for row in known) / n
    if not (all(map(_binary, known)) and 0 <= share <= 1):
        return share, None, None
    _, low, high = wilson(round(share * n), round(n))
    return share, low, high


def _binary(row: Row) -> bool:
    """Were all outcomes of a step 0 or 1? Then the mean is the share that was solved."""
    return row.get("outcome_low") is not None and row.get("success", row["outcome"]) == row["outcome"]


def mean(rows: Sequence[Row], name: str) -> float | None:
    """Return the mean of the known values of a measure; None if there are none."""
    known = [row[name] for row in rows if row.get(name) is not None]
    return fmean(known) if known else None


def share(rows: Sequence[Row], cause: str) -> float | None:
    """Return the share of all groups that collapsed by a cause; None if no group was counted."""
    groups = sum(n for row in rows for n in row["collapse_causes"].values())
    return sum(row["collapse_causes"].get(cause, 0) for row in rows) / groups if groups else None


def pace(rows: Sequence[Row], status: Mapping[str, Any]) -> dict[str, Any]:
    """Return how fast it goes, from the last steps.

    Returns:
        seconds_step: median of the last 20 steps; seconds_left: of the steps to come at this pace, None unless it runs;
        tokens_second: sampled tokens, over the whole step; split: {phase: share of the time}. None where
        nothing was measured.
    """
    recent = rows[-RECENT:]
    whole = [row["seconds"] for row in recent if row.get("seconds") is not None]
    step = median(whole) if whole else None
    runs = status["state"] in ("starting", "running", "paused")
    left = step * max(0, status["steps"] - status["step"]) if step is not None and runs else None
    phases = dict.fromkeys(k for row in recent for k in row if k.startswith(PHASE))
    spent = {k.removeprefix(PHASE): mean(recent, k) or 0.0 for k in phases}
    total, tokens = sum(spent.values()), [n for row in recent if (n := tokens_of(row)) is not None]
    return {
        "seconds_step": step,
        "seconds_left": left,
        "tokens_second": sum(tokens) / sum(whole) if tokens and len(tokens) == len(whole) and sum(whole) > 0 else None,
        "split": {k: v / total for k, v in spent.items()} if total > 0 else {},
    }


def tokens_of(row: Row) -> float | None:
    """Return the tokens a step sampled, those of groups that were sampled anew included; None if the row does not say.

    Example:
        >>> tokens_of({"seconds_rollout": 0.5, "tokens_per_second_rollout": 400.0, "tokens_known": 100})
        200
    """
    speed, seconds = row.get("tokens_per_second_rollout"), row.get("seconds_rollout")
    if speed is not None and seconds is not None:
        return round(speed * seconds)
    parts = [row.get(f"tokens_{what}") for what in ("known", "unknown", "dropped")]
    return None if any(part is None for part in parts) else sum(parts)


def alarms(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return each kind of alarm with its last text: those that sound now first.

    Returns:
        kind, text; now: in the last step; since: the step (from 1) its last stretch began with; steps: how many had it.
    """
    found: dict[str, dict[str, Any]] = {}
    before: Mapping[str, str] = {}
    for row in rows:
        for kind, text in row["alarms"].items():
            one = found.setdefault(kind, {"kind": kind, "steps": 0})
            one |= {"text": text, "steps": one["steps"] + 1}
            if kind not in before:
                one["since"] = row["step"] + 1
        before = row["alarms"]
    listed = [{**one, "now": kind in before} for kind, one in found.items()]
    return sorted(listed, key=lambda one: (not one["now"], -one["since"]))
