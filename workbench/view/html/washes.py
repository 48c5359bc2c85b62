"""Text washed by credit: equal neighbours are one run, and every run says its value in words."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from workbench.view import palette
from workbench.view.html.parts import MONO, SMALL, spelled
from workbench.view.tags import Markup, el

TEXT = f"{MONO};font-size:12.5px;line-height:1.65;white-space:pre-wrap;overflow-wrap:break-word"
# A sampled line break is a token like any other: it gets a sign to carry its wash.
BREAK = "↵"
EMPTY = "∅"


def tokens(pieces: dict[str, Any], credit: dict[str, Any], full: float | None, decimals: int) -> Markup:
    """Return the tokens of a turn, washed; `credit` holds values and statuses of its sampled tokens, in order."""
    units = list(_units(pieces, credit, full))
    runs = [_run(list(same), decimals) for _, same in groupby(units, key=lambda unit: unit[:2])]
    hidden = Markup("")
    if pieces["more"]:
        hidden = el("span", f"\n… {pieces['more']:,} more tokens, not shown", style=f"{SMALL};font-style:italic")
    return el("div", *runs, hidden, style=TEXT)


def _units(pieces: dict[str, Any], credit: dict[str, Any], full: float | None) -> Iterator[tuple[Any, ...]]:
    """(mark and origin, step, text, value, status) of every token shown."""
    sampled = iter(zip(credit["values"], credit["status"], strict=True))
    for text, origin in zip(pieces["texts"], pieces["origins"], strict=True):
        value, status = next(sampled, (None, "u")) if origin == "sampled" else (None, "n")
        step = palette.level(value, full) if status == "v" else 0
        yield (status, origin), step, text, value, status


def _run(units: list[tuple[Any, ...]], decimals: int) -> Markup:
    (status, origin), step = units[0][:2]
    text = "".join(unit[2] for unit in units)
    values = [unit[3] for unit in units if unit[3] is not None]
    title = said(status, values, decimals) + (f", {len(units)} tokens" if len(units) > 1 else "")
    if origin != "sampled":
        title = f"{origin}, not sampled: never trained"
    if origin == "sampled":
        text = text.replace("\r\n", "\n").replace("\n", BREAK + "\n") or EMPTY
    return el("span", text, style=palette.mark(status, step), title=title)


def said(status: str, values: list[float], decimals: int) -> str:
    """Say the value of a run: one number, or the range of those that share its step of the scale."""
    if status != "v" or not values:
        return spelled({"status": status, "value": values[0] if values else None}, decimals)
    low, high = (palette.number(v, decimals) for v in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def whole(text: str, more: int, cell: dict[str, Any], full: float | None, decimals: int) -> Markup:
    """Return the text of a turn with one wash: all that can be said where tokens are not known."""
    step = palette.level(cell["value"], full) if cell["status"] == "v" else 0
    hidden = el("span", f"\n… {more:,} more characters, not shown", style=f"{SMALL};font-style:italic") if more else ""
    run = el("span", text or "(no text)", style=palette.mark(cell["status"], step), title=spelled(cell, decimals))
    return el("div", run, hidden, style=TEXT)
