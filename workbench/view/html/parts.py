"""Pieces that all static views share: type, tables, bars, budgets.

The static layer must survive the sanitiser of an untrusted notebook, so everything is an inline style, and only what
that sanitiser keeps: colours as rgba with commas, no CSS variables, no `inherit` as a colour (hence `span`, never
`mark`, which brings a text colour of its own), no ids, no data attributes. Notebooks also style bare tables (zebra
rows, right alignment, hover), which every cell and row here overrides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from workbench.view import palette
from workbench.view.tags import Markup, el, join

REPR_BYTES = 150_000
PAGE_BYTES = 2_000_000

FONT = "font:13px/1.5 system-ui,-apple-system,sans-serif"
MONO = "font-family:ui-monospace,Menlo,Consolas,monospace;font-size:12px"
QUIET = palette.QUIET
SMALL = f"font-size:12px;{QUIET}"
RULE = "1px solid rgba(128,128,128,.28)"
CELL = "border:0;text-align:left;vertical-align:baseline;line-height:1.5;white-space:normal;padding:"
PLAIN_ROW = "background-color:rgba(0,0,0,0);border:0"
TABLE = "border-collapse:collapse;border:0;margin:0;font-size:13px;table-layout:auto"
BAR = 44  # pixels on either side of the axis
NO_MATHS = "mathjax_ignore tex2jax_ignore"  # classes: a notebook would typeset text of models between dollars as TeX


def frame(*children: str) -> Markup:
    """Wrap a view: font and width of everything in it, and text that stays as it is."""
    style = f"{FONT};max-width:1080px;text-align:left;padding:6px 0 10px;margin:0"
    return el("div", *children, style=style, attrs={"class": NO_MATHS})


def heading(text: str, note: str = "") -> Markup:
    """Return the title of a view, with a quiet remark beside it.

    No `h3`: a notebook would number it and list it among its own headings.
    """
    beside = el("span", note, style=f"font-weight:normal;font-size:13px;{QUIET}") if note else Markup("")
    gap = Markup("&ensp;") if note else Markup("")
    return el("div", text, gap, beside, style="font-size:16px;font-weight:600;line-height:1.4;margin:0 0 6px;padding:0")


def subheading(text: str, note: str = "") -> Markup:
    """Return the title of a part of a view."""
    beside = el("span", note, style=f"font-weight:normal;{QUIET}") if note else Markup("")
    gap = Markup("&ensp;") if note else Markup("")
    return el(
        "div", text, gap, beside, style="font-size:13px;font-weight:600;line-height:1.5;margin:22px 0 6px;padding:0"
    )


def note(text: str) -> Markup:
    """Return a sentence in small type."""
    return el("p", text, style=f"{SMALL};line-height:1.5;margin:4px 0 0;max-width:76em")


def facts(*items: str) -> str:
    """Join the facts that are there by a middle dot."""
    return " · ".join(item for item in items if item)


def count(n: int, noun: str) -> str:
    """Say how many, with thousands apart: 1 turn, 2 turns, 12,000 turns."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def td(*children: str, style: str = "", title: str = "", span: int = 1, pad: str = "3px 12px 3px 0") -> Markup:
    """Return a cell; `style` comes after the defaults and wins."""
    attrs = {"colspan": span} if span > 1 else None
    return el("td", *children, style=f"{CELL}{pad}" + (f";{style}" if style else ""), title=title, attrs=attrs)


def th(*children: str, scope: str = "col", style: str = "", span: int = 1, pad: str = "3px 12px 3px 0") -> Markup:
    """Return a heading cell."""
    attrs: dict[str, str | int] = {"scope": scope if span == 1 or scope == "row" else "colgroup"}
    if span > 1:
        attrs["colspan"] = span
    return el("th", *children, style=f"{CELL}{pad};font-weight:600" + (f";{style}" if style else ""), attrs=attrs)


def tr(*cells: str, style: str = "") -> Markup:
    """Return a row without a notebook's zebra stripes."""
    return el("tr", *cells, style=PLAIN_ROW + (f";{style}" if style else ""))


def table(caption: str, head: Sequence[str], rows: Iterable[str], style: str = "") -> Markup:
    """Return a table that scrolls sideways by itself; the caption is its text alternative."""
    top = (
        el("caption", caption, style=f"{SMALL};text-align:left;caption-side:top;padding:0 0 4px")
        if caption
        else Markup("")
    )
    body = el("tbody", *rows)
    whole = el("table", top, el("thead", *head), body, style=TABLE + (f";{style}" if style else ""))
    return el("div", whole, style="overflow-x:auto;margin:0;padding:0 0 2px")


def details(summary: Sequence[str], *children: str, is_open: bool = False, style: str = "margin:4px 0 0") -> Markup:
    """Return a folded part."""
    attrs = {"open": "open"} if is_open else None
    return el("details", el("summary", *summary, style="cursor:pointer"), *children, style=style, attrs=attrs)


def block(text: str, more: int = 0) -> Markup:
    """Return text as it is, in a monospaced block; says how much was cut."""
    cut = Markup("")
    if more:
        cut = el("span", f"\n… {more:,} more characters, not shown", style="opacity:.68;font-style:italic")
    style = (
        f"{MONO};line-height:1.55;white-space:pre-wrap;overflow-wrap:break-word;margin:6px 0 8px;padding:8px 12px;"
        "background-color:rgba(128,128,128,.08);border:0;border-radius:3px;max-height:420px;overflow-y:auto"
    )
    return el("pre", text, cut, style=style)


# ----------------------------------------------------------------------------------------------- credit


def words(cell: dict[str, Any], decimals: int) -> str:
    """Say what a cell holds: its number, or the word for why there is none."""
    if cell["status"] in "vz":
        return palette.number(cell["value"], decimals)
    return palette.STATUS[cell["status"]]


def spelled(cell: dict[str, Any], decimals: int) -> str:
    """Say what a cell holds in full, for a tooltip."""
    said = words(cell, decimals)
    if cell["status"] in "dn" and cell["value"] is not None:
        said += f", its value is {palette.number(cell['value'], decimals)}"
    return said + (f": {cell['why']}" if cell.get("why") else "")


def bar(cell: dict[str, Any], full: float | None, decimals: int, half: int = BAR) -> Markup:
    """Return a cell with a bar left (negative) or right (positive) of an axis that runs through all rows.

    Args:
        half: pixels on either side of the axis.
    """
    axis = _stripe("rgba(128,128,128,.55)", half, half + 1)
    size = f"width:{2 * half + 1}px;min-width:{2 * half + 1}px;font-size:9px;line-height:1"
    title = spelled(cell, decimals)
    if cell["status"] == "u":
        band = f"background-image:{palette.HATCH_IMAGE},{axis};background-size:6px 6px,100% 100%"
        place = "background-repeat:repeat-x,no-repeat;background-position:left center,left top"
        return td(style=f"{size};{band};{place}", title=title, pad="0")
    value = cell["value"] if cell["status"] == "v" else None
    if not value or not full:
        return td(style=f"{size};background-image:{axis}", title=title, pad="0")
    length = max(1, round(half * min(1.0, abs(value) / full)))
    start, stop = (half - length, half) if value < 0 else (half + 1, half + 1 + length)
    drawn = _stripe(palette.wash(-palette.LEVELS if value < 0 else palette.LEVELS), start, stop)
    style = (
        f"{size};background-image:{drawn},{axis};background-size:100% 11px,100% 100%;background-repeat:no-repeat;"
        f"background-position:left center;vertical-align:middle;text-align:{'left' if value < 0 else 'right'}"
    )
    over = abs(value) > full
    return td(("◂" if value < 0 else "▸") if over else "", style=style, title=title, pad="0")


def _stripe(colour: str, start: int, stop: int) -> str:
    """A gradient that is one stripe of a colour, in pixels from the left."""
    none = colour.rsplit(",", 1)[0] + ",0)"
    return f"linear-gradient(to right,{none} {start}px,{colour} {start}px,{colour} {stop}px,{none} {stop}px)"


def figure(cell: dict[str, Any], decimals: int, pad: str = "3px 18px 3px 8px", width: str = "min-width:48px") -> Markup:
    """Return a cell with the number of a bar, or the word that stands for none."""
    quiet = f";{SMALL}" if cell["status"] not in "vz" else ""
    italic = ";font-style:italic" if cell["status"] == "n" else ""
    style = f"text-align:right;white-space:nowrap;{width}{quiet}{italic}"
    return td(words(cell, decimals), style=style, title=spelled(cell, decimals), pad=pad)


def colour_key(full: float | None, decimals: int) -> Markup:
    """Return the scale as a small ruler: -s, the colours, +s."""
    if full is None:
        return Markup("")
    ramp = (
        f"linear-gradient(to right,rgba({palette.NEGATIVE},.8),rgba({palette.NEGATIVE},0) 50%,"
        f"rgba({palette.POSITIVE},0) 50%,rgba({palette.POSITIVE},.8))"
    )
    style = (
        "display:inline-block;width:132px;height:11px;margin:0 8px;vertical-align:baseline;"
        f"background-image:{ramp};border-left:{RULE};border-right:{RULE}"
    )
    ends = (palette.number(-full, decimals), palette.number(full, decimals))
    ruler = el("span", style=style, title=f"colour scale from {ends[0]} over 0 to {ends[1]}")
    return el("span", ends[0], ruler, ends[1], style="white-space:nowrap")


def scale_words(scale: dict[str, Any], rollouts: int, decimals: int) -> str:
    """Say in one sentence what full colour means and where the scale comes from."""
    if scale["full"] is None:
        return "No credit other than 0 in these rollouts, so there is no colour scale."
    size = palette.number(scale["full"], decimals, signed=False)
    start = f"One scale for everything here, symmetric about 0: full colour and full bar at ±{size}, "
    origin = (
        "as asked for"
        if scale["given"]
        else f"the 98th percentile of the non-zero credits of {count(rollouts, 'rollout')}"
    )
    beyond = f"; {count(scale['beyond'], 'value')} of {scale['of']:,} beyond it" if scale["beyond"] else ""
    return f"{start}{origin}{beyond}."


def key_line(scale: dict[str, Any], rollouts: int) -> Markup:
    """Return the colour key, and beside it what it means."""
    decimals = palette.digits(scale["full"])
    said = el("div", scale_words(scale, rollouts, decimals), style=QUIET)
    ruler = colour_key(scale["full"], decimals)
    return el("div", ruler, said, style="display:flex;align-items:baseline;gap:16px;font-size:12px;margin:12px 0 10px")


# ---------------------------------------------------------------------------------------------- budgets


class Version(NamedTuple):
    """One way to draw a piece of a view.

    Args:
        least: bytes it has at least; where they do not fit it is not even made.
        make: makes it.
    """

    least: int
    make: Callable[[], Markup]


def only(piece: Markup) -> tuple[Version, ...]:
    """Return the versions of a piece that has one."""
    return (Version(len(piece), lambda: piece),)


def fitting(pieces: Iterable[Sequence[Version]], room: int) -> tuple[list[Markup], int]:
    """Take pieces while they fit, each in the fullest of its versions that does.

    Args:
        pieces: versions of each piece, fullest first.
        room: bytes left.

    Returns:
        what was taken, and how many pieces were left out (from the first that did not fit in any version).
    """
    taken: list[Markup] = []
    left_out = 0
    for versions in pieces:
        made = (v.make() for v in versions if v.least <= room)
        fits = None if left_out else next((m for m in made if len(m.encode()) <= room), None)
        if fits is None:
            left_out += 1
            continue
        taken.append(fits)
        room -= len(fits.encode())
    return taken, left_out


def size(parts: Iterable[str]) -> int:
    """Return the bytes of HTML parts."""
    return len(join(parts).encode())
