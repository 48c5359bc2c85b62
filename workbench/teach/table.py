"""Small tables of text: in a terminal, and as HTML whose every cell is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.view.html.parts import NO_MATHS
from workbench.view.tags import Markup, el, join

CELL = "border:1px solid rgba(128,128,128,0.4);padding:2px 8px;text-align:right"
BAD = CELL + ";background-color:rgba(213,94,0,0.25)"
MARK = "border:0;padding:2px 8px;font-weight:600"
RIGHT, WRONG = "rgba(0,114,178,1)", "rgba(213,94,0,1)"


@dataclass(frozen=True)
class Table:
    """A small table.

    Args:
        caption: a sentence on what to see.
        header: names of the columns.
        rows: cells, as text.
        bad: rows to point at.
        note: a sentence below.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bad: frozenset[int] = frozenset()
    note: str = ""

    def __str__(self) -> str:
        marked = [(*row, "<--" if i in self.bad else "") for i, row in enumerate(self.rows)]
        lines = [(*self.header, ""), *marked]
        widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
        text = ["  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        return "\n".join([self.caption, *text, *([self.note] if self.note else [])])

    def html(self) -> Markup:
        """Return it as an HTML table; an arrow says what the colour of a row says."""
        rows = list(enumerate(self.rows))
        head = el("tr", *(el("th", name, style=CELL, attrs={"scope": "col"}) for name in self.header))
        body = [el("tr", *(el("td", cell, style=self._look(i)) for cell in row), *self._mark(i)) for i, row in rows]
        caption = el("caption", self.caption, style="text-align:left;caption-side:top;padding:4px 0px")
        table = el("table", caption, el("thead", head), el("tbody", *body), style="border-collapse:collapse")
        return join([table, el("p", self.note, style="margin:4px 0px")]) if self.note else table

    def _look(self, row: int) -> str:
        return BAD if row in self.bad else CELL

    def _mark(self, row: int) -> tuple[Markup, ...]:
        """Return the cell that points at a row: a colour alone tells nothing to who cannot see it."""
        return (el("td", "\N{LEFTWARDS ARROW}", style=MARK, attrs={"aria-label": "wrong"}),) if row in self.bad else ()


def number(value: float | None) -> str:
    """Write a number with its sign.

    Example:
        >>> number(0.5), number(-0.0), number(None), number(float("nan")), number(-3e-9)
        ('+0.500', '0', '', 'nan', '-3e-09')
    """
    if value is None:
        return ""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return str(value)
    return f"{value:+.3f}" if 1e-3 <= abs(value) < 1e5 else f"{value:+.0e}"


def bundle(plain: str, lines: Sequence[str], table: Table | None, passed: bool | None = None) -> dict[str, str]:
    """Return the display bundle of some lines over a table; a bar at the left says right or wrong."""
    colour = {True: RIGHT, False: WRONG, None: "rgba(128,128,128,1)"}[passed]
    head = [
        el("p", line, style="margin:2px 0px" + (";font-weight:600" if i == 0 else "")) for i, line in enumerate(lines)
    ]
    inside = [*head, *([table.html()] if table else [])]
    style = f"border-left:4px solid {colour};padding:4px 12px"
    return {"text/plain": plain, "text/html": el("div", *inside, style=style, attrs={"class": NO_MATHS})}
