"""Parts of the exercises on methods that know the outcome alone: an advantage a rollout, and an average over "
"tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from statistics import mean, median, pstdev, stdev

import torch

from workbench.recipes import Recipe
from workbench.teach.cases101 import advantage_cases
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values, same, values
from workbench.teach.method_page import hand
from workbench.teach.table import Table, number

Numbers = Sequence[float]
Names = Sequence[str]
Lengths = Sequence[int]
Advantage = Callable[[Numbers, Names, Lengths], Sequence[float | None]]
"""(outcome, question, tokens) of each rollout -> its advantage; None: it is left out."""
Average = Callable[[Sequence[bool], Lengths], Sequence[float]]
"""(is it in?, tokens) of each rollout -> the weight of each of its tokens."""
EPS = 1e-6


def truth_of(recipe: Recipe) -> Solution:
    """Return what a recipe's loss weighs each token of a rollout with, where the policy has not moved yet."""

    def truth(outcome: Numbers, group: Names, tokens: Lengths) -> list[float]:
        sizes = [[n] for n in tokens]
        batch = hand(list(group), rollout={"outcome": list(outcome)}, turns=[1] * len(sizes), tokens=sizes)
        credit = recipe.credit(batch, to="token")
        weight = recipe.objective.terms[0].aggregate(batch, credit.known) * credit.values
        ends = torch.cumsum(torch.tensor(list(tokens)), 0) - 1
        return [float(w) for w in torch.where(credit.known, weight, torch.zeros_like(weight))[ends]]

    return truth


def made(advantage: Advantage, average: Average) -> Solution:
    """Return a solution: weight of a token = advantage of its rollout x weight of the average."""

    def solution(outcome: list[float], group: list[str], tokens: list[int]) -> list[float]:
        a = advantage(outcome, group, tokens)
        w = average([x is not None for x in a], tokens)
        return [0.0 if x is None else x * y for x, y in zip(a, w, strict=True)]

    return solution


# ------------------------------------------------------------------------------------------------------ advantages


def _peers(outcome: Numbers, group: Names, i: int) -> list[float]:
    return [r for r, g in zip(outcome, group, strict=True) if g == group[i]]


def _others(outcome: Numbers, group: Names, i: int) -> list[float]:
    return [r for k, (r, g) in enumerate(zip(outcome, group, strict=True)) if g == group[i] and k != i]


def _score(x: float, pool: Numbers, ddof: int = 1, divide: bool = True, lone: float = 0.0) -> float:
    if len(pool) < 2:
        return lone * x
    if max(pool) == min(pool):
        return 0.0
    return (x - mean(pool)) / ((stdev if ddof else pstdev)(pool) + EPS if divide else 1.0)


def z(ddof: int = 1, divide: bool = True, lone: float = 0.0) -> Advantage:
    """The z-score among the rollouts of the question; a lone one gets `lone` times its outcome."""

    def advantage(outcome: Numbers, group: Names, tokens: Lengths) -> list[float]:
        return [_score(r, _peers(outcome, group, i), ddof, divide, lone) for i, r in enumerate(outcome)]

    return advantage


def z_of_batch(outcome: Numbers, group: Names, tokens: Lengths) -> list[float]:
    """Compare with all rollouts of the batch."""
    return [_score(r, outcome) for r in outcome]


def centred_of_batch(outcome: Numbers, group: Names, tokens: Lengths) -> list[float]:
    """Subtract the mean of the batch."""
    return [r - mean(outcome) for r in outcome]


def noise(outcome: Numbers, group: Names, tokens: Lengths) -> list[float]:
    """Divide rounding by rounding where all outcomes are equal."""
    out = []
    for i, r in enumerate(outcome):
        pool = _peers(outcome, group, i)
        middle = sum(pool) / len(pool)
        spread = (sum((x - middle) ** 2 for x in pool) / max(len(pool) - 1, 1)) ** 0.5
        out.append((r - middle) / spread if spread > 0 else 0.0)
    return out


def looks_like_noise(args: Args, got: Values, want: Values) -> bool:
    """Is an answer wrong at rollouts of groups of two or more equal outcomes, and only there?"""
    outcome, group, _ = args
    pools = [_peers(outcome, group, i) for i in range(len(outcome))]
    wrong = [i for i in range(len(outcome)) if not same(got[i], want[i])]
    return bool(wrong) and all(len(pools[i]) > 1 and len(set(pools[i])) == 1 for i in wrong)


def over_tokens(divide: bool = True) -> Advantage:
    """Copy each outcome to its tokens first, and take the statistics over tokens."""

    def advantage(outcome: Numbers, group: Names, tokens: Lengths) -> list[float]:
        out = []
        for i, r in enumerate(outcome):
            rows = [[x] * n for x, n, g in zip(outcome, tokens, group, strict=True) if g == group[i]]
            alone = len(rows) == 1
            out.append(0.0 if alone else _score(r, [x for row in rows for x in row], divide=divide))
        return out

    return advantage


def leave_one_out(lone: float = 0.0, of: Callable[[Numbers], float] = mean) -> Advantage:
    """Subtract what the others of the question got; `of` says which number of theirs."""

    def advantage(outcome: Numbers, group: Names, tokens: Lengths) -> list[float]:
        others = [_others(outcome, group, i) for i in range(len(outcome))]
        return [r - of(o) if o else lone * r for r, o in zip(outcome, others, strict=True)]

    return advantage


def shrunk(outcome: Numbers, group: Names, tokens: Lengths) -> list[float]:
    """Scale the wrong way: (n - 1) / n in the place of n / (n - 1)."""
    sizes = [len(_peers(outcome, group, i)) for i in range(len(outcome))]
    return [a * (n - 1) / n for a, n in zip(z(divide=False)(outcome, group, tokens), sizes, strict=True)]


def others_of_batch(outcome: Numbers, group: Names, tokens: Lengths) -> list[float]:
    """Subtract the mean of all other rollouts of the batch."""
    total = sum(outcome)
    return [r - (total - r) / (len(outcome) - 1) for r in outcome]


def sum_of_others(outcome: Numbers, group: Names, tokens: Lengths) -> list[float]:
    """Subtract the sum of the others."""
    return leave_one_out(of=sum)(outcome, group, tokens)  # type: ignore[return-value]


def middle_of_others(outcome: Numbers, group: Names, tokens: Lengths) -> list[float]:
    """Subtract the median of the others."""
    return leave_one_out(of=median)(outcome, group, tokens)  # type: ignore[return-value]


def best_of_others(outcome: Numbers, group: Names, tokens: Lengths) -> list[float]:
    """Subtract the best of the others."""
    return leave_one_out(of=max)(outcome, group, tokens)  # type: ignore[return-value]


def raw(outcome: Numbers, group: Names, tokens: Lengths) -> list[float]:
    """Compare with nobody."""
    return list(outcome)


def signed(outcome: Numbers, group: Names, tokens: Lengths) -> list[float]:
    """Turn outcomes of 0 to 1 into -1 to 1."""
    return [2 * r - 1 for r in outcome]


def dropped(advantage: Advantage, when: Callable[[Numbers], bool]) -> Advantage:
    """Leave out the rollouts of questions whose outcomes are so."""

    def filtered(outcome: Numbers, group: Names, tokens: Lengths) -> list[float | None]:
        a = advantage(outcome, group, tokens)
        return [None if when(_peers(outcome, group, i)) else x for i, x in enumerate(a)]

    return filtered


def all_equal(pool: Numbers) -> bool:
    """Are all outcomes of a question equal?"""
    return max(pool) == min(pool)


# -------------------------------------------------------------------------------------------------------- averages


def mean_of_means(counted: Sequence[bool], tokens: Lengths) -> list[float]:
    """Mean over rollouts of the mean over their tokens."""
    return [1.0 / (sum(counted) * n) for n in tokens] if any(counted) else [0.0] * len(tokens)


def mean_of_sums(counted: Sequence[bool], tokens: Lengths) -> list[float]:
    """Mean over rollouts of the sum over their tokens."""
    return [1.0 / max(sum(counted), 1)] * len(tokens)


def over_all_tokens(counted: Sequence[bool], tokens: Lengths) -> list[float]:
    """Mean over all tokens that count."""
    return [1.0 / max(sum(n for n, c in zip(tokens, counted, strict=True) if c), 1)] * len(tokens)


def over_every_token(counted: Sequence[bool], tokens: Lengths) -> list[float]:
    """Mean over all tokens of the batch, counted or not."""
    return [1.0 / sum(tokens)] * len(tokens)


def padded(counted: Sequence[bool], tokens: Lengths) -> list[float]:
    """Mean over the padded rectangle."""
    return [1.0 / (len(tokens) * max(tokens))] * len(tokens)


def padded_width(counted: Sequence[bool], tokens: Lengths) -> list[float]:
    """Divide the sum over all tokens by the length of the longest rollout."""
    return [1.0 / max(tokens)] * len(tokens)


def length_twice(counted: Sequence[bool], tokens: Lengths) -> list[float]:
    """Share the advantage over the tokens, and take their mean."""
    return [1.0 / (len(tokens) * n * n) for n in tokens]


def summed(counted: Sequence[bool], tokens: Lengths) -> list[float]:
    """Sum over all tokens; no average."""
    return [1.0] * len(tokens)


def by(constant: float) -> Average:
    """Divide the sum over all tokens by a constant."""
    return lambda counted, tokens: [1.0 / constant] * len(tokens)


# ------------------------------------------------------------------------------------------------------ what is told

WORDS = {
    "batch statistics": "You compare with the whole batch. A rollout competes with the others of its own question; "
    "else rollouts of easy questions are praised for being easy.",
    "population spread": "You divide the squares by G. verl and TRL divide by G - 1, rllm by G; with four rollouts "
    "the two differ by 15 %.",
    "noise divided by noise": "You divide what rounding left over by a spread that is rounding, too. Where all "
    "outcomes of a question are equal nobody is better: exactly 0.",
    "lone rollout keeps its outcome": "You give a rollout without peers its raw outcome. So does verl (mean 0, "
    "spread 1); nobody was compared, so here it is 0.",
    "statistics over tokens": "You copy outcomes to tokens before you take the statistics, so that long rollouts "
    "count more. The group is a set of rollouts.",
    "mean over all tokens": "You take one mean over all tokens of the batch: long rollouts then weigh more. That is "
    "DAPO's choice, and verl's default whatever the method.",
    "mean of each rollout": "You divide by the length of the rollout. A token of a short rollout then weighs more "
    "than one of a long rollout.",
    "padding counts": "You divide by the width of the padded row: the weight of a rollout depends on the longest one "
    "that happened to stand beside it.",
    "length twice": "You share the advantage over the tokens and then take their mean: length comes in twice.",
    "no average": "You sum over all tokens of the batch: twice the rollouts make twice the step.",
    "nobody compared": "You use the raw outcome. That is REINFORCE: a failure gets 0, not blame, and all rollouts of "
    "an easy question are praised.",
    "the others only": "You leave the rollout itself out of its baseline, which is RLOO: every advantage is larger "
    "by n / (n - 1).",
    "no spread": "You subtract the mean and stop, which is Dr. GRPO. Here the result is divided by the spread of the "
    "group.",
    "divided by the spread": "You divide by the spread of the question. That is GRPO; questions that are nearly "
    "solved or nearly hopeless then weigh as much as those in between.",
}


def wrong(name: str, advantage: Advantage, average: Average, says: str = "") -> Misconception:
    """Return a misconception made of an advantage and an average; its words are in `WORDS` unless given."""
    return Misconception(
        name, says or WORDS[name], made(advantage, average), looks_like_noise if advantage is noise else None
    )


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a batch, one line a rollout."""
    fits = isinstance(got, tuple) and len(got) == len(want)
    rows = tuple(
        (str(i), g, f"{r:g}", str(n), number(got[i]) if fits else "", number(want[i]))
        for i, (r, g, n) in enumerate(zip(*args, strict=True))
    )
    bad = frozenset(i for i in range(len(want)) if fits and not same(got[i], want[i]))
    head = ("rollout", "question", "outcome", "tokens", "yours", "right")
    return Table("A batch of rollouts and the weight of each token; lines that go wrong are marked.", head, rows, bad)


def sums_to_zero(average: str) -> Property:
    """Claim that advantages of a question sum to zero; `average` says how to undo the average."""

    def holds(args: Args, got: Values, solution: Solution) -> bool:
        outcome, group, tokens = args
        undone = [x * (n if average == "mean" else 1) for x, n in zip(got, tokens, strict=True)]
        sums = {g: sum(x for x, h in zip(undone, group, strict=True) if h == g) for g in group}
        return all(abs(total) < 1e-4 for total in sums.values())

    return Property("the weights of a question sum to zero (over its rollouts, their lengths undone)", holds)


def unmoved_by_shift() -> Property:
    """Claim that a constant added to every outcome changes nothing."""

    def holds(args: Args, got: Values, solution: Solution) -> bool:
        outcome, group, tokens = args
        return same(got, values(solution([r + 4 for r in outcome], group, tokens)))

    return Property("adding 4 to every outcome changes nothing", holds)


def scaled_with_outcome() -> Property:
    """Claim that doubled outcomes double every weight."""

    def holds(args: Args, got: Values, solution: Solution) -> bool:
        outcome, group, tokens = args
        return same(tuple(2 * x for x in got), values(solution([2 * r for r in outcome], group, tokens)))

    return Property("doubling every outcome doubles every weight", holds)


def exercise(
    recipe: Recipe, wrongs: Sequence[Misconception], properties: Sequence[Property], hints: tuple[str, ...]
) -> Exercise:
    """Return the exercise of a method that knows the outcome alone."""

    def cases(rng: Random) -> list[Args]:
        """Those of the tutorial 101, and every kind of question in one batch: varied, solved, failed, alone."""
        every = ([1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0], list("AAABBCCD"), rng.sample(range(4, 40), 8))
        solved = ([1.0, 0.0, 1.0, 1.0, 1.0], list("AABBB"), rng.sample(range(4, 40), 5))
        return [*advantage_cases(rng), solved, every]

    title = "the weight of each token in the first update"
    return Exercise("ex", title, cases, truth_of(recipe), tuple(wrongs), tuple(properties), shown, hints)
