"""Static HTML of cards: a line of facts and tables."""

from __future__ import annotations

from typing import Any

from workbench.view import palette
from workbench.view.html.parts import (
    REPR_BYTES,
    RULE,
    bar,
    count,
    facts,
    figure,
    fitting,
    frame,
    heading,
    note,
    only,
    size,
    table,
    td,
    th,
    tr,
)
from workbench.view.tags import Markup, el

NUMERIC = frozenset({"tokens", "count", "values", "unknown", "id", "log-prob", "in the loss", "known", "dropped", ""})


def card(payload: dict[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return a card as HTML of at most about `budget` bytes."""
    head = [heading(payload["title"], facts(*payload["facts"]))]
    shown, hidden = fitting([only(_grid(t)) for t in payload["tables"]], budget - size(head) - 500)
    return frame(*head, *shown, note(f"{count(hidden, 'table')} not shown.") if hidden else "")


def _grid(t: dict[str, Any]) -> Markup:
    drawn = {i for row in t["rows"] for i, cell in enumerate(row) if isinstance(cell, dict)}
    head = [
        th(name, span=2 if i in drawn else 1, style=f"border-bottom:{RULE}{_side(name)}", pad="3px 18px 5px 0")
        for i, name in enumerate(t["head"])
    ]
    rows = [
        tr(*[c for name, cell in zip(t["head"], row, strict=True) for c in _cells(name, cell, t["full"])])
        for row in t["rows"]
    ]
    more = note(f"{count(t['hidden'], 'more row')} not shown.") if t["hidden"] else Markup("")
    return el("div", table(t["caption"], [tr(*head)], rows), more, style="margin:8px 0 0")


def _side(name: str) -> str:
    return ";text-align:right" if name in NUMERIC else ""


def _cells(name: str, cell: Any, full: float | None) -> list[Markup]:
    if isinstance(cell, dict):
        decimals = palette.digits(full)
        return [bar(cell, full, decimals), figure(cell, decimals)]
    return [td(cell, style=f"max-width:520px;overflow-wrap:break-word{_side(name)}", pad="3px 18px 3px 0")]
