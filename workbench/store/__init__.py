"""Rollouts on disk: our folder, and readers for other tools' files.

`folder` (append, scan, Writer) needs neither torch nor pyarrow; what needs them is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.store.blobs import get as blob
    from workbench.store.encode import SCHEMA, Head
    from workbench.store.folder import Writer, append, heads, scan, write_trajectories
    from workbench.store.manifest import Manifest, read_manifest
    from workbench.store.readers import read, read_report, read_with_report
    from workbench.store.report import Problem, Report
    from workbench.store.writing import write, write_column

_WHERE = {
    "blob": ("blobs", "get"),
    "SCHEMA": ("encode", "SCHEMA"),
    "Head": ("encode", "Head"),
    **{name: ("folder", name) for name in ("Writer", "append", "heads", "scan", "write_trajectories")},
    **{name: ("manifest", name) for name in ("Manifest", "read_manifest")},
    **{name: ("readers", name) for name in ("read", "read_report", "read_with_report")},
    **{name: ("report", name) for name in ("Problem", "Report")},
    **{name: ("writing", name) for name in ("write", "write_column")},
}

__all__ = [
    "SCHEMA",
    "Head",
    "Manifest",
    "Problem",
    "Report",
    "Writer",
    "append",
    "blob",
    "heads",
    "read",
    "read_manifest",
    "read_report",
    "read_with_report",
    "scan",
    "write",
    "write_column",
    "write_trajectories",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'workbench.store' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    return getattr(import_module(f"workbench.store.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
