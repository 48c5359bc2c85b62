"""Stages with stamps: what was done is not done again, what was interrupted is. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STARTED = "started"  # the stage that was begun and not ended; there only while one runs, or after it was stopped


class StageError(Exception):
    """A stage that did not work; the message is for the reader."""


@dataclass(frozen=True)
class Stage:
    """One step of the set-up.

    Args:
        name: name of its stamp.
        says: what it does, for the reader.
        inputs: whatever its result depends on; hashed.
        run: does it; may return a detail for the stamp; raises StageError.
        still_there: is a stamped result still in place?
        optional: may the set-up go on without it?
        insist: if it was left out, is it tried again on every call (and not only with `--retry`)?
    """

    name: str
    says: str
    inputs: tuple[object, ...]
    run: Callable[[], str | None]
    still_there: Callable[[str], bool] = lambda detail: True
    optional: bool = False
    insist: bool = False

    @property
    def key(self) -> str:
        """Hash of the name and the inputs."""
        return hashlib.sha256(json.dumps([self.name, *self.inputs], default=str).encode()).hexdigest()


def read_stamp(folder: Path, name: str) -> dict[str, object]:
    """Read a stamp; a missing or torn one is empty."""
    try:
        stamp = json.loads((folder / f"{name}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(folder: Path, name: str, stamp: Mapping[str, object]) -> None:
    """Write a stamp in one step, so that there is never half of one."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{name}.json.{os.getpid()}"
    draft.write_text(json.dumps(stamp, indent=1), "utf-8")
    os.replace(draft, folder / f"{name}.json")


def is_done(stage: Stage, folder: Path, retry: bool) -> bool:
    """Tell whether a stage need not run: stamped with the same hash and still in place, or left out before."""
    stamp = read_stamp(folder, stage.name)
    if stamp.get("key") != stage.key:
        return False
    if stamp.get("status") == "left out":
        return not (retry or stage.insist)
    return stamp.get("status") == "installed" and stage.still_there(str(stamp.get("detail", "")))


def run_stages(
    stages: Sequence[Stage], folder: Path, *, retry: bool = False, say: Callable[[str], None] = print
) -> list[str]:
    """Run the stages that are not done; return the names of those left out.

    Raises:
        StageError: a stage that is not optional failed.
    """
    begun, ran, left_out = time.monotonic(), 0, []
    for number, stage in enumerate(stages, 1):
        if is_done(stage, folder, retry):
            left_out += [stage.name] if read_stamp(folder, stage.name)["status"] == "left out" else []
            continue
        say(f"[{number}/{len(stages)}] {stage.says}")
        ran, start, why, detail = ran + 1, time.monotonic(), "", ""
        (folder / f"{stage.name}.json").unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STARTED).write_text(stage.name, "utf-8")
        try:
            detail = stage.run() or ""
        except StageError as error:
            if not stage.optional:
                raise
            why = str(error)
            left_out.append(stage.name)
        seconds = round(time.monotonic() - start, 1)
        status = "left out" if why else "installed"
        stamp = {"key": stage.key, "status": status, "detail": detail, "why": why, "seconds": seconds}
        write_stamp(folder, stage.name, stamp)
        (folder / STARTED).unlink(missing_ok=True)
        say(f"        left out: {why.splitlines()[0]}" if why else f"        done, {seconds:.0f} s {detail}".rstrip())
    total = time.monotonic() - begun
    say(f"Set-up: {len(stages) - ran} of {len(stages)} stages were up to date, {ran} ran, {total:.1f} s.")
    return left_out
