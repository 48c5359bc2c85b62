"""A2TGPO: gains compared at the same turn, sums rescaled by the root of their length, the outcome on every turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from workbench.recipes import a2tgpo
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values
from workbench.teach.method_page import hand, turns
from workbench.teach.methods.igpo import Belief, belief_itself, cases, gains, no_first_gain, shown
from workbench.teach.turn_parts import (
    Rows,
    at_last,
    clear,
    each,
    everywhere,
    filled,
    hints,
    of_batch,
    of_place,
    of_question,
    of_rollout,
    of_turn,
    outcomes,
    so_far,
    standard,
    to_go,
    undiscounted,
)


def truth(start: Sequence[float], after: Belief, outcome: Sequence[float], group: Sequence[str], gamma: float) -> Rows:
    """Return the credit of every turn, by the library's recipe."""
    asked: Rows = [[*(math.log(p) for p in row), None] for row in after]
    before = [math.log(p) for p in start]
    batch = hand(group, {"gold_logprob": asked}, {"gold_logprob_start": before, "outcome": list(outcome)})
    return turns(a2tgpo(gamma=gamma), batch)


# ------------------------------------------------------------------------------------------------------- the parts


def left(rows: Rows) -> Rows:
    """How many known numbers there are from each turn on."""
    return [[float(sum(y is not None for y in row[t:])) or None for t in range(len(row))] for row in rows]


def root(rows: Rows, z: Rows) -> Rows:
    """Divide each sum by the root of the number of its terms."""
    return each(lambda x, n: x / n**0.5, rows, left(z))


def by_number(rows: Rows, z: Rows) -> Rows:
    """Divide each sum by the number of its terms."""
    return each(lambda x, n: x / n, rows, left(z))


def by_all(rows: Rows, z: Rows) -> Rows:
    """Divide each sum by the root of the number of gains of the whole rollout."""
    sizes: Rows = [[max(sum(x is not None for x in row), 1)] * len(row) for row in z]
    return each(lambda x, n: x / n**0.5, rows, sizes)


def no_rescale(rows: Rows, z: Rows) -> Rows:
    """Leave the sums as they are."""
    return rows


Ends = Callable[[Sequence[float], Sequence[str], Rows], Rows]


def on_all(outcome: Sequence[float], group: Sequence[str], rows: Rows, **how: object) -> Rows:
    """The outcome's z-score on every turn."""
    return everywhere(outcomes(outcome, group, **how), rows)


def on_last(outcome: Sequence[float], group: Sequence[str], rows: Rows) -> Rows:
    """The outcome's z-score on the answer alone."""
    return filled(at_last(outcomes(outcome, group), rows))  # type: ignore[return-value]


def of_everything(outcome: Sequence[float], group: Sequence[str], rows: Rows) -> Rows:
    """The outcome's z-score in the whole batch."""
    return on_all(outcome, ["all"] * len(group), rows)


def at_turn(rows: Rows, group: Sequence[str]) -> Rows:
    """Compare each gain with those of the same turn of its siblings."""
    return standard(rows, group, of_turn)


def made(
    of: Callable[[float], float] = float,
    gain: Callable[..., Rows] = gains,
    normed: Callable[..., Rows] = at_turn,
    summed: Callable[[Rows, float], Rows] = to_go,
    rescale: Callable[[Rows, Rows], Rows] = root,
    ends: Ends = on_all,
    alpha: float = 1.0,
) -> Solution:
    """Return a solution made of these parts; the defaults are right."""

    def solution(start: list[float], after: Belief, outcome: list[float], group: list[str], gamma: float) -> Rows:
        z = normed(gain(start, after, of), group)
        process = filled(rescale(summed(z, gamma), z))
        return each(lambda a, b: alpha * a + b, process, ends(outcome, group, z))  # type: ignore[arg-type]

    return solution


right = made()


def shifted(start: Sequence[float], after: Belief, outcome: list[float], group: list[str], gamma: float) -> Rows:
    """Count only gains other than 0 when saying which turn is the same: a zero shifts the alignment of the rest."""
    raw = gains(start, after)
    some = [[None if x == 0 else x for x in row] for row in raw]
    packed = [[x for x in row if x is not None] for row in some]
    z = standard(packed, group, of_turn)  # type: ignore[arg-type]
    queues = [iter(row) for row in z]
    back: Rows = [[None if x is None else next(q) for x in row] for row, q in zip(some, queues, strict=True)]
    return each(lambda a, b: a + b, filled(root(to_go(back, gamma), back)), on_all(outcome, group, raw))  # type: ignore[arg-type]


def sums_first(start: list[float], after: Belief, outcome: list[float], group: list[str], gamma: float) -> Rows:
    """Sum raw gains, rescale, and normalise what comes out."""
    raw = gains(start, after)
    z = standard(root(to_go(raw, gamma), raw), group, of_turn)
    return each(lambda a, b: a + b, filled(z), on_all(outcome, group, raw))  # type: ignore[arg-type]


def _answer_has_outcome_alone(args: Args, got: Values, solution: Solution) -> bool:
    start, after, outcome, group, _ = args
    other = solution([p / 2 for p in start], after, outcome, group, 0.3)
    return all(abs(a[-1] - b[-1]) < 1e-3 for a, b in zip(got, other, strict=True))


ex = Exercise(
    "ex",
    "the credit of every turn",
    clear(cases, truth),
    truth,
    (
        Misconception(
            "all turns in one pool",
            "You compare a gain with all gains of the question. That is IGPO with pools apart: early turns, which "
            "gain more on the whole, are praised for being early.",
            made(normed=partial(standard, peers=of_question)),
        ),
        Misconception(
            "same place, any question",
            "You compare the same turn across questions. Only rollouts of the same question are siblings.",
            made(normed=partial(standard, peers=of_place)),
        ),
        Misconception(
            "whole batch",
            "You compare a gain with all gains of the batch, whatever the question and the turn.",
            made(normed=partial(standard, peers=of_batch)),
        ),
        Misconception(
            "own rollout",
            "You compare a gain with the other gains of its own rollout.",
            made(normed=partial(standard, peers=of_rollout)),
        ),
        Misconception(
            "no rescaling",
            "You leave the sums as they are. A sum of n z-scores has n times their variance: early turns get the "
            "loudest credit. Divide by the root of the number of terms.",
            made(rescale=no_rescale),
        ),
        Misconception(
            "divided by the number",
            "You divide each sum by the number of its terms. That makes early turns the quietest; the variance of a "
            "sum grows with n, so its size with the root of n.",
            made(rescale=by_number),
        ),
        Misconception(
            "root of the whole length",
            "You divide every sum of a rollout by the same root. The number of terms differs from turn to turn: "
            "those from the turn on.",
            made(rescale=by_all),
        ),
        Misconception(
            "0.3 of the process term",
            "You multiply the process term with 0.3. So does the released script; it is not in the paper's Eq. 9.",
            made(alpha=0.3),
        ),
        Misconception(
            "log-probabilities",
            "You subtract log-probabilities, as the released code does. The paper's Eq. 3 subtracts probabilities.",
            made(of=math.log),
        ),
        Misconception(
            "first search without a gain",
            "You give the first search no gain. So does the release: it does not probe the prompt alone, so that its "
            "first search only sets the baseline.",
            made(gain=no_first_gain),
        ),
        Misconception(
            "zero gain shifts the turns",
            "You leave out gains of exactly 0 when you count turns. So does the release: after a search that found "
            "nothing a third turn is compared with the others' second.",
            shifted,
        ),
        Misconception(
            "belief, not gain",
            "You compare the belief itself, not its change.",
            made(gain=belief_itself),
        ),
        Misconception(
            "outcome at the answer alone",
            "You give the outcome to the answer turn only. In IGPO a sum carries it back; here it is not summed, but "
            "added to every turn.",
            made(ends=on_last),
        ),
        Misconception(
            "outcomes of the batch",
            "You compare outcomes across questions: an easy one would be praised for being easy.",
            made(ends=of_everything),
        ),
        Misconception(
            "sums before statistics",
            "You sum gains and normalise the sums. A2TGPO normalises each gain at its turn and sums what comes out.",
            sums_first,
        ),
        Misconception(
            "sums backwards",
            "You sum what came before a turn; it is responsible for what follows it.",
            made(summed=so_far),
        ),
        Misconception(
            "no discount",
            "You ignore gamma: every gain that follows counts in full.",
            made(summed=undiscounted),
        ),
    ),
    (Property("the answer's credit depends on outcomes alone", _answer_has_outcome_alone),),
    shown,
    (
        "First the gains, a row a rollout; then compare the k-th gain with the k-th gains of the question's other "
        "rollouts.",
        "From each turn on: sum the z-scores (discounted), divide by the root of how many there are.",
        "Add the z-score of the outcome to every turn; the answer turn has nothing else.",
    ),
)

hint = hints(ex)
