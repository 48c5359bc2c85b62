"""The glossary of training: what every key of a row of metrics means, in one mapping.

    from workbench.glossary import glossary
    glossary("collapsed")            one definition
    glossary()                       all of them

`tutorials/glossary.md` is written from here by `scripts/glossary.py`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import overload

from workbench.glossary.entry import Entry
from workbench.glossary.rollouts import ROLLOUTS
from workbench.glossary.updates import CREDIT, SCALED, TIMES, UPDATES

__all__ = ["ENTRIES", "SECTIONS", "Entry", "Glossary", "defined", "glossary", "page"]

SECTIONS: Mapping[str, Mapping[str, Entry]] = {
    "Rollouts": ROLLOUTS,
    "Credit": CREDIT,
    "Updates": UPDATES,
    "Time": TIMES,
    "Scaled runs": SCALED,
}
"""Definitions by what is measured."""

ENTRIES: Mapping[str, Entry] = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
"""All definitions, by the key of the metric."""


class Glossary(Mapping[str, Entry]):
    """All definitions; prints as a table of contents, and as the whole page in a notebook."""

    def __getitem__(self, name: str) -> Entry:
        return _entry(name)

    def __iter__(self) -> Iterator[str]:
        return iter(ENTRIES)

    def __len__(self) -> int:
        return len(ENTRIES)

    def __repr__(self) -> str:
        lines = [f"{title}: {', '.join(entries)}" for title, entries in SECTIONS.items()]
        return "\n".join([*lines, 'glossary("collapsed") says what one of them means'])

    def _repr_markdown_(self) -> str:
        return page()


@overload
def glossary() -> Glossary: ...
@overload
def glossary(name: str) -> Entry: ...
def glossary(name: str | None = None) -> Entry | Glossary:
    """Return what a metric means, or all definitions.

    Args:
        name: a key of a row of metrics, such as "collapsed" or "loss_kl"; None for all.

    Raises:
        KeyError: no metric has that name; says which come close.

    Example:
        >>> print(glossary("rate"))
        rate: Learning rate of the step.
            the plan's number, or its schedule at the step
          range: 0 or more
          good:  Above 0 unless a schedule has ended.
          bad:   At 0 nothing is learned: look at the schedule.
    """
    return Glossary() if name is None else _entry(name)


def _entry(name: str) -> Entry:
    found = ENTRIES.get(name) or next((e for e in ENTRIES.values() if _stands_for(e.name, name)), None)
    if found is None:
        close = difflib.get_close_matches(name, ENTRIES, n=3, cutoff=0.5)
        raise KeyError(f"no metric {name!r}" + (f"; close are {', '.join(close)}" if close else "; see glossary()"))
    return found


def _stands_for(pattern: str, name: str) -> bool:
    return pattern.endswith("*") and name.startswith(pattern[:-1]) and len(name) >= len(pattern)


def defined(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Compare the keys of rows with the glossary: (keys without a definition, definitions no key uses).

    Example:
        >>> undefined, unused = defined(["loss_policy", "nonsense"])
        >>> undefined, "loss_*" in unused, "rate" in unused
        (['nonsense'], False, True)
    """
    names = list(names)
    undefined = [n for n in names if n not in ENTRIES and not any(_stands_for(p, n) for p in ENTRIES)]
    unused = [p for p in ENTRIES if p not in names and not any(_stands_for(p, n) and n not in ENTRIES for n in names)]
    return undefined, unused


def page() -> str:
    """Return the glossary as a page of Markdown."""
    parts = [
        "# Glossary of training\n",
        "Every step of a training leaves a row of metrics: `metrics.jsonl` of a run, the second thing that "
        "`workbench.train.policy_gradient.train` returns. This page is written by `scripts/glossary.py` from "
        '`workbench/glossary`; in Python `workbench.train.glossary("collapsed")` says the same.\n',
        "A share is between 0 and 1. Nothing known is none (`null`), never 0. Intervals are at 95 %. A, l, l_old, "
        "l_ref: credit of a token, its log-prob under the policy that learns, that sampled, and that is held on to; "
        "p: success rate; G: rollouts of a group, or groups where a t interval is meant.\n",
    ]
    for title, entries in SECTIONS.items():
        parts += [f"## {title}\n", *(f"{_anchor(entry)}{entry.markdown()}\n" for entry in entries.values())]
    return "\n".join(parts)


def _anchor(entry: Entry) -> str:
    return f'<a id="{entry.name.rstrip("*").rstrip("_")}"></a>'
