"""RUDDER with and without cross-fitting: does its credit tell the search that helped, on rollouts of the tiny policy?

    python benchmarks/rudder_folds.py [--worlds chain facet] [--tasks 8 32] [--size 4] [--seeds 5] [--keep NAME]

The two worlds and starts of the stored learning curves (`workbench.train.sweep_methods`), whose oracle says of every
search whether it was on a shortest path. Rows: the network fitted to what it credits (folds = 0, the default),
cross-fitted in 2, 4 and 8 folds (of 8 questions the last leaves one out), with fewer steps, fitted to as many other
rollouts; beside them GRPO and the rule "earlier is better", which reads nothing. Columns, means over seeds with t's
95 % interval:

    within, beside   as in which_turn.py: how often a search on the path has more credit than one off it, of one
                     rollout, and of siblings at the same turn of one question
    error            mean squared error of the last prediction before the answer, divided by that of always saying the
                     mean outcome of the other questions: below 1 it learned something
    size             mean absolute credit before the last turn

Prints a table; asserts nothing. `--keep` writes it to benchmarks/results/NAME.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from which_turn import _both, interval

from workbench import recipes
from workbench.batch import Batch
from workbench.evidence import Cache, Recorded, collect
from workbench.evidence.predicted import ReturnPredictor
from workbench.policy.base import Settings
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.train.sweep_methods import start_of, world

WORLDS = ("chain", "facet")
FOLDS = (0, 2, 4, 8)
FIGURES = ("within", "beside", "error", "size")


def ways(others: Rollouts) -> Iterator[tuple[str, ReturnPredictor]]:
    """Yield the ways to fit the network, by name."""
    yield from ((f"folds={k}", ReturnPredictor(folds=k)) for k in FOLDS)
    yield "folds=8, 20 steps", ReturnPredictor(folds=8, steps=20)
    yield "fitted to others", ReturnPredictor().fit(others)


def figures(credit: torch.Tensor, batch: Batch) -> dict[str, float]:
    """Compare credit of searches with the oracle; answers (last turns) are left out."""
    inner = torch.ones(len(credit), dtype=torch.bool)
    inner[batch.last("turn", "trajectory")] = False
    found = _both(credit, inner & batch["truth"].known, batch)
    return {"within": found["share"], "beside": found["beside"], "size": float(credit[inner].abs().mean()), **found}


def error(batch: Batch) -> float:
    """Error of the prediction before the last turn, as a multiple of that of the other questions' mean outcome."""
    outcome, ends = batch["outcome"].values.double(), batch.last("turn", "trajectory")
    before = torch.where(
        batch.turn_index[ends] > 0, batch["return_pred"].values[ends - 1], batch["return_pred_start"].values
    )
    group = batch.trajectory_group
    same = (group[:, None] == group[None]).double()
    mean = ((1 - same) @ outcome) / (1 - same).sum(1)
    return float(((before - outcome) ** 2).mean() / ((mean - outcome) ** 2).mean())


def measure(name: str, tasks: int, size: int, seed: int) -> dict[str, dict[str, float]]:
    """Play rollouts and others of one seed, and credit the first by every way."""
    env = world(name)
    player = start_of(name, env)
    drawn = env.tasks("test", 2 * tasks, seed=seed)
    played = [
        play(player, env, part, size=size, settings=Settings(max_new_tokens=32), seed=seed, run=run, gather_s=None)
        for run, part in (("mine", drawn[:tasks]), ("others", drawn[tasks:]))
    ]
    rollouts = collect(played[0], [Recorded({"truth": "oracle_on_path"})], cache=Cache())
    batch = rollouts.batch()
    out = {"earlier is better": figures(-batch.turn_index.double(), batch)}
    del out["earlier is better"]["size"]  # of a place, no credit
    out["grpo"] = figures(recipes.grpo(kl=0.0).credit(batch, to="turn").values, batch)
    for way, network in ways(played[1]):
        told = collect(rollouts, [network], cache=Cache()).batch()
        credit = recipes.rudder().credit(told, to="turn").values
        out[way] = {**figures(credit, told), "error": error(told)}
    return out


def rows_of(world_name: str, tasks: int, runs: Sequence[dict[str, dict[str, float]]]) -> Iterator[dict[str, Any]]:
    """Summarise the seeds."""
    for way in runs[0]:
        told = {f: interval([run[way][f] for run in runs]) for f in FIGURES if f in runs[0][way]}
        pairs = {key: int(sum(run[way][key] for run in runs)) for key in ("pairs", "pairs_beside")}
        yield {"world": world_name, "tasks": tasks, "way": way, **told, **pairs}


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--size", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS))
    parser.add_argument("--keep", metavar="NAME")
    options = parser.parse_args(arguments)
    rows = []
    for name in options.worlds:
        for tasks in options.tasks:
            runs = [measure(name, tasks, options.size, seed) for seed in range(options.seeds)]
            for row in rows_of(name, tasks, runs):
                said = ", ".join(f"{f} {row[f][0]:.2f} +- {row[f][1]:.2f}" for f in FIGURES if f in row)
                print(f"{name:6} {tasks:3} tasks  {row['way']:18} {said} ({row['pairs']}, {row['pairs_beside']} pairs)")
                rows.append(row)
    if options.keep:
        asked = " ".join(map(str, options.tasks))
        command = f"benchmarks/rudder_folds.py --tasks {asked} --size {options.size} --seeds {options.seeds}"
        place = Path(__file__).resolve().parent / "results" / f"{options.keep}.json"
        place.write_text(json.dumps({"command": command, "rows": rows}, indent=1) + "\n", "utf-8")
    return rows


if __name__ == "__main__":
    main()
