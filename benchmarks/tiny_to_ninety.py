"""How long the shipped tiny policy takes from its warm start to 90 % success on the default 3-hop chain.

    python benchmarks/tiny_to_ninety.py [--seeds 0 1 2] [--threads 2] [--steps 170] [--keep NAME]

Every `--every` steps the policy plays `--tasks` test tasks once each, at the temperature of training, on tasks drawn
for this moment alone; the clock stands still meanwhile. The goal is reached where such a look finds 90 % or more *and*
a second one, on `--confirm` other tasks, finds it again: the first of many looks that happens to be high proves little.
Success comes with its 95 % Wilson interval. Seconds are those of `one_step` (rollout, evidence, credit, learn) from the
first step on; loading is told apart. Beside the seconds of the clock stand those the process was at work (`cpu`, all
threads): on a busy machine with one thread they say what a quiet one would have taken.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from halves import machine

from workbench import envs, policy
from workbench.compare import wilson
from workbench.credit import linear
from workbench.envs.base import Environment
from workbench.policy.base import Policy, Settings
from workbench.recipes import grpo
from workbench.rollout import play
from workbench.seeds import seed_for
from workbench.train.plan import Plan, start
from workbench.train.policy_gradient import one_step

GOAL, LIMIT_S = 0.9, 180.0


def main() -> None:
    """Train, look, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=170)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--last-rate", type=float, help="reached at the last step, in a straight line (stays as it is)")
    parser.add_argument("--clip", type=float, default=Plan.clip, help="largest norm of the gradient")
    parser.add_argument("--beta2", type=float, default=Plan.betas[1], help="of AdamW")
    parser.add_argument("--kl", type=float, default=0.04)
    parser.add_argument("--every", type=int, default=10, help="steps between looks")
    parser.add_argument("--tasks", type=int, default=200, help="of a look")
    parser.add_argument("--confirm", type=int, default=400, help="tasks of the second look")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="of the clock, after which a run is given up (never)"
    )
    parser.add_argument("--keep", metavar="NAME", help="of a file in benchmarks/results")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    result: dict[str, Any] = {"command": machine.command(), "machine": machine.facts(), "asked": vars(asked)}
    result["runs"] = [run(seed, asked) for seed in asked.seeds]
    result["load_after"] = machine.load()
    report(result)
    if asked.keep:
        print("written:", machine.keep(asked.keep, result).relative_to(machine.ROOT))


def run(seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Train once; return the steps, the looks, and when the goal was reached."""
    began = started = time.perf_counter()
    load = machine.load()
    env = envs.load("chain")
    player = policy.load("tiny", tools=env.tools)
    recipe = grpo(kl=asked.kl)
    rate = asked.rate if asked.last_rate is None else linear(asked.rate, asked.last_rate, asked.steps)
    plan = Plan(steps=asked.steps, rate=rate, seed=seed, clip=asked.clip, betas=(Plan.betas[0], asked.beta2))
    learner = start(player, recipe, plan)
    loading, clock, cpu = time.perf_counter() - began, 0.0, 0.0
    steps, looks, reached = [], [{"step": 0, "seconds": 0.0, **look(player, env, plan, 0, asked.tasks)}], None
    for step in range(asked.steps):
        if asked.minutes and time.perf_counter() - started > 60 * asked.minutes:
            break  # a run cut short counts as one that did not get there
        began, worked = time.perf_counter(), time.process_time()
        row = one_step(learner, env, recipe, plan, step).metrics
        clock, cpu = clock + time.perf_counter() - began, cpu + time.process_time() - worked
        names = ("rollout", "evidence", "credit", "learn")
        spent = {name: round(row[f"seconds_{name}"], 3) for name in names}
        spent["gradient_norm"] = row["gradient_norm"]
        steps.append(
            {
                "step": step + 1,
                "clock": round(clock, 3),
                "cpu": round(cpu, 3),
                "outcome": round(row["outcome"], 4),
                **spent,
            }
        )
        if (step + 1) % asked.every == 0:
            looks.append(
                {"step": step + 1, "seconds": round(clock, 2), **look(player, env, plan, step + 1, asked.tasks)}
            )
            if looks[-1]["share"] >= GOAL:
                second = look(player, env, plan, step + 1, asked.confirm, "second look")
                looks[-1]["second"] = second
                if second["share"] >= GOAL:
                    reached = {"step": step + 1, "seconds": round(clock, 2), "cpu": round(cpu, 2), **second}
                    break
        print(f"\rseed {seed}: step {step + 1}, {clock:5.1f} s, last look {looks[-1]['share']:.1%}", end="", flush=True)
    print()
    told = {"load_before": load, "load_after": machine.load(), "loading_seconds": round(loading, 2)}
    return {"seed": seed, "plan": repr(plan), **told, "reached": reached, "looks": looks, "steps": steps}


def look(
    player: Policy, env: Environment, plan: Plan, step: int, count: int, which: str = "look"
) -> dict[str, float | int]:
    """Play `count` test tasks once each, drawn for this look alone; return success with its interval."""
    seed = seed_for(which, plan.seed, step) % 10**9
    settings = Settings(temperature=plan.temperature, max_new_tokens=plan.max_new_tokens)
    tasks = env.tasks("test", count, seed)
    played = play(player, env, tasks, size=1, settings=settings, seed=seed, gather_s=None, progress=lambda *_: None)
    solved = sum(t.outcome == 1.0 for t in played)
    share, low, high = wilson(solved, len(played))
    return {"solved": solved, "of": len(played), "share": share, "low": round(low, 4), "high": round(high, 4)}


def report(result: dict[str, Any]) -> None:
    """Print one line a seed."""
    where = result["machine"]
    threads, load = result["asked"]["threads"], where["load_before"]
    print(f"{where['processor']}, {where['cores']} cores, {threads} threads, load {load}")
    print(
        f"{'seed':>5} {'start':>8} {'step':>5} {'seconds':>8} {'cpu':>7}  {'success on other tasks':28} rollout, learn"
    )
    for one in result["runs"]:
        at, spent = one["reached"], one["steps"]
        shares = [sum(row[name] for row in spent) / spent[-1]["clock"] for name in ("rollout", "learn")]
        split = ", ".join(f"{share:.0%}" for share in shares)
        first = one["looks"][0]["share"]
        if at is None:
            print(f"{one['seed']:>5} {first:>8.1%} {'-':>5} {'-':>8} {'-':>7}  not reached in {len(spent)} steps")
            continue
        interval = f"{at['solved']}/{at['of']} = {at['share']:.1%} [{at['low']:.1%}, {at['high']:.1%}]"
        when = f"{at['step']:>5} {at['seconds']:>8.1f} {at['cpu']:>7.1f}"
        print(f"{one['seed']:>5} {first:>8.1%} {when}  {interval:<28} {split}")
    times = [one["reached"]["seconds"] for one in result["runs"] if one["reached"]]
    result["within_three_minutes"] = len(times) == len(result["runs"]) and max(times) <= LIMIT_S
    print(f"all seeds within {LIMIT_S:.0f} s: {result['within_three_minutes']}")


if __name__ == "__main__":
    main()
