"""The two kinds of file trajectories are kept in: JSON lines (append-only) and Parquet (columns for the head)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from workbench.store.decode import from_record, head_from_line, head_from_record, loads
from workbench.store.encode import Head, body_of, dumps, head_of, to_line
from workbench.store.report import OnProblem, Problem, problem_of
from workbench.trajectory import RecordError, Trajectory

Where = Callable[[Head], bool]
Migrate = Callable[[dict[str, Any]], dict[str, Any]]

_GROUP_ROWS = 4096  # rows of one Parquet row group, at most
_GROUP_BYTES = 4 << 20  # and about so many bytes of JSON: what writing and reading hold in memory at once


class ShardWriter(Protocol):
    """Takes trajectories one by one; nothing is promised to be on disk before `close`."""

    file: str

    def add(self, trajectory: Trajectory) -> None:
        """Write one trajectory."""

    def close(self) -> None:
        """Finish the file; flushed to the disk when this returns."""


def holds_trajectories(path: Path) -> bool:
    """True unless the first readable record of a file shows that another tool wrote it."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return {"id", "group", "body"} <= set(pq.read_schema(path).names)
        except (pa.ArrowInvalid, OSError):
            return True  # broken: reading it says so
    with path.open("rb") as file:
        for line in islice(file, 20):
            try:
                record = loads(line)
            except RecordError:
                continue
            return {"id", "group"} <= record.keys() and "messages" not in record
    return True


# -------------------------------------------------------------------------------------------------- JSON lines


class LinesWriter:
    """Appends lines to a file; a torn last line is closed first, so that it stays one bad line and spoils no other."""

    def __init__(self, path: Path):
        self.file = path.name
        torn = path.exists() and path.stat().st_size > 0 and _last_byte(path) != b"\n"
        self._out = path.open("ab")
        if torn:
            self._out.write(b"\n")

    def add(self, trajectory: Trajectory) -> None:
        """Write one line."""
        self._out.write(to_line(trajectory).encode("utf-8") + b"\n")

    def close(self) -> None:
        """Flush to the disk."""
        self._out.flush()
        os.fsync(self._out.fileno())
        self._out.close()


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


def read_lines(
    path: Path, where: Where | None, migrate: Migrate | None, on_problem: OnProblem
) -> Iterator[tuple[int, Trajectory]]:
    """Yield (line, trajectory) of a file of JSON lines; what cannot be read goes to `on_problem`."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                whole = line.endswith(b"\n")  # the head of a torn line may be whole: read it all
                if where is not None and migrate is None and whole and not where(head_from_line(line)):
                    continue
                record = loads(line)
                trajectory = from_record(record if migrate is None else _migrated(record, migrate))
            except RecordError as error:
                on_problem(_line_problem(error, path.name, number, line))
                continue
            if where is None or (migrate is None and whole) or where(head_of_trajectory(trajectory)):
                yield number, trajectory


def read_line_heads(path: Path, migrate: Migrate | None, on_problem: OnProblem) -> Iterator[Head]:
    """Yield the heads of a file of JSON lines."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                if migrate is None:
                    if not line.endswith(b"\n"):
                        loads(line)  # the head of a torn line may be whole
                    yield head_from_line(line)
                else:
                    yield head_from_record(_migrated(loads(line), migrate))
            except RecordError as error:
                on_problem(_line_problem(error, path.name, number, line))


def _migrated(record: dict[str, Any], migrate: Migrate) -> dict[str, Any]:
    try:
        return migrate(record)
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"cannot be brought to the current schema version: {error!r}") from None


def _line_problem(error: RecordError, file: str, number: int, line: bytes) -> Problem:
    """A line without its line break that is not JSON was never finished: that is no error of its writer."""
    if not line.endswith(b"\n") and error.problem.startswith("not JSON"):
        return Problem(file, number, None, "the last line is torn (its writer was stopped); skipped", torn=True)
    return problem_of(error, file, number)


def head_of_trajectory(t: Trajectory) -> Head:
    """Return the head of a trajectory."""
    return Head(t.id, t.group, t.outcome, t.rewards, t.truncated, t.stop_reason, t.parent)


# ----------------------------------------------------------------------------------------------------- Parquet


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("id", pa.string()),
            ("group", pa.string()),
            ("outcome", pa.float64()),
            ("rewards", pa.string()),
            ("truncated", pa.bool_()),
            ("stop_reason", pa.string()),
            ("parent", pa.string()),
            ("parent_turn", pa.int64()),
            ("body", pa.large_string()),
        ]
    )


_REPEATED = ["group", "stop_reason", "rewards", "parent"]
_HEAD_SCALARS = ["outcome", "truncated", "parent_turn"]


class ParquetWriter:
    """Writes one Parquet file; it gets its name when it is complete, so that a reader never sees half of one."""

    def __init__(self, path: Path):
        import pyarrow.parquet as pq

        self.file = path.name
        self._path, self._part = path, path.with_name(path.name + ".part")
        options = {"use_dictionary": _REPEATED, "write_statistics": _HEAD_SCALARS}  # none for bodies: they are large
        self._out = pq.ParquetWriter(self._part, _schema(), compression="zstd", **options)
        self._rows: list[tuple[Any, ...]] = []
        self._bytes = 0

    def add(self, trajectory: Trajectory) -> None:
        """Add one row."""
        head = head_of(trajectory)
        parent, parent_turn = head["parent"] or (None, None)
        body = dumps(body_of(trajectory), trajectory.id)
        rewards = dumps(head["rewards"], trajectory.id)
        outcome = None if head["outcome"] is None else float(head["outcome"])
        columns = (head["id"], head["group"], outcome, rewards, head["truncated"], head["stop_reason"])
        self._rows.append((*columns, parent, parent_turn, body))
        self._bytes += len(body)
        if len(self._rows) >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            arrays = [pa.array(c, f.type) for c, f in zip(zip(*self._rows, strict=True), _schema(), strict=True)]
            self._out.write_table(pa.Table.from_arrays(arrays, schema=_schema()))
        self._rows, self._bytes = [], 0

    def close(self) -> None:
        """Write the footer, flush to the disk and give the file its name."""
        self._flush()
        self._out.close()
        with self._part.open("rb") as file:
            os.fsync(file.fileno())
        self._part.replace(self._path)


def _parquet_rows(
    path: Path, columns: Iterable[str], on_problem: OnProblem
) -> Iterator[tuple[int, dict[str, list[Any]]]]:
    """Yield (first row, columns) a row group at a time; a group is small (`_GROUP_BYTES`), so is the memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = 0
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=list(columns), use_threads=False)
                yield first, table.to_pydict()
                first += table.num_rows
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        problem = f"not a whole Parquet file of trajectories: {error}"
        on_problem(Problem(path.name, first + 1 if first else None, None, problem))


_HEAD_COLUMNS = ("id", "group", "outcome", "rewards", "truncated", "stop_reason", "parent", "parent_turn")


def _head_at(columns: dict[str, list[Any]], i: int) -> Head:
    row = {name: columns[name][i] for name in _HEAD_COLUMNS}
    turn, text = row.pop("parent_turn"), row["rewards"]
    row["rewards"] = json.loads(text) if text else {}
    row["parent"] = None if row["parent"] is None else [row["parent"], turn]
    return head_from_record(row)


def read_parquet_heads(path: Path, on_problem: OnProblem) -> Iterator[Head]:
    """Yield the heads of a Parquet file; the bodies are not read."""
    for first, columns in _parquet_rows(path, _HEAD_COLUMNS, on_problem):
        for i in range(len(columns["id"])):
            try:
                yield _head_at(columns, i)
            except RecordError as error:
                on_problem(problem_of(error, path.name, first + i + 1))


def read_parquet(
    path: Path, where: Where | None, migrate: Migrate | None, on_problem: OnProblem
) -> Iterator[tuple[int, Trajectory]]:
    """Yield (row, trajectory) of a Parquet file; bodies that `where` turns down are not parsed."""
    for first, columns in _parquet_rows(path, (*_HEAD_COLUMNS, "body"), on_problem):
        for i, body in enumerate(columns["body"]):
            try:
                head = _head_at(columns, i)
                if where is not None and not where(head):
                    continue
                record = {**head._asdict(), **loads(body)}
                record["parent"] = None if head.parent is None else list(head.parent)
                yield first + i + 1, from_record(record if migrate is None else _migrated(record, migrate))
            except RecordError as error:
                on_problem(problem_of(error, path.name, first + i + 1))
