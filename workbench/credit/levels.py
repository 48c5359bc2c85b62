"""Levels: copy down, put on the last child, sum up, average."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from workbench.batch import Batch, Level
from workbench.credit.core import Credit, Stage, stage
from workbench.credit.rules import Deeper, Higher
from workbench.segments import seg_count, seg_sum


def _below(credit: Credit, batch: Batch, to: Level, values: Tensor, known: Tensor) -> Credit:
    """Credit of a lower level; what came from a dropped unit (which is unknown) is dropped."""
    dropped = None if credit.dropped is None else batch.down(credit.dropped, credit.level, to)
    return Credit(values, to, known, dropped, credit.reasons)


def _spread(credit: Credit, batch: Batch, to: Level) -> Credit:
    if credit.level == to:
        return credit
    values, known = (batch.down(x, credit.level, to) for x in (credit.values, credit.known))
    return _below(credit, batch, to, values, known)


def spread(to: Level) -> Stage:
    """Copy a value down to everything it holds (trajectory to its turns, turn to its tokens)."""
    return stage(spread, _spread, Deeper(to), {"to": to})


def _place(credit: Credit, batch: Batch, to: Level, elsewhere: str) -> Credit:
    if credit.level == to:
        return credit
    ends = batch.last(to, credit.level)
    at = ends[ends >= 0]
    values = torch.zeros(batch.count(to), dtype=torch.float64)
    values[at] = credit.values[ends >= 0]
    known = batch.down(credit.known, credit.level, to)
    if elsewhere == "unknown":
        there = torch.zeros_like(known)
        there[at] = True
        known = known & there
    return _below(credit, batch, to, values, known)


def place(to: Level, elsewhere: Literal["zero", "unknown"] = "zero") -> Stage:
    """Put a value on the last child.

    Args:
        to: level to go down to.
        elsewhere: what the other children have: 0, or no credit.
    """
    if elsewhere not in ("zero", "unknown"):
        raise ValueError(f"place: expected elsewhere='zero' or 'unknown', got {elsewhere!r}")
    return stage(place, _place, Deeper(to), {"to": to, "elsewhere": elsewhere})


def _total(credit: Credit, batch: Batch, to: Level) -> Credit:
    holder, size = batch.up(credit.level, to), batch.count(to)
    return Credit(seg_sum(credit.values, holder, size, credit.known), to, seg_count(holder, size, credit.known) > 0)


def total(to: Level) -> Stage:
    """Sum the known values of each parent; a parent without any is unknown."""
    return stage(total, _total, Higher(to), {"to": to})


def _average(credit: Credit, batch: Batch, to: Level) -> Credit:
    summed = _total(credit, batch, to)
    count = seg_count(batch.up(credit.level, to), batch.count(to), credit.known)
    return Credit(summed.values / count.clamp_min(1), to, summed.known)


def average(to: Level) -> Stage:
    """Average the known values of each parent; a parent without any is unknown."""
    return stage(average, _average, Higher(to), {"to": to})
