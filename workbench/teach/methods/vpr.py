"""VPR: what an oracle says of each action, compared with all actions of the batch at the same turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from workbench.recipes import vpr_turns
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values, same, values
from workbench.teach.method_page import hand, turns
from workbench.teach.table import Table
from workbench.teach.turn_parts import (
    Peers,
    Row,
    Rows,
    hints,
    of_batch,
    of_place,
    of_question,
    of_rollout,
    of_turn,
    standard,
    to_go,
    turn_table,
)


def truth(value: Rows, group: Sequence[str], fewest: int) -> Rows:
    """Return the credit of every turn, by the library's recipe."""
    batch = hand(group, {"oracle_value": value})
    return turns(vpr_turns(oracle="oracle_value", fewest=fewest, kl=0.0), batch)


# ------------------------------------------------------------------------------------------------------- the parts

Few = Callable[[Rows, Rows, int, int], float]
"""(values, z-scores in the whole batch, rollout, turn) -> credit of a turn that few rollouts reached."""


def batch_scale(value: Rows, everywhere: Rows, i: int, t: int) -> float:
    """Compare with the whole batch."""
    return everywhere[i][t] or 0.0


def nothing(value: Rows, everywhere: Rows, i: int, t: int) -> float:
    """Give nothing."""
    return 0.0


def raw(value: Rows, everywhere: Rows, i: int, t: int) -> float:
    """Give the oracle's value."""
    return value[i][t] or 0.0


def made(
    peers: Peers = of_place,
    few: Few | None = batch_scale,
    at_most: bool = False,
    ddof: int = 0,
    divide: bool = True,
    before: Callable[[Rows], Rows] | None = None,
    after: Callable[[Rows], Rows] | None = None,
) -> Solution:
    """Return a solution made of these parts; the defaults are right."""

    def solution(value: Rows, group: list[str], fewest: int) -> Rows:
        x = before(value) if before else value
        here = standard(x, group, peers, ddof=ddof, divide=divide)
        whole = standard(x, group, of_batch, ddof=ddof, divide=divide)
        reached = [sum(t < len(row) for row in value) for t in range(max(len(row) for row in value))]

        def one(i: int, t: int) -> float:
            short = reached[t] <= fewest if at_most else reached[t] < fewest
            return few(x, whole, i, t) if few is not None and short else here[i][t] or 0.0

        out: Rows = [[one(i, t) for t in range(len(row))] for i, row in enumerate(value)]
        return after(out) if after else out

    return solution


right = made()


def summed(rows: Rows) -> Rows:
    """Sum what follows."""
    return to_go(rows, 1.0)


def best_only(rows: Rows) -> Rows:
    """Count only whether an action was the best kind."""
    top = max(x or 0.0 for row in rows for x in row)
    return [[float(x == top) for x in row] for row in rows]


def last_only(rows: Rows) -> Rows:
    """Keep the last turn's credit for all."""
    out: Rows = []
    for row in rows:
        last: Row = [row[-1]] * len(row)
        out.append(last)
    return out


def cases(rng: Random) -> list[Args]:
    """Six rollouts of equal length; then some that end early, so that few reach the last turns."""
    grades = (2.0, 1.0, 0.5, -1.0, -2.0)
    out: list[Args] = []
    for number in range(12):
        group = list("AAABBB") if number % 2 else list("AABBCC")
        sizes = [2] * 6 if number < 2 else [rng.randint(1, 4) for _ in group]
        out.append(([[rng.choice(grades) for _ in range(n)] for n in sizes], group, rng.choice((3, 4))))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: the oracle's value of each turn."""
    value, group, fewest = args
    caption = f"Rollouts, a line a turn; turns that fewer than {fewest} rollouts reached count as few."
    return turn_table(caption, [("oracle", value)], group, got, want)


def _questions_do_not_matter(args: Args, got: Values, solution: Solution) -> bool:
    value, group, fewest = args
    return same(got, values(solution(value, group[::-1], fewest)))


ex = Exercise(
    "ex",
    "the credit of every turn",
    cases,
    truth,
    (
        Misconception(
            "siblings only",
            "You compare with the same turn of the same question. The first variant compares all rollouts of the "
            "batch at that turn, whatever they were asked.",
            made(of_turn, few=None),
        ),
        Misconception(
            "whole batch", "You compare every action with all actions of the batch, whatever the turn.", made(of_batch)
        ),
        Misconception("whole question", "You compare with all turns of the question.", made(of_question, few=None)),
        Misconception(
            "own rollout", "You compare with the other turns of the same rollout.", made(of_rollout, few=None)
        ),
        Misconception(
            "few with few",
            "You compare a turn that few rollouts reached among those few. Below the limit the statistics are those "
            "of the whole batch.",
            made(few=None),
        ),
        Misconception(
            "few get nothing",
            "You give nothing where few rollouts got that far; they are compared with the batch.",
            made(few=nothing),
        ),
        Misconception(
            "few keep the oracle's value",
            "You hand on the oracle's value where few rollouts got that far: another scale than all other turns.",
            made(few=raw),
        ),
        Misconception(
            "limit off by one",
            "You count a turn as reached by few when exactly the limit reached it; few is fewer than that.",
            made(at_most=True),
        ),
        Misconception(
            "sums what follows",
            "You sum the credit of later turns. The oracle judges each action by itself; nothing is summed or "
            "discounted.",
            made(after=summed),
        ),
        Misconception(
            "returns compared",
            "You sum the oracle's values and compare the sums. An action is judged by itself, not by what came after "
            "it.",
            made(before=summed),
        ),
        Misconception(
            "best or not",
            "You count only whether the action was the best. The oracle's grades are used as they are.",
            made(before=best_only),
        ),
        Misconception("last turn for all", "You give all turns the credit of the last one.", made(after=last_only)),
        Misconception(
            "sample spread", "You divide the squares by n - 1; the code takes the population's spread.", made(ddof=1)
        ),
        Misconception("no spread", "You subtract the mean and do not divide by the spread.", made(divide=False)),
    ),
    (Property("which question a rollout belongs to does not matter", _questions_do_not_matter),),
    shown,
    (
        "Line up all rollouts of the batch by turn. For each turn: mean and population spread of the oracle's values.",
        "How many rollouts reached that turn? Fewer than the limit: mean and spread of all values of the batch.",
    ),
)

hint = hints(ex)
