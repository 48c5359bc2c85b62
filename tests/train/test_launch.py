"""Runs in processes of their own: shipping, kill and resume to the same bits, stop and pause, what goes wrong."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_worlds import Bandit, gambler

from workbench import envs, policy, recipes, runs, store
from workbench.credit import linear
from workbench.evidence import Values
from workbench.runs import Run, Scale, lock
from workbench.train import checkpoint, launch, resume, worker
from workbench.train.launch import spawn
from workbench.train.lora import Lora
from workbench.train.plan import Plan, start

PLAN = Plan(steps=6, groups=2, size=4, rate=1e-2, max_new_tokens=1, seed=1, save_every=2)
WAIT_S = 120.0


def made(monkeypatch, path, recipe=None, env=None, player=None, plan=PLAN, **more) -> Run:
    """A run whose worker was not started: `worker.work` can be called on it in this process."""
    monkeypatch.setattr(sys.modules["workbench.train.launch"], "spawn", lambda run: run)
    player = player or gambler()
    return launch(recipe or recipes.grpo(), env or Bandit(pulls=2), player, plan, path, keep_every=2, **more)


@pytest.fixture(autouse=True)
def nobody_trains_on(tmp_path):
    """End what a test that failed left running."""
    yield
    for run in runs.list(tmp_path):
        run.kill()


def contents(run: Run) -> dict[str, object]:
    """Everything a resumed run must have in common with an uninterrupted one."""
    last = run.checkpoints[-1]
    rows = [
        {k: v for k, v in row.items() if not k.startswith(("seconds", "tokens_per_second"))} for row in run.metrics()
    ]
    lines = [(p.name, (p / "trajectories-00000.jsonl").read_bytes()) for p in run.trajectories]
    state = json.loads((last / "state.json").read_text())
    return {
        "metrics": rows,
        "weights": hashlib.sha256((last / "weights.safetensors").read_bytes()).hexdigest(),
        "optimiser": hashlib.sha256((last / "optimiser.safetensors").read_bytes()).hexdigest(),
        "state": (last.name, state["step"], state["version"], state["evidence"]),
        "trajectories": lines,
    }


def until(run: Run, step: int) -> None:
    end = time.monotonic() + WAIT_S
    while run.status.step < step and run.alive:
        assert time.monotonic() < end, run.log()
        time.sleep(0.005)


# ------------------------------------------------------------------------------------------------- processes


def test_a_killed_run_resumes_to_the_bits_of_an_uninterrupted_one(tmp_path):
    """SIGKILL at a random moment of a real process; two launches are equal, too."""
    rng = random.Random()
    plan = dataclasses.replace(PLAN, steps=40, save_every=3)
    whole, broken = (
        launch(recipes.grpo(), Bandit(pulls=2), gambler(), plan, tmp_path / name, keep_every=5) for name in "ab"
    )
    step = rng.randrange(1, 36)
    until(broken, step)
    time.sleep(rng.random() * 0.03)
    broken.kill()
    status = broken.status
    assert status.state == "failed" and "workbench resume" in status.reason and status.step >= step
    resume(broken.path)
    assert whole.wait(WAIT_S).state == "finished", whole.log()
    assert broken.wait(WAIT_S).state == "finished", broken.log()
    assert contents(whole) == contents(broken), f"killed after step {step}"
    assert len(whole.metrics()) == 40 and len({p.name for p in whole.trajectories}) == 9
    assert [name for name in os.listdir(broken.path) if name.endswith(".part")] == []


def test_pause_resume_and_stop(tmp_path):
    plan = dataclasses.replace(PLAN, steps=100_000, save_every=1000)
    run = launch(recipes.reinforce(), Bandit(), gambler(), plan, tmp_path / "run", keep_every=0)
    until(run, 3)
    pid = run.status.pid
    assert os.getsid(pid) == pid != os.getsid(0)  # whatever ends our process group leaves it alone
    run.pause()
    end = time.monotonic() + WAIT_S
    while run.status.state != "paused":
        assert time.monotonic() < end and run.alive, run.log()
        time.sleep(0.01)
    step = run.status.step
    time.sleep(0.3)
    assert run.status.step == step == len(run.metrics()) and run.checkpoints[-1].name == f"step-{step:08d}"
    resume(run.path)  # of a paused run: no second process
    until(run, step + 2)
    with pytest.raises(RuntimeError, match="another process works"):
        spawn(run)
    run.stop()
    status = run.wait(WAIT_S)
    assert (status.state, status.step) == ("stopped", len(run.metrics())) and status.step > step
    assert run.checkpoints[-1].name == f"step-{status.step:08d}" and run.weights is not None
    with pytest.raises(RuntimeError, match="no process works on this run, it is stopped"):
        run.pause()


def test_a_run_can_be_killed_before_it_has_said_anything(tmp_path):
    run = launch(recipes.reinforce(), Bandit(), gambler(), PLAN, tmp_path / "run")
    assert run.alive and run.status.state == "starting"
    run.kill()
    assert not run.alive and run.status.state == "failed" and "goes on from step 0" in run.status.reason


# --------------------------------------------------------------------------------------- the worker, in this process


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """An uninterrupted run of six steps."""
    run = made(monkeypatch, tmp_path / "whole")
    assert worker.work(run.path) == 0
    assert run.status.state == "finished"
    return run


class Killed(BaseException):
    """Stands for a signal that nothing can catch."""


POINTS = {
    "in a file of the checkpoint": ("workbench.train.checkpoint._write", 5),
    "before the rename": ("workbench.train.checkpoint.sync_path", 3),
    "after the rename": ("workbench.train.checkpoint.sync_path", 4),
    "in the metrics": ("workbench.train.worker.write", 4),
    "in rollout": ("workbench.train.rounds.play", 4),
    "in evidence": ("workbench.train.policy_gradient.with_evidence", 5),
}


@pytest.mark.parametrize("point", POINTS)
def test_an_end_at_any_point_changes_nothing(point, whole, tmp_path, monkeypatch):
    run = made(monkeypatch, tmp_path / "broken")
    name, at = POINTS[point]
    module, function = name.rsplit(".", 1)
    real, calls = getattr(sys.modules[module], function), []

    def killing(*arguments, **named):
        calls.append(1)
        if len(calls) == at:
            if point == "in the metrics":
                with (run.path / "metrics.jsonl").open("a") as file:
                    file.write('{"step": 3, "outc')
            if point == "after the rename":
                real(*arguments)
            raise Killed
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(name, killing)
        assert worker.work(run.path) == 1
    assert len(calls) == at
    assert worker.work(run.path) == 0
    assert contents(run) == contents(whole)


@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
def test_a_checkpoint_holds_all_that_a_step_depends_on(lora, tmp_path, monkeypatch):
    """Also with several epochs, a reference and a schedule; a missing part would show in the next step."""
    plan = dataclasses.replace(PLAN, lora=lora, epochs=2, rate=linear(1e-2, 1e-3, 5))
    one = made(monkeypatch, tmp_path / "one", plan=plan)
    worker.work(one.path)
    two = made(monkeypatch, tmp_path / "two", plan=plan)
    for steps in (3, 6):
        count = iter(range(steps if steps == 3 else 100))
        stopping = lambda count=count: next(count, None) is None  # noqa: E731
        assert worker.work(two.path, stopping) == 0
    assert contents(one) == contents(two)


@pytest.mark.parametrize("lost", ["optimiser", "version", "weights"])
def test_what_a_checkpoint_forgets_shows(lost, whole, tmp_path, monkeypatch):
    """The comparison can fail: without one part of the state a resumed run is another run."""
    run = made(monkeypatch, tmp_path / "broken")
    count = iter(range(3))
    worker.work(run.path, lambda: next(count, None) is None)
    real = checkpoint._load

    def forgetful(path, state, learner, evidence):
        if lost == "weights":
            before = {k: t.clone() for k, t in checkpoint.tensors_of(learner).items()}
        real(path, {**state, "version": 0} if lost == "version" else state, learner, evidence)
        if lost == "optimiser":
            learner.optimiser.state.clear()
        if lost == "weights":
            for name, tensor in checkpoint.tensors_of(learner).items():
                tensor.copy_(before[name])

    monkeypatch.setattr(checkpoint, "_load", forgetful)
    assert worker.work(run.path) == 0
    assert contents(run) != contents(whole)


def test_a_damaged_checkpoint_is_passed_over_and_said(whole, tmp_path, monkeypatch):
    run = made(monkeypatch, tmp_path / "broken")
    count = iter(range(4))
    worker.work(run.path, lambda: next(count, None) is None)
    last = run.checkpoints[-1]
    content = bytearray((last / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (last / "weights.safetensors").write_bytes(content)
    assert worker.work(run.path) == 0
    assert contents(run) == contents(whole)
    assert "weights.safetensors has another content" in run.status.notes[0]


def test_no_good_checkpoint_left_says_what_to_do(whole):
    for path in whole.checkpoints:
        (path / "state.json").write_text("{")
    assert worker.work(whole.path) == 1
    assert "delete `checkpoints` to begin anew" in whole.status.reason


def failing(error):
    def step(*arguments):
        raise error

    return step


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full.*free space, then resume"),
        (MemoryError(), "memory ran out.*micro_tokens"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "memory ran out"),
        (FloatingPointError("step 3: loss is nan"), "not finite.*lower rate"),
        (KeyError("colour"), "KeyError.*log.txt"),
    ],
)
def test_a_run_that_fails_says_why_and_keeps_its_checkpoint(error, words, tmp_path, monkeypatch):
    run = made(monkeypatch, tmp_path / "run")
    count = iter(range(3))
    worker.work(run.path, lambda: next(count, None) is None)
    before = contents(run)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "one_step", failing(error))
        assert worker.work(run.path) == 1
    status = run.status
    assert status.state == "failed" and status.step == 3
    assert re.search(words, status.reason), status.reason
    assert contents(run) == before
    assert worker.work(run.path) == 0 and run.status.state == "finished"


def test_a_full_disk_in_the_middle_of_a_checkpoint_leaves_the_last_one(tmp_path, monkeypatch):
    run = made(monkeypatch, tmp_path / "run")
    real, calls = checkpoint._write, []

    def full(path, content):
        calls.append(path)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, content)

    monkeypatch.setattr(checkpoint, "_write", full)
    assert worker.work(run.path) == 1
    assert "disk is full" in run.status.reason
    assert [p.name for p in run.checkpoints] == ["step-00000002"]
    assert os.listdir(run.path / "checkpoints") == ["step-00000002"]


def test_another_policy_than_the_one_it_began_with_is_refused(whole, monkeypatch):
    monkeypatch.setattr(checkpoint, "fingerprint", lambda learner: "other")
    assert worker.work(whole.path) == 1
    assert "the policy has other weights than when this run began" in whole.status.reason


def test_what_a_checkpoint_speaks_of_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """A power cut loses what was not synced: files, then the folder they are in, then the name, then its folder."""
    run, done = made(monkeypatch, tmp_path / "run", plan=dataclasses.replace(PLAN, steps=2)), []
    sync, rename = os.fsync, Path.replace

    def synced(handle):
        done.append(os.readlink(f"/proc/self/fd/{handle}"))
        sync(handle)

    def renamed(path, target):
        done.append(("rename", str(target)))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    assert worker.work(run.path) == 0
    folder = run.path / "checkpoints"
    at = done.index(("rename", str(folder / "step-00000002")))
    part = folder / ".step-00000002.part"
    files = [str(part / name) for name in ("weights.safetensors", "optimiser.safetensors", "state.json")]
    assert done[at - 4 : at] == [*files, str(part)] and done[at + 1] == str(folder)
    kept = [str(one) for one in (run.path / "trajectories").rglob("*")]
    assert kept and {str(run.path / "metrics.jsonl"), *kept} <= set(map(str, done[: at - 4]))


def test_only_the_last_checkpoints_stay(whole):
    assert [p.name for p in whole.checkpoints] == ["step-00000004", "step-00000006"]


def test_weights_at_the_end_are_those_of_the_last_checkpoint(whole):
    last = load_file(whole.checkpoints[-1] / "weights.safetensors")
    exported = load_file(whole.weights / "model.safetensors")
    assert all(torch.equal(last[name], tensor) for name, tensor in exported.items())


def test_adapters_at_the_end_are_whole_weights_and_stand_beside_alone(tmp_path, monkeypatch):
    """`policy.load(run.weights)` plays as the learner did at its last checkpoint."""
    player = policy.load("tiny")
    plan = dataclasses.replace(PLAN, steps=2, lora=Lora(rank=2), size=2, max_new_tokens=4)
    run = made(monkeypatch, tmp_path / "run", player=player, env=envs.load("chain"), plan=plan)
    assert worker.work(run.path) == 0, run.status.reason
    loaded = policy.load(run.weights).engine.model.state_dict()
    last = load_file(run.checkpoints[-1] / "weights.safetensors")
    name = next(one for one in last if one.endswith("q_proj.lora_A.default.weight"))
    a, b = last[name], last[name.replace("lora_A", "lora_B")]
    inner = name.removeprefix("base_model.model.").replace("lora_A.default.", "")
    base = player.engine.model.state_dict()[inner]
    assert bool(b.any()) and torch.allclose(loaded[inner], base + 16.0 / 2 * b @ a, atol=1e-6)
    assert not torch.equal(loaded[inner], base)
    assert (run.path / "adapters" / "adapter_config.json").is_file()


def test_a_number_that_is_not_finite_is_met_again_until_the_rate_is_another(tmp_path, monkeypatch):
    """The rate that was asked for stands in `launch.json`, what it was before too, and the run goes on with it."""
    plan = dataclasses.replace(PLAN, rate=1e30, epochs=2, clip=0.0)
    run = made(monkeypatch, tmp_path / "run", plan=plan)
    for _ in range(2):
        assert worker.work(run.path) == 1
        assert re.search(r"not finite.*same number again.*resume\(path, rate=", run.status.reason), run.status.reason
    resume(run.path, rate=1e-2)
    assert worker.work(run.path) == 0 and run.status.state == "finished"
    assert run.config["changes"] == [{"after_step": 0, "rate": {"before": 1e30, "now": 1e-2}}]
    assert {row["rate"] for row in run.metrics()} == {1e-2}


def test_the_rate_of_a_run_at_work_stays(tmp_path, monkeypatch):
    run = made(monkeypatch, tmp_path / "run")
    handle = lock(run.path / "lock")
    before = run.config
    with pytest.raises(RuntimeError, match="stop it, then resume"):
        resume(run.path, rate=1.0)
    os.close(handle)
    for rate in (-1, float("nan"), linear(1e-2, -1.0, 2)):
        with pytest.raises(ValueError, match=r"Plan\.rate: expected 0 or more"):
            resume(run.path, rate=rate)
    assert run.config == before
    resume(run.path, rate=linear(1e-2, 1e-3, 5))
    assert worker.prepare(run.path).plan.rate == linear(1e-2, 1e-3, 5)


def test_the_dtype_of_a_policy_by_name(tmp_path, monkeypatch):
    run = made(monkeypatch, tmp_path / "run", player="tiny", env=envs.load("chain"), dtype="bfloat16")
    model = worker.prepare(run.path).policy.engine.model
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    for given, player, words in (("float99", "tiny", "expected a torch dtype"), ("bfloat16", gambler(), "an object")):
        with pytest.raises(ValueError, match=words):
            made(monkeypatch, tmp_path / "no", player=player, dtype=given)
    assert not (tmp_path / "no").exists()


def test_kept_rollouts_can_be_read_with_their_evidence(whole):
    rollouts = store.read(whole.trajectories[-1])
    assert len(rollouts) == 8 and "logprob_ref" in rollouts.columns
    assert [p.name for p in whole.trajectories] == [f"step-{n:08d}" for n in (0, 2, 4, 5)]


# ----------------------------------------------------------------------------------------------- what is refused


def test_opening_a_run_loads_no_code(tmp_path, monkeypatch):
    """A run folder of somebody else, with a pickle that would act when loaded and a module that is not there."""
    run = made(monkeypatch, tmp_path / "run")
    config = run.config
    (tmp_path / "run" / "code").mkdir(exist_ok=True)
    (tmp_path / "run" / "code" / "evil.pkl").write_bytes(b"cposix\nsystem\n(S'touch " + bytes(tmp_path) + b"/x'\ntR.")
    config["env"] = {"shipped": "evil.pkl", "type": "x", "source": "evil.py"}
    config["recipe"] = {"name": "not.there:recipe", "parameters": {}}
    (run.path / "launch.json").write_text(json.dumps(config))
    look = (
        "import sys; from workbench import runs; r = runs.list(sys.argv[1])[0];"
        "r.config, r.status, r.metrics(), r.checkpoints, r.trajectories, r.log(), repr(r);"
        "assert not {'torch', 'pickle', 'cloudpickle'} & set(sys.modules), 'more than the standard library'"
    )
    subprocess.run([sys.executable, "-c", look, str(tmp_path)], check=True, timeout=WAIT_S)
    assert not (tmp_path / "x").exists()


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="nodes=2"):
        made(monkeypatch, tmp_path / "a", scale=Scale(nodes=2))
    assert not (tmp_path / "a").exists()
    made(monkeypatch, tmp_path / "b")
    with pytest.raises(FileExistsError, match="not empty"):
        made(monkeypatch, tmp_path / "b")
    handle = lock(tmp_path / "b" / "lock")
    assert Run(tmp_path / "b").alive
    assert lock(tmp_path / "b" / "lock", patience_s=0.0) is None
    os.close(handle)
    assert not Run(tmp_path / "b").alive


def test_restoring_into_another_model_is_refused(tmp_path):
    learner = start(gambler(), recipes.reinforce(), PLAN)
    checkpoint.save(tmp_path, learner, 1)
    other = start(gambler(), recipes.reinforce(), dataclasses.replace(PLAN, lora=Lora(2)))
    with pytest.raises(ValueError, match="weights of another model"):
        checkpoint.restore(tmp_path, other)


def test_values_of_the_evidence_come_back(tmp_path):
    class Counts:
        name, provides = "Counts", {}
        seen = 3

        def state(self):
            return {"seen": self.seen}

        def load(self, state):
            self.seen = state["seen"]

    learner = start(gambler(), recipes.reinforce(), PLAN)
    checkpoint.save(tmp_path, learner, 1, [Counts()])
    fresh = Counts()
    fresh.seen = 0
    assert checkpoint.restore(tmp_path, learner, [fresh]) == (1, ())
    assert fresh.seen == 3 and Values.of([1]).known.all()
