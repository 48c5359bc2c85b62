"""Files of a run that others can trust: written whole or not at all, read while they grow, locked by who works.

Standard library only.
"""

from __future__ import annotations

import json
import os
import stat
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

TAIL = 1024  # bytes before a cursor that its checksum covers: a line of metrics ends in its timings


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


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read its bytes; a pipe, a device or a folder of that name is refused, and never waited for.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: what is there is no regular file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe would wait for who writes into it
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError(f"{path} is no regular file but a pipe, a device or a folder; remove it")
    return os.fdopen(handle, "rb")


def read_text(path: Path) -> str:
    """Return the text of a regular file; see `open_regular`."""
    with open_regular(path) as file:
        return file.read().decode("utf-8", errors="replace")


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines of a file of JSON lines, and how many bytes they take; the torn last one is left out.

    Raises:
        ValueError: a line before the last is no JSON, or it is no regular file.
    """
    try:
        with open_regular(path) as file:
            return parse_lines(file.read(), path)
    except FileNotFoundError:
        return [], 0


def parse_lines(content: bytes, path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines of some content of a file; see `read_lines`."""
    rows, taken = [], 0
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            break
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:  # brackets in brackets without end
            if number == len(lines):
                break
            raise ValueError(
                f"{path}, line {number}: expected JSON, got {line[:60]!r}; the file was damaged"
            ) from error
        taken += len(line)
    return rows, taken


class News(NamedTuple):
    """Lines of a file of JSON lines that grows, and is cut when a run is resumed.

    Args:
        rows: the lines after the cursor; all lines if `anew`.
        cursor: give it to the next call.
        anew: what came before the cursor is no longer what it was: forget it, `rows` is everything.
    """

    rows: list[dict[str, Any]]
    cursor: str
    anew: bool


def read_news(path: Path, cursor: str = "") -> News:
    """Return the whole lines written since a cursor was handed out, reading no more than those.

    The cursor is how many bytes were read, and a checksum of the last of them: a file that was cut and grew again past
    that place is read anew.

    Raises:
        ValueError: a line before the last is no JSON.
    """
    taken, check = (int(part) for part in (cursor or "0-0").split("-"))
    try:
        with open_regular(path) as file:
            before = max(0, taken - TAIL)
            file.seek(before)
            same = zlib.crc32(file.read(taken - before)) == check
            if not same:
                taken = 0
            file.seek(taken)
            content = file.read()
            rows, more = parse_lines(content, path)
            end = taken + more
            file.seek(max(0, end - TAIL))
            check = zlib.crc32(file.read(end - max(0, end - TAIL)))
    except FileNotFoundError:
        return News([], "", bool(taken))
    return News(rows, f"{end}-{check}", not same)


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
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of that name would be waited for
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
