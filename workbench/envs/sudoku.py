"""Sudoku of 4x4 or 9x9 cells; the oracle counts how many ways a grid can still be completed."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from workbench.envs.base import Task, Tool
from workbench.envs.games import INVALID, Game, Played, move_tool
from workbench.envs.oracle import Call
from workbench.envs.splits import split_of, tries
from workbench.seeds import seed_for

FREE = "."
SIZES = (4, 9)
FORCED, MOST_CONSTRAINED, LEGAL, WRONG = 2.0, 1.0, 0.5, -1.0
"""Worth of a placement: the only digit its cell can take; in a cell with fewest digits left; any other that leaves the
grid solvable; one that does not. Source: VPR, the rewards of its Sudoku."""

NOT_ON_GRID = "error : rows, columns and digits are 1 to {size}"
NOT_FREE = "error : that cell is not free"
CONFLICT = "error : that digit is in its row, column or box already"


# ------------------------------------------------------------------------------------------- rules, and the solver


def size_of(grid: str) -> int:
    """Return the side of a grid: 4 of 16 cells."""
    return math.isqrt(len(grid))


@lru_cache(maxsize=4)
def peers(size: int) -> tuple[tuple[int, ...], ...]:
    """Return for each cell those it must differ from: of its row, column and box, without itself."""
    box = math.isqrt(size)
    places = [(cell // size, cell % size) for cell in range(size * size)]

    def related(a: tuple[int, int], b: tuple[int, int]) -> bool:
        same_box = (a[0] // box, a[1] // box) == (b[0] // box, b[1] // box)
        return a != b and (a[0] == b[0] or a[1] == b[1] or same_box)

    return tuple(tuple(n for n, b in enumerate(places) if related(a, b)) for a in places)


def candidates(grid: str, cell: int) -> list[str]:
    """Return the digits that a free cell can take without a conflict now.

    Example:
        >>> candidates("12..34..........", 2)
        ['3', '4']
    """
    size = size_of(grid)
    taken = {grid[other] for other in peers(size)[cell]}
    return [digit for digit in map(str, range(1, size + 1)) if digit not in taken]


def free_cells(grid: str) -> list[int]:
    """Return the free cells."""
    return [cell for cell, sign in enumerate(grid) if sign == FREE]


def solutions(grid: str, most: int = 2) -> list[str]:
    """Return the ways to complete a grid, at most `most` of them; none if it has a conflict or a cell without a digit.

    Depth-first; the free cell with the fewest digits left is filled first.

    Args:
        grid: row by row, "." for a free cell.
        most: where to stop; 2 tell a unique solution from several.

    Example:
        >>> solutions("12343412214343..")
        ['1234341221434321']
    """
    if any(sign != FREE and sign not in candidates(_without(grid, cell), cell) for cell, sign in enumerate(grid)):
        return []
    return _completed(grid, most)


def _completed(grid: str, most: int) -> list[str]:
    free = free_cells(grid)
    if not free:
        return [grid]
    cell, digits = min(((cell, candidates(grid, cell)) for cell in free), key=lambda pair: len(pair[1]))
    found: list[str] = []
    for digit in digits:
        found += _completed(_with(grid, cell, digit), most - len(found))
        if len(found) >= most:
            break
    return found


@lru_cache(maxsize=50_000)
def completable(grid: str) -> bool:
    """True if a grid can be completed."""
    return bool(solutions(grid, 1))


def placement_value(grid: str, cell: int, digit: str) -> float:
    """Return what a placement without a conflict is worth; see `FORCED` and the rest.

    Where the grid cannot be completed any more, no placement can mend it: all are `WRONG`.
    """
    if not completable(_with(grid, cell, digit)):
        return WRONG
    left = {free: len(candidates(grid, free)) for free in free_cells(grid)}
    if left[cell] == 1:
        return FORCED
    return MOST_CONSTRAINED if left[cell] == min(left.values()) else LEGAL


def drawn(size: int, rng: random.Random) -> str:
    """Draw a full grid: a pattern whose digits, rows and columns (within their bands) are shuffled."""
    box = math.isqrt(size)

    def order() -> list[int]:
        bands = rng.sample(range(box), box)
        return [band * box + line for band in bands for line in rng.sample(range(box), box)]

    rows, columns, digits = order(), order(), rng.sample(range(1, size + 1), size)
    return "".join(str(digits[(box * (r % box) + r // box + c) % size]) for r in rows for c in columns)


def puzzle(full: str, empty: int, rng: random.Random) -> str:
    """Free cells of a full grid, at random, as long as it has one solution only; return it with `empty` free cells.

    Returns:
        the grid; with fewer free cells where no further one can be freed.
    """
    grid = full
    for cell in rng.sample(range(len(full)), len(full)):
        freed = _with(grid, cell, FREE)
        if len(free_cells(freed)) <= empty and len(solutions(freed)) == 1:
            grid = freed
    return grid


def _with(grid: str, cell: int, sign: str) -> str:
    return grid[:cell] + sign + grid[cell + 1 :]


def _without(grid: str, cell: int) -> str:
    return _with(grid, cell, FREE)


# ------------------------------------------------------------------------------------------------------- the world


@dataclass
class Sudoku(Game):
    """Fill a Sudoku, a cell a turn.

        1 2 3 4 / 3 4 1 2 / 2 . 4 3 / 4 3 . 1
        place("3 2 1")  -> 1 2 3 4 / 3 4 1 2 / 2 1 4 3 / 4 3 . 1
        place("4 3 2")  -> solved

    Every puzzle has one solution. A digit that is in its row, column or box already is refused; one that conflicts with
    nothing is written down, also where the grid then has no solution: such a turn is wrong, and nothing mends it. The
    game ends when the grid is full or no free cell can take a digit.

    Args:
        size: 4 or 9.
        empty: free cells at first; 0 is 6 of 16, or 30 of 81. Where so many leave more than one solution, there are
            fewer.
        seed: of the worked examples.
        max_turns: turns of an episode, refused moves included; 0 is `empty` + 3.

    Source: VPR (arXiv:2605.10325): the oracle's values. The release ends an episode at a wrong placement or not by its
        configuration; here it goes on.

    Example:
        >>> env = Sudoku(empty=4)
        >>> task = env.tasks("train", 1)[0]
        >>> env.reset(task)[0].text.count("."), len(task.gold["calls"])
        (4, 4)
    """

    size: int = 4
    empty: int = 0
    seed: int = 0
    max_turns: int = 0
    NUMBERS = {"place": 3}
    ARGUMENT = "cell"

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ValueError(f"size: expected one of {SIZES}, got {self.size!r}")
        self.empty = self.empty or {4: 6, 9: 30}[self.size]
        most = {4: 11, 9: 55}[self.size]
        if not 1 <= self.empty <= most:
            raise ValueError(f"empty: expected 1 to {most} of a grid of {self.size}x{self.size}, got {self.empty!r}")
        self.max_turns = self.max_turns or self.empty + 3

    @property
    def tools(self) -> tuple[Tool, ...]:
        """`place(cell)`: row, column, digit."""
        return (move_tool("place", "Write a digit into a free cell: row, column, digit.", "cell"),)

    def generate(self, split: str, seed: int, number: int) -> Task:
        """Draw full grids until one belongs to the split, and free cells of it."""
        name = f"sudoku-{self.size}-{self.empty}-{split}-{seed}-{number}"
        rng = random.Random(seed_for(name))
        for _ in tries(name):
            full = drawn(self.size, rng)
            if split_of("sudoku", full) == split:
                break
        grid = puzzle(full, self.empty, rng)
        calls = [self.call("place", *_place(cell, self.size), int(full[cell])) for cell in free_cells(grid)]
        gold = {"answer": full, "aliases": [full], "calls": calls}
        return Task(name, self.view(grid), gold, {"grid": grid, "split": split})

    def begin(self, task: Task) -> str:
        """Return the puzzle."""
        grid = task.data.get("grid")
        if not isinstance(grid, str):
            raise ValueError(f"task {task.id!r}: expected data with a 'grid' of {self.size * self.size} signs")
        return grid

    def check_position(self, task: Task, position: str) -> None:
        """Refuse what is no grid of this size, or has a digit twice in a row, column or box."""
        cells, signs = self.size * self.size, {*map(str, range(1, self.size + 1)), FREE}
        problem = ""
        if not isinstance(position, str) or len(position) != cells or set(position) - signs:
            problem = f"expected {cells} signs of 1 to {self.size} and '{FREE}'"
        elif any(s != FREE and s not in candidates(_without(position, n), n) for n, s in enumerate(position)):
            problem = "a digit is twice in a row, column or box"
        if problem:
            raise ValueError(f"task {task.id!r}: {position!r} is no position: {problem}")

    def view(self, position: str) -> str:
        """Return the grid row by row."""
        rows = [position[n : n + self.size] for n in range(0, len(position), self.size)]
        return " / ".join(" ".join(row) for row in rows)

    def play(self, task: Task, position: str, tool: str, numbers: Sequence[int]) -> Played:
        """Write a digit down."""
        row, column, digit = numbers
        if not all(1 <= number <= self.size for number in numbers):
            return Played(position, INVALID, False, refused=NOT_ON_GRID.format(size=self.size))
        cell = (row - 1) * self.size + column - 1
        if position[cell] != FREE:
            return Played(position, INVALID, False, refused=NOT_FREE)
        if str(digit) not in candidates(position, cell):
            return Played(position, WRONG, False, refused=CONFLICT)
        worth, after = placement_value(position, cell, str(digit)), _with(position, cell, str(digit))
        if any(candidates(after, free) for free in free_cells(after)):
            return Played(after, worth, worth > 0)
        solved = FREE not in after
        return Played(after, worth, worth > 0, ended="solved" if solved else "stuck", outcome=float(solved))

    def known(self, position: str) -> dict[str, bool | float]:
        """Return whether a grid can still be completed, and how many placements that takes (-1: it cannot)."""
        alive = completable(position)
        return {"oracle_reachable": alive, "oracle_distance": len(free_cells(position)) if alive else -1}

    def legal(self) -> list[Call]:
        """Return the placements without a conflict."""
        grid = self.progress.position
        return [self._call(cell, digit) for cell in free_cells(grid) for digit in candidates(grid, cell)]

    def best(self) -> Call:
        """Return the placement of the solution in the free cell with the fewest digits left.

        In a grid that cannot be completed: any that conflicts with nothing.
        """
        grid = self.progress.position
        found = solutions(grid, 1)
        if not found:
            return self.legal()[0] if self.legal() else self.call("place", 1, 1, 1)
        cell = min(free_cells(grid), key=lambda free: len(candidates(grid, free)))
        return self._call(cell, found[0][cell])

    def _call(self, cell: int, digit: str) -> Call:
        return self.call("place", *_place(cell, self.size), int(digit))


def _place(cell: int, size: int) -> tuple[int, int]:
    """Return (row, column) of a cell, counted from 1."""
    return cell // size + 1, cell % size + 1


def row_only(env: Sudoku, best: Call) -> Call | None:
    """Look at the row alone, and write its lowest missing digit: a habit for `workbench.envs.misread`.

    Returns:
        the best call's cell with that digit, which its column or its box may have already; None where it is right.

    Example:
        >>> env = Sudoku()
        >>> _ = env.reset(Task("sudoku-4-2", "", {}, {"grid": "1..4341221434321"}))
        >>> row_only(env, env.call("place", 1, 2, 2)), row_only(env, env.call("place", 1, 3, 3))["arguments"]
        (None, {'cell': '1 3 2'})
    """
    row, column, digit = (int(number) for number in best["arguments"][env.ARGUMENT].split())
    line = env.progress.position[(row - 1) * env.size : row * env.size]
    first = min(missing for missing in range(1, env.size + 1) if str(missing) not in line)
    return None if first == digit else env.call("place", row, column, first)
