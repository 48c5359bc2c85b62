"""Levels: copy down, put on the last child, sum up, average."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from workbench.batch import Batch, Level
from workbench.credit.core import Credit, Stage, stage
from workbench.credit.rules import Deeper, Higher
from workbench.segments import seg_count, seg_last, seg_sum


def _carry_drops(out: Credit, credit: Credit, source: Tensor) -> Credit:
    """Take drops along to the units that came from dropped ones."""
    if credit.dropped is None:
        return out
    inside = source >= 0
    for i, reason in enumerate(credit.reasons):
        out = out.drop(inside & (credit.dropped[source.clamp_min(0)] == i + 1), reason)
    return out


def _spread(credit: Credit, batch: Batch, to: Level) -> Credit:
    if credit.level == to:
        return credit
    holder = batch.up(to, credit.level)
    if bool((holder < 0).any()):
        inside = holder >= 0
        safe = holder.clamp_min(0)
        values = torch.where(inside, credit.values[safe], torch.zeros((), dtype=torch.float64))
        return _carry_drops(Credit(values, to, credit.known[safe] & inside), credit, holder)
    return _carry_drops(Credit(credit.values[holder], to, credit.known[holder]), credit, holder)


def spread(to: Level) -> Stage:
    """Copy a value down to everything it holds (trajectory to its turns, turn to its tokens)."""
    return stage(spread, _spread, Deeper(to), {"to": to})


def _place(credit: Credit, batch: Batch, to: Level, elsewhere: str) -> Credit:
    if credit.level == to:
        return credit
    holder = batch.up(to, credit.level)
    n = len(holder)
    ends = seg_last(holder, len(credit))
    at = torch.nonzero(ends >= 0).flatten()
    values = torch.zeros(n, dtype=torch.float64)
    values[ends[at]] = credit.values[at]
    there = torch.zeros(n, dtype=torch.bool)
    there[ends[at]] = True
    inside = (holder >= 0) & credit.known[holder.clamp_min(0)] if len(credit) else torch.zeros(n, dtype=torch.bool)
    known = inside & (there if elsewhere == "unknown" else torch.ones_like(there))
    return _carry_drops(Credit(values, to, known), credit, holder)


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
