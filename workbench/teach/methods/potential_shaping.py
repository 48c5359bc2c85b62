"""Potential shaping: rewards plus changes of a potential, summed, and beside the same turn of the siblings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from workbench.recipes import potential_shaping
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values, same, values
from workbench.teach.method_page import hand, turns
from workbench.teach.table import Table
from workbench.teach.turn_parts import (
    Peers,
    Row,
    Rows,
    at_last,
    clear,
    each,
    everywhere,
    filled,
    hints,
    moved,
    of_place,
    of_question,
    of_turn,
    outcomes,
    so_far,
    standard,
    to_go,
    turn_table,
    undiscounted,
    unsummed,
)


def truth(start: Sequence[float], after: Rows, outcome: Sequence[float], group: Sequence[str], gamma: float) -> Rows:
    """Return the credit of every turn, by the library's recipe."""
    begun = {"gold_logprob_start": list(start), "outcome": list(outcome)}
    return turns(potential_shaping(gamma=gamma), hand(list(group), {"gold_logprob": after}, begun))


# ------------------------------------------------------------------------------------------------------- the parts

Ends = Callable[[list[float], float], list[float]]
"""(potentials from the start on, gamma) -> the same with another last one."""
Change = Callable[[float, float, float], float]
"""(potential before, after, gamma) -> what a turn is paid."""


def grounded(chain: list[float], gamma: float) -> list[float]:
    """The last potential is 0: the episode is over."""
    return [*chain[:-1], 0.0]


def kept(chain: list[float], gamma: float) -> list[float]:
    """The last potential stays."""
    return chain


def unpaid(chain: list[float], gamma: float) -> list[float]:
    """The last turn's change is 0."""
    return [*chain[:-1], chain[-2] / gamma]


def change(before: float, now: float, gamma: float) -> float:
    """gamma Phi_t - Phi_{t-1}"""
    return gamma * now - before


def without_gamma(before: float, now: float, gamma: float) -> float:
    """Phi_t - Phi_{t-1}"""
    return now - before


def gamma_before(before: float, now: float, gamma: float) -> float:
    """Phi_t - gamma Phi_{t-1}"""
    return now - gamma * before


def backwards(before: float, now: float, gamma: float) -> float:
    """Phi_{t-1} - gamma Phi_t"""
    return before - gamma * now


def potential(before: float, now: float, gamma: float) -> float:
    """Phi_t itself."""
    return now


def nothing(before: float, now: float, gamma: float) -> float:
    """No shaping."""
    return 0.0


def at_end(outcome: Sequence[float], like: Rows) -> Rows:
    """The outcome at the last turn, 0 elsewhere."""
    return [list(row) for row in filled(at_last(outcome, like))]


def nowhere(outcome: Sequence[float], like: Rows) -> Rows:
    """No outcome."""
    return everywhere([0.0 for _ in outcome], like)


def shaped(start: Sequence[float], after: Rows, gamma: float, end: Ends = grounded, f: Change = change) -> Rows:
    """What each turn is paid for the change of the potential."""
    chains = [end([s, *(x or 0.0 for x in row)], gamma) for s, row in zip(start, after, strict=True)]
    return [[f(a, b, gamma) for a, b in zip(chain, chain[1:], strict=False)] for chain in chains]


def made(
    end: Ends = grounded,
    f: Change = change,
    pay: Callable[[Sequence[float], Rows], Rows] = at_end,
    summed: Callable[[Rows, float], Rows] = to_go,
    peers: Peers = of_turn,
    first: bool = False,
    **how: bool | str | int,
) -> Solution:
    """Return a solution made of these parts; the defaults are right. `first`: compare before summing."""
    norm = partial(standard, peers=peers, **{"divide": False, "ddof": 1, **how})  # type: ignore[arg-type]

    def solution(start: list[float], after: Rows, outcome: list[float], group: list[str], gamma: float) -> Rows:
        paid = each(lambda a, b: a + b, shaped(start, after, gamma, end, f), pay(outcome, after))
        rows = summed(norm(paid, group), gamma) if first else norm(summed(paid, gamma), group)
        return [list(row) for row in filled(rows)]

    return solution


right = made()


# -------------------------------------------------------------------------------------------------------- the cases


def _potential(rng: Random) -> float:
    return rng.choice((-4.0, -3.0, -2.0, -1.0, -0.5, -0.25))


def cases(rng: Random) -> list[Args]:
    """Two rollouts; unlike lengths; two questions; a rollout alone with its question; then any."""
    shapes: list[list[tuple[str, int, float]]] = [
        [("A", 2, 1.0), ("A", 2, 0.0)],
        [("A", 3, 1.0), ("A", 2, 0.0)],
        [("A", 2, 1.0), ("A", 3, 0.0), ("B", 2, 1.0), ("B", 2, 1.0)],
        [("A", 2, 1.0), ("A", 2, 0.0), ("B", 3, 1.0)],
    ]
    for _ in range(9):
        shapes.append([(q, rng.randint(1, 4), rng.choice((0.0, 1.0))) for q in rng.sample("AAABB", 5)])
    out: list[Args] = []
    for number, members in enumerate(shapes):
        begun = {q: _potential(rng) for q in "AB"}  # before the first turn all siblings stand at the same place
        group = [q for q, _, _ in members]
        after: Rows = [[_potential(rng) for _ in range(n)] for _, n, _ in members]
        out.append(([begun[q] for q in group], after, [r for *_, r in members], group, (0.5, 0.9, 1.0)[number % 3]))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: the potential before and after each turn, and the outcome at the last one."""
    start, after, outcome, group, gamma = args
    before: Rows = [[s, *row[:-1]] for s, row in zip(start, after, strict=True)]
    columns = [("Phi before", before), ("Phi after", after), ("outcome", at_last(outcome, after))]
    return turn_table(f"Rollouts, a line a turn; gamma = {gamma:g}. Wrong lines are marked.", columns, group, got, want)


def _raised(args: Args) -> Args:
    """Add the same number to every potential of the first question, the one before the first turn too."""
    start, after, outcome, group, gamma = args
    up = [3.0 * (q == group[0]) for q in group]
    higher: list[Row] = [[(x or 0.0) + u for x in row] for row, u in zip(after, up, strict=True)]
    return [s + u for s, u in zip(start, up, strict=True)], higher, outcome, group, gamma


def _first_turn(args: Args, got: Values, solution: Solution) -> bool:
    _, after, outcome, group, gamma = args
    worth = [r * gamma ** (len(row) - 1) for r, row in zip(outcome, after, strict=True)]
    return all(abs(row[0] - a) < 1e-3 for row, a in zip(got, outcomes(worth, group, divide=False), strict=True))


def _order(args: Args, got: Values, solution: Solution) -> bool:
    *columns, gamma = args
    back = values(solution(*(column[::-1] for column in columns), gamma))
    return same(tuple(got), back[::-1])


ex = Exercise(
    "ex",
    "the credit of every turn",
    clear(cases, truth),
    truth,
    (
        Misconception(
            "last potential kept",
            "You keep the potential of the last state. The episode is over there: it must be 0, or where a rollout "
            "ends is paid for beside what it earned, and another policy may become the best.",
            made(end=kept),
        ),
        Misconception(
            "last change left out",
            "You pay the last turn for no change. Its change is -Phi before it, and it takes back what the turns "
            "before were paid; without it a rollout is paid for every hope it ended on.",
            made(end=unpaid),
        ),
        Misconception(
            "gamma left out",
            "You pay for Phi_t - Phi_{t-1}. With a discount the later potential is discounted, too: otherwise nothing "
            "cancels in the sum.",
            made(f=without_gamma),
        ),
        Misconception(
            "gamma on the wrong side",
            "You discount the potential before the turn. It is the one after it that lies in the future.",
            made(f=gamma_before),
        ),
        Misconception(
            "wrong way round",
            "You pay for what was lost: a turn that came closer is charged for it.",
            made(f=backwards),
        ),
        Misconception(
            "potential, not its change",
            "You pay for where a turn ended. Staying where it is good would be paid again and again.",
            made(f=potential),
        ),
        Misconception(
            "no shaping",
            "You left the potential out: what is left is the outcome beside the siblings.",
            made(f=nothing),
        ),
        Misconception(
            "outcome forgotten",
            "You pay for the potential alone. Its sum over a rollout is the same for all siblings: nothing would be "
            "learned of the outcome.",
            made(pay=nowhere),
        ),
        Misconception(
            "outcome on every turn",
            "You pay the outcome at every turn and sum: an early turn counts it once for each turn that follows.",
            made(pay=everywhere),
        ),
        Misconception(
            "not summed",
            "You compare the pay of single turns. The promise is about sums: in them all potentials but one cancel.",
            made(summed=unsummed),
        ),
        Misconception(
            "sum without gamma",
            "You sum without the discount. The shaping was made with gamma; its terms cancel in no other sum.",
            made(summed=undiscounted),
        ),
        Misconception(
            "sums backwards",
            "You sum what came before the turn. A turn is responsible for what follows it.",
            made(summed=so_far),
        ),
        Misconception(
            "compared before the sum",
            "You subtract the means of single rewards and sum then. Where rollouts differ in length, the means that "
            "are summed are not those of the same siblings.",
            made(first=True),
        ),
        Misconception(
            "normalised before the sum",
            "You divide rewards by the spread of their turn and sum then. Each turn has another spread, so a potential "
            "no longer cancels with itself: shaping then changes which policy is the best.",
            made(first=True, divide=True),
        ),
        Misconception(
            "divided by the spread",
            "You divide by the spread at the end. The recipe does not: the spread of the potential would make the "
            "outcome small beside it.",
            made(divide=True),
        ),
        Misconception(
            "all turns of the question",
            "You compare a turn with all turns of the question. Turns that begin far away would be praised for that.",
            made(peers=of_question),
        ),
        Misconception(
            "other questions",
            "You compare turns at the same place across questions: their potentials are not on one scale.",
            made(peers=of_place),
        ),
        Misconception(
            "alone and praised",
            "You let a turn that no sibling got to keep its sum. Nobody was compared: its credit is 0.",
            made(lone="keep"),
        ),
    ),
    (
        Property("the order of the rollouts does not matter", _order),
        Property("adding one number to every potential of a question changes nothing", moved(_raised)),
        Property("the first turn's credit is that without shaping", _first_turn),
    ),
    shown,
    (
        "Pay first: gamma Phi_t - Phi_{t-1} for each turn, and at the last one the outcome, too. Which Phi is 0?",
        "Sum from the end: G_t = pay_t + gamma G_{t+1}. Check yourself: it is the discounted outcome minus Phi_{t-1}.",
        "Subtract the mean of G_t over the siblings that got to turn t; alone there it is 0.",
    ),
)

hint = hints(ex)
