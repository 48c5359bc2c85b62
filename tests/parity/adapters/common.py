"""Translate the encodings of worked examples (ragged lists, padded rows) into a Batch and back. No formula here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch

from workbench.batch import Batch
from workbench.credit import Credit, chain, read, spread
from workbench.losses import Aggregate, constant_length, token_mean, trajectory_mean, trajectory_sum
from workbench.recipes import Recipe

Case = Mapping[str, Any]
Ragged = list[list[Any]]


class Unsupported(Exception):
    """A case asks for something that nothing here computes."""


def choose(what: str, options: Mapping[Any, Any], wanted: Any) -> Any:
    """Pick by a parameter's value; an unknown value makes the case unsupported."""
    if wanted not in options:
        raise Unsupported(f"{what}={wanted!r}")
    return options[wanted]


def lengths(rows: Sequence[Sequence[Any]]) -> list[int]:
    return [len(row) for row in rows]


def flat(rows: Sequence[Sequence[Any]]) -> list[Any]:
    return [x for row in rows for x in row]


def ragged(values: Sequence[Any], sizes: Sequence[int]) -> Ragged:
    """Cut a flat list into rows."""
    ends = list(accumulate(sizes))
    return [list(values[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def repeat(ids: Sequence[int], sizes: Sequence[int]) -> list[int]:
    return [i for i, size in zip(ids, sizes, strict=True) for _ in range(size)]


def turns_of(sizes: Sequence[int], groups: Sequence[Any]) -> Batch:
    """A batch without tokens whose trajectories have these many turns."""
    return Batch.of_maps(repeat(range(len(sizes)), sizes), groups)


def one_turn_each(scores: Sequence[float], groups: Sequence[Any]) -> Batch:
    """A batch of one-turn trajectories with outcomes."""
    return turns_of([1] * len(scores), groups).with_column("outcome", "trajectory", torch.tensor(scores).double())


def rows_as_trajectories(mask: Sequence[Sequence[int]], groups: Sequence[Any] | None = None) -> Batch:
    """Padded token rows: each a trajectory of one turn; tokens with mask 1 are the sampled ones, at their positions."""
    positions = [[p for p, m in enumerate(row) if m] for row in mask]
    batch = Batch.of_maps(range(len(mask)), groups or [0] * len(mask), repeat(range(len(mask)), lengths(positions)))
    return replace(batch, token_position=torch.tensor(flat(positions), dtype=torch.int64))


def pick(rows: Sequence[Sequence[Any]], mask: Sequence[Sequence[int]]) -> list[Any]:
    """The entries of padded rows where the mask is 1, in order."""
    return [x for row, keep in zip(rows, mask, strict=True) for x, m in zip(row, keep, strict=True) if m]


def unpick(values: Sequence[float], mask: Sequence[Sequence[int]], elsewhere: float) -> Ragged:
    """Put token values back into padded rows."""
    left = iter(values)
    return [[next(left) if m else elsewhere for m in row] for row in mask]


def by_turn(recipe: Recipe, batch: Batch) -> list[float | None]:
    return recipe.credit(batch, to="turn").tolist()


def step_values(recipe: Recipe, batch: Batch, name: str, which: int = 0) -> Credit:
    """The credit after the `which`-th stage of a name in the recipe's trace."""
    return [step.credit for step in recipe.trace(batch) if getattr(step.stage, "name", "") == name][which]


def given_credit(recipe: Recipe, streams: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe's objective with credit read from the column "advantage" (level turn)."""
    return replace(recipe, chain=chain(read("advantage"), spread("token")), streams=streams or {})


def aggregate(params: Mapping[str, Any], width: int) -> Aggregate:
    """verl's names of aggregations."""
    name = params.get("agg", "token-mean")
    if name == "seq-mean-token-sum-norm":
        return constant_length(params.get("norm_length") or width)
    table = {
        "token-mean": token_mean,
        "seq-mean-token-mean": trajectory_mean,
        "seq-mean-token-sum": trajectory_sum,
    }
    return choose("agg", table, name)


def with_log_ratio(batch: Batch, log_ratio: Sequence[float]) -> tuple[Batch, torch.Tensor]:
    """Old log-probs of 0, and new ones that have these ratios (a leaf that takes gradients)."""
    new = torch.tensor(list(log_ratio), dtype=torch.float64, requires_grad=True)
    return batch.with_column("logprob_old", "token", torch.zeros(len(new), dtype=torch.float64)), new


Adapter = Callable[[Case], dict[str, Any]]
