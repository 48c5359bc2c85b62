"""The credit workbench: which turn earned the reward?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.store.readers import read

_LAZY = {"read": "workbench.store.readers"}
"""Name -> module it is imported from when it is first used: importing the package alone stays light."""

__all__ = ["read"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
