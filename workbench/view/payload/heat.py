"""Payload of a heat map: many rollouts x turns under several methods, ragged columns of numbers.

A turn stands in one flat row of K turns; rollout n owns the turns from `ends[n - 1]` up to `ends[n]`. No number is in a
list: arrays travel as bytes. `orders.py` says which rollouts are shown, and in which order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.batch import Batch
from workbench.credit import Credit
from workbench.view.palette import LEVELS, common_scale
from workbench.view.payload.disagree import MEASURES, apart
from workbench.view.payload.rows import Coded, Placed, coded

LETTERS = "vzudn"  # a status as a number is its place here; the same as in core.js
GROUPS = ("mixed", "collapsed", "lone", "unknown")  # what the outcomes of a group allow, as in `payload.outcomes_of`
SHARES_UP_TO = 12  # methods whose shares are compared: the time grows with the pairs
NONE = 255  # a disagreement that is not known

# Codes of a cell: the step of the colour scale, one more where the value lies beyond it, and the marks.
BEYOND = LEVELS + 1
NEAR = 1e-6  # float32 and float64 of one number are this near: what is at the end of the scale is not beyond it
ZERO, UNKNOWN, DROPPED, UNTRAINED, ABSENT = 0, 20, 21, 22, 30


def heat(
    batch: Batch,
    credits: Mapping[str, Credit],
    scale: float | None = None,
    questions: Sequence[str] = (),
    texts: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return every rollout's turns under every method, for the interactive layer.

    Args:
        batch: index maps, with the columns "outcome" and "truncated" where known.
        credits: name of the method to its credit, at any level.
        scale: value of full colour; by default the 98th percentile of the non-zero credits of all methods.
        questions: one line a group.
        texts: one line a turn; None leaves them out.

    Returns:
        `methods`; per rollout `ids`, `group`, `ends`, `first` (number of its first turn), `outcome` (NaN if unknown),
        `truncated`; per group `groups`, `questions`, `kinds`; per method `values` and `status` of each turn; `scale`
        and `own` (a scale per method); `apart` (disagreement by measure, of rollouts and of turns in 254ths).

    Raises:
        ValueError: a credit that was computed on other rollouts, or a scale that is not above 0.
    """
    columns = [turn_columns(coded(name, credit, batch), batch) for name, credit in credits.items()]
    owner, n = batch.turn_trajectory.numpy(), batch.count("trajectory")
    ends = np.cumsum(np.bincount(owner, minlength=n))
    outcome = _column(batch, "outcome")
    group = batch.trajectory_group.numpy().astype(np.int32)
    return {
        "kind": "turn_heat",
        "methods": list(credits),
        "count": n,
        "width": _width(batch, ends),
        "ids": packed_text(batch.trajectories),
        "groups": packed_text(batch.groups),
        "questions": packed_text(questions or [""] * len(batch.groups)),
        "texts": None if texts is None else packed_text(texts),
        "group": group,
        "kinds": _group_kinds(outcome, group, len(batch.groups)),
        "ends": ends.astype(np.uint32),
        "first": _first(batch, ends),
        "outcome": outcome.astype(np.float32),
        "truncated": np.nan_to_num(_column(batch, "truncated")).astype(np.uint8),
        "values": [values.astype(np.float32) for values, _ in columns],
        "status": [status for _, status in columns],
        "scale": _scale(columns, scale),
        "own": [common_scale([_credited(*column)]) for column in columns],
        "apart": _apart(columns, owner, n),
    }


def turn_columns(credit: Coded, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Return value (float64 [K], NaN if none) and status (uint8 [K], see `LETTERS`) of every turn.

    The same as `Placed.turn` turn by turn, in a few passes: of a credit by token, the mean over the credited tokens;
    without any, what the tokens are, in the order not trained, dropped, unknown.
    """
    placed, turns = Placed(credit, batch), batch.count("turn")
    here = placed.rows >= 0
    rows = np.where(here, placed.rows, 0)
    letters = np.where(here, credit.status[rows], "u") if len(credit.status) else np.full(len(rows), "u")
    numbers = credit.values[rows] if len(credit.values) else np.zeros(len(rows))
    numbers = np.where((letters == "u") | ~np.isfinite(numbers), np.nan, numbers)
    if not placed.fine:
        return numbers, _numbered(letters)
    letter, mean = np.full(turns, "u"), np.full(turns, np.nan)
    for which, counted in (("d", "d"), ("n", "n"), ("z", "vz"), ("v", "vz")):  # later ones win
        mine = np.unique(placed.token_turn[letters == which])
        letter[mine] = which
        use = np.isin(letters, list(counted)) & ~np.isnan(numbers)
        size = np.bincount(placed.token_turn[use], minlength=turns)
        total = np.bincount(placed.token_turn[use], weights=numbers[use], minlength=turns)
        mean[mine] = np.where(size > 0, total / np.maximum(size, 1), np.nan)[mine]
    return mean, _numbered(letter)


def _numbered(letters: np.ndarray) -> np.ndarray:
    out = np.zeros(len(letters), np.uint8)
    for i, letter in enumerate(LETTERS):
        out[letters == letter] = i
    return out


def codes(values: np.ndarray, status: np.ndarray, full: float | None) -> np.ndarray:
    """Return how each cell is drawn: step of the scale (+-17 beyond it), or the code of a mark -> int8.

    Example:
        >>> codes(np.array([0.5, -3.0, 0.0, np.nan]), np.array([0, 0, 1, 2], np.uint8), 1.0).tolist()
        [8, -17, 0, 20]
    """
    size = np.abs(np.nan_to_num(values.astype(np.float64))) / (full or 1.0)
    step = np.maximum(1, np.ceil(LEVELS * np.minimum(1.0, size) - 1e-9))
    step = np.where(size > 1 + NEAR, BEYOND, step) if full else np.zeros_like(size)
    out = np.where(values < 0, -step, step)
    for letter, code in (("z", ZERO), ("u", UNKNOWN), ("d", DROPPED), ("n", UNTRAINED)):
        out = np.where(status == LETTERS.index(letter), code, out)
    return out.astype(np.int8)


def credited(payload: Mapping[str, Any], method: int) -> np.ndarray:
    """Return the credit of each turn that counts in the loss, NaN elsewhere -> float64 [K]."""
    values, status = payload["values"][method].astype(np.float64), payload["status"][method]
    return np.where(status <= LETTERS.index("z"), values, np.nan)


def owners(payload: Mapping[str, Any]) -> np.ndarray:
    """Return the rollout of each turn -> int64 [K]."""
    ends = payload["ends"].astype(np.int64)
    return np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))


def turn_numbers(payload: Mapping[str, Any]) -> np.ndarray:
    """Return the number of each turn in its whole story -> int64 [K]."""
    owner, ends = owners(payload), payload["ends"].astype(np.int64)
    start = np.concatenate([[0], ends])[:-1]
    return np.arange(len(owner)) - start[owner] + payload["first"].astype(np.int64)[owner]


def packed_text(texts: Sequence[str]) -> dict[str, Any]:
    """Return texts as one string and where each ends, in UTF-16 units; `text_list` in turn_heat.js reads it."""
    ends = np.cumsum([len(t) if t.isascii() else len(t.encode("utf-16-le", "surrogatepass")) // 2 for t in texts])
    return {"text": "".join(texts), "ends": ends.astype(np.uint32)}


def _column(batch: Batch, name: str) -> np.ndarray:
    """A column of trajectories as float64, NaN where unknown or absent."""
    if name not in batch.columns or batch[name].level != "trajectory":
        return np.full(batch.count("trajectory"), np.nan)
    column = batch[name]
    return np.where(column.known.numpy(), column.values.double().numpy(), np.nan)


def _first(batch: Batch, ends: np.ndarray) -> np.ndarray:
    """Number of each rollout's first turn: a branch goes on counting."""
    start = np.concatenate([[0], ends])[: len(ends)]
    has = ends > start
    out = np.zeros(len(ends), np.int32)
    out[has] = batch.turn_index.numpy()[start[has]]
    return out


def _width(batch: Batch, ends: np.ndarray) -> int:
    sizes = np.diff(ends, prepend=0) + _first(batch, ends)
    return int(sizes.max()) if len(sizes) else 0


def _group_kinds(outcome: np.ndarray, group: np.ndarray, count: int) -> np.ndarray:
    size = np.bincount(group, minlength=count)
    unknown = np.bincount(group[np.isnan(outcome)], minlength=count) > 0
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, group, np.nan_to_num(outcome))
    np.maximum.at(high, group, np.nan_to_num(outcome))
    kind = np.where(low == high, GROUPS.index("collapsed"), GROUPS.index("mixed"))
    kind = np.where(size < 2, GROUPS.index("lone"), kind)
    return np.where(unknown, GROUPS.index("unknown"), kind).astype(np.uint8)


def _credited(values: np.ndarray, status: np.ndarray) -> np.ndarray:
    return values[status <= LETTERS.index("z")]


def _scale(columns: list[tuple[np.ndarray, np.ndarray]], scale: float | None) -> dict[str, Any]:
    """Full colour, where it comes from, and what lies beyond it."""
    known = [_credited(*column) for column in columns]
    full = common_scale(known) if scale is None else float(scale)
    if full is not None and not full > 0:
        raise ValueError(f"scale: expected a positive number, got {scale!r}")
    beyond = sum(int((np.abs(v) > full * (1 + NEAR)).sum()) for v in known) if full else 0
    return {"full": full, "given": scale is not None, "beyond": beyond, "of": sum(len(v) for v in known)}


def _apart(columns: list[tuple[np.ndarray, np.ndarray]], owner: np.ndarray, n: int) -> dict[str, Any]:
    """Disagreement by measure; nothing where there are fewer than two methods."""
    if len(columns) < 2:
        return {}
    stacked = np.stack([np.where(status <= 1, values, np.nan) for values, status in columns])
    out = {}
    for measure in MEASURES:
        if measure == "share" and len(columns) > SHARES_UP_TO:
            continue
        found = apart(measure, stacked, owner, n)
        turn = np.where(np.isnan(found.turn), NONE, np.round(np.nan_to_num(found.turn) * (NONE - 1)))
        out[measure] = {"rollout": found.rollout.astype(np.float32), "turn": turn.astype(np.uint8)}
    return out
