"""MAPO: from a user's distances to the credit of every turn: what follows, at its turn, and what came at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from workbench.recipes import mapo
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values
from workbench.teach.method_page import hand, turns
from workbench.teach.table import Table
from workbench.teach.turn_parts import (
    Rows,
    clear,
    each,
    everywhere,
    hints,
    moved,
    of_batch,
    of_place,
    of_question,
    of_turn,
    so_far,
    standard,
    to_go,
    turn_table,
    undiscounted,
    unsummed,
)

Far = Sequence[Sequence[float]]
"""Distances after each turn, a row a rollout."""


def columns(first: Sequence[float], after: Far) -> tuple[dict[str, Far], dict[str, Sequence[float]]]:
    """Return turn and rollout columns as the evidence would fill them.

    Example:
        >>> columns([4.0], [[3.0, 1.0]])
        ({'state_distance': [[3.0, 1.0]]}, {'state_distance_start': [4.0]})
    """
    return {"state_distance": after}, {"state_distance_start": first}


def truth(
    first: Sequence[float], after: Far, group: Sequence[str], gamma: float, alpha: float, beta: float
) -> list[list[float | None]]:
    """Return the credit of every turn, by the library's recipe."""
    return turns(mapo(gamma, alpha, beta), hand(group, *columns(first, after)))


# ------------------------------------------------------------------------------------------------------- the parts


def drops(first: Sequence[float], after: Far) -> Rows:
    """Distance before each turn, less the distance after it."""
    return [[b - a for b, a in zip([start, *row], row, strict=False)] for start, row in zip(first, after, strict=True)]


def rises(first: Sequence[float], after: Far) -> Rows:
    """Distance after, less the distance before."""
    return [[-(x or 0.0) for x in row] for row in drops(first, after)]


def no_start(first: Sequence[float], after: Far) -> Rows:
    """Drops from turn to turn; the first turn has none."""
    return [[0.0, *row[1:]] for row in drops(first, after)]


def closeness(first: Sequence[float], after: Far) -> Rows:
    """How near the user is after the turn, whoever brought them there."""
    return [[-x for x in row] for row in after]


def from_start(first: Sequence[float], after: Far) -> Rows:
    """The way since the beginning."""
    return [[start - x for x in row] for start, row in zip(first, after, strict=True)]


at_its_turn = partial(standard, peers=of_turn)
in_question = partial(standard, peers=of_question)


def whole_way(rows: Rows, gamma: float) -> Rows:
    """The first turn's return on every turn."""
    return everywhere([row[0] or 0.0 for row in to_go(rows, gamma)], rows)


def summed_late(reward: Rows, group: Sequence[str], gamma: float, summed: Callable[[Rows, float], Rows]) -> Rows:
    """Sum, then compare."""
    return at_its_turn(summed(reward, gamma), group)


def compared_first(reward: Rows, group: Sequence[str], gamma: float, summed: Callable[[Rows, float], Rows]) -> Rows:
    """Compare, then sum."""
    return summed(at_its_turn(reward, group), gamma)


def padded(reward: Rows, group: Sequence[str], gamma: float, summed: Callable[[Rows, float], Rows]) -> Rows:
    """Give turns that never were the return 0, and compare with them, too."""
    returns = summed(reward, gamma)
    longest = {g: max(len(row) for row, h in zip(returns, group, strict=True) if h == g) for g in group}
    full = [[*row, *[0.0] * (longest[g] - len(row))] for row, g in zip(returns, group, strict=True)]
    return [z[: len(row)] for z, row in zip(at_its_turn(full, group), returns, strict=True)]


def late_by(**how: object) -> Callable[[Rows, Sequence[str], float, Callable[[Rows, float], Rows]], Rows]:
    """Compare returns in another way; `how` as in `standard`."""

    def late(reward: Rows, group: Sequence[str], gamma: float, summed: Callable[[Rows, float], Rows]) -> Rows:
        return standard(summed(reward, gamma), group, **{"peers": of_turn, **how})  # type: ignore[arg-type]

    return late


def made(
    reward: Callable[[Sequence[float], Far], Rows] = drops,
    summed: Callable[[Rows, float], Rows] = to_go,
    late: Callable[[Rows, Sequence[str], float, Callable[[Rows, float], Rows]], Rows] = summed_late,
    now: Callable[[Rows, Sequence[str]], Rows] = in_question,
    of_return: bool = False,
    weights: Callable[[float, float], tuple[float, float]] = lambda alpha, beta: (alpha, beta),
) -> Solution:
    """Return a solution made of these parts; the defaults are right.

    Args:
        reward: of each turn, from distances.
        summed: what is summed for the first term.
        late, now: the two comparisons.
        of_return: does the second term read returns?
        weights: of the two.
    """

    def solution(
        first: list[float], after: list[list[float]], group: list[str], gamma: float, alpha: float, beta: float
    ) -> Rows:
        r = reward(first, after)
        a, b = weights(alpha, beta)
        second = now(summed(r, gamma) if of_return else r, group)
        return each(lambda x, y: a * x + b * y, late(r, group, gamma, summed), second)

    return solution


right = made()


# -------------------------------------------------------------------------------------------------------- the cases


def cases(rng: Random) -> list[Args]:
    """Two ways to one end; a lone late turn; a question where nothing moves; two questions; then any.

    All numbers are quarters and gammas halves, so that equal returns are equal to the last bit.
    """
    shapes: list[tuple[list[float], list[list[float]], list[str], float]] = [
        ([4.0, 4.0], [[3.0, 1.0], [4.5, 2.0]], ["q", "q"], 0.5),
        ([4.0, 4.0], [[3.0, 1.0], [4.5, 2.0]], ["q", "q"], 1.0),
        ([4.0, 4.0], [[3.0, 1.0, 0.5], [4.5, 2.0]], ["q", "q"], 0.5),
        ([4.0, 4.0, 3.0, 3.0], [[3.0, 1.0], [4.5, 2.0], [1.0, 0.25], [2.5, 2.0]], ["q", "q", "p", "p"], 0.5),
        ([4.0, 4.0, 2.0, 2.0], [[3.0, 1.0], [4.5, 2.0], [2.0, 2.0], [2.0]], ["q", "q", "p", "p"], 0.5),
    ]
    for _ in range(9):
        first, after, group = [], [], []
        for question in ("q", "p")[: rng.randint(1, 2)]:
            start = rng.randint(8, 20) / 4
            for _ in range(rng.randint(2, 4)):
                first.append(start)
                after.append([rng.randint(0, 20) / 4 for _ in range(rng.randint(1, 4))])
                group.append(question)
        shapes.append((first, after, group, rng.choice((1.0, 0.5, 0.75))))
    return [(*shape, *rng.choice(((0.5, 0.5), (0.75, 0.5), (0.5, 0.25)))) for shape in shapes]


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: distances before and after, a line a turn."""
    first, after, group, gamma, alpha, beta = args
    before: Rows = [[start, *row[:-1]] for start, row in zip(first, after, strict=True)]
    caption = f"gamma = {gamma:g}, alpha = {alpha:g}, beta = {beta:g}. Wrong lines are marked."
    return turn_table(caption, [("before", before), ("after", after)], group, got, want)


def _further(args: Args) -> Args:
    first, after, *rest = args
    return ([x + 1 for x in first], [[x + 1 for x in row] for row in after], *rest)


def _doubled(args: Args) -> Args:
    first, after, *rest = args
    return ([x * 2 for x in first], [[x * 2 for x in row] for row in after], *rest)


ex = Exercise(
    "ex",
    "the credit of every turn",
    clear(cases, truth),
    truth,
    (
        Misconception(
            "after minus before",
            "You subtract the distance before the turn from the one after it. Closer is better: before minus after.",
            made(rises),
        ),
        Misconception(
            "first turn without a reward",
            "You give the first turn no reward. The distance is known before anything was said: `first`.",
            made(no_start),
        ),
        Misconception(
            "nearness, not the drop",
            "You reward how near the user is. A turn that did nothing after a good one would be paid for it again.",
            made(closeness),
        ),
        Misconception(
            "way since the start",
            "You reward the whole way since the beginning at each turn; then early drops are paid at every later turn.",
            made(from_start),
        ),
        Misconception(
            "returns in one pool",
            "You compare a return with all returns of the question. Early turns have more before them; that is why a "
            "return is compared at its turn.",
            made(late=late_by(peers=of_question)),
        ),
        Misconception(
            "same turn, any question",
            "You compare the same turn across questions: a user who begins far away would make every reply look good.",
            made(late=late_by(peers=of_place)),
        ),
        Misconception(
            "immediate rewards of the batch",
            "You compare the drop with all turns of the batch. So says the first version's abstract (scope='batch'); "
            "the later one compares within the question.",
            made(now=partial(standard, peers=of_batch)),
        ),
        Misconception(
            "immediate rewards at their turn",
            "You compare the drop with the same turn of the siblings. The second term has one pool for all turns of "
            "the question: that is what makes it steady where few rollouts are left.",
            made(now=at_its_turn),
        ),
        Misconception(
            "return in both terms",
            "You put the return into the second term, too (source='return'). It is about what the turn did at once.",
            made(of_return=True),
        ),
        Misconception(
            "drop in both terms",
            "You sum nothing: both terms see the drop alone, and comfort that pays later goes unpaid.",
            made(summed=unsummed),
        ),
        Misconception(
            "sums backwards",
            "You sum what came before a turn; it is responsible for what follows it.",
            made(summed=so_far),
        ),
        Misconception(
            "no discount",
            "You ignore gamma: every later drop counts in full.",
            made(summed=undiscounted),
        ),
        Misconception(
            "the whole way on every turn",
            "You give every turn the return of the first one. That is the outcome of the dialogue, copied.",
            made(summed=whole_way),
        ),
        Misconception(
            "compared before summed",
            "You compare drops at their turn and sum what comes out. The return is summed first, then compared.",
            made(late=compared_first),
        ),
        Misconception(
            "missing turns are 0",
            "You fill dialogues that ended early with returns of 0 and compare with those. A turn that was never "
            "taken is no sibling.",
            made(late=padded),
        ),
        Misconception(
            "a lone turn keeps its return",
            "You keep the return of a turn that no sibling reached. Without peers it adds 0: nothing was compared.",
            made(late=late_by(lone="keep")),
        ),
        Misconception(
            "spread of a sample",
            "You divide by n - 1 in the spread of returns. Here it is the population's, n.",
            made(late=late_by(ddof=1)),
        ),
        Misconception(
            "spread forgotten",
            "You subtract the mean of the returns and do not divide by their spread: the two terms no longer have one "
            "unit.",
            made(late=late_by(divide=False)),
        ),
        Misconception(
            "weights swapped",
            "You weigh the return with beta and the drop with alpha. It is the other way round.",
            made(weights=lambda alpha, beta: (beta, alpha)),
        ),
        Misconception(
            "weights made to sum to 1",
            "You divide alpha and beta by their sum. They are weights as given; nothing says that they add up to 1.",
            made(weights=lambda alpha, beta: (alpha / (alpha + beta), beta / (alpha + beta))),
        ),
    ),
    (
        Property("a user who is further away all along changes nothing", moved(_further)),
        Property("distances in another unit change nothing", moved(_doubled)),
    ),
    shown,
    (
        "Three steps: drops, a row a rollout; their sums from the end; two comparisons.",
        "The sums are compared at the same turn of the same question; the drops with all turns of the question.",
        "alpha * z of the return + beta * z of the drop, each with the mean and population spread of its own pool; a "
        "pool of one, or of equal values, gives 0.",
    ),
)

hint = hints(ex)
