"""Exercises of the tutorial 101: outcome to advantage, to tokens, to a loss per token, to one number.

What is right is computed by the library (`cases101`): a solution that passes does what the library does.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from workbench.teach import mistakes101 as mistakes
from workbench.teach.cases101 import (
    advantage,
    advantage_cases,
    aggregate,
    aggregate_cases,
    loss_cases,
    to_tokens,
    token_cases,
    token_losses,
)
from workbench.teach.checking import Args, Exercise, Hint, Misconception, Property, Solution, Values, Verdict, same
from workbench.teach.table import Table, number

# ------------------------------------------------------------------------------------- 1: outcome to advantage


def advantage_rows(args: Args, got: Values, want: Values) -> Table:
    """Show a batch, one line a rollout."""
    rows = tuple(
        (str(i), g, f"{r:g}", str(n), number(got[i]) if got else "", number(want[i]))
        for i, (r, g, n) in enumerate(zip(*args, strict=True))
    )
    return Table(
        "A batch of rollouts; lines that go wrong are marked.",
        ("rollout", "question", "outcome", "tokens", "yours", "right"),
        rows,
        _unlike(got, want),
    )


def _unlike(got: Values, want: Values) -> frozenset[int]:
    return frozenset(i for i, w in enumerate(want) if got is not None and (i >= len(got) or not same(got[i], w)))


def _sums_to_zero(args: Args, got: Values, solution: Solution) -> bool:
    sums = {g: sum(x for x, h in zip(got, args[1], strict=True) if h == g) for g in args[1]}
    return all(abs(total) < 1e-3 for total in sums.values())


def _unmoved_by(change: Callable[[Args], Args]) -> Callable[[Args, Values, Solution], bool]:
    def holds(args: Args, got: Values, solution: Solution) -> bool:
        return all(abs(a - b) < 1e-3 for a, b in zip(got, solution(*change(args)), strict=True))

    return holds


ex1 = Exercise(
    "ex1",
    "the advantage of each rollout in its group",
    advantage_cases,
    advantage,
    (
        Misconception(
            "population spread",
            "You divide the sum of squares by G. GRPO as trained (verl, TRL) divides by G - 1, the sample spread; with "
            "four rollouts the two differ by 15 %.",
            mistakes.population_spread,
        ),
        Misconception(
            "batch statistics",
            "You compare with the whole batch. A rollout competes with the others of its own question; else those of "
            "easy questions are praised for being easy.",
            mistakes.batch_statistics,
        ),
        Misconception(
            "noise divided by noise",
            "Where all outcomes of a group are equal, nobody is better: exactly 0. Yours is what rounding left over, "
            "divided by a spread that is rounding, too.",
            mistakes.divided_noise,
            mistakes.looks_like_noise,
        ),
        Misconception(
            "lone rollout keeps its outcome",
            "A rollout without peers gets its raw outcome from you. Nobody was compared: 0 here. (verl does pass the "
            "outcome on; that is a choice to make knowingly, since such a rollout is on another scale.)",
            mistakes.lone_keeps_outcome,
        ),
        Misconception(
            "statistics over tokens",
            "You take mean and spread over tokens, so that long rollouts count more. The group is a set of rollouts; "
            "their lengths do not matter here.",
            mistakes.token_statistics,
        ),
        Misconception(
            "no spread",
            "You subtract the mean and stop. That is a method, too (Dr. GRPO), but GRPO divides by the spread.",
            mistakes.center_only,
        ),
    ),
    (
        Property("the advantages of a question sum to zero", _sums_to_zero),
        Property(
            "adding 5 to every outcome changes nothing",
            _unmoved_by(lambda a: ([r + 5 for r in a[0]], a[1], a[2])),
        ),
        Property("the lengths of the rollouts do not matter", _unmoved_by(lambda a: (a[0], a[1], [7] * len(a[2])))),
    ),
    advantage_rows,
    (
        "Who are the peers of rollout i? Write that list down for the marked line, by hand.",
        "Mean and spread are over the peers, the rollout itself among them. The spread divides by one less.",
        "Two cases come before the formula: no peers, and peers that are all equal. Ask 'are they equal?', not 'is the "
        "spread zero?': rounding makes the two differ.",
    ),
)

# --------------------------------------------------------------------------------- 2: rollout to tokens


def token_rows(args: Args, got: Values, want: Values) -> Table:
    """Show the first rollout that goes wrong, one line a token."""
    at = next((i for i in range(len(want)) if got is not None and not same(got[i], want[i])), 0)
    rows = tuple((str(k), o, number(got[at][k]) if got else "", number(want[at][k])) for k, o in enumerate(args[1][at]))
    caption = f"Rollout {at} of the batch, its advantage {number(args[0][at])}, token by token."
    return Table(caption, ("token", "origin", "yours", "right"), rows, _unlike(got[at] if got else None, want[at]))


def _only_sampled(args: Args, got: Values, solution: Solution) -> bool:
    pairs = [(o, x) for row, xs in zip(args[1], got, strict=True) for o, x in zip(row, xs, strict=True)]
    return all(x == 0 for o, x in pairs if o != "sampled")


def _all_of_it(args: Args, got: Values, solution: Solution) -> bool:
    lines = zip(args[0], args[1], got, strict=True)
    return all(abs(x - a) < 1e-3 for a, row, xs in lines for o, x in zip(row, xs, strict=True) if o == "sampled")


ex2 = Exercise(
    "ex2",
    "the credit of each token",
    token_cases,
    to_tokens,
    (
        Misconception(
            "observations credited",
            "You credit what the tool wrote. The policy did not choose those tokens: training on them teaches it to "
            "predict the search engine.",
            mistakes.credits_observations,
        ),
        Misconception(
            "shared over the tokens",
            "You divide the advantage by the number of tokens. GRPO's tokens each carry all of it; length comes in "
            "later, in the aggregation, and would come in twice.",
            mistakes.shared_over_tokens,
        ),
        Misconception(
            "last token only",
            "You credit the token at which the outcome came. The outcome is that of the whole rollout; nothing here "
            "carries it back to the tokens before.",
            mistakes.last_token_only,
        ),
    ),
    (
        Property("tokens that were not sampled get 0", _only_sampled),
        Property("all sampled tokens of a rollout carry its advantage", _all_of_it),
    ),
    token_rows,
    (
        "Which tokens could the policy have chosen otherwise?",
        "The credit of a token depends on two things alone: its rollout's advantage, and its own origin.",
    ),
)

# ------------------------------------------------------------------------------------- 3: credit to loss


def loss_rows(args: Args, got: Values, want: Values) -> Table:
    """Show the tokens of a rollout."""
    new, old, credit, low, high = args
    rows = tuple(
        (str(k), f"{old[k]:.3f}", f"{new[k]:.3f}", number(credit[k]), number(got[k]) if got else "", number(want[k]))
        for k in range(len(new))
    )
    header = ("token", "log p old", "log p new", "credit", "yours", "right")
    caption = f"The sampled tokens of a rollout; the clip is from {1 - low:g} to {1 + high:g}."
    return Table(caption, header, rows, _unlike(got, want))


def _credit_alone_at_one(args: Args, got: Values, solution: Solution) -> bool:
    _, old, credit, low, high = args
    return all(abs(x + a) < 1e-3 for x, a in zip(solution(old, old, credit, low, high), credit, strict=True))


def _never_better_than_plain(args: Args, got: Values, solution: Solution) -> bool:
    plain = token_losses(args[0], args[1], args[2], 1e9, 1e9)
    return all(x >= y - 1e-3 for x, y in zip(got, plain, strict=True))


ex3 = Exercise(
    "ex3",
    "the clipped loss of each token",
    loss_cases,
    token_losses,
    (
        Misconception(
            "min for max",
            "You take the smaller loss. Papers write a minimum of objectives; a loss is minus an objective, so it is "
            "the maximum. (Clipping praise from below and blame from above is the same mistake: it stops the wrong "
            "side.)",
            mistakes.min_for_max,
        ),
        Misconception(
            "clip alone",
            "You use the clipped ratio always. A token that moved the wrong way then has no gradient and never comes "
            "back; the clip is to stop only what went far enough already.",
            mistakes.clip_alone,
        ),
        Misconception(
            "probabilities summed",
            "You add up probabilities before you divide. A sampled token has a ratio of its own; a sum of "
            "probabilities of successive tokens is the probability of nothing.",
            mistakes.summed_probabilities,
        ),
        Misconception(
            "one ratio for the sequence",
            "You give all tokens the product of their ratios. GRPO's ratio is the token's own; the product leaves the "
            "clip within a few tokens. (GSPO has one ratio a sequence, but the geometric mean.)",
            mistakes.sequence_ratio,
        ),
        Misconception(
            "ratio upside down",
            "You divide old by new. The ratio says how much likelier the token is now than when it was sampled.",
            mistakes.upside_down,
        ),
    ),
    (
        Property("where nothing moved (new = old), the loss of a token is minus its credit", _credit_alone_at_one),
        Property("the clipped loss is never below the unclipped one: it is pessimistic", _never_better_than_plain),
    ),
    loss_rows,
    (
        "Compute the ratio of the first marked token from its two log-probs. Is it inside the clip?",
        "There are two losses a token: with the ratio, and with the clipped ratio. Both are minus credit times ratio.",
        "Of the two, the pessimistic one counts. A loss that is pessimistic is large.",
    ),
)

# ------------------------------------------------------------------------------------- 4: losses to a number


def aggregate_rows(args: Args, got: Values, want: Values) -> Table:
    """Show the batch, a line a rollout; what is not trained stands in brackets."""
    loss, mask = args
    cells = [
        (str(i), *(f"{x:g}" if m else f"[{x:g}]" for x, m in zip(row, keep, strict=True)))
        for i, (row, keep) in enumerate(zip(loss, mask, strict=True))
    ]
    note = f"yours: {number(got) or 'none'}, right: {number(want)}"
    header = ("rollout", *(f"token {k}" for k in range(len(loss[0]))))
    return Table("Losses of tokens; what is not trained stands in brackets.", header, tuple(cells), note=note)


def _constant(args: Args, got: Values, solution: Solution) -> bool:
    return abs(solution([[2.5 if m else 0.0 for m in keep] for keep in args[1]], args[1]) - 2.5) < 1e-3


def _padding_unseen(args: Args, got: Values, solution: Solution) -> bool:
    pairs = [list(zip(row, keep, strict=True)) for row, keep in zip(*args, strict=True)]
    wider = [[x if m else 4.0 for x, m in row] + [4.0] * 3 for row in pairs]
    return abs(solution(wider, [[*keep, 0, 0, 0] for keep in args[1]]) - got) < 1e-3


ex4 = Exercise(
    "ex4",
    "one number from the losses of all tokens",
    aggregate_cases,
    aggregate,
    (
        Misconception(
            "padding counts",
            "You divide by the width of the row. Short rollouts then count less, and by how much depends on the "
            "longest rollout that happened to be beside them.",
            mistakes.padding_counts,
        ),
        Misconception(
            "mean over all tokens",
            "You take one mean over the tokens of the batch. That is DAPO's choice: long rollouts count more. GRPO "
            "takes each rollout's mean first.",
            mistakes.token_mean,
        ),
        Misconception(
            "empty rollout counts",
            "You count a rollout without a trained token as a loss of 0, which makes the gradient of the others "
            "smaller. It is not there.",
            mistakes.empty_rows_count,
        ),
    ),
    (
        Property("if every trained token has the loss 2.5, the result is 2.5", _constant),
        Property("more padding, or other values in it, changes nothing", _padding_unseen),
    ),
    aggregate_rows,
    (
        "Two means, one inside the other. Over what is the inner one, over what the outer one?",
        "The inner mean divides by the number of trained tokens of the rollout. What of a rollout that has none?",
    ),
)

EXERCISES = {one.name: one for one in (ex1, ex2, ex3, ex4)}


def hint(name: str, level: int = 1) -> Hint:
    """Return a hint to an exercise; each level says more.

    Raises:
        ValueError: there is no such exercise or level.
    """
    if name not in EXERCISES:
        raise ValueError(f"expected one of {', '.join(EXERCISES)}, got {name!r}")
    return EXERCISES[name].hint(level)


def everything(*solutions: Solution, seed: int | None = None) -> tuple[Verdict, ...]:
    """Check all four solutions on fresh cases.

    Args:
        solutions: of exercises 1 to 4, in order.
        seed: of the cases; None draws one.

    Raises:
        AssertionError: a solution is rejected; says why.
        NotImplementedError: one is a stub still.
    """
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    verdicts = tuple(one(f, seed) for one, f in zip(EXERCISES.values(), solutions, strict=True))
    wrong = [repr(v) for v in verdicts if not v]
    if wrong:
        raise AssertionError("\n\n".join([f"seed {seed}", *wrong]))
    return verdicts
