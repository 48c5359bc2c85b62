"""What a sampler that is one update behind does to learning: success of tiny on 3-hop chains, by step.

    python benchmarks/one_step_ahead.py [--steps 60] [--seeds 0]

A scaled run with `asynchronous=1` plays step t + 1 while step t learns, so its rollouts are one update old when they
teach. Here the same is done in one process: step t is played by a copy that holds the weights from before update t.
What is measured is learning, not speed.
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import replace
from typing import Any

import torch

from workbench import envs, policy, recipes
from workbench.objective import truncated
from workbench.policy.base import Policy
from workbench.policy.hf import HFEngine
from workbench.rollouts import Rollouts
from workbench.train.plan import Plan, start
from workbench.train.policy_gradient import one_step, round_of


class Behind:
    """Plays each step with the weights from before the last update."""

    def __init__(self, learner: Policy):
        self.engine = HFEngine(copy.deepcopy(learner.engine.model))  # type: ignore[attr-defined]
        self.next: dict[str, torch.Tensor] | None = None

    def __call__(self, learner: Policy, env: Any, plan: Plan, step: int, *rest: Any) -> Rollouts:
        if step > 1 and self.next is not None:
            self.engine.load(self.next)
        weights = learner.engine.model.state_dict()  # type: ignore[attr-defined]
        self.next = {name: w.clone() for name, w in weights.items()}
        return round_of(replace(learner, engine=self.engine), env, plan, step, *rest)


def variants() -> dict[str, tuple[Any, bool]]:
    """Return the recipe, and whether the sampler is behind, by name."""
    plain = recipes.grpo(kl=0.0)
    cut = replace(plain, objective=truncated(plain.objective, cap=2.0))
    return {"in step": (plain, False), "one behind": (plain, True), "one behind, truncated ratio": (cut, True)}


def measured(recipe: Any, behind: bool, steps: int, seed: int) -> list[dict[str, Any]]:
    """Train; return the metrics of the steps."""
    player, env = policy.load("tiny"), envs.load("chain")
    plan = Plan(steps=steps, groups=8, size=8, rate=3e-4, seed=seed)
    learner, rounds = start(player, recipe, plan), Behind(player) if behind else round_of
    return [one_step(learner, env, recipe, plan, step, player=rounds).metrics for step in range(steps)]


def row_of(name: str, seed: int, rows: list[dict[str, Any]], seconds: float) -> str:
    """Return a line of the table: mean success of each quarter, and how far the sampler was from the learner."""
    size = max(len(rows) // 4, 1)
    quarters = [rows[i : i + size] for i in range(0, 4 * size, size)]
    mean = lambda key, part: sum(row[key] or 0.0 for row in part) / len(part)  # noqa: E731
    shares = " | ".join(f"{mean('outcome', part):.3f}" for part in quarters if part)
    corrected = "-" if rows[-1]["corrected"] is None else f"{mean('corrected', rows):.5f}"
    ratio = f"{mean('ratio_mean', rows):.1e} | {max(row['lag'] for row in rows)} | {corrected}"
    return f"| {name} | {seed} | {shares} | {ratio} | {mean('clip_share', rows):.4f} | {seconds:.0f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| sampler | seed | success, 1st quarter | 2nd | 3rd | 4th | mean log ratio | lag | corrected | clip | s |")
    print("| --- " * 11 + "|")
    for seed in asked.seeds:
        for name, (recipe, behind) in variants().items():
            began = time.perf_counter()
            rows = measured(recipe, behind, asked.steps, seed)
            print(row_of(name, seed, rows, time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    main()
