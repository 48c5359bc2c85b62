"""Each guard against a trap, and what the code looks like without it.

A mutation is text that stands exactly once in a file of the package, what it becomes, and the test that must then fail.
`test_mutations.py` says when a text has moved; `mutate.py` tries them all.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """A guard taken away.

    Args:
        trap: name of the trap, that of its test without `test_`.
        file: under `workbench/`.
        old: source text, exactly once in the file.
        new: what it becomes.
        test: `file.py::name` under `tests/traps/`.
        says: what goes wrong without the guard.
    """

    trap: str
    file: str
    old: str
    new: str
    test: str
    says: str


def of(test: str, *rows: tuple[str, str, str, str]) -> list[Mutation]:
    """Build the mutations of one test from rows (what goes wrong, file, old, new)."""
    trap = test.split("::test_")[1]
    return [Mutation(trap, file, old, new, test, says) for says, file, old, new in rows]
