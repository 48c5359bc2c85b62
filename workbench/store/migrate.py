"""Records of older schema versions, step by step to the current one.

Each function takes a record of its version and returns one of the next; it changes nothing in what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from workbench.store.encode import SCHEMA

Record = dict[str, Any]


def _from_0(record: Record) -> Record:
    """Version 0, a draft: spans were objects, the outcome was called `reward`, a message's text stood in `text`."""
    out = {name: value for name, value in record.items() if name not in ("reward", "prompt", "turns", "sequences")}
    out["outcome"] = record.get("reward")
    out["prompt"] = [_message_from_0(m) for m in record.get("prompt") or []]
    out["turns"] = [
        {
            **turn,
            "action": _message_from_0(turn["action"]),
            "observations": [_message_from_0(m) for m in turn.get("observations") or []],
        }
        for turn in record.get("turns") or []
    ]
    out["sequences"] = [
        {**s, "spans": [[span.get(name) for name in _SPAN] for span in s["spans"]]}
        for s in record.get("sequences") or []
    ]
    return out


_SPAN = ("origin", "turn", "message", "ids", "logprobs", "pieces")


def _message_from_0(message: Record) -> Record:
    out = {name: value for name, value in message.items() if name != "text"}
    return {**out, "content": message.get("text")}


MIGRATIONS: Mapping[int, Callable[[Record], Record]] = MappingProxyType({0: _from_0})
"""Version -> what makes a record of the next version of one of this."""


def migration(version: int) -> Callable[[Record], Record] | None:
    """Return the function from records of a version to the current one; None if there is nothing to do.

    Raises:
        ValueError: the version is newer than this package, or older than its first migration.
    """
    if version == SCHEMA:
        return None
    if version > SCHEMA:
        raise ValueError(f"schema version {version} is newer than this package, which reads up to {SCHEMA}; update it")
    missing = [v for v in range(version, SCHEMA) if v not in MIGRATIONS]
    if missing:
        raise ValueError(f"no migration from schema version {missing[0]}; the oldest is {min(MIGRATIONS)}")

    def migrate(record: Record) -> Record:
        for step in range(version, SCHEMA):
            record = MIGRATIONS[step](record)
        return record

    return migrate
