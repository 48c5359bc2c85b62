"""`workbench methods`, `read` and `show`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from workbench.cli.saying import Problem, print_summary, print_table

if TYPE_CHECKING:
    from workbench.rollouts import Rollouts


def methods_arguments(one: argparse.ArgumentParser) -> None:
    """Add the arguments of `methods`."""
    one.add_argument(
        "--kind", help="only this kind: recipe, evidence, objective, schedule, transform, search, probe ..."
    )
    one.add_argument("--json", action="store_true")


def read_arguments(one: argparse.ArgumentParser) -> None:
    """Add the arguments of `read`."""
    one.add_argument("file", help="our folder, chat JSONL, or TRL completions parquet")
    one.add_argument("--json", action="store_true")


def show_arguments(one: argparse.ArgumentParser) -> None:
    """Add the arguments of `show`."""
    one.add_argument("file")
    one.add_argument("--html", required=True, metavar="OUT", help="page to write")


def methods(options: argparse.Namespace) -> int:
    """List the systems of the catalogue, then baselines: what works, with its links, and what does not yet."""
    from workbench import catalogue

    kinds = sorted({word for row in catalogue.METHODS for word in _kinds(row)})
    rows, others = (
        [row for row in part if not options.kind or options.kind in _kinds(row)]
        for part in (catalogue.METHODS, catalogue.BASELINES)
    )
    if not rows:
        raise Problem(f"no system of kind {options.kind!r}; kinds: {', '.join(kinds)}")
    if options.json:
        told = [{**asdict(row), "says": row.says, "links": row.links} for row in (*rows, *others)]
        print(json.dumps([{name: _plain(value) for name, value in row.items()} for row in told], indent=1))
        return 0
    lines = [
        (str(row.number), row.name, ", ".join(_kinds(row)), row.says, _names(row.recipes), " ".join(row.links))
        for row in (*rows, *others)
    ]
    print_table(("#", "system", "kind", "status", "recipes", "links"), lines)
    working = sum(row.says == "working" for row in rows)
    print(f"{len(rows)} systems, {working} working; {len(others)} baselines and relatives (B1 ...)")
    return 0


def _kinds(row: Any) -> tuple[str, ...]:
    return (row.kind,) if isinstance(row.kind, str) else tuple(row.kind)


def _plain(value: Any) -> Any:
    """Turn a catalogue value into JSON: a function becomes its name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return getattr(value, "__name__", None) or (value if isinstance(value, (str, int, float, bool)) else None)


def _names(values: Iterable[Any]) -> str:
    return ", ".join(value if isinstance(value, str) else getattr(value, "__name__", str(value)) for value in values)


def read(options: argparse.Namespace) -> int:
    """Say what a file holds, and what its reader could not keep."""
    import workbench.store

    rollouts, report = workbench.store.read_with_report(options.file)
    summary = {"format": report.format, **describe(rollouts)}
    if options.json:
        print(json.dumps({**summary, "notes": list(rollouts.notes)}, indent=1))
    else:
        print_summary(summary)
        for note in rollouts.notes:
            print(f"note: {note}")
    return 0


def describe(rollouts: Rollouts) -> dict[str, Any]:
    """Count what is in rollouts; None is unknown.

    Returns:
        "collapsed_groups" counts groups of two or more whose known outcomes are all equal.
    """
    outcomes = [t.outcome for t in rollouts if t.outcome is not None]
    groups = [[t.outcome for t in group] for group in rollouts.groups]
    several = [known for known in groups if len(known) > 1 and None not in known]
    return {
        "trajectories": len(rollouts),
        "groups": len(groups),
        "turns": sum(len(t.turns) for t in rollouts),
        "sampled_tokens": sum(len(s) for t in rollouts for k in range(len(t.turns)) for s in t.sampled(k)),
        "trajectories_with_tokens": sum(t.has_tokens for t in rollouts),
        "tool_calls": sum(len(turn.calls) for t in rollouts for turn in t.turns),
        "outcomes_known": len(outcomes),
        "mean_outcome": sum(outcomes) / len(outcomes) if outcomes else None,
        "collapsed_groups": f"{sum(len(set(known)) == 1 for known in several)} of {len(several)}" if several else None,
        "columns": ", ".join(sorted(rollouts.columns)) or "none",
    }


def show(options: argparse.Namespace) -> int:
    """Write one offline HTML page of a file of rollouts."""
    import workbench.store
    from workbench import show as door

    print(door.html_page(workbench.store.read(options.file), options.html))
    return 0
