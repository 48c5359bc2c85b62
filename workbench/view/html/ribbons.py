"""Static HTML of a trace: one ribbon a stage, one cell a turn, so that one sees where credit comes from."""

from __future__ import annotations

from typing import Any

from workbench.view import palette
from workbench.view.escape import one_line
from workbench.view.html.parts import (
    MONO,
    QUIET,
    REPR_BYTES,
    RULE,
    SMALL,
    count,
    facts,
    fitting,
    frame,
    heading,
    note,
    size,
    spelled,
    table,
    td,
    th,
    tr,
    words,
)
from workbench.view.tags import Markup, el

INDENT = 18
GAP = "border-top:3px solid rgba(0,0,0,0);border-bottom:3px solid rgba(0,0,0,0);background-clip:padding-box"


def ribbons(payload: dict[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return the stages of a recipe on one trajectory, from `payload.ribbons`; at most `budget` bytes."""
    turns = payload["turns"]
    title = f"{payload['title']}, stage by stage" if payload["title"] else "Stage by stage"
    head = _head(turns)
    rows = [[_row(step, len(turns))] for step in payload["steps"]]
    shown, hidden = fitting(rows, budget - size([head]) - 3_000)
    more = (
        note(f"{count(hidden, 'more stage')} not shown: this view is kept under {budget // 1000} kB.") if hidden else ""
    )
    said = note(
        "Each ribbon is what its stage hands on; indented ribbons are branches of the one below them. Stages have "
        "different units, so every ribbon has a scale of its own, symmetric about 0, named at its right. Of token "
        "credit a cell shows the mean over credited tokens."
    )
    return frame(heading(title, payload["id"]), table("", [head], shown), more, said)


def _head(turns: list[dict[str, Any]]) -> Markup:
    line = f"border-bottom:{RULE};font-weight:normal"
    cells = [
        th(
            el("div", f"turn {t['index']}"),
            el("div", one_line(t["text"], 16), style=f"{MONO};font-size:11px;{QUIET}", title=t["text"]),
            style=f"text-align:right;white-space:nowrap;{line}",
            pad="3px 10px 6px",
        )
        for t in turns
    ]
    return tr(
        th("stage", style=f"border-bottom:{RULE}", pad="3px 24px 6px 0"),
        *cells,
        th("full colour", style=line, pad="3px 0 6px 16px"),
    )


def _row(step: dict[str, Any], turns: int) -> Markup:
    full = step["scale"]["full"]
    decimals = palette.digits(full)
    cells = [_cell(cell, full, decimals, turns if step["whole"] else 1) for cell in step["cells"]]
    if not step["whole"] and len(cells) < turns:
        cells += [td("") for _ in range(turns - len(cells))]
    size_words = "all zero" if full is None else f"±{palette.number(full, decimals, signed=False)}"
    level = "one value a " + step["level"]
    side = td(
        el("div", size_words),
        el("div", level, _lost(step), style=SMALL),
        style="vertical-align:middle",
        pad="3px 0 3px 16px",
    )
    return tr(_label(step), *cells, side)


def _label(step: dict[str, Any]) -> Markup:
    shown = {k: v for k, v in step["params"].items() if k not in step["plain"]}
    rest = facts(*[f"{k} {v}" for k, v in step["params"].items() if k in step["plain"]])
    params = el("div", facts(*[f"{k} {v}" for k, v in shown.items()]), style=SMALL) if shown else Markup("")
    inside = el(
        "div", el("span", step["name"], style="font-weight:600"), params, title=f"defaults: {rest}" if rest else ""
    )
    left = INDENT * (step["depth"] - 1)
    rail = f"border-left:2px solid rgba(128,128,128,.3);padding-left:{INDENT - 8}px;margin-left:{left}px"
    return th(
        el("div", inside, style=rail) if step["depth"] else inside,
        scope="row",
        style="font-weight:normal;vertical-align:middle;max-width:280px",
        pad="3px 24px 3px 0",
    )


def _cell(cell: dict[str, Any], full: float | None, decimals: int, span: int) -> Markup:
    step = palette.level(cell["value"], full) if cell["status"] == "v" else 0
    small = "font-size:12px;" if cell["status"] not in "vz" else ""
    mark = (
        {"u": palette.HATCH, "d": "opacity:.68", "z": ""}.get(cell["status"]) if not step else palette.mark("v", step)
    )
    mark = palette.MARKS["n"] if cell["status"] == "n" else mark
    align = "center" if span > 1 else "right"
    style = (
        f"{GAP};text-align:{align};vertical-align:middle;white-space:nowrap;min-width:64px;{small}{mark or ''}".rstrip(
            ";"
        )
    )
    return td(words(cell, decimals), style=style, title=spelled(cell, decimals), span=span, pad="7px 10px")


def _lost(step: dict[str, Any]) -> str:
    """Say how many units of the whole batch have no credit after this stage, and why."""
    total = sum(step["counts"].values())
    parts = [f"{step['counts'][s]:,} of {total:,} {palette.STATUS[s]}" for s in "ud" if step["counts"].get(s)]
    why = f" ({'; '.join(step['reasons'])})" if step["reasons"] else ""
    return (", " + ", ".join(parts) + why) if parts else ""
