"""Where a run is worked on: by a process of this machine, or by a job of a Ray cluster. Standard library only.

Both are asked through the run's folder alone: no address that a folder names is ever called to look at a run.

    lock         held by a process of this machine as long as it lives, however it ends: that says if it is alive
    job.json     written by who submits a job: its id, and where it was submitted
    beat.json    written by the job, and touched every few seconds: a job is alive while it was touched just now

A lock says nothing about another machine on many file systems, a file that is touched does on all; a job that was
killed is noticed `SILENT_S` later. The clocks of the machines must agree to some seconds.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from workbench.runs.files import is_locked, open_regular, read_text, write_json

BEAT_S = 2.0  # between touches of a job
SILENT_S = 30.0  # without one it is dead; file systems that machines share may show a touch some seconds late
START_S = 900.0  # a job may wait so long to begin: Ray's own limit
KILL_S = 60.0  # until one that was asked to end at once is given up


class Place(Protocol):
    """Who works on a run, as far as others need to know."""

    def alive(self) -> bool:
        """Does somebody work on it?"""

    def kill(self) -> float:
        """End it at once; return the seconds after which it should have ended."""

    def by_hand(self) -> str:
        """Say how to end it where `kill` does not."""


def place_of(path: Path) -> Place:
    """Return where the run in a folder is worked on."""
    told = _read(path / "job.json")
    if not told:
        return Here(path)
    submitted = told.get("submitted")
    known = isinstance(submitted, (int, float)) and not isinstance(submitted, bool)
    return Job(path, str(told.get("id")), str(told.get("address")), float(submitted) if known else 0.0)


class Here(NamedTuple):
    """A process of this machine, which holds the lock."""

    path: Path

    def alive(self) -> bool:
        """Is the lock held?"""
        return is_locked(self.path / "lock")

    def kill(self) -> float:
        """Send SIGKILL to its group: it leads a session of its own, so its group has its number."""
        pid = (self.path / "lock").read_text() if self.alive() else ""
        if pid:
            os.killpg(int(pid), signal.SIGKILL)
        return 10.0

    def by_hand(self) -> str:
        """It cannot survive that."""
        return "kill its process"


class Job(NamedTuple):
    """A job of a Ray cluster, on whatever machine.

    Args:
        path: of the run, which all machines see.
        id: of the job.
        address: of the server it was submitted to.
        submitted: when, in seconds since 1970.
    """

    path: Path
    id: str
    address: str
    submitted: float

    def alive(self) -> bool:
        """Has it touched its file just now, or is it still to begin?"""
        told = _read(self.path / "beat.json")
        if told.get("id") != self.id:
            return time.time() - self.submitted < START_S
        return not told.get("over") and time.time() - touched(self.path / "beat.json") < SILENT_S

    def kill(self) -> float:
        """Ask it to end itself at once: see `Beat`; one that has not begun yet ends when it does."""
        write_json(self.path / "control.json", {"ask": "kill"})
        return KILL_S

    def by_hand(self) -> str:
        """Ray's own command."""
        return f"`ray job stop --address {self.address} {self.id}` ends it"


def job_of(path: Path) -> str | None:
    """Return the id of the job that works on a run, or last did; None where it is none."""
    place = place_of(path)
    return place.id if isinstance(place, Job) else None


def touched(path: Path) -> float:
    """Return when a file was touched last; 0 if it is not there. It is opened: what is remembered of it may be old."""
    try:
        with open_regular(path) as file:
            return os.fstat(file.fileno()).st_mtime
    except (OSError, ValueError):
        return 0.0


def end_job(path: Path, job: str) -> None:
    """Write down that a job does not work on a run any more, or never will."""
    write_json(path / "beat.json", {"id": job, "over": True})


class Beat:
    """Says that this process works on a run as long as it does; ends it at once when that is asked.

    Args:
        path: of the run.
        job: id of the job this process is.
        every_s: between touches.
    """

    def __init__(self, path: Path, job: str, every_s: float = BEAT_S):
        self.path, self.job, self.every_s, self.over = path, job, every_s, threading.Event()
        self.thread = threading.Thread(target=self._beat, name="beat", daemon=True)

    def __enter__(self) -> Beat:
        told = {"id": self.job, "over": False, "host": os.uname().nodename, "pid": os.getpid()}
        write_json(self.path / "beat.json", told)
        self.thread.start()
        return self

    def _beat(self) -> None:
        while True:
            if _read(self.path / "control.json").get("ask") == "kill":
                end_job(self.path, self.job)
                os.killpg(os.getpgid(0), signal.SIGKILL)
            if self.over.wait(self.every_s):
                return
            try:
                os.utime(self.path / "beat.json")  # needs no room on a disk that is full
            except OSError:
                continue  # a file system that is away for a moment; if it stays away the run is dead anyway

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.over.set()
        self.thread.join()
        end_job(self.path, self.job)


def _read(path: Path) -> Mapping[str, Any]:
    """Return what a file says, whatever somebody else wrote there: nothing, if that is no object of JSON."""
    try:
        found = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
