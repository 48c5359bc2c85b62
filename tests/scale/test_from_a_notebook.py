"""From a cell, through Ray and vLLM: SmolLM2 with adapters, a kernel that restarts, a kill, a resume. Minutes."""

from __future__ import annotations

import time

import pytest

from workbench.runs import Run

pytestmark = [pytest.mark.slow, pytest.mark.scale, pytest.mark.timeout(1800)]
pytest.importorskip("ray")
pytest.importorskip("vllm")

WAIT_S = 1500.0

CELL = """
from workbench import envs, recipes
from workbench.runs import Scale
from workbench.train import launch
from workbench.train.lora import Lora
from workbench.train.plan import Plan

class Mine(type(envs.load("gazetteer"))):
    "A world that is defined in a notebook cell."

env = envs.load("gazetteer")
env.__class__ = Mine
plan = Plan(steps=3, groups=2, size=2, rate=1e-3, lora=Lora(rank=4), max_new_tokens=16, micro_tokens=1024, seed=3,
            temperature=0.7, save_every=1)
scale = Scale(device="cpu", learners=2, rollouts=1, engine="vllm")
run = launch(recipes.rloo(), env, "smollm2", plan, {path!r}, scale=scale, keep_every=1)
"""
AGAIN = """
from workbench.runs import Run
run = Run({path!r})
assert run.alive, run.status
print(run)
"""
RESUME = """
from workbench.train import resume
run.kill()
assert run.status.state == "failed"
resume(run.path)
"""


class Kernel:
    """A Jupyter kernel that cells are sent to."""

    def __init__(self, folder):
        from jupyter_client.manager import start_new_kernel

        self.manager, self.client = start_new_kernel(startup_timeout=120, cwd=str(folder))

    def run(self, source: str) -> None:
        """Run a cell; an error of the cell is one of the test."""
        reply = self.client.execute_interactive(source, timeout=300, output_hook=lambda message: None)
        content = reply["content"]
        assert content["status"] == "ok", "\n".join(content.get("traceback", []))

    def restart(self) -> None:
        """Kill the kernel and start another one."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=True)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=120)

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def until(run: Run, step: int) -> None:
    """Wait until some steps are done."""
    end = time.monotonic() + WAIT_S
    while run.status.step < step:
        assert run.alive, f"{run.status}\n{run.log(60)}"
        assert time.monotonic() < end, run.log(60)
        time.sleep(0.05)


def test_smollm2_learns_through_vllm_and_outlives_kernel_and_kill(tmp_path):
    kernel = Kernel(tmp_path)
    try:
        kernel.run(CELL.format(path=str(tmp_path / "run")))
        run = Run(tmp_path / "run")
        kernel.restart()
        kernel.run(AGAIN.format(path=str(run.path)))
        until(run, 1)
        kernel.run(RESUME)
    finally:
        kernel.close()
    try:
        status = run.wait(WAIT_S)
    finally:
        run.kill()
    assert status.state == "finished", f"{status}\n{run.log(80)}"
    rows = run.metrics()
    assert [row["step"] for row in rows] == [0, 1, 2]
    for row in rows:
        assert row["ratio_gap"] is None or row["ratio_gap"] < 5e-3, row
        assert row["seconds_sync"] > 0
    assert any(row["updates"] for row in rows)
    versions = [{v for t in run.rollouts(step) for turn in t.turns for v in turn.policy_version} for step in range(3)]
    assert [len(each) for each in versions] == [1, 1, 1] and len(set.union(*versions)) == 3
    assert (run.path / "code").is_dir() and (run.path / "adapters" / "adapter_config.json").is_file()
