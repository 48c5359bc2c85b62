"""Static HTML of a heat map: a picture of all cells, and its margins in numbers and words."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.view import palette
from workbench.view.escape import esc, one_line
from workbench.view.html.parts import (
    PAGE_BYTES,
    QUIET,
    REPR_BYTES,
    RULE,
    SMALL,
    count,
    facts,
    frame,
    heading,
    key_line,
    note,
    size,
    subheading,
    table,
    td,
    th,
    tr,
    words,
)
from workbench.view.html.raster import DOTS, bars, data_url, raster
from workbench.view.html.tables import washed
from workbench.view.payload.heat_picture import LETTER
from workbench.view.payload.orders import SORTS
from workbench.view.tags import Markup, el, join

ROOM = 900  # CSS pixels for all panels
NUMBERED = 24  # turns whose means are written out
LISTED = 12  # methods whose numbers are
NARROWEST = 2  # CSS pixels of a cell
CODE = {letter: code for code, letter in LETTER.items()}
MARKS = (("+", "positive"), ("-", "negative"), ("z", "zero"), ("u", "unknown"), ("d", "dropped"), ("n", "not trained"))


def turn_heat(payload: dict[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return the heat map as a picture with margins, from `payload.heat_picture`; at most `budget` bytes."""
    decimals = palette.digits(payload["scale"]["full"])
    said = join(_said(payload, decimals, budget))
    picture, left_out = _fitting(payload, budget - size([said]) - 4_000)
    return frame(
        heading("Credit by rollout and turn", _totals(payload)), picture, note(_drawn(payload, left_out)), said
    )


def alt_text(p: dict[str, Any]) -> str:
    """Say what the picture shows, for those who do not see it."""
    decimals = palette.digits(p["scale"]["full"])
    parts = [f"Heat map: {count(p['shown'], 'rollout')} by {count(p['width'], 'turn')}, ordered {_ordered(p)}."]
    for m in p["methods"]:
        told = [(v, k) for k, v in enumerate(m["means"]) if v is not None]
        if not told:
            parts.append(f"{m['name']}: no credit.")
            continue
        (low, worst), (high, best) = min(told), max(told)
        if low == high:
            parts.append(f"{m['name']}: mean credit {palette.number(low, decimals)} at every turn that has any.")
            continue
        named = f"highest at turn {best} ({palette.number(high, decimals)}), lowest at turn {worst}"
        parts.append(f"{m['name']}: mean credit {named} ({palette.number(low, decimals)}).")
    return " ".join(parts)


def _ordered(p: dict[str, Any]) -> str:
    return "as given" if p["sort"] == "given" else f"by {SORTS[p['sort']]}"


def _totals(p: dict[str, Any]) -> str:
    filtered = f"{p['shown']:,} of {count(p['total'], 'rollout')}"
    return facts(
        count(p["total"], "rollout") if p["shown"] == p["total"] else filtered,
        count(p["groups"], "group"),
        f"up to {count(p['width'], 'turn')}",
    )


def _drawn(p: dict[str, Any], left_out: int) -> str:
    """Say what a line is, and what the picture leaves out."""
    if not p["shown"] or not p["methods"]:
        return "Nothing to draw: " + ("no method was given." if p["shown"] else "no rollout passes the filters.")
    line = "One line a rollout" if p["every"] == 1 else f"Every {p['every']:,}th rollout, one line each,"
    columns = len(p["methods"][0]["means"])
    wide = f"; the first {columns} turns of {p['width']:,}" if columns < p["width"] else ""
    less = f"; {count(left_out, 'more method')} not drawn, to stay small" if left_out else ""
    return (
        f"{line} {_ordered(p)}, one column a turn{wide}{less}. `.live()` and `.to_html(path)` have every cell, "
        "`.to_frame()` has the numbers."
    )


# ---------------------------------------------------------------------------------------------- the picture


def _fitting(p: dict[str, Any], room: int) -> tuple[Markup, int]:
    """Draw as many methods as fit into the room and the width, and say how many do not."""
    if not p["shown"] or not p["width"] or not p["methods"]:
        return Markup(""), 0
    columns = len(p["methods"][0]["means"])
    panels = p["methods"][: max(1, ROOM // (columns * NARROWEST))]
    drawn = _panels(p, panels)
    while len(drawn) > 1 and size(drawn) > room - 1_000 * len(drawn):
        drawn.pop()
    shown = panels[: len(drawn) - 1]
    return _picture(p, shown, drawn), len(p["methods"]) - len(shown)


def _panels(p: dict[str, Any], panels: list[dict[str, Any]]) -> list[Markup]:
    """The outcomes and each method as an image, all of one height."""
    lines, columns = len(p["outcomes"]), len(panels[0]["means"])
    width = max(NARROWEST, min(20, ROOM // (columns * len(panels))))
    height = max(1, min(16, 420 // lines))
    strip = bars(p["outcomes"], 40 * DOTS, height * DOTS, p["breaks"])
    images = [_image(strip, "outcome of each rollout, as a bar; unknown is hatched")]
    for i, panel in enumerate(panels):
        codes = np.array([[CODE[letter] for letter in line] for line in panel["lines"]], np.int8)
        dots = raster(codes.reshape(lines, columns), width * DOTS, height * DOTS, p["breaks"])
        images.append(_image(dots, alt_text(p) if i == 0 else f"the same under {panel['name']}"))
    return images


def _picture(p: dict[str, Any], panels: list[dict[str, Any]], images: list[Markup]) -> Markup:
    """The images side by side, with names above and turns below."""
    columns = len(p["methods"][0]["means"])
    names = ["outcome", *[one_line(panel["name"], 40) for panel in panels]]
    head = tr(*[th(name, style="white-space:nowrap;font-size:12px", pad="0 18px 4px 0") for name in names])
    body = tr(*[td(image, pad="0 18px 0 0") for image in images])
    axis = el("span", "turn 0", style="display:inline-block;min-width:50%")
    end = el("span", str(columns - 1), style="display:inline-block;min-width:50%;text-align:right")
    feet = [td(el("div", axis, end, style="white-space:nowrap") if columns > 3 else "turn 0 on") for _ in panels]
    known = [v for v in p["outcomes"] if v is not None]
    low, high = (palette.plain(v) for v in (min([0.0, *known]), max([0.0, *known])))
    foot = tr(td(f"{low} to {high}" if low != high else f"all {low}"), *feet, style=SMALL)
    return table("", [head], [body, foot], style="margin:8px 0 0")


def _image(dots: np.ndarray, alt: str) -> Markup:
    height, width = dots.shape
    size = f'width="{width // DOTS}" height="{height // DOTS}" style="display:block;max-width:none"'
    return Markup(f'<img src="{data_url(dots)}" alt="{esc(alt)}" {size}>')


# ----------------------------------------------------------------------------------------- the margins


def _said(p: dict[str, Any], decimals: int, budget: int) -> list[Markup]:
    if not p["methods"] or not p["shown"]:
        return []
    more = len(p["methods"]) - LISTED
    rest = note(f"{count(more, 'more method')} in `.to_frame()`.") if more > 0 else Markup("")
    p = {**p, "methods": p["methods"][:LISTED]}
    return [key_line(p["scale"], p["shown"]), _marks(p), _means(p, decimals), rest, _apart(p, decimals, budget)]


def _marks(p: dict[str, Any]) -> Markup:
    """How many cells carry which mark, by method; each heading shows its mark."""
    line = f"border-bottom:{RULE};text-align:right"
    look = {"+": palette.mark("v", 9), "-": palette.mark("v", -9), "d": palette.MARKS["d"]}
    heads = [
        th(
            el("span", word, style=f"padding:0 3px;{look.get(code) or palette.mark(code)}"),
            style=f"{line};font-weight:normal",
        )
        for code, word in MARKS
    ]
    corner = th("beyond the scale ◥", style=f"{line};font-weight:normal")
    head = tr(th("cells", style=f"border-bottom:{RULE}"), *heads, corner)
    rows = [
        tr(
            th(one_line(m["name"], 40), scope="row", style="font-weight:normal"),
            *[td(f"{m['counts'][code]:,}", style="text-align:right") for code, _ in MARKS],
            td(f"{m['counts']['beyond']:,}", style="text-align:right"),
        )
        for m in p["methods"]
    ]
    said = note(
        "Zero: a line at the foot. Unknown: hatched. Dropped: a dashed line. Not trained: grey. No turn: empty."
    )
    return el("div", table("", [head], rows), said)


def _means(p: dict[str, Any], decimals: int) -> Markup:
    """Mean credit by turn and method."""
    columns = range(min(NUMBERED, len(p["methods"][0]["means"])))
    cell = "text-align:right;font-weight:normal"
    head = tr(th("turn", pad="3px 16px 3px 0"), *[th(str(k), style=cell, pad="3px 10px") for k in columns])
    size_row = tr(
        th("rollouts", scope="row", style="font-weight:normal", pad="3px 16px 3px 0"),
        *[td(f"{p['methods'][0]['turns'][k]:,}", style=f"text-align:right;{QUIET}", pad="3px 10px") for k in columns],
    )
    rows = [
        tr(
            th(
                one_line(m["name"], 40),
                scope="row",
                style="font-weight:normal;white-space:nowrap",
                pad="3px 16px 3px 0",
            ),
            *[washed(_mean(m["means"][k]), p["scale"]["full"], decimals) for k in columns],
        )
        for m in p["methods"]
    ]
    more = len(p["methods"][0]["means"]) - NUMBERED
    rest = note(f"{count(more, 'more turn')} not written out.") if more > 0 else Markup("")
    return el("div", subheading("Mean credit by turn"), table("", [head], [size_row, *rows]), rest)


def _mean(value: float | None) -> dict[str, Any]:
    return {"value": value, "status": "u" if value is None else "v" if value else "z", "why": ""}


def _apart(p: dict[str, Any], decimals: int, budget: int) -> Markup:
    """The rollouts that the methods see most differently."""
    if not p["apart"]:
        return Markup("")
    names = [one_line(m["name"], 24) for m in p["methods"]]
    line = f"border-bottom:{RULE}"
    head = tr(
        *[th(name, style=line) for name in ("rollout", "group")],
        *[th(name, style=f"{line};text-align:right") for name in ("score", "at turn", *names)],
    )
    rows = [
        tr(
            th(one_line(r["id"], 48), scope="row", style="font-weight:normal;white-space:nowrap"),
            td(one_line(r["group"], 40)),
            td(f"{r['score']:.2f}", style="text-align:right"),
            td(str(r["turn"]), style="text-align:right"),
            *[td(words(cell, decimals), style="text-align:right") for cell in r["cells"][: len(names)]],
        )
        for r in p["apart"]
    ]
    title = subheading(
        "Where the methods part most", f"by {p['apart'][0]['measure']}; 0 they agree, 1 they could not part more"
    )
    shown = el("div", title, table("", [head], rows))
    return shown if len(shown) < budget // 3 else Markup("")


__all__ = ["PAGE_BYTES", "alt_text", "turn_heat"]
