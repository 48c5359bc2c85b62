"""What a stored measurement says of a method: does its credit tell the search that helped from one that did not?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.teach.method_page import markdown, table

FILE = Path("../../benchmarks/results/which_turn.json")
"""Where the stored measurement is, seen from a notebook of `notebooks/methods`."""
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
