"""Which rollouts of a heat map are shown, and in which order; turn_heat.js does the same where there is no kernel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import hexdigits
from typing import Any

import numpy as np

from workbench.view.payload.heat import GROUPS, credited, owners

SORTS = {
    "given": "as given",
    "outcome": "outcome",
    "length": "number of turns",
    "credit": "mean credit of the first method shown",
    "rank": "disagreement by rank",
    "sign": "disagreement by sign",
    "share": "disagreement by share",
}


def texts_of(packed: Mapping[str, Any]) -> list[str]:
    """Return the texts that `packed_text` put into one.

    Example:
        >>> from workbench.view.payload.heat import packed_text
        >>> texts_of(packed_text(["a", "", "né", chr(0x1F600) + "b"]))
        ['a', '', 'né', '😀b']
    """
    ends = [0, *packed["ends"].tolist()]
    text = packed["text"]
    if text.isascii():
        return [text[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    units = text.encode("utf-16-le", "surrogatepass")
    return [units[2 * a : 2 * b].decode("utf-16-le", "surrogatepass") for a, b in zip(ends, ends[1:], strict=False)]


def shown_methods(payload: Mapping[str, Any], state: Mapping[str, Any]) -> list[int]:
    """Return the methods shown, by their place; all where the state names none that is there."""
    names = payload["methods"]
    chosen = state.get("methods")
    chosen = [chosen] if isinstance(chosen, str) else chosen or []
    found = [names.index(name) for name in dict.fromkeys(chosen) if name in names]
    return found or list(range(len(names)))


def sort_key(payload: Mapping[str, Any], state: Mapping[str, Any]) -> np.ndarray | None:
    """Return what the rollouts are sorted by, NaN where unknown -> float64 [N]; None for the order given.

    Raises:
        ValueError: no such order.
    """
    name = state.get("sort") or "given"
    if name not in SORTS:
        raise ValueError(f"sort: expected one of {list(SORTS)}, got {name!r}")
    if name == "outcome":
        return payload["outcome"].astype(np.float64)
    if name == "length":
        return np.diff(payload["ends"].astype(np.int64), prepend=0).astype(np.float64)
    if name == "credit" and payload["methods"]:
        return mean_credit(payload, shown_methods(payload, state)[0])
    if name in payload["apart"]:
        return payload["apart"][name]["rollout"].astype(np.float64)
    return None


def mean_credit(payload: Mapping[str, Any], method: int) -> np.ndarray:
    """Return the mean credit of each rollout's turns, NaN where none has any -> float64 [N]."""
    value, owner, n = credited(payload, method), owners(payload), payload["count"]
    told = ~np.isnan(value)
    size = np.bincount(owner[told], minlength=n)
    total = np.bincount(owner[told], weights=value[told], minlength=n)
    return np.where(size > 0, total / np.maximum(size, 1), np.nan)


def shown_rollouts(payload: Mapping[str, Any], state: Mapping[str, Any]) -> np.ndarray:
    """Return the rollouts shown, by their place, in the order shown -> int64.

    Args:
        payload: of `heat`.
        state: `sort` (see `SORTS`), `flip` (smallest first), `grouped` (true unless false), `find` (text in the id of a
            rollout or group, or in its question), `only` ("all", a kind of group, or "selected"), `rows` (selected).
    """
    kept = np.flatnonzero(kept_rollouts(payload, state))
    flip = bool(state.get("flip"))
    key = sort_key(payload, state)
    key = -np.arange(payload["count"], dtype=np.float64) if key is None else key
    order = kept[_largest_first(key[kept], flip)]
    if state.get("grouped") is False:
        return order
    group = payload["group"].astype(np.int64)
    rank = np.argsort(_largest_first(group_key(payload, key, kept), flip), kind="stable")
    return order[np.argsort(rank[group[order]], kind="stable")]


def group_key(payload: Mapping[str, Any], key: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return what groups are sorted by: the mean of their shown rollouts', NaN where none is known -> float64 [G]."""
    group, groups = payload["group"].astype(np.int64), len(payload["kinds"])
    told = kept[~np.isnan(key[kept])]
    size = np.bincount(group[told], minlength=groups)
    total = np.bincount(group[told], weights=key[told], minlength=groups)
    return np.where(size > 0, total / np.maximum(size, 1), np.nan)


def kept_rollouts(payload: Mapping[str, Any], state: Mapping[str, Any]) -> np.ndarray:
    """Return which rollouts pass the filters -> bool [N].

    Raises:
        ValueError: no such filter.
    """
    out, only = np.ones(payload["count"], bool), state.get("only") or "all"
    if only in GROUPS:
        out &= payload["kinds"][payload["group"].astype(np.int64)] == GROUPS.index(only)
    elif only == "selected":
        out &= rows_of(str(state.get("rows") or ""), payload["count"])
    elif only != "all":
        raise ValueError(f"only: expected 'all', 'selected' or one of {list(GROUPS)}, got {only!r}")
    if wanted := str("" if state.get("find") is None else state["find"]).lower():
        groups = zip(texts_of(payload["groups"]), texts_of(payload["questions"]), strict=True)
        hit = np.array([wanted in name.lower() or wanted in asked.lower() for name, asked in groups], bool)
        mine = np.array([wanted in name.lower() for name in texts_of(payload["ids"])], bool)
        out &= mine | hit[payload["group"].astype(np.int64)]
    return out


def rows_of(text: str, count: int) -> np.ndarray:
    """Read a set of rollouts from a permalink: n and ranges, or x and bits in hex -> bool [count].

    What is not readable is no rollout: links are typed and cut by hand.

    Example:
        >>> np.flatnonzero(rows_of("n0-2.5", 8)).tolist(), np.flatnonzero(rows_of("x52", 8)).tolist()
        ([0, 1, 2, 5], [0, 2, 5])
    """
    out = np.zeros(count, bool)
    if text.startswith("x"):
        for n in range(min(count, 4 * (len(text) - 1))):
            digit = text[1 + n // 4]
            out[n] = digit in hexdigits and int(digit, 16) >> n % 4 & 1
        return out
    for part in text[1:].split("."):
        if found := re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part):
            first, last = found.groups()
            out[int(first) : int(last or first) + 1] = True
    return out


def _largest_first(key: np.ndarray, flip: bool) -> np.ndarray:
    """Return the places from the largest to the smallest, or the other way round; unknown last, ties as they stand."""
    return np.argsort(np.where(np.isnan(key), np.inf, key if flip else -key), kind="stable")
