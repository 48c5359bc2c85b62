"""Static HTML of a run of training and of a table of runs, from `payload.run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.view import palette
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
    table,
    td,
    th,
    tr,
)
from workbench.view.html.tables import group_overview
from workbench.view.payload import course
from workbench.view.tags import Markup, el, join

Row = Mapping[str, Any]
BLOCKS = "▁▂▃▄▅▆▇█"
SPARK = 32  # characters of a course in one line
WINDOW = 10  # steps that "first" and "last" are means of
MARKS = {"starting": "◌", "running": "▶", "paused": "‖", "stopped": "■", "finished": "✓", "failed": "✗"}
MEASURES = (
    ("outcome", "success", "mean outcome of the rollouts"),
    ("collapsed", "collapsed groups", "groups whose outcomes are all equal"),
    ("dead_groups", "dead groups", "groups without any credit other than 0"),
    ("truncated", "truncated", "rollouts that a limit ended"),
    ("malformed", "malformed turns", "turns without a readable call"),
    ("advantage_scale", "advantage scale", "mean size of the credit, over tokens that have one"),
    ("entropy", "entropy", "of the distributions that tokens were drawn from, nats a token"),
    ("surprise", "surprise", "mean −log p of the sampled tokens, which estimates the entropy"),
    ("gradient_norm", "gradient norm", "before it is clipped"),
    ("ratio_gap", "ratio gap", "learner against sampler before the update; 0 is right"),
    ("turns", "turns", "a rollout"),
    ("tokens", "tokens", "sampled, a rollout"),
)
SHARES = frozenset({"outcome", "collapsed", "dead_groups", "truncated", "malformed"})
ALARM = f"border-left:3px solid rgba({palette.NEGATIVE},.85);padding:2px 0 2px 10px;margin:6px 0 0;max-width:76em"


def run(payload: Mapping[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return a run at one look: how it is, its measures, its newest rollouts (`payload.look` from the beginning)."""
    top = state(payload["status"], payload["metrics"]["rows"], payload["metrics"]["problem"])
    below = newest(payload["rollouts"], budget - size([top]) - 1_000)
    return join([top, below])


# ------------------------------------------------------------------------------------------------- how it is


def state(now: Mapping[str, Any], rows: Sequence[Row], problem: str = "") -> Markup:
    """Return the head of a run: state, step, time left, alarms, measures, and what one can do."""
    said = facts(*(text for text in (first_word(now["asked"]["recipe"]), _world(now)) if text))
    problems = [el("div", text, style=ALARM) for text in (now["reason"], problem) if text]
    return frame(
        heading(now["name"], said),
        el("div", *_line(now, rows), style="margin:0"),
        _progress(now),
        *problems,
        *_alarms(rows),
        *[note(text) for text in now["notes"]],
        _measures(rows),
        what_to_do(now),
    )


def first_word(text: str) -> str:
    """Return the name that a repr begins with.

    Example:
        >>> first_word("Chain(hops=3)"), first_word("grpo credit: read"), first_word("")
        ('Chain', 'grpo', '')
    """
    return text.partition("(")[0].partition(" ")[0][:60]


def _world(now: Mapping[str, Any]) -> str:
    world, player = first_word(now["asked"]["env"]), now["asked"]["policy"]
    return f"{player} in {world}" if world and player else world or player


def _line(now: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    word = el("span", f"{MARKS[now['state']]} {now['state']}", style="font-weight:600")
    return [word, Markup("&ensp;"), el("span", going(now, rows), style=QUIET)]


def going(now: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Say how far it is and how fast it goes.

    Example:
        >>> going({"state": "running", "step": 5, "steps": 10, "silent_s": 1.0}, [{"step": 4, "seconds": 2.0}])
        'step 5 of 10 · 2.0 s a step · about 10 s left'
    """
    pace = course.pace(rows, now)
    far = f"step {now['step']:,} of {now['steps']:,}" if now["steps"] else f"step {now['step']:,}"
    late = now["silent_s"] is not None and now["state"] == "running" and now["silent_s"] > late_after(pace)
    waits = pace["seconds_left"] is not None and now["state"] != "paused" and not late
    tokens = pace["tokens_second"]
    split = ", ".join(f"{name} {share:.0%}" for name, share in pace["split"].items())
    return facts(
        far,
        f"{duration(pace['seconds_step'])} a step" if pace["seconds_step"] is not None else "",
        f"about {duration(pace['seconds_left'])} left" if waits else "",
        f"no step for {duration(now['silent_s'])}" if late else "",
        f"{tokens:,.0f} tokens a second" if tokens is not None else "",
        split,
    )


def late_after(pace: Mapping[str, Any]) -> float:
    """Return the seconds without a step after which one should say so."""
    return 60.0 + 10 * (pace["seconds_step"] or 0.0)


def duration(seconds: float) -> str:
    """Return a time as people say it.

    Example:
        >>> [duration(s) for s in (0.04, 2.5, 59.9, 61, 7300, 200_000)]
        ['0.04 s', '2.5 s', '1 min', '1 min', '2 h 2 min', '2 d 7 h']
    """
    if seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{hours // 24:,} d {hours % 24} h"


def _progress(now: Mapping[str, Any]) -> Markup:
    """A bar of the steps that are done, the last checkpoint a line in it."""
    if not now["steps"]:
        return Markup("")
    done = min(1.0, now["step"] / now["steps"])
    filled = el("div", style=f"width:{done:.1%};height:6px;background-color:rgba({palette.POSITIVE},.8)")
    rail = "background-color:rgba(128,128,128,.22);width:100%;max-width:1000px;height:6px;margin:8px 0 10px"
    saved = f", saved at {now['good_step']:,}" if now["good_step"] else ""
    return el("div", filled, style=rail, title=f"{done:.0%} of the steps{saved}")


def _alarms(rows: Sequence[Row]) -> list[Markup]:
    found = course.alarms(rows)
    out = []
    for one in (a for a in found if a["now"]):
        when = f"since step {one['since']:,}" if one["since"] != rows[-1]["step"] + 1 else "in the last step"
        mark = el("span", f"! {one['kind']} ", style="font-weight:600")
        out.append(el("div", mark, one["text"], el("span", f" ({when})", style=QUIET), style=ALARM))
    gone = [f"{a['kind']} ({count(a['steps'], 'step')}, last from step {a['since']:,})" for a in found if not a["now"]]
    return [*out, note(f"Earlier alarms, silent now: {', '.join(gone)}.") if gone else Markup("")]


# ---------------------------------------------------------------------------------------------- the measures


def _measures(rows: Sequence[Row]) -> Markup:
    """First and last steps of what people look at, and the course between as a line of blocks."""
    if not rows:
        return Markup("")
    right = "text-align:right"
    shown = [
        tr(
            th(name, scope="row", style="font-weight:normal;white-space:nowrap"),
            *(td(text, style=f"{right};white-space:nowrap") for text in both(key, rows)),
            td(
                spark(key, rows),
                style=f"{MONO};white-space:pre;{QUIET}",
                pad="3px 18px 3px 6px",
            ),
            td(what, style=SMALL),
        )
        for key, name, what in MEASURES
        if any(row.get(key) is not None for row in rows)
    ]
    w = window(rows)
    heads = [th("measure", style=f"border-bottom:{RULE}")]
    heads += [th(text, style=f"{right};border-bottom:{RULE}") for text in (f"first {w}", f"last {w}")]
    heads += [
        th("course", style=f"border-bottom:{RULE}", pad="3px 18px 3px 6px"),
        th("what it is", style=f"border-bottom:{RULE}"),
    ]
    return el("div", table("", [tr(*heads)], shown), style="margin:12px 0 0")


def window(rows: Sequence[Row]) -> int:
    """Return how many steps the first and the last means are of: ten, or half of a shorter run."""
    return max(1, min(WINDOW, len(rows) // 2))


def _windows(rows: Sequence[Row]) -> tuple[slice, slice]:
    return slice(0, window(rows)), slice(max(0, len(rows) - window(rows)), None)


def both(key: str, rows: Sequence[Row]) -> list[str]:
    """Return the first and the last mean of a measure, as text."""
    return [value(key, rows[part]) for part in _windows(rows)]


def value(key: str, rows: Sequence[Row]) -> str:
    """Return the mean of a measure over some steps, as a share where it is one."""
    found = course.pooled(rows)[0] if key == "outcome" else course.mean(rows, key)
    if found is None:
        return "unknown"
    if key in SHARES and 0 <= found <= 1:
        return f"{found:.1%}"
    return f"{found:.3g}".replace("-", "−")


def spark(key: str, rows: Sequence[Row], width: int = SPARK) -> str:
    """Return the course of a measure as blocks: shares from 0 to 1, else from the least to the largest.

    Example:
        >>> spark("outcome", [{"outcome": x / 7} for x in range(8)])
        '▁▂▃▄▅▆▇█'
    """
    each = -(-len(rows) // width)
    means = [course.mean(rows[i : i + each], key) for i in range(0, len(rows), each)]
    known = [m for m in means if m is not None]
    if not known:
        return ""
    share = key in SHARES and all(0 <= m <= 1 for m in known)
    low, high = (0.0, 1.0) if share else (min(known), max(known))
    wide = (high - low) or 1.0
    return "".join(" " if m is None else BLOCKS[min(7, int(8 * (m - low) / wide))] for m in means)


# ------------------------------------------------------------------------------------------------- what to do

DO = {
    "pause": ("run.pause()", "finish the step, save, wait"),
    "stop": ("run.stop()", "finish the step, save, end"),
    "go_on": ("run.resume()", "go on"),
    "resume": ("workbench.train.resume(run.path)", "go on from the last checkpoint"),
}


def what_to_do(now: Mapping[str, Any]) -> Markup:
    """Say what can be asked of the run, and how its rollouts and weights are opened."""
    lines = [DO[what] for what in now["can"]]
    if now["kept"]:
        lines.append(("run.credit_map(0)", f"a rollout of step {now['kept'][-1] + 1:,} with the credit it taught with"))
    if now["weights"]:
        lines.append(("workbench.policy.load(run.weights)", "the trained policy"))
    said = [
        join([el("span", code, style=MONO), Markup("&ensp;"), el("span", what, style=QUIET)]) for code, what in lines
    ]
    loads = "Going on loads the code in its folder: only with runs you trust." if _loads(now) else ""
    return el("div", *[el("div", one) for one in said], note(loads) if loads else "", style="margin:12px 0 0")


def _loads(now: Mapping[str, Any]) -> bool:
    return now["ships"] and "resume" in now["can"]


def newest(found: Mapping[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return the newest rollouts that were kept, with the credit they taught with."""
    said = frame(note(found["problem"])) if found["problem"] else Markup("")
    return said if found["new"] is None else join([said, group_overview(found["new"], budget)])


# --------------------------------------------------------------------------------------------------- many runs


def runs(payload: Mapping[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return a table of runs."""
    if not payload["rows"]:
        return frame(heading("Runs", "none"), note("workbench.train.launch(recipe, env, policy, plan) starts one."))
    line = f"border-bottom:{RULE}"
    right = f"text-align:right;{line}"
    head = tr(
        th("run", style=line), th("state", style=line), th("step", style=right), th("success", style=right),
        th("recipe", style=line, pad="3px 12px 3px 12px"), th("world", style=line), th("why it ended", style=line),
    )  # fmt: skip
    shown, left_out = fitting((only(_run_row(row)) for row in payload["rows"]), budget - size([head]) - 2_000)
    hidden = left_out + payload["hidden"]
    more = note(f"{count(hidden, 'more run')} not shown.") if hidden else Markup("")
    return frame(heading("Runs", f"{len(payload['rows']) + payload['hidden']:,}"), table("", [head], shown), more)


def _run_row(row: Mapping[str, Any]) -> Markup:
    success = "unknown" if row["outcome"] is None else f"{row['outcome']:.0%}" if 0 <= row["outcome"] <= 1 else "–"
    asked = {key: first_word(text) for key, text in row["asked"].items()}
    reason = row["reason"] or row["problem"]
    return tr(
        th(row["name"][:80], scope="row", style="font-weight:normal"),
        td(f"{MARKS[row['state']]} {row['state']}", style="white-space:nowrap"),
        td(f"{row['step']:,} of {row['steps']:,}", style="text-align:right;white-space:nowrap"),
        td(success, style="text-align:right" + (f";{SMALL}" if row["outcome"] is None else "")),
        td(asked["recipe"], pad="3px 12px 3px 12px"),
        td(asked["env"]),
        td(reason[:160] + ("…" if len(reason) > 160 else ""), style=SMALL),
    )
