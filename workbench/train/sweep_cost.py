"""What a step of each compared method costs: seconds of the processor, calls of a model, tokens through it.

`python -m workbench.train.sweep_cost --out datasets/results/training` measures every pair, those left out of the
comparison among them, and keeps the file `costs.json`. Only ratios within one file mean anything.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from workbench.rollouts import Rollouts
from workbench.train.plan import Plan, start
from workbench.train.policy_gradient import one_step
from workbench.train.sweep import RATES, TUNING_SEEDS, Size, surroundings
from workbench.train.sweep_methods import given, pairs, places, recipes_of, start_of, world

FILE = "costs.json"


def measure(name: str, method: str, steps: int) -> dict[str, Any]:
    """Make some steps of a method; return what the mean step cost, the first, which warms up, left out.

    Args:
        name, method: of `sweep_methods.pairs`.
        steps: at least 2, of the size of the comparison's.

    Returns:
        seconds of a step, of the processor and not of the clock, since the machine may have other work; calls and
        tokens of the evidence of a step.
    """
    env, how = world(name), Size()
    player, recipe = start_of(name, env), recipes_of(name)[method]
    plan = Plan(steps=steps, groups=how.groups, size=how.size, rate=RATES[1], seed=TUNING_SEEDS[0], pack="tree")
    evidence = given(name, method, player, env)
    learner, rows = start(player, recipe, plan, evidence), []
    for step in range(steps):
        began = time.process_time()
        done = one_step(learner, env, recipe, plan, step, evidence)
        calls, tokens = asked_for(done.used, recipe.needs)
        rows.append({"seconds": time.process_time() - began, "calls": calls, "tokens": tokens})
    mean = {key: round(sum(row[key] for row in rows[1:]) / (steps - 1), 4) for key in rows[0]}
    return {"world": name, "method": method, **mean}


def asked_for(rollouts: Rollouts, names: Sequence[str]) -> tuple[int, int]:
    """Return (calls of a model, tokens through it) that these columns took; what made two of them counts once."""
    columns = rollouts.batch().columns
    made = [columns[name].provenance for name in names if name in columns and columns[name].provenance.model]
    once = {(one.provider, one.calls, one.tokens) for one in made}
    return sum(calls for _, calls, _ in once), sum(tokens for _, _, tokens in once)


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the measured costs, a line a pair; none where nothing was measured."""
    file = folder / FILE
    return list(json.loads(file.read_text(encoding="utf-8"))["costs"]) if file.exists() else []


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what a step of each method costs."""
    parser = argparse.ArgumentParser("python -m workbench.train.sweep_cost", description=main.__doc__)
    parser.add_argument("--out", required=True, help="folder of the results")
    parser.add_argument("--worlds", nargs="+", default=list(places()), help="only these (all)")
    parser.add_argument("--methods", nargs="+", help="only these, beside GRPO (all)")
    parser.add_argument("--steps", type=int, default=4, help="of each, the first not counted (4)")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    out, costs = Path(asked.out), list[Mapping[str, Any]]()
    for name, method in pairs():
        if name in asked.worlds and (not asked.methods or method in (*asked.methods, "grpo")):
            costs.append(measure(name, method, asked.steps))
            print(time.strftime("%H:%M:%S"), costs[-1], flush=True)
    out.mkdir(parents=True, exist_ok=True)
    told = {**surroundings(), "steps": asked.steps, "costs": costs}
    (out / FILE).write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
