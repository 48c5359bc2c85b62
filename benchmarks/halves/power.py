"""A power cut, played: what a process wrote and never had put on the disk is lost.

SIGKILL alone cannot show a missing fsync, because what a killed process wrote is still in the system's memory. So the
process keeps a ledger of what it had synced, and who killed it takes the rest away:

* a file that was not synced since it was last written is empty; one that only grows ends where it was synced;
* a name that its folder had not when the folder was last synced is gone.

A file put in the place of another under a synced name may be either after a real cut; here it is the new one.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

GROWING = ("metrics.jsonl",)
SPARED = ("log.txt", "lock")  # not meant to outlive a power cut


def keep_ledger(run: Path, ledger: Path) -> None:
    """Note from here on what this process has put on the disk; what is in the run's folder now counts as there."""
    with ledger.open("w") as file:
        for folder in (run, *(p for p in run.rglob("*") if p.is_dir())):
            file.write(_line(os.stat(folder), folder))
            for path in (p for p in folder.iterdir() if p.is_file()):
                file.write(_line(os.stat(path), path))
    handle, real = os.open(ledger, os.O_WRONLY | os.O_APPEND), os.fsync

    def synced(file: Any) -> None:
        real(file)
        number = file if isinstance(file, int) else file.fileno()
        os.write(handle, _line(os.fstat(number), Path(os.readlink(f"/proc/self/fd/{number}"))).encode())

    os.fsync = synced  # type: ignore[assignment]


def _line(found: os.stat_result, path: Path) -> str:
    if stat.S_ISDIR(found.st_mode):
        return json.dumps({"folder": found.st_ino, "names": sorted(p.name for p in path.iterdir())}) + "\n"
    return json.dumps({"file": found.st_ino, "size": found.st_size, "time": found.st_mtime_ns}) + "\n"


def cut_power(run: Path, ledger: Path) -> list[str]:
    """Take from a run's folder what its dead process had not put on the disk; return what was lost."""
    rows = [json.loads(line) for line in ledger.read_text().splitlines()]
    files = {row["file"]: row for row in rows if "file" in row}
    folders = {row["folder"]: set(row["names"]) for row in rows if "folder" in row}
    lost = _cut_names(run, folders)
    for path in (p for p in run.rglob("*") if p.is_file() and p.name not in SPARED):
        now, then = path.stat(), files.get(path.stat().st_ino)
        if then and (then["size"], then["time"]) == (now.st_size, now.st_mtime_ns):
            continue
        size = then["size"] if then and path.name in GROWING else 0
        if now.st_size > size:
            os.truncate(path, size)
            lost.append(f"{now.st_size - size} bytes of {path.relative_to(run)}")
    return lost


def _cut_names(folder: Path, folders: dict[int, set[str]]) -> list[str]:
    lost = []
    for path in sorted(folder.iterdir()):
        if path.name not in folders.get(folder.stat().st_ino, set()) and path.name not in SPARED:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            lost.append(f"the name {path.name}")
        elif path.is_dir():
            lost += _cut_names(path, folders)
    return lost
