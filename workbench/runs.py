"""A run of training as others see it: a folder that outlives the process, the notebook and the browser.

    launch.json     what was asked: recipe, world, policy, plan, versions, state of git; values as readable JSON
    status.json     state and reason, step, process                          control.json   what others ask of it
    metrics.jsonl   one line a step                                          log.txt        what the process said
    checkpoints/    step-00000010/: weights, optimiser, state of evidence    trajectories/  step-00000010/: rollouts
    weights/        at the end: a folder `policy.load` takes                 code/          what was shipped by value

Standard library only. Nothing here runs, unpickles or imports anything a run folder holds: looking is always safe.
The process holds a lock on `lock` as long as it lives, however it ends: that, and not a process number, says if it is
alive.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

State = Literal["starting", "running", "paused", "stopped", "finished", "failed"]
LIVING: tuple[State, ...] = ("starting", "running", "paused")
Ask = Literal["run", "pause", "stop"]
SILENT = (
    "its process ended without a word at step {step}: it was killed, memory ran out, or the machine went down; "
    "`workbench resume {path}` goes on from step {good}"
)


@dataclass(frozen=True)
class Scale:
    """Where and on how much a run runs.

    Args:
        device: "cpu" or "cuda".
        nodes, learners, rollouts: machines, processes that learn, processes that only play (0: the learners play).
        engine: "hf" or "vllm".
        tensor_parallel: devices a model is cut over.
        address: of an existing cluster; None is this machine.
        asynchronous: how many steps old the weights of a sampler may be.
    """

    device: str = "cpu"
    nodes: int = 1
    learners: int = 1
    rollouts: int = 0
    engine: Literal["hf", "vllm"] = "hf"
    tensor_parallel: int = 1
    address: str | None = None
    asynchronous: int = 0

    @property
    def local(self) -> bool:
        """One process on this machine, which plays and learns?"""
        return (self.nodes, self.learners, self.rollouts, self.tensor_parallel, self.asynchronous) == (
            1,
            1,
            0,
            1,
            0,
        ) and (self.engine, self.address) == ("hf", None)


@dataclass(frozen=True)
class Status:
    """How a run is.

    Args:
        state: "starting", "running", "paused", "stopped" (asked to), "finished" (all steps) or "failed".
        reason: why it failed or stopped, and what to do; "" while all is well.
        step: steps done.
        steps: to be done.
        pid: process that works or last worked on it; None before there was one.
        notes: what its user should know (a corrupt checkpoint that was passed over, another number of threads ...).
    """

    state: State
    reason: str = ""
    step: int = 0
    steps: int = 0
    pid: int | None = None
    notes: tuple[str, ...] = field(default=())


class Run:
    """A handle on the folder of a run; making one changes nothing and loads no code.

    Args:
        path: the folder.

    Raises:
        FileNotFoundError: it is no folder of a run.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not (self.path / "launch.json").is_file():
            raise FileNotFoundError(
                f"{self.path} is no run: it has no launch.json; workbench.runs.list(folder) finds runs"
            )

    # -- looking -------------------------------------------------------------------------------------------

    @property
    def config(self) -> dict[str, Any]:
        """What was asked, as plain JSON."""
        return json.loads((self.path / "launch.json").read_text("utf-8"))

    @property
    def alive(self) -> bool:
        """Is there a process that works on it?"""
        return is_locked(self.path / "lock")

    @property
    def status(self) -> Status:
        """How it is; a process that ended without a word has failed."""
        alive = self.alive  # asked first: what ends in between has written its last word before
        try:
            said = json.loads((self.path / "status.json").read_text("utf-8"))
        except FileNotFoundError:
            said = {"state": "starting"}
        known = {f.name: said[f.name] for f in fields(Status) if f.name in said}
        status = Status(**{**known, "notes": tuple(said.get("notes", ()))})
        if alive or status.state not in LIVING:
            return status
        checkpoints = self.checkpoints
        good = int(checkpoints[-1].name.split("-")[1]) if checkpoints else 0
        reason = SILENT.format(step=status.step, path=self.path, good=good)
        return Status("failed", reason, status.step, status.steps, status.pid, status.notes)

    def metrics(self) -> list[dict[str, Any]]:
        """Return what was measured, one dict a step; a last line that is not whole yet is left out."""
        return read_lines(self.path / "metrics.jsonl")[0]

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        """Folders of whole checkpoints, oldest first."""
        return tuple(sorted((self.path / "checkpoints").glob("step-*")))

    @property
    def trajectories(self) -> tuple[Path, ...]:
        """Folders of rollouts that were kept, oldest first; `workbench.read` reads each."""
        return tuple(sorted((self.path / "trajectories").glob("step-" + "[0-9]" * 8)))

    @property
    def weights(self) -> Path | None:
        """Folder of the weights at the end, for `policy.load` (of adapters: these alone); None before there is one."""
        return self.path / "weights" if (self.path / "weights").is_dir() else None

    def log(self, lines: int = 20) -> str:
        """Return the last lines of what the process said."""
        try:
            with (self.path / "log.txt").open(encoding="utf-8", errors="replace") as file:
                return "".join(deque(file, lines))
        except FileNotFoundError:
            return ""

    # -- asking --------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Ask it to finish its step, save and wait."""
        self._ask("pause")

    def resume(self) -> None:
        """Let a paused run go on.

        Raises:
            RuntimeError: no process works on it; `workbench.train.resume(path)` starts one.
        """
        self._ask("run")

    def stop(self) -> None:
        """Ask it to finish its step, save and end; it can be resumed later."""
        self._ask("stop")

    def _ask(self, what: Ask) -> None:
        if not self.alive:
            start = f"`workbench resume {self.path}` or workbench.train.resume(path) starts one"
            raise RuntimeError(f"{self.path}: no process works on this run, it is {self.status.state}; {start}")
        write_json(self.path / "control.json", {"ask": what})

    def kill(self) -> None:
        """End its process at once, in the middle of whatever it does; the last checkpoint stays."""
        pid = (self.path / "lock").read_text() if self.alive else ""
        if pid:
            os.killpg(int(pid), signal.SIGKILL)  # it leads a session of its own, so its group has its number
            self.wait(10.0)

    def wait(self, timeout_s: float | None = None, poll_s: float = 0.05) -> Status:
        """Wait until no process works on it any more; return how it ended.

        Raises:
            TimeoutError: it still works after `timeout_s`.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while self.alive:
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"{self.path}: still {self.status.state} after {timeout_s} s")
            time.sleep(poll_s)
        return self.status

    def __repr__(self) -> str:
        status = self.status
        tail = f": {status.reason}" if status.reason else ""
        return f"Run({str(self.path)!r}), {status.state}, step {status.step} of {status.steps}{tail}"


def list(folder: str | Path = "runs") -> tuple[Run, ...]:
    """Return the runs in a folder, by name."""
    return tuple(Run(path.parent) for path in sorted(Path(folder).glob("*/launch.json")))


# ------------------------------------------------------------------------------------------ files others can trust


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file whole or not at all, so that it is there after a power cut too."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: under another name, to the disk, then its name, then the folder."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_path(path.parent)


def sync_path(path: Path) -> None:
    """Have a file on the disk, or the names in a folder: a rename alone may be lost in a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines of a file of JSON lines, and how many bytes they take; the torn last one is left out.

    Raises:
        ValueError: a line before the last is no JSON.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    rows, taken = [], 0
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            break
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise ValueError(
                f"{path}, line {number}: expected JSON, got {line[:60]!r}; the file was damaged"
            ) from error
        taken += len(line)
    return rows, taken


def lock(path: Path, patience_s: float = 1.0) -> int | None:
    """Lock a file for as long as the handle that is returned is open anywhere; None if somebody else has it."""
    import fcntl  # Unix only, as are sessions of one's own

    handle, end = os.open(path, os.O_RDWR | os.O_CREAT, 0o644), time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except OSError:
            if time.monotonic() > end:  # not at once: somebody may just be looking
                os.close(handle)
                return None
        time.sleep(0.01)


def sign(handle: int, pid: int) -> None:
    """Write into a file that is locked whose lock it is."""
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(pid).encode(), 0)


def is_locked(path: Path) -> bool:
    """Say if somebody has locked a file."""
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
