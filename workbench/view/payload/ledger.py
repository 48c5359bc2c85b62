"""The ledger under a credit map: what each method hands to a rollout, and whether its sums are what it promises."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.axioms import Axiom, zero_mean
from workbench.batch import Batch
from workbench.credit import Chain, Credit, Node, Stage
from workbench.recipes.base import Recipe
from workbench.view.payload.rows import coded, turn_arrays, turns_of

Promises = Mapping[str, "tuple[Recipe, Axiom | None]"]
"""Name of a method to its recipe, and to what its credit should sum to; None is what the recipe's stages say."""

ROUNDING = 1e-12  # relative to the sum of sizes
KEEPS_ZERO_MEAN = ("spread", "average")


def promise_of(recipe: Recipe, batch: Batch) -> Axiom | None:
    """Return what a recipe's last stages promise about sums, as far as they say it; None if they say nothing.

    A chain that ends in `center(peers)` or `zscore(peers)`, or in `scale` after `center` of the same peers, has mean
    zero within those peers, at the level where it was centred. With `leave_one_out` too: it gives n / (n - 1) times the
    same.
    """
    stages = list(recipe.chain.stages) if isinstance(recipe.chain, Chain) else [recipe.chain]
    while stages and _name(stages[-1]) in KEEPS_ZERO_MEAN:
        stages.pop()
    centred = list(stages)
    scaled_by = []
    while centred and _name(centred[-1]) == "scale":
        scaled_by.append(_params(centred.pop())["peers"])
    if not centred or _name(centred[-1]) not in ("center", "zscore"):
        return None
    params = _params(centred[-1])
    if params.get("weights") is not None or any(peers != params["peers"] for peers in scaled_by):
        return None
    return zero_mean(params["peers"], Chain(tuple(centred))(None, batch).level)


def _name(node: Node) -> str:
    return node.name if isinstance(node, Stage) else type(node).__name__


def _params(node: Node) -> dict[str, Any]:
    return dict(node.params) if isinstance(node, Stage) else {}


def ledger(batch: Batch, n: int, credits: Mapping[str, Credit], promises: Promises) -> list[dict[str, Any]]:
    """Return per method what trajectory `n` gets, what its group gets, and whether the promise holds on this batch.

    Args:
        batch: the rollouts.
        n: trajectory.
        credits: name of the method to its credit.
        promises: see `Promises`.

    Returns:
        per method `sum` over the trajectory's turns and `group`, the sum over all turns of its group (of known ones;
        None without any), `unknown` turns of it, `says` (the promise in words, "" if none), `holds` (None if
        there is none), `gap` and `why`.
    """
    turns = turns_of(batch, n)
    group = np.flatnonzero(batch.up("turn", "group").numpy() == int(batch.trajectory_group[n]))
    out = []
    for name, credit in credits.items():
        values, _ = turn_arrays(coded(name, credit, batch), batch)
        mine = [values[k] for k in turns]
        row = {"name": name, "sum": _sum(mine), "group": _sum([values[k] for k in group])}
        row["unknown"] = sum(v is None for v in mine)
        recipe, axiom = promises.get(name, (None, None))
        out.append({**row, **_kept(recipe, axiom, batch)})
    return out


def _sum(values: list[float | None]) -> float | None:
    """Sum what is known; what is left of values that cancel is rounding, not credit."""
    known = [v for v in values if v is not None]
    if not known:
        return None
    total = math.fsum(known)
    return 0.0 if abs(total) <= ROUNDING * math.fsum(map(abs, known)) else total


def _kept(recipe: Recipe | None, axiom: Axiom | None, batch: Batch) -> dict[str, Any]:
    if recipe is not None and axiom is None:
        axiom = promise_of(recipe, batch)
    if recipe is None or axiom is None:
        why = "no recipe is known for these numbers" if recipe is None else "its last stages promise no sum"
        return {"says": "", "holds": None, "gap": None, "why": why}
    try:
        verdict = axiom.check(recipe, batch)
    except ValueError as error:  # a level these rollouts have not
        return {"says": axiom.says, "holds": None, "gap": None, "why": f"could not be checked: {error}"}
    return {"says": axiom.says, "holds": bool(verdict.holds), "gap": float(verdict.gap), "why": verdict.why}
