"""Payload of the monitor of a run: its head in words, its curves as arrays, and the part of them that is new.

A curve has at most 400 points; in a longer run a point stands for `each` neighbouring steps. New steps change the last
point and those after it, so a page that has the rest is sent these alone (`points(..., first)`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.glossary import ENTRIES
from workbench.view.html import run as words
from workbench.view.html.parts import count, facts
from workbench.view.payload import course

Row = Mapping[str, Any]
POINTS = 400
X = ("step", "rollouts", "tokens", "seconds")
CAUSES = 8  # kinds of collapse that are named; the rest is one of them
PANELS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("outcome", "Success", "mean outcome, 95 % interval", ("outcome", "outcome_low")),
    ("causes", "Collapsed groups", "share of groups, by cause", ("collapsed", "collapse_causes")),
    ("advantage_scale", "Advantage scale", "mean |A| of a token", ("advantage_scale",)),
    ("entropy", "Entropy", "nats a token", ("entropy", "surprise")),
    ("gradient_norm", "Gradient norm", "before clipping", ("gradient_norm",)),
    ("tokens_second", "Tokens a second", "sampled, over the whole step", ("seconds", "tokens_per_second_rollout")),
)
"""Key, title, unit, and where the glossary defines it."""


def each_of(steps: int) -> int:
    """Return how many steps a point stands for: a power of two, so that points seldom change.

    Example:
        >>> [each_of(n) for n in (1, 400, 401, 1600, 1601)]
        [1, 1, 2, 4, 8]
    """
    return 1 << max(0, math.ceil(math.log2(max(1, steps) / POINTS)))


def totals(rows: Sequence[Row], before: Row | None = None) -> list[dict[str, float | None]]:
    """Return what was spent up to each row: step (from 1), rollouts, tokens, seconds; None once it is unknown.

    Args:
        rows: cleaned metrics, in order.
        before: the last total of the rows before these.
    """
    last, out = dict(before or dict.fromkeys(X, 0.0)), []
    for row in rows:
        spent = {"rollouts": _rollouts(row), "tokens": course.tokens_of(row), "seconds": row.get("seconds")}
        known = {k: None if last[k] is None or v is None else last[k] + v for k, v in spent.items()}
        last = {"step": row["step"] + 1, **known}
        out.append(last)
    return out


def _rollouts(row: Row) -> float | None:
    """Return how many rollouts a step played: its tokens over its tokens a rollout; None if it does not say."""
    tokens, mean = course.tokens_of(row), row.get("tokens")
    return round(tokens / mean) if tokens is not None and mean else None


def causes_of(rows: Sequence[Row], known: Sequence[str] = ()) -> list[str]:
    """Return the causes of collapse in the order they came up, those known before first."""
    found = dict.fromkeys([*known, *(cause for row in rows for cause in row["collapse_causes"])])
    return [cause for cause in found if cause != course.NOT_COLLAPSED][:CAUSES]


def points(
    rows: Sequence[Row], spent: Sequence[Row], causes: Sequence[str], each: int = 1, first: int = 0
) -> dict[str, Any]:
    """Return the points of the curves from the `first` on, as arrays; unknown is NaN.

    Args:
        rows: cleaned metrics, all of them.
        spent: `totals` of them.
        causes: to be counted; see `causes_of`.
        each: steps of a point; see `each_of`.
        first: place of the first point.

    Returns:
        x: {name: [K]} of `X`; y: {name: [K]} of outcome, low, high, advantage_scale, entropy, gradient_norm,
        tokens_second; causes: name and y [K] of each, shares of all groups.
    """
    starts = range(first * each, len(rows), each)
    parts = [rows[i : i + each] for i in starts]
    ends = [spent[min(i + each, len(rows)) - 1] for i in starts]
    pooled = [course.pooled(part) for part in parts]
    lines = {name: [one[i] for one in pooled] for i, name in enumerate(("outcome", "low", "high"))}
    lines |= {name: [course.mean(part, name) for part in parts] for name in ("advantage_scale", "gradient_norm")}
    lines["entropy"] = [course.mean(part, _entropy(rows)) for part in parts]
    lines["tokens_second"] = [_speed(part) for part in parts]
    return {
        "x": {name: _array([end[name] for end in ends]) for name in X},
        "y": {name: _array(y) for name, y in lines.items()},
        "causes": [{"name": name, "y": _array([course.share(part, name) for part in parts])} for name in causes],
    }


def _entropy(rows: Sequence[Row]) -> str:
    """The exact entropy where the first step has it, else its estimate."""
    return "entropy" if rows and rows[0].get("entropy") is not None else "surprise"


def _speed(rows: Sequence[Row]) -> float | None:
    tokens, seconds = [course.tokens_of(row) for row in rows], [row.get("seconds") for row in rows]
    if any(n is None for n in (*tokens, *seconds)):
        return None
    return sum(tokens) / total if (total := sum(seconds)) > 0 else None


def _array(values: Sequence[float | None]) -> np.ndarray:
    with np.errstate(over="ignore"):  # beyond what a float32 holds: infinite, which is drawn as unknown
        found = np.array([math.nan if v is None else v for v in values], np.float64).astype(np.float32)
    return np.where(np.isfinite(found), found, np.float32(np.nan))


# ------------------------------------------------------------------------------------------------- the head


def head(now: Mapping[str, Any], rows: Sequence[Row], problem: str = "", asked: str = "run") -> dict[str, Any]:
    """Return how a run is, in words.

    Args:
        now: `payload.run.status`.
        rows: cleaned metrics, all of them.
        problem: why metrics could not be read.
        asked: `Run.asked`.
    """
    recipe, world = words.first_word(now["asked"]["recipe"]), words.first_word(now["asked"]["env"])
    player, lives = now["asked"]["policy"], now["state"] in ("starting", "running", "paused")
    return {
        "name": now["name"],
        "said": facts(recipe, f"{player} in {world}" if world and player else world or player),
        "state": now["state"],
        "mark": words.MARKS[now["state"]],
        "going": words.going(now, rows),
        "step": now["step"],
        "steps": now["steps"],
        "saved": now["good_step"],
        "problems": [text for text in (now["reason"], problem) if text],
        "alarms": course.alarms(rows),
        "last_step": rows[-1]["step"] + 1 if rows else 0,
        "notes": now["notes"],
        "can": now["can"],
        "asked": asked,
        "stands": _stands(now, asked) if lives else _over(now),
        "start": _start(now) if "resume" in now["can"] else [],
        "expected": expected(now),
        "again": f"Run({now['path']!r}).monitor()",
        "trust": "Going on loads the code in its folder: only with runs you trust." if now["ships"] else "",
    }


def _stands(now: Mapping[str, Any], asked: str) -> str:
    """Say what a run was asked and has not done yet, or that it waits."""
    paused = now["state"] == "paused"
    if asked == "stop" or (asked == "pause") != paused:
        return expected(now)[asked] if asked != "run" or paused else ""
    return f"It is paused after {count(now['step'], 'step')}, and saved." if paused else ""


def expected(now: Mapping[str, Any]) -> dict[str, str]:
    """Say what happens after each button, at the step the run is in."""
    step = f"step {now['step'] + 1:,}"
    if now["state"] == "paused":
        pause, stop = "It is paused already.", "It was asked to stop: it ends now, saved as it is."
    else:
        pause = f"It was asked to pause: it finishes {step}, saves, and waits."
        stop = f"It was asked to stop: it finishes {step}, saves, and ends."
    return {"pause": pause, "stop": stop, "run": "It was asked to go on.", "resume": "A new process starts."}


def _over(now: Mapping[str, Any]) -> str:
    """Say why nothing can be asked of a run that ended."""
    done = count(now["step"], "step")
    if now["state"] == "finished":
        return "It is finished: there is nothing to pause or stop."
    if now["state"] == "failed":
        return f"It failed after {done}: there is nothing to pause or stop."
    kept = f"with a checkpoint at step {now['good_step']:,}" if now["good_step"] else "without a checkpoint"
    return f"It stopped after {done}, {kept}."


def _start(now: Mapping[str, Any]) -> list[str]:
    """Return what to type so that a run that ended goes on, and from where it does."""
    saved = f"from step {now['good_step']:,}" if now["good_step"] else "from the beginning"
    return [f"workbench.train.resume({now['path']!r})", f"goes on {saved}."]


def panels() -> list[dict[str, Any]]:
    """Return the panels with what the glossary says about each."""
    return [
        {"key": key, "title": title, "what": what, "defined": [_defined(name) for name in names]}
        for key, title, what, names in PANELS
    ]


def _defined(name: str) -> dict[str, str]:
    entry = ENTRIES[name]
    return {field: getattr(entry, field) for field in ("name", "what", "equation", "range", "good", "bad")}
