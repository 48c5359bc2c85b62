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


def term_words(term: Any) -> dict[str, Any]:
    """Return the name and the fields of a term of an objective, those that have their default value left out."""
    if not is_dataclass(term):
        return {"name": repr(term), "params": {}}
    shown = {}
    for f in fields(term):
        value = getattr(term, f.name)
        if not f.repr or value is None or value == f.default:
            continue
        shown[f.name] = value_words(value)
    return {"name": type(term).__name__, "params": shown}
