"""Collapse of groups over the steps of a training, or in one batch: causes, measures with thresholds, groups behind.

    of_rows(rows)              a training: shares by cause and measures at each step
    of_rollouts(rollouts, ..)  one batch: its autopsy
    groups(rollouts, ..)       what opens behind a step or a cause: its groups, with cause and outcomes

Steps count from 1, as they are shown. What a measure means is the glossary's to say (`workbench.glossary`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from workbench.batch import Batch
from workbench.compare import forecast
from workbench.credit import Credit
from workbench.glossary import ENTRIES, Entry
from workbench.measure import concentration, credited, kept, living, played, why_truncated
from workbench.outcomes import causes, shaping_only
from workbench.rollouts import Rollouts
from workbench.view.escape import one_line
from workbench.view.payload import course

Row = Mapping[str, Any]
POINTS = 400  # of a chart; longer trainings are drawn in means of neighbouring steps
ALIVE = "varied"
NAMES = 12  # causes that are told apart; a folder of somebody else may name any number
GROUPS = 400  # groups of a step that are listed


class Look(NamedTuple):
    """How a cause is drawn: Okabe and Ito's colours, and a pattern, so that colour never stands alone."""

    colour: str
    pattern: str


LOOKS: Mapping[str, Look] = {
    "all failed": Look("213,94,0", "full"),
    "all truncated": Look("230,159,0", "up"),
    "unparsable": Look("204,121,167", "cross"),
    "all solved": Look("0,114,178", "full"),
    "all equal": Look("86,180,233", "flat"),
    "single survivor": Look("0,158,115", "tall"),
    "unknown": Look("128,128,128", "down"),
}
OTHER = Look("128,128,128", "cross")
DO: Mapping[str, str] = {
    "all failed": "take easier tasks, a warm start, larger groups, or a method that credits turns before the outcome",
    "all truncated": "raise max_turns or max_new_tokens, or warm-start on episodes that end",
    "unparsable": "calls cannot be read: look at one, then mend prompt, template or parser",
    "all solved": "take harder tasks",
    "all equal": "raise the size of groups, or the temperature",
    "single survivor": "one known outcome has nothing to compare with: raise size, or see why the others are missing",
    "unknown": "no outcome is known: see how the rollouts ended, and what the world gives as outcome",
}
"""What to do about a cause: the glossary's `collapse_causes`, a sentence each."""


class Tile(NamedTuple):
    """A measure on the board.

    Args:
        key: its name in a row, and in the glossary.
        title: its name on the board.
        low, high: what is beyond them needs a look; as in the glossary's words. None where no number can be given.
        share: is it a share, written in per cent?
        alarm: the alarm of a step that speaks of it.
        span: what its axis shows; None is from 0, or the least, to the largest.
    """

    key: str
    title: str
    low: float | None = None
    high: float | None = None
    share: bool = False
    alarm: str = ""
    span: tuple[float, float] | None = None


TILES = (
    Tile("collapsed", "Collapsed groups", high=0.5, share=True),
    Tile("dead_groups", "Dead groups", high=0.5, share=True, alarm="dead"),
    Tile("shaping_only", "Variance from shaping alone", share=True),
    Tile("sign_balance", "Advantage sign balance", low=-0.5, high=0.5, span=(-1, 1)),
    Tile("concentration", "Credit concentration over turns", span=(0, 1)),
    Tile("clip_share", "Clip share", high=0.2, share=True),
    Tile("entropy", "Entropy"),
    Tile("gradient_norm", "Gradient norm"),
    Tile("ratio_gap", "Ratio gap", alarm="ratio"),
)


# --------------------------------------------------------------------------------------------------- a training


def of_rows(rows: Sequence[Row], name: str = "", kept_steps: Sequence[int] = (), problem: str = "") -> dict[str, Any]:
    """Return the board of a training.

    Args:
        rows: cleaned (`payload.run.clean`), in order.
        name: of the run.
        kept_steps: steps whose rollouts were kept, from 1.
        problem: why the metrics could not be read, "" if they could.

    Returns:
        name, one (False), problem; steps: how many; each: steps a point stands for; first, last [P] int32: steps of a
        point; count [P]: groups of it; causes: see `_cause`, with `share` [P]; groups_alive: varied groups in all;
        tiles: see `_tile`, with `y` [P]; alarms: see `course.alarms`; kept.
    """
    each = max(1, math.ceil(len(rows) / POINTS))
    parts = [rows[i : i + each] for i in range(0, len(rows), each)]
    counts = [sum((Counter(row["collapse_causes"]) for row in part), Counter()) for part in parts]
    total = sum(counts, Counter())
    return {
        "kind": "collapse_board",
        "name": one_line(name, 80),
        "one": False,
        "problem": problem,
        "steps": len(rows),
        "each": each,
        "first": np.array([part[0]["step"] + 1 for part in parts], np.int32),
        "last": np.array([part[-1]["step"] + 1 for part in parts], np.int32),
        "count": np.array([count.total() for count in counts], np.float32),
        "causes": [_cause(cause, total, _shares(counts, cause)) for cause in _named(total)],
        "groups_alive": total[ALIVE],
        "tiles": [_tile(tile, rows, parts) for tile in TILES],
        "alarms": course.alarms(rows),
        "kept": sorted({int(step) for step in kept_steps}),
    }


def _named(total: Counter[str]) -> list[str]:
    """Causes there are, those we know in their order, then others by how many."""
    known = [cause for cause in LOOKS if total[cause]]
    return (known + [cause for cause, _ in total.most_common() if cause not in LOOKS and cause != ALIVE])[:NAMES]


def _shares(counts: Sequence[Counter[str]], cause: str) -> np.ndarray:
    return np.array([c[cause] / c.total() if c.total() else np.nan for c in counts], np.float32)


def _cause(cause: str, total: Counter[str], share: np.ndarray) -> dict[str, Any]:
    """Return name, look, groups in all, what to do, share at each point."""
    look = LOOKS.get(cause, OTHER)
    return {"name": cause, **look._asdict(), "groups": total[cause], "fix": DO.get(cause, ""), "share": share}


def _tile(tile: Tile, rows: Sequence[Row], parts: Sequence[Sequence[Row]]) -> dict[str, Any]:
    """Return a measure: its words, its course, how it stands against its threshold."""
    key = _key(tile, rows)
    values = [row.get(key) for row in rows]
    lines = {"y": _course(parts, key)}
    if tile.key == "collapsed":
        extra = ("forecast", "collapsed_low", "collapsed_high")
        lines |= {name.removeprefix("collapsed_"): _course(parts, name) for name in extra}
        if max(map(len, parts), default=1) > 1:  # the interval of a step is none of several
            lines["low"] = lines["high"] = np.full(len(parts), np.nan, np.float32)
    alarmed = [row["step"] + 1 for row in rows if tile.alarm and tile.alarm in row["alarms"]]
    return {**_words(tile, key), **lines, **_verdict(tile, values, alarmed)}


def _key(tile: Tile, rows: Sequence[Row]) -> str:
    """Entropy may not be measured; then the surprise, which estimates it, stands in its place."""
    measured = any(row.get(tile.key) is not None for row in rows)
    return "surprise" if tile.key == "entropy" and not measured else tile.key


def _course(parts: Sequence[Sequence[Row]], key: str) -> np.ndarray:
    means = [course.mean(part, key) for part in parts]
    return np.array([np.nan if m is None else m for m in means], np.float32)


def _words(tile: Tile, key: str) -> dict[str, Any]:
    entry: Entry = ENTRIES[key]
    title = tile.title if key == tile.key else "Surprise, for the entropy"
    said = {"what": entry.what, "equation": entry.equation, "good": entry.good, "bad": entry.bad}
    span = (0, 1) if tile.share else tile.span
    axis = {"from": tile.low, "to": tile.high, "percent": tile.share, "span": list(span) if span else None}
    return {"key": key, "title": title, **said, **axis}


def _verdict(tile: Tile, values: Sequence[float | None], alarmed: Sequence[int] = ()) -> dict[str, Any]:
    """Say how the last step stands, and how many were beyond: `state` is "beyond", "within", "open" or "unknown"."""
    known = [v for v in values if v is not None]
    last = values[-1] if values else None
    beyond = [v for v in known if outside(tile, v)]
    if not known:
        return {"now": None, "state": "unknown", "verdict": "not measured"}
    often = f"; beyond it in {len(beyond):,} of {len(known):,} steps" if beyond and len(known) > 1 else ""
    if alarmed:
        often += f"; an alarm in {len(alarmed):,} of {len(values):,} steps, last in step {alarmed[-1]:,}"
    if last is None:
        return {"now": None, "state": "unknown", "verdict": f"unknown in the last step{often}"}
    if tile.low is None and tile.high is None:
        state = "beyond" if alarmed and alarmed[-1] == len(values) else "open"
        return {"now": last, "state": state, "verdict": f"no threshold in numbers{often}"}
    state = "beyond" if outside(tile, last) else "within"
    return {"now": last, "state": state, "verdict": f"{state} the threshold, {bound(tile)}{often}"}


def outside(tile: Tile, value: float) -> bool:
    """Is a value beyond the threshold?"""
    return (tile.low is not None and value < tile.low) or (tile.high is not None and value > tile.high)


def bound(tile: Tile) -> str:
    """Return the threshold in words.

    Example:
        >>> bound(TILES[0]), bound(TILES[3])
        ('at most 50%', '−0.5 to 0.5')
    """
    said = ["" if v is None else f"{100 * v:g}%" if tile.share else f"{v:g}" for v in (tile.low, tile.high)]
    return (" to ".join(said) if all(said) else f"at most {said[1]}").replace("-", "−")


# --------------------------------------------------------------------------------------------------- one batch


def of_rollouts(rollouts: Rollouts, credits: Mapping[str, Credit]) -> dict[str, Any]:
    """Return the board of one batch: its autopsy.

    Args:
        rollouts: all of the batch.
        credits: by method, computed on them; none is fine.

    Returns:
        as `of_rows` with one point, `one` True; tiles also have `methods`: value by method; groups: see `groups`;
        chance: see `chances`.
    """
    found = groups(rollouts, credits)
    total = Counter(group["cause"] for group in found)
    shares = {cause: _shares([total], cause) for cause in _named(total)}
    made = played(rollouts) if len(rollouts) else {}
    by_method = {name: _credited(rollouts.batch(), credit) for name, credit in credits.items()} if len(rollouts) else {}
    return {
        "kind": "collapse_board",
        "name": "",
        "one": True,
        "problem": "",
        "steps": 1,
        "each": 1,
        "first": np.ones(1, np.int32),
        "last": np.ones(1, np.int32),
        "count": np.array([total.total()], np.float32),
        "causes": [_cause(cause, total, share) for cause, share in shares.items()],
        "groups_alive": total[ALIVE],
        "tiles": [tile for one in TILES if (tile := _single(one, made, by_method)) is not None],
        "alarms": [],
        "kept": [1],
        "groups": found,
        "chance": chances(rollouts),
    }


def _credited(batch: Batch, credit: Credit) -> dict[str, Any]:
    """Measure a credit of any level: all that `measure.credited` says of tokens, less for others."""
    if credit.level == "token":
        return credited(batch, credit)
    lives = living(batch, credit)
    shaped = sum(shaping_only(batch, lives).values())
    a = credit.values[credit.known]
    up, down = int((a > 0).sum()), int((a < 0).sum())
    return {
        "dead_groups": 1 - lives.double().mean().item(),
        "shaping_only": shaped / max(batch.count("group"), 1),
        "sign_balance": (up - down) / (up + down) if up + down else None,
        "concentration": concentration(batch, credit) if credit.level == "turn" else None,
    }


def _single(tile: Tile, made: Mapping[str, Any], by_method: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return a measure of one batch; None for what only training has."""
    if tile.key == "collapsed" or (tile.key == "entropy" and made.get("surprise") is not None):
        key = "surprise" if tile.key == "entropy" else tile.key
        lines = {"y": _one(made.get(key))}
        if tile.key == "collapsed":
            names = {"forecast": "forecast", "low": "collapsed_low", "high": "collapsed_high"}
            lines |= {short: _one(made.get(name)) for short, name in names.items()}
        return {**_words(tile, key), **lines, **_verdict(tile, [made.get(key)]), "methods": {}}
    values = {name: row[tile.key] for name, row in by_method.items() if tile.key in row}
    if not values:
        return None
    first = next(iter(values.values()))
    return {**_words(tile, tile.key), "y": _one(first), **_over_methods(tile, values), "methods": values}


def _over_methods(tile: Tile, values: Mapping[str, float | None]) -> dict[str, Any]:
    """Say how the methods stand: beyond if one of them is, and which."""
    known = {name: v for name, v in values.items() if v is not None}
    beyond = [name for name, v in known.items() if outside(tile, v)]
    if len(values) < 2 or not known:
        return _verdict(tile, [next(iter(values.values()))])
    found = _verdict(tile, [known[beyond[0]] if beyond else next(iter(known.values()))])
    said = f": {', '.join(one_line(name, 40) for name in beyond)}" if beyond else ""
    return {**found, "verdict": found["verdict"] + said}


def _one(value: float | None) -> np.ndarray:
    return np.array([np.nan if value is None else value], np.float32)


def chances(rollouts: Rollouts) -> dict[str, Any] | None:
    """Return how likely a group is dead at the batch's success rate, for its sizes and larger ones.

        P(dead) = p^G + (1 - p)^G

    Returns:
        p: success rate; sizes: members, groups (how many have that size), dead (the probability). None where outcomes
        are not only 0 and 1.
    """
    known = [t.outcome for t in rollouts if t.outcome is not None]
    if not known or any(x not in (0, 1) for x in known):
        return None
    p = sum(known) / len(known)
    members = Counter(sum(t.outcome is not None for t in group.trajectories) for group in rollouts.groups)
    members.pop(0, None)
    largest = max(members)
    sizes = sorted({*members, 2 * largest, 4 * largest, 8 * largest})
    return {"p": p, "sizes": [{"members": n, "groups": members.get(n, 0), "dead": forecast(p, n)} for n in sizes]}


# --------------------------------------------------------------------------------------------- what stands behind


def groups(rollouts: Rollouts, credits: Mapping[str, Credit]) -> list[dict[str, Any]]:
    """Return the groups of a batch, those without different outcomes first, by cause.

    Returns:
        per group: group, question, cause; credit: {method: "credit", "dead", "dropped", "shaping only"}; chance:
        P(dead) at the batch's success rate, None where outcomes are not only 0 and 1; why: what truncated it; rollouts:
        id, outcome (None: unknown), turns, end (how it ended).
    """
    if not len(rollouts):
        return []
    batch, found = rollouts.batch(), causes(rollouts)
    lives = {name: living(batch, credit).tolist() for name, credit in credits.items()}
    stays = {name: kept(batch, credit).tolist() for name, credit in credits.items()}
    rate = (chances(rollouts) or {}).get("p")
    out = []
    for g, group in enumerate(rollouts.groups):
        known = sum(t.outcome is not None for t in group.trajectories)
        out.append(
            {
                "group": group.id,
                "question": one_line(_question(group.trajectories), 96),
                "cause": found[g],
                "credit": {name: _alive(found[g], lives[name][g], stays[name][g]) for name in credits},
                "chance": forecast(rate, known) if rate is not None and known else None,
                "why": why_truncated(group.trajectories) if found[g] == "all truncated" else "",
                "rollouts": [_ended(t) for t in group.trajectories],
            }
        )
    order = [*LOOKS, ALIVE]
    return sorted(out, key=lambda one: order.index(one["cause"]) if one["cause"] in order else len(order))


def _alive(cause: str, lives: bool, stays: bool) -> str:
    if not lives:
        return "dead" if stays else "dropped"
    return "credit" if cause in (ALIVE, "unknown") else "shaping only"


def _question(members: Sequence[Any]) -> str:
    return next((m.text for t in members for m in t.prompt if m.role == "user"), "")


def _ended(t: Any) -> dict[str, Any]:
    end = t.stop_reason or ("truncated" if t.truncated else "")
    outcome = float(t.outcome) if t.outcome is not None and math.isfinite(t.outcome) else None
    return {"id": t.id, "outcome": outcome, "turns": len(t.turns), "end": one_line(end, 60)}
