"""The same payloads as plain text: for terminals, for logs, for ears."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.view import palette
from workbench.view.escape import one_line, visible
from workbench.view.html import collapse as html_collapse
from workbench.view.html import curves as html_curves
from workbench.view.html import run as html_run
from workbench.view.html.parts import count, facts, words
from workbench.view.html.transcript import story_facts
from workbench.view.payload import course


def plain_text(payload: dict[str, Any]) -> str:
    """Return a payload of any kind as text."""
    return visible(_MAKERS[payload["kind"]](payload))


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text in columns: the first to the left, the others to the right.

    Example:
        >>> print(aligned([["turn", "GRPO"], ["0", "−0.4"]]))
        turn  GRPO
        0     −0.4
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _credit_map(p: dict[str, Any]) -> str:
    story, decimals = p["transcript"], palette.digits(p["scale"]["full"])
    head = ["turn", *[m["name"] for m in p["methods"]]]
    rows = [
        [str(t["index"]), *[words(m["turns"][k], decimals) for m in p["methods"]]] for k, t in enumerate(story["turns"])
    ]
    return f"{story['id']}: {story_facts(story)}\n{aligned([head, *rows])}"


def _method_table(p: dict[str, Any]) -> str:
    decimals = palette.digits(p["scale"]["full"])
    head = ["method", *[f"turn {t['index']}" for t in p["turns"]]]
    return f"{p['id']}\n" + aligned(
        [head, *[[m["name"], *[words(c, decimals) for c in m["turns"]]] for m in p["methods"]]]
    )


def _overview(p: dict[str, Any]) -> str:
    kinds = ", ".join(f"{n} {kind}" for kind, n in p["group_kinds"].items())
    said = f"{count(p['total'], 'rollout')} in {count(p['group_count'], 'group')} ({kinds})"
    return "\n".join([said, *p["notes"]])


def _ribbons(p: dict[str, Any]) -> str:
    rows = [["stage", *[f"turn {t['index']}" for t in p["turns"]]]]
    for step in p["steps"]:
        said = [words(c, palette.digits(step["scale"]["full"])) for c in step["cells"]]
        said = said * len(p["turns"]) if step["whole"] else said
        rows.append(["  " * step["depth"] + step["label"], *said])
    return f"{p['title']} {p['id']}".strip() + "\n" + aligned(rows)


def _transcript(p: dict[str, Any]) -> str:
    lines = [f"turn {t['index']}  {t['agent']}: {one_line(t['action']['text'], 80)}" for t in p["turns"]]
    return "\n".join([f"{p['id']}: {story_facts(p)}", *lines])


def _run(p: dict[str, Any]) -> str:
    now, rows = p["status"], p["metrics"]["rows"]
    lines = [f"{now['name']}: {now['state']}", html_run.going(now, rows), now["reason"], p["metrics"]["problem"]]
    lines += [f"! {a['kind']}: {a['text']} (since step {a['since']})" for a in course.alarms(rows) if a["now"]]
    lines += now["notes"]
    if rows:
        w = html_run.window(rows)
        head = ["measure", f"first {w}", f"last {w}", ""]
        table = [
            [name, *html_run.both(key, rows), html_run.spark(key, rows)]
            for key, name, _ in html_run.MEASURES
            if any(row.get(key) is not None for row in rows)
        ]
        lines.append(aligned([head, *table]))
    lines += [f"{code}  {what}" for code, what in (html_run.DO[ask] for ask in now["can"])]
    return "\n".join(line for line in lines if line)


def _runs(p: dict[str, Any]) -> str:
    rows = [["run", "state", "step", "reason"]]
    rows += [[r["name"], r["state"], f"{r['step']}/{r['steps']}", one_line(r["reason"], 80)] for r in p["rows"]]
    return aligned(rows) if p["rows"] else "no runs"


def _turn_heat(p: dict[str, Any]) -> str:
    columns = range(min(12, len(p["methods"][0]["means"]) if p["methods"] else 0))
    decimals = palette.digits(p["scale"]["full"])
    rows = [["mean credit", *[f"turn {k}" for k in columns]]]
    for m in p["methods"]:
        said = ["no credit" if m["means"][k] is None else palette.number(m["means"][k], decimals) for k in columns]
        rows.append([m["name"], *said])
    wide = f"\n({p['width'] - len(columns)} more turns)" if p["width"] > len(columns) and p["methods"] else ""
    return f"{count(p['shown'], 'rollout')} by up to {count(p['width'], 'turn')}\n{aligned(rows)}{wide}"


def _collapse_board(p: dict[str, Any]) -> str:
    lines = [f"collapse of groups: {html_collapse.said(p)}", *[f"! {text}" for text in html_collapse.alarms(p)]]
    lines += [f"{c['name']}: {count(c['groups'], 'group')}; {c['fix']}" for c in p["causes"]]
    lines += [f"{t['title']}: {html_collapse.number(t['now'], t)} ({t['verdict']})" for t in p["tiles"]]
    return "\n".join(lines)


_MAKERS = {
    "collapse_board": _collapse_board,
    "curves": html_curves.words,
    "turn_heat": _turn_heat,
    "run": _run,
    "runs": _runs,
    "card": lambda p: f"{p['title']}: {facts(*p['facts'])}",
    "credit_map": _credit_map,
    "method_table": _method_table,
    "group_overview": _overview,
    "ribbons": _ribbons,
    "transcript": _transcript,
    "message": lambda p: f"{p['role']} {p['author']}".strip() + f": {one_line(p['text'], 400)}",
    "turn": lambda p: f"turn of {p['agent']}: {one_line(p['action']['text'], 400)}",
    "recipe": lambda p: p["formula"],
    "objective": lambda p: " + ".join(f"{t['weight']}*{t['name']}" for t in p["terms"]),
    "chain": lambda p: p["formula"],
}
