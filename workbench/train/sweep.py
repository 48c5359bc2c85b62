"""Methods compared by training: the same start, tasks, rollouts and tuning budget for each, one line a run.

`python -m workbench.train.sweep --out datasets/results/training` makes what is missing there and can be stopped at any
time: a run is written once it is done. First each method's three rates are tried on a tuning seed; then each is run
on five other seeds at the rate that solved most tuning tasks. What is made of them: `workbench.train.compared`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from workbench import envs, policy, recipes, store
from workbench.envs.base import Environment
from workbench.envs.misread import MISREAD
from workbench.evidence import collect, for_recipe
from workbench.policy.base import Policy, Settings
from workbench.recipes import Recipe
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.train.plan import Plan, start
from workbench.train.policy_gradient import Done, one_step
from workbench.train.tally import Cell, habits, tally, together

RATES = (7e-5, 2e-4, 6e-4)
TUNING_SEEDS = (100,)
SEEDS = (1, 2, 3, 4, 5)
WORLDS: Mapping[str, Mapping[str, Any]] = {"chain": {"hops": 3}, "facet": {"items": 8, "clues": 2}}
"""The worlds and their knobs: belief moves at the last search in the one, at every turn in the other."""
STARTS = {"chain": "tiny@chain-misread", "facet": "tiny@facet"}
METHODS: Mapping[str, Recipe] = {
    "reinforce": recipes.reinforce(),
    "grpo": recipes.grpo(kl=0.0),
    "rloo": recipes.rloo(),
    "matchtir": recipes.matchtir(),
    "igpo": recipes.igpo(),
    "a2tgpo": recipes.a2tgpo(),
    "gigpo": recipes.gigpo(reward=None),
    "igpo_separate": recipes.igpo(gain="logprob", norm="separate"),
}
"""No KL term in any. GiGPO's turn reward is the outcome at the last turn: these worlds give no other. IGPO comes twice:
the paper's joint pool, and separate pools with gains of log-probability."""
LEFT_OUT = (("chain", "igpo_separate"),)
"""The second form of IGPO is there for the question whether it stops early where belief moves at every turn."""
BLOCK = 8
"""Steps whose turns are counted together."""
TESTS, GREEDY_TESTS = 192, 64
KEPT = ("outcome", "collapsed", "dead_groups", "turns", "truncated", "malformed", "gradient_norm", "surprise")


@dataclass(frozen=True)
class Job:
    """One run.

    Args:
        world, method: of `STARTS` and `METHODS`.
        rate: learning rate.
        seed: of tasks and samples; one of `TUNING_SEEDS` is used to choose the rate and for nothing else.
    """

    world: str
    method: str
    rate: float
    seed: int


@dataclass(frozen=True)
class Size:
    """How large every run is: `groups` tasks a step, `size` rollouts of each, `steps` steps."""

    groups: int = 4
    size: int = 8
    steps: int = 32


# ------------------------------------------------------------------------------------------------------ one run


def run(job: Job, how: Size = Size(), maps: Path | None = None) -> dict[str, Any]:
    """Train once; return the line that is kept.

    Args:
        job: what.
        how: how large.
        maps: folder for the rollouts of one fixed task after training, with the evidence of all methods; None: none.

    Returns:
        the job and its size, `success` and `greedy` ([solved, of] test tasks afterwards: sampled, likeliest tokens),
        `steps_seen` (a list a metric), `turns_seen` (cells by block of steps), seconds, commit, versions.
    """
    began = time.perf_counter()
    env, player, recipe = world(job.world), policy.load(STARTS[job.world]), METHODS[job.method]
    plan = Plan(steps=how.steps, groups=how.groups, size=how.size, rate=job.rate, seed=job.seed, pack="tree")
    learner = start(player, recipe, plan)
    rows, cells = [], []
    for step in range(how.steps):
        done = one_step(learner, env, recipe, plan, step)
        rows.append(_row(done))
        cells.append(tally(done.used, done.used.batch(step), done.credits["credit"]))
    seconds = time.perf_counter() - began
    tests = 1000 if job.seed in TUNING_SEEDS else 0
    found = {"success": success(player, env, TESTS, tests)}
    if job.seed in SEEDS:
        found["greedy"] = success(player, env, GREEDY_TESTS, tests, 0.0)
    if maps is not None:
        store.write(maps / f"{job.world}-{job.method}", fixed_group(player, env, job.method), overwrite=True)
    blocks = [_plain(together(cells[at : at + BLOCK])) for at in range(0, how.steps, BLOCK)]
    columns = {name: [_short(row[name]) for row in rows] for name in rows[0]}
    told = {
        **asdict(job),
        **asdict(how),
        **found,
        "steps_seen": columns,
        "turns_seen": blocks,
    }
    return {**told, "seconds": round(seconds, 1), **surroundings()}


def world(name: str) -> Environment:
    """Return a world of the comparison."""
    return envs.load(name, **WORLDS[name])


def success(player: Policy, env: Environment, count: int, seed: int, temperature: float = 1.0) -> list[int]:
    """Play `count` test tasks once each; return [solved, of]."""
    settings = Settings(temperature=temperature, max_new_tokens=Plan.max_new_tokens)
    tasks = env.tasks("test", count, seed)
    played = play(player, env, tasks, size=1, settings=settings, seed=seed, gather_s=None, progress=_quiet)
    return [sum(t.outcome == 1.0 for t in played), len(played)]


def fixed_group(player: Policy, env: Environment, run: str, size: int = 4) -> Rollouts:
    """Play the task that is the same for all policies of a world: the first in which one word is misread.

    Returns:
        rollouts with the evidence of all methods; beliefs are those of `player`.
    """
    task = next(t for t in env.tasks("test", 50, 2000) if sum(word in t.question.split() for word in MISREAD) == 1)
    settings = Settings(max_new_tokens=Plan.max_new_tokens)
    played = play(player, env, [task], size=size, settings=settings, seed=0, run=run, gather_s=None, progress=_quiet)
    return collect(played, for_recipe(list(METHODS.values()), played, policy=player))


def untrained(name: str, maps: Path) -> dict[str, Any]:
    """Return what the warm start of a world solves of the tasks others are tested on; keep its fixed group."""
    env, player = world(name), policy.load(STARTS[name])
    store.write(maps / f"{name}-start", fixed_group(player, env, "start"), overwrite=True)
    found = {"success": success(player, env, TESTS, 0), "greedy": success(player, env, GREEDY_TESTS, 0, 0.0)}
    return {"world": name, "method": "start", "policy": STARTS[name], **found, **surroundings()}


def surroundings() -> dict[str, Any]:
    """Return the commit, whether tracked files differed from it, versions and the number of threads."""
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }
    changed = bool(_git("status", "--porcelain", "--untracked-files=no", "--", "workbench"))
    return {"commit": _git("rev-parse", "HEAD"), "changed": changed, "threads": torch.get_num_threads(), **versions}


@lru_cache
def _git(*words: str) -> str | None:
    try:
        found = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, cwd=Path(__file__).parent)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() if found.returncode == 0 else None


def _row(done: Done) -> dict[str, Any]:
    """Return what is kept of a step's metrics."""
    causes = done.metrics["collapse_causes"]
    every = {f"groups_{name.replace(' ', '_')}": causes.get(name, 0) for name in ("all solved", "all failed")}
    return {**{name: done.metrics[name] for name in KEPT}, **every, **habits(done.played)}


def _plain(cells: Sequence[Cell]) -> list[list[Any]]:
    return [[_short(value) for value in cell] for cell in cells]


def _short(value: Any) -> Any:
    """Round to five digits: more would only fill the file."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _quiet(done: int, total: int, text: str) -> None:
    """Show nothing."""


# ------------------------------------------------------------------------------------------------------ all runs


def jobs(kept: Sequence[Mapping[str, Any]]) -> Iterator[Job]:
    """Yield every run in order, worlds and methods in turn, so that a stop leaves a balanced table.

    `kept` is looked at when the tuning is through: the rates of the reported runs depend on it.
    """
    pairs = [(name, method) for method in METHODS for name in WORLDS if (name, method) not in LEFT_OUT]
    for seed in TUNING_SEEDS:
        for rate in reversed(RATES):
            yield from (Job(name, method, rate, seed) for name, method in pairs)
    for seed in SEEDS:
        for name, method in pairs:
            yield Job(name, method, best_rate(kept, name, method), seed)


def best_rate(kept: Sequence[Mapping[str, Any]], world: str, method: str) -> float:
    """Return the rate that solved most tuning tasks after training, the smallest of equal ones.

    Raises:
        ValueError: not all tuning runs are there.
    """
    solved: dict[float, int] = {}
    seen = set()
    for line in kept:
        if (line["world"], line["method"]) == (world, method) and line["seed"] in TUNING_SEEDS:
            solved[line["rate"]] = solved.get(line["rate"], 0) + line["success"][0]
            seen.add((line["rate"], line["seed"]))
    if len(seen) < len(RATES) * len(TUNING_SEEDS):
        raise ValueError(f"{method} on {world}: {len(seen)} tuning runs of {len(RATES) * len(TUNING_SEEDS)} are there")
    return min(solved, key=lambda rate: (-solved[rate], rate))


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the lines kept so far; a torn last line is left out (its run is made again)."""
    out = []
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                out.append(json.loads(line))
    return out


def starts(folder: Path) -> list[dict[str, Any]]:
    """Return what the warm starts solve, a line a world."""
    return list(json.loads((folder / "starts.json").read_text(encoding="utf-8")))


def keep(folder: Path, line: Mapping[str, Any]) -> None:
    """Append a line to the world's file and wait until the disk has it; what a killed run left half is cut first."""
    file = folder / f"{line['world']}.jsonl"
    before = file.read_bytes() if file.exists() else b""
    with file.open("r+b" if file.exists() else "wb") as out:
        out.truncate(before.rfind(b"\n") + 1)
        out.seek(0, os.SEEK_END)
        out.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        out.flush()
        os.fsync(out.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the runs of the comparison that are missing in a folder."""
    parser = argparse.ArgumentParser("python -m workbench.train.sweep", description=main.__doc__)
    parser.add_argument("--out", required=True, help="folder of the results")
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), help="only these (all)")
    parser.add_argument("--until", help="begin no run after this time of day, e.g. 17:30")
    parser.add_argument("--threads", type=int, default=1, help="of torch; part of what decides the last bits")
    for name, default in asdict(Size()).items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"({default})")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    out, how = Path(asked.out), Size(asked.groups, asked.size, asked.steps)
    out.mkdir(parents=True, exist_ok=True)
    kept = read(out)
    file = out / "starts.json"
    if not file.exists():
        file.write_text(json.dumps([untrained(name, out / "maps") for name in WORLDS], indent=1) + "\n", "utf-8")
    for job in jobs(kept):
        if job.world not in asked.worlds:
            continue
        if any(all(line[name] == value for name, value in asdict(job).items()) for line in kept):
            continue
        if asked.until and time.strftime("%H:%M") >= asked.until:
            break
        line = run(job, how, out / "maps" if job.seed == SEEDS[0] else None)
        keep(out, line)
        kept.append(line)
        print(
            f"{job.world} {job.method} {job.rate:g} seed {job.seed}: {line['success']} {line['seconds']} s", flush=True
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
