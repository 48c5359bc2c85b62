"""Turn ablation: how much less likely the answer is without what came back from a turn, beside its question."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

from workbench.recipes import turn_ablation
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values, same, values
from workbench.teach.method_page import hand, turns
from workbench.teach.table import Table
from workbench.teach.turn_parts import (
    Peers,
    Row,
    Rows,
    clear,
    everywhere,
    filled,
    hints,
    moved,
    of_batch,
    of_question,
    of_rollout,
    of_turn,
    standard,
    to_go,
    turn_table,
)


def truth(whole: Sequence[float], without: Rows, group: Sequence[str]) -> list[list[float]]:
    """Return the credit of every turn that something came back from, by the library's recipe."""
    drops = [fall(w, row) for w, row in zip(whole, without, strict=True)]
    return known(turns(turn_ablation(), hand(list(group), {"ablation_drop": drops})), without)


def known(rows: Rows, without: Rows) -> list[list[float]]:
    """Leave out the turns that nothing came back from."""
    return [[x or 0.0 for x, y in zip(a, b, strict=True) if y is not None] for a, b in zip(rows, without, strict=True)]


# ------------------------------------------------------------------------------------------------------- the parts


def fall(whole: float, row: Row) -> Row:
    """How much less likely the answer is, in logarithms."""
    return [None if x is None else whole - x for x in row]


def rise(whole: float, row: Row) -> Row:
    """The wrong way round."""
    return [None if x is None else x - whole for x in row]


def in_probability(whole: float, row: Row) -> Row:
    """The drop of the probability."""
    return [None if x is None else math.exp(whole) - math.exp(x) for x in row]


def relative(whole: float, row: Row) -> Row:
    """The drop as a share of what there was."""
    return [None if x is None else (whole - x) / abs(whole) for x in row]


def floored(whole: float, row: Row) -> Row:
    """A turn without which the answer is likelier counts 0."""
    return [None if x is None else max(whole - x, 0.0) for x in row]


def size(whole: float, row: Row) -> Row:
    """How much it changes, up or down."""
    return [None if x is None else abs(whole - x) for x in row]


def score(whole: float, row: Row) -> Row:
    """Minus what is left: the answer's score without the turn, with no reference."""
    return [None if x is None else -x for x in row]


def neighbours(whole: float, row: Row) -> Row:
    """Compare with the ablation before, not with nothing taken out."""
    out: Row = []
    for x in row:
        out.append(None if x is None else whole - x)
        whole = whole if x is None else x
    return out


def shares(rows: Rows) -> Rows:
    """Divide the drops of a rollout by their sum."""
    sums = [sum(x or 0.0 for x in row) or 1.0 for row in rows]
    return [[None if x is None else x / total for x in row] for row, total in zip(rows, sums, strict=True)]


def summed(rows: Rows) -> Rows:
    """Add what follows."""
    return to_go(rows, 1.0)


def zeros(rows: Rows) -> Rows:
    """Take a turn that nothing came back from for one without which nothing changes."""
    return [list(row) for row in filled(rows)]


def as_is(rows: Rows) -> Rows:
    """Change nothing."""
    return rows


def made(
    drop: Callable[[float, Row], Row] = fall,
    then: Callable[[Rows], Rows] = as_is,
    peers: Peers = of_question,
    **how: bool | int,
) -> Solution:
    """Return a solution made of these parts; the defaults are right."""

    def solution(whole: list[float], without: Rows, group: list[str]) -> list[list[float]]:
        drops = then([drop(w, row) for w, row in zip(whole, without, strict=True)])
        return known(standard(drops, group, peers, **{"ddof": 1, **how}), without)  # type: ignore[arg-type]

    return solution


right = made()


# -------------------------------------------------------------------------------------------------------- the cases


def cases(rng: Random) -> list[Args]:
    """One question; a turn that nothing came back from; a turn that harmed; two questions; then any."""
    shapes: list[tuple[Sequence[float], list[Row], str]] = [
        ([-0.5, -2.0], [[0.0, 3.0], [0.5]], "AA"),
        ([-0.5, -2.0], [[0.0, 3.0], [None, 1.0]], "AA"),
        ([-1.0, -3.0], [[1.0, -0.5], [4.0, 0.0]], "AA"),
        ([-0.5, -2.0, -1.0, -4.0], [[0.0, 3.0], [0.5], [8.0, 4.0], [6.0, None]], "AABB"),
    ]
    for _ in range(9):
        group = rng.sample("AAABB", 5)
        drops = [[rng.choice((0.0, 0.25, 1.0, 3.0, -0.5, None)) for _ in range(rng.randint(1, 4))] for _ in group]
        shapes.append(
            ([rng.choice((-0.25, -1.0, -3.0)) for _ in group], [[0.5, *row] for row in drops], "".join(group))
        )
    return [
        (list(w), [[None if d is None else a - d for d in row] for a, row in zip(w, drops, strict=True)], list(g))
        for w, drops, g in shapes
    ]


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: the answer's log-probability with everything and without the turn."""
    whole, without, group = args
    there = known(without, without)
    left: Rows = [list(row) for row in there]
    columns = [("with all turns", everywhere(whole, there)), ("without this one", left)]
    table = turn_table(
        "Log-probability of the answer, a line a turn. Wrong lines are marked.", columns, group, got, want
    )
    at = [t for row in without for t, x in enumerate(row) if x is not None]
    rows = tuple((*row[:2], str(t), *row[3:]) for row, t in zip(table.rows, at, strict=True))
    return Table(table.caption, table.header, rows, table.bad)


def _order(args: Args, got: Values, solution: Solution) -> bool:
    back = values(solution(*(column[::-1] for column in args)))
    return same(tuple(got), back[::-1])


def _less_likely(args: Args) -> Args:
    """Make the answer of the first rollout less likely, with and without every turn."""
    whole, without, group = args
    first = [None if x is None else x - 2.0 for x in without[0]]
    return [whole[0] - 2.0, *whole[1:]], [first, *without[1:]], group


ex = Exercise(
    "ex",
    "the credit of every turn",
    clear(cases, truth),
    truth,
    (
        Misconception(
            "wrong way round",
            "You subtract the score with everything from the score without the turn. A turn the answer leans on would "
            "be blamed.",
            made(rise),
        ),
        Misconception(
            "probabilities",
            "You take the drop of the probability. An answer of many tokens has a tiny probability with or without the "
            "turn; its logarithm still tells them apart.",
            made(in_probability),
        ),
        Misconception(
            "relative drop",
            "You divide the drop by the score there was, as the work on erasing words does. An answer the policy was "
            "sure of (log-probability near 0) would make any drop huge.",
            made(relative),
        ),
        Misconception(
            "no harm",
            "You count a turn without which the answer is likelier as 0. A turn can do harm: its drop is below 0.",
            made(floored),
        ),
        Misconception(
            "size only",
            "You take the size of the change. A turn that makes the answer less likely would be praised as one that "
            "makes it likelier.",
            made(size),
        ),
        Misconception(
            "no reference",
            "You take the score without the turn and never compare it with the score with everything: every turn of an "
            "unlikely answer would be praised.",
            made(score),
        ),
        Misconception(
            "difference to the turn before",
            "You compare each ablation with the ablation of the turn before. Each turn is taken out alone, from the "
            "whole: the reference is the same for all.",
            made(neighbours),
        ),
        Misconception(
            "unknown is 0",
            "You take a turn that nothing came back from for one without which nothing changes, and let its 0 into the "
            "mean and the spread. It was never asked.",
            made(then=zeros),
        ),
        Misconception(
            "own rollout",
            "You compare a turn with the other turns of its own rollout. A rollout whose answer leans on nothing would "
            "get as much praise as any other.",
            made(peers=of_rollout),
        ),
        Misconception(
            "whole batch",
            "You compare across questions. Where the answer is long, all drops are large; only turns of one question "
            "are comparable.",
            made(peers=of_batch),
        ),
        Misconception(
            "same place",
            "You compare a turn with the same turn of the other rollouts, as A2TGPO does; here all turns of the "
            "question are one pool.",
            made(peers=of_turn),
        ),
        Misconception(
            "population spread",
            "You divide the squares by n. The recipe takes the sample's spread, n - 1, as GRPO does.",
            made(ddof=0),
        ),
        Misconception(
            "no spread", "You subtract the mean and stop; the recipe divides by the spread.", made(divide=False)
        ),
        Misconception(
            "drop itself",
            "You divide by the spread but keep the mean: no turn would be blamed that the answer leans on ever so "
            "little.",
            made(centre=False),
        ),
        Misconception(
            "sums",
            "You add the drops that follow. A drop is a turn's own contribution to the end already; there is nothing "
            "to hand back.",
            made(then=summed),
        ),
        Misconception(
            "shares of the rollout",
            "You divide the drops of a rollout by their sum. They are no shares: two turns that say the same have two "
            "drops near 0, two that need each other have the full drop twice.",
            made(then=shares),
        ),
    ),
    (
        Property("the order of the rollouts does not matter", _order),
        Property("a less likely answer, with and without every turn, changes nothing", moved(_less_likely)),
    ),
    shown,
    (
        "For each turn: with everything minus without it, in logarithms. What has None stays out, of the mean, too.",
        "One pool a question: all known drops of all its rollouts. Mean, and spread of the sample (n - 1).",
        "Credit is (drop - mean) / spread. Return only the turns that have a number.",
    ),
)

hint = hints(ex)
