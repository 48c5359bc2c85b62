"""Static HTML of collapse: causes by step as a picture, the measures with definition and threshold, dead groups."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.view import palette
from workbench.view.escape import esc, one_line
from workbench.view.figure import GRID, INK
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
    subheading,
    table,
    td,
    th,
    tr,
)
from workbench.view.tags import Markup, el, join

WIDE, TALL, LEFT, FOOT, TOP = 900, 190, 40, 22, 8  # of the picture, in CSS pixels
BARS = 150  # bars of the picture; a longer course is drawn in means
ALARM = f"border-left:3px solid rgba({palette.NEGATIVE},.85);padding:2px 0 2px 10px;margin:6px 0 0;max-width:76em"
LINE = f"border-bottom:{RULE}"
RIGHT = "text-align:right"
DASHED = 'stroke-dasharray="5 3"'


def collapse_board(p: Mapping[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return the board from `payload.collapse`; at most `budget` bytes."""
    top = [heading("Collapse of groups", said(p)), *[el("div", text, style=ALARM) for text in alarms(p)]]
    if not p["steps"] or not len(p["last"]):
        return frame(*top, note("Nothing was measured yet."))
    top += [_picture(p), _causes(p), _tiles(p)]
    if not p["one"]:
        return frame(*top, note(_kept(p)))
    room = budget - size(top) - 4_000
    return frame(*top, _chances(p), _groups(p, room))


def said(p: Mapping[str, Any]) -> str:
    """Say in a few words what is shown.

    Example:
        >>> said({"name": "grpo-1", "one": False, "steps": 3})
        'grpo-1 · 3 steps'
    """
    what = f"one batch of {count(int(p['count'].sum()), 'group')}" if p["one"] else count(p["steps"], "step")
    return facts(p["name"], what)


def alarms(p: Mapping[str, Any]) -> list[str]:
    """Return what is wrong now, in words."""
    out = [p["problem"]] if p["problem"] else []
    out += [f"{a['kind']}: {a['text']} (since step {a['since']:,})" for a in p["alarms"] if a["now"]]
    beyond = [tile for tile in p["tiles"] if tile["state"] == "beyond"]
    return out + [f"{t['title']} is {number(t['now'], t)}, {t['verdict']}. {t['bad']}" for t in beyond]


def number(value: float | None, tile: Mapping[str, Any]) -> str:
    """Return a measure as text: a share in per cent, unknown as the word.

    Example:
        >>> number(0.25, {"percent": True}), number(-0.5, {"percent": False}), number(None, {"percent": True})
        ('25%', '−0.5', 'unknown')
    """
    if value is None or value != value:
        return "unknown"
    return f"{value:.3g}".replace("-", "−") if not tile["percent"] else f"{100 * value:.3g}%".replace("-", "−")


# ---------------------------------------------------------------------------------------------------- the picture


def _picture(p: Mapping[str, Any]) -> Markup:
    if p["one"] or not p["causes"]:
        return Markup("") if p["one"] else note("No group has collapsed in any step.")
    drawn = svg(p)
    address = "data:image/svg+xml;base64," + base64.b64encode(drawn.encode()).decode()
    attrs = {"src": address, "alt": alt_text(p), "width": WIDE, "height": TALL}
    each = f" Each bar stands for {p['each']:,} steps or more." if p["each"] > 1 or len(p["last"]) > BARS else ""
    line = "Share of all groups, by step; the dashed line is the forecast, p^G + (1 − p)^G at the step's success rate."
    return el("div", el("img", style="max-width:none", attrs=attrs), note(line + each), style="overflow-x:auto")


def alt_text(p: Mapping[str, Any]) -> str:
    """Say what the picture shows."""
    said = [
        f"{c['name']} {100 * _last(c['share']):.0f}%" for c in p["causes"] if _last(c["share"]) == _last(c["share"])
    ]
    first, last = int(p["first"][0]), int(p["last"][-1])
    return f"Collapsed groups by cause, steps {first} to {last}. Last: {', '.join(said) or 'unknown'}."


def _last(values: np.ndarray) -> float:
    return float(values[-1]) if len(values) else float("nan")


def svg(p: Mapping[str, Any]) -> str:
    """Return causes by step as bars upon each other, colour and pattern by cause, the forecast across."""
    each = max(1, -(-len(p["last"]) // BARS))
    shares = [_thinned(c["share"], each) for c in p["causes"]]
    bars = len(shares[0])
    wide, tall = (WIDE - LEFT - 8) / bars, TALL - TOP - FOOT
    parts = [_defs(p["causes"]), *_ticks(tall)]
    below = np.zeros(bars)
    gap = 1 if wide > 5 else 0
    for place, share in enumerate(shares):
        for k in np.flatnonzero(np.nan_to_num(share) > 0):
            x, y = LEFT + k * wide, TOP + tall * (1 - below[k] - share[k])
            where = f'x="{x:.1f}" y="{y:.1f}" width="{max(wide - gap, 1):.1f}" height="{tall * share[k]:.1f}"'
            parts.append(f'<rect {where} fill="url(#c{place})"/>')
        below += np.nan_to_num(share)
    forecast = next((t["forecast"] for t in p["tiles"] if t["key"] == "collapsed"), None)
    if forecast is not None:
        parts.append(_dashed(_thinned(forecast, each), wide, tall))
    first, last = int(p["first"][0]), int(p["last"][-1])
    parts += [_text(LEFT, TALL - 6, f"step {first:,}", "start"), _text(WIDE - 8, TALL - 6, f"step {last:,}", "end")]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {TALL}" width="{WIDE}" height="{TALL}" '
        f'font-family="sans-serif" font-size="11" fill="{INK}">{"".join(parts)}</svg>'
    )


def _thinned(values: np.ndarray, each: int) -> np.ndarray:
    """Means of neighbours, unknown ones left out."""
    parts = [values[i : i + each] for i in range(0, len(values), each)]
    return np.array([np.nan if np.isnan(part).all() else np.nanmean(part) for part in parts])


PATTERNS = {
    "full": "",
    "up": '<path d="M0 6L6 0" {stroke}/>',
    "down": '<path d="M0 0L6 6" {stroke}/>',
    "cross": '<path d="M0 0L6 6M0 6L6 0" {stroke}/>',
    "flat": '<path d="M0 3H6" {stroke}/>',
    "tall": '<path d="M3 0V6" {stroke}/>',
}


def _defs(causes: Sequence[Mapping[str, Any]]) -> str:
    made = []
    for place, cause in enumerate(causes):
        alpha = 0.85 if cause["pattern"] == "full" else 0.3
        lines = PATTERNS[cause["pattern"]].format(stroke=f'stroke="rgb({cause["colour"]})" stroke-width="1.6"')
        ground = f'<rect width="6" height="6" fill="rgb({cause["colour"]})" fill-opacity="{alpha}"/>'
        made.append(
            f'<pattern id="c{place}" width="6" height="6" patternUnits="userSpaceOnUse">{ground}{lines}</pattern>'
        )
    return f"<defs>{''.join(made)}</defs>"


def _ticks(tall: float) -> list[str]:
    out = []
    for share in (0, 0.5, 1):
        y = TOP + tall * (1 - share)
        out.append(f'<line x1="{LEFT}" x2="{WIDE - 8}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        out.append(_text(LEFT - 6, y + 4, f"{share:.0%}", "end"))
    return out


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{esc(text)}</text>'


def _dashed(values: np.ndarray, wide: float, tall: float) -> str:
    """The forecast: a step of line over each bar that has one."""
    told = [k for k in range(len(values)) if values[k] == values[k]]
    marks = [f"M{LEFT + k * wide:.1f} {TOP + tall * (1 - values[k]):.1f}h{wide:.1f}" for k in told]
    line = f'<path d="{"".join(marks)}" fill="none"'
    # A pale line below the dashes: they must stand out from bars of any colour, and on a dark ground.
    return (
        f'{line} stroke="#fff" stroke-opacity=".8" stroke-width="4"/>{line} stroke="#222" stroke-width="2" {DASHED}/>'
    )


# ----------------------------------------------------------------------------------------------------- the tables


def swatch(cause: Mapping[str, Any]) -> Markup:
    """Return a small block in the look of a cause."""
    rgb, pattern = cause["colour"], cause["pattern"]
    angle = {"up": "135deg", "down": "45deg", "cross": "45deg", "flat": "180deg", "tall": "to right"}.get(pattern)
    box = "display:inline-block;width:14px;height:11px;margin:0 8px 0 0"
    if angle is None:
        return el("span", style=f"{box};background-color:rgba({rgb},.85)")
    dark, pale = f"rgba({rgb},.9)", f"rgba({rgb},.3)"
    stripes = f"{dark} 25%,{pale} 25%,{pale} 50%,{dark} 50%,{dark} 75%,{pale} 75%"
    return el("span", style=f"{box};background-image:linear-gradient({angle},{stripes});background-size:6px 6px")


def _causes(p: Mapping[str, Any]) -> Markup:
    alive = p["groups_alive"]
    total = alive + sum(c["groups"] for c in p["causes"])
    if not total:
        return note("No group was counted.")
    heads = ["why outcomes do not differ", "groups"] if p["one"] else ["why outcomes do not differ", "groups", "last"]
    head = tr(*[th(text, style=LINE + (f";{RIGHT}" if k else "")) for k, text in enumerate([*heads, "share"])])
    head = Markup(head.replace("</tr>", th("what to do", style=LINE, pad="3px 12px") + "</tr>"))
    rows = []
    for c in p["causes"]:
        cells = [f"{c['groups']:,}", *([] if p["one"] else [_share(_last(c["share"]))]), _share(c["groups"] / total)]
        rows.append(
            tr(
                th(swatch(c), one_line(c["name"], 40), scope="row", style="font-weight:normal;white-space:nowrap"),
                *[td(text, style=RIGHT) for text in cells],
                td(c["fix"], style=SMALL, pad="3px 12px"),
            )
        )
    dead = total - alive
    line = f"{count(dead, 'group')} of {total:,} cannot be told apart by outcome; {alive:,} can."
    return el("div", subheading("Causes", line), table("", [head], rows) if rows else "")


def _share(value: float) -> str:
    return "unknown" if value != value else f"{value:.1%}"


def _tiles(p: Mapping[str, Any]) -> Markup:
    methods = list(dict.fromkeys(name for t in p["tiles"] for name in t.get("methods", {})))
    value = [one_line(name, 24) for name in methods] if len(methods) > 1 else ["value" if p["one"] else "last step"]
    heads = [*[th(text, style=f"{LINE};{RIGHT}") for text in value], th("threshold", style=LINE, pad="3px 12px")]
    head = tr(th("measure", style=LINE), *heads, th("what it is, and what is good", style=LINE))
    rows = []
    for t in p["tiles"]:
        per = t.get("methods") or {}
        numbers = [number(per.get(name, t["now"] if not per else None), t) for name in methods] or [number(t["now"], t)]
        numbers = numbers if len(methods) > 1 else numbers[:1]
        strong = "font-weight:600;" if t["state"] == "beyond" else ""
        rows.append(
            tr(
                th(t["title"], scope="row", style="font-weight:normal;white-space:nowrap"),
                *[td(text, style=f"{RIGHT};white-space:nowrap") for text in numbers],
                td(
                    "! " if t["state"] == "beyond" else "",
                    t["verdict"],
                    style=f"{strong}font-size:12px",
                    pad="3px 12px",
                ),
                td(t["what"], _equation(t), el("div", "Good: ", t["good"], style=QUIET), style="font-size:12px"),
            )
        )
    return el("div", subheading("Measures"), table("", [head], rows))


def _equation(t: Mapping[str, Any]) -> Markup:
    return el("div", t["equation"], style=MONO) if t["equation"] else Markup("")


def _kept(p: Mapping[str, Any]) -> str:
    if not p["kept"]:
        return "No rollouts were kept, so the groups behind a step cannot be opened (`keep_every` of the plan)."
    listed = ", ".join(f"{step:,}" for step in p["kept"][-12:])
    some = "the last of them " if len(p["kept"]) > 12 else ""
    steps = f"{count(len(p['kept']), 'step')}, {some}{listed}"
    return f"Rollouts were kept of {steps}: `.live()` and `.to_html(path)` open their groups."


# ------------------------------------------------------------------------------------------------------ one batch


def _chances(p: Mapping[str, Any]) -> Markup:
    """How likely a group is dead at this success rate, for its size and larger ones."""
    chance = p.get("chance")
    if not chance:
        return note("Outcomes are not only 0 and 1, so there is no forecast P(dead) = p^G + (1 − p)^G.")
    head = tr(
        th("rollouts a group, G", style=LINE),
        *[th(f"{one['members']:,}", style=f"{LINE};{RIGHT}", pad="3px 10px") for one in chance["sizes"]],
    )
    names = {"groups here": lambda one: f"{one['groups']:,}", "P(dead)": lambda one: f"{one['dead']:.1%}"}
    rows = [
        tr(
            th(name, scope="row", style="font-weight:normal"),
            *[td(say(one), style=RIGHT, pad="3px 10px") for one in chance["sizes"]],
        )
        for name, say in names.items()
    ]
    line = f"p^G + (1 − p)^G with p = {chance['p']:.3g}, the share of rollouts that succeed here"
    below = "It takes one success rate for all tasks: where they differ in difficulty, more groups die."
    return el("div", subheading("How likely a group is dead", line), table("", [head], rows), note(below))


def _groups(p: Mapping[str, Any], room: int) -> Markup:
    """One row a group, those that teach nothing first."""
    methods = list(p["groups"][0]["credit"]) if p["groups"] else []
    names = ["group", "cause", *[one_line(name, 24) for name in methods], "P(dead)", "outcomes"]
    head = tr(*[th(name, style=LINE) for name in names])
    looks = {c["name"]: c for c in p["causes"]}
    rows = (only(_group(group, methods, looks)) for group in p["groups"])
    shown, hidden = fitting(rows, room - size([head]))
    more = note(f"{count(hidden, 'more group')} not shown; `.to_frame()` has all.") if hidden else Markup("")
    return el("div", subheading("Groups"), table("", [head], shown), more)


def _group(group: Mapping[str, Any], methods: Sequence[str], looks: Mapping[str, Any]) -> Markup:
    mark = swatch(looks[group["cause"]]) if group["cause"] in looks else Markup("")
    question = el("div", group["question"], style=SMALL) if group["question"] else Markup("")
    why = el("div", group["why"], style=SMALL) if group["why"] else Markup("")
    chance = "–" if group["chance"] is None else f"{group['chance']:.1%}"
    return tr(
        th(one_line(group["group"], 60), question, scope="row", style="font-weight:normal"),
        td(join([mark, group["cause"], why])),
        *[td(group["credit"][name]) for name in methods],
        td(chance),
        td(outcomes(group), style=MONO),
    )


def outcomes(group: Mapping[str, Any], most: int = 32) -> str:
    """Return the outcomes of a group in one line, unknown as "?".

    Example:
        >>> outcomes({"rollouts": [{"outcome": 1.0}, {"outcome": None}, {"outcome": 0.25}]})
        '1 ? 0.25'
    """
    said = ["?" if r["outcome"] is None else f"{r['outcome']:.3g}".replace("-", "−") for r in group["rollouts"]]
    return " ".join(said[:most]) + (f" … {len(said) - most:,} more" if len(said) > most else "")
