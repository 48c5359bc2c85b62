"""Runs on a real Ray cluster of this machine: the losses of a local run, and what is left after SIGKILL. Minutes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from workbench import envs, policy, recipes
from workbench.glossary import defined
from workbench.glossary.updates import SCALED
from workbench.runs import Run, Scale
from workbench.train import launch, resume
from workbench.train.plan import Plan
from workbench.train.policy_gradient import train

pytestmark = [pytest.mark.slow, pytest.mark.scale, pytest.mark.timeout(1800)]
pytest.importorskip("ray")

PLAN = Plan(steps=5, groups=2, size=4, rate=1e-3, seed=1, save_every=2, micro_tokens=512)
TWO = Scale(device="cpu", learners=2, rollouts=1, engine="hf")
WAIT_S = 1500.0


def processes() -> dict[int, tuple[int, str]]:
    """Parent and command of every process of this machine."""
    lines = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in lines.splitlines()[1:]]
    return {int(row[0]): (int(row[1]), row[2] if len(row) > 2 else "") for row in rows}


def below(pid: int) -> dict[int, str]:
    """Commands of all processes that descend from one."""
    every, found, new = processes(), {}, [pid]
    while new:
        new = [child for child, (parent, _) in every.items() if parent in new and child not in found]
        found |= {child: every[child][1] for child in new}
    return found


def until(run: Run, holds) -> None:
    """Wait for something about a run that is at work."""
    end = time.monotonic() + WAIT_S
    while not holds():
        assert run.alive, f"{run.status}\n{run.log(60)}"
        assert time.monotonic() < end, run.log(60)
        time.sleep(0.02)


def strike(run: Run, name: str) -> int:
    """Send SIGKILL to one process of a run by what Ray calls it."""
    pid = next(pid for pid, command in below(run.status.pid).items() if f"ray::{name}" in command)
    os.kill(pid, signal.SIGKILL)
    return pid


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path):
    """End what a failed test left running; afterwards no process of any run is there."""
    before = {pid for pid, (_, command) in processes().items() if "ray" in command}
    yield
    for folder in tmp_path.glob("*/launch.json"):
        Run(folder.parent).kill()
    end = time.monotonic() + 60
    while left := {pid: c for pid, (_, c) in processes().items() if c.startswith("ray::") and pid not in before}:
        assert time.monotonic() < end, left
        time.sleep(0.2)


@pytest.fixture(scope="module")
def alone():
    """The metrics and weights of a training in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    player = policy.load("tiny")
    _, metrics = train(player, envs.load("chain"), recipes.grpo(), PLAN, progress=lambda *_: None)
    torch.set_num_threads(threads)
    return metrics, {name: w.clone() for name, w in player.engine.model.state_dict().items()}


def check_equal(run: Run, alone) -> None:
    """A run has the losses, the rollouts' outcomes and the weights of a local training, up to rounding."""
    metrics, weights = alone
    rows = run.metrics()
    assert [row["step"] for row in rows] == list(range(PLAN.steps))
    for here, there in zip(metrics, rows, strict=True):
        for name in ("loss", "outcome", "gradient_norm", "tokens", "entropy", "advantage_scale"):
            assert there[name] == pytest.approx(here[name], abs=1e-4, rel=1e-4), (here["step"], name)
        assert there["ratio_gap"] < 1e-3
    exported = load_file(run.weights / "model.safetensors")
    assert all(torch.allclose(weights[name], w, atol=1e-4) for name, w in exported.items())


def test_two_learners_make_the_losses_of_a_local_run(tmp_path, alone):
    run = launch(recipes.grpo(), envs.load("chain"), "tiny", PLAN, tmp_path / "two", scale=TWO, keep_every=1)
    status = run.wait(WAIT_S)
    assert status.state == "finished", f"{status}\n{run.log(60)}"
    check_equal(run, alone)
    versions = [{v for t in run.rollouts(step) for turn in t.turns for v in turn.policy_version} for step in range(5)]
    assert versions == [{0}, {1}, {2}, {3}, {4}]
    undefined, _ = defined(run.metrics()[-1])
    assert undefined == [] and set(SCALED) <= set(run.metrics()[-1])
    assert policy.load(run.weights).engine.model is not None
    assert not list((run.path / "pending").glob("*"))


def test_a_dead_player_a_dead_learner_and_a_dead_driver_change_no_loss(tmp_path, alone):
    """SIGKILL to the real processes, one after the other; then the run goes on with three learners."""
    plan = replace(PLAN, save_every=4)
    run = launch(recipes.grpo(), envs.load("chain"), "tiny", plan, tmp_path / "struck", scale=TWO, keep_every=1)
    until(run, lambda: run.status.step >= 1)
    strike(run, "Player")
    until(run, lambda: run.status.step >= 2)
    strike(run, "RayTrainWorker")
    until(run, lambda: run.status.step >= 3)
    assert not run.checkpoints
    played = sorted(one.name for one in (run.path / "pending").glob("step-*"))
    assert [f"step-{step:08d}-0" for step in range(3)] == played[:3]
    first = (run.path / "pending" / played[0] / "trajectories-00000.jsonl").read_bytes()
    run.kill()
    assert run.status.state == "failed"
    resume(run.path, scale=replace(TWO, learners=3))
    until(run, lambda: run.status.step >= 3 or (run.path / "weights").exists())
    status = run.wait(WAIT_S)
    assert status.state == "finished", f"{status}\n{run.log(60)}"
    log = run.log(400)
    assert "player 0 died" in log and "a learner died" in log and "learned" in log
    assert first
    check_equal(run, alone)
    assert run.config["changes"][-1]["scale"]["now"]["parameters"]["learners"] == 3
