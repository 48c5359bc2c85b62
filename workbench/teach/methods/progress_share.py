"""Progress share: the outcome split over the turns by progress, what is still to come beside the same turn's peers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from workbench.recipes import progress_share
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values, same, values
from workbench.teach.method_page import hand, turns
from workbench.teach.table import Table
from workbench.teach.turn_parts import (
    Peers,
    Rows,
    clear,
    each,
    everywhere,
    filled,
    hints,
    of_place,
    of_question,
    of_rollout,
    of_turn,
    outcomes,
    so_far,
    standard,
    to_go,
    turn_table,
    unsummed,
)

Split = Callable[[Rows, float], Rows]


def truth(progress: Rows, outcome: Sequence[float], group: Sequence[str], temperature: float) -> Rows:
    """Return the credit of every turn, by the library's recipe."""
    batch = hand(list(group), {"match_reward": progress}, {"outcome": list(outcome)})
    return turns(progress_share(temperature=temperature), batch)


# ------------------------------------------------------------------------------------------------------- the parts


def softmax(progress: Rows, temperature: float) -> Rows:
    """exp(p / temperature) over its sum in the rollout."""
    masses = [[math.exp((x or 0.0) / temperature) for x in row] for row in progress]
    return [[m / sum(row) for m in row] for row in masses]


def proportion(progress: Rows, temperature: float) -> Rows:
    """p over its sum; equal parts where the sum is 0."""
    sums = [sum(x or 0.0 for x in row) for row in progress]
    return [
        [(x or 0.0) / total if total else 1 / len(row) for x in row] for row, total in zip(progress, sums, strict=True)
    ]


def cold(progress: Rows, temperature: float) -> Rows:
    """Forget the temperature."""
    return softmax(progress, 1.0)


def inverted(progress: Rows, temperature: float) -> Rows:
    """Multiply by the temperature."""
    return softmax(progress, 1.0 / temperature)


def reached(progress: Rows, temperature: float) -> Rows:
    """Take p for how far the rollout is, and its change for progress."""
    steps: Rows = [[(b or 0.0) - (a or 0.0) for a, b in zip([0.0, *row], row, strict=False)] for row in progress]
    return softmax(steps, temperature)


def winner(progress: Rows, temperature: float) -> Rows:
    """All to the best turn, the first of equal ones."""
    best = [row.index(max(row, key=lambda x: x or 0.0)) for row in progress]
    return [[float(t == at) for t in range(len(row))] for row, at in zip(progress, best, strict=True)]


def to_last(progress: Rows, temperature: float) -> Rows:
    """All to the last turn."""
    return [[*[0.0] * (len(row) - 1), 1.0] for row in progress]


def unnormalised(progress: Rows, temperature: float) -> Rows:
    """exp(p / temperature), not divided by its sum."""
    return [[math.exp((x or 0.0) / temperature) for x in row] for row in progress]


def pay(outcome: Sequence[float], group: Sequence[str]) -> list[float]:
    """What is split: the outcome."""
    return list(outcome)


def advantage(outcome: Sequence[float], group: Sequence[str]) -> list[float]:
    """The outcome minus the mean of the question."""
    return outcomes(outcome, group, divide=False)


def nothing_known(outcome: Sequence[float], group: Sequence[str]) -> list[float]:
    """One unit for every rollout, right or wrong."""
    return [1.0 for _ in outcome]


def summed(rows: Rows) -> Rows:
    """What is still to come, the turn's own share included."""
    return to_go(rows, 1.0)


def after(rows: Rows) -> Rows:
    """What is still to come after the turn."""
    return each(lambda whole, own: whole - own, to_go(rows, 1.0), rows)


def made(
    split: Split = softmax,
    what: Callable[[Sequence[float], Sequence[str]], list[float]] = pay,
    add: Callable[[Rows], Rows] = summed,
    peers: Peers = of_turn,
    first: bool = False,
    **how: bool,
) -> Solution:
    """Return a solution made of these parts; the defaults are right. `first`: compare before summing."""

    def norm(rows: Rows, group: Sequence[str], whom: Peers) -> Rows:
        return standard(rows, group, whom, **{"divide": False, **how})  # type: ignore[arg-type]

    def solution(progress: Rows, outcome: list[float], group: list[str], temperature: float) -> Rows:
        shares = each(lambda r, s: r * s, everywhere(what(outcome, group), progress), split(progress, temperature))
        rows = add(norm(shares, group, peers)) if first else norm(add(shares), group, peers)
        return [list(row) for row in filled(rows)]

    return solution


right = made()


# -------------------------------------------------------------------------------------------------------- the cases


def cases(rng: Random) -> list[Args]:
    """Right and wrong; two right ones, early and late progress; unlike lengths; two questions; then any."""
    shapes: list[tuple[Rows, list[float], str]] = [
        ([[1.0, 0.0], [0.5, 0.5]], [1.0, 0.0], "AA"),
        ([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], [1.0, 1.0], "AA"),
        ([[1.0, 0.5, 0.0], [0.0, 1.0]], [1.0, 0.5], "AA"),
        ([[1.0, 0.0], [0.0, 0.5], [0.5, 1.0, 0.0], [1.0, 0.0]], [1.0, 0.0, 1.0, 0.5], "AABB"),
    ]
    for _ in range(9):
        group = rng.sample("AAABB", 5)
        progress: Rows = [[rng.choice((0.0, 0.25, 0.625, 1.0)) for _ in range(rng.randint(2, 4))] for _ in group]
        shapes.append((progress, [rng.choice((0.0, 1.0, 1.0, 0.5)) for _ in group], "".join(group)))
    return [(p, r, list(g), (0.5, 0.25, 2.0)[k % 3]) for k, (p, r, g) in enumerate(shapes)]


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: progress of each turn, and the outcome."""
    progress, outcome, group, temperature = args
    columns = [("progress", progress), ("outcome", everywhere(outcome, progress))]
    caption = f"Rollouts, a line a turn; temperature = {temperature:g}. Wrong lines are marked."
    return turn_table(caption, columns, group, got, want)


def _order(args: Args, got: Values, solution: Solution) -> bool:
    progress, outcome, group, temperature = args
    back = values(solution(progress[::-1], outcome[::-1], group[::-1], temperature))
    return same(tuple(got), back[::-1])


def _first_turn(args: Args, got: Values, solution: Solution) -> bool:
    """The first turn's credit is the outcome minus the mean of the question."""
    _, outcome, group, _ = args
    return all(abs(row[0] - a) < 1e-3 for row, a in zip(got, advantage(outcome, group), strict=True))


ex = Exercise(
    "ex",
    "the credit of every turn",
    clear(cases, truth),
    truth,
    (
        Misconception(
            "parts in proportion",
            "You split in proportion to progress. The recipe takes its exponential first, so that a turn without any "
            "progress has a part, too, and progress may be below 0.",
            made(proportion),
        ),
        Misconception(
            "no temperature",
            "You ignore the temperature: it says how much more the best turn gets than the others.",
            made(cold),
        ),
        Misconception(
            "temperature upside down",
            "You multiply progress by the temperature. It divides: a small one gives nearly all to the best turn.",
            made(inverted),
        ),
        Misconception(
            "change of progress",
            "You take the numbers for how far the rollout is, and split by their change. Each is the turn's own "
            "progress already.",
            made(reached),
        ),
        Misconception(
            "best turn takes all",
            "You give the whole outcome to the turn of most progress. That is the limit of a small temperature.",
            made(winner),
        ),
        Misconception(
            "all to the last turn",
            "You leave the outcome at the last turn: after the sum every turn has all of it, which is GRPO without "
            "its spread.",
            made(to_last),
        ),
        Misconception(
            "parts that do not add up",
            "You do not divide by the sum over the rollout. The parts must add up to its outcome; otherwise a long "
            "rollout earns more for the same end.",
            made(unnormalised),
        ),
        Misconception(
            "advantage is split",
            "You subtract the mean of the question first and split what is left. A failed rollout has nothing to "
            "split here, not a negative amount; the comparison comes last, turn by turn.",
            made(what=advantage),
        ),
        Misconception(
            "outcome forgotten",
            "You split one unit for every rollout. A failed one would be paid for its progress as if it had succeeded.",
            made(what=nothing_known),
        ),
        Misconception(
            "own share only",
            "You compare the shares and do not add what follows: a turn would not be credited with what it made "
            "possible.",
            made(add=partial(unsummed, gamma=1.0)),
        ),
        Misconception(
            "own share left out",
            "You add what follows the turn without the turn's own share.",
            made(add=after),
        ),
        Misconception(
            "sums backwards",
            "You add the shares up to the turn. What is compared is what is still to come, its own share included.",
            made(add=partial(so_far, gamma=1.0)),
        ),
        Misconception(
            "compared before the sum",
            "You compare the shares turn by turn and add what comes out. Where rollouts differ in length the means of "
            "late turns are those of other rollouts.",
            made(first=True),
        ),
        Misconception(
            "all turns of the question",
            "You compare a turn with all turns of the question. Early turns have more to come, and would be praised "
            "for standing early.",
            made(peers=of_question),
        ),
        Misconception(
            "own rollout",
            "You compare a turn with the other turns of its rollout: the first half is then always praised.",
            made(peers=of_rollout),
        ),
        Misconception(
            "other questions",
            "You compare turns at the same place across questions. What a question pays depends on how hard it is.",
            made(peers=of_place),
        ),
        Misconception(
            "divided by the spread",
            "You divide by the spread. The recipe only subtracts the mean: shares keep the unit of the outcome.",
            made(divide=True),
        ),
    ),
    (
        Property("the order of the rollouts does not matter", _order),
        Property("the first turn's credit is the outcome minus the mean of the question", _first_turn),
    ),
    shown,
    (
        "Parts first: exp(progress / temperature), divided by its sum over the rollout, times the outcome.",
        "Then what is still to come: a turn's own part and all later ones.",
        "Subtract the mean of the same turn over the rollouts of the question that got so far; alone there it is 0.",
    ),
)

hint = hints(ex)
