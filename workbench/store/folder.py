"""A set of rollouts as a folder: trajectories, evidence beside them, bytes by their hash.

    manifest.json           format, schema version, writer, shards and counts, notes
    trajectories*.jsonl     one trajectory a line, append-only     (or trajectories*.parquet)
    evidence/*.parquet      one column each, keyed by (trajectory, unit index); see `workbench.store.evidence`
    units/*.parquet         one unit map each
    blobs/<sha256>          bytes of images, audio and files

One process writes a folder at a time; any number may read it meanwhile. This module needs neither torch nor pyarrow
(pyarrow only for Parquet shards).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Literal

from workbench.store.encode import SCHEMA, Head
from workbench.store.manifest import Manifest, read_manifest, write_manifest, writer_name
from workbench.store.migrate import migration
from workbench.store.report import OnProblem, raise_problem
from workbench.store.shards import (
    LinesWriter,
    Migrate,
    ParquetWriter,
    Where,
    holds_trajectories,
    read_line_heads,
    read_lines,
    read_parquet,
    read_parquet_heads,
)
from workbench.trajectory import RecordError, Trajectory

ShardFormat = Literal["jsonl", "parquet"]


def is_folder(path: str | Path) -> bool:
    """True if a path is a folder of this format, with or without its manifest."""
    p = Path(path)
    return p.is_dir() and ((p / "manifest.json").exists() or any(holds_trajectories(s) for s in shards(p)))


def shards(path: str | Path) -> list[Path]:
    """Return the files of trajectories, in the order they were written."""
    found = [p for p in Path(path).glob("trajectories*") if p.suffix in (".jsonl", ".parquet")]
    return sorted(found, key=lambda p: p.stem)


# ----------------------------------------------------------------------------------------------------- writing


class Writer:
    """Appends trajectories to a folder, one by one, in bounded memory (the ids are kept, to refuse a second use).

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "rollouts"
        >>> with Writer(folder) as writer:
        ...     writer.add(Trajectory("run/0/task/0", "task"))
        >>> [t.id for t in scan(folder)]
        ['run/0/task/0']
    """

    def __init__(self, path: str | Path, format: ShardFormat = "jsonl", notes: Iterable[str] = ()):
        if format not in ("jsonl", "parquet"):
            raise ValueError(f"expected format 'jsonl' or 'parquet', got {format!r}")
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._manifest = read_manifest(self.path)
        if self._manifest.schema != SCHEMA:
            problem = f"{self.path}: schema version {self._manifest.schema}; write it anew before appending to it"
            raise RecordError(problem)
        self._notes = tuple(dict.fromkeys((*self._manifest.notes, *notes)))
        self._ids = {head.id for head in heads(self.path, on_problem=lambda problem: None)}
        self._counts = {"trajectories": 0, "turns": 0, "sampled_tokens": 0, **self._manifest.counts}
        self._added = 0
        self._shard = LinesWriter(self._lines_file()) if format == "jsonl" else ParquetWriter(self._next(".parquet"))

    def _lines_file(self) -> Path:
        """The last shard if it takes lines, else the next."""
        there = shards(self.path)
        return there[-1] if there and there[-1].suffix == ".jsonl" else self._next(".jsonl")

    def _next(self, suffix: str) -> Path:
        taken = {p.stem for p in shards(self.path)}
        name = next(n for n in (f"trajectories-{i:05d}" for i in count()) if n not in taken)
        return self.path / (name + suffix)

    def add(self, trajectory: Trajectory) -> None:
        """Write one trajectory.

        Raises:
            RecordError: its id is already there, or something in it is no JSON value. Nothing of it is written then.
        """
        if trajectory.id in self._ids:
            raise RecordError("the id is already in this folder", trajectory=trajectory.id, field="id")
        self._shard.add(trajectory)
        self._ids.add(trajectory.id)
        self._added += 1
        self._counts["trajectories"] += 1
        self._counts["turns"] += len(trajectory.turns)
        self._counts["sampled_tokens"] += sum(
            len(span.ids) for s in trajectory.sequences for span in s.spans if span.origin == "sampled"
        )

    def close(self) -> None:
        """Finish the shard, then the manifest."""
        self._shard.close()
        m, name = self._manifest, self._shard.file
        counted = {**m.shards, name: m.shards.get(name, 0) + self._added}
        write_manifest(self.path, Manifest(SCHEMA, writer_name(), counted, self._counts, self._notes, m.extra))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def append(path: str | Path, trajectories: Iterable[Trajectory], format: ShardFormat | None = None) -> int:
    """Append trajectories to a folder (made if it is not there) and return how many.

    Args:
        path: the folder.
        trajectories: any iterable; one is held at a time.
        format: "jsonl" or "parquet"; by default what the last shard is, "jsonl" for a new folder.

    Raises:
        RecordError: an id is already there, or something is no JSON value; what came before it is written.
    """
    there = shards(path) if Path(path).is_dir() else []
    chosen: ShardFormat = format or ("parquet" if there and there[-1].suffix == ".parquet" else "jsonl")
    written = 0
    with Writer(path, chosen) as writer:
        for trajectory in trajectories:
            writer.add(trajectory)
            written += 1
    return written


def write_trajectories(
    path: str | Path,
    trajectories: Iterable[Trajectory],
    *,
    format: ShardFormat = "jsonl",
    notes: Iterable[str] = (),
    overwrite: bool = False,
) -> Path:
    """Write trajectories as a new folder, whole or not at all; see `workbench.store.write` for rollouts.

    Raises:
        FileExistsError: the folder is there and `overwrite` is False, or it is no folder of this format.
    """
    with new_folder(path, overwrite=overwrite) as part, Writer(part, format, notes) as writer:
        for trajectory in trajectories:
            writer.add(trajectory)
    return Path(path)


class new_folder:
    """Build a folder under a name of its own and give it its name when it is complete.

    Args:
        path: where it shall be.
        overwrite: replace a folder of this format that is there.

    Raises:
        FileExistsError: something is there that may not be replaced.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False):
        self._path = Path(path)
        self._part = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        taken = self._path.exists() and not (self._path.is_dir() and not any(self._path.iterdir()))
        if taken and not overwrite:
            raise FileExistsError(f"{self._path} is there; append to it, choose another path or give overwrite=True")
        if taken and not is_folder(self._path):
            raise FileExistsError(f"{self._path} is no folder of rollouts; it is not replaced")

    def __enter__(self) -> Path:
        shutil.rmtree(self._part, ignore_errors=True)
        self._part.mkdir(parents=True)
        return self._part

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            shutil.rmtree(self._part, ignore_errors=True)
            return
        if self._path.exists():
            old = self._path.with_name(f"{self._path.name}.{os.getpid()}.old")
            self._path.replace(old)
            self._part.replace(self._path)
            shutil.rmtree(old)
        else:
            self._part.replace(self._path)


# ----------------------------------------------------------------------------------------------------- reading


def scan(
    path: str | Path, where: Where | None = None, *, on_problem: OnProblem = raise_problem
) -> Iterator[Trajectory]:
    """Yield the trajectories of a folder one by one, in bounded memory.

    Args:
        path: the folder.
        where: takes a `Head` (id, group, outcome, rewards, truncated, stop_reason, parent) and says if the trajectory
            is wanted; the others are not parsed any further.
        on_problem: what to do with a record that cannot be read; by default it is raised.

    Raises:
        RecordError: a record that cannot be read, if `on_problem` raises it.

    Example:
        >>> import tempfile
        >>> folder = write_trajectories(tempfile.mkdtemp(), [Trajectory("a", "g", outcome=1.0), Trajectory("b", "g")])
        >>> [t.id for t in scan(folder, lambda head: head.outcome == 1.0)]
        ['a']
    """
    for _, _, trajectory in scan_numbered(path, where, on_problem=on_problem):
        yield trajectory


def scan_numbered(
    path: str | Path, where: Where | None = None, *, on_problem: OnProblem = raise_problem
) -> Iterator[tuple[str, int, Trajectory]]:
    """Yield (file, line, trajectory); see `scan`."""
    migrate = _migrate(path)
    for shard in shards(path):
        read = read_lines if shard.suffix == ".jsonl" else read_parquet
        for line, trajectory in read(shard, where, migrate, on_problem):
            yield shard.name, line, trajectory


def heads(path: str | Path, *, on_problem: OnProblem = raise_problem) -> Iterator[Head]:
    """Yield the heads of all trajectories of a folder; messages and tokens are not parsed."""
    migrate = _migrate(path)
    for shard in shards(path):
        if shard.suffix == ".jsonl":
            yield from read_line_heads(shard, migrate, on_problem)
        else:
            yield from read_parquet_heads(shard, on_problem)


def _migrate(path: str | Path) -> Migrate | None:
    return migration(read_manifest(path).schema)
