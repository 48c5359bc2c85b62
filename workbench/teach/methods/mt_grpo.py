"""MT-GRPO: each call's reward against the same turn of its siblings, and the outcome against theirs, added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from workbench.recipes import mt_grpo
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values
from workbench.teach.method_page import hand, turns
from workbench.teach.table import Table
from workbench.teach.turn_parts import (
    Peers,
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
    standard,
    to_go,
    turn_table,
)


def truth(reward: Rows, outcome: Sequence[float], group: Sequence[str], weight: float) -> Rows:
    """Return the credit of every turn, by the library's recipe."""
    batch = hand(group, {"turn_reward": reward}, {"outcome": list(outcome)})
    return turns(mt_grpo(weight), batch)


# ------------------------------------------------------------------------------------------------------- the parts

Terms = Callable[[Rows, Sequence[float], Sequence[str], float], tuple[Rows, Rows]]
"""(rewards, outcomes, questions, weight) -> the turn's term and the outcome's, a number a turn each."""

SAMPLE = {"ddof": 1}


def made(
    peers: Peers = of_turn,
    before: Callable[[Rows], Rows] = lambda rows: rows,
    after: Callable[[Rows], Rows] = lambda rows: rows,
    weights: Callable[[float], tuple[float, float]] = lambda w: (w, 1.0),
    **how: object,
) -> Solution:
    """Return a solution made of these parts; the defaults are right.

    Args:
        peers: whom a turn's reward is compared with.
        before, after: what happens to rewards before, to z-scores after the comparison.
        weights: of the two terms, from the exercise's weight.
        how: of both comparisons, as in `standard`.
    """
    rule = {**SAMPLE, **how}

    def solution(reward: Rows, outcome: list[float], group: list[str], weight: float) -> Rows:
        a, b = weights(weight)
        own = filled(after(standard(before(reward), group, peers, **rule)))  # type: ignore[arg-type]
        whole = everywhere(outcomes(outcome, group, **rule), reward)
        return each(lambda x, y: a * x + b * y, own, whole)  # type: ignore[arg-type]

    return solution


right = made()


def totals(reward: Rows) -> list[float]:
    """The sum of a rollout's turn rewards."""
    return [sum(row) for row in filled(reward)]


def released(reward: Rows, outcome: list[float], group: list[str], weight: float) -> Rows:
    """One reward a rollout, at its first turn; a rollout of one turn: both rewards in one number."""
    summed = totals(reward)
    added = [r + x for r, x in zip(outcome, summed, strict=True)]
    call, end, both = (outcomes(values, group, **SAMPLE) for values in (summed, outcome, added))
    return [
        [both[i]] if len(row) == 1 else [end[i] + weight * call[i] * (t == 0) for t in range(len(row))]
        for i, row in enumerate(reward)
    ]


def merged(reward: Rows, outcome: list[float], group: list[str], weight: float) -> Rows:
    """All rewards of a rollout in one number, compared as GRPO does."""
    sums = [r + weight * x for r, x in zip(outcome, totals(reward), strict=True)]
    return everywhere(outcomes(sums, group, **SAMPLE), reward)


def calls_without_outcome(reward: Rows, outcome: list[float], group: list[str], weight: float) -> Rows:
    """The outcome at the answer alone."""
    own = standard(reward, group, of_turn, ddof=1)
    end = at_last(outcomes(outcome, group, **SAMPLE), reward)
    return [
        [weight * x if y is None else y for x, y in zip(p, q, strict=True)]
        for p, q in zip(filled(own), end, strict=True)
    ]


def silent_answer(reward: Rows, outcome: list[float], group: list[str], weight: float) -> Rows:
    """Nothing for a turn that has no reward of its own."""
    said = right(reward, outcome, group, weight)
    return [[0.0 if x is None else y for x, y in zip(p, q, strict=True)] for p, q in zip(reward, said, strict=True)]


def over_turns(reward: Rows, outcome: list[float], group: list[str], weight: float) -> Rows:
    """Mean and spread of outcomes over turns, so that long rollouts count more."""
    own = filled(standard(reward, group, of_turn, ddof=1))
    whole = filled(standard(everywhere(outcome, reward), group, ddof=1))
    return each(lambda x, y: weight * x + y, own, whole)  # type: ignore[arg-type]


def follows(rows: Rows) -> Rows:
    """Sum what follows."""
    return to_go(rows, 1.0)


# -------------------------------------------------------------------------------------------------------- the cases


def _rewards(rng: Random, calls: int) -> list[float | None]:
    return [*(rng.choice((0.0, 0.0, 0.5, 1.0, 0.25)) for _ in range(calls)), None]


def cases(rng: Random) -> list[Args]:
    """Call and answer; unlike lengths; another question; one alone; then any."""
    shapes = [
        [("A", 1), ("A", 1), ("A", 1)],
        [("A", 2), ("A", 1), ("A", 2)],
        [("A", 2), ("A", 2), ("B", 2), ("B", 1), ("B", 2)],
        [("A", 1), ("A", 1), ("A", 0), ("B", 1)],
    ]
    shapes += [[(q, rng.randint(0, 3)) for q in rng.choice(("AAABB", "AAABBB", "AAAAB"))] for _ in range(22)]
    out: list[Args] = []
    for shape in shapes:
        group = [q for q, _ in shape]
        outcome = [1.0, 0.0, *(rng.choice((0.0, 1.0)) for _ in shape[2:])]
        out.append(([_rewards(rng, n) for _, n in shape], outcome, group, rng.choice((0.5, 2.0))))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: the reward of each call, and the outcome."""
    reward, outcome, group, weight = args
    columns = [("reward of the call", reward), ("outcome", everywhere(outcome, reward))]
    return turn_table(f"Rollouts, a line a turn; weight = {weight:g}.", columns, group, got, want)


def _no_weight_is_grpo(args: Args, got: Values, solution: Solution) -> bool:
    reward, outcome, group, _ = args
    said = solution(reward, outcome, group, 0.0)
    z = outcomes(outcome, group, **SAMPLE)
    return all(abs(x - whole) < 1e-3 for row, whole in zip(said, z, strict=True) for x in row)


def _own_reward_only(args: Args, got: Values, solution: Solution) -> bool:
    reward, outcome, group, weight = args
    if len(reward[0]) < 3:
        return True
    other = [[*row] for row in reward]
    other[0][1] = (other[0][1] or 0.0) + 1.0
    return abs(float(solution(other, outcome, group, weight)[0][0]) - float(got[0][0])) < 1e-3


ex = Exercise(
    "ex",
    "the credit of every turn",
    clear(cases, truth),
    truth,
    (
        Misconception(
            "one reward a rollout",
            "You sum the rewards of a rollout and pay its first turn. So does the release, whose agents make one call; "
            "with more calls the later ones get nothing of their own.",
            released,
        ),
        Misconception(
            "merged",
            "You put turn rewards and outcome into one number a rollout. That is GRPO with a richer reward (GRPO-MR in "
            "the paper): a good call of a failed rollout cannot be told from its bad answer.",
            merged,
        ),
        Misconception(
            "answer counts as 0",
            "You read the missing reward of an answer as 0. It is then compared with the calls that siblings made at "
            "that turn: whoever answers early is blamed for not searching.",
            made(before=filled),  # type: ignore[arg-type]
        ),
        Misconception(
            "answer gets nothing",
            "You give a turn without a reward of its own no credit. The answer has the outcome's term.",
            silent_answer,
        ),
        Misconception(
            "calls without the outcome",
            "You credit calls with their own reward alone and the answer with the outcome. The outcome's term is on "
            "every turn.",
            calls_without_outcome,
        ),
        Misconception(
            "all turns of the question",
            "You compare a call with all calls of the question, as IGPO does. Here it is compared with the same turn.",
            made(of_question),
        ),
        Misconception(
            "other questions",
            "You compare calls at the same turn across questions. Calls of an easy question would be praised for that.",
            made(of_place),
        ),
        Misconception(
            "own rollout",
            "You compare a call with the other calls of its own rollout; siblings then do not matter.",
            made(of_rollout),
        ),
        Misconception("whole batch", "You compare a call with every call of the whole batch.", made(of_batch)),
        Misconception(
            "returns compared",
            "You sum what follows a call and compare the sums, as MatchTIR does. Here a call has its own reward only.",
            made(before=follows),
        ),
        Misconception(
            "sums of z-scores",
            "You sum the z-scores of later calls, as IGPO does. Here a call is credited for its own reward only.",
            made(after=follows),
        ),
        Misconception(
            "weight on the outcome",
            "You weigh the outcome's term; the weight belongs to the turn's own.",
            made(weights=lambda w: (1.0, w)),
        ),
        Misconception(
            "no weight",
            "You add the two terms as they are and forget the weight of the turn's own.",
            made(weights=lambda w: (1.0, 1.0)),
        ),
        Misconception(
            "turn term alone",
            "You left out the outcome's term: a rollout that searches well and answers wrong would only be praised.",
            made(weights=lambda w: (w, 0.0)),
        ),
        Misconception(
            "outcome over turns",
            "You take mean and spread of outcomes over turns; a long rollout then counts more than a short one.",
            over_turns,
        ),
        Misconception(
            "lone turn keeps its reward",
            "You let a turn that nobody is compared with keep its raw reward, as MatchTIR's code does. Here it gets 0.",
            made(lone="keep"),
        ),
        Misconception(
            "population spread",
            "You divide the squares by n. Paper and release have GRPO's spread, that of a sample: n - 1.",
            made(ddof=0),
        ),
        Misconception("no spread", "You subtract the means and do not divide by the spreads.", made(divide=False)),
    ),
    (
        Property("with weight 0 it is GRPO", _no_weight_is_grpo),
        Property("the reward of a later turn changes nothing for an earlier one", _own_reward_only),
    ),
    shown,
    (
        "Two numbers a turn, added. One of them is GRPO's. For the other: which turns of which rollouts are compared?",
        "The turn's own term is a z-score (spread of a sample) among the known rewards of the same turn of the "
        "question.",
        "A turn without a reward of its own (None), or without anybody beside it, has 0 in that place.",
    ),
)

hint = hints(ex)
