"""What a folder of rollouts says of itself, and files that are written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from workbench.store.encode import SCHEMA
from workbench.store.migrate import migration
from workbench.trajectory import RecordError

FORMAT = "workbench.rollouts"


def writer_name() -> str:
    """Return name and version of this package, as a manifest names its writer."""
    try:
        return f"credit-workbench {metadata.version('credit-workbench')}"
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "credit-workbench"


@dataclass(frozen=True)
class Manifest:
    """What a folder says of itself.

    Args:
        schema: version of the records in it.
        writer: what wrote it.
        shards: trajectories per file.
        counts: "trajectories", "turns", "sampled_tokens".
        notes: what was lost when the rollouts were made or imported.
        extra: fields this version does not know; kept.
    """

    schema: int = SCHEMA
    writer: str = ""
    shards: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


_MANIFEST = ("format", "schema", "writer", "shards", "counts", "notes")


def read_manifest(path: str | Path) -> Manifest:
    """Return the manifest of a folder; an empty one if it has none (its writer was stopped before the end).

    Raises:
        RecordError: the file is not a manifest, or of a newer version.
    """
    file = Path(path) / "manifest.json"
    if not file.exists():
        return Manifest()
    try:
        record = json.loads(file.read_bytes())
    except ValueError as error:
        raise RecordError(f"{file}: not JSON: {error}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT or type(record.get("schema")) is not int:
        raise RecordError(f"{file}: expected format {FORMAT!r} and an integer schema version, got {str(record)[:80]}")
    try:
        migration(record["schema"])
    except ValueError as error:
        raise RecordError(f"{file}: {error}") from None
    known = {"shards": {}, "counts": {}, "notes": (), "writer": "", **record}
    extra = {name: value for name, value in record.items() if name not in _MANIFEST}
    return Manifest(
        record["schema"], known["writer"], dict(known["shards"]), dict(known["counts"]), tuple(known["notes"]), extra
    )


def write_manifest(path: str | Path, manifest: Manifest) -> None:
    """Write the manifest: whole or not at all."""
    m = manifest
    record = {"format": FORMAT, "schema": m.schema, "writer": m.writer, "shards": dict(m.shards)}
    record |= {"counts": dict(m.counts), "notes": list(m.notes), **m.extra}
    write_atomically(Path(path) / "manifest.json", json.dumps(record, indent=1).encode() + b"\n")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a reader sees the old one or the new one."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
