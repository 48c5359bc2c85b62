"""What all verbs print with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Problem(Exception):
    """What went wrong, in one sentence for the reader."""


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_summary(summary: Mapping[str, Any]) -> None:
    """Print names and values in two columns."""
    for name, value in summary.items():
        print(f"{name.replace('_', ' '):26}{'unknown' if value is None else value}")
