"""What a stored measurement says of a method: does its credit tell the search that helped from one that did not?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.teach.method_page import markdown, table

FILE = Path("../../benchmarks/results/which_turn.json")
"""Where the stored measurement is, seen from a notebook of `notebooks/methods`."""
FOLDS = FILE.with_name("rudder_folds.json")
"""Where the stored measurement of cross-fitting is."""
BESIDE = ("earlier is better", "grpo", "matchtir", "shapley")
"""Shown beside a method: a rule that reads nothing, the outcome alone, a reference trace, the dearest evidence."""


def which_turn(names: str | Sequence[str], file: str | Path = FILE, beside: Sequence[str] = BESIDE) -> Any:
    """Show how often a search on a shortest path has more credit than one off it, in the stored measurement.

    Args:
        names: of the method in the file; several forms of it.
        file: of the measurement.
        beside: further lines, where the file has them.

    Returns:
        a table and what it is of; a sentence that says so where the method was not measured.
    """
    told = json.loads(Path(file).read_text(encoding="utf-8"))
    rows = {row["method"]: row for row in told["rows"]}
    wanted = [names] if isinstance(names, str) else list(names)
    there = [name for name in wanted if name in rows]
    if not there:
        return markdown(f"**Not measured yet**: {', '.join(f'`{name}`' for name in wanted)}.")
    lines = [_line(rows[name], name in there) for name in (*there, *beside) if name in rows]
    shown = table(["method", "within a rollout", "beside siblings", "calls of the model"], lines)
    first = rows[there[0]]
    note = (
        "How often a search on a shortest path has more credit than one off it; 0.5 is chance, ± the 95 % interval "
        f"over seeds. Within a rollout, {first['pairs']} pairs; beside siblings at the same turn, where the outcome "
        f"helps, {first['pairs_beside']}. The chain world, `tiny` at its warm start; stored, made by "
        f"`python {told['command']}`."
    )
    return markdown(f"{shown.data}\n\n{note}")


def _line(row: Mapping[str, Any], mine: bool) -> list[object]:
    cells = [f"{mean:.2f} ± {half:.2f}" for mean, half in (row["within"], row["beside"])]
    name = row["method"] if " " in row["method"] else f"`{row['method']}`"
    return [f"**{name}**" if mine else name, *cells, row["calls"]]


def cross_fitting(file: str | Path = FOLDS) -> Any:
    """Show what cross-fitting did to RUDDER's credit in the stored measurement, and count where it tells more.

    Args:
        file: of the measurement.

    Returns:
        a table, what it is of, and a sentence that says how the cross-fitted rows stand to the default.
    """
    told = json.loads(Path(file).read_text(encoding="utf-8"))
    head = ["world", "questions", "network", "within a rollout", "beside siblings", "error", "mean size"]
    figures = ("within", "beside", "error", "size")
    lines = [
        [row["world"], row["tasks"], _way(row["way"]), *(_interval(row.get(name)) for name in figures)]
        for row in told["rows"]
    ]
    note = (
        "How often a search on a shortest path has more credit than one off it, as above; the squared error of the "
        "last prediction before the answer, as a multiple of that of always saying the mean of the other questions; "
        "the mean size of credit before the last turn. ± the 95 % interval over seeds. `tiny` at the starts of the "
        f"stored curves; stored, made by `python {told['command']}`. {told.get('note', '')}"
    )
    return markdown(f"{table(head, lines).data}\n\n{note.strip()}\n\n{_verdict(told['rows'])}")


def _way(name: str) -> str:
    return f"`{name}`, the default" if name == "folds=0" else f"`{name}`" if name.startswith("folds") else name


def _interval(figure: Sequence[float] | None) -> str:
    return "" if figure is None else f"{figure[0]:.2f} ± {figure[1]:.2f}"


def _verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say in how many of the cross-fitted rows each figure is above or below the default's, intervals apart."""
    usual = {(row["world"], row["tasks"]): row for row in rows if row["way"] == "folds=0"}
    crossed = [row for row in rows if row["way"].startswith("folds=") and row["way"] != "folds=0"]
    said = []
    for name, words in (("within", "within a rollout"), ("beside", "beside siblings")):
        gaps = [
            (row[name][0] - base[name][0], row[name][1] + base[name][1])
            for row in crossed
            for base in [usual[row["world"], row["tasks"]]]
        ]
        more, less = sum(gap > both for gap, both in gaps), sum(-gap > both for gap, both in gaps)
        said.append(f"{words} in {more} clearly more often than the default, in {less} clearly less")
    learned = sum(row["error"][0] + row["error"][1] < 1 for row in crossed)
    return (
        f"Of {len(crossed)} cross-fitted rows, {'; '.join(said)} (intervals apart). In {learned} of them the network "
        "predicts questions it was not fitted to clearly better than the mean."
    )
