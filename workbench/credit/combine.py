"""Combine: weighted sums, products, and any named pure function of aligned credits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit.core import Combine, Credit, Node, only_nodes
from workbench.credit.params import Number, number
from workbench.credit.rules import one_of

Unknown = Literal["any", "skip"]


def _mix(batch: Batch, *credits: Credit, weights: tuple[Number, ...]) -> Tensor:
    parts = (
        torch.where(credit.known, number(w, batch, credit.level) * credit.values, 0.0)
        for w, credit in zip(weights, credits, strict=True)
    )
    return torch.stack(list(parts)).sum(0)


def mix(*branches: Node, weights: tuple[Number, ...] | None = None, unknown: Unknown = "any") -> Combine:
    """Sum branches: y_k = sum_b w_b x_{b,k}.

    Args:
        branches: chains that end on the same level.
        weights: one a branch (numbers, schedules or columns); 1 each by default.
        unknown: "any": unknown where one branch is; "skip": the sum over the known ones.
    """
    w = (1.0,) * len(branches) if weights is None else tuple(weights)
    if len(w) != len(branches):
        raise ValueError(f"mix: {len(branches)} branches need as many weights, got {len(w)}")
    return _checked(Combine("mix", _mix, branches, (("weights", w),), unknown))


def _multiply(batch: Batch, *credits: Credit) -> Tensor:
    return torch.stack([torch.where(c.known, c.values, 1.0) for c in credits]).prod(0)


def multiply(*branches: Node, unknown: Unknown = "any") -> Combine:
    """Multiply branches: y_k = prod_b x_{b,k}; with unknown="skip", the product over the known ones."""
    return _checked(Combine("multiply", _multiply, branches, (), unknown))


def apply(fn: Callable[..., Tensor], *branches: Node, unknown: Unknown = "any", **params: Any) -> Combine:
    """Apply a named pure function of aligned credits.

    Args:
        fn: called as fn(batch, *credits, **params) -> values [n], float64.
        branches: chains that end on the same level.
        unknown: as in `mix`; with "skip" the function looks at `credit.known` itself.
    """
    return _checked(Combine(fn.__name__.lstrip("_"), fn, branches, tuple(params.items()), unknown))


def _checked(node: Combine) -> Combine:
    if not node.branches:
        raise ValueError(f"{node.name}: needs at least one branch")
    only_nodes(node.name, node.branches)
    one_of(node.name, "unknown", node.unknown, Unknown)
    node.level_out(None if node.is_signal else "?")
    return node
