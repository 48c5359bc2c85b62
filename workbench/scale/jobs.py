"""The driver of a run as a job of a Ray cluster: submitted over HTTP, looked after through the run's folder.

The cluster's job server (part of its dashboard, port 8265) starts `python -m workbench.scale.worker DIR --job ID` on
the cluster's head. From then on nobody needs the server: the job says in the run's folder that it is alive, and reads
there what it is asked (`workbench.runs.where`). So the folder must be on storage that this machine and the cluster's
see under the same name, which is the first thing that is tried; what was shipped by value stands in it too.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from workbench.runs import Run, write_json
from workbench.runs.where import end_job
from workbench.scale.address import problem_with_address
from workbench.scale.cluster import SETTINGS
from workbench.train.shipping import unpack

BEGIN_S = 90.0  # that a job is waited for until it has begun; it may begin later
LOOK_S = 0.3
UNSEEN = 74  # exit status of a job that does not see the run's folder: "input/output error" of sysexits.h
OVERRULING = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")  # the client would take these for the address it is given
PARTS = "pip install 'ray[default]'"


class Client(Protocol):
    """What is asked of `ray.job_submission.JobSubmissionClient`."""

    def submit_job(
        self, *, entrypoint: str, submission_id: str, runtime_env: dict[str, Any], metadata: dict[str, str]
    ) -> str:
        """Start a job."""

    def get_job_info(self, job_id: str) -> Any:
        """Return `status` and `message` of a job."""


def submit(run: Run) -> Run:
    """Start the driver of a run as a job, and wait until it has begun, which takes seconds.

    Args:
        run: with its `launch.json`; nobody works on it.

    Raises:
        RuntimeError: there is no such server, an older job still works on the run, or the job ended before it began;
            says what it said and what to do.
    """
    config, path = run.config, run.path.resolve()
    address = unpack(config["scale"], path / "code").address
    if problem := problem_with_address(address):
        raise RuntimeError(f"{run.path}: {problem}")
    with _named_by_us():
        client = client_of(address)
        _check_none_works(run, client)
        job = f"workbench-{re.sub(r'[^A-Za-z0-9_-]', '-', path.name)}-{secrets.token_hex(4)}"
        step = run.status.step if (path / "status.json").exists() else 0
        write_json(path / "control.json", {"ask": "run"})
        write_json(path / "status.json", {"state": "starting", "step": step, "steps": config["steps"]})
        write_json(path / "job.json", {"id": job, "address": address, "submitted": time.time()})
        client.submit_job(
            entrypoint=entrypoint(path, job, sys.executable, config["folder"]),
            submission_id=job,
            runtime_env={"env_vars": environment(config)},
            metadata={"workbench_run": str(path)},
        )
        _await_begin(run, client, job)
    return run


def client_of(address: str) -> Client:
    """Return a client of a job server.

    Raises:
        RuntimeError: Ray's client of jobs lacks a package, or the server refuses it.
    """
    try:
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(address)
    except ImportError as error:
        raise RuntimeError(
            f"address={address!r}: Ray's client of jobs needs more packages ({error}): {PARTS}"
        ) from None
    except Exception as error:
        raise RuntimeError(f"address={address!r}: the job server refused: {' '.join(str(error).split())}") from error


def entrypoint(path: Path, job: str, python: str, folder: str = "") -> str:
    """Return the command of a job, in the language of its shell: it first looks whether it sees the run's folder.

    Args:
        path: of the run, whole.
        job: its id.
        python: taken where the cluster has it in the same place; else the cluster's own `python3`.
        folder: to work in, if it is there; modules that lie in it are found then.
    """
    there, ours = shlex.quote(str(path)), shlex.quote(python)
    return (
        f"test -f {there}/launch.json || exit {UNSEEN}; cd {shlex.quote(folder or '/')} || cd /; "
        f"p={ours}; [ -x {ours} ] || p=python3; "
        f'exec "$p" -m workbench.scale.worker {there} --job {shlex.quote(job)} >> {there}/log.txt 2>&1'
    )


def environment(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of a job and of all that it starts.

    Args:
        config: of the run; modules of the reader's own are looked for where they are here.
    """
    paths = [*config["python_path"], *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **SETTINGS,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": str(config["threads"]),
    }


def _check_none_works(run: Run, client: Client) -> None:
    """Refuse a second job: clocks that disagree could make a run look dead that is not."""
    from workbench.runs.where import Job, place_of

    place = place_of(run.path)
    if run.alive:
        raise RuntimeError(f"{run.path}: another process works on this run")
    if isinstance(place, Job) and _state(client, place.id) in ("PENDING", "RUNNING"):
        raise RuntimeError(f"{run.path}: job {place.id} is still there, though it gives no sign; {place.by_hand()}")


def _await_begin(run: Run, client: Client, job: str) -> None:
    """Wait until a job has said in the run's folder that it works on it.

    Raises:
        RuntimeError: it ended before.
    """
    end = time.monotonic() + BEGIN_S
    while time.monotonic() < end:
        if (run.path / "beat.json").exists() and job in (run.path / "beat.json").read_text("utf-8", "replace"):
            return
        if _state(client, job) in ("FAILED", "STOPPED", "SUCCEEDED"):
            reason = why_not(str(client.get_job_info(job).message or ""), run.log(5))
            end_job(run.path, job)
            status = {"state": "failed", "reason": reason, "step": run.status.step, "steps": run.config["steps"]}
            write_json(run.path / "status.json", status)
            raise RuntimeError(f"{run.path}: {reason}")
        time.sleep(LOOK_S)
    print(f"{run.path}: job {job} has not begun after {BEGIN_S:.0f} s; the cluster may be busy. It is waited for")


def why_not(message: str, log: str) -> str:
    """Say why a job ended before it worked on its run.

    Args:
        message: of the job server.
        log: last lines of the run's log.
    """
    if f"exit code {UNSEEN}" in message:
        return (
            "the job ended at once: the cluster's head does not see this folder. It must be on storage that this "
            "machine and all of the cluster's see under the same name; launch with such a `folder=`"
        )
    said = " ".join(f"{message} {log}".split())[-600:]
    mend = "is this package installed on the cluster, in the versions it has here?" if "No module named" in said else ""
    return " ".join(f"the job ended before it worked on the run: {said or 'it said nothing'}. {mend}".split())


def _state(client: Client, job: str) -> str:
    """Return the state of a job in one word; "" if the server does not know it, or does not answer now."""
    try:
        state = client.get_job_info(job).status
    except Exception:  # of the client's HTTP library, or what it makes of an answer
        return ""
    return str(getattr(state, "value", state))


@contextmanager
def _named_by_us() -> Iterator[None]:
    """Hide variables that would overrule the address."""
    hidden = {name: os.environ.pop(name) for name in OVERRULING if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
