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

INDENT = 18
GAP = "border-top:3px solid rgba(0,0,0,0);border-bottom:3px solid rgba(0,0,0,0);background-clip:padding-box"


def ribbons(payload: dict[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return the stages of a recipe on one trajectory, from `payload.ribbons`; at most `budget` bytes."""
    turns = payload["turns"]
    title = f"{payload['title']}, stage by stage" if payload["title"] else "Stage by stage"
    lost = any(_lost(step) for step in payload["steps"])
    head = [_head(turns, lost), _air(len(turns))]
    rows = [only(_row(step, len(turns), air=k > 0 and step["starts"])) for k, step in enumerate(payload["steps"])]
    shown, hidden = fitting(rows, budget - size(head) - 3_000)
    kept = f"{count(hidden, 'more stage')} not shown: this view is kept under {budget // 1000} kB."
    more = note(kept) if hidden else Markup("")
    reasons = sorted({reason for step in payload["steps"] for reason in step["reasons"]})
    said = note(
        "Each ribbon is what its stage hands on; indented ribbons are branches of the one below them. Stages have "
        "different units, so every ribbon has a scale of its own, symmetric about 0, named at its right. Of token "
        "credit a cell shows the mean over credited tokens."
        + (f" “Without credit” counts over all rollouts. Dropped: {'; '.join(reasons)}." if reasons else "")
    )
    return frame(heading(title, payload["id"]), table("", head, shown), more, said)


def _air(turns: int) -> Markup:
    """Return an empty row, as space above ribbons that begin anew."""
    return tr(td("", span=turns + 4, style="font-size:3px;line-height:1", pad="3px 0"))


def _head(turns: list[dict[str, Any]], lost: bool) -> Markup:
    line = f"border-bottom:{RULE};font-weight:normal"
    heads = [
        th(
            el("div", f"turn {t['index']}"),
            el("div", one_line(t["text"], 14), style=f"{MONO};font-size:11px;{QUIET}", title=t["text"]),
            style=f"text-align:right;white-space:nowrap;{line}",
            pad="3px 10px 6px",
        )
        for t in turns
    ]
    quiet = f"{line};{QUIET};white-space:nowrap"
    names = [("full colour", "3px 16px 6px"), ("one value a", "3px 16px 6px 0")]
    names += [("without credit", "3px 0 6px")] if lost else []
    side = [th(name, style=quiet, pad=pad) for name, pad in names]
    return tr(th("stage", style=f"border-bottom:{RULE};min-width:220px", pad="3px 24px 6px 0"), *heads, *side)


def _row(step: dict[str, Any], turns: int, *, air: bool) -> Markup:
    """Return a ribbon; with air above it where a branch begins."""
    full = step["scale"]["full"]
    decimals = palette.digits(full)
    cells = [_cell(cell, full, decimals, turns if step["whole"] else 1) for cell in step["cells"]]
    size_words = "all zero" if full is None else f"±{palette.number(full, decimals, signed=False)}"
    wraps = f"{SMALL};vertical-align:middle"  # the last column: it gives way where many turns need the room
    quiet = f"{wraps};white-space:nowrap"
    why = "; ".join(step["reasons"])
    space = _air(turns) if air else Markup("")
    ribbon = tr(
        _label(step),
        *cells,
        td(size_words, style="vertical-align:middle;white-space:nowrap", pad="2px 16px"),
        td(step["level"], style=quiet, pad="2px 16px 2px 0"),
        td(_lost(step), style=wraps, title=f"dropped: {why}" if why else "", pad="2px 0"),
    )
    return Markup(space + ribbon)


def _label(step: dict[str, Any]) -> Markup:
    shown = {k: v for k, v in step["params"].items() if k not in step["plain"]}
    rest = facts(*[f"{k} {v}" for k, v in step["params"].items() if k in step["plain"]])
    name = el("span", step["name"], style="font-weight:600")
    params = el("span", Markup("&ensp;"), facts(*[f"{k} {v}" for k, v in shown.items()]), style=SMALL)
    left = INDENT * (step["depth"] - 1)
    rail = f"border-left:2px solid rgba(128,128,128,.3);padding-left:{INDENT - 8}px;margin-left:{left}px"
    return th(
        el("div", name, params, style=rail if step["depth"] else "", title=f"defaults: {rest}" if rest else ""),
        scope="row",
        style="font-weight:normal;vertical-align:middle;max-width:340px",
        pad="2px 24px 2px 0",
    )


def _cell(cell: dict[str, Any], full: float | None, decimals: int, span: int) -> Markup:
    step = palette.level(cell["value"], full) if cell["status"] == "v" else 0
    small = "font-size:12px;" if cell["status"] not in "vz" else ""
    plain = {"u": palette.HATCH, "d": palette.QUIET, "n": palette.MARKS["n"]}.get(cell["status"], "")
    drawn = palette.mark("v", step) if step else plain
    align = "center" if span > 1 else "right"
    style = f"{GAP};text-align:{align};vertical-align:middle;white-space:nowrap;min-width:64px;{small}{drawn}"
    return td(words(cell, decimals), style=style.rstrip(";"), title=spelled(cell, decimals), span=span, pad="4px 10px")


def _lost(step: dict[str, Any]) -> str:
    """Say how many units of the whole batch have no credit after this stage."""
    total = sum(step["counts"].values())
    return ", ".join(f"{step['counts'][s]:,} of {total:,} {palette.STATUS[s]}" for s in "ud" if step["counts"].get(s))
