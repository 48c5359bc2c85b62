"""A run of training as others see it: a folder that outlives the process, the notebook and the browser.

    launch.json     what was asked: recipe, world, policy, plan, versions, state of git; values as readable JSON
    status.json     state and reason, step, process                          control.json   what others ask of it
    metrics.jsonl   one line a step                                          log.txt        what the process said
    checkpoints/    step-00000010/: weights, optimiser, state of evidence    trajectories/  step-00000010/: rollouts
    weights/        at the end: a folder `policy.load` takes                 code/          what was shipped by value
    adapters/       at the end, where adapters were trained: these alone (merged into `weights/`)
    pending/        of a scaled run: rollouts no checkpoint has learned from; ray-logs/: what Ray wrote, if it failed
    job.json        of a run that is a job of a Ray cluster: which; beat.json: touched by it every few seconds

Standard library only; the views are loaded when a run is shown. Nothing here runs, unpickles or imports anything a run
folder holds: looking is always safe. The process holds a lock on `lock` as long as it lives, however it ends: that,
and not a process number, says if it is alive; of a job on another machine `beat.json` does (`workbench.runs.where`).
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench import show
from workbench.runs.files import (
    News,
    is_locked,
    lock,
    open_regular,
    read_lines,
    read_news,
    read_text,
    sign,
    sync_path,
    write_bytes,
    write_json,
)

if TYPE_CHECKING:
    from workbench.rollouts import Rollouts
from workbench.runs.follow import follow, printable
from workbench.runs.scale import Scale
from workbench.runs.where import place_of

__all__ = [
    "LIVING",
    "Ask",
    "News",
    "Run",
    "Runs",
    "Scale",
    "State",
    "Status",
    "follow",
    "is_locked",
    "list",
    "lock",
    "printable",
    "read_lines",
    "read_news",
    "sign",
    "sync_path",
    "write_bytes",
    "write_json",
]

State = Literal["starting", "running", "paused", "stopped", "finished", "failed"]
STATES: tuple[State, ...] = ("starting", "running", "paused", "stopped", "finished", "failed")
STEP = "step-" + "[0-9]" * 8
LIVING: tuple[State, ...] = ("starting", "running", "paused")
Ask = Literal["run", "pause", "stop"]
SILENT = (
    "its process ended without a word at step {step}: it was killed, memory ran out, or the machine went down; "
    "`workbench resume {path}` goes on from step {good}"
)


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
        return json.loads(read_text(self.path / "launch.json"))

    @property
    def alive(self) -> bool:
        """Is there a process that works on it, here or as a job of a cluster?"""
        return place_of(self.path).alive()

    @property
    def status(self) -> Status:
        """How it is; a process that ended without a word has failed."""
        alive = self.alive  # asked first: what ends in between has written its last word before
        status = _status_of(self.path / "status.json")
        if alive or status.state not in LIVING:
            return status
        reason = SILENT.format(step=status.step, path=self.path, good=self.good_step)
        return Status("failed", reason, status.step, status.steps, status.pid, status.notes)

    def metrics_after(self, cursor: str = "") -> News:
        """Return the metrics written since a call before; see `News`."""
        return read_news(self.path / "metrics.jsonl", cursor)

    def metrics(self) -> list[dict[str, Any]]:
        """Return what was measured, one dict a step; a last line that is not whole yet is left out."""
        return read_lines(self.path / "metrics.jsonl")[0]

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        """Folders of whole checkpoints, oldest first."""
        return tuple(sorted((self.path / "checkpoints").glob(STEP)))

    @property
    def good_step(self) -> int:
        """Steps done at the last whole checkpoint; 0 before there is one."""
        checkpoints = self.checkpoints
        return _number(checkpoints[-1]) if checkpoints else 0

    @property
    def trajectories(self) -> tuple[Path, ...]:
        """Folders of rollouts that were kept, oldest first; `workbench.read` reads each."""
        return tuple(sorted((self.path / "trajectories").glob(STEP)))

    def rollouts(self, step: int | None = None) -> Rollouts:
        """Read the rollouts that were kept of a step (counted from 0), with the credit they taught with.

        Columns: the evidence of the recipe, `training_credit` (token), and `in_update` (trajectory): 1 where it taught.

        Args:
            step: None is the newest that was kept.

        Raises:
            FileNotFoundError: none were kept (of this step); names those that were.
        """
        from workbench import store

        kept = {_number(path): path for path in self.trajectories}
        wanted = max(kept, default=None) if step is None else step
        if wanted not in kept:
            said = f"kept are those of steps {sorted(kept)[:20]}" if kept else "none are kept yet (`keep_every`)"
            raise FileNotFoundError(f"{self.path}: no rollouts of step {wanted}; {said}")
        return store.read(kept[wanted])

    @property
    def weights(self) -> Path | None:
        """Folder of the weights at the end, for `policy.load`; None before there is one. Adapters are merged in."""
        return self.path / "weights" if (self.path / "weights").is_dir() else None

    def log(self, lines: int = 20) -> str:
        """Return the last lines of what the process said."""
        try:
            with open_regular(self.path / "log.txt") as file:
                return b"".join(deque(file, lines)).decode("utf-8", errors="replace")
        except (FileNotFoundError, ValueError):
            return ""

    # -- asking --------------------------------------------------------------------------------------------

    @property
    def asked(self) -> Ask:
        """What it was asked to do last: "run" (go on), "pause" or "stop"; it does so between two steps."""
        try:
            found = json.loads(read_text(self.path / "control.json"))
        except (OSError, ValueError, RecursionError):
            return "run"
        ask = found.get("ask") if isinstance(found, dict) else None
        return ask if ask in ("pause", "stop") else "run"

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
        """End its process at once, in the middle of whatever it does; the last checkpoint stays.

        A job on another machine ends itself within seconds, when it sees that it is asked to.

        Raises:
            TimeoutError: it does not end; says how to end it by hand.
        """
        if not self.alive:
            return
        place = place_of(self.path)
        patience = place.kill()
        try:
            self.wait(patience)
        except TimeoutError as error:
            raise TimeoutError(f"{error} after it was asked to end; {place.by_hand()}") from None

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

    # -- showing -------------------------------------------------------------------------------------------

    def watch(self, follow: bool = False, every_s: float = 2.0) -> None:
        """Show how it is: state, curves, alarms, newest rollouts. In a notebook with pictures, elsewhere as text.

        Args:
            follow: stay, and draw anew in the same place when something changed, until the run ends. Interrupting
                (Ctrl-C, the notebook's stop button) ends the watching, never the run.
            every_s: seconds between looks.
        """
        show.watch(self, follow, every_s)

    def monitor(self, resume: Callable[[Path], Any] | None = None) -> Any:
        """Return a live view of it for a notebook: progress, buttons that pause and stop, curves, newest rollouts.

        Restart the kernel or reload the page: the run goes on, and `Run(path).monitor()` attaches again.

        Args:
            resume: starts a process for a run that ended; `workbench.train.resume`, only with runs you trust.
        """
        return show.monitor(self, resume)

    def credit_map(self, trajectory: int | str = 0, step: int | None = None) -> Any:
        """Return one kept rollout, turn by turn, with the credit it taught with: a `workbench.view.CreditMap`.

        Args:
            trajectory: its id, or its position.
            step: whose rollouts, counted from 0; None is the newest that was kept.
        """
        return show.credit_map(self.rollouts(step), trajectory)

    def __repr__(self) -> str:
        status = self.status
        tail = f": {status.reason}" if status.reason else ""
        return printable(f"Run({str(self.path)!r}), {status.state}, step {status.step} of {status.steps}{tail}")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return show.mimebundle(self)


class Runs(tuple[Run, ...]):
    """Runs in order, which a notebook shows as a table."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "no runs"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return show.mimebundle(self)


def list(folder: str | Path = "runs") -> Runs:
    """Return the runs in a folder, by name."""
    return Runs(Run(path.parent) for path in sorted(Path(folder).glob("*/launch.json")))


def _number(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _status_of(path: Path) -> Status:
    """Read what the process said, whatever else somebody wrote there."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        return Status("starting")
    except (OSError, ValueError) as error:
        return Status("failed", str(error))
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return Status("failed", f"{path.name} is no JSON; the file was damaged")
    said = said if isinstance(said, dict) else {}
    state, notes = said.get("state"), said.get("notes")
    return Status(
        state if state in STATES else "failed",
        str(said.get("reason") or "") if state in STATES else f"{path.name} says {state!r:.80}, which is no state",
        *(max(0, _whole(said.get(name)) or 0) for name in ("step", "steps")),
        _whole(said.get("pid")),
        tuple(map(str, notes)) if isinstance(notes, Iterable) and not isinstance(notes, str) else (),
    )


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**12 else None
