"""Mini-o3: rollouts that a limit cut off count in the statistics and are not in the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import torch

from workbench.recipes import mini_o3
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values, same, values
from workbench.teach.method_page import hand
from workbench.teach.methods import _outcome as o
from workbench.teach.table import Table
from workbench.teach.turn_parts import hints

Cuts = Sequence[int]
Masked = Callable[[Sequence[float], Cuts, Sequence[str], Sequence[int]], Sequence[float | None]]


def truth(outcome: Sequence[float], cut: Cuts, group: Sequence[str], tokens: Sequence[int]) -> list[float]:
    """Return what the recipe's loss weighs each token of a rollout with, where the policy has not moved yet."""
    sizes = [[n] for n in tokens]
    batch = hand(list(group), rollout={"outcome": list(outcome)}, turns=[1] * len(sizes), tokens=sizes)
    batch = batch.with_column("truncated", "trajectory", torch.tensor([bool(c) for c in cut]))
    recipe = mini_o3()
    credit = recipe.credit(batch, to="token")
    weight = recipe.objective.terms[0].aggregate(batch, credit.known) * credit.values
    ends = torch.cumsum(torch.tensor(list(tokens)), 0) - 1
    return [float(w) for w in torch.where(credit.known, weight, torch.zeros_like(weight))[ends]]


# ------------------------------------------------------------------------------------------------------- the parts

KEEP = o.z(lone=1 / (1 + o.EPS))


def masked(advantage: o.Advantage) -> Masked:
    """Compare all, then leave out those cut off."""

    def masked_advantage(
        outcome: Sequence[float], cut: Cuts, group: Sequence[str], tokens: Sequence[int]
    ) -> list[float | None]:
        return [None if c else a for a, c in zip(advantage(outcome, group, tokens), cut, strict=True)]

    return masked_advantage


def nobody_masked(
    outcome: Sequence[float], cut: Cuts, group: Sequence[str], tokens: Sequence[int]
) -> Sequence[float | None]:
    """Leave nobody out: GRPO."""
    return KEEP(outcome, group, tokens)


def left_out_before(
    outcome: Sequence[float], cut: Cuts, group: Sequence[str], tokens: Sequence[int]
) -> list[float | None]:
    """Leave them out of mean and spread, too."""
    names = [f"cut {i}" if c else g for i, (g, c) in enumerate(zip(group, cut, strict=True))]
    return [None if c else a for a, c in zip(KEEP(outcome, names, tokens), cut, strict=True)]


def zeroed(outcome: Sequence[float], cut: Cuts, group: Sequence[str], tokens: Sequence[int]) -> list[float | None]:
    """Give them 0 and keep them in the mean of the loss."""
    return [0.0 if c else a for a, c in zip(KEEP(outcome, group, tokens), cut, strict=True)]


def failures_masked(
    outcome: Sequence[float], cut: Cuts, group: Sequence[str], tokens: Sequence[int]
) -> list[float | None]:
    """Leave out every failure."""
    return [None if r == 0 else a for a, r in zip(KEEP(outcome, group, tokens), outcome, strict=True)]


def questions_masked(
    outcome: Sequence[float], cut: Cuts, group: Sequence[str], tokens: Sequence[int]
) -> list[float | None]:
    """Leave out whole questions of which one rollout was cut off."""
    bad = {g for g, c in zip(group, cut, strict=True) if c}
    return [None if g in bad else a for a, g in zip(KEEP(outcome, group, tokens), group, strict=True)]


def upside_down(outcome: Sequence[float], cut: Cuts, group: Sequence[str], tokens: Sequence[int]) -> list[float | None]:
    """Train those cut off, and leave out the others."""
    return [a if c else None for a, c in zip(KEEP(outcome, group, tokens), cut, strict=True)]


def made(advantage: Masked, average: o.Average) -> Solution:
    """Return a solution made of these parts."""

    def solution(outcome: list[float], cut: list[int], group: list[str], tokens: list[int]) -> list[float]:
        a = advantage(outcome, cut, group, tokens)
        w = average([x is not None for x in a], tokens)
        return [0.0 if x is None else x * y for x, y in zip(a, w, strict=True)]

    return solution


right = made(masked(KEEP), o.mean_of_means)


# -------------------------------------------------------------------------------------------------------- the cases


def cases(rng: Random) -> list[Args]:
    """A question with one rollout cut off; with none; two questions; one alone; then any."""
    shapes = [
        [("A", 1.0, 0), ("A", 0.0, 0), ("A", 0.0, 1)],
        [("A", 1.0, 0), ("A", 0.0, 1), ("B", 1.0, 0), ("B", 0.0, 0), ("B", 0.0, 0)],
        [("A", 1.0, 0), ("A", 0.0, 0), ("B", 0.0, 1), ("B", 0.0, 1)],
        [("A", 1.0, 0), ("A", 0.0, 1), ("B", 1.0, 0)],
    ]
    for _ in range(9):
        drawn = [(q, rng.choice((0.0, 0.0, 1.0, 0.5)), 0) for q in "AAAABBB"]
        some = [(q, r, int(r == 0 and rng.random() < 0.5)) for q, r, _ in drawn]
        shapes.append([("A", 1.0, 0), ("A", 0.0, 1), *some])
    out: list[Args] = []
    for shape in shapes:
        group, outcome, cut = (list(column) for column in zip(*shape, strict=True))
        out.append((outcome, cut, group, rng.sample(range(4, 40), len(shape))))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a batch, one line a rollout."""
    outcome, cut, group, tokens = args
    table = o.shown((outcome, group, tokens), got, want)
    rows = tuple((*row[:3], "yes" if c else "", *row[3:]) for row, c in zip(table.rows, cut, strict=True))
    return Table(table.caption, (*table.header[:3], "cut off", *table.header[3:]), rows, table.bad)


def _lengths_of_cut(args: Args, got: Values, solution: Solution) -> bool:
    outcome, cut, group, tokens = args
    other = [n * 3 if c else n for n, c in zip(tokens, cut, strict=True)]
    return same(got, values(solution(outcome, cut, group, other)))


def _wrong(name: str, advantage: Masked, average: o.Average, says: str = "") -> Misconception:
    return Misconception(name, says or o.WORDS[name], made(advantage, average))


ex = Exercise(
    "ex",
    "the weight of each token in the first update",
    cases,
    truth,
    (
        _wrong(
            "left out of the statistics",
            left_out_before,
            o.mean_of_means,
            "You leave rollouts that were cut off out of mean and spread, too. Their outcome of 0 stays in both; in "
            "the release the line that would take it out is commented out.",
        ),
        _wrong(
            "nobody left out",
            nobody_masked,
            o.mean_of_means,
            "You train rollouts that were cut off, as GRPO does: the policy learns to answer early so as not to be "
            "cut.",
        ),
        _wrong(
            "zero, but counted",
            zeroed,
            o.mean_of_means,
            "You give rollouts that were cut off 0 and count them in the mean of the loss: all others get smaller "
            "steps.",
        ),
        _wrong(
            "failures left out",
            failures_masked,
            o.mean_of_means,
            "You leave out every failure. A wrong answer that was finished is blamed; only cut-off rollouts are not.",
        ),
        _wrong(
            "questions left out",
            questions_masked,
            o.mean_of_means,
            "You leave out a whole question when one of its rollouts was cut off.",
        ),
        _wrong("mask upside down", upside_down, o.mean_of_means, "You train those that were cut off, and only those."),
        _wrong(
            "mean over all tokens",
            masked(KEEP),
            o.over_all_tokens,
            "You take one mean over the tokens that are left. So does the release; the paper divides by rollouts.",
        ),
        _wrong(
            "sum of each rollout",
            masked(KEEP),
            o.mean_of_sums,
            "You sum over the tokens of a rollout instead of taking their mean: long rollouts then weigh more.",
        ),
        _wrong(
            "lone rollout gets nothing",
            masked(o.z()),
            o.mean_of_means,
            "You give a rollout without siblings 0. In this code base it keeps its outcome (mean 0, spread 1).",
        ),
        _wrong("population spread", masked(o.z(ddof=0, lone=1 / (1 + o.EPS))), o.mean_of_means),
        _wrong("no spread", masked(o.z(divide=False, lone=1.0)), o.mean_of_means),
        _wrong("batch statistics", masked(o.z_of_batch), o.mean_of_means),
        _wrong("nobody compared", masked(o.raw), o.mean_of_means),
    ),
    (Property("the length of a rollout that was cut off does not matter", _lengths_of_cut),),
    shown,
    (
        "Two steps in this order: compare all rollouts of the question; then leave out those that were cut off.",
        "Left out means not in the denominator: divide by the number of rollouts that are left.",
    ),
)

hint = hints(ex)
