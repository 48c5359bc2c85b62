"""Following a run in a terminal, a line a step. Standard library only."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.runs import Run, Status

SHOWN = ("outcome", "collapsed", "dead_groups", "truncated")
"""Shares that a progress line shows, beside the step and its seconds."""


def follow(run: Run, poll_s: float = 0.5) -> Status:
    """Print a line for each step that is new until no process works on the run; return how it is then.

    Ctrl-C ends the following, not the run.
    """
    shown, state, cursor = 0, "", ""
    while True:
        alive = run.alive  # asked first, so that the last lines are read after the last was written
        news, status = run.metrics_after(cursor), run.status
        cursor = news.cursor
        if news.anew:  # a resumed run has cut some and made them again, to the same bits: those were seen
            news = news._replace(rows=news.rows[shown:])
        shown += len(news.rows)
        for row in news.rows:
            print(line(row, status.steps), flush=True)
        if status.state != state and status.state != "running":
            print(f"{status.state} after {status.step} of {status.steps} steps", flush=True)
        state = status.state
        if not alive:
            for note in (*status.notes, *filter(None, [status.reason])):
                print(printable(note), file=sys.stderr)
            return status
        time.sleep(poll_s)


def line(row: Any, steps: int) -> str:
    """Put the metrics of a step in one line.

    Example:
        >>> line({"step": 4, "outcome": 0.25, "dead_groups": None, "seconds": 1.5, "alarms": {}}, 10)
        'step     5/10  outcome 25%  dead groups -  1.5 s'
    """
    row = row if isinstance(row, Mapping) else {}
    step, seconds, alarms = row.get("step"), row.get("seconds"), row.get("alarms")
    parts = [f"{name.replace('_', ' ')} {short(row[name])}" for name in SHOWN if name in row]
    said = alarms.values() if isinstance(alarms, Mapping) else ()
    took = f"{seconds:.1f} s" if _is_number(seconds) else "-"
    number = f"{step + 1:5}" if _is_number(step) else "    ?"
    return f"step {number}/{steps}  {'  '.join(parts)}  {took}" + "".join(
        f"\n  ! {printable(str(one))}" for one in said
    )


def short(value: Any) -> str:
    """Return a share as a percentage, "-" for what is none."""
    return f"{value:.0%}" if _is_number(value) else "-"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def printable(text: str) -> str:
    """Return text that a terminal cannot take for commands: what is not seen, or reorders, stands as its code point.

    Example:
        >>> printable("red \\x1b[31m")
        'red ⟦U+001B⟧[31m'
    """
    return "".join(c if c.isprintable() or c in "\n\t" else f"⟦U+{ord(c):04X}⟧" for c in text)
