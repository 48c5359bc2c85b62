"""Static HTML of a set of rollouts with every transcript folded below its overview."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.view import palette
from workbench.view.html.parts import (
    PAGE_BYTES,
    QUIET,
    RULE,
    count,
    details,
    facts,
    fitting,
    frame,
    note,
    only,
    size,
    subheading,
)
from workbench.view.html.tables import group_overview
from workbench.view.html.transcript import prompt, story_facts, transcript_turns
from workbench.view.tags import Markup, el, join


def gallery(overview: dict[str, Any], stories: Sequence[dict[str, Any]], budget: int = PAGE_BYTES) -> Markup:
    """Return an overview and, folded, the transcripts that fit in `budget` bytes."""
    top = group_overview(overview, budget // 3)
    shown, hidden = fitting((only(_story(s)) for s in stories), budget - size([top]) - 2_000)
    hidden += overview["total"] - len(stories)
    more = (
        note(f"{count(hidden, 'more transcript')} not shown: this page is kept under {budget // 1000:,} kB.")
        if hidden
        else ""
    )
    return join([top, frame(subheading("Transcripts"), *shown, more)])


def _story(s: dict[str, Any]) -> Markup:
    label = el("span", s["id"], style="font-weight:600")
    outcome = facts(f"outcome {palette.plain(s['outcome'])}", count(len(s["turns"]), "turn"))
    inside = el(
        "div", el("div", story_facts(s), style=QUIET), prompt(s), *transcript_turns(s), style="padding:4px 0 12px 14px"
    )
    return details(
        [label, Markup("&ensp;"), el("span", outcome, style=QUIET)],
        inside,
        style=f"border-top:{RULE};padding:5px 0;margin:0",
    )
