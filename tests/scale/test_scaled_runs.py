"""Runs on a real Ray cluster of this machine: the losses of a local run, pausing, stopping, SIGKILL. Minutes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from workbench import envs, policy, recipes
from workbench.glossary import defined
from workbench.glossary.updates import SCALED
from workbench.runs import Run, Scale
from workbench.scale.cluster import HERE
from workbench.train import launch, resume
from workbench.train.plan import Plan
from workbench.train.policy_gradient import train

pytestmark = [pytest.mark.slow, pytest.mark.scale, pytest.mark.timeout(1800)]
pytest.importorskip("ray")

PLAN = Plan(steps=5, groups=2, size=4, rate=1e-3, seed=1, save_every=2, micro_tokens=512)
TWO = Scale(device="cpu", learners=2, rollouts=1, engine="hf")
ONE = replace(TWO, learners=1)
CRITIC = replace(PLAN, steps=4, value_rate=10.0)
WAIT_S = 1500.0
NAMES = ("loss", "outcome", "gradient_norm", "tokens", "entropy", "advantage_scale")
DRIVERS: set[int] = set()
"""Processes that drove the runs of a test, as far as anybody looked."""


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
        DRIVERS.add(run.status.pid or 0)
        assert run.alive, f"{run.status}\n{run.log(60)}"
        assert time.monotonic() < end, run.log(60)
        time.sleep(0.02)


def strike(run: Run, name: str) -> int:
    """Send SIGKILL to one process of a run by what Ray calls it."""
    pid = next(pid for pid, command in below(run.status.pid).items() if f"ray::{name}" in command)
    os.kill(pid, signal.SIGKILL)
    return pid


def opened(pid: int) -> str:
    """Names of all files a process has open; nothing of one that is gone."""
    try:
        return " ".join(os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return ""


def workers() -> dict[int, str]:
    """Ray's processes of this test's runs, those of other runs on this machine left out: each has its log open."""
    marks = [f"/{HERE}{driver}-" for driver in DRIVERS]
    found = {pid: command for pid, (_, command) in processes().items() if command.startswith("ray::")}
    return {pid: command for pid, command in found.items() if any(mark in opened(pid) for mark in marks)}


def crew() -> list[tuple[str, int]]:
    """Learners and players of this test's runs, by name and process."""
    names = ("Player", "RayTrainWorker")
    return sorted((name, pid) for pid, c in workers().items() for name in names if c.startswith(f"ray::{name}"))


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path):
    """End what a failed test left running; afterwards no process of its runs is there."""
    DRIVERS.clear()
    yield
    for folder in tmp_path.glob("*/launch.json"):
        DRIVERS.add(Run(folder.parent).status.pid or 0)
        Run(folder.parent).kill()
    end = time.monotonic() + 60
    while left := workers():
        assert time.monotonic() < end, left
        time.sleep(0.2)


def trained(recipe, plan, folder):
    """The metrics of a training in this process, its weights and those of its value head."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    player = policy.load("tiny")
    _, metrics = train(player, envs.load("chain"), recipe, plan, folder, progress=lambda *_: None)
    torch.set_num_threads(threads)
    head = folder / "value_head.safetensors"
    weights = {name: w.clone() for name, w in player.engine.model.state_dict().items()}
    return metrics, weights, load_file(head) if head.exists() else {}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A local training by GRPO."""
    return trained(recipes.grpo(), PLAN, tmp_path_factory.mktemp("alone"))


def check_equal(run: Run, alone, names=NAMES) -> None:
    """A run has the losses, outcomes and weights of a local training, up to rounding, and each step once."""
    metrics, weights, head = alone
    rows = run.metrics()
    assert [row["step"] for row in rows] == list(range(len(metrics)))
    for here, there in zip(metrics, rows, strict=True):
        for name in names:
            assert there[name] == pytest.approx(here[name], abs=1e-4, rel=1e-4), (here["step"], name)
        assert there["ratio_gap"] < 1e-3
    exported = load_file(run.weights / "model.safetensors")
    assert all(torch.allclose(weights[name], w, atol=1e-4) for name, w in exported.items())
    beside = run.path / "value_head.safetensors"
    assert beside.exists() == bool(head)
    found = load_file(beside) if head else {}
    assert found.keys() == head.keys() and all(torch.allclose(head[name], w, atol=1e-4) for name, w in found.items())


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


def test_a_value_head_learns_as_in_one_process_and_goes_on_with_other_learners(tmp_path):
    """Told to end by SIGTERM after some steps of two learners, resumed with one: head, moments and values are there."""
    alone = trained(recipes.ppo(), CRITIC, tmp_path / "alone")
    run = launch(recipes.ppo(), envs.load("chain"), "tiny", CRITIC, tmp_path / "critic", scale=TWO, keep_every=1)
    until(run, lambda: run.status.step >= 1)
    os.kill(run.status.pid, signal.SIGTERM)
    status = run.wait(WAIT_S)
    assert status.state == "stopped" and run.good_step == status.step, f"{status}\n{run.log(60)}"
    early = load_file(run.path / "value_head.safetensors")["linear.weight"]
    resume(run.path, scale=ONE)
    status = run.wait(WAIT_S)
    assert status.state == "finished", f"{status}\n{run.log(60)}"
    check_equal(run, alone, (*NAMES, "loss_value", "loss_policy", "gradient_norm_value"))
    late = load_file(run.path / "value_head.safetensors")["linear.weight"]
    assert early.any() and not torch.equal(early, late)
    values = [run.rollouts(step).columns["value"].values for step in range(CRITIC.steps)]
    assert not values[0].any() and all(one.abs().max() > 1e-3 for one in values[1:])


def test_a_run_is_paused_goes_on_is_stopped_and_resumed_without_losing_a_step(tmp_path, alone):
    run = launch(recipes.grpo(), envs.load("chain"), "tiny", PLAN, tmp_path / "paused", scale=ONE, keep_every=0)
    until(run, lambda: run.status.step >= 1)
    run.pause()
    until(run, lambda: run.status.state == "paused")
    paused, driver, there = run.status.step, run.status.pid, crew()
    assert run.good_step == paused < PLAN.steps
    assert [name for name, _ in there] == ["Player", "Player", "RayTrainWorker"]  # one of them holds the reference
    time.sleep(3)  # more than a step takes
    assert (run.status.state, run.status.step) == ("paused", paused) and len(run.metrics()) == paused
    assert run.status.pid == driver and crew() == there

    run.resume()
    until(run, lambda: run.status.state == "running")
    run.stop()
    status = run.wait(WAIT_S)
    assert status.state == "stopped" and paused <= status.step < PLAN.steps, f"{status}\n{run.log(60)}"
    assert [row["step"] for row in run.metrics()] == list(range(status.step)) and run.good_step == status.step
    assert policy.load(run.weights).engine.model is not None

    resume(run.path)
    status = run.wait(WAIT_S)
    assert status.state == "finished" and status.pid != driver, f"{status}\n{run.log(60)}"
    check_equal(run, alone)
