"""A payload as bytes: JSON, then its arrays as they lie in memory; the browser reads both without a copy."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

import numpy as np

DTYPES = frozenset({"int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"})
ALIGN = 8


def pack(payload: dict[str, Any]) -> bytes:
    """Return a payload as bytes, little-endian.

    Layout: uint32 length of the JSON, the JSON `{"payload", "arrays"}`, then from the next multiple of 8 on the arrays,
    each at a multiple of 8 after that. In `payload` an array is null; `arrays` says where it belongs (`path`) and what
    it is (`dtype`, `shape`, `offset`).

    Args:
        payload: JSON-able, with numpy arrays where there are many numbers. NaN may stand in arrays only.

    Raises:
        TypeError: an array of a dtype a browser has no array for; cast it (int64 to int32, bool to uint8).
        ValueError: NaN or an infinity outside of an array.

    Example:
        >>> len(pack({"values": np.zeros(3, np.float32)})) % ALIGN
        4
    """
    arrays: list[tuple[list[Any], np.ndarray]] = []
    bare = _without_arrays(payload, [], arrays)
    entries, chunks, at = [], [], 0
    for path, array in arrays:
        entries.append({"path": path, "dtype": array.dtype.name, "shape": list(array.shape), "offset": at})
        chunk = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        chunks.append(chunk + b"\0" * (-len(chunk) % ALIGN))
        at += len(chunks[-1])
    head = _encoded({"payload": bare, "arrays": entries})
    gap = b"\0" * (-(4 + len(head)) % ALIGN)
    body = b"".join(chunks)
    tail = len(arrays[-1][1].tobytes()) if arrays else 0
    body = body[: len(body) - len(chunks[-1]) + tail] if arrays else body
    return struct.pack("<I", len(head)) + head + gap + body


def _encoded(data: Any) -> bytes:
    try:
        return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # halves of surrogate pairs: only escapes can carry them
        return json.dumps(data, allow_nan=False, separators=(",", ":")).encode()


def _without_arrays(value: Any, path: list[Any], found: list[tuple[list[Any], np.ndarray]]) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.name not in DTYPES:
            where = ".".join(map(str, path))
            raise TypeError(f"{where}: expected one of {sorted(DTYPES)}, got {value.dtype}; cast it with .astype(...)")
        found.append((path, value))
        return None
    if isinstance(value, dict):
        return {key: _without_arrays(item, [*path, key], found) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(item, [*path, i], found) for i, item in enumerate(value)]
    return value


def zipped(packed: bytes) -> str:
    """Return packed bytes as text for a page: zlib, then base64."""
    return base64.b64encode(zlib.compress(packed, 6)).decode()
