"""Where can the mines be? The exact posterior of a Minesweeper board, by enumeration over its frontier.

A layout is any way to lay M mines on the hidden cells that fits every number shown; all are alike. Hidden cells beside
a number are the frontier: its connected parts are enumerated one by one, each way counted by its mines. The cells
beyond (there are F of them) hold what is left:

    ways(k mines on the frontier) = C(F, M - k) x prod over parts, convolved over how k splits among them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import comb, prod

HIDDEN, FLAG, MINE = "#", "F", "*"

Constraint = tuple[frozenset[int], int]
"""(hidden cells, how many mines they hold)"""
Counts = Mapping[int, tuple[int, Mapping[int, int]]]
"""mines of a part -> (ways, for each cell the ways in which it is a mine)"""


@lru_cache(maxsize=64)
def neighbours(rows: int, columns: int) -> tuple[tuple[int, ...], ...]:
    """Return for each cell, row by row, the up to eight cells around it.

    Example:
        >>> neighbours(2, 3)[0]
        (1, 3, 4)
    """
    places = [(r, c) for r in range(rows) for c in range(columns)]
    return tuple(
        tuple(n for n, (r, c) in enumerate(places) if (r, c) != here and abs(r - here[0]) < 2 and abs(c - here[1]) < 2)
        for here in places
    )


def shown(view: str) -> list[int]:
    """Return the cells that show a number; flags are the player's own and tell nothing."""
    return [cell for cell, sign in enumerate(view) if sign.isdigit()]


def constraints(view: str, around: Sequence[Sequence[int]]) -> list[Constraint]:
    """Return what each number says of the hidden cells beside it."""
    hidden = {cell for cell, sign in enumerate(view) if not sign.isdigit()}
    said = [(frozenset(hidden & set(around[cell])), int(view[cell])) for cell in shown(view)]
    return list(dict.fromkeys(said))


def connected(rules: Sequence[Constraint]) -> list[list[Constraint]]:
    """Split constraints into parts that share no cell."""
    parts: list[tuple[set[int], list[Constraint]]] = []
    for rule in rules:
        joined = [part for part in parts if part[0] & rule[0]]
        parts = [part for part in parts if not part[0] & rule[0]]
        cells = set(rule[0]).union(*(part[0] for part in joined))
        parts.append((cells, [r for part in joined for r in part[1]] + [rule]))
    return [part for _, part in parts]


def alike(rules: Sequence[Constraint]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the cells of a part in classes that the same constraints speak of: [(cells, numbers of those rules), ...].

    Cells of a class can change places, so only how many of them are mines matters.
    """
    classes: dict[tuple[int, ...], list[int]] = {}
    for cell in sorted({cell for cells, _ in rules for cell in cells}):
        classes.setdefault(tuple(n for n, (cells, _) in enumerate(rules) if cell in cells), []).append(cell)
    return [(tuple(classes[of]), of) for of in sorted(classes)]


def part_counts(rules: Sequence[Constraint], most: int) -> Counts:
    """Count the ways to lay mines on the cells of one part, by the number of mines, at most `most`.

    Depth-first over classes of cells that are alike: k mines among n of them are C(n, k) ways, and each of the cells is
    a mine in C(n - 1, k - 1) of those. A branch from which a constraint cannot be met is left at once.
    """
    classes = alike(rules)
    need, left = [number for _, number in rules], [len(cells) for cells, _ in rules]
    ways: dict[int, int] = {}
    where: dict[int, dict[int, int]] = {}

    def count(laid: Sequence[int]) -> None:
        total, every = sum(laid), prod(comb(len(cells), k) for (cells, _), k in zip(classes, laid, strict=True))
        ways[total] = ways.get(total, 0) + every
        found = where.setdefault(total, {})
        for (cells, _), k in zip(classes, laid, strict=True):
            as_mine = every // comb(len(cells), k) * comb(len(cells) - 1, k - 1) if k else 0
            found.update({cell: found.get(cell, 0) + as_mine for cell in cells})

    def lay(laid: tuple[int, ...]) -> None:
        if len(laid) == len(classes):
            count(laid)
            return
        cells, of = classes[len(laid)]
        for k in range(min(len(cells), most - sum(laid)) + 1):
            for n in of:
                need[n] -= k
                left[n] -= len(cells)
            if all(0 <= need[n] <= left[n] for n in of):
                lay((*laid, k))
            for n in of:
                need[n] += k
                left[n] += len(cells)

    if all(0 <= n <= size for n, size in zip(need, left, strict=True)):
        lay(())
    return {k: (total, where[k]) for k, total in ways.items()}


def convolved(a: Mapping[int, int], b: Mapping[int, int]) -> dict[int, int]:
    """Return the ways of two parts together, by their mines.

    Example:
        >>> convolved({0: 1, 1: 2}, {1: 3})
        {1: 3, 2: 6}
    """
    out: dict[int, int] = {}
    for i, x in a.items():
        for j, y in b.items():
            out[i + j] = out.get(i + j, 0) + x * y
    return out


@lru_cache(maxsize=20_000)
def posterior(view: str, rows: int, columns: int, mines: int) -> tuple[float | None, ...]:
    """Return for each cell the probability that it is a mine; None for a cell that shows its number.

    Args:
        view: row by row: a digit for a number shown, else hidden ("#", or "F" for a flag).
        rows, columns: of the board.
        mines: on the whole board.

    Raises:
        ValueError: no layout fits the numbers.

    Example:
        >>> posterior("1##", 1, 3, 1)
        (None, 1.0, 0.0)
    """
    around = neighbours(rows, columns)
    parts = [part_counts(part, mines) for part in connected([r for r in constraints(view, around) if r[0]])]
    frontier = {cell for rule in constraints(view, around) for cell in rule[0]}
    hidden = [cell for cell, sign in enumerate(view) if not sign.isdigit()]
    beyond = [cell for cell in hidden if cell not in frontier]
    impossible = any(not cells and number for cells, number in constraints(view, around))
    outside = {k: comb(len(beyond), k) for k in range(min(len(beyond), mines) + 1)}
    every = [{k: ways for k, (ways, _) in part.items()} for part in parts] + [outside]
    total = _ways(every, mines)
    if total == 0 or impossible:
        raise ValueError(f"{view!r} is no position: no way to lay {mines} mines fits its numbers")
    risk: dict[int, float] = {}
    for number, part in enumerate(parts):
        rest = [ways for n, ways in enumerate(every) if n != number]
        behind = {k: _ways(rest, mines - k) for k in part}
        for cell in {cell for _, cells in part.values() for cell in cells}:
            risk[cell] = sum(cells.get(cell, 0) * behind[k] for k, (_, cells) in part.items()) / total
    if beyond:  # all alike: the mean number of mines there, shared
        rest = every[:-1]
        mean = sum(k * ways * _ways(rest, mines - k) for k, ways in outside.items()) / total
        risk.update(dict.fromkeys(beyond, mean / len(beyond)))
    return tuple(None if sign.isdigit() else risk.get(cell, 0.0) for cell, sign in enumerate(view))


def _ways(parts: Sequence[Mapping[int, int]], mines: int) -> int:
    """Return in how many ways parts hold exactly so many mines together."""
    together: dict[int, int] = {0: 1}
    for part in parts:
        together = {k: ways for k, ways in convolved(together, part).items() if k <= mines}
    return together.get(mines, 0)
