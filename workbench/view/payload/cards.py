"""Payloads of small things: one line of facts, then tables; one maker renders them all.

A cell of a table is text, or `{"value", "status"}` for a number that is drawn as a bar as well.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import groupby
from typing import Any

import numpy as np

from workbench.batch import BASE_LEVELS, Batch, Column
from workbench.trajectory import Example, Pair, Part, Sequence, Span, ToolCall
from workbench.view.escape import one_line
from workbench.view.palette import STATUS, common_scale, plain

SHOWN = 12


def card(title: str, facts: list[str], *tables: dict[str, Any]) -> dict[str, Any]:
    """Put a card together; empty facts are left out."""
    return {
        "kind": "card",
        "title": title,
        "facts": [f for f in facts if f],
        "tables": [t for t in tables if t["rows"]],
    }


def grid(
    caption: str, head: list[str], rows: list[list[Any]], full: float | None = None, hidden: int = 0
) -> dict[str, Any]:
    """Put a table together; `hidden` counts the rows that are not shown."""
    return {"caption": caption, "head": head, "rows": rows, "full": full, "hidden": hidden}


def span(s: Span) -> dict[str, Any]:
    """Return the card of a span: its tokens, with text and log-prob where known."""
    texts = s.pieces or (None,) * len(s)
    probs = s.logprobs or (None,) * len(s)
    rows = [
        [
            str(i),
            str(token),
            "unknown" if text is None else json.dumps(text, ensure_ascii=False),
            plain(p) if s.origin == "sampled" else "",
        ]
        for i, token, text, p in zip(range(SHOWN), s.ids, texts, probs, strict=False)
    ]
    about = [f"{len(s):,} tokens", s.origin, f"turn {s.turn}" if s.turn >= 0 else "before the first turn"]
    head = ["", "id", "text", "log-prob"]
    return card(
        "Span",
        [*about, f"message {s.message}" if s.message else "template"],
        grid("", head, rows, None, len(s) - len(rows)),
    )


def sequence(s: Sequence) -> dict[str, Any]:
    """Return the card of a sequence: one row a span."""
    rows = [
        [
            x.origin,
            str(x.turn) if x.turn >= 0 else "prompt",
            f"{len(x):,}",
            one_line("".join(x.pieces), 80) if x.pieces is not None else "text of tokens unknown",
        ]
        for x in s.spans[:60]
    ]
    before = f"{s.prefix.length:,} tokens before it stored with {s.prefix.trajectory}" if s.prefix else ""
    counts = Counter(x.origin for x in s.spans for _ in x.ids)
    head = ["origin", "turn", "tokens", "text"]
    facts = [f"{len(s):,} tokens", f"{counts['sampled']:,} sampled", before]
    return card("Sequence", facts, grid("", head, rows, None, len(s.spans) - len(rows)))


def example(e: Example) -> dict[str, Any]:
    """Return the card of a training example: runs of equal weight."""
    rows, at = [], 0
    for weight, same in groupby(e.weights):
        n = len(list(same))
        rows.append(
            [
                f"{at:,} to {at + n - 1:,}" if n > 1 else f"{at:,}",
                f"{n:,}",
                {"value": weight, "status": "v" if weight else "z"},
            ]
        )
        at += n
    trained = sum(1 for w in e.weights if w)
    source = f"from {e.source[0]}, turn {e.source[1]}" if e.source else ""
    full = common_scale([np.array(e.weights)])
    table = grid(
        "Loss weight by run of tokens", ["tokens", "count", "weight"], rows[:SHOWN], full, max(0, len(rows) - SHOWN)
    )
    return card("Example", [f"{len(e.ids):,} tokens", f"{trained:,} in the loss", source, e.reason], table)


def pair(p: Pair) -> dict[str, Any]:
    """Return the card of a preference pair."""
    rows = [
        [
            name,
            f"{len(e.ids):,}",
            f"{sum(1 for w in e.weights if w):,}",
            f"{e.source[0]}, turn {e.source[1]}" if e.source else "",
            e.reason,
        ]
        for name, e in (("chosen", p.chosen), ("rejected", p.rejected))
    ]
    where = f"parting at turn {p.turn}" if p.turn is not None else "whole trajectories"
    head = ["", "tokens", "in the loss", "source", "reason"]
    return card("Pair", [where, f"weight {plain(p.weight)}", p.reason], grid("", head, rows))


def part(p: Part) -> dict[str, Any]:
    """Return the card of a piece of content."""
    return card("Part", [p.kind, p.mime, f"sha256 {p.sha256}" if p.sha256 else one_line(p.text, 200)])


def tool_call(c: ToolCall) -> dict[str, Any]:
    """Return the card of a tool call."""
    rows = [[str(name), one_line(str(value), 200)] for name, value in (c.arguments or {}).items()]
    error = f"could not be parsed: {c.error}" if c.error is not None else ""
    return card("Tool call", [c.name, f"id {c.id}", error], grid("", ["argument", "value"], rows))


def column(c: Column, title: str = "Column") -> dict[str, Any]:
    """Return the card of a column: level, how much is known, where it comes from, its first values."""
    p = c.provenance
    about = [
        f"{len(c.known):,} values, one a {c.level}",
        f"{int((~c.known).sum()):,} unknown",
        f"made by {p.provider}" + (f" with {dict(p.parameters)}" if p.parameters else ""),
        f"sees {', '.join(p.sees)}" if p.sees else "",
        f"{p.calls:,} calls" if p.calls else "",
        f"{p.seconds:.1f} s" if p.seconds else "",
    ]
    if c.values.ndim != 1:
        return card(title, [*about, f"shape {tuple(c.values.shape)}"])
    values = c.values.double().numpy()
    status = np.where(c.known.numpy(), np.where(values == 0, "z", "v"), "u")
    return card(title, [*about, _spread(values[status != "u"])], _values(c.level, values, status))


def credit(c: Any) -> dict[str, Any]:
    """Return the card of a credit: how many units of each status, its first values."""
    values = c.values.double().numpy()
    gone = np.zeros(len(values), dtype=bool) if c.dropped is None else (c.dropped > 0).numpy()
    status = np.where(gone, "d", np.where(c.known.numpy(), np.where(values == 0, "z", "v"), "u"))
    counts = Counter(status.tolist())
    about = [f"{len(values):,} values, one a {c.level}"]
    about += [f"{counts[s]:,} {word}" for s, word in STATUS.items() if counts[s]]
    why = [f"dropped: {reason}" for reason in c.reasons]
    known = values[(status == "v") | (status == "z")]
    return card("Credit", [*about, _spread(known), *why], _values(c.level, values, status))


def _spread(values: np.ndarray) -> str:
    if not len(values):
        return ""
    low, high, mean = float(values.min()), float(values.max()), float(values.mean())
    mean = 0.0 if abs(mean) < 1e-12 * max(abs(low), abs(high)) else mean  # float noise of a sum that cancels
    return f"{plain(low)} to {plain(high)}, mean {plain(mean)}"


def _values(level: str, values: np.ndarray, status: np.ndarray) -> dict[str, Any]:
    shown = zip(values[:SHOWN].tolist(), status[:SHOWN].tolist(), strict=True)
    rows = [[str(i), {"value": None if s == "u" else v, "status": s}] for i, (v, s) in enumerate(shown)]
    full = common_scale([values[status == "v"]])
    return grid("", [level, "value"], rows, full, max(0, len(values) - SHOWN))


def batch(b: Batch) -> dict[str, Any]:
    """Return the card of a batch: how many of each level, and its columns."""
    plural = {"trajectory": "trajectories"}
    sizes = [f"{b.count(level):,} {plural.get(level, level + 's')}" for level in BASE_LEVELS[:-1]]
    rows = [
        [
            name,
            c.level,
            f"{len(c.known):,}",
            f"{int((~c.known).sum()):,}",
            _spread(c.values.double().numpy()[c.known.numpy()])
            if c.values.ndim == 1
            else f"shape {tuple(c.values.shape)}",
            c.provenance.provider,
        ]
        for name, c in b.columns.items()
    ]
    units = [[name, u.base, f"{u.count:,}"] for name, u in b.units.items()]
    columns = grid("Columns", ["column", "level", "values", "unknown", "known values", "made by"], rows)
    return card("Batch", [*sizes, f"step {b.step}"], columns, grid("Units", ["unit", "over", "count"], units))


def trace(steps: Any) -> dict[str, Any]:
    """Return the card of a trace: what every stage hands on, over all rollouts."""
    rows = []
    for step in steps:
        c = step.credit
        known = c.values[c.known].double().numpy()
        gone = 0 if c.dropped is None else int((c.dropped > 0).sum())
        counts = [f"{len(known):,}", f"{len(c.known) - len(known) - gone:,}", f"{gone:,}"]
        rows.append(["\u2003" * step.depth + step.label, c.level, *counts, _spread(known)])
    head = ["stage", "level", "known", "unknown", "dropped", "known values"]
    return card("Trace", [f"{len(rows)} stages"], grid("", head, rows))
