"""Bytes of images, audio and files, kept by their sha256.

A `Part` holds only the hash. The bytes lie in the `blobs` folder of a set of rollouts; those that a reader found inside
another tool's file are kept in memory until they are written with the rollouts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from workbench.store.manifest import write_atomically
from workbench.trajectory import Trajectory

_IN_MEMORY: dict[str, bytes] = {}
_FOLDERS: dict[Path, None] = {}


def keep(data: bytes) -> str:
    """Keep bytes in memory and return their sha256, 64 hex digits."""
    name = hashlib.sha256(data).hexdigest()
    _IN_MEMORY[name] = data
    return name


def look_in(folder: str | Path) -> None:
    """Let `get` look into the `blobs` of a folder of rollouts."""
    _FOLDERS[Path(folder).resolve() / "blobs"] = None


def get(sha256: str) -> bytes:
    """Return the bytes of a part by their hash.

    Raises:
        KeyError: they are in no folder that was read or written, nor in memory.
        ValueError: the file in the folder has other bytes than its name says.
    """
    if sha256 in _IN_MEMORY:
        return _IN_MEMORY[sha256]
    for folder in _FOLDERS:
        file = folder / sha256
        if file.is_file():
            data = file.read_bytes()
            if hashlib.sha256(data).hexdigest() != sha256:
                raise ValueError(f"{file}: the bytes have another hash than the name; the file is damaged")
            return data
    raise KeyError(f"no bytes with sha256 {sha256}; read the folder of rollouts they belong to")


def there(sha256: str) -> bool:
    """True if the bytes are in memory or in a folder that was read or written."""
    return sha256 in _IN_MEMORY or any((folder / sha256).is_file() for folder in _FOLDERS)


def put(folder: str | Path, data: bytes) -> str:
    """Write bytes into a folder of rollouts and return their sha256."""
    name = hashlib.sha256(data).hexdigest()
    blobs = Path(folder) / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    if not (blobs / name).exists():
        write_atomically(blobs / name, data)
    return name


def named_by(trajectories: Iterable[Trajectory]) -> Iterator[str]:
    """Yield the hashes that the messages of trajectories name, each once."""
    parts = (part for t in trajectories for message in t.messages for part in message.parts)
    yield from dict.fromkeys(part.sha256 for part in parts if part.sha256)


def copy_into(folder: str | Path, trajectories: Iterable[Trajectory]) -> None:
    """Write the bytes that trajectories name into a folder, as far as they are at hand."""
    for name in named_by(trajectories):
        if there(name):
            put(folder, get(name))
