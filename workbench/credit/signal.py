"""Signals: evidence becomes credit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench.batch import Batch, Level
from workbench.credit.core import Chain, Credit, Stage, chain, stage
from workbench.credit.params import ColumnRef
from workbench.credit.rules import ANY, Always, within_trajectory
from workbench.segments import previous_known, run_starts, seg_max, seg_sum

Link = Callable[[Tensor], Tensor]

STANDARD_LEVELS = {
    "outcome": "trajectory",
    "truncated": "trajectory",
    "turn_reward": "turn",
    "gold_logprob": "turn",
    "gold_logprob_start": "trajectory",
    "match_turn_reward": "turn",
    "logprob_old": "token",
    "value": ANY,
}
"""Levels of the columns that have one by convention, so that a chain can be checked before it meets a batch."""


def _read(credit: None, batch: Batch, column: str, level: Level | None = None) -> Credit:
    c = batch[column]
    if c.values.ndim != 1:
        raise ValueError(f"read({column!r}): credit is one number a unit, the column has shape {tuple(c.values.shape)}")
    if level is not None and c.level != level:
        raise ValueError(f"read({column!r}): expected level {level!r}, the column is on {c.level!r}")
    return Credit(c.values.to(torch.float64), c.level, c.known)


def read(column: str, level: Level | None = None) -> Stage:
    """Read a column as credit, at the column's own level.

    Args:
        column: its name.
        level: the level it must have; by default that of the standard columns, or whatever the batch says.
    """
    expected = level or STANDARD_LEVELS.get(column, ANY)
    params = {"column": column} if level is None else {"column": column, "level": level}
    return stage(read, _read, Always(expected), params, columns=(column,), signal=True)


def _before(batch: Batch, level: Level, known: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest known unit before each one in its story (-1 for none), and where the story's beginning is here."""
    if level == "turn":  # the turns of a branch go on from their parent's
        parent = batch.turn_parent
        start = before_start = (parent < 0) & (batch.turn_index == 0)
        before = parent
        while bool((unknown := (before >= 0) & ~known[before.clamp_min(0)]).any()):
            start = start | (unknown & before_start[before.clamp_min(0)])
            before = torch.where(unknown, parent[before.clamp_min(0)], before)
        return before, start
    owner = batch.up(level, "trajectory")
    at, there = previous_known(torch.arange(len(owner)), known, owner)
    before = torch.full_like(owner, -1)
    before[1:] = torch.where(there[:-1] & (owner[1:] == owner[:-1]), at[:-1], before[1:])
    root = torch.ones(batch.count("trajectory"), dtype=torch.bool)
    begins = run_starts(batch.turn_trajectory)
    root[batch.turn_trajectory[begins]] = batch.turn_index[begins] == 0
    return before, root[owner.clamp_min(0)] & (before < 0)


def _difference(credit: Credit, batch: Batch, initial: float | str | None, link: Link | None) -> Credit:
    f = link or _identity
    x = f(credit.values)
    before, rooted = _before(batch, credit.level, credit.known)
    there = rooted & (initial is not None)
    base = torch.full_like(x, float(initial or 0.0)) if not isinstance(initial, str) else torch.zeros_like(x)
    if isinstance(initial, str):
        base, here = ColumnRef(initial).at(batch, credit.level)
        base, there = base.to(torch.float64), there & here
    previous = torch.where(before >= 0, x[before.clamp_min(0)] if len(x) else x, f(base))
    known = credit.known & ((before >= 0) | there)
    return replace(credit, values=torch.where(known, x - previous, torch.zeros_like(x)), known=known)


def _identity(x: Tensor) -> Tensor:
    return x


def difference(initial: float | str | None = None, link: Link | None = None) -> Stage:
    """Subtract from each known unit the known one before it in its story.

        y_k = f(x_k) - f(x_{previous known}),    y_first = f(x_first) - f(initial)

    Args:
        initial: what stands before the first unit: a number, a trajectory-level column, or None (the first known unit
            then has no credit).
        link: f, a named pure function of a tensor (`torch.exp` turns log-probabilities into probabilities); the
            identity by default.

    The known values of a whole story sum to its last value minus the initial one (telescoping). An unknown unit stays
    unknown and is stepped over. The first turn of a branch is compared with the turn it branched from, not with the
    prompt; it is unknown where that turn is not in the batch (so is the first unit of a branch on any other level).
    """
    columns = (initial,) if isinstance(initial, str) else ()
    return stage(difference, _difference, within_trajectory, {"initial": initial, "link": link}, columns=columns)


def delta(potential: str, initial: float | str | None = None, link: Link | None = None) -> Chain:
    """Read a potential and take its differences: `read(potential) > difference(initial, link)`."""
    return chain(read(potential), difference(initial, link))


@dataclass(frozen=True)
class Splits:
    """Rule of a stage that splits one value a trajectory over the units of a level."""

    to: Level

    def __call__(self, level: Level | None) -> Level:
        if level not in ("trajectory", ANY):
            raise ValueError(f"splits one value a trajectory, got level {level!r}")
        return self.to


def _share(credit: Credit, batch: Batch, evidence: str, temperature: float) -> Credit:
    c = batch[evidence]
    owner, size = batch.up(c.level, "trajectory"), batch.count("trajectory")
    logit = c.values.to(torch.float64) / temperature
    peak = seg_max(logit, owner, size, c.known)
    mass = torch.where(c.known, torch.exp(logit - peak[owner]), torch.zeros_like(logit))
    total = seg_sum(mass, owner, size)[owner]
    known = c.known & credit.known[owner]
    values = torch.where(known, credit.values[owner] * mass / torch.where(total == 0, 1.0, total), torch.zeros(()))
    out = Credit(values.to(torch.float64), c.level, known)
    for i, reason in enumerate(credit.reasons):
        out = out.drop(credit.dropped[owner] == i + 1, reason)  # type: ignore[index]
    return out


def share(evidence: str, temperature: float = 1.0, level: Level | None = None) -> Stage:
    """Split a trajectory's value over its units by the softmax of evidence; the sum is conserved.

        y_k = x * exp(e_k / temperature) / sum_l exp(e_l / temperature)

    Args:
        evidence: column whose level the credit goes to.
        temperature: > 0, in units of the evidence.
        level: level of the evidence, where a chain is to be checked before it meets a batch.
    """
    if temperature <= 0:
        raise ValueError(f"share: expected temperature > 0, got {temperature}")
    expected = level or STANDARD_LEVELS.get(evidence, ANY)

    params = {"evidence": evidence, "temperature": temperature}
    return stage(share, _share, Splits(expected), params, columns=(evidence,))
