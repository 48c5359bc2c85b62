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
from workbench.train import compared, sweep, sweep_cost
from workbench.train.plan import Plan
from workbench.train.policy_gradient import train
from workbench.view.curves import Curve, Panel, bundle

COMMAND = "python -m workbench.train.sweep --out datasets/results/training"
FOLDER = Path("../../datasets/results/training")
"""Where the stored runs are, seen from a notebook of `notebooks/methods`."""
OUTCOME = "mean outcome of a step's rollouts (running mean over 5 steps)"


def beside_grpo(names: str | Sequence[str], folder: str | Path = FOLDER, base: str = "grpo") -> Any:
    """Show the stored learning curves of a method beside GRPO's, what was solved after training, and what that says.

    Args:
        names: of the method in the stored runs (keys of `workbench.train.sweep.METHODS`); several forms of it.
        folder: of the stored runs.
        base: beside whom.

    Returns:
        a table and a verdict in words, below the curves that it displays; where there are no runs, a sentence that says
        so, and why.
    """
    from IPython.display import display

    runs = compared.reported(sweep.read(Path(folder)))
    asked = [names] if isinstance(names, str) else list(names)
    worlds = [w for w in sweep.places() if any(compared.of(runs, w, n) for n in asked)]
    costs = sweep_cost.read(Path(folder))
    if not worlds:
        return markdown("\n\n".join([_nothing(asked, runs), *_left_out(asked, costs, base)]))
    shown = {w: [n for n in dict.fromkeys([*asked, base]) if compared.of(runs, w, n)] for w in worlds}
    looks = {name: look for look, name in enumerate(list(dict.fromkeys([*asked, base]))[::-1])}
    panels = [Panel(w, tuple(_curve(runs, w, n, looks[n]) for n in shown[w][::-1])) for w in worlds]
    display(bundle(panels, "rollouts", OUTCOME, True), raw=True)  # type: ignore[no-untyped-call]
    head = ["world", "method", "solved after training", "seeds", f"points above `{base}`", "corrected p", "told apart"]
    width = len(head) if any(n != base for w in worlds for n in shown[w]) else 4  # alone there is nothing to subtract
    found = {w: {d.method: d for d in compared.against(runs, w, base)} for w in worlds}
    lines = [_line(runs, w, n, found[w].get(n))[:width] for w in worlds for n in shown[w]]
    said = [_verdict(w, found[w][n], base) for w in worlds for n in shown[w] if n != base and n in found[w]]
    said += _again(Path(folder), shown, base)
    told = ["\n".join(said), *_left_out(asked, costs, base), _small_print(runs, worlds, shown, costs, base)]
    return markdown("\n\n".join([table(head[:width], lines).data, *filter(None, told)]))


def _nothing(wanted: Sequence[str], runs: Sequence[Mapping[str, Any]]) -> str:
    there = ", ".join(f"`{name}`" for name in dict.fromkeys(line["method"] for line in runs))
    return (
        f"**No stored runs of {', '.join(f'`{n}`' for n in wanted)}**, so there is no curve to show. The stored runs "
        f"are of {there}; `{COMMAND} --methods {' '.join(wanted)}` makes those of a method listed in "
        "`workbench/train/sweep_methods.py`."
    )


def _left_out(asked: Sequence[str], costs: Sequence[Mapping[str, Any]], base: str) -> list[str]:
    """Say why a method was left out of some worlds, once a reason, and what a step of it would cost there."""
    why: dict[tuple[str, str], list[str]] = {}
    for (world, method), reason in sweep.LEFT_OUT.items():
        if method in asked:
            why.setdefault((method, reason), []).append(world)
    return [
        f"Not run: `{method}` on {' and '.join(worlds)}: {reason}."
        + "".join(_cost(world, method, costs, base) for world in worlds)
        for (method, reason), worlds in why.items()
        if method != base
    ]


def _cost(world: str, method: str, costs: Sequence[Mapping[str, Any]], base: str) -> str:
    """Return a sentence on what a step takes; "" where it was not measured."""
    by = {line["method"]: line for line in costs if line["world"] == world}
    if method not in by or base not in by or method == base:
        return ""
    times = by[method]["seconds"] / by[base]["seconds"]
    calls = f", and its evidence {by[method]['calls']:,.0f} calls of a model" * bool(by[method]["calls"])
    return f" On {world} a step of `{method}` takes {times:.1f} times the processor time of one of `{base}`{calls}."


def _verdict(world: str, found: compared.Difference, base: str) -> str:
    """Say in words whether a method beats another."""
    if found.adjusted is None:
        return f"- **{world}**: one seed of `{found.method}` says nothing."
    low, high = found.mean.low or 0.0, found.mean.high or 0.0
    odd = not found.told and (low > 0 or high < 0)
    so = f"**does not beat** `{base}` " + ("by this test" if odd else "here: the two cannot be told apart")
    if found.told:
        so = f"**beats** `{base}`" if found.mean.mean > 0 else f"**does not beat** `{base}`: it is **worse**"
    mean, least, most = (round(100 * share) for share in (found.mean.mean, low, high))
    points = f"{mean:+d} points of tasks solved [{least:+d}, {most:+d}]"
    alone = "; alone that interval leaves 0 out, among all that are compared that is not enough" * odd
    seeds = f"over {found.mean.seeds} seeds, corrected p {found.adjusted:.2g}"
    return f"- **{world}**: `{found.method}` {so}: {points} {seeds}{alone}."


def _again(folder: Path, shown: Mapping[str, Sequence[str]], base: str) -> list[str]:
    """Say what came of the pairs that were run again on fresh seeds, because they had looked different."""
    fresh = sweep.read(folder / "again")
    return [
        _verdict(f"{world}, made again on fresh seeds", found, base)
        for world, names in shown.items()
        for found in compared.against(fresh, world, base)
        if found.method in names
    ]


def _small_print(
    runs: Sequence[Mapping[str, Any]],
    worlds: Sequence[str],
    shown: Mapping[str, Sequence[str]],
    costs: Sequence[Mapping[str, Any]],
    base: str,
) -> str:
    one = runs[0]
    family = " and ".join(f"{len(compared.against(runs, w, base))} on {w}" for w in worlds)
    every = [line for w in worlds for n in shown[w] for line in compared.of(runs, w, n)]
    again = [line for line in every if "rollouts" in line["steps_seen"]]
    steps = [len(line["steps_seen"]["rollouts"]) for line in again]
    fewer = (
        f" `{again[0]['method']}` samples again in place of groups it drops, out of the same rollouts, and so makes "
        f"{min(steps)} to {max(steps)} steps."
        if again
        else ""
    )
    dear = "".join(_cost(w, n, costs, base) for w in worlds for n in shown[w])
    return (
        f"Stored runs, made by `{COMMAND}`: {one['steps']} steps of {one['groups']} tasks x {one['size']} rollouts, a "
        "policy of a million parameters, each method at the rate that did best on a tuning seed; one update a step, so "
        f"that ratios are 1 and no clip acts, and no KL term.{fewer} Thick: mean over seeds; band: its 95 % interval "
        "(Student's); thin: seeds. The difference is taken seed by seed, its interval is not corrected; p is of the "
        f"paired t-test, corrected for all methods stored there (Holm: {family}).{dear} All methods in one picture: "
        "[notebooks/compare/all_methods](../compare/all_methods.ipynb); seven of them closely: "
        "[notebooks/compare/training](../compare/training.ipynb)."
    )


def _curve(runs: Sequence[Mapping[str, Any]], world: str, name: str, look: int) -> Curve:
    found = compared.curves(runs, world, name, "outcome")
    means = [compared.over_seeds(list(values)) for values in zip(*found, strict=True)]
    banded = means[0].low is not None
    low, high = ([m.low for m in means], [m.high for m in means]) if banded else (None, None)
    x = compared.rollouts_after(compared.of(runs, world, name)[0])
    return Curve(name, x, [m.mean for m in means], low, high, found, look)  # type: ignore[arg-type]


def _line(
    runs: Sequence[Mapping[str, Any]], world: str, name: str, against: compared.Difference | None
) -> list[object]:
    final = compared.final(runs, world, name)
    told: list[object] = [world, f"`{name}`", _share(final), final.seeds]
    if against is None:
        return [*told, "", "", ""]
    p = "-" if against.adjusted is None else f"{against.adjusted:.2g}"
    return [*told, _points(against.mean), p, "**yes**" if against.told else "no"]


def _share(mean: compared.Mean) -> str:
    if mean.low is None or mean.high is None:
        return f"{mean.mean:.0%} (one seed)"
    return f"{mean.mean:.0%} [{max(mean.low, 0.0):.0%}, {min(mean.high, 1.0):.0%}]"


def _points(mean: compared.Mean) -> str:
    """Write a difference of two shares in points: "+7%" would read as a twentieth more."""
    here = round(100 * mean.mean)
    if mean.low is None or mean.high is None:
        return f"{here:+d} (one seed)"
    return f"{here:+d} [{round(100 * max(mean.low, -1.0)):+d}, {round(100 * min(mean.high, 1.0)):+d}]"


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
