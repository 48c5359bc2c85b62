"""Where a run is worked on: a process here is known by its lock, a job elsewhere by the file it touches."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from workbench.runs import Run, lock, where, write_json
from workbench.runs.where import Beat, Here, Job, end_job, place_of


@pytest.fixture
def run(tmp_path):
    write_json(tmp_path / "launch.json", {"steps": 9})
    write_json(tmp_path / "status.json", {"state": "running", "step": 3, "steps": 9})
    return Run(tmp_path)


def submitted(run, job="a-1", ago=0.0):
    write_json(run.path / "job.json", {"id": job, "address": "http://h:8265", "submitted": time.time() - ago})


def aged(run, seconds):
    then = time.time() - seconds
    os.utime(run.path / "beat.json", (then, then))


def test_without_a_job_the_lock_says(run):
    assert isinstance(place_of(run.path), Here) and not run.alive
    handle = lock(run.path / "lock")
    assert run.alive
    os.close(handle)


def test_a_job_is_waited_for_until_it_begins(run):
    submitted(run)
    assert isinstance(place_of(run.path), Job) and run.alive
    submitted(run, ago=where.START_S + 1)
    assert not run.alive and "goes on from step 0" in run.status.reason


def test_a_job_is_alive_while_it_touches_its_file(run):
    submitted(run, ago=1000)
    with Beat(run.path, "a-1", every_s=0.01) as beat:
        assert run.alive and run.status.state == "running"
        aged(run, 1000)
        end = time.monotonic() + 30
        while not run.alive:  # it is touched again
            assert time.monotonic() < end
        beat.over.set()
        beat.thread.join()
        aged(run, where.SILENT_S + 1)
        assert not run.alive and run.status.state == "failed"
        aged(run, where.SILENT_S - 5)
        assert run.alive
    assert not run.alive


def test_what_an_older_job_left_says_nothing_of_a_newer_one(run):
    submitted(run, "a-1")
    end_job(run.path, "a-1")
    assert not run.alive
    submitted(run, "a-2")
    assert run.alive


@pytest.mark.parametrize("content", ["", "[]", '{"id": 3}', '{"submitted": "yesterday", "id": "x"}', "[" * 9999])
def test_what_somebody_else_wrote_there_is_no_job_that_lives(run, content):
    (run.path / "job.json").write_text(content)
    (run.path / "beat.json").write_text("[" * 9999)
    assert not run.alive


def test_a_folder_names_no_address_that_is_called(run, monkeypatch):
    """Looking is safe: a folder from somebody else cannot make us ask a server."""
    import socket

    monkeypatch.setattr(socket, "socket", lambda *a, **k: pytest.fail("a connection"))
    submitted(run)
    assert run.alive and run.status.state == "running" and repr(run)


KILLED = """
import sys, time
from pathlib import Path
from workbench.runs.where import Beat
with Beat(Path(sys.argv[1]), "a-1", every_s=0.05):
    print("at work", flush=True)
    time.sleep(600)
"""


def test_a_job_that_is_asked_to_ends_itself(run):
    submitted(run)
    there = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(run.path)], stdout=subprocess.PIPE, start_new_session=True
    )
    assert there.stdout.readline() == b"at work\n"
    run.kill()
    assert there.wait(60) == -signal.SIGKILL and not run.alive
    there.stdout.close()
    assert "it was killed" in run.status.reason
    assert json.loads((run.path / "beat.json").read_text())["over"] is True


def test_a_job_that_does_not_end_is_to_be_ended_by_hand(run, monkeypatch):
    submitted(run)
    monkeypatch.setattr(where, "KILL_S", 0.1)
    with pytest.raises(TimeoutError, match="ray job stop --address http://h:8265 a-1"):
        run.kill()
    assert json.loads((run.path / "control.json").read_text()) == {"ask": "kill"} and run.asked == "run"
