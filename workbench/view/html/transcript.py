"""Static HTML of what happened: messages, calls, tool results; folded where long."""

from __future__ import annotations

from typing import Any

from workbench.view import palette
from workbench.view.escape import one_line
from workbench.view.html.parts import (
    PAGE_BYTES,
    QUIET,
    REPR_BYTES,
    RULE,
    Version,
    block,
    count,
    details,
    facts,
    fitting,
    frame,
    heading,
    note,
    only,
    size,
)
from workbench.view.tags import Markup, el

ROLE = f"font-size:12px;{QUIET}"


def speaker(m: dict[str, Any]) -> str:
    """Say who wrote a message: its role, and its author where that says more."""
    return m["role"] + (f" {m['author']}" if m["author"] else "")


def call(c: dict[str, Any]) -> Markup:
    """Return a tool call, folded: name and arguments on the line, the text as the model wrote it inside."""
    what = "unreadable call" if c["error"] is not None else "call"
    label = el("span", what, " ", style=ROLE)
    name = el("span", c["name"] or "(no name)", style="font-weight:600")
    short = el("span", " ", one_line(c["arguments"] or c["error"] or c["raw"], 80), style=QUIET)
    inside = [block(c["raw"] or c["arguments"] or "", c["more"])]
    if c["error"] is not None:
        inside.append(note(f"could not be parsed: {c['error']}"))
    return details([label, name, short], *inside)


def message(m: dict[str, Any], *, is_open: bool = False) -> Markup:
    """Return a message, folded: who and its first words on the line, the whole text inside."""
    more = f" ({len(m['text']) + m['more']:,} characters)" if m["more"] else ""
    first = one_line(m["text"], 96) or "(no text)"
    answered = f"answers call {m['answers']}" if m["answers"] else ""
    label = el("span", speaker(m) + more, " ", style=ROLE, title=answered)
    return details([label, el("span", first)], block(m["text"], m["more"]), *map(call, m["calls"]), is_open=is_open)


def message_alone(payload: dict[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return one message on its own, open."""
    label = el("div", speaker(payload), style=ROLE)
    return frame(label, block(payload["text"], payload["more"]), *map(call, payload["calls"]))


def turn_head(t: dict[str, Any]) -> Markup:
    """Return the line that opens a turn: number, agent, size, reward, how it ended."""
    named = [f"{name} {palette.plain(value)}" for name, value in t["rewards"].items()]
    said = facts(
        t["agent"],
        count(t["sampled"], "sampled token") if t["sampled"] is not None else "",
        f"reward {palette.plain(t['reward'])}" if t["reward"] is not None else "",
        *named,
        f"ended by {t['stop_reason']}" if t["stop_reason"] else "",
        "" if t["trainable"] else f"not trained: {t['why_not']}",
    )
    name = "turn" if t["index"] is None else f"turn {t['index']}"
    return el("div", el("span", name, style="font-weight:600"), Markup("&ensp;"), el("span", said, style=QUIET))


def after(t: dict[str, Any]) -> list[Markup]:
    """Return what follows the text of a turn: its calls and what came back."""
    return [*map(call, t["action"]["calls"]), *map(message, t["observations"])]


def story_facts(s: dict[str, Any]) -> str:
    """Say what is known of a trajectory as a whole."""
    named = [f"{name} {palette.plain(value)}" for name, value in s["rewards"].items()]
    return facts(
        f"outcome {palette.plain(s['outcome'])}",
        *named,
        count(len(s["turns"]), "turn"),
        count(sum(t["sampled"] or 0 for t in s["turns"]), "sampled token") if s["has_tokens"] else "no tokens stored",
        f"group {s['group']}",
        "truncated" if s["truncated"] else "",
        f"ended by {s['stop_reason']}" if s["stop_reason"] else "",
        f"branched from {s['parent'][0]} after turn {s['parent'][1]}" if s["parent"] else "",
    )


def prompt(s: dict[str, Any], room: int = PAGE_BYTES) -> Markup:
    """Return the messages before the first turn, folded, and the reference answer; the first that fit `room` bytes."""
    last = one_line(s["prompt"][-1]["text"], 96) if s["prompt"] else ""
    parts = []
    if s["prompt"]:
        label = el("span", "prompt, " + count(len(s["prompt"]), "message") + " ", style=ROLE)
        shown, hidden = fitting((only(message(m, is_open=True)) for m in s["prompt"]), room - 10_000)
        rest = note(f"{count(hidden, 'more message')} not shown, to keep this view small.") if hidden else Markup("")
        parts.append(details([label, el("span", last)], *shown, rest))
    if s["gold"] not in ("", "{}"):
        label = el("span", "reference ", style=ROLE)
        parts.append(details([label, el("span", one_line(s["gold"], 96))], block(s["gold"])))
    return el("div", *parts)


def turn_box(*children: str) -> Markup:
    """Wrap one turn: a rule above, air around."""
    return el("div", *children, style=f"border-top:{RULE};padding:10px 0 0;margin:14px 0 0")


def left_out(turns: int, budget: int) -> Markup:
    """Say how many turns did not fit, and what shows them."""
    if not turns:
        return Markup("")
    kept = f"{budget // 1000:,} kB"
    more = "; `.to_html(path)` has room for more" if budget < PAGE_BYTES else ""
    return note(f"{count(turns, 'more turn')} not shown: this view is kept under {kept}{more}.")


def transcript(payload: dict[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return a trajectory turn by turn, from `payload.transcript`; at most `budget` bytes."""
    head = [heading(payload["id"], story_facts(payload)), prompt(payload, budget // 3)]
    turns = (_turn_versions(t) for t in payload["turns"])
    shown, hidden = fitting(turns, budget - size(head) - 1_000)
    return frame(*head, *shown, left_out(hidden, budget))


def _turn_versions(t: dict[str, Any]) -> list[Version]:
    """Return a turn in full, and as one line."""
    return [Version(len(t["action"]["text"]), lambda: _turn(t)), Version(0, lambda: _turn(t, brief=True))]


def transcript_turns(payload: dict[str, Any]) -> list[Markup]:
    """Return the turns of a trajectory, each in full."""
    return [_turn(t) for t in payload["turns"]]


def turn(payload: dict[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return one turn on its own."""
    return frame(_turn(payload))


def _turn(t: dict[str, Any], *, brief: bool = False) -> Markup:
    text, more = t["action"]["text"], t["action"]["more"]
    if brief:
        return turn_box(turn_head(t), note(one_line(text, 200)))
    return turn_box(turn_head(t), block(text, more) if text or not t["action"]["calls"] else "", *after(t))
