"""Results of evidence kept by content: equal provider, parameters, model and trajectories mean the kept result."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.evidence.base import Evidence, Reads, Record, Values
from workbench.trajectory import Group, Message, Trajectory


def content(trajectory: Trajectory, reads: Sequence[Reads]) -> dict[str, Any]:
    """Return the parts of a trajectory a provider reads, as plain JSON. Ids are not content.

    Args:
        trajectory: whose content.
        reads: "messages" (text, calls, who spoke), "tokens" (ids and origins), "gold", "results" (outcome and rewards),
            "states" (state keys), "extra" (what was recorded beside each turn).
    """
    t = trajectory
    parts: dict[str, Callable[[], Any]] = {
        "messages": lambda: [[_message(m) for m in t.prompt], [[_message(m) for m in u.messages] for u in t.turns]],
        "tokens": lambda: [
            [s.prefix and s.prefix[1:], [[span.origin, span.turn, span.ids] for span in s.spans]] for s in t.sequences
        ],
        "gold": lambda: dict(t.gold),
        "results": lambda: [t.outcome, dict(t.rewards), [[u.reward, dict(u.rewards)] for u in t.turns]],
        "states": lambda: [u.state_key for u in t.turns],
        "extra": lambda: [dict(u.extra) for u in t.turns],
    }
    return {name: parts[name]() for name in reads}


def _message(message: Message) -> list[Any]:
    calls = [[c.name, c.raw, None if c.arguments is None else dict(c.arguments), c.error] for c in message.calls]
    return [message.role, message.author, [[p.kind, p.text, p.sha256] for p in message.parts], calls]


def key(provider: Evidence, group: Group) -> str:
    """Hash what can change the result: provider, parameters, memory, model, content of the group."""
    own = {t.id: number for number, t in enumerate(group.trajectories)}
    told = {
        "provider": provider.name,
        "parameters": dict(provider.parameters),
        "model": provider.model,
        "state": dict(provider.state()),
        "columns": dict(provider.provides),
        "group": [
            [t.parent and [own.get(t.parent[0], t.parent[0]), t.parent[1]], content(t, provider.reads)] for t in group
        ],
    }
    return digest(told)


def digest(told: Any) -> str:
    """Hash plain JSON (mappings of any kind in it).

    Raises:
        TypeError: there is something else in it, whose text may hold a memory address.
    """
    text = json.dumps(told, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Make a JSON value of a mapping proxy or a tuple; refuse the rest, whose text may hold a memory address."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(
        f"expected plain JSON in a provider's parameters or a trajectory's content, got {type(value).__name__}; "
        "leave the field out with field(metadata={'key': False}) and answer for it in `model`"
    )


class Cache:
    """Results by content: in memory, and in a folder (safetensors files named by key) if one is given.

    Args:
        folder: where to keep them between sessions; None keeps them in memory only.
        limit: groups kept in memory; beyond it the oldest are let go (a training run never comes back to them).
    """

    def __init__(self, folder: str | Path | None = None, limit: int = 20_000):
        self.folder = None if folder is None else Path(folder)
        self.limit = limit
        self._records: dict[str, Record] = {}

    def __len__(self) -> int:
        return len(self._records)

    def key(self, provider: Evidence, group: Group) -> str:
        """Hash what can change the result; see `key`."""
        return key(provider, group)

    def get(self, key: str) -> Record | None:
        """Return the result under a key, or None."""
        if key not in self._records and self.folder is not None and (path := self._path(key)).exists():
            self._records[key] = _read_record(path)
        return self._records.get(key)

    def put(self, key: str, record: Record) -> None:
        """Keep a result."""
        self._records[key] = record
        while len(self._records) > self.limit:
            del self._records[next(iter(self._records))]
        if self.folder is not None:
            _write_record(self._path(key), record)

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / key[:2] / f"{key}.safetensors"


def _write_record(path: Path, record: Record) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{name}.{part}": t.contiguous() for name, v in record.columns.items() for part, t in v._asdict().items()
    }
    cost = {"calls": str(record.calls), "tokens": str(record.tokens), "seconds": repr(record.seconds)}
    unfinished = path.with_suffix(f".{threading.get_ident()}.part")
    save_file(tensors, str(unfinished), metadata=cost)
    unfinished.replace(path)  # whole or not at all


def _read_record(path: Path) -> Record:
    from safetensors import safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            cost, names = file.metadata(), {name.rpartition(".")[0] for name in file.keys()}  # noqa: SIM118
            columns = {n: Values(file.get_tensor(f"{n}.values"), file.get_tensor(f"{n}.known")) for n in sorted(names)}
        return Record(columns, int(cost["calls"]), int(cost["tokens"]), float(cost["seconds"]))
    except Exception as error:
        raise ValueError(
            f"the kept result {path} cannot be read ({error}); delete the file to compute it anew"
        ) from error


MEMORY = Cache()
"""Results of this process, used when no cache is given."""
