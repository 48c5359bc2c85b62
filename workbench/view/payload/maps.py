"""Payloads of credit: one trajectory under several methods, a set of rollouts, the stages of a recipe.

Every function is pure and returns JSON-able data, in which `None` is unknown. The HTML, the later interactive layers
and the tests all eat the same payload.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from workbench.batch import Batch
from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.trajectory import Group
from workbench.view.escape import one_line
from workbench.view.palette import STATUS, common_scale
from workbench.view.payload.formula import stage_words
from workbench.view.payload.records import TEXT_LIMIT, TOKEN_LIMIT, transcript
from workbench.view.payload.rows import Coded, Placed, TurnCredit, coded, turn_arrays, turns_of

ROWS = 200
TURN_COLUMNS = 40


def position(rollouts: Rollouts, trajectory: int | str) -> int:
    """Return the position of a trajectory given by id or position.

    Raises:
        KeyError: there is none of that id or position.
    """
    if isinstance(trajectory, str):
        ids = rollouts.batch().trajectories
        if trajectory not in ids:
            raise KeyError(f"no trajectory {trajectory!r}; there are {len(ids)}, the first {list(ids[:3])}")
        return ids.index(trajectory)
    if not -len(rollouts) <= trajectory < len(rollouts):
        raise KeyError(f"no trajectory at position {trajectory}; there are {len(rollouts)}")
    return trajectory % len(rollouts)


def _credited(credits: Mapping[str, Coded]) -> list[np.ndarray]:
    """Values that count in the loss, zeros included."""
    return [c.values[(c.status == "v") | (c.status == "z")] for c in credits.values()]


def _scale(credits: Mapping[str, Coded], scale: float | None) -> dict[str, Any]:
    """Full colour, where it comes from, and what lies beyond it."""
    values = _credited(credits)
    full = common_scale(values) if scale is None else float(scale)
    if full is not None and not full > 0:
        raise ValueError(f"scale: expected a positive number, got {scale!r}")
    beyond = sum(int((np.abs(v) > full).sum()) for v in values) if full else 0
    return {"full": full, "given": scale is not None, "beyond": beyond, "of": sum(len(v) for v in values)}


def turn_frame(rollouts: Rollouts, credits: Mapping[str, Credit]) -> dict[str, list[Any]]:
    """Return the columns trajectory, turn, method, value (None if none), status: one row a turn and method."""
    batch = rollouts.batch()
    owner, index = batch.turn_trajectory.tolist(), batch.turn_index.tolist()
    out: dict[str, list[Any]] = {name: [] for name in ("trajectory", "turn", "method", "value", "status")}
    for name, credit in credits.items():
        values, status = turn_arrays(coded(name, credit, batch), batch)
        out["trajectory"] += [batch.trajectories[n] for n in owner]
        out["turn"] += index
        out["method"] += [name] * len(owner)
        out["value"] += values
        out["status"] += [STATUS[s] for s in status]
    return out


def _cell(t: TurnCredit) -> dict[str, Any]:
    return {"value": t.value, "status": t.status, "why": t.why}


def _all_coded(credits: Mapping[str, Credit], batch: Batch) -> dict[str, Coded]:
    return {name: coded(name, credit, batch) for name, credit in credits.items()}


def _method(name: str, credit: Coded, batch: Batch, turns: range, limit: int) -> dict[str, Any]:
    placed = Placed(credit, batch)
    cells = [placed.turn(k) for k in turns]
    tokens = [
        None if c.tokens is None else {"values": c.tokens[0][:limit], "status": c.tokens[1][:limit]} for c in cells
    ]
    letters = "".join(c.status if c.tokens is None else c.tokens[1] for c in cells)
    numbers = [v for c in cells for v in ([c.value] if c.tokens is None else c.tokens[0])]
    counts = dict(Counter(letters))
    counts["+"] = sum(1 for v, s in zip(numbers, letters, strict=True) if s == "v" and v is not None and v > 0)
    counts["-"] = sum(1 for v, s in zip(numbers, letters, strict=True) if s == "v" and v is not None and v < 0)
    return {
        "name": name,
        "level": credit.level,
        "unit": "token" if placed.fine else "turn",
        "turns": [_cell(c) for c in cells],
        "tokens": tokens,
        "counts": counts,
    }


def credit_map(
    rollouts: Rollouts,
    trajectory: int | str,
    credits: Mapping[str, Credit],
    scale: float | None = None,
    *,
    limit: int = TEXT_LIMIT,
    tokens: int = TOKEN_LIMIT,
) -> dict[str, Any]:
    """Return one trajectory under several methods, on one scale.

    Args:
        rollouts: the set the credits were computed on.
        trajectory: its id, or its position.
        credits: name of the method to its credit, at any level.
        scale: value of full colour; by default the 98th percentile of the non-zero credits of all methods and rollouts.
        limit, tokens: characters of a message and tokens of a turn that are shown.

    Returns:
        `transcript`, `scale`, and per method its `turns` (value, status, why), `tokens` (values, status), `counts`.

    Raises:
        KeyError: there is no such trajectory.
        ValueError: a credit that was computed on other rollouts.
    """
    batch, n = rollouts.batch(), position(rollouts, trajectory)
    every = _all_coded(credits, batch)
    turns = turns_of(batch, n)
    first = int(batch.turn_index[turns.start]) if len(turns) else 0
    return {
        "kind": "credit_map",
        "transcript": transcript(rollouts.trajectories[n], first_turn=first, limit=limit, tokens=tokens),
        "rollouts": len(rollouts),
        "scale": _scale(every, scale),
        "methods": [_method(name, credit, batch, turns, tokens) for name, credit in every.items()],
    }


def method_table(
    rollouts: Rollouts, trajectory: int | str, credits: Mapping[str, Credit], scale: float | None = None
) -> dict[str, Any]:
    """Return methods x turns of one trajectory: the numbers of a credit map without its text.

    Args, Raises: as `credit_map`.
    """
    whole = credit_map(rollouts, trajectory, credits, scale, limit=200, tokens=0)
    story = whole["transcript"]
    return {
        "kind": "method_table",
        "id": story["id"],
        "rollouts": len(rollouts),
        "turns": [{"index": t["index"], "text": t["action"]["text"]} for t in story["turns"]],
        "scale": whole["scale"],
        "methods": [{key: m[key] for key in ("name", "level", "unit", "turns", "counts")} for m in whole["methods"]],
    }


# --------------------------------------------------------------------------------------- a set of rollouts


def outcomes_of(group: Group) -> str:
    """Say what the outcomes of a group allow: "mixed", "collapsed" (all equal), "lone", or "unknown".

    A collapsed group is one whose members have the same outcome: what compares outcomes learns nothing from it.
    """
    values = [t.outcome for t in group]
    if any(v is None for v in values):
        return "unknown"
    if len(values) < 2:
        return "lone"
    return "collapsed" if len(set(values)) == 1 else "mixed"


def group_overview(
    rollouts: Rollouts, credits: Mapping[str, Credit] | None = None, scale: float | None = None, rows: int = ROWS
) -> dict[str, Any]:
    """Return groups, their rollouts, and the credit of every turn under every method.

    Args:
        rollouts: what is shown.
        credits: name of the method to its credit; none shows outcomes alone.
        scale: value of full colour; by default as in `credit_map`.
        rows: rollouts shown; the rest is counted in `hidden`.
    """
    every = _all_coded(credits, rollouts.batch()) if credits else {}
    placed = [Placed(credit, rollouts.batch()) for credit in every.values()]
    place = {t.id: n for n, t in enumerate(rollouts)}
    width = min(TURN_COLUMNS, max((len(t.turns) for t in rollouts), default=0))
    groups, left = [], rows
    for group in rollouts.groups:
        if left <= 0:
            break
        members = [_overview_row(rollouts, place[t.id], placed, width) for t in group.trajectories[:left]]
        left -= len(members)
        groups.append(_group(group, members))
    kinds = Counter(outcomes_of(g) for g in rollouts.groups)
    return {
        "kind": "group_overview",
        "methods": list(every),
        "width": width,
        "scale": _scale(every, scale),
        "groups": groups,
        "group_kinds": dict(kinds),
        "group_count": len(rollouts.groups),
        "total": len(rollouts),
        "hidden": len(rollouts) - sum(len(g["rows"]) for g in groups),
        "notes": list(rollouts.notes),
    }


def _group(group: Group, rows: list[dict[str, Any]]) -> dict[str, Any]:
    known = [t.outcome for t in group if t.outcome is not None]
    mean = sum(known) / len(known) if known else None
    asked = next((m.text for t in group for m in reversed(t.prompt) if m.role == "user"), "")
    return {
        "id": group.id,
        "question": one_line(asked, 96),
        "size": len(group),
        "mean": mean,
        "outcomes": outcomes_of(group),
        "rows": rows,
    }


def _overview_row(rollouts: Rollouts, n: int, placed: list[Placed], width: int) -> dict[str, Any]:
    t = rollouts.trajectories[n]
    turns = turns_of(rollouts.batch(), n) if placed else range(0)
    return {
        "id": t.id,
        "outcome": t.outcome,
        "truncated": t.truncated,
        "turns": len(t.turns),
        "branch": t.parent is not None,
        "last": one_line(t.turns[-1].action.text, 72) if t.turns else "",
        "cells": [[_cell(p.turn(k)) for k in turns[:width]] for p in placed],
    }


# -------------------------------------------------------------------------------------- stages of a recipe


def ribbons(rollouts: Rollouts, trajectory: int | str, trace: Iterable[Any], title: str = "") -> dict[str, Any]:
    """Return the trace of a recipe on one trajectory: one ribbon a stage, one cell a turn.

    Args:
        rollouts: the set the trace was made on.
        trajectory: its id, or its position.
        trace: what `recipe.trace(rollouts.batch())` returns.
        title: name of the recipe.

    Returns:
        `steps`, each with label, parameters, its own scale (stages have different units), cells (one per turn, or a
        single one where the stage has a value per trajectory or above) and the counts of each status over all rollouts.
    """
    batch, n = rollouts.batch(), position(rollouts, trajectory)
    turns = turns_of(batch, n)
    return {
        "kind": "ribbons",
        "id": rollouts.trajectories[n].id,
        "title": title,
        "rollouts": len(rollouts),
        "turns": [
            {"index": int(batch.turn_index[k]), "text": t.action.text[:200]}
            for k, t in zip(turns, rollouts.trajectories[n].turns, strict=True)
        ],
        "steps": [_step(step, batch, turns) for step in trace],
    }


def _step(step: Any, batch: Batch, turns: range) -> dict[str, Any]:
    credit = coded(step.label, step.credit, batch)
    placed = Placed(credit, batch)
    whole = credit.level in ("trajectory", "group", "batch")
    cells = [_cell(placed.turn(k)) for k in (turns[:1] if whole else turns)]
    return {
        "depth": int(step.depth),
        "starts": bool(step.stage.is_signal),
        "label": str(step.label),
        **stage_words(step.stage),
        "level": credit.level,
        "unit": "token" if placed.fine else credit.level,
        "whole": whole,
        "scale": _scale({step.label: credit}, None),
        "cells": cells,
        "counts": dict(Counter(credit.status.tolist())),
        "reasons": sorted({credit.reasons.get(int(r), f"reason {r}") for r in credit.reason if r > 0}),
    }
