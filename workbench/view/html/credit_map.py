"""The credit map of one trajectory: numbers and bars by turn, then the text, washed, method under method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.view import palette
from workbench.view.escape import one_line
from workbench.view.html import washes
from workbench.view.html.parts import (
    MONO,
    QUIET,
    REPR_BYTES,
    RULE,
    SMALL,
    TABLE,
    Version,
    bar,
    count,
    details,
    figure,
    fitting,
    frame,
    heading,
    key_line,
    note,
    only,
    size,
    subheading,
    table,
    td,
    th,
    tr,
)
from workbench.view.html.transcript import after, left_out, prompt, story_facts, turn_box, turn_head
from workbench.view.tags import Markup, el

MANY_CHARACTERS = 700  # of a turn's text: from here on only the first method's wash is open
MANY_METHODS = 4  # washes of further methods are folded
TABLE_TURNS = 100
LONGEST_NAME = 600
NUMBER = "3px 10px 3px 6px"
# Up to so many methods: pixels on either side of a bar's axis, characters of the action shown beside it.
WIDTHS = ((4, 36, 28), (6, 22, 22), (10**9, 12, 18))


def credit_map(payload: dict[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return the map of `payload.credit_map` as HTML of at most `budget` bytes."""
    story, methods, scale = payload["transcript"], payload["methods"], payload["scale"]
    decimals = palette.digits(scale["full"])
    head = [
        heading(one_line(story["id"], LONGEST_NAME), one_line(story_facts(story), LONGEST_NAME)),
        prompt(story, budget // 5),
        subheading("Credit by turn", _meaning(methods)),
        by_turn(story["turns"], methods, scale["full"], decimals, budget * 2 // 5),
        legend(payload, budget // 6),
        subheading("The text", _reading(story)),
    ]
    turns = (_turn_versions(t, k, methods, scale["full"], decimals) for k, t in enumerate(story["turns"]))
    shown, hidden = fitting(turns, budget - size(head) - 1_000)
    return frame(*head, *shown, left_out(hidden, budget))


def _meaning(methods: Sequence[dict[str, Any]]) -> str:
    return "mean over the turn’s credited tokens" if any(m["unit"] == "token" for m in methods) else ""


def _reading(story: dict[str, Any]) -> str:
    if not story["has_tokens"]:
        return "tokens are not stored, so each turn carries one wash"
    if any(t["pieces"] is None and t["sampled"] for t in story["turns"]):
        return "where the texts of single tokens are not stored, a turn carries one wash"
    return ""


# ---------------------------------------------------------------------------------------------- by turn


def by_turn(
    turns: Sequence[dict[str, Any]], methods: Sequence[dict[str, Any]], full: float | None, decimals: int, room: int
) -> Markup:
    """Return turns x methods: a bar left or right of an axis, and its number; the first turns that fit `room` bytes."""
    half, excerpt = next((h, e) for most, h, e in WIDTHS if len(methods) <= most)
    rewards = any(t["reward"] is not None for t in turns)
    rows = []
    for k, t in enumerate(turns[:TABLE_TURNS]):
        cells = [(bar(m["turns"][k], full, decimals, half), figure(m["turns"][k], decimals, NUMBER)) for m in methods]
        number = th(str(t["index"]), scope="row", style="font-weight:normal;text-align:right", pad="3px 14px 3px 0")
        short = one_line(action_text(t["action"])[0], excerpt)
        last = [_reward(t["reward"])] if rewards else []
        text = td(short, style=f"{MONO};{QUIET};white-space:nowrap")
        rows.append(tr(number, text, *[c for both in cells for c in both], *last))
    head = _by_turn_head(methods, rewards)
    shown, _ = fitting((only(row) for row in rows), room - size([head]))
    more = len(turns) - len(shown)
    rest = note(f"{count(more, 'more turn')} not shown in this table.") if more > 0 else Markup("")
    return el("div", table("", [head], shown) if shown else Markup(""), rest)


def _by_turn_head(methods: Sequence[dict[str, Any]], rewards: bool) -> Markup:
    line = f"border-bottom:{RULE}"
    named = [th(m["name"], span=2, style=f"text-align:center;{line}", pad="3px 10px 5px 0") for m in methods]
    last = [th("reward", style=f"text-align:right;{line}", pad="3px 0 5px")] if rewards else []
    return tr(th("turn", style=line, pad="3px 14px 5px 0"), td("", style=line), *named, *last)


def _reward(reward: float | None) -> Markup:
    quiet = f";{SMALL}" if reward is None else ""
    return td(palette.plain(reward), style=f"text-align:right{quiet}", pad="3px 0")


def action_text(m: dict[str, Any]) -> tuple[str, int]:
    """Return the text of an action; of one that only calls tools, its calls as written."""
    if m["text"] or not m["calls"]:
        return m["text"], m["more"]
    return "\n".join(_written(c) for c in m["calls"]), 0


def _written(c: dict[str, Any]) -> str:
    """A call as the model wrote it; its name before it where that is kept apart."""
    raw = c["raw"] or c["arguments"] or ""
    return raw if c["name"] in raw else f"{c['name']} {raw}"


# ----------------------------------------------------------------------------------------------- legend

COLUMNS = (
    ("+", "positive"),
    ("-", "negative"),
    ("z", "zero"),
    ("u", "unknown"),
    ("d", "dropped"),
    ("n", "not trained"),
)


def legend(payload: dict[str, Any], room: int) -> Markup:
    """Return what colours and marks mean, and how many units of each there are under each method, in `room` bytes."""
    dropped = [note(f"{m['name']} drops: {why}.") for m in payload["methods"] if (why := _why(m))]
    key, table_of = key_line(payload["scale"], payload["rollouts"]), counts(payload["methods"], room * 2 // 3)
    return el("div", key, table_of, *fitting(map(only, dropped), room - size([key, table_of]))[0])


def _why(m: dict[str, Any]) -> str:
    """Say why units of a method were dropped."""
    return "; ".join(dict.fromkeys(cell["why"] for cell in m["turns"] if cell["why"] and cell["status"] != "n"))


def _sample(code: str) -> Markup:
    style = {
        "+": f"background-color:{palette.wash(9)}",
        "-": f"background-color:{palette.wash(-9)}",
    }.get(code) or palette.MARKS[code]
    title = {"+": "pushed up", "-": "pushed down"}.get(code) or palette.EXPLAINED[code]
    return el("span", dict(COLUMNS)[code], style=f"{style};padding:0 3px", title=title)


def counts(methods: Sequence[dict[str, Any]], room: int) -> Markup:
    """Return methods x statuses: the legend of the marks and the counts in one table; the first that fit `room`."""
    right = "font-weight:normal;text-align:right;white-space:nowrap"
    head = tr(
        td("", pad="2px 16px 2px 0"), *[th(_sample(code), style=right, pad="2px 0 2px 18px") for code, _ in COLUMNS]
    )
    rows = [
        tr(
            th(f"{m['name']}, {m['unit']}s", scope="row", style="font-weight:normal", pad="2px 16px 2px 0"),
            *[_count(m["counts"].get(code, 0)) for code, _ in COLUMNS],
        )
        for m in methods
    ]
    shown, hidden = fitting(map(only, rows), room - size([head]))
    rest = note(f"{count(hidden, 'more method')} not counted here.") if hidden else Markup("")
    return el("div", table("", [head], shown, style="font-size:12px"), rest)


def _count(n: int) -> Markup:
    return td(f"{n:,}", style="text-align:right" + ("" if n else ";opacity:.45"), pad="2px 3px 2px 18px")


# --------------------------------------------------------------------------------------------- the text


def _turn_versions(
    t: dict[str, Any], k: int, methods: Sequence[dict[str, Any]], full: float | None, decimals: int
) -> list[Version]:
    """Return a turn in full, with its first method alone, and as one line: the fullest that fits is shown."""
    text = action_text(t["action"])[0]

    def washed(some: Sequence[dict[str, Any]]) -> list[Markup]:
        return [_washed_row(t, k, m, full, decimals) for m in some] or [_bare_row(t)]

    def whole() -> Markup:
        open_ones = 1 if len(text) > MANY_CHARACTERS else MANY_METHODS
        names = ", ".join(m["name"] for m in methods[open_ones:])
        rest = Markup("")
        if names:
            label = el("span", f"the same turn under {names}", style=QUIET)
            rest = details([label], _rows(washed(methods[open_ones:])))
        return turn_box(turn_head(t), _rows(washed(methods[:open_ones])), rest, *after(t))

    def first() -> Markup:
        fewer = note("Other methods are left out here to keep this view small.") if len(methods) > 1 else ""
        return turn_box(turn_head(t), _rows(washed(methods[:1])), fewer, *after(t))

    def line() -> Markup:
        return turn_box(turn_head(t), note(one_line(text, 200) + " (shortened to keep this view small)"))

    return [Version(len(text) * max(1, len(methods)), whole), Version(len(text), first), Version(0, line)]


def _bare_row(t: dict[str, Any]) -> Markup:
    return tr(td(washes.whole(*action_text(t["action"]), {"value": None, "status": "v"}, None, 2)))


def _rows(rows: Sequence[str]) -> Markup:
    return el("table", el("tbody", *rows), style=f"{TABLE};table-layout:fixed;width:100%;margin:4px 0 6px")


def _washed_row(t: dict[str, Any], k: int, m: dict[str, Any], full: float | None, decimals: int) -> Markup:
    cell, credit = m["turns"][k], m["tokens"][k]
    text, more = action_text(t["action"])
    if credit is None and t["pieces"] is not None:
        same = t["sampled"] or 0
        credit = {"values": [cell["value"]] * same, "status": cell["status"] * same}
    washed = (
        washes.whole(text, more, cell, full, decimals)
        if t["pieces"] is None or credit is None
        else washes.tokens(t["pieces"], credit, full, decimals)
    )
    name = th(
        m["name"], scope="row", style="font-weight:normal;width:124px;overflow-wrap:break-word", pad="2px 8px 2px 0"
    )
    return tr(name, figure(cell, decimals, "2px 14px 2px 0", "width:64px"), td(washed, pad="2px 0"))
