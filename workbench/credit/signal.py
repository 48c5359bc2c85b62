"""Signals: evidence becomes credit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.batch import Batch, Level
from workbench.credit.core import Chain, Credit, Stage, chain, stage
from workbench.credit.rules import ANY, Always, within_trajectory
from workbench.segments import seg_max, seg_sum

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


def _difference(credit: Credit, batch: Batch, initial: float | str | None, link: Link | None) -> Credit:
    use = torch.nonzero(credit.known).flatten()
    owner = batch.up(credit.level, "trajectory")[use]
    f = link or _identity
    x = f(credit.values[use])
    is_first = torch.ones(len(use), dtype=torch.bool)
    is_first[1:] = owner[1:] != owner[:-1]
    before, there = _initial(batch, initial, owner, f)
    previous = torch.cat([x[:1], x[:-1]])
    gap = x - torch.where(is_first, before, previous)
    values = torch.zeros_like(credit.values)
    values[use] = gap
    known = credit.known.clone()
    known[use] = torch.where(is_first, there, torch.ones_like(there))
    return Credit(values, credit.level, known, credit.dropped, credit.reasons)


def _identity(x: Tensor) -> Tensor:
    return x


def _initial(batch: Batch, initial: float | str | None, owner: Tensor, f: Link) -> tuple[Tensor, Tensor]:
    """The potential before the first unit of each trajectory, per unit."""
    if isinstance(initial, str):
        values, known = batch[initial].values.to(torch.float64), batch[initial].known
        return f(values[owner]), known[owner]
    there = torch.full((len(owner),), initial is not None, dtype=torch.bool)
    return f(torch.full((len(owner),), float(initial or 0.0), dtype=torch.float64)), there


def difference(initial: float | str | None = None, link: Link | None = None) -> Stage:
    """Subtract from each known unit the known one before it in its trajectory.

        y_k = f(x_k) - f(x_{previous known}),    y_first = f(x_first) - f(initial)

    Args:
        initial: what stands before the first unit: a number, a trajectory-level column, or None (the first known unit
            of a trajectory then has no credit).
        link: f, a named pure function of a tensor (`torch.exp` turns log-probabilities into probabilities); the
            identity by default.

    The known values of a trajectory sum to its last value minus the initial one (telescoping). An unknown unit stays
    unknown and is stepped over.
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
