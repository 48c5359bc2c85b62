"""The process of a run: `python -m workbench.train.worker DIR`, started by `workbench.train.launch`.

Between steps it looks at `control.json` and says how it is in `status.json`. A step is a function of weights, optimiser
and step number, so a run that was killed at any instant goes on from its last checkpoint to the same bits: what was
written after that checkpoint is cut, and the half-done step is made again.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import platform
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from workbench import store
from workbench.runs import Run, lock, read_lines, read_text, sign, sync_path, write_bytes, write_json
from workbench.seeds import seed_for
from workbench.train import checkpoint
from workbench.train.collector import older_objects_left_alone
from workbench.train.keep import to_keep
from workbench.train.plan import Learner, Plan, start
from workbench.train.policy_gradient import Done, one_step
from workbench.train.shipping import unpack

POLL_S = 0.1  # how often a paused run looks whether it may go on
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class Job(NamedTuple):
    """What a run is made of, made again from its folder."""

    path: Path
    config: dict[str, Any]
    recipe: Any
    env: Any
    policy: Any
    plan: Plan
    evidence: tuple[Any, ...]


class Crew:
    """Who makes the steps of a run: here this process does all of it (`workbench.scale.crew` shares it out)."""

    def __init__(self, job: Job):
        self.job = job
        self.learner = start(job.policy, job.recipe, job.plan, job.evidence)

    def restore(self) -> tuple[int, tuple[str, ...]]:
        """Put the last good checkpoint back; return (steps done, what its user should know)."""
        notes = compare_start(self.job, self.learner)
        step, passed_over = checkpoint.restore(self.job.path / "checkpoints", self.learner, self.job.evidence)
        return step, (*notes, *passed_over)

    def step(self, step: int) -> Done:
        """Make a step."""
        return step_of(self.job, self.learner, step)

    def save(self, step: int) -> None:
        """Write a checkpoint after `step` steps."""
        checkpoint.save(self.job.path / "checkpoints", self.learner, step, self.job.evidence)

    def export(self) -> None:
        """Write the weights for `policy.load`; the last thing that is asked."""
        export(self.job.path / "weights", self.learner)
        checkpoint.save_head(self.job.path / "value_head.safetensors", self.learner)

    def close(self, error: BaseException | None = None) -> None:
        """End what was started beside this process; `error` is what ended the work, if anything did."""


def main(
    arguments: Sequence[str] | None = None,
    crew: Callable[[Job], Crew] = Crew,
    name: str = "workbench.train.worker",
) -> int:
    """Work on a run until it is done, is asked to stop, or fails."""
    parser = argparse.ArgumentParser(f"python -m {name}", description=main.__doc__)
    parser.add_argument("folder")
    parser.add_argument("--lock", type=int, help="handle of the locked file, from the process that started this one")
    asked = parser.parse_args(arguments)
    path = Path(asked.folder)
    handle = lock(path / "lock") if asked.lock is None else asked.lock
    if handle is None:
        parser.error(f"{path}: another process works on this run")
    sign(handle, os.getpid())
    os.set_inheritable(handle, False)  # what this process starts must not keep the run alive
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: signals.append(number))
    return work(path, lambda: bool(signals), crew)


def work(path: Path, told_to_end: Callable[[], bool] = lambda: False, crew: Callable[[Job], Crew] = Crew) -> int:
    """Work on the run in a folder whose lock is held; return the exit status."""
    steps = Run(path).config["steps"]
    said = {"step": 0, "notes": []}

    def say(state: str, step: int | None = None, reason: str = "", notes: Sequence[str] = ()) -> None:
        said["step"] = said["step"] if step is None else step
        said["notes"] += [note for note in notes if note not in said["notes"]]
        write_json(path / "status.json", {"state": state, "reason": reason, "steps": steps, "pid": os.getpid(), **said})

    try:
        say("starting", len(Run(path).metrics()))
        at_work = crew(prepare(path))
        try:
            with older_objects_left_alone():
                last = _work(at_work, say, told_to_end)
        except BaseException as error:
            at_work.close(error)
            raise
        at_work.close()
        say(*last)
        return 0
    except BaseException as error:
        traceback.print_exc()
        try:
            say("failed", reason=reason_of(error))
        except OSError:
            traceback.print_exc()  # the disk is that full; a dead process that "runs" counts as failed all the same
        return 1


def prepare(path: Path) -> Job:
    """Make the values of a run again; this is where its code is loaded."""
    config = Run(path).config
    torch.set_num_threads(config["threads"])
    names = ("recipe", "env", "policy", "plan", "evidence")
    recipe, env, policy, plan, evidence = (unpack(config[name], path / "code") for name in names)
    return Job(path, config, recipe, env, policy, plan, tuple(evidence))


def _work(crew: Crew, say: Callable[..., None], told_to_end: Callable[[], bool]) -> tuple[str, int]:
    job = crew.job
    step, notes = crew.restore()
    cut(job.path, step)
    saved = step
    say("running", step, notes=notes)
    while True:
        ask = "stop" if told_to_end() else _asked(job.path)
        if saved < step and (ask != "run" or step == job.plan.steps or step % job.config["save_every"] == 0):
            sync(job.path, saved)
            crew.save(step)
            saved = step
        if ask == "stop" or step == job.plan.steps:
            break
        if ask == "pause":
            say("paused", step)
            while _asked(job.path) == "pause" and not told_to_end():
                time.sleep(POLL_S)
            say("running", step)
            continue
        write(job, step, crew.step(step))
        step += 1
        say("running", step)
    crew.export()
    return "finished" if step == job.plan.steps else "stopped", step


def step_of(job: Job, learner: Learner, step: int) -> Done:
    """Make one step from nothing but weights, optimiser and the step's number."""
    seed = seed_for("process", job.plan.seed, step)
    random.seed(seed)  # ours never asks these generators; what a notebook cell defines may
    torch.manual_seed(seed)
    return one_step(learner, job.env, job.recipe, job.plan, step, job.evidence)


# -------------------------------------------------------------------------------------------------- the folder


def write(job: Job, step: int, done: Done) -> None:
    """Append a step's metrics, and keep its rollouts if it is their turn."""
    every = job.config["keep_every"]
    if every and (step % every == 0 or step + 1 == job.plan.steps):
        rollouts = to_keep(done.played, done.used, done.credits, job.recipe.name)
        store.write(job.path / "trajectories" / f"step-{step:08d}", rollouts, overwrite=True)
    for text in done.metrics["alarms"].values():
        print(f"step {step}: {text}", flush=True)
    with (job.path / "metrics.jsonl").open("ab") as file:
        file.write((json.dumps(done.metrics) + "\n").encode())


def cut(path: Path, step: int) -> None:
    """Forget what was written of `step` and later ones: it is made again."""
    rows, taken = read_lines(path / "metrics.jsonl")
    there = path / "metrics.jsonl"
    kept = [row for row in rows if row["step"] < step]
    if len(kept) < step:
        raise ValueError(f"{there} has {len(kept)} of the {step} steps before the checkpoint; it was damaged")
    if there.exists() and (len(kept) < len(rows) or taken < there.stat().st_size):
        write_bytes(there, "".join(json.dumps(row) + "\n" for row in kept).encode())
    for folder in (path / "trajectories").glob("step-*"):
        number = folder.name.removeprefix("step-")
        if not number.isdigit() or int(number) >= step:
            shutil.rmtree(folder)


def _asked(path: Path) -> str:
    try:
        return json.loads(read_text(path / "control.json"))["ask"]
    except FileNotFoundError:
        return "run"


def sync(path: Path, since: int) -> None:
    """Have metrics, and rollouts kept from step `since` on, on the disk before a checkpoint says they are there."""
    kept = [p for p in Run(path).trajectories if int(p.name.removeprefix("step-")) >= since]
    inside = [one for folder in kept for one in (folder, *folder.rglob("*"))]
    for one in (path / "metrics.jsonl", path, *filter(None, [path / "trajectories" if kept else None]), *inside):
        sync_path(one)


def compare_start(job: Job, learner: Learner) -> tuple[str, ...]:
    """Write down what the run began with; later, refuse other weights and note what may change the last bits."""
    file, engine = job.path / "start.json", learner.policy.engine
    now = {
        "weights": checkpoint.fingerprint(learner),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {getattr(engine, 'model', learner.model).device}",
    }
    if not file.exists():
        write_json(file, now)
        return ()
    then = json.loads(file.read_text("utf-8"))
    if then["weights"] != now["weights"]:
        raise ValueError(
            "the policy has other weights than when this run began (was its folder changed?); put them back, or "
            "launch a new run"
        )
    other = [f"{name} {then[name]} -> {now[name]}" for name in now if then[name] != now[name]]
    return (f"resumed with {', '.join(other)}: the last bits may differ from an uninterrupted run",) if other else ()


def export(path: Path, learner: Learner) -> None:
    """Write whole weights and the tokenizer so that `policy.load(path)` takes them; adapters stand beside, alone too.

    The last thing a process does with its model: adapters end up merged into it.
    """
    model, tokenizer = learner.model, getattr(getattr(learner.policy.renderer, "codec", None), "tokenizer", None)
    if hasattr(model, "merge_and_unload"):
        _put(path.with_name("adapters"), model)
        model = model.merge_and_unload()
    _put(path, *filter(None, [model, tokenizer]))


def _put(path: Path, *things: Any) -> None:
    """Save what has `save_pretrained` into a folder, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for one in things:
        one.save_pretrained(str(part))
    shutil.rmtree(path, ignore_errors=True)
    part.replace(path)


# ---------------------------------------------------------------------------------------------- what went wrong


def reason_of(error: BaseException) -> str:
    """Say in a line or two why a run ended, and what to do."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, FloatingPointError):
        return (
            f"a number is not finite: {text}. The last checkpoint is good, but going on as before would meet the same "
            "number again: resume with a lower rate, `workbench.train.resume(path, rate=...)`, or launch with another "
            "`clip` or recipe"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: {text}. The last checkpoint is good; free space, then resume"
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in NO_MEMORY):
        less = "lower `micro_tokens`, then `groups` or `size`, or train adapters (`lora`)"
        return f"memory ran out: {text[:300]}. The last checkpoint is good; launch with less: {less}"
    return f"{type(error).__name__}: {text}. Where: `log.txt`; the last checkpoint stays"


if __name__ == "__main__":
    sys.exit(main())
