"""Unknown: fill it, make it so, or take it out of the loss for a reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch

from workbench.batch import Batch
from workbench.credit.core import Credit, Stage, stage
from workbench.credit.rules import same_level
from workbench.segments import next_known, previous_known


def _fill(credit: Credit, batch: Batch, value: float | str) -> Credit:
    if isinstance(value, str):
        carry = {"next": next_known, "previous": previous_known}[value]
        values, known = carry(credit.values, credit.known, batch.up(credit.level, "trajectory"))
    else:
        values = torch.where(credit.known, credit.values, torch.full((), float(value), dtype=torch.float64))
        known = torch.ones_like(credit.known)
    if credit.dropped is not None:  # what was dropped stays out of the loss
        known = known & (credit.dropped == 0)
    return replace(credit, values=values, known=known)


def fill(value: float | Literal["next", "previous"]) -> Stage:
    """Make unknown units known: a number, or the value of the next or previous known unit of the trajectory."""
    if isinstance(value, str) and value not in ("next", "previous"):
        raise ValueError(f"fill: expected a number, 'next' or 'previous', got {value!r}")
    return stage(fill, _fill, same_level, {"value": value})


def _forget(credit: Credit, batch: Batch, where: Any) -> Credit:
    return replace(credit, known=credit.known & ~where(credit, batch))


def forget(where: Any) -> Stage:
    """Make units unknown where a predicate holds; a later stage may fill them."""
    return stage(forget, _forget, same_level, {"where": where})


def _drop(credit: Credit, batch: Batch, where: Any, reason: str) -> Credit:
    return credit.drop(where(credit, batch), reason)


def drop(where: Any, reason: str) -> Stage:
    """Take units out of the loss for good where a predicate holds; `trace` says how many and why."""
    if reason in ("known", "zero", "unknown"):
        raise ValueError(f"drop: {reason!r} is what `Credit.counts` calls units that are not dropped; say why instead")
    return stage(drop, _drop, same_level, {"where": where, "reason": reason})
