"""ARTIST: one reward of a right answer, a good form and calls that worked, compared with the question's siblings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from workbench.recipes import artist
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values, same, values
from workbench.teach.method_page import hand
from workbench.teach.table import Table, number
from workbench.teach.turn_parts import hints, outcomes

Calls = Sequence[bool]
"""Did each call of a rollout work? Empty: it made none."""


def share(calls: Calls) -> float | None:
    """Calls that worked of all; None without calls.

    Example:
        >>> share([True, False]), share([])
        (0.5, None)
    """
    return sum(calls) / len(calls) if calls else None


def truth(
    right: Sequence[float], form: Sequence[float], calls: Sequence[Calls], group: Sequence[str]
) -> list[float | None]:
    """Return the credit of each rollout, by the library's recipe."""
    columns = {"outcome": right, "format_score": form, "tool_success": [share(row) for row in calls]}
    batch = hand(group, None, columns, turns=[1] * len(group))
    return artist(kl=0.0).credit(batch, to="trajectory").tolist()


# ------------------------------------------------------------------------------------------------------- the parts


def reward(right: float, form: float, calls: Calls) -> float:
    """2 [right] + form + share of calls that worked, 0 without any."""
    return 2 * right + form + (share(calls) or 0.0)


def compare(rewards: list[float], group: Sequence[str]) -> list[float]:
    """Compare with the rollouts of the question."""
    return outcomes(rewards, group)


def compare_by(**how: object) -> Callable[[list[float], Sequence[str]], list[float]]:
    """Compare in another way; `how` as in `standard`."""
    return lambda rewards, group: outcomes(rewards, group, **how)


def made(
    of: Callable[[float, float, Calls], float] = reward,
    compared: Callable[[list[float], Sequence[str]], list[float]] = compare,
) -> Solution:
    """Return a solution made of a reward and a comparison; the defaults are right."""

    def solution(right: list[float], form: list[float], calls: list[list[bool]], group: list[str]) -> list[float]:
        return compared([of(*one) for one in zip(right, form, calls, strict=True)], group)

    return solution


right = made()


def with_calls(count: Callable[[Calls], float]) -> Solution:
    """Return a solution that scores calls in another way."""
    return made(lambda right, form, calls: 2 * right + form + count(calls))


def term_by_term(right: list[float], form: list[float], calls: list[list[bool]], group: list[str]) -> list[float]:
    """Compare each term by itself and add what comes out."""
    terms = (right, form, [share(row) or 0.0 for row in calls])
    parts = [outcomes(term, group) for term in terms]
    return [2 * a + b + c for a, b, c in zip(*parts, strict=True)]


def no_calls_no_credit(right: list[float], form: list[float], calls: list[list[bool]], group: list[str]) -> list[float]:
    """Leave rollouts without calls out of the comparison."""
    there = [i for i, row in enumerate(calls) if row]
    known = compare([reward(right[i], form[i], calls[i]) for i in there], [group[i] for i in there])
    found = dict(zip(there, known, strict=True))
    return [found.get(i, 0.0) for i in range(len(calls))]


# -------------------------------------------------------------------------------------------------------- the cases


def cases(rng: Random) -> list[Args]:
    """A rollout without calls; one alone; two questions of unlike difficulty; then any."""
    fixed: list[Args] = [
        ([1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [[True, True, True, False], [True, False], []], ["q"] * 3),
        ([1.0, 1.0, 0.0], [0.5, 1.0, 0.0], [[False, True], [True, False, False], [True, True, False]], ["q"] * 3),
        ([1.0, 0.0, 0.0], [0.5, 1.0, 0.5], [[True, False], [True], [False]], ["q", "q", "p"]),
        (
            [1.0, 1.0, 0.0, 0.0],
            [1.0, 0.5, 0.5, 0.0],
            [[True], [True, True, False], [False], [True, False]],
            ["q"] * 2 + ["p"] * 2,
        ),
    ]
    for _ in range(12):
        group = [q for q in ("q", "p")[: rng.randint(1, 2)] for _ in range(rng.randint(2, 4))]
        fixed.append(
            (
                [float(rng.random() < 0.5) for _ in group],
                [rng.choice((0.0, 0.5, 1.0)) for _ in group],
                [[rng.random() < 0.6 for _ in range(rng.choice((0, 1, 2, 3, 4)))] for _ in group],
                group,
            )
        )
    return fixed


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case, a line a rollout."""
    told, form, calls, group = args
    fits = isinstance(got, tuple) and len(got) == len(want)
    rows, bad = [], set()
    for i, row in enumerate(calls):
        if fits and not same(got[i], want[i]):
            bad.add(i)
        worked = " ".join("ok" if call else "failed" for call in row) or "(none)"
        line = (str(i), group[i], f"{told[i]:g}", f"{form[i]:g}", worked)
        rows.append((*line, number(got[i]) if fits else "", number(want[i])))
    head = ("rollout", "question", "right", "form", "calls", "yours", "right credit")
    return Table("Wrong lines are marked.", head, tuple(rows), frozenset(bad))


def _sums_to_zero(args: Args, got: Values, solution: Solution) -> bool:
    group = args[3]
    return all(abs(sum(x for x, g in zip(got, group, strict=True) if g == q)) < 1e-3 for q in group)


def _order(args: Args, got: Values, solution: Solution) -> bool:
    told, form, calls, group = args
    return same(got, values(solution(told, form, [row[::-1] for row in calls], group)))


ex = Exercise(
    "ex",
    "the credit of every rollout",
    cases,
    truth,
    (
        Misconception(
            "a right answer is worth 1",
            "You pay 1 for a right answer. It is 2: otherwise good form and calls that work outweigh it.",
            made(lambda right, form, calls: right + form + (share(calls) or 0.0)),
        ),
        Misconception(
            "number of calls",
            "You add the number of calls that worked. It is their share: a policy would call on for ever.",
            with_calls(lambda calls: float(sum(calls))),
        ),
        Misconception(
            "no calls, full marks",
            "You give a rollout without calls the whole share: none of its calls failed. Here it adds 0.",
            with_calls(lambda calls: sum(calls) / len(calls) if calls else 1.0),
        ),
        Misconception(
            "no calls, not compared",
            "You leave a rollout without calls out of the comparison. Its reward is known: the call term is 0.",
            no_calls_no_credit,
        ),
        Misconception(
            "last call only",
            "You look at the last call alone. All calls of the rollout count alike.",
            with_calls(lambda calls: float(calls[-1]) if calls else 0.0),
        ),
        Misconception(
            "any call that worked",
            "You pay in full as soon as one call worked. It is the share of all calls.",
            with_calls(lambda calls: float(any(calls))),
        ),
        Misconception(
            "all calls or nothing",
            "You pay for calls only where every one of them worked. It is the share of all calls.",
            with_calls(lambda calls: float(bool(calls) and all(calls))),
        ),
        Misconception(
            "failed calls charged",
            "You take failed calls off those that worked. A failed call lowers the share; it is not charged again.",
            with_calls(lambda calls: (2 * sum(calls) - len(calls)) / len(calls) if calls else 0.0),
        ),
        Misconception(
            "calls are free",
            "You leave the calls out of the reward: a policy learns to call from answers alone.",
            with_calls(lambda calls: 0.0),
        ),
        Misconception(
            "form is free",
            "You leave the form out of the reward. An answer that cannot be read by rule is then no worse.",
            made(lambda right, form, calls: 2 * right + (share(calls) or 0.0)),
        ),
        Misconception(
            "strict form only",
            "You pay for the form only where it is strict. A relaxed one, in which the answer can be read, has 0.5.",
            made(lambda right, form, calls: 2 * right + float(form == 1.0) + (share(calls) or 0.0)),
        ),
        Misconception(
            "calls pay when right",
            "You pay for calls only where the answer is right. The terms are added; none waits for another.",
            made(lambda right, form, calls: 2 * right + form + right * (share(calls) or 0.0)),
        ),
        Misconception(
            "form pays when right",
            "You pay for the form only where the answer is right. The terms are added; none waits for another.",
            made(lambda right, form, calls: 2 * right + right * form + (share(calls) or 0.0)),
        ),
        Misconception(
            "the answer alone",
            "You compare right and wrong alone. That is GRPO on the outcome.",
            made(lambda right, form, calls: right),
        ),
        Misconception(
            "compared term by term",
            "You compare each term by itself and add the scores. The sum is compared, once.",
            term_by_term,
        ),
        Misconception(
            "whole batch",
            "You compare across questions: a rollout of an easy question would be praised for being easy.",
            made(compared=lambda rewards, group: outcomes(rewards, ["all"] * len(group))),
        ),
        Misconception(
            "spread of a sample",
            "You divide by n - 1 in the spread. Here it is the population's, n.",
            made(compared=compare_by(ddof=1)),
        ),
        Misconception(
            "spread forgotten",
            "You subtract the mean and do not divide by the spread.",
            made(compared=compare_by(divide=False)),
        ),
        Misconception(
            "alone keeps its reward",
            "You keep the reward of a rollout that is alone with its question. Nothing was compared: 0.",
            made(compared=compare_by(lone="keep")),
        ),
    ),
    (
        Property("credit adds up to 0 within a question", _sums_to_zero),
        Property("the order of calls changes nothing", _order),
    ),
    shown,
    (
        "First a reward for each rollout, a sum of three terms; then one comparison.",
        "2 for a right answer, the form as given, calls that worked over all calls (0 without any).",
        "Subtract the mean of the question's rewards, divide by their population spread; alone or equal gives 0.",
    ),
)

hint = hints(ex)
