"""Static HTML of tables of credit: methods x turns, and a set of rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.view import palette
from workbench.view.escape import one_line
from workbench.view.html.parts import (
    MONO,
    PAGE_BYTES,
    QUIET,
    REPR_BYTES,
    RULE,
    SMALL,
    count,
    facts,
    fitting,
    frame,
    heading,
    key_line,
    note,
    only,
    size,
    spelled,
    table,
    td,
    th,
    tr,
    words,
)
from workbench.view.tags import Markup, el

NUMBERS_UP_TO = 24  # cells in a row of the overview; wider rows hold signs, and numbers as tooltips
SIGN = {"z": "0", "u": "?", "d": "×", "n": "·"}


def washed(cell: dict[str, Any], full: float | None, decimals: int, span: int = 1) -> Markup:
    """Return a table cell with wash and number."""
    step = palette.level(cell["value"], full) if cell["status"] == "v" else 0
    quiet = "font-size:12px;" if cell["status"] not in "vz" else ""
    mark = "" if cell["status"] == "d" else palette.mark(cell["status"], step)
    style = f"text-align:right;white-space:nowrap;min-width:52px;{quiet}{mark}".rstrip(";")
    return td(words(cell, decimals), style=style, title=spelled(cell, decimals), span=span, pad="5px 10px")


def method_table(payload: dict[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return methods x turns of one trajectory, from `payload.method_table`; at most `budget` bytes."""
    full = payload["scale"]["full"]
    decimals = palette.digits(full)
    turns = payload["turns"]
    heads = [th(f"turn {t['index']}", style="text-align:right;font-weight:normal", pad="3px 10px") for t in turns]
    head = tr(th("method", pad="3px 16px 3px 0"), *heads)
    rows = [
        only(
            tr(
                th(m["name"], scope="row", style="font-weight:normal", pad="5px 16px 5px 0"),
                *[washed(c, full, decimals) for c in m["turns"]],
            )
        )
        for m in payload["methods"]
    ]
    shown, hidden = fitting(rows, budget - size([head]) - 3_000)
    more = (
        note(f"{count(hidden, 'more method')} not shown: this view is kept under {budget // 1000} kB.")
        if hidden
        else ""
    )
    return frame(
        heading(payload["id"], "credit by method and turn"),
        table("", [head], shown),
        key_line(payload["scale"], payload["rollouts"]),
        more,
    )


# --------------------------------------------------------------------------------------- a set of rollouts


def group_overview(payload: dict[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return groups and their rollouts, outcome and credit by turn, from `payload.group_overview`."""
    full = payload["scale"]["full"]
    decimals = palette.digits(full)
    narrow = payload["width"] * len(payload["methods"]) > NUMBERS_UP_TO
    top = [heading(payload.get("title", "Rollouts"), _totals(payload)), *[note(n) for n in payload["notes"][:6]]]
    key = _key(payload, narrow)
    rows = [only(row) for g in payload["groups"] for row in _group_rows(g, payload, full, decimals, narrow)]
    shown, _ = fitting(rows, budget - size([*top, key]) - 2_000)
    drawn = sum(1 for row in shown if 'scope="row"' in row)
    said = _shown(drawn, payload, budget)
    return frame(*top, el("div", table("", [_head(payload)], shown), style="margin:10px 0 0"), said, key)


def _totals(p: dict[str, Any]) -> str:
    kinds = p["group_kinds"]
    collapsed = kinds.get("collapsed", 0)
    return facts(
        count(p["total"], "rollout"),
        count(p["group_count"], "group"),
        f"{collapsed:,} collapsed (all outcomes equal)" if collapsed else "none collapsed",
        f"{kinds['unknown']:,} with unknown outcomes" if kinds.get("unknown") else "",
        f"{kinds['lone']:,} of one rollout" if kinds.get("lone") else "",
    )


def _shown(drawn: int, p: dict[str, Any], budget: int) -> Markup:
    if drawn == p["total"]:
        return Markup("")
    more = ", `.to_html(path)` more of them" if budget < PAGE_BYTES else ""
    rest = p.get("rest", f"`.to_frame()` has all{more}")
    return note(f"Showing the first {drawn:,} of {p['total']:,} rollouts; {rest}.")


def _key(p: dict[str, Any], narrow: bool) -> Markup:
    if not p["methods"]:
        return Markup("")
    marks = "+ positive, − negative, " if narrow else ""
    signs = f"{marks}0 zero, ? unknown, × dropped, · not trained; one cell a turn, values and reasons as tooltips."
    wide = (
        f" Only the first {p['width']} turns are drawn."
        if any(r["turns"] > p["width"] for g in p["groups"] for r in g["rows"])
        else ""
    )
    return el("div", key_line(p["scale"], p["total"]), note(signs + wide))


def _head(p: dict[str, Any]) -> Markup:
    line = f"border-bottom:{RULE}"
    named = [th(name, style=line, pad="3px 16px 5px 0") for name in p["methods"]]
    right = f"text-align:right;{line}"
    return tr(
        th("rollout", style=line, pad="3px 16px 5px 0"),
        th("outcome", style=right, pad="3px 16px 5px 0"),
        th("turns", style=right, pad="3px 16px 5px 0"),
        *named,
        *([] if p["methods"] else [th("ends with", style=line, pad="3px 0 5px")]),
    )


def _group_rows(g: dict[str, Any], p: dict[str, Any], full: float | None, decimals: int, narrow: bool) -> list[Markup]:
    width = 4 + len(p["methods"])
    said = facts(
        count(g["size"], "rollout"),
        f"mean outcome {palette.plain(g['mean'])}",
        {
            "collapsed": "collapsed: all outcomes equal",
            "unknown": "outcomes not all known",
            "lone": "alone in its group",
        }.get(g["outcomes"], ""),
    )
    title = el("span", one_line(g["id"], 80), style="font-weight:600")
    asked = el("div", g["question"], style=f"{SMALL};white-space:nowrap")
    head = tr(td(title, Markup("&ensp;"), el("span", said, style=QUIET), asked, span=width, pad="12px 0 3px"))
    return [head, *[_row(r, full, decimals, narrow) for r in g["rows"]]]


def _row(r: dict[str, Any], full: float | None, decimals: int, narrow: bool) -> Markup:
    ended = " truncated" if r["truncated"] else ""
    quiet = f";{SMALL}" if r["outcome"] is None else ""
    name = el("span", one_line(r["id"], 48), " branch" if r["branch"] else "", title=r["id"])
    cells = [
        td(_strip(cells, full, decimals, narrow), style=f"{MONO};white-space:nowrap", pad="2px 16px 2px 0")
        for cells in r["cells"]
    ]
    return tr(
        th(name, scope="row", style="font-weight:normal;white-space:nowrap", pad="2px 16px 2px 10px"),
        td(palette.plain(r["outcome"]) + ended, style=f"text-align:right{quiet}", pad="2px 16px 2px 0"),
        td(str(r["turns"]), style="text-align:right", pad="2px 16px 2px 0"),
        *(cells or [td(r["last"], style=f"{MONO};{QUIET};white-space:nowrap", pad="2px 0")]),
    )


def _strip(cells: Sequence[dict[str, Any]], full: float | None, decimals: int, narrow: bool) -> Markup:
    """Return the cells of one rollout under one method: fixed-width numbers, or signs, washed."""
    parts: list[str] = []
    for k, cell in enumerate(cells):
        step = palette.level(cell["value"], full) if cell["status"] == "v" else 0
        text = _sign(cell) if narrow else _short(cell, decimals)
        title = f"turn {k}: {spelled(cell, decimals)}" if narrow or cell["status"] not in "vz" else ""
        parts.append(
            el(
                "span",
                text,
                style=f"white-space:pre;padding:0 2px;{palette.mark(cell['status'], step) if step else _faint(cell)}",
                title=title,
            )
        )
    return Markup(" ".join(parts))


def _faint(cell: dict[str, Any]) -> str:
    return palette.HATCH if cell["status"] == "u" else "opacity:.68"


def _sign(cell: dict[str, Any]) -> str:
    if cell["status"] != "v":
        return SIGN[cell["status"]]
    return "+" if (cell["value"] or 0) > 0 else "−"


def _short(cell: dict[str, Any], decimals: int) -> str:
    if cell["status"] != "v":
        return f"{SIGN[cell['status']]:^{decimals + 3}}"
    return f"{cell['value']:+.{decimals}f}".replace("-", "−").rjust(decimals + 3)
