"""Levels: copy down, put on the last child, sum up, average."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from workbench.batch import Batch, Level
from workbench.credit.core import Credit, Stage, stage
from workbench.credit.params import ColumnRef
from workbench.credit.rules import Deeper, Higher, one_of
from workbench.segments import seg_count, seg_last, seg_sum

Elsewhere = Literal["zero", "unknown"]


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


def _last_trained(batch: Batch, to: Level, level: Level) -> Tensor:
    """Last child of each parent that may be trained; the last of all where none may (or nobody says)."""
    ends = batch.last(to, level)
    if "trainable" not in batch.columns or to not in ("turn", "token"):
        return ends
    values, known = ColumnRef("trainable").at(batch, to)
    found = seg_last(torch.where(known & (values != 0), batch.up(to, level), -1), batch.count(level))
    return torch.where(found >= 0, found, ends)


def _place(credit: Credit, batch: Batch, to: Level, elsewhere: str) -> Credit:
    if credit.level == to:
        return credit
    ends = _last_trained(batch, to, credit.level)
    at = ends[ends >= 0]
    values = torch.zeros(batch.count(to), dtype=torch.float64)
    values[at] = credit.values[ends >= 0]
    known = batch.down(credit.known, credit.level, to)
    if elsewhere == "unknown":
        there = torch.zeros_like(known)
        there[at] = True
        known = known & there
    return _below(credit, batch, to, values, known)


def place(to: Level, elsewhere: Elsewhere = "zero") -> Stage:
    """Put a value on the last child that may be trained: on a turn without gradient it would be lost to the others.

    Args:
        to: level to go down to.
        elsewhere: what the other children have: 0, or no credit.
    """
    one_of("place", "elsewhere", elsewhere, Elsewhere)
    return stage(place, _place, Deeper(to), {"to": to, "elsewhere": elsewhere})


def _total(credit: Credit, batch: Batch, to: Level) -> Credit:
    holder, size = batch.up(credit.level, to), batch.count(to)
    summed = seg_sum(credit.values, holder, size, credit.known)
    out = Credit(summed, to, seg_count(holder, size, credit.known) > 0)
    if credit.dropped is None:
        return out
    gone = (seg_count(holder, size) > 0) & (seg_count(holder, size, credit.dropped == 0) == 0)
    for i, reason in enumerate(credit.reasons):
        out = out.drop(gone & (seg_count(holder, size, credit.dropped == i + 1) > 0), reason)
    return out


def total(to: Level) -> Stage:
    """Sum the known values of each parent.

    A parent without any is unknown; one whose children are all dropped is dropped.
    """
    return stage(total, _total, Higher(to), {"to": to})


def _average(credit: Credit, batch: Batch, to: Level) -> Credit:
    summed = _total(credit, batch, to)
    count = seg_count(batch.up(credit.level, to), batch.count(to), credit.known)
    return replace(summed, values=summed.values / count.clamp_min(1))


def average(to: Level) -> Stage:
    """Average the known values of each parent; unknown and dropped as in `total`."""
    return stage(average, _average, Higher(to), {"to": to})
