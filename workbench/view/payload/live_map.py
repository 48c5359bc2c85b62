"""Payload of the interactive credit map: one trajectory, all its tokens, every method; long columns as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from workbench.batch import Batch
from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.trajectory import ORIGINS, Trajectory
from workbench.view.palette import common_scale
from workbench.view.payload.ledger import Promises, ledger
from workbench.view.payload.maps import _all_coded, _cell, _credited, _scale, position
from workbench.view.payload.records import transcript
from workbench.view.payload.rows import Coded, Placed, turns_of

LETTERS = "vzudn"  # a status as a number is its place here; the same in `widgets/core.js`
WHOLE = len(ORIGINS)  # origin of the one piece that stands for a turn whose tokens have no texts
MESSAGE_LIMIT = 40_000  # characters of a message
MAX_TOKENS = 200_000


class Piece(NamedTuple):
    """One token as it is shown: its text, its origin (number in ORIGINS, or WHOLE), its log-prob (NaN if unknown)."""

    text: str
    origin: int
    logprob: float


def live_map(
    rollouts: Rollouts,
    trajectory: int | str,
    credits: Mapping[str, Credit],
    scale: float | None = None,
    promises: Promises | None = None,
) -> dict[str, Any]:
    """Return one trajectory under several methods, with every token.

    Args:
        rollouts: the set the credits were computed on.
        trajectory: its id, or its position.
        credits: name of the method to its credit, at any level.
        scale: value of full colour; by default the 98th percentile of the non-zero credits of all methods and rollouts.
        promises: what the credit of a method should sum to; see `ledger`.

    Returns:
        `story` (as `transcript`, without texts of actions that stand in `text`); `text` of all tokens in one string;
        `ends` [T] of each token in it, in UTF-16 units; `turn_ends` [K] of each turn in tokens; `origin` [T], `logprob`
        [T]; `units` {name: [T] unit of each token, -1 in none}; `methods`, each with its own `full`, `cells` by turn,
        and `values`, `status` [T]; `ledger`; `more`: tokens left out.
    """
    batch, n = rollouts.batch(), position(rollouts, trajectory)
    t, turns = rollouts.trajectories[n], turns_of(batch, n)
    every = _all_coded(credits, batch)
    pieces = [_pieces(t, k) for k in range(len(t.turns))]
    cut = _room([len(p) for p in pieces], MAX_TOKENS)
    shown = [p[:room] for p, room in zip(pieces, cut, strict=True)]
    flat = [piece for p in shown for piece in p]
    origin = np.array([p.origin for p in flat], np.uint8)
    owner = np.repeat(np.arange(len(shown), dtype=np.int32), [len(p) for p in shown])
    first = int(batch.turn_index[turns.start]) if len(turns) else 0
    rows = _batch_rows(batch, turns, origin, owner)
    return {
        "story": _story(transcript(t, first_turn=first, limit=MESSAGE_LIMIT, tokens=0)),
        "rollouts": len(rollouts),
        "text": "".join(p.text for p in flat),
        "ends": np.cumsum([_utf16(p.text) for p in flat], dtype=np.uint32),
        "turn_ends": np.cumsum([len(p) for p in shown], dtype=np.uint32),
        "origin": origin,
        "origins": [*ORIGINS, "turn"],
        "logprob": np.array([p.logprob for p in flat], np.float32),
        "more": sum(map(len, pieces)) - len(flat),
        "units": _units(t, batch, flat, owner, rows, turns),
        "scale": _scale(every, scale),
        "methods": [_method(name, c, batch, turns, origin, owner, rows) for name, c in every.items()],
        "ledger": ledger(batch, n, credits, promises or {}),
    }


def methods_of(rollouts: Rollouts, trajectory: int | str) -> Callable[[str, Coded], dict[str, Any]]:
    """Return what makes an entry of `methods` of one trajectory's map: its tokens are placed once, for many credits."""
    batch, n = rollouts.batch(), position(rollouts, trajectory)
    t, turns = rollouts.trajectories[n], turns_of(batch, n)
    pieces = [_pieces(t, k) for k in range(len(t.turns))]
    shown = [p[:room] for p, room in zip(pieces, _room([len(p) for p in pieces], MAX_TOKENS), strict=True)]
    origin = np.array([piece.origin for p in shown for piece in p], np.uint8)
    owner = np.repeat(np.arange(len(shown), dtype=np.int32), [len(p) for p in shown])
    rows = _batch_rows(batch, turns, origin, owner)
    return lambda name, credit: _method(name, credit, batch, turns, origin, owner, rows)


def _story(story: dict[str, Any]) -> dict[str, Any]:
    """Drop what `text` holds already."""
    for turn in story["turns"]:
        del turn["pieces"]
        turn["action"] = {**turn["action"], "text": "", "more": 0}
    return story


def _room(sizes: list[int], room: int) -> list[int]:
    """How many tokens of each turn are shown, first come first served."""
    out = []
    for size in sizes:
        out.append(min(size, room))
        room -= out[-1]
    return out


def _pieces(t: Trajectory, k: int) -> list[Piece]:
    """Return the tokens of a turn from its first own one to its last; one piece for the turn if they have no texts."""
    spans = [s for sequence in t.sequences for s in sequence.spans if s.turn == k]
    own = [i for i, s in enumerate(spans) if s.origin in ("sampled", "forced")]
    shown = spans[own[0] : own[-1] + 1] if own else []
    if not shown or any(s.pieces is None for s in shown):
        action = t.turns[k].action
        text = action.text or "\n".join(c.raw or c.name for c in action.calls) or "(no text)"
        return [Piece(text[:MESSAGE_LIMIT], WHOLE, float("nan"))]
    out: list[Piece] = []
    for s in shown:
        origin, probs = ORIGINS.index(s.origin), s.logprobs or (None,) * len(s)
        out += [
            Piece(text, origin, float("nan") if p is None else p) for text, p in zip(s.pieces or (), probs, strict=True)
        ]
    return out


def _utf16(text: str) -> int:
    return len(text) if text.isascii() else len(text) + sum(c > "\uffff" for c in text)


def _batch_rows(batch: Batch, turns: range, origin: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Return which token of the batch each shown token is, -1 for one that was not sampled -> int64 [T]."""
    sampled = origin == ORIGINS.index("sampled")
    if not len(turns):
        return np.full(len(origin), -1)
    first = np.searchsorted(batch.token_turn.numpy(), np.arange(turns.start, turns.stop))
    before = np.cumsum(sampled) - sampled  # sampled tokens shown before each
    starts = np.searchsorted(owner, np.arange(len(first)))
    offset = first - np.append(before, 0)[starts] if len(first) else first
    return np.where(sampled, before + offset[owner] if len(owner) else 0, -1)


# ------------------------------------------------------------------------------------------------------------- units


def _units(
    t: Trajectory, batch: Batch, flat: list[Piece], owner: np.ndarray, rows: np.ndarray, turns: range
) -> dict[str, np.ndarray]:
    """Return the units a reader can choose: words, calls, what the batch names, turns -> int32 [T] each."""
    out = {"word": _words(flat, owner)}
    if "call" not in batch.units and (calls := _calls(t, flat, owner)).max(initial=-1) >= 0:
        out["call"] = calls
    for name, unit in batch.units.items():
        if name in ("word", "token", "turn"):
            continue
        of = unit.of.numpy()
        at = rows if unit.base == "token" else np.where(rows >= 0, turns.start + owner, -1)
        out[str(name)] = np.where(at >= 0, of[at], -1).astype(np.int32) if len(of) else np.full(len(at), -1, np.int32)
    return {**out, "turn": owner}


def _words(flat: list[Piece], owner: np.ndarray) -> np.ndarray:
    """Number words: one begins with a turn, before white space, and after it."""
    begins = np.ones(len(flat), dtype=np.int32)
    for i in range(1, len(flat)):
        before, text = flat[i - 1].text, flat[i].text
        inside = before and text and not before[-1].isspace() and not text[0].isspace()
        begins[i] = owner[i] != owner[i - 1] or not inside
    return (np.cumsum(begins) - 1).astype(np.int32)


def _calls(t: Trajectory, flat: list[Piece], owner: np.ndarray) -> np.ndarray:
    """Number tool calls where their text stands word for word in the text of their turn."""
    out = np.full(len(flat), -1, np.int32)
    number = 0
    starts = np.searchsorted(owner, np.arange(len(t.turns) + 1))
    for k, turn in enumerate(t.turns):
        texts = [p.text for p in flat[starts[k] : starts[k + 1]]]
        ends = np.cumsum([len(x) for x in texts])
        whole = "".join(texts)
        at = 0
        for call in turn.calls:
            found = whole.find(call.raw, at) if call.raw else -1
            if found < 0:
                continue
            at = found + len(call.raw)
            low, high = np.searchsorted(ends, [found, at - 1], side="right")
            out[starts[k] + low : starts[k] + high + 1] = number
            number += 1
    return out


# ----------------------------------------------------------------------------------------------------------- methods


def _method(
    name: str, credit: Coded, batch: Batch, turns: range, origin: np.ndarray, owner: np.ndarray, rows: np.ndarray
) -> dict[str, Any]:
    placed = Placed(credit, batch)
    cells = [placed.turn(k) for k in turns]
    values = np.full(len(origin), np.nan, np.float32)
    status = np.full(len(origin), LETTERS.index("n"), np.uint8)
    letters = np.array([LETTERS.index(c.status) for c in cells], np.uint8)
    numbers = np.array([np.nan if c.value is None else c.value for c in cells], np.float32)
    here = rows >= 0
    if placed.fine:
        unit = placed.rows[rows[here]]
        known = (unit >= 0) & (credit.status[unit] != "u") if len(credit.status) else np.zeros(len(unit), bool)
        values[here] = np.where(known, credit.values[unit] if len(credit.values) else 0.0, np.nan)
        coded = np.array([LETTERS.index(s) for s in credit.status.tolist()], np.uint8)
        status[here] = np.where(unit >= 0, coded[unit] if len(coded) else 0, LETTERS.index("u"))
    elif len(owner):
        values[here], status[here] = numbers[owner[here]], letters[owner[here]]
    whole = origin == WHOLE
    if whole.any():
        values[whole], status[whole] = numbers[owner[whole]], letters[owner[whole]]
    return {
        "name": name,
        "unit": "token" if placed.fine else credit.level,
        "full": common_scale(_credited({name: credit})),
        "cells": [_cell(c) for c in cells],
        "values": values,
        "status": status,
    }


def unit_rows(payload: Mapping[str, Any], method: str, unit: str) -> Iterator[dict[str, Any]]:
    """Yield the units of an interactive map under one method: turn, unit, text, value (None if none), status."""
    from workbench.view.palette import STATUS

    m = next(m for m in payload["methods"] if m["name"] == method)
    count = len(payload["origin"])
    of = np.arange(count) if unit == "token" else payload["units"][unit]
    text = payload["text"].encode("utf-16-le", "surrogatepass")
    ends = np.concatenate([[0], payload["ends"].astype(np.int64)]) * 2
    turn = payload["units"]["turn"]
    edges = np.flatnonzero(np.diff(of, prepend=-2, append=-2)) if count else np.zeros(0, int)
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        if of[a] < 0:
            continue
        letters = [LETTERS[s] for s in m["status"][a:b]]
        credited = [float(v) for v, s in zip(m["values"][a:b], letters, strict=True) if s in "vz"]
        letter = "v" if "v" in letters else "z" if credited else next((s for s in "ndu" if s in letters), "u")
        yield {
            "turn": payload["story"]["turns"][int(turn[a])]["index"],
            unit: int(of[a]),
            "text": text[ends[a] : ends[b]].decode("utf-16-le", "surrogatepass"),
            "method": method,
            "value": sum(credited) / len(credited) if credited else None,
            "status": STATUS[letter],
        }
