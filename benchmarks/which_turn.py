"""Do methods tell the turn that helped from the one that did not? Chain world, the tiny policy, five seeds.

    python benchmarks/which_turn.py [--tasks 24] [--size 4] [--seeds 5] [--keep which_turn]

The chain world's oracle says of every search whether it was on a shortest path to the answer (`oracle_on_path`), and
no method reads that. Pairs of a search on the path and one off it are compared by the credit of a method: 1 if the one
on the path has more, 0.5 if equal, 0 if less. "within": pairs of one rollout; 0.5 is what a method gives that treats
all turns of a rollout alike. Searches on the path tend to come early there, so "earlier is better" is in the table,
too. "beside": pairs of siblings at the same turn of one task; there the outcome helps, so the figure to beat is
GRPO's. Figures are means over the pairs of a seed; answers are left out. The interval is t's over seeds (95 %).
Evidence is what `for_recipe` makes, by the same policy; also said: seconds of work and model calls of the evidence,
for all seeds.

Prints a table; asserts nothing. `--keep` writes it to benchmarks/results/NAME.json.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from workbench import recipes
from workbench.batch import Batch
from workbench.credit import task_and_turn
from workbench.envs.chain import Chain
from workbench.evidence import Cache, Recorded, collect, for_recipe
from workbench.policy import load
from workbench.policy.base import Policy, Settings
from workbench.recipes import Recipe
from workbench.rollout import play
from workbench.rollouts import Rollouts

METHODS: tuple[Recipe, ...] = (
    recipes.grpo(kl=0.0),
    recipes.igpo(),
    recipes.igpo(norm="separate"),
    recipes.a2tgpo(),
    recipes.siop(),
    recipes.matchtir(),
    recipes.gigpo(reward=None),
    recipes.pbsd(),
    recipes.aem(),
    recipes.potential_shaping(),
    recipes.progress_share(),
    recipes.turn_ablation(),
    recipes.hindsight(),
    recipes.shapley(),
    recipes.rudder(),
)
EARLIER = "earlier is better"
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 8: 2.365, 10: 2.262}  # by number of seeds


def pairs_won(credit: torch.Tensor, known: torch.Tensor, on: torch.Tensor, owner: torch.Tensor) -> tuple[float, int]:
    """Return the share of (on the path, off it) pairs of a rollout whose first has more credit, and their number."""
    won = count = 0.0
    for rollout in torch.unique(owner).tolist():
        own = known & (owner == rollout)
        gap = credit[own & on][:, None] - credit[own & ~on][None]
        won, count = won + float((gap > 0).sum() + 0.5 * (gap == 0).sum()), count + gap.numel()
    return (won / count if count else math.nan), int(count)


def measure(recipe: Recipe, rollouts: Rollouts, policy: Policy) -> dict[str, Any]:
    """Collect a method's evidence and compare its credit with the oracle."""
    began = time.process_time()
    found = collect(rollouts, for_recipe(recipe, rollouts, policy=policy, reference=policy), cache=Cache())
    cost = {"work_s": time.process_time() - began}
    cost["calls"] = sum(found.columns[name].provenance.calls for name in found.columns)
    batch = collect(found, [Recorded({"truth": "oracle_on_path"})], cache=Cache()).batch()
    credit = recipe.credit(batch, to="turn")
    ends = torch.zeros(len(credit), dtype=torch.bool)
    ends[batch.last("turn", "trajectory")] = True
    usable = credit.known & batch["truth"].known & ~ends
    return {**_both(credit.values, usable, batch), "known": float(credit.known[~ends].double().mean()), **cost}


def _both(credit: torch.Tensor, usable: torch.Tensor, batch: Batch) -> dict[str, Any]:
    """Pairs within rollouts, and pairs of siblings at the same turn."""
    on = batch["truth"].values > 0
    share, pairs = pairs_won(credit, usable, on, batch.turn_trajectory)
    beside, more = pairs_won(credit, usable, on, task_and_turn(batch, "turn"))
    return {"share": share, "pairs": pairs, "beside": beside, "pairs_beside": more}


def by_position(rollouts: Rollouts) -> dict[str, Any]:
    """Measure the rule "earlier is better", which reads nothing."""
    batch = collect(rollouts, [Recorded({"truth": "oracle_on_path"})], cache=Cache()).batch()
    ends = torch.zeros(batch.count("turn"), dtype=torch.bool)
    ends[batch.last("turn", "trajectory")] = True
    usable = batch["truth"].known & ~ends
    return {**_both(-batch.turn_index.double(), usable, batch), "known": 1.0, "work_s": 0.0, "calls": 0}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean over seeds and the half-width of its 95 % interval (t)."""
    n, mean = len(values), sum(values) / len(values)
    if n < 2:
        return mean, math.nan
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)
    return mean, T95.get(n, 1.96) * spread


def named(recipe: Recipe) -> str:
    """Tell the two forms of IGPO apart."""
    return recipe.name + (" (separate)" if recipe == recipes.igpo(norm="separate") else "")


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=24)
    parser.add_argument("--size", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", metavar="NAME")
    options = parser.parse_args(arguments)
    policy, env = load("tiny"), Chain()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in (EARLIER, *map(named, METHODS))}
    for seed in range(options.seeds):
        tasks = env.tasks("test", options.tasks, seed=seed)
        settings = Settings(max_new_tokens=32)
        rollouts = play(policy, env, tasks, size=options.size, settings=settings, seed=seed, gather_s=None)
        found[EARLIER].append(by_position(rollouts))
        for recipe in METHODS:
            found[named(recipe)].append(measure(recipe, rollouts, policy))
    rows = []
    for name, runs in found.items():
        within, beside = (interval([run[key] for run in runs]) for key in ("share", "beside"))
        total = {key: sum(run[key] for run in runs) for key in ("pairs", "pairs_beside", "calls", "work_s")}
        known = sum(run["known"] for run in runs) / len(runs)
        rows.append({"method": name, "within": within, "beside": beside, "known": known, **total})
        print(
            f"{name:18} within {within[0]:.2f} +- {within[1]:.2f}, beside {beside[0]:.2f} +- {beside[1]:.2f}; "
            f"{known:.0%} credited, {total['calls']} calls, {total['work_s']:.1f} s of work"
        )
    if options.keep:
        told = {"command": f"benchmarks/which_turn.py --tasks {options.tasks} --size {options.size} "
                f"--seeds {options.seeds}", "rows": rows}  # fmt: skip
        place = Path(__file__).resolve().parent / "results" / f"{options.keep}.json"
        place.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    return rows


if __name__ == "__main__":
    main()
