"""Methods compared by training: the same start, tasks, rollouts and tuning budget for each, one line a run.

`python -m workbench.train.sweep --out datasets/results/training` makes what is missing there and can be stopped at any
time: a run is written once it is done. First each method's three rates are tried on a tuning seed; then each is run
on five other seeds at the rate that solved most tuning tasks. Which methods in which worlds: `sweep_methods`; what is
made of the runs: `compared`; what a step of each costs: `sweep_cost`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from workbench import store
from workbench.envs.base import Environment
from workbench.envs.misread import MISREAD
from workbench.evidence import collect, for_recipe
from workbench.policy.base import Policy, Settings
from workbench.recipes import Recipe
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.train.plan import Plan, start
from workbench.train.policy_gradient import Done, one_step
from workbench.train.sweep_methods import (
    COMPARED,
    LEFT_OUT,
    METHODS,
    OWN,
    STARTS,
    WORLDS,
    given,
    pairs,
    places,
    recipes_of,
    start_of,
    wanted,
    world,
)
from workbench.train.tally import Cell, habits, tally, together

__all__ = ["COMPARED", "LEFT_OUT", "METHODS", "OWN", "STARTS", "WORLDS", "Job", "Size", "given", "jobs"]
__all__ += ["pairs", "places", "read", "recipes_of", "run", "start_of", "wanted", "world"]

RATES = (7e-5, 2e-4, 6e-4)
TUNING_SEEDS = (100,)
SEEDS = (1, 2, 3, 4, 5)
FRESH_SEEDS = tuple(range(11, 21))
"""Of runs made again to confirm what the others suggest; nothing was chosen by them."""
BLOCK = 8
"""Steps whose turns are counted together."""
TESTS, GREEDY_TESTS = 192, 64
KEPT = ("outcome", "collapsed", "dead_groups", "turns", "truncated", "malformed", "gradient_norm", "surprise")


@dataclass(frozen=True)
class Job:
    """One run.

    Args:
        world, method: of `sweep_methods.places` and `recipes_of`.
        rate: learning rate.
        seed: of tasks and samples; one of `TUNING_SEEDS` is used to choose the rate and for nothing else.
    """

    world: str
    method: str
    rate: float
    seed: int


@dataclass(frozen=True)
class Size:
    """How large every run is: `groups` tasks a step, `size` rollouts of each, `steps` steps.

    A method that samples again (DAPO) has no more rollouts than the others, and so makes fewer steps.
    """

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
    env = world(job.world)
    player, recipe = start_of(job.world, env), recipes_of(job.world)[job.method]
    plan = Plan(steps=how.steps, groups=how.groups, size=how.size, rate=job.rate, seed=job.seed, pack="tree")
    evidence, counted = given(job.world, job.method, player, env), job.world in WORLDS
    learner = start(player, recipe, plan, evidence)
    rows: list[dict[str, Any]] = []
    cells: list[Sequence[Cell]] = []
    for step, here in steps_of(plan, recipe, rows):
        done = one_step(learner, env, recipe, here, step, evidence)
        rows.append(_row(done, counted, recipe.refill))
        cells.append(tally(done.used, done.used.batch(step), done.credits["credit"]) if counted else [])
    seconds = time.perf_counter() - began
    tests = 1000 if job.seed in TUNING_SEEDS else 0
    found = {"success": success(player, env, TESTS, tests)}
    if job.seed not in TUNING_SEEDS:
        found["greedy"] = success(player, env, GREEDY_TESTS, tests, 0.0)
    if maps is not None and job.method in COMPARED and counted:
        store.write(maps / f"{job.world}-{job.method}", fixed_group(player, env, job.method), overwrite=True)
    blocks = [_plain(together(cells[at : at + BLOCK])) for at in range(0, len(cells), BLOCK) if counted]
    columns = {name: [_short(row[name]) for row in rows] for name in rows[0]}
    told = {
        **asdict(job),
        **asdict(how),
        **found,
        "steps_seen": columns,
        "turns_seen": blocks,
    }
    return {**told, "seconds": round(seconds, 1), **surroundings()}


def steps_of(plan: Plan, recipe: Recipe, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Plan]]:
    """Yield the steps of a run, each with the plan it is made by, as long as there are rollouts left for it.

    Args:
        plan: of the run; `steps` of its batches are all the rollouts there are.
        recipe: one that samples again does so only as often as the rest allows.
        rows: what was made so far, looked at before each step.
    """
    batch = plan.groups * plan.size
    for step in range(plan.steps):
        if not recipe.refill:
            yield step, plan
            continue
        rounds = plan.steps - -(-sum(row["rollouts"] for row in rows) // batch)
        if rounds < 1:
            return
        yield step, replace(plan, refills=min(plan.refills, rounds - 1))


def success(player: Policy, env: Environment, count: int, seed: int, temperature: float = 1.0) -> list[int]:
    """Play `count` test tasks once each; return [solved, of]."""
    settings = Settings(temperature=temperature, max_new_tokens=Plan.max_new_tokens)
    tasks = env.tasks("test", count, seed)
    played = play(player, env, tasks, size=1, settings=settings, seed=seed, gather_s=None, progress=_quiet)
    return [sum(t.outcome == 1.0 for t in played), len(played)]


def fixed_group(player: Policy, env: Environment, run: str, size: int = 4) -> Rollouts:
    """Play the task that is the same for all policies of a world: the first in which one word is misread.

    Returns:
        rollouts with the evidence of the methods in `COMPARED`; beliefs are those of `player`.
    """
    task = next(t for t in env.tasks("test", 50, 2000) if sum(word in t.question.split() for word in MISREAD) == 1)
    settings = Settings(max_new_tokens=Plan.max_new_tokens)
    played = play(player, env, [task], size=size, settings=settings, seed=0, run=run, gather_s=None, progress=_quiet)
    return collect(played, for_recipe([METHODS[name] for name in COMPARED], played, policy=player))


def untrained(name: str, maps: Path) -> dict[str, Any]:
    """Return what the start of a world solves of the test tasks; keep its fixed group, if it has one."""
    env = world(name)
    player = start_of(name, env)
    if name in WORLDS:
        store.write(maps / f"{name}-start", fixed_group(player, env, "start"), overwrite=True)
    found = {"success": success(player, env, TESTS, 0), "greedy": success(player, env, GREEDY_TESTS, 0, 0.0)}
    return {"world": name, "method": "start", "policy": player.name, **found, **surroundings()}


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


def _row(done: Done, counted: bool, again: bool) -> dict[str, Any]:
    """Return what is kept of a step: habits where turns can be counted, rollouts where a step may sample again."""
    causes = done.metrics["collapse_causes"]
    every = {f"groups_{name.replace(' ', '_')}": causes.get(name, 0) for name in ("all solved", "all failed")}
    kept = {**{name: done.metrics[name] for name in KEPT}, **every}
    return kept | (dict(habits(done.played)) if counted else {}) | ({"rollouts": len(done.played)} if again else {})


def _plain(cells: Sequence[Cell]) -> list[list[Any]]:
    return [[_short(value) for value in cell] for cell in cells]


def _short(value: Any) -> Any:
    """Round to five digits: more would only fill the file."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _quiet(done: int, total: int, text: str) -> None:
    """Show nothing."""


# ------------------------------------------------------------------------------------------------------ all runs


def jobs(kept: Sequence[Mapping[str, Any]], chosen: Iterable[tuple[str, str]] | None = None) -> Iterator[Job]:
    """Yield every run in order, worlds and methods in turn, so that a stop leaves a balanced table.

    Args:
        kept: what is there; looked at when the tuning is through: the rates of the reported runs depend on it.
        chosen: pairs of a world and a method; None is all that are not left out.
    """
    these = wanted() if chosen is None else list(chosen)
    for seed in TUNING_SEEDS:
        for rate in reversed(RATES):
            yield from (Job(name, method, rate, seed) for name, method in these)
    for seed in SEEDS:
        for name, method in these:
            yield Job(name, method, best_rate(kept, name, method), seed)


def fresh_jobs(tuned: Sequence[Mapping[str, Any]], chosen: Iterable[tuple[str, str]]) -> Iterator[Job]:
    """Yield runs on `FRESH_SEEDS`, at the rates that the tuning of earlier runs chose.

    Args:
        tuned: lines of the earlier runs.
        chosen: pairs of a world and a method.
    """
    these = list(chosen)
    yield from (Job(name, m, best_rate(tuned, name, m), seed) for seed in FRESH_SEEDS for name, m in these)


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


def _keep_starts(out: Path, names: Sequence[str]) -> None:
    """Add the starts of these worlds to `starts.json` where they are missing."""
    file = out / "starts.json"
    known = starts(out) if file.exists() else []
    new = [untrained(name, out / "maps") for name in names if name not in [one["world"] for one in known]]
    if new:
        file.write_text(json.dumps([*known, *new], indent=1) + "\n", "utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the runs of the comparison that are missing in a folder."""
    parser = argparse.ArgumentParser("python -m workbench.train.sweep", description=main.__doc__)
    parser.add_argument("--out", required=True, help="folder of the results")
    parser.add_argument("--worlds", nargs="+", default=list(places()), help="only these (all)")
    parser.add_argument("--methods", nargs="+", help="only these, also where they are left out (all that are not)")
    parser.add_argument("--again", help="on fresh seeds, at the rates that the runs of this folder were tuned to")
    parser.add_argument("--until", help="begin no run after this time of day, e.g. 17:30")
    parser.add_argument("--threads", type=int, default=1, help="of torch; part of what decides the last bits")
    for name, default in asdict(Size()).items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"({default})")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    out, how = Path(asked.out), Size(asked.groups, asked.size, asked.steps)
    out.mkdir(parents=True, exist_ok=True)
    kept = read(out)
    chosen = [
        (name, method)
        for name, method in (pairs() if asked.methods else wanted())
        if name in asked.worlds and (not asked.methods or method in asked.methods)
    ]
    if not asked.again:
        _keep_starts(out, list(dict.fromkeys(name for name, _ in chosen)))
    for job in fresh_jobs(read(Path(asked.again)), chosen) if asked.again else jobs(kept, chosen):
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
