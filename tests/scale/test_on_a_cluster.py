"""Runs on a Ray cluster that is there: machines that die, jobs, requests it cannot hold. Minutes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from workbench import envs, policy, recipes
from workbench.runs import Run
from workbench.train.plan import Plan
from workbench.train.policy_gradient import train

SPELLED = shlex.quote(sys.executable) == sys.executable
pytestmark = [
    pytest.mark.slow,
    pytest.mark.scale,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not SPELLED, reason="`ray start` does not work where Python's path has a space in it"),
]
pytest.importorskip("ray")

WAIT_S = 1200.0
START_S = 120.0  # that `ray start` may take; it waits for a head that is gone for much longer
STARTS = 6  # of a machine: Ray gives a helper of its own 15 s to start, which is little on a machine that is busy
COMPARED = 8  # steps: rounding adds up from one to the next
PLAN = {"steps": 16, "groups": 2, "size": 4, "rate": 1e-3, "seed": 1, "save_every": 4, "micro_tokens": 512}
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "of-a-test-" + os.urandom(16).hex(),
    "RAY_health_check_initial_delay_ms": "1000",  # a machine that died is noticed in seconds, not in half a minute
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
}
WITH_JOBS = all(find_spec(name) for name in ("aiohttp_cors", "opencensus", "smart_open", "virtualenv"))
LAUNCH = """
import json, sys
from workbench import envs, recipes
from workbench.runs import Scale
from workbench.train import launch
from workbench.train.plan import Plan
plan, scale = (json.loads(one) for one in sys.argv[2:])
launch(recipes.grpo(kl=0.0), envs.load("chain"), "tiny", Plan(**plan), sys.argv[1], scale=Scale(**scale), keep_every=1)
"""


def port() -> int:
    """Return a port nobody has now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Cluster:
    """Several raylets on this machine, each for a machine of its own.

    Args:
        head_cpus: of the first.
        dashboard: does it serve jobs?
    """

    def __init__(self, head_cpus: int, dashboard: bool = False):
        self.folder, self.started = Path(tempfile.mkdtemp(prefix="wb-", dir="/tmp")), []
        self.env = {**os.environ, **SETTINGS}
        self.port, self.http = port(), port()
        self.address, self.server = f"127.0.0.1:{self.port}", f"http://127.0.0.1:{self.http}"
        more = ["--dashboard-host=127.0.0.1", f"--dashboard-port={self.http}", "--include-dashboard", str(dashboard)]
        self.start(head_cpus, "--head", f"--port={self.port}", f"--ray-client-server-port={port()}", *more)

    def start(self, cpus: int, *arguments: str) -> subprocess.Popen:
        """Start a machine; a further one, without arguments."""
        given = [*(arguments or [f"--address={self.address}"]), f"--temp-dir={self.folder}", f"--num-cpus={cpus}"]
        fixed = ["--num-gpus=0", "--object-store-memory=100000000", "--node-ip-address=127.0.0.1", "--block"]
        ports = ["--min-worker-port=0", "--max-worker-port=0", f"--dashboard-agent-listen-port={port()}"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *given, *fixed, *ports]
        for _ in range(STARTS):
            log = (self.folder.parent / f"{self.folder.name}-{len(self.started)}.log").open("w+b")
            made = subprocess.Popen(command, env=self.env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            self.started.append(made)
            late = time.monotonic() + START_S
            while made.poll() is None and time.monotonic() < late:
                if b"Ray runtime started" in Path(log.name).read_bytes():
                    log.close()
                    return made
                time.sleep(0.1)
            log.close()
            said = Path(log.name).read_text("utf-8", "replace")
            self.end(made)
        raise RuntimeError(said[-2000:])

    def end(self, machine: subprocess.Popen) -> None:
        """Send SIGKILL to all processes of a machine at once, as a power cut would."""
        every = below(machine.pid)
        for pid in [machine.pid, *every]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        machine.wait()

    def close(self) -> None:
        for machine in reversed(self.started):
            if machine.poll() is None:
                self.end(machine)
        for pid, (_, command) in processes().items():  # of a start that failed: their parent is gone
            if str(self.folder) in command:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for left in self.folder.parent.glob(f"{self.folder.name}*"):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()


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


def hosts(machine: subprocess.Popen, name: str) -> bool:
    """Does a process run on a machine, by what Ray calls it?"""
    return any(f"ray::{name}" in command for command in below(machine.pid).values())


def cell(cluster: Cluster, folder: Path, plan: dict | None = None, **scale) -> subprocess.CompletedProcess:
    """Launch a run from a process of its own, which then ends: all others hold a handle that was made anew."""
    given = [json.dumps({**PLAN, **(plan or {})}), json.dumps(scale)]
    return subprocess.run(
        [sys.executable, "-c", LAUNCH, str(folder), *given], env=cluster.env, capture_output=True, text=True
    )


def until(run: Run, holds) -> None:
    """Wait for something about a run that is at work."""
    end = time.monotonic() + WAIT_S
    while not holds():
        assert run.alive, f"{run.status}\n{run.log(60)}"
        assert time.monotonic() < end, f"{run.status}\n{run.log(60)}"
        time.sleep(0.05)


@pytest.fixture
def cluster(request):
    made = Cluster(*request.param)
    yield made
    made.close()


@pytest.fixture(scope="module")
def alone():
    """The metrics of a training in this process: the steps in which machines die, and some more."""
    threads, plan = torch.get_num_threads(), Plan(**{**PLAN, "steps": COMPARED})
    torch.set_num_threads(1)
    _, metrics = train(policy.load("tiny"), envs.load("chain"), recipes.grpo(kl=0.0), plan, progress=lambda *_: None)
    torch.set_num_threads(threads)
    return metrics


def check_equal(run: Run, alone) -> None:
    """A run has the outcomes and losses of a local training, these up to rounding: no rollout was lost or changed."""
    rows = run.metrics()
    assert [row["step"] for row in rows] == list(range(len(rows))) and len(rows) >= len(alone)
    for here, there in zip(alone, rows, strict=False):
        for name in ("outcome", "tokens"):
            assert there[name] == here[name], (here["step"], name)
        for name in ("loss", "gradient_norm"):
            assert there[name] == pytest.approx(here[name], abs=1e-4, rel=1e-3), (here["step"], name)


@pytest.mark.parametrize("cluster", [(0, False)], indirect=True)
def test_machines_that_die_take_no_rollout_with_them(tmp_path, alone, cluster):
    """First the machine a player is on, then the one with the learners, which by then is the only one left."""
    machines = [cluster.start(3), cluster.start(3)]
    run_folder = tmp_path / "run"
    refused = cell(cluster, tmp_path / "large", learners=5, rollouts=2, address=cluster.address)
    assert refused.returncode == 0, refused.stderr
    cluster.env["RAY_ADDRESS"] = cluster.address  # as `ray symmetric-run` has it
    started = cell(cluster, run_folder, learners=2, rollouts=1, address="auto")
    assert started.returncode == 0, started.stderr
    run, large = Run(run_folder), Run(tmp_path / "large")
    until(run, lambda: run.status.step >= 1)
    assert large.wait(WAIT_S).state == "failed"
    assert "7 CPUs (5 for learners and 2 for engines), and the cluster has 6 on 3 machines" in large.status.reason
    (first,) = [one for one in machines if hosts(one, "Player")]
    (second,) = [one for one in machines if hosts(one, "RayTrainWorker")]
    assert first is not second
    cluster.end(first)
    done = run.status.step
    until(run, lambda: run.status.step >= min(done + 2, PLAN["steps"] - 2))
    cluster.end(second)
    cluster.start(3)
    status = run.wait(WAIT_S)
    assert status.state == "finished", f"{status}\n{run.log(80)}"
    log = run.log(400)
    assert "player 0 died" in log and "a learner died" in log
    check_equal(run, alone)
    assert len(run.metrics()) == PLAN["steps"]
    assert not list(run.path.glob("workbench-*"))


@pytest.mark.skipif(not WITH_JOBS, reason="Ray is installed without its job server: pip install 'ray[default]'")
@pytest.mark.parametrize("cluster", [(3, True)], indirect=True)
def test_a_run_is_a_job_of_a_cluster(tmp_path, alone, cluster):
    """Launched by a process that ends; paused, resumed, killed, resumed and finished by handles made anew."""
    started = cell(cluster, tmp_path / "run", {"steps": 60}, learners=1, rollouts=1, address=cluster.server)
    assert started.returncode == 0, started.stderr
    run = Run(tmp_path / "run")
    job = json.loads((run.path / "job.json").read_text())["id"]
    assert run.alive
    run.pause()
    until(run, lambda: run.status.state == "paused")
    assert hosts(cluster.started[-1], "JobSupervisor") and run.status.pid in below(cluster.started[-1].pid)
    run.resume()
    until(run, lambda: run.status.step >= 5)
    run.kill()
    assert not run.alive and run.status.state == "failed" and run.good_step >= 4
    killed = run.status.step
    again = subprocess.run(
        [sys.executable, "-c", "import sys; from workbench.train import resume; resume(sys.argv[1])", str(run.path)],
        env=cluster.env,
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    assert json.loads((run.path / "job.json").read_text())["id"] != job
    until(run, lambda: run.status.state == "running" and run.status.step > max(killed, COMPARED))
    run.stop()
    assert run.wait(WAIT_S).state == "stopped" and run.weights is not None
    check_equal(run, alone)
