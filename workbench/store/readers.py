"""Open any file of rollouts this package knows: recognise it, read it, say what was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from workbench.rollouts import Rollouts
from workbench.store import blobs, evidence
from workbench.store.chat import not_chat, scan_chat
from workbench.store.folder import is_folder, scan_numbered, shards
from workbench.store.foreign import Fields, Found
from workbench.store.lineage import without_misfits
from workbench.store.manifest import read_manifest
from workbench.store.migrate import migration
from workbench.store.report import OnProblem, Problem, Report, raise_problem
from workbench.store.shards import holds_trajectories, read_lines, read_parquet
from workbench.store.trl import not_trl, scan_trl
from workbench.trajectory import Trajectory


class Format(NamedTuple):
    """One kind of file.

    Args:
        name: for messages.
        refuse: says why a path is not of this kind; None if it is.
        scan: yields what it holds.
    """

    name: str
    refuse: Callable[[Path], str | None]
    scan: Callable[[Path, Fields, OnProblem], Iterator[Found]]


def _not_folder(path: Path) -> str | None:
    if is_folder(path):
        return None
    return "no manifest.json and no trajectories*.jsonl in it" if path.is_dir() else "not a folder"


def _scan_folder(path: Path, fields: Fields, on_problem: OnProblem) -> Iterator[Found]:
    for file, line, trajectory in scan_numbered(path, on_problem=on_problem):
        yield Found(file, line, trajectory)


def _not_shard(path: Path) -> str | None:
    if not path.is_file() or not path.name.startswith("trajectories") or path.suffix not in (".jsonl", ".parquet"):
        return "not a file named trajectories*.jsonl or trajectories*.parquet"
    return None if holds_trajectories(path) else "its records are not those of such a file"


def _scan_shard(path: Path, fields: Fields, on_problem: OnProblem) -> Iterator[Found]:
    read = read_lines if path.suffix == ".jsonl" else read_parquet
    for line, trajectory in read(path, None, migration(read_manifest(path.parent).schema), on_problem):
        yield Found(path.name, line, trajectory)


FORMATS: tuple[Format, ...] = (
    Format("a folder of the workbench", _not_folder, _scan_folder),
    Format("one file of such a folder", _not_shard, _scan_shard),
    Format("TRL completions (Parquet)", not_trl, scan_trl),
    Format("chat JSON lines", not_chat, scan_chat),
)


def recognise(path: str | Path) -> Format:
    """Return the format of a path.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is nothing we know; says what was tried and what was found.
    """
    p = Path(path)
    if not p.exists():
        raise FileNotFoundError(f"{p}: nothing is there")
    tried = []
    for known in FORMATS:
        why_not = known.refuse(p)
        if why_not is None:
            return known
        tried.append(f"  {known.name}: {why_not}")
    inside = f"a folder with {sorted(c.name for c in p.iterdir())[:8]}" if p.is_dir() else _look(p)
    raise ValueError("\n".join([f"{p}: not a file of rollouts that can be read; it is {inside}. Tried:", *tried]))


def _look(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(60)
    return f"a file of {path.stat().st_size} bytes that starts with {start!r}"


def read(path: str | Path, *, strict: bool = False, fields: Mapping[str, str] | None = None) -> Rollouts:
    """Open rollouts: our own folder, chat JSON lines, or TRL's completions tables.

    Records that cannot be read are left out and named in `notes`, with file, line and id; what the format does not hold
    is named there too. What has no place here is kept in `extra`.

    Args:
        path: file or folder.
        strict: raise the first problem instead (a torn last line, which no writer finished, is a note all the same).
        fields: which of another tool's fields mean what, e.g. {"group": "question_id", "outcome": "info.score"}.

    Returns:
        the rollouts, with their columns of evidence if they have some.

    Raises:
        ValueError: nothing we know; `RecordError`, which is one, if `strict` and a record cannot be read.

    Example:
        >>> import json, tempfile
        >>> file = Path(tempfile.mkdtemp()) / "chats.jsonl"
        >>> said = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
        >>> _ = file.write_text((json.dumps({"messages": said, "reward": 1.0, "uid": "q1"}) + "\\n") * 2)
        >>> rollouts = read(file)
        >>> rollouts["chats/1"].outcome, rollouts.notes
        (1.0, ('no token ids: token credit and training unavailable',))
    """
    return read_with_report(path, strict=strict, fields=fields)[0]


def read_report(path: str | Path, *, fields: Mapping[str, str] | None = None) -> Report:
    """Return what a reader finds in a path: how many good records, every problem, what was lost."""
    return read_with_report(path, fields=fields)[1]


def read_with_report(
    path: str | Path, *, strict: bool = False, fields: Mapping[str, str] | None = None
) -> tuple[Rollouts, Report]:
    """Return the rollouts of a path and the report of reading them; see `read`."""
    p = Path(path)
    known = recognise(p)
    problems: list[Problem] = []
    tell = _tell(problems, strict)
    trajectories, lost = _collect(known.scan(p, Fields().with_names(fields or {}), tell), tell)
    trajectories = without_misfits(trajectories, tell)
    rollouts = Rollouts(trajectories)
    if known.scan is _scan_folder:
        rollouts = _with_folder(p, rollouts, tell)
    report = Report(str(p), known.name, len(trajectories), tuple(problems), (*rollouts.notes, *lost))
    return Rollouts(trajectories, rollouts.columns, rollouts.units, report.notes), report


def _tell(problems: list[Problem], strict: bool) -> OnProblem:
    def tell(problem: Problem) -> None:
        if strict and not problem.torn:
            raise_problem(problem)
        problems.append(problem)

    return tell


def _collect(found: Iterable[Found], tell: OnProblem) -> tuple[tuple[Trajectory, ...], tuple[str, ...]]:
    """Trajectories with distinct ids, and one note a kind of loss."""
    first: dict[str, Found] = {}
    losses: dict[str, list[Found]] = {}
    for item in found:
        before = first.get(item.trajectory.id)
        if before is None:
            first[item.trajectory.id] = item
            for loss in item.losses:
                losses.setdefault(loss, []).append(item)
            continue
        problem = (
            f"the id is used twice, first at {before.file}, line {before.line}; if it names the task, give "
            "fields={'group': ..., 'id': ...} with the names of your fields"
        )
        tell(Problem(item.file, item.line, item.trajectory.id, problem))
    notes = tuple(_loss_note(what, where, len(first)) for what, where in losses.items())
    return tuple(f.trajectory for f in first.values()), notes


def _loss_note(what: str, where: list[Found], of: int) -> str:
    """Say what was lost; of how many and where first, if it was not lost everywhere."""
    if len(where) == of > 1:
        return what
    place = f"trajectory {where[0].trajectory.id!r}, {where[0].file}, line {where[0].line}"
    return f"{what} ({place})" if len(where) == 1 else f"{what} (in {len(where)} of {of} trajectories, first {place})"


def _with_folder(path: Path, rollouts: Rollouts, tell: OnProblem) -> Rollouts:
    """Add columns, units and notes of a folder; say where its manifest and its files disagree."""
    manifest = read_manifest(path)
    blobs.look_in(path)
    notes = manifest.notes
    if not (path / "manifest.json").exists():
        notes += ("the folder has no manifest.json (its writer was stopped before the end)",)
    for name in sorted(manifest.shards.keys() - {p.name for p in shards(path)}):
        tell(Problem(name, None, None, "named in the manifest, but not there"))
    if not (evidence.column_names(path) or evidence.unit_names(path)):
        return rollouts.with_notes(*notes)
    columns, units = evidence.read_all(path, rollouts.batch(), tell)
    return Rollouts(rollouts.trajectories, columns, units, notes)
