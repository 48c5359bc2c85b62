"""Rollouts to a folder: trajectories, columns, units and bytes together."""

from __future__ import annotations

from pathlib import Path

from workbench.rollouts import Rollouts
from workbench.store import blobs, evidence
from workbench.store.folder import ShardFormat, Writer, new_folder


def write(path: str | Path, rollouts: Rollouts, *, format: ShardFormat = "jsonl", overwrite: bool = False) -> Path:
    """Write rollouts as a new folder, whole or not at all.

    Args:
        path: the folder.
        rollouts: trajectories, columns, units and notes.
        format: "jsonl" can be appended to and read by anything; "parquet" is smaller.
        overwrite: replace a folder of rollouts that is there.

    Returns:
        the path.

    Raises:
        FileExistsError: something is there that may not be replaced.
        RecordError: something in a trajectory is no JSON value.

    Example:
        >>> import tempfile
        >>> from workbench.store import read
        >>> from workbench.trajectory import Trajectory
        >>> rollouts = Rollouts((Trajectory("a", "g"),)).with_column("judge", "trajectory", [0.5])
        >>> read(write(Path(tempfile.mkdtemp()) / "r", rollouts)).columns["judge"].values.tolist()
        [0.5]
    """
    missing = [name for name in blobs.named_by(rollouts) if not blobs.there(name)]
    lost = (f"the bytes of {len(missing)} images or files were not at hand and are not in `blobs`",) if missing else ()
    with new_folder(path, overwrite=overwrite) as part:
        with Writer(part, format, (*rollouts.notes, *lost)) as writer:
            for trajectory in rollouts:
                writer.add(trajectory)
        batch = rollouts.batch() if rollouts.columns or rollouts.units else None
        if batch is not None:
            for name, unit in rollouts.units.items():
                evidence.write_unit(part, name, unit, batch)
            for name, column in rollouts.columns.items():
                evidence.write_column(part, name, column, batch)
        blobs.copy_into(part, rollouts)
    blobs.look_in(path)
    return Path(path)


def write_column(path: str | Path, rollouts: Rollouts, *names: str, replace: bool = False) -> None:
    """Write columns of rollouts beside the trajectories of a folder, which are not touched.

    Values the folder holds for other trajectories are kept.

    Args:
        path: the folder.
        rollouts: trajectories of that folder, or some of them.
        names: of columns; by default all.
        replace: forget what the folder held under these names.

    Raises:
        ValueError: no such column, or the folder's is of another kind or origin and `replace` is False.
    """
    unknown = sorted(set(names) - set(rollouts.columns))
    if unknown:
        raise ValueError(f"no column {unknown}; the rollouts have {sorted(rollouts.columns)}")
    batch = rollouts.batch()
    for name in names or rollouts.columns:
        column = rollouts.columns[name]
        if column.level in rollouts.units:
            evidence.write_unit(path, column.level, rollouts.units[column.level], batch)
        evidence.write_column(path, name, column, batch, replace=replace)
