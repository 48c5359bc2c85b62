"""Payload of the static heat map: a line of letters per rollout, and margins in numbers; JSON-able and readable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.view.palette import LEVELS
from workbench.view.payload.heat import (
    ABSENT,
    BEYOND,
    DROPPED,
    LETTERS,
    NEAR,
    NONE,
    UNKNOWN,
    UNTRAINED,
    ZERO,
    codes,
    credited,
    owners,
    turn_numbers,
)
from workbench.view.payload.orders import shown_methods, shown_rollouts, sort_key, texts_of

LINES = 400  # rollouts drawn; of more, every so many-th of the order
COLUMNS = 200  # turns drawn
LISTED = 5  # rollouts listed by disagreement

# One letter a cell: a to p positive by step, A to P negative, q and Q beyond the scale, and the marks.
LETTER = {
    **{step: chr(ord("a") + step - 1) for step in range(1, BEYOND + 1)},
    **{-step: chr(ord("A") + step - 1) for step in range(1, BEYOND + 1)},
    ZERO: "0",
    UNKNOWN: "?",
    DROPPED: "x",
    UNTRAINED: ".",
    ABSENT: " ",
}


def heat_picture(payload: Mapping[str, Any], state: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what the static heat map draws and says.

    Args:
        payload: of `heat`.
        state: how the controls stand; see `orders.shown_rollouts`.

    Returns:
        `methods`, each with `lines` (one string a rollout drawn, one letter a turn), `means` and `counts` by turn and
        in all; `outcomes` and `breaks` (a new group begins) of the lines; `apart`: the rollouts that part most.
    """
    state = state or {}
    order = shown_rollouts(payload, state)
    step = max(1, -(-len(order) // LINES))
    drawn = order[::step]
    group = payload["group"][drawn]
    grouped = state.get("grouped") is not False and step == 1
    return {
        "kind": "turn_heat",
        "total": payload["count"],
        "shown": len(order),
        "every": step,
        "width": payload["width"],
        "groups": len(set(payload["group"][order].tolist())),
        "sort": state.get("sort") or "given",
        "scale": payload["scale"],
        "outcomes": [None if np.isnan(v) else float(v) for v in payload["outcome"][drawn]],
        "breaks": [i for i in range(1, len(drawn)) if grouped and group[i] != group[i - 1]],
        "methods": [_method(payload, m, order, drawn) for m in shown_methods(payload, state)],
        "apart": _most_apart(payload, state, order),
    }


def cells(payload: Mapping[str, Any], method: int, rollouts: np.ndarray, columns: int) -> np.ndarray:
    """Return the code of each cell of some rollouts -> int8 [rollouts, columns]; `ABSENT` where there is no turn."""
    own = codes(payload["values"][method], payload["status"][method], payload["scale"]["full"])
    owner, number = owners(payload), turn_numbers(payload)
    line = np.full(payload["count"], -1)
    line[rollouts] = np.arange(len(rollouts))
    here = (line[owner] >= 0) & (number < columns)
    out = np.full((len(rollouts), columns), ABSENT, np.int8)
    out[line[owner[here]], number[here]] = own[here]
    return out


def _method(payload: Mapping[str, Any], m: int, order: np.ndarray, drawn: np.ndarray) -> dict[str, Any]:
    columns = min(COLUMNS, payload["width"])
    lines = ["".join(LETTER[code] for code in row) for row in cells(payload, m, drawn, columns).tolist()]
    inside = np.zeros(payload["count"], bool)
    inside[order] = True
    use, number = inside[owners(payload)], turn_numbers(payload)
    status, value = payload["status"][m], credited(payload, m)
    told = use & ~np.isnan(value)
    size = np.bincount(number[told], minlength=payload["width"])
    total = np.bincount(number[told], weights=value[told], minlength=payload["width"])
    counts = {letter: int((use & (status == i)).sum()) for i, letter in enumerate(LETTERS)}
    full = payload["scale"]["full"]
    return {
        "name": payload["methods"][m],
        "lines": lines,
        "means": [float(t / s) if s else None for t, s in zip(total, size, strict=True)][:columns],
        "turns": np.bincount(number[use], minlength=payload["width"]).tolist()[:columns],
        "counts": {
            **counts,
            "+": int((told & (value > 0)).sum()),
            "-": int((told & (value < 0)).sum()),
            "beyond": int((told & (np.abs(value) > full * (1 + NEAR))).sum()) if full else 0,
        },
    }


def _most_apart(payload: Mapping[str, Any], state: Mapping[str, Any], order: np.ndarray) -> list[dict[str, Any]]:
    """The rollouts on which methods part most, and the turn where they do."""
    measure = state["sort"] if state.get("sort") in payload["apart"] else "rank"
    if measure not in payload["apart"]:
        return []
    score = sort_key(payload, {"sort": measure})
    assert score is not None
    listed = order[np.argsort(-np.nan_to_num(score[order], nan=-1.0), kind="stable")][:LISTED]
    ids, groups, number = texts_of(payload["ids"]), texts_of(payload["groups"]), turn_numbers(payload)
    ends = [0, *payload["ends"].tolist()]
    by_turn = payload["apart"][measure]["turn"].astype(int)
    out = []
    for n in listed[score[listed] > 0].tolist():
        mine = np.where(by_turn == NONE, -1, by_turn)[ends[n] : ends[n + 1]]
        k = ends[n] + int(np.argmax(mine))
        said = [_cell(payload, m, k) for m in range(len(payload["methods"]))]
        row = {"id": ids[n], "group": groups[int(payload["group"][n])], "score": float(score[n])}
        out.append({**row, "turn": int(number[k]), "cells": said, "measure": measure})
    return out


def _cell(payload: Mapping[str, Any], m: int, k: int) -> dict[str, Any]:
    value = float(payload["values"][m][k])
    status = LETTERS[int(payload["status"][m][k])]
    return {"value": None if np.isnan(value) else value, "status": status, "why": ""}


__all__ = ["COLUMNS", "LETTER", "LEVELS", "LINES", "cells", "heat_picture"]
