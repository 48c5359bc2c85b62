"""One row a system: what it is, what of it is here, and what that rests on. No maths; nothing is looked up to run."""

from __future__ import annotations

from workbench.catalogue.baselines import BASELINES as _FIRST
from workbench.catalogue.method import KINDS, STATUSES, Card, Kind, Method, Status
from workbench.catalogue.relatives import RELATIVES
from workbench.catalogue.rows import METHODS

BASELINES: tuple[Method, ...] = (*_FIRST, *RELATIVES)
ALL: tuple[Method, ...] = (*METHODS, *BASELINES)


def find(number_or_name: int | str) -> Method:
    """Return the row of a number ("43", "B3") or a name; case counts only where two names differ by it (MinD, MIND).

    Raises:
        KeyError: there is none; names those that begin alike.

    Example:
        >>> find(6).name, find("grpo").number
        ('MatchTIR', 'B3')
    """
    exact = next((method for method in ALL if number_or_name in (method.number, method.name)), None)
    if exact is not None:
        return exact
    wanted = str(number_or_name).lower()
    for method in ALL:
        if wanted in (str(method.number).lower(), method.name.lower()):
            return method
    near = [method.name for method in ALL if method.name.lower().startswith(wanted[:2])]
    raise KeyError(f"no method {number_or_name!r} among {len(ALL)}; near it: {near or 'nothing'}")


def adapter(method: str, function: str) -> str | None:
    """Return "module:function" of the parity adapter of a worked example, or None if nothing here reproduces it.

    Args:
        method, function: as the worked examples name them.

    Example:
        >>> adapter("IGPO", "info_gain"), adapter("IGPO", "nothing")
        ('igpo:info_gain', None)
    """
    key = f"{method}/{function}"
    return next((row.parity[key] for row in ALL if key in row.parity), None)


__all__ = ["ALL", "BASELINES", "KINDS", "METHODS", "STATUSES", "Card", "Kind", "Method", "Status", "adapter", "find"]
