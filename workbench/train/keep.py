"""What a run keeps of a step: every rollout that was played, which of them taught, and the credit they taught with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from workbench.batch import Batch, Column, Provenance
from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.segments import seg_count

CREDIT = "training_credit"
"""Column, token: the credit the update saw; unknown where a token entered no loss."""
DROPPED = "training_dropped"
"""Column, token, only if a rule of the recipe dropped any: i for reason i - 1 of the provenance's `reasons`, else 0."""
TAUGHT = "in_update"
"""Column, trajectory: 1 where a token of the trajectory had known credit (zero included), else 0."""


def to_keep(played: Rollouts, used: Rollouts, credits: Mapping[str, Credit], recipe: str) -> Rollouts:
    """Return all that was played, with the evidence of what was used, the credit, and a mark on what taught.

    Args:
        played: every rollout of the step; a recipe that samples again drops some of them.
        used: those that the update saw, with their evidence, in the same order.
        credits: of `used`; "credit" is that of the tokens.
        recipe: its name, for the provenance.

    Returns:
        `played` with the columns of `used` (unknown elsewhere), `training_credit`, `in_update` and `training_dropped`.
    """
    credit, batch = credits["credit"], used.batch()
    owner = batch.up(credit.level, "trajectory")
    taught = (seg_count(owner, len(used), credit.known) > 0).double()
    made = Provenance("training", {"recipe": recipe})
    values = torch.where(credit.known, credit.values, torch.zeros_like(credit.values))
    out = used.with_column(CREDIT, credit.level, values, credit.known, made)
    if credit.dropped is not None:
        why = Provenance("training", {"recipe": recipe, "reasons": [*credit.reasons]})
        out = out.with_column(DROPPED, credit.level, credit.dropped, provenance=why)
    out = out.with_column(TAUGHT, "trajectory", taught, provenance=made)
    return out if len(used) == len(played) else widened(out, played)


def joined(one: Rollouts, other: Rollouts) -> Rollouts:
    """Return the rollouts of both with the columns of both; unknown where one has no such column.

    Args:
        one, other: no group is in both; without units of their own.
    """
    if not len(one):
        return other
    parts = (one.batch(), other.batch())
    names = dict.fromkeys((*one.columns, *other.columns))
    columns = {name: _joined([part.columns.get(name) for part in parts], parts) for name in names}
    return Rollouts((*one, *other), columns, notes=tuple(dict.fromkeys((*one.notes, *other.notes))))


def _joined(found: Sequence[Column | None], parts: Sequence[Batch]) -> Column:
    """Put a column of two batches together; its cost is that of both, unknown where one has none."""
    there = [column for column in found if column is not None]
    last = there[-1]
    values, known = [], []
    for column, part in zip(found, parts, strict=True):
        shape = (part.count(last.level), *last.values.shape[1:])
        values.append(torch.zeros(shape, dtype=last.values.dtype) if column is None else column.values)
        known.append(torch.zeros(shape[0], dtype=torch.bool) if column is None else column.known)
    calls, tokens = (sum(getattr(c.provenance, what) for c in there) for what in ("calls", "tokens"))
    seconds = sum(c.provenance.seconds for c in there)
    source = replace(last.provenance, calls=calls, tokens=tokens, seconds=seconds)
    return Column(last.level, _cat(values), torch.cat(known), source)


def _cat(values: Sequence[Tensor]) -> Tensor:
    """Put values one behind the other; those of no entries have no say in the dtype."""
    dtypes = [v.dtype for v in values if len(v)] or [values[0].dtype]
    dtype = dtypes[0]
    for one in dtypes:
        dtype = torch.promote_types(dtype, one)
    return torch.cat([v.to(dtype) for v in values])


def widened(part: Rollouts, whole: Rollouts) -> Rollouts:
    """Return the whole with the columns of a part: unknown on trajectories the part lacks, `in_update` 0 there.

    Args:
        part: some trajectories of the whole, in the same order, no group cut.
        whole: rollouts without columns of their own.
    """
    inside = torch.tensor([t.id in part.by_id for t in whole], dtype=torch.bool)
    small, large = part.batch(), whole.batch()
    out = whole.with_notes(*part.notes)
    for name, unit in part.units.items():
        of = torch.full((large.count(unit.base),), -1, dtype=torch.int64)
        of[_within(large, unit.base, inside)] = unit.of
        out = out.with_unit(name, unit.base, of)
    for name, column in part.columns.items():
        if column.level == "batch" or column.level in part.units:
            out = out.with_column(name, column.level, column.values, column.known, column.provenance)
            continue
        assert small.count(column.level) == len(column.values)
        values, known = _spread(column, _within(large, column.level, inside), elsewhere=name == TAUGHT)
        out = out.with_column(name, column.level, values, known, column.provenance)
    return out


def _within(batch: Batch, level: str, inside: Tensor) -> Tensor:
    """Say which units of a level belong to the trajectories that are inside: bool [n]."""
    if level == "group":
        return seg_count(batch.trajectory_group, batch.count("group"), inside) > 0
    return inside[batch.up(level, "trajectory")]


def _spread(column: Column, places: Tensor, elsewhere: bool) -> tuple[Tensor, Tensor]:
    values = torch.zeros((len(places), *column.values.shape[1:]), dtype=column.values.dtype)
    known = torch.full((len(places),), elsewhere, dtype=torch.bool)
    values[places], known[places] = column.values, column.known
    return values, known
