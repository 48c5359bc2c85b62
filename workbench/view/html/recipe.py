"""Static HTML of recipes: stages as boxes, combinations as parallel branches, then the objective's terms."""

from __future__ import annotations

from typing import Any

from workbench.view.html.parts import (
    MONO,
    QUIET,
    REPR_BYTES,
    facts,
    frame,
    heading,
    note,
    size,
    subheading,
    table,
    td,
    th,
    tr,
)
from workbench.view.tags import Markup, el, join

BOX = "border:1px solid rgba(128,128,128,.4);border-radius:4px;padding:5px 10px 6px;line-height:1.4"
ROW = "display:flex;flex-wrap:wrap;align-items:center;gap:6px 8px;margin:0"
ARROW = el("span", "→", style="opacity:.55")


def recipe(payload: dict[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return a recipe: its credit as boxes, its streams, its objective; the formula alone if that is too long."""
    needs = "needs " + ", ".join(payload["needs"]) if payload["needs"] else "needs nothing beside the rollouts"
    refill = "asks for other groups in place of dropped ones" if payload["refill"] else ""
    whole = frame(
        heading(payload["name"], facts(needs, refill, _rounds(payload["candidates"]))),
        subheading("Credit"),
        node(payload["credit"]),
        *[part for name, tree in payload["streams"].items() for part in (subheading("Stream", name), node(tree))],
        subheading("Objective"),
        objective_table(payload["objective"]),
    )
    if size([whole]) <= budget:
        return whole
    return frame(heading(payload["name"], needs), el("pre", payload["formula"][:20_000], style=MONO))


def _rounds(candidates: list[Any] | None) -> str:
    if candidates is None:
        return ""
    count, oracle = candidates
    return f"is trained on {count} candidates in every state, the best by {oracle} goes on"


def node(tree: dict[str, Any]) -> Markup:
    """Return a chain, a stage or a combination as boxes."""
    if tree["kind"] == "chain":
        return el("div", join([node(stage) for stage in tree["stages"]], ARROW), style=ROW)
    if tree["kind"] == "combine":
        return _combine(tree)
    return el("div", _named(tree), style=BOX, title=_defaults(tree))


def _named(tree: dict[str, Any]) -> Markup:
    shown = [(k, v) for k, v in tree["params"].items() if k not in tree["plain"]]
    lines = [
        el(
            "div",
            el("span", f"{key} ", style=QUIET),
            value,
            style="font-size:12px;line-height:1.4;max-width:300px;overflow-wrap:break-word",
        )
        for key, value in shown
    ]
    return join([el("div", tree["name"], style="font-weight:600"), *lines])


def _inline(tree: dict[str, Any]) -> Markup:
    shown = [f"{k} {v}" for k, v in tree["params"].items() if k not in tree["plain"]]
    return el("span", facts(*shown), style=f"font-size:12px;{QUIET}")


def _defaults(tree: dict[str, Any]) -> str:
    rest = [f"{key} {tree['params'][key]}" for key in tree["plain"] if key in tree["params"]]
    return "defaults: " + facts(*rest) if rest else ""


def _combine(tree: dict[str, Any]) -> Markup:
    rail = "border-left:2px solid rgba(128,128,128,.4);padding:4px 0 4px 10px;margin:0 0 8px"
    branches = [el("div", node(branch), style=rail) for branch in tree["branches"]]
    return el(
        "div",
        el(
            "div",
            el("span", tree["name"], style="font-weight:600"),
            Markup("&ensp;"),
            _inline(tree),
            style="margin:0 0 8px",
        ),
        *branches,
        style=BOX.replace("padding:5px 10px 6px", "padding:10px 10px 8px"),
        title=_defaults(tree),
    )


def objective_table(payload: dict[str, Any]) -> Markup:
    """Return the terms of an objective, one a row, and their gradient rule."""
    names = ("term", "weight", "loss", "parameters", "aggregate", "over")
    head = tr(*[th(name, style="font-weight:normal;opacity:.68", pad="2px 20px 4px 0") for name in names])
    rows = [
        tr(
            th(t["name"], scope="row", pad="2px 20px 2px 0"),
            *[
                td(x, pad="2px 20px 2px 0")
                for x in (
                    t["weight"],
                    t["loss"],
                    facts(*[f"{k} {v}" for k, v in t["params"].items()]),
                    t["aggregate"],
                    t["over"] + " tokens",
                )
            ],
        )
        for t in payload["terms"]
    ]
    rule = note(f"Gradients of the terms are put together by {payload['rule']}.") if payload["rule"] else Markup("")
    return el("div", table("", [head], rows), rule)


def objective(payload: dict[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return an objective on its own."""
    return frame(
        heading("Objective", f"sum of {len(payload['terms'])} terms" if len(payload["terms"]) > 1 else ""),
        objective_table(payload),
    )


def chain(payload: dict[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return a chain that is not part of a recipe."""
    return frame(node(payload["tree"]))


__all__ = ["chain", "node", "objective", "objective_table", "recipe"]
