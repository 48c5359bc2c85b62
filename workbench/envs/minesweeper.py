"""Minesweeper on a small board; the oracle knows the exact risk of every cell, not where the mines are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.envs.base import Task, Tool
from workbench.envs.games import INVALID, Game, Played, move_tool
from workbench.envs.mines import FLAG, HIDDEN, MINE, neighbours, posterior
from workbench.envs.oracle import Call
from workbench.envs.splits import split_of, tries
from workbench.seeds import seed_for

SAFE, CERTAIN_FLAG, LEAST_RISK, OTHER, OTHER_FLAG = 2.0, 1.0, 1.0, 0.0, -1.0
"""Worth of a move: revealing a cell that is certainly safe; flagging one that is certainly a mine; revealing one of the
least risk where none is safe; any other reveal; any other flag. Source: VPR, the rewards of its Minesweeper."""
NEAR = 1e-12  # risks closer than this are the same risk

NOT_ON_BOARD = "error : rows are 1 to {rows} and columns 1 to {columns}"
NOT_HIDDEN = "error : that cell is not hidden"


@dataclass
class Minesweeper(Game):
    """Reveal every cell without a mine.

        mines 2 : 0 1 # # / 0 1 # # / 1 2 # # / # # # #
        reveal("1 3")  -> 0 1 1 # / ...
        flag("2 3")    -> the player's note; it tells nothing
        reveal("3 3")  -> boom, or a number

    A number counts the mines around its cell; a 0 reveals what is around it. The game begins with one cell revealed, a
    0 unless there are too many mines. The oracle's risk of a cell is exact for one who sees the board and knows how
    many mines there are; it never looks at the mines. So a wise move can lose, and a rash one win.

    Args:
        rows, columns: of the board, 2 to 8 each.
        mines: at least 1, and at least one cell stays free beside the first.
        seed: of the worked examples.
        max_turns: turns of an episode, refused moves and flags included; 0 is one for each safe cell, and 3.

    Source: VPR (arXiv:2605.10325): 5x5 cells, 5 mines, and the oracle's values.
    Differs: the release falls back on a local estimate beyond 50,000 layouts; here the risk is exact on every board.

    Example:
        >>> env = Minesweeper(rows=3, columns=4, mines=2)
        >>> env.reset(env.tasks("train", 1)[0])[0].text
        'mines 2 : # # 1 0 / # # 2 0 / # # 1 0'
    """

    rows: int = 5
    columns: int = 5
    mines: int = 5
    seed: int = 0
    max_turns: int = 0
    NUMBERS = {"flag": 2, "reveal": 2}
    ARGUMENT = "cell"

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            if not 2 <= getattr(self, name) <= 8:
                raise ValueError(f"{name}: expected 2 to 8, got {getattr(self, name)!r}")
        if not 1 <= self.mines <= self.rows * self.columns - 2:
            raise ValueError(f"mines: expected 1 to {self.rows * self.columns - 2} of this board, got {self.mines!r}")
        self.max_turns = self.max_turns or self.rows * self.columns - self.mines + 3

    @property
    def tools(self) -> tuple[Tool, ...]:
        """`flag(cell)` and `reveal(cell)`: row, column."""
        return (
            move_tool("flag", "Mark a hidden cell as a mine: row, column.", "cell"),
            move_tool("reveal", "Reveal a hidden cell: row, column.", "cell"),
        )

    def generate(self, split: str, seed: int, number: int) -> Task:
        """Draw the first cell, then lay the mines beside it, until the board belongs to the split.

        In this order every layout that fits what is shown is as likely as any other, which the risks count on.
        """
        size = f"{self.rows}x{self.columns}.{self.mines}"
        name = f"minesweeper-{size}-{split}-{seed}-{number}"
        rng, cells = random.Random(seed_for(name)), range(self.rows * self.columns)
        for _ in tries(name):
            start = rng.choice(cells)
            clear = {start, *neighbours(self.rows, self.columns)[start]}
            open_ = [cell for cell in cells if cell not in clear]
            open_ = open_ if len(open_) >= self.mines else [cell for cell in cells if cell != start]
            laid = sorted(rng.sample(open_, self.mines))
            first = self._revealed(HIDDEN * len(cells), start, laid)
            if not self._won(first) and split_of("minesweeper", size, str(start), *map(str, laid)) == split:
                break
        data = {"mines": laid, "start": start, "split": split}
        return Task(name, f"mines {self.mines} : {self.view(first)}", {}, data)

    def begin(self, task: Task) -> str:
        """Return the board with its first cell revealed."""
        laid, start = task.data.get("mines"), task.data.get("start")
        cells = range(self.rows * self.columns)
        fits = isinstance(laid, Sequence) and len(set(laid)) == self.mines and all(c in cells for c in laid)
        if not fits or start not in cells or start in laid:
            raise ValueError(
                f"task {task.id!r}: expected data with {self.mines} 'mines' on the board, 'start' beside them"
            )
        first = self._revealed(HIDDEN * len(cells), start, laid)
        if self._won(first):
            raise ValueError(f"task {task.id!r}: its first cell reveals all there is to reveal; there is nothing to do")
        return first

    def check_position(self, task: Task, position: str) -> None:
        """Refuse what does not show the numbers of the task's board."""
        laid = task.data["mines"]
        problem = ""
        if not isinstance(position, str) or len(position) != self.rows * self.columns:
            problem = f"expected {self.rows * self.columns} signs"
        else:
            for cell, sign in enumerate(position):
                truth = MINE if cell in laid else str(self._number(cell, laid))
                if sign not in (HIDDEN, FLAG, truth):
                    problem = problem or f"cell {cell} shows {sign!r} where {truth!r} is"
        if problem:
            raise ValueError(f"task {task.id!r}: {position!r} is no position: {problem}")

    def view(self, position: str) -> str:
        """Return the board row by row."""
        rows = [position[n : n + self.columns] for n in range(0, len(position), self.columns)]
        return " / ".join(" ".join(row) for row in rows)

    def risks(self, position: str) -> tuple[float | None, ...]:
        """Return for each cell the exact probability that it is a mine; None where it is revealed."""
        return posterior(position, self.rows, self.columns, self.mines)

    def play(self, task: Task, position: str, tool: str, numbers: Sequence[int]) -> Played:
        """Reveal a cell, or flag it."""
        row, column = numbers
        if not (1 <= row <= self.rows and 1 <= column <= self.columns):
            return Played(position, INVALID, False, refused=NOT_ON_BOARD.format(rows=self.rows, columns=self.columns))
        cell = (row - 1) * self.columns + column - 1
        if position[cell] not in (HIDDEN, FLAG) or (tool, position[cell]) == ("flag", FLAG):
            return Played(position, INVALID, False, refused=NOT_HIDDEN)
        risks = self.risks(position)
        worth, known = move_worth(tool, cell, risks), {"oracle_risk": risks[cell]}
        if tool == "flag":
            return Played(position[:cell] + FLAG + position[cell + 1 :], worth, worth > 0, columns=known)
        laid = task.data["mines"]
        if cell in laid:
            after = position[:cell] + MINE + position[cell + 1 :]
            return Played(after, worth, worth > 0, ended="boom", outcome=0.0, columns=known)
        after = self._revealed(position, cell, laid)
        ends = {"ended": "all found", "outcome": 1.0} if self._won(after) else {}
        return Played(after, worth, worth > 0, columns=known, **ends)  # type: ignore[arg-type]

    def legal(self) -> list[Call]:
        """Return the hidden cells, each to be revealed; a flag is legal, too, and never needed."""
        hidden = [cell for cell, sign in enumerate(self.progress.position) if sign in (HIDDEN, FLAG)]
        return [self._call("reveal", cell) for cell in hidden]

    def best(self) -> Call:
        """Return the first cell of the least risk, to be revealed."""
        risks = {cell: risk for cell, risk in enumerate(self.risks(self.progress.position)) if risk is not None}
        return self._call("reveal", min(risks, key=lambda cell: (round(risks[cell], 12), cell)))

    def _call(self, tool: str, cell: int) -> Call:
        return self.call(tool, cell // self.columns + 1, cell % self.columns + 1)

    def _won(self, view: str) -> bool:
        return sum(sign.isdigit() for sign in view) == len(view) - self.mines

    def _number(self, cell: int, laid: Sequence[int]) -> int:
        return sum(other in laid for other in neighbours(self.rows, self.columns)[cell])

    def _revealed(self, view: str, cell: int, laid: Sequence[int]) -> str:
        """Reveal a cell without a mine; a 0 reveals all around it, and so on."""
        signs, todo = list(view), [cell]
        while todo:
            here = todo.pop()
            if signs[here].isdigit():
                continue
            signs[here] = str(self._number(here, laid))
            if signs[here] == "0":
                todo += neighbours(self.rows, self.columns)[here]
        return "".join(signs)


def move_worth(tool: str, cell: int, risks: Sequence[float | None]) -> float:
    """Return what a move is worth, by the risks of all cells; see `SAFE` and the rest.

    Example:
        >>> [move_worth("reveal", cell, (0.5, 0.25, 1.0)) for cell in range(2)], move_worth("flag", 2, (0.5, 0.25, 1.0))
        ([0.0, 1.0], 1.0)
    """
    risk = risks[cell]
    assert risk is not None, "the cell is hidden"
    if tool == "flag":
        return CERTAIN_FLAG if risk > 1 - NEAR else OTHER_FLAG
    if risk < NEAR:
        return SAFE
    least = min(other for other in risks if other is not None)
    return LEAST_RISK if risk < least + NEAR else OTHER
