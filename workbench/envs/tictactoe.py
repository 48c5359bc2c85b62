"""Tic-Tac-Toe against a rival of a given skill; the oracle searches every game to its end."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from workbench.envs.base import Task, Tool
from workbench.envs.games import INVALID, Game, Played, move_tool
from workbench.envs.oracle import Call
from workbench.envs.splits import split_of, tries
from workbench.seeds import SEED_BITS, seed_for

FREE = "."
LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
RIVALS = 10_000  # different rivals of one skill: each replies in its own way where it has a choice

NOT_ON_BOARD = "error : cells are 1 to 9"
NOT_FREE = "error : that cell is not free"
ENDS = {1: "you win", 0: "a draw", -1: "you lose"}


# -------------------------------------------------------------------------------------------- rules, and the search


def mover(board: str) -> str:
    """Return whose turn it is: "x" moves first.

    Example:
        >>> mover("x..."), mover("....")
        ('o', 'x')
    """
    return "x" if board.count("x") == board.count("o") else "o"


def winner(board: str) -> str:
    """Return who has three in a line, "" for nobody.

    Example:
        >>> winner("xxxoo....")
        'x'
    """
    return next((board[a] for a, b, c in LINES if board[a] != FREE and board[a] == board[b] == board[c]), "")


def free_cells(board: str) -> list[int]:
    """Return the free cells, counted from 0."""
    return [cell for cell, sign in enumerate(board) if sign == FREE]


def over(board: str) -> bool:
    """True if somebody has won or no cell is free."""
    return bool(winner(board)) or FREE not in board


def put(board: str, cell: int) -> str:
    """Return the board once whose turn it is has taken a cell."""
    return board[:cell] + mover(board) + board[cell + 1 :]


@cache
def value(board: str) -> int:
    """Return what a board is worth to whose turn it is, if both play as well as can be: 1 won, 0 drawn, -1 lost.

        V(s) = max_a -V(s after a);   at the end -1 if the other has won, 0 if nobody has

    There are 5,478 boards, each is searched once.

    Example:
        >>> value("." * 9), value("xx.oo...."), value("x...o...x")
        (0, 1, 0)
    """
    if winner(board):
        return -1
    return max((-value(put(board, cell)) for cell in free_cells(board)), default=0)


def move_values(board: str) -> dict[int, int]:
    """Return V of each free cell to whose turn it is: the value of the board it leaves, seen from there."""
    return {cell: -value(put(board, cell)) for cell in free_cells(board)}


@cache
def chance(board: str) -> float:
    """Return what a board is worth to whose turn it is if they play to win against one who takes any free cell.

    Tells apart moves that are worth the same against the best rival: a lost game can be lost late.
    """
    if winner(board):
        return -1.0
    if FREE not in board:
        return 0.0
    return max(chance_after(board, cell) for cell in free_cells(board))


def chance_after(board: str, cell: int) -> float:
    """Return `chance` of a move: the mean over the rival's replies."""
    after = put(board, cell)
    if over(after):
        return 1.0 if winner(after) else 0.0
    replies = [put(after, reply) for reply in free_cells(after)]
    return sum(chance(reply) for reply in replies) / len(replies)


def problem_of(board: str) -> str:
    """Say what keeps a string from being a position of a game; "" if it is one.

    Example:
        >>> problem_of("xx......."), problem_of("xo.......")
        ('x has 2 stones and o has 0: they take turns, x first', '')
    """
    if len(board) != 9 or set(board) - set("xo" + FREE):
        return f"expected nine signs of 'x', 'o' and '{FREE}'"
    xs, os = board.count("x"), board.count("o")
    if xs - os not in (0, 1):
        return f"x has {xs} stones and o has {os}: they take turns, x first"
    lines = {board[a] for a, b, c in LINES if board[a] != FREE and board[a] == board[b] == board[c]}
    if len(lines) == 2 or (lines and lines != {"x" if xs > os else "o"}):
        return "the game went on after it was won"
    return ""


# ------------------------------------------------------------------------------------------------------- the world


@dataclass
class TicTacToe(Game):
    """Play a game of Tic-Tac-Toe from a random opening.

        you are x : x 2 3 / 4 o 6 / 7 8 9
        play("9")   -> x 2 o / 4 o 6 / 7 8 x
        play("7")   -> x 2 o / o o 6 / x 8 x       (and so on; free cells show their number)

    The oracle says of a move what it is worth if both play on as well as can be: 1, 0 or -1; a move is on the path if
    none is worth more. A rival replies to a board always in the same way (its number and the board decide), so a turn
    can be branched. Splits go by opening and rival: openings are few and met in every split, games hardly.

    Args:
        opening: stones on the board at first, at most 6: as many as are drawn, 0 to this number, at random but without
            an end. An odd number leaves the second player to the agent.
        skill: how often the rival makes a best move, else any; in [0, 1].
        draw: what a draw is worth, between 0 (a loss) and 1 (a win).
        seed: of the worked examples.
        max_turns: turns of an episode, refused moves included; 0 is 7, two more than a game can have.

    Source: VPR (arXiv:2605.10325) has this game with a search oracle; opening, skill and outcome are ours.

    Example:
        >>> env = TicTacToe()
        >>> task = env.tasks("train", 1)[0]
        >>> env.reset(task)[0].text
        'you are o : x 2 o / x 5 6 / 7 8 9'
    """

    opening: int = 4
    skill: float = 0.5
    draw: float = 0.5
    seed: int = 0
    max_turns: int = 0
    NUMBERS = {"play": 1}
    ARGUMENT = "cell"

    def __post_init__(self) -> None:
        for name, low, high in (("opening", 0, 6), ("skill", 0, 1), ("draw", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: expected {low} to {high}, got {getattr(self, name)!r}")
        self.max_turns = self.max_turns or 7

    @property
    def tools(self) -> tuple[Tool, ...]:
        """`play(cell)`"""
        return (move_tool("play", "Take a free cell of the board, by its number.", "cell"),)

    def generate(self, split: str, seed: int, number: int) -> Task:
        """Draw an opening and a rival until they belong to the split."""
        name = f"tictactoe-{self.opening}-{self.skill:g}-{split}-{seed}-{number}"
        rng = random.Random(seed_for(name))
        for _ in tries(name):
            board, rival = _opening(rng.randint(0, self.opening), rng), rng.randrange(RIVALS)
            if not over(board) and split_of("tictactoe", board, str(rival)) == split:
                break
        data = {"board": board, "rival": rival, "split": split}
        return Task(name, f"you are {mover(board)} : {self.view(board)}", {"value": value(board)}, data)

    def begin(self, task: Task) -> str:
        """Return the opening."""
        board = task.data.get("board")
        if not isinstance(board, str) or not isinstance(task.data.get("rival"), int):
            raise ValueError(f"task {task.id!r}: expected data with a 'board' and the number of a 'rival'")
        if not problem_of(board) and over(board):
            raise ValueError(f"task {task.id!r}: its game is over already: {board!r}")
        return board

    def check_position(self, task: Task, position: str) -> None:
        """Refuse what is no board of a game."""
        if problem := problem_of(position):
            raise ValueError(f"task {task.id!r}: {position!r} is no position: {problem}")

    def view(self, position: str) -> str:
        """Return the board by rows; a free cell shows its number."""
        signs = [str(cell + 1) if sign == FREE else sign for cell, sign in enumerate(position)]
        return " / ".join(" ".join(signs[row : row + 3]) for row in (0, 3, 6))

    def play(self, task: Task, position: str, tool: str, numbers: Sequence[int]) -> Played:
        """Take a cell, and let the rival reply."""
        cell = numbers[0] - 1
        if not 0 <= cell < 9:
            return Played(position, INVALID, False, refused=NOT_ON_BOARD)
        if position[cell] != FREE:
            return Played(position, INVALID, False, refused=NOT_FREE)
        me, values = mover(position), move_values(position)
        after = put(position, cell)
        if not over(after):
            after = put(after, self.reply(after, int(task.data["rival"])))
        verdict, on_path = float(values[cell]), values[cell] == max(values.values())
        if not over(after):
            return Played(after, verdict, on_path)
        result = 0 if not winner(after) else 1 if winner(after) == me else -1
        outcome = {1: 1.0, 0: self.draw, -1: 0.0}[result]
        return Played(after, verdict, on_path, ended=ENDS[result], outcome=outcome)

    def reply(self, board: str, rival: int) -> int:
        """Return the cell a rival takes: one of the best (a win at once if there is) by `skill`, else any free one."""
        rng = random.Random(seed_for("tictactoe rival", rival, board))
        values = move_values(board)
        best = [cell for cell in values if winner(put(board, cell))]
        best = best or [cell for cell, worth in values.items() if worth == max(values.values())]
        skilled = rng.getrandbits(SEED_BITS) / 2**SEED_BITS < self.skill
        return rng.choice(best if skilled else list(values))

    def legal(self) -> list[Call]:
        """Return the free cells."""
        return [self.call("play", cell + 1) for cell in free_cells(self.progress.position)]

    def best(self) -> Call:
        """Return of the moves that are worth most the one that does best against a rival who moves at random."""
        board = self.progress.position
        values = move_values(board)
        return self.call("play", max(values, key=lambda cell: (values[cell], chance_after(board, cell))) + 1)


def _opening(stones: int, rng: random.Random) -> str:
    board = FREE * 9
    for _ in range(stones):
        board = put(board, rng.choice(free_cells(board))) if not over(board) else board
    return board
