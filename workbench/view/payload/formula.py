"""Payloads of recipes: a chain as boxes, a combination as parallel branches, an objective as its terms."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from workbench.credit import Chain, Combine, Node, Stage


def value_words(value: Any) -> str:
    """Say a parameter: a function by its name, anything else as it prints.

    Example:
        >>> value_words(0.2), value_words("token"), value_words((1.0, 2.0))
        ('0.2', 'token', '(1.0, 2.0)')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, tuple) and value and all(hasattr(v, "__name__") for v in value):
        return "(" + ", ".join(v.__name__ for v in value) + ")"
    return getattr(value, "__name__", None) or repr(value)


def stage_words(node: Any) -> dict[str, Any]:
    """Return name and parameters of a node; `plain` names the parameters that have their default value."""
    if isinstance(node, Stage):
        params = {key: value_words(value) for key, value in node.params}
        return {"name": node.name, "params": params, "plain": list(node.plain)}
    if isinstance(node, Combine):
        params = {key: value_words(value) for key, value in node.params}
        if node.unknown != "any":
            params["unknown"] = node.unknown
        return {"name": node.name, "params": params, "plain": []}
    return {"name": type(node).__name__.lower(), "params": {}, "plain": []}


def tree(node: Node) -> dict[str, Any]:
    """Return a node and what is inside it: `{"kind": "chain" | "combine" | "stage", ...}`."""
    if isinstance(node, Chain):
        return {"kind": "chain", "stages": [tree(stage) for stage in node.stages]}
    if isinstance(node, Combine):
        return {"kind": "combine", **stage_words(node), "branches": [tree(branch) for branch in node.branches]}
    return {"kind": "stage", **stage_words(node)}


def recipe(r: Any) -> dict[str, Any]:
    """Return the payload of a recipe: its credit and streams as trees, its objective as terms, what it needs."""
    return {
        "kind": "recipe",
        "name": r.name,
        "credit": tree(r.chain),
        "streams": {name: tree(node) for name, node in r.streams.items()},
        "objective": objective(r.objective),
        "needs": list(r.needs),
        "refill": bool(r.refill),
        "candidates": None if r.candidates is None else [r.candidates.count, r.candidates.oracle],
        "formula": repr(r),
    }


def objective(o: Any) -> dict[str, Any]:
    """Return the payload of an objective: its terms, and how their gradients are put together."""
    return {"kind": "objective", "terms": [_term(t) for t in o.terms], "rule": repr(o.rule) if o.rule else None}


def _term(t: Any) -> dict[str, Any]:
    return {
        "name": t.name,
        "weight": value_words(t.weight),
        "loss": type(t.loss).__name__,
        "params": _fields(t.loss),
        "aggregate": repr(t.aggregate),
        "over": t.over,
    }


def _fields(loss: Any) -> dict[str, str]:
    """Fields of a loss that are set; what it merely reads apart."""
    if not is_dataclass(loss):
        return {}
    shown = {f.name: getattr(loss, f.name) for f in fields(loss) if f.name not in ("needs", "streams")}
    return {name: value_words(value) for name, value in shown.items() if value is not None}
