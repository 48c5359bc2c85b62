"""A run's driver as a job of a cluster, with a stand-in for the job server: what is submitted, what is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from types import SimpleNamespace

import pytest

from workbench import envs, recipes
from workbench.runs import Run, Scale, write_json
from workbench.runs.where import end_job
from workbench.scale import jobs
from workbench.scale.worker import main
from workbench.train import launch, resume
from workbench.train.plan import Plan

AT = Scale(learners=2, rollouts=1, address="http://127.0.0.1:8265")


class Server:
    """A job server whose jobs do what `act` does."""

    def __init__(self, act):
        self.act, self.jobs, self.message, self.state = act, [], "", "RUNNING"

    def submit_job(self, **job):
        self.jobs.append(job)
        self.act(self, job)
        return job["submission_id"]

    def get_job_info(self, job_id):
        if job_id not in [job["submission_id"] for job in self.jobs]:
            raise RuntimeError(f"job {job_id} does not exist")
        return SimpleNamespace(status=self.state, message=self.message)


@pytest.fixture
def server(monkeypatch):
    """Have jobs submitted to a stand-in; `server(act)` makes it."""

    def make(act):
        there = Server(act)
        monkeypatch.setattr(jobs, "client_of", lambda address: there)
        monkeypatch.setattr(jobs, "LOOK_S", 0.01)
        for module in ("workbench.scale.jobs", "workbench.scale.needs"):
            monkeypatch.setattr(f"{module}.problem_with_address", lambda address: None)
        return there

    return make


def begins(there, job):
    """What a job does at first; Ray's client would take these variables for the address it is given."""
    assert not {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"} & set(os.environ)
    folder = job["metadata"]["workbench_run"]
    write_json(Run(folder).path / "beat.json", {"id": job["submission_id"], "over": False})


def fails(message):
    def act(there, job):
        there.state, there.message = "FAILED", message

    return act


def start(folder):
    return launch(recipes.grpo(), envs.load("chain"), "tiny", Plan(steps=3), folder, scale=AT)


def test_a_job_is_submitted_and_its_run_is_alive(tmp_path, server, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:1")
    there = server(begins)
    run = start(tmp_path / "run")
    (job,) = there.jobs
    assert run.alive and run.status.state == "starting" and not (run.path / "lock").exists()
    told = json.loads((run.path / "job.json").read_text())
    assert told["id"] == job["submission_id"] and told["address"] == AT.address
    assert job["submission_id"].startswith("workbench-run-")
    given = job["runtime_env"]["env_vars"]
    assert given["PYTHONHASHSEED"] == "0" and given["PYTHONPATH"] and all(isinstance(v, str) for v in given.values())
    assert "working_dir" not in job["runtime_env"]
    assert os.environ["RAY_ADDRESS"] == "elsewhere:1"  # hidden from the client only
    with pytest.raises(RuntimeError, match="another process works on this run"):
        jobs.submit(run)


def test_a_job_that_ends_at_once_says_why_and_can_be_resumed(tmp_path, server):
    server(fails("/tmp: No module named workbench"))
    with pytest.raises(RuntimeError, match="No module named workbench.*is this package installed on the cluster"):
        start(tmp_path / "run")
    run = Run(tmp_path / "run")
    assert not run.alive and run.status.state == "failed" and "No module named" in run.status.reason
    there = server(begins)
    assert resume(run.path).alive and len(there.jobs) == 1


def test_a_job_that_is_still_there_is_not_doubled(tmp_path, server):
    """Its file was not touched, as far as this machine's clock can tell."""
    there = server(begins)
    run = start(tmp_path / "run")
    os.utime(run.path / "beat.json", (0, 0))
    assert not run.alive
    with pytest.raises(RuntimeError, match="is still there, though it gives no sign; `ray job stop --address http://1"):
        resume(run.path)
    there.state = "FAILED"
    there.act = lambda there, job: (begins(there, job), setattr(there, "state", "RUNNING"))
    assert resume(run.path).alive


def test_a_run_that_was_a_job_goes_on_here(tmp_path, server, monkeypatch):
    server(begins)
    run = start(tmp_path / "run")
    end_job(run.path, json.loads((run.path / "job.json").read_text())["id"])
    monkeypatch.setattr(import_module("workbench.train.launch"), "_command", lambda run: ("-c", "pass"))
    resume(run.path, scale=Scale(learners=2, rollouts=1))
    assert not (run.path / "job.json").exists()
    run.wait(60)


def shell(command, **more):
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, **more)


def test_the_command_looks_first_whether_it_sees_the_folder(tmp_path):
    run = tmp_path / "my run; 'it'"
    done = shell(jobs.entrypoint(run, "a-1", sys.executable))
    assert done.returncode == jobs.UNSEEN
    said = jobs.why_not(f"Job entrypoint command failed with exit code {done.returncode}, last available logs", "")
    assert "the cluster's head does not see this folder" in said and "`folder=`" in said


def test_the_command_runs_the_driver_in_a_folder_of_any_name(tmp_path):
    run, python = tmp_path / "my run; 'it'", tmp_path / "a python"
    run.mkdir()
    (run / "launch.json").write_text("{}")
    python.write_text('#!/bin/sh\npwd\nfor one in "$@"; do echo "[$one]"; done\n')
    python.chmod(0o755)
    assert shell(jobs.entrypoint(run, "a-1", str(python), str(tmp_path))).returncode == 0
    said = (run / "log.txt").read_text().splitlines()
    assert said == [str(tmp_path), "[-m]", "[workbench.scale.worker]", f"[{run}]", "[--job]", "[a-1]"]


def test_a_python_that_is_not_there_is_the_clusters_own(tmp_path):
    (tmp_path / "python3").write_text("#!/bin/sh\necho its own\n")
    (tmp_path / "python3").chmod(0o755)
    (tmp_path / "launch.json").write_text("{}")
    shell(jobs.entrypoint(tmp_path, "a-1", "/no/such/python"), env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert (tmp_path / "log.txt").read_text() == "its own\n"


def test_a_driver_that_cannot_begin_is_over(tmp_path):
    """Also if it ends before it has looked at the run."""
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--job", "a-1", "--nonsense"])
    assert json.loads((tmp_path / "beat.json").read_text())["over"] is True


def test_a_client_that_lacks_packages_says_which(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setitem(sys.modules, "ray.job_submission", None)
    with pytest.raises(RuntimeError, match=r"pip install 'ray\[default\]'"):
        jobs.client_of("http://127.0.0.1:1")
