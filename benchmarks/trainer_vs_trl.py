"""The same tiny policy, world, groups and updates here and in TRL's `GRPOTrainer`, on a CPU.

    python benchmarks/trainer_vs_trl.py [--world chain] [--size 8] [--trl-python PYTHON] [--rounds 3] [--updates 5]
        [--threads 1] [--keep NAME]

Both sides play 3-hop chains (or facets), the same 8 tasks x 8 rollouts (or x 16) an update, at temperature 1, turns of
at most 32 tokens, with GRPO's loss without KL, float32, AdamW at 3e-4, one update a batch, all weights trained. Each
half is a process of its own; its first update is not counted. They run in turn, so that a busy machine is busy for
both.

TRL gets its best. First the ways it has to play several turns with a model of this size (`halves/routes.py`):

* `environment_factory`: its own loop over tools, with a chat template and a response template made for the plain text
  of the tiny policy;
* the same with the continuous batching of transformers, and with vLLM in the process (where it is installed);
* `rollout_func`: a loop over `model.generate` that reads the context anew each turn;
* `rollout_func` with keys and values kept from turn to turn.

A route that does not finish within `--patience` seconds is left out, and the result says so. The fastest one then runs
with three batch sizes (trajectories of a pass; gradients add up to one update). The fastest of these is compared.

Seconds are those of the clock; `cpu` is how long the process was at work, which other programs disturb less. Both
ratios are printed; routes and batch sizes are chosen by `cpu`. Not tried: a compiled model, an engine of one's own
behind `rollout_func`, bfloat16 (here everything is float32).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from halves import machine

ROUTES = ("rollout_func, keys kept", "rollout_func", "tools", "tools, paged", "tools, vllm")
BATCHES = (16, 32, 64)
GROUPS = 8
PARTS = ("rollout", "evidence", "credit", "reward and padding", "learn", "rest")


def main() -> int:
    """Compare, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", default=sys.executable, help="a Python that has TRL (this one)")
    parser.add_argument("--world", default="chain", choices=("chain", "facet"))
    parser.add_argument("--size", type=int, default=8, choices=(8, 16), help="rollouts of a task")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=5, help="counted, of each half in each round")
    parser.add_argument("--trial", type=int, default=2, help="counted, where a route or a batch size is tried")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--routes", nargs="+", default=list(ROUTES), choices=ROUTES, metavar="ROUTE")
    parser.add_argument("--patience", type=float, default=150.0, help="seconds a trial may take")
    parser.add_argument("--keep", metavar="NAME", help="of a file in benchmarks/results")
    asked = parser.parse_args()
    if problem := without_trl(asked.trl_python):
        print(problem, file=sys.stderr)
        return 2
    given = [a if a != asked.trl_python else "PYTHON" for a in sys.argv[1:]]
    found: dict[str, Any] = {"command": machine.command(given), "machine": machine.facts(), "threads": asked.threads}
    found |= {"world": asked.world, "groups": GROUPS, "size": asked.size}
    trial = {"threads": asked.threads, "steps": asked.trial + 1, "seed": 0, "world": asked.world, "size": asked.size}
    routes = {name: theirs(asked, {**trial, "route": name, "batch": max(BATCHES)}) for name in asked.routes}
    route = quickest(routes)
    print_trials("route (batch 64)", routes)
    batches = {str(n): theirs(asked, {**trial, "route": route, "batch": n}) for n in BATCHES}
    batch = quickest(batches)
    print_trials(f"batch size ({route})", batches)
    found |= {"routes": routes, "route": route, "batches": batches, "batch": int(batch)}
    whole = {**trial, "steps": asked.updates + 1, "route": route, "batch": int(batch)}
    found["rounds"] = []
    for _ in range(asked.rounds):
        pair = {"load": machine.load(), "here": half(sys.executable, "ours", whole), "trl": theirs(asked, whole, None)}
        found["rounds"].append(pair)
    found |= {"load_after": machine.load(), "summary": summary(found["rounds"])}
    report(found)
    if asked.keep:
        print("written:", machine.keep(asked.keep, found).relative_to(machine.ROOT))
    return 0


def without_trl(python: str) -> str | None:
    """Say what to do if a Python has no TRL."""
    code = "import importlib.util as u; print([m for m in ('trl', 'datasets', 'bm25s') if u.find_spec(m) is None])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    except OSError as error:
        return f"--trl-python: {error}"
    lacking = done.stdout.strip() if done.returncode == 0 else done.stderr.strip()
    if lacking == "[]":
        return None
    return f"{python} lacks {lacking}; run `make setup-all`, or name a Python that has them with --trl-python"


def theirs(asked: argparse.Namespace, settings: dict[str, Any], patience: float | None = -1.0) -> dict[str, Any]:
    """Run TRL's half; a trial that fails or takes too long says so."""
    return half(asked.trl_python, "theirs", settings, asked.patience if patience == -1.0 else patience)


def half(python: str, name: str, settings: dict[str, Any], patience: float | None = None) -> dict[str, Any]:
    """Run a half in a process of its own.

    Returns:
        What it measured; of a trial that failed, {"left out": why}.

    Raises:
        RuntimeError: it failed although it may take as long as it wants.
    """
    here = os.pathsep.join([str(machine.ROOT / "benchmarks"), str(machine.ROOT)])
    quiet = {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "VLLM_NO_USAGE_STATS": "1"}
    env = {**os.environ, **quiet, "PYTHONPATH": here, "OMP_NUM_THREADS": str(settings["threads"])}
    env |= {"HALF_WORLD": settings["world"], "HALF_SIZE": str(settings["size"])}
    env.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [python, "-m", f"halves.{name}", json.dumps(settings), str(out)]
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=patience)
        except subprocess.TimeoutExpired:
            return {"left out": f"not finished after {patience:.0f} s"}
        if done.returncode == 0:
            return json.loads(out.read_text(encoding="utf-8"))
        last = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
        if patience is None:
            raise RuntimeError(f"the half {name!r} failed: {done.stderr[-2000:]}")
        return {"left out": last}


def quickest(tried: dict[str, dict[str, Any]]) -> str:
    """Return the name of the trial that worked the least for an episode."""
    there = {name: one["cpu"] / one["played"]["episodes"] for name, one in tried.items() if "left out" not in one}
    if not there:
        raise RuntimeError(f"TRL finished no trial: {tried}")
    return min(there, key=lambda name: there[name])


# ---------------------------------------------------------------------------------------------------------- reporting


def rates(one: dict[str, Any]) -> tuple[float, float]:
    """Return trajectories per second of the clock, and per second at work."""
    return one["played"]["episodes"] / one["seconds"], one["played"]["episodes"] / one["cpu"]


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the ratios (here over TRL), round by round, and their median."""
    out: dict[str, Any] = {}
    for number, name in enumerate(("clock", "cpu")):
        ratios = [rates(one["here"])[number] / rates(one["trl"])[number] for one in rounds]
        out[name] = {"ratios": [round(r, 2) for r in ratios], "median": round(median(ratios), 2)}
    peaks = {side: max(one[side]["memory_mb"]["peak"] or 0.0 for one in rounds) for side in ("here", "trl")}
    share = {
        side: {part: sum(one[side]["spent"].get(part, 0.0) for one in rounds) for part in PARTS}
        for side in ("here", "trl")
    }
    whole = {side: sum(one[side]["seconds"] for one in rounds) for side in share}
    shares = {side: {p: round(s / whole[side], 3) for p, s in parts.items() if s} for side, parts in share.items()}
    return {**out, "peak_mb": peaks, "share_of_the_clock": shares}


def print_trials(title: str, tried: dict[str, dict[str, Any]]) -> None:
    """Print a line a trial."""
    print(f"TRL, {title}: trajectories per second of clock and of work, what was played, peak memory")
    for name, one in tried.items():
        if "left out" in one:
            print(f"  {name:24} left out: {one['left out']}", flush=True)
            continue
        clock, cpu = rates(one)
        seen = one["played"]
        text = f"{seen['turns']:.2f} turns, {seen['tokens']:.1f} tokens, {seen['outcome']:.0%} right"
        print(f"  {name:24} {clock:7.1f} {cpu:7.1f}   {text}   {one['memory_mb']['peak']:.0f} MB", flush=True)


def report(found: dict[str, Any]) -> None:
    """Print the comparison."""
    said, where = found["summary"], found["machine"]
    played = f"{found['world']}, {found['groups']} tasks x {found['size']} an update"
    print(f"{where['processor']}, {where['cores']} cores, {found['threads']} thread(s); {played}")
    print(f"  {'round':>5} {'load':>6} {'here /s':>9} {'cpu':>7} {'TRL /s':>9} {'cpu':>7}   ratio clock, cpu")
    for number, one in enumerate(found["rounds"]):
        here, trl = rates(one["here"]), rates(one["trl"])
        ratio = f"{here[0] / trl[0]:.2f}, {here[1] / trl[1]:.2f}"
        load = one["load"][0] if one["load"] else 0.0
        print(f"  {number:>5} {load:>6} {here[0]:>9.1f} {here[1]:>7.1f} {trl[0]:>9.1f} {trl[1]:>7.1f}   {ratio}")
    for side in ("here", "trl"):
        parts = ", ".join(f"{part} {share:.0%}" for part, share in said["share_of_the_clock"][side].items())
        seen = found["rounds"][-1][side]["played"]
        text = f"{seen['turns']:.2f} turns, {seen['tokens']:.1f} tokens, {seen['outcome']:.0%} right"
        print(f"  {side:>4}: peak {said['peak_mb'][side]:.0f} MB; {parts}; {text}")
    print(f"  median ratio: {said['clock']['median']} by the clock, {said['cpu']['median']} by work; the goal is 3")


if __name__ == "__main__":
    sys.exit(main())
