"""What all methods of a comparison say together: families, worlds that agree, credit that tells turns apart, costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median, stdev
from typing import Any, NamedTuple

from workbench.train import compared

Line = Mapping[str, Any]
Measure = Callable[[Line], float | None]
FIRST = slice(0, 1)
"""Blocks of steps in which all methods still look at much the same policy."""


class Rank(NamedTuple):
    """Rank correlation over methods; `p` is of Spearman's test, as if methods were independent of each other."""

    value: float
    p: float
    methods: int


def paired(runs: Sequence[Line], world: str, method: str, base: str = "grpo") -> list[float]:
    """Return the difference in the share of test tasks solved, one a seed that both have.

    Args:
        runs: of `compared.reported`.
        world, method, base: whose difference from whom.
    """
    mine = {line["seed"]: compared.solved(line) for line in compared.of(runs, world, base)}
    return [compared.solved(x) - mine[x["seed"]] for x in compared.of(runs, world, method) if x["seed"] in mine]


def spread(runs: Sequence[Line], world: str, base: str = "grpo") -> float:
    """Return the median over methods of the standard deviation over seeds of their difference from one.

    Raises:
        ValueError: no method of that world has two seeds in common with it.
    """
    methods = dict.fromkeys(line["method"] for line in runs if line["world"] == world and line["method"] != base)
    found = [stdev(d) for m in methods if len(d := paired(runs, world, m, base)) > 1]
    if not found:
        raise ValueError(f"spread: expected a method with two seeds beside {base} on {world}, found none")
    return median(found)


def family(runs: Sequence[Line], world: str, methods: Iterable[str], base: str = "grpo") -> compared.Mean | None:
    """Return the mean difference of several methods from one, seeds as observations; None without a common seed.

        d_s = 1/M sum_m (solved_ms - solved_base,s),    mean and Student's interval over seeds s

    A seed's tasks, samples and base are common to all its runs, so methods of one seed are not independent; seeds are.

    Args:
        runs: of `compared.reported`.
        world: where.
        methods: those of the family that were run there; others are left out.
        base: whom they are compared with.
    """
    names = [m for m in methods if m != base and compared.of(runs, world, m)]
    base_of = {line["seed"]: compared.solved(line) for line in compared.of(runs, world, base)}
    by_seed = []
    for seed, theirs in base_of.items():
        mine = [compared.solved(x) for m in names for x in compared.of(runs, world, m) if x["seed"] == seed]
        if mine and len(mine) == len(names):
            by_seed.append(math.fsum(mine) / len(mine) - theirs)
    return compared.over_seeds(by_seed) if by_seed else None


def told_turns(line: Line, blocks: slice = FIRST) -> float | None:
    """Return how much more credit a useful search has than a useless one, in units of the run's mean |credit|.

    Args:
        line: a run in a world whose oracle knows which searches help.
        blocks: of the run's steps.

    Returns:
        None where there is no turn of one of the kinds, or no credit at all.
    """
    found = compared.cells(line, blocks)
    unit = compared.unit(found)
    useful, useless = (compared.mean_credit(found, (kind,)) for kind in compared.SEARCHES)
    return None if useful is None or useless is None or unit == 0 else (useful - useless) / unit


def stopping_bias(line: Line, blocks: slice = FIRST) -> float | None:
    """Return how much more a run's credit favours answering early over going on than the outcome alone does.

        edge(credit) / mean |credit| - edge(outcome) / mean |outcome|,    edge: `compared.stopping_edge`, same turns

    Args:
        line: a run in a world whose oracle knows what is still to be found.
        blocks: of the run's steps.

    Returns:
        above 0 it pays for giving up; None where there are too few turns to compare, or no credit.
    """
    found = compared.cells(line, blocks)
    edges = []
    for what in ("credit", "outcome"):
        edge, unit = compared.stopping_edge(found, what), compared.unit(found, what)
        if edge is None or unit == 0:
            return None
        edges.append(edge / unit)
    return edges[0] - edges[1]


def by_method(runs: Sequence[Line], world: str, methods: Iterable[str], measure: Measure) -> dict[str, float]:
    """Return the mean of a measure over the seeds in which it is known; methods without any are left out.

    Args:
        runs: of `compared.reported`.
        world, methods: which.
        measure: `told_turns` or `stopping_bias`.
    """
    known = {m: [v for x in compared.of(runs, world, m) if (v := measure(x)) is not None] for m in methods}
    return {m: math.fsum(values) / len(values) for m, values in known.items() if values}


def ranks(x: Sequence[float], y: Sequence[float]) -> Rank | None:
    """Return Spearman's correlation of two numbers of each method; None with fewer than four, or without any spread.

    Example:
        >>> ranks([1, 2, 3, 4, 5], [1, 3, 2, 5, 4]).value
        0.8
    """
    from scipy.stats import spearmanr

    if len(x) < 4 or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    found = spearmanr(x, y)
    return Rank(round(float(found.statistic), 12), float(found.pvalue), len(x))
