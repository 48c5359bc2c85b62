"""What all records share: frozen mappings, checks, and the error that says where."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from workbench import show


class RecordError(ValueError):
    """A record that cannot be right; says where (trajectory, turn, field) and what to do.

    Attributes:
        problem: what was expected and what came.
        trajectory: id of the trajectory, when known.
        turn: index of the turn, when the problem is in one.
        field: name of the field.
        line: line of the file, when it was read from one.
    """

    def __init__(
        self,
        problem: str,
        *,
        trajectory: str | None = None,
        turn: int | None = None,
        field: str | None = None,
        line: int | None = None,
    ):
        self.problem, self.trajectory, self.turn, self.field, self.line = problem, trajectory, turn, field, line
        where = [
            f"{name} {value!r}" if name != "turn" else f"turn {value}"
            for name, value in (("trajectory", trajectory), ("turn", turn), ("field", field), ("line", line))
            if value is not None
        ]
        super().__init__(", ".join(where) + (": " if where else "") + problem)

    def at(self, **where: Any) -> RecordError:
        """Return the same error with more of its place filled in."""
        known = {name: getattr(self, name) for name in ("trajectory", "turn", "field", "line")}
        known.update({name: value for name, value in where.items() if known.get(name) is None})
        return RecordError(self.problem, **known)


def require(condition: bool, problem: str, **where: Any) -> None:
    if not condition:
        raise RecordError(problem, **where)


def frozen(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(mapping))


def members(values: Any, kind: type, field: str) -> tuple[Any, ...]:
    """Return the records of a field as a tuple; refuse what is no collection of them."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise RecordError(f"expected {kind.__name__} objects, got {reprlib.repr(values)}", field=field)
    out = tuple(values)
    for value in out:
        if not isinstance(value, kind):
            raise RecordError(f"expected {kind.__name__} objects, got {reprlib.repr(value)}", field=field)
    return out


def check_number(value: Any, what: str) -> None:
    """Refuse a reward that is no finite number (None, unknown, is fine)."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RecordError(f"expected a finite number or None (unknown), got {value!r}", field=what)


class Record:
    """Pickling of frozen records: a mapping proxy travels as a dict."""

    def __getstate__(self) -> dict[str, Any]:
        return {
            f.name: dict(value) if isinstance(value := getattr(self, f.name), MappingProxyType) else value
            for f in fields(self)  # type: ignore[arg-type]
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, frozen(value) if isinstance(value, dict) else value)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return show.mimebundle(self)
