"""IGPO: from beliefs in the gold answer to the credit of every turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from workbench.recipes import igpo
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values
from workbench.teach.method_page import hand, rows_of
from workbench.teach.table import Table
from workbench.teach.turn_parts import (
    Rows,
    at_last,
    clear,
    either,
    filled,
    hints,
    of_batch,
    of_rollout,
    of_turn,
    outcomes,
    so_far,
    standard,
    to_go,
    turn_table,
    undiscounted,
)

Belief = Sequence[Sequence[float]]


def truth(start: Sequence[float], after: Belief, outcome: Sequence[float], group: Sequence[str], gamma: float) -> Rows:
    """Return the credit of every turn, by the library's recipe."""
    asked: Rows = [[*(math.log(p) for p in row), None] for row in after]
    before = [math.log(p) for p in start]
    batch = hand(group, {"gold_logprob": asked}, {"gold_logprob_start": before, "outcome": list(outcome)})
    return rows_of(igpo(gamma=gamma).credit(batch, to="turn"), batch)


# ------------------------------------------------------------------------------------------------------- the parts

Normed = Callable[[Rows, Sequence[float], Sequence[str]], Rows]


def gains(start: Sequence[float], after: Belief, of: Callable[[float], float] = float) -> Rows:
    """What each search added to the belief; the answer has no gain."""
    chains = [[of(p), *(of(q) for q in row)] for p, row in zip(start, after, strict=True)]
    return [[b - a for a, b in zip(row, row[1:], strict=False)] + [None] for row in chains]


def joint(gain: Rows, outcome: Sequence[float], group: Sequence[str], **how: object) -> Rows:
    """Gains and outcomes of a question in one pool."""
    return standard(either(gain, at_last(outcome, gain)), group, **how)  # type: ignore[arg-type]


def separate(gain: Rows, outcome: Sequence[float], group: Sequence[str]) -> Rows:
    """Gains in a pool of theirs, outcomes in another."""
    return either(standard(gain, group), at_last(outcomes(outcome, group), gain))


def made(
    normed: Normed = joint,
    summed: Callable[[Rows, float], Rows] = to_go,
    of: Callable[[float], float] = float,
    gain: Callable[..., Rows] = gains,
) -> Solution:
    """Return a solution made of these parts; the defaults are right."""

    def solution(start: list[float], after: Belief, outcome: list[float], group: list[str], gamma: float) -> Rows:
        return summed(normed(gain(start, after, of), outcome, group), gamma)

    return solution


right = made()


def no_first_gain(start: Sequence[float], after: Belief, of: Callable[[float], float]) -> Rows:
    """Forget the probe before the first turn."""
    return [[None, *row[1:]] if len(row) > 1 else row for row in gains(start, after, of)]


def belief_itself(start: Sequence[float], after: Belief, of: Callable[[float], float]) -> Rows:
    """Take the belief, not its change."""
    return [[*(of(p) for p in row), None] for row in after]


def without_zeros(start: Sequence[float], after: Belief, of: Callable[[float], float]) -> Rows:
    """Take a gain of exactly 0 for no turn."""
    return [[None if x == 0 else x for x in row] for row in gains(start, after, of)]


def outcome_everywhere(gain: Rows, outcome: Sequence[float], group: Sequence[str]) -> Rows:
    """Put the outcome on every turn before the sum."""
    z = joint(gain, outcome, group)
    last = [row[-1] or 0.0 for row in z]
    return [
        [(x or 0.0) + (end if t < len(row) - 1 else 0.0) for t, x in enumerate(row)]
        for row, end in zip(z, last, strict=True)
    ]


def outcome_forgotten(gain: Rows, outcome: Sequence[float], group: Sequence[str]) -> Rows:
    """Normalise the gains alone, and leave the outcome out."""
    return [[*row[:-1], 0.0] for row in filled(standard(gain, group))]


def outcome_after(gain: Rows, outcome: Sequence[float], group: Sequence[str]) -> Rows:
    """Normalise gains alone, and put the raw outcome at the end."""
    return either(standard(gain, group), at_last(outcome, gain))


def sum_first(start: list[float], after: Belief, outcome: list[float], group: list[str], gamma: float) -> Rows:
    """Sum raw rewards, and normalise the sums."""
    raw = either(gains(start, after), at_last(outcome, [[*row, 0.0] for row in after]))
    return standard(to_go(raw, gamma), group)


# -------------------------------------------------------------------------------------------------------- the cases


def _belief(rng: Random) -> float:
    return rng.choice((0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.9))


def _rollout(rng: Random, question: str, searches: int, outcome: float, flat: bool = False) -> tuple[object, ...]:
    start = rng.choice((0.05, 0.1, 0.15))
    after = [_belief(rng) for _ in range(searches)]
    if flat and searches:
        after[0] = start  # a search that found nothing new: its gain is exactly 0
    return start, after, outcome, question


def cases(rng: Random) -> list[Args]:
    """One question; two; a useless search; a rollout alone with its question; then ragged batches."""
    small = [
        [("A", 1, 1.0, False), ("A", 1, 0.0, False)],
        [("A", 2, 1.0, False), ("A", 1, 0.0, False)],
        [("A", 2, 0.0, True), ("A", 2, 1.0, False)],
        [("A", 2, 1.0, False), ("A", 1, 0.0, False), ("B", 2, 1.0, False), ("B", 1, 1.0, False)],
        [("A", 3, 1.0, True), ("A", 0, 0.0, False), ("B", 2, 1.0, False)],
    ]
    for _ in range(10):
        drawn = [(q, rng.randint(0, 3), rng.choice((0.0, 1.0)), rng.random() < 0.3) for q in "AAABB"]
        small.append(rng.sample(drawn, len(drawn)))
    out: list[Args] = []
    for number, members in enumerate(small):
        columns = [list(c) for c in zip(*(_rollout(rng, *one) for one in members), strict=True)]
        start, after, outcome, group = columns
        out.append((start, after, outcome, group, 1.0 if number % 3 == 0 else rng.choice((0.5, 0.8))))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: belief before and after each search, the outcome at the answer."""
    start, after, outcome, group, gamma = args
    before: Rows = [[p, *row] for p, row in zip(start, after, strict=True)]
    later: Rows = [[*row, None] for row in after]
    columns = [("belief before", before), ("after", later), ("outcome", at_last(outcome, before))]
    return turn_table(f"Rollouts, a line a turn; gamma = {gamma:g}. Wrong lines are marked.", columns, group, got, want)


def _sums_to_zero(args: Args, got: Values, solution: Solution) -> bool:
    start, after, outcome, group, _ = args
    now = solution(start, after, outcome, group, 0.0)
    sums = {g: sum(float(x) for row, h in zip(now, group, strict=True) if h == g for x in row) for g in group}
    return all(abs(total) < 1e-3 for total in sums.values())


def _other_questions_unseen(args: Args, got: Values, solution: Solution) -> bool:
    start, after, outcome, group, gamma = args
    keep = [i for i, g in enumerate(group) if g == group[0]]
    alone = solution(*[[column[i] for i in keep] for column in (start, after, outcome, group)], gamma)
    return all(abs(a - b) < 1e-3 for i, row in zip(keep, alone, strict=True) for a, b in zip(got[i], row, strict=True))


ex = Exercise(
    "ex",
    "the credit of every turn",
    clear(cases, truth),
    truth,
    (
        Misconception(
            "log-probabilities",
            "You subtract log-probabilities. The paper's gain is a difference of probabilities; its training script "
            "uses logarithms (igpo_released), and the two rank turns differently.",
            made(of=math.log),
        ),
        Misconception(
            "separate pools",
            "You normalise gains and outcomes apart. So does the training script; the paper puts both in one pool, "
            "so that the outcome is weighed against what the searches gained.",
            made(separate),
        ),
        Misconception(
            "same turn only",
            "You compare a turn with the same turn of the other rollouts. That is A2TGPO's cure for IGPO; IGPO "
            "compares it with all turns of the question.",
            made(partial(joint, peers=of_turn)),
        ),
        Misconception(
            "whole batch",
            "You compare across questions. Beliefs rise faster on an easy question: its turns would be praised for "
            "that.",
            made(partial(joint, peers=of_batch)),
        ),
        Misconception(
            "own rollout",
            "You compare a turn with the other turns of its own rollout only. A rollout of useless turns would get "
            "as much praise as one of useful ones.",
            made(partial(joint, peers=of_rollout)),
        ),
        Misconception(
            "no probe before the first turn",
            "You give the first search no gain. The belief after the prompt alone is its baseline; A2TGPO's release "
            "leaves that probe out, and its first search is never rewarded.",
            made(gain=no_first_gain),
        ),
        Misconception(
            "belief, not gain",
            "You reward the belief itself. A turn that comes after a good search would be paid for it again.",
            made(gain=belief_itself),
        ),
        Misconception(
            "zero gain vanishes",
            "You take a gain of exactly 0 for no turn at all. The release does: such a turn leaves the statistics "
            "and takes the credit of the next one. A search that found nothing has gained 0, which is a value.",
            made(gain=without_zeros),
        ),
        Misconception(
            "sums before statistics",
            "You sum the rewards and normalise the sums. IGPO normalises rewards and sums what comes out; the other "
            "order praises early turns for having more to come.",
            sum_first,
        ),
        Misconception(
            "outcome on every turn",
            "You add the outcome to every turn and then sum: early turns count it once for each turn that follows. "
            "It is the reward of the last turn alone; the sum carries it back.",
            made(outcome_everywhere),
        ),
        Misconception(
            "outcome left out",
            "Your answer turn has no reward. It earns the outcome, in one pool with the gains.",
            made(outcome_forgotten),
        ),
        Misconception(
            "raw outcome",
            "You put the raw outcome beside normalised gains. A right answer is then never more than 1 and a wrong "
            "one is never blamed.",
            made(outcome_after),
        ),
        Misconception(
            "sums backwards",
            "You sum what came before a turn. A turn is responsible for what follows it.",
            made(summed=so_far),
        ),
        Misconception(
            "no discount",
            "You ignore gamma. The first release does, too: gamma is read from its settings and never used.",
            made(summed=undiscounted),
        ),
        Misconception(
            "sample spread",
            "You divide the squares by n - 1. IGPO's code takes the spread of the population; GRPO's that of a sample.",
            made(partial(joint, ddof=1)),
        ),
        Misconception(
            "no spread",
            "You subtract the mean and stop: the release with norm_adv_by_std off, not the paper.",
            made(partial(joint, divide=False)),
        ),
    ),
    (
        Property("without a discounted sum (gamma = 0), the credits of a question sum to zero", _sums_to_zero),
        Property("other questions of the batch do not matter", _other_questions_unseen),
    ),
    shown,
    (
        "Write down the rewards first, a row a rollout: one gain a search, and one number for the answer. Which "
        "number?",
        "One pool a question: all its gains and all its outcomes. Mean and spread (of the population) of that pool.",
        "Normalise every reward by its pool; then walk each row from its end: A_t = r_t + gamma A_{t+1}.",
    ),
)

hint = hints(ex)
