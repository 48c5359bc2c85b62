"""Kill a run over and over, resume it, and compare it by hash with one that nobody disturbed.

    python benchmarks/kill_resume.py --kills 20 [--plant generator | optimiser | version | fsync] [--seed 0]

One run is left alone. A second one, launched with the same arguments, is ended by SIGKILL as often as asked: at random
moments, and at named points (in each file of a checkpoint, before and after its rename, in the metrics, in rollout, in
evidence, in learning), each time in a process of its own, and resumed. At the end weights, optimiser, state, kept
trajectories and all metrics but seconds must be equal. Exit status 1 if they are not.

Every second kill is a power cut, too: what the process had not put on the disk is lost (`halves/power.py`), because
what a killed process wrote is still in the system's memory. A checkpoint that had its name must be whole after it.

`--plant` carries something from step to step that a checkpoint has not got, forgets a part of it, or leaves out the
fsync of its files: the comparison must then fail.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from halves.power import cut_power, keep_ledger

from workbench.runs import Run

POINTS = (
    ("workbench.train.checkpoint._write", 1, "before the weights of a checkpoint"),
    ("workbench.train.checkpoint._write", 2, "before the optimiser of a checkpoint"),
    ("workbench.train.checkpoint._write", 3, "before the state of a checkpoint"),
    ("workbench.train.checkpoint.sync_path", 1, "before the rename"),
    ("workbench.train.checkpoint.sync_path", 2, "between rename and fsync of the folder"),
    ("workbench.train.checkpoint.shutil.rmtree", 4, "while old checkpoints go"),
    ("workbench.train.worker.json.dumps", 1, "before the metrics of a step"),
    ("workbench.train.worker.store.write", 1, "before rollouts are kept"),
    ("workbench.store.evidence.write_column", 1, "in the middle of kept rollouts"),
    ("workbench.train.policy_gradient.play", 2, "before a rollout"),
    ("workbench.policy.hf.HFEngine.sample", 3, "in a rollout"),
    ("workbench.train.policy_gradient.with_evidence", 1, "before evidence"),
    ("workbench.policy.hf.HFEngine.score", 2, "in evidence"),
    ("workbench.train.policy_gradient.accumulate", 2, "in learning"),
    ("torch.optim.AdamW.step", 1, "before an update"),
    ("workbench.runs.os.fsync", 5, "in the status"),
)
WAIT_S = 600.0
FAULTS = ("generator", "optimiser", "version", "fsync")


def main() -> int:
    """Run the comparison; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--plant", default="", choices=("", *FAULTS))
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, broken = (begin(Path(folder) / name, asked.steps, asked.plant) for name in ("whole", "broken"))
        points = [*POINTS, *[None] * max(asked.kills - len(POINTS), asked.kills // 4)]
        rng.shuffle(points)
        for number, point in enumerate(points[: asked.kills]):
            said, good = kill(broken, point, rng, asked.plant), safe_step(broken)
            said += cut(broken) if number % 2 or asked.plant == "fsync" else ""
            print(f"{number + 1:3}  {said}", flush=True)
            if broken.good_step < good or damaged(broken):
                print(f"the checkpoint of step {good} is lost or damaged")
                return 1
        go_on(broken, None, asked.plant)
        for run in (whole, broken):
            status = run.wait(WAIT_S)
            if status.state != "finished":
                print(f"{run!r}\n{run.log(40)}")
                return 1
        return compare(contents(whole), contents(broken))


def begin(path: Path, steps: int, plant: str) -> Run:
    """Launch a run of the tiny policy that uses all there is: a reference, probes, several epochs, a schedule."""
    from workbench import envs, recipes
    from workbench.credit import linear
    from workbench.recipes import Recipe
    from workbench.train import launch
    from workbench.train.plan import Plan

    module = sys.modules[launch.__module__]
    first, module.spawn = module.spawn, lambda run: run  # type: ignore[attr-defined]
    recipe = Recipe("igpo_kl", recipes.igpo().chain, recipes.grpo().objective)
    plan = Plan(steps=steps, groups=2, size=4, rate=linear(1e-3, 1e-4, steps), epochs=2, save_every=2, seed=3)
    run = launch(recipe, envs.load("chain", hops=2), "tiny", plan, path, keep_every=3)
    module.spawn = first  # type: ignore[attr-defined]
    return go_on(run, None, plant) if path.name == "whole" else run


def go_on(run: Run, point: Any, plant: str) -> Run:
    """Start a worker, of which some point may be the end."""
    from workbench.train.launch import spawn

    if run.alive or run.status.state == "finished":
        return run
    at = ["--point", point[0], "--count", str(point[1])] if point else []
    return spawn(run, (__file__, "worker", "--plant", plant, *at))


def kill(run: Run, point: Any, rng: random.Random, plant: str) -> str:
    """Let a worker begin and end by SIGKILL; say where."""
    before = run.status.step
    go_on(run, point, plant)
    if point is None:
        while run.alive and run.status.state == "starting":
            time.sleep(0.01)
        time.sleep(rng.random() * 1.5)
        run.kill()
    else:
        run.wait(WAIT_S)
    where = point[2] if point else "at a random moment"
    return f"steps {before} to {run.status.step}: {where}; {run.status.state}"


def ledger_of(run: Run) -> Path:
    """Where a run's processes note what they had put on the disk."""
    return run.path.with_suffix(".ledger")


def safe_step(run: Run) -> int:
    """Return the newest checkpoint behind which the run went on: it was told to be on the disk."""
    made = [int(path.name.removeprefix("step-")) for path in run.checkpoints]
    return max((step for step in made if any(row["step"] >= step for row in run.metrics())), default=0)


def cut(run: Run) -> str:
    """Cut the power of a run that was killed; say what was lost."""
    lost = cut_power(run.path, ledger_of(run))
    return f"; power cut, {len(lost)} lost" + (f" ({', '.join(lost[:3])})" if lost else "")


def damaged(run: Run) -> bool:
    """Is the newest checkpoint not what its state says?"""
    for last in run.checkpoints[-1:]:
        text = (last / "state.json").read_text()
        said = json.loads(text)["sha256"] if text else {}
        return not said or any(sha(last / name) != expected for name, expected in said.items())
    return False


def contents(run: Run) -> dict[str, Any]:
    """Everything two equal runs have in common, as hashes."""
    last = run.checkpoints[-1]
    state = json.loads((last / "state.json").read_text())
    rows = [
        {k: v for k, v in row.items() if not k.startswith(("seconds", "tokens_per_second"))} for row in run.metrics()
    ]
    kept = [(p.name, (p / "trajectories-00000.jsonl").read_bytes()) for p in run.trajectories]
    return {
        "weights": sha(last / "weights.safetensors"),
        "optimiser": sha(last / "optimiser.safetensors"),
        "state": json.dumps({k: v for k, v in state.items() if k != "sha256"}),
        "metrics": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
        "trajectories": hashlib.sha256(repr(kept).encode()).hexdigest(),
        "exported weights": sha(run.path / "weights" / "model.safetensors"),
    }


def sha(path: Path) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def compare(one: dict[str, Any], other: dict[str, Any]) -> int:
    """Print what is equal; return 1 if anything is not."""
    for name in one:
        same = "equal" if one[name] == other[name] else "DIFFERENT"
        print(f"{name:18} {same:10} {one[name][:16]}  {other[name][:16]}")
    return int(one != other)


# ------------------------------------------------------------------------------------------------ in the worker


def worker() -> int:
    """Be the process of a run, with an end or a fault planted in it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode")
    parser.add_argument("folder")
    parser.add_argument("--lock")
    parser.add_argument("--plant", default="")
    parser.add_argument("--point", default="")
    parser.add_argument("--count", type=int, default=1)
    asked = parser.parse_args()
    from workbench.train import worker as process

    plant(asked.plant)
    keep_ledger(Path(asked.folder), ledger_of(Run(asked.folder)))
    if asked.point:
        end_at(asked.point, asked.count)
    return process.main([asked.folder, "--lock", asked.lock])


def plant(fault: str) -> None:
    """Carry something from step to step that no checkpoint has, or forget a part of one."""
    from workbench.train import checkpoint, policy_gradient

    if fault == "generator":
        carried = random.Random(0)
        policy_gradient.seed_for = lambda *parts: carried.getrandbits(40)  # type: ignore[attr-defined]
    if fault == "fsync":
        checkpoint._write = lambda path, content: path.write_bytes(content) and None
    real = checkpoint._load

    def forgetful(path: Path, state: Any, learner: Any, evidence: Any) -> None:
        real(path, {**state, "version": 0} if fault == "version" else state, learner, evidence)
        if fault == "optimiser":
            learner.optimiser.state.clear()

    checkpoint._load = forgetful


def end_at(point: str, count: int) -> None:
    """Let the process be killed when something is called for the `count`-th time, once it has begun to train."""
    import workbench.train.worker as process

    parts = point.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        if ".".join(parts[:cut]) in sys.modules:
            break
    owner: Any = sys.modules[".".join(parts[:cut])]
    for part in parts[cut:-1]:
        owner = getattr(owner, part)
    real, begun, calls = getattr(owner, parts[-1]), [], []
    restore = process.checkpoint.restore

    def restored(*arguments: Any, **named: Any) -> Any:
        out = restore(*arguments, **named)
        begun.append(True)
        return out

    def killing(*arguments: Any, **named: Any) -> Any:
        calls.extend([True] if begun else [])
        if len(calls) == count:
            os.killpg(os.getpgid(0), signal.SIGKILL)
        return real(*arguments, **named)

    process.checkpoint.restore = restored
    setattr(owner, parts[-1], killing)


if __name__ == "__main__":
    sys.exit(worker() if sys.argv[1:2] == ["worker"] else main())
