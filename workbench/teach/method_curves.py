"""How a method learned in stored runs, beside GRPO, and a few live updates that claim nothing."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.envs.base import Environment
from workbench.policy.base import Policy
from workbench.recipes import Recipe
from workbench.teach.method_page import markdown, table
from workbench.train import compared, sweep
from workbench.train.plan import Plan
from workbench.train.policy_gradient import train
from workbench.view.curves import Curve, Panel, bundle

COMMAND = "python -m workbench.train.sweep --out datasets/results/training"
FOLDER = Path("../../datasets/results/training")
"""Where the stored runs are, seen from a notebook of `notebooks/methods`."""


def beside_grpo(names: str | Sequence[str], folder: str | Path = FOLDER, base: str = "grpo") -> Any:
    """Show the stored learning curves of a method beside GRPO's, and what was solved after training.

    Args:
        names: of the method in the stored runs (keys of `workbench.train.sweep.METHODS`); several forms of it.
        folder: of the stored runs.
        base: beside whom.

    Returns:
        a sentence with a table, below the curves that it displays; where there are no runs, a sentence that says so.
    """
    from IPython.display import display

    runs = compared.reported(sweep.read(Path(folder)))
    wanted = [names] if isinstance(names, str) else list(names)
    there = [n for n in wanted if n in sweep.METHODS and any(compared.of(runs, w, n) for w in sweep.WORLDS)]
    if not there:
        return markdown(_nothing(wanted, runs))
    shown = list(dict.fromkeys([*there, base]))
    panels = [Panel(w, _curves(runs, w, shown)) for w in sweep.WORLDS]
    display(bundle(panels, "rollouts", "mean outcome of a step (mean of five)", True), raw=True)  # type: ignore[no-untyped-call]
    head = ["world", "method", "solved after training", "seeds", f"minus `{base}`", "corrected p", "told apart"]
    lines = [_line(runs, w, n, base) for w in sweep.WORLDS for n in shown if compared.of(runs, w, n)]
    return markdown(f"{table(head, lines).data}\n\n{_small_print(runs)}")


def _nothing(wanted: Sequence[str], runs: Sequence[Mapping[str, Any]]) -> str:
    there = ", ".join(f"`{name}`" for name in dict.fromkeys(line["method"] for line in runs))
    return (
        f"**No stored runs of {', '.join(f'`{n}`' for n in wanted)} yet**, so there is no curve to show. The stored "
        f"runs "
        f"are of {there}; `{COMMAND}` makes them, and a method is compared once it is listed there "
        "(`workbench/train/sweep.py`)."
    )


def _small_print(runs: Sequence[Mapping[str, Any]]) -> str:
    one = runs[0]
    return (
        f"Stored runs, made by `{COMMAND}`: {one['steps']} steps of {one['groups']} tasks x {one['size']} rollouts, "
        f"a "
        "policy of a million parameters, each method at the rate that did best on a tuning seed. Thick: mean over "
        "seeds; band: its 95 % interval (Student's); thin: seeds. The difference is taken seed by seed; p is of the "
        "paired t-test, corrected for all methods of the world (Holm). The whole comparison: "
        "[notebooks/compare/training](../compare/training.ipynb)."
    )


def _curves(runs: Sequence[Mapping[str, Any]], world: str, names: Sequence[str]) -> tuple[Curve, ...]:
    return tuple(
        _curve(runs, world, name, look) for look, name in enumerate(names[::-1]) if compared.of(runs, world, name)
    )


def _curve(runs: Sequence[Mapping[str, Any]], world: str, name: str, look: int) -> Curve:
    found = compared.curves(runs, world, name, "outcome")
    means = [compared.over_seeds(list(values)) for values in zip(*found, strict=True)]
    banded = means[0].low is not None
    low, high = ([m.low for m in means], [m.high for m in means]) if banded else (None, None)
    x = compared.rollouts_after(compared.of(runs, world, name)[0])
    return Curve(name, x, [m.mean for m in means], low, high, found, look)  # type: ignore[arg-type]


def _line(runs: Sequence[Mapping[str, Any]], world: str, name: str, base: str) -> list[object]:
    final = compared.final(runs, world, name)
    told: list[object] = [world, f"`{name}`", _share(final), final.seeds]
    against = {d.method: d for d in compared.against(runs, world, base)}.get(name)  # type: ignore[arg-type]
    if against is None:
        return [*told, "", "", ""]
    p = "-" if against.adjusted is None else f"{against.adjusted:.2g}"
    return [*told, _share(against.mean, signed=True), p, "**yes**" if against.told else "no"]


def _share(mean: compared.Mean, signed: bool = False) -> str:
    sign, least = ("+", -1.0) if signed else ("", 0.0)
    if mean.low is None or mean.high is None:
        return f"{mean.mean:{sign}.0%} (one seed)"
    return f"{mean.mean:{sign}.0%} [{max(mean.low, least):{sign}.0%}, {min(mean.high, 1.0):{sign}.0%}]"


WATCHED = {
    "outcome": "mean outcome",
    "collapsed": "groups with equal outcomes",
    "dead_groups": "groups without any credit",
    "advantage_scale": "mean size of credit",
    "gradient_norm": "gradient norm",
}


def continue_live(policy: Policy, env: Environment, recipe: Recipe, updates: int = 3, seed: int = 7) -> Any:
    """Train a few updates from where a policy stands, to see the loop run; it says nothing about the method.

    Args:
        policy: trained in place.
        env, recipe: what it plays, and the method.
        updates: how many; each of 2 tasks x 4 rollouts.
        seed: of tasks and samples.
    """
    plan = Plan(steps=updates, groups=2, size=4, rate=2e-4, seed=seed)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        _, rows = train(policy, env, recipe, plan, progress=_quiet)
    lines = [[row["step"], *(_cell(row[name]) for name in WATCHED)] for row in rows]
    note = f"{updates} updates of {plan.groups * plan.size} rollouts: that the loop runs, and no more than that."
    alarms = "".join(f"\n- alarm: {one.message}" for one in said if one.category is RuntimeWarning)
    return markdown(f"{table(['update', *WATCHED.values()], lines).data}\n\n{note}\n{alarms}")


def _cell(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def _quiet(done: int, total: int, text: str) -> None:
    """Show no bar: three updates take a second."""
