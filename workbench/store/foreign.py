"""What readers of other tools' files share: picking fields, cleaning values, and counting what is lost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from workbench.store import blobs
from workbench.trajectory import RecordError, Trajectory

NO_TOKENS = "no token ids: token credit and training unavailable"
NO_LOGPROBS = "no log-probs of the sampled tokens: ratios need them recomputed"
NO_OUTCOME = "no reward: outcomes are unknown"


class Found(NamedTuple):
    """One trajectory of another tool's file, where it stood, and what it lost on the way."""

    file: str
    line: int | None
    trajectory: Trajectory
    losses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fields:
    """Which fields of another tool's records mean what; the first that is there counts.

    Args:
        id, group, outcome, gold, truncated, stop_reason: names, tried in order; "info.score" looks inside "info".
    """

    id: tuple[str, ...] = ("trajectory_id", "rollout_id", "sample_id", "id")
    group: tuple[str, ...] = ("group", "group_id", "task_id", "uid", "prompt_id", "problem_id", "question_id")
    outcome: tuple[str, ...] = ("outcome", "reward", "score")
    gold: tuple[str, ...] = ("answer", "gold", "ground_truth", "reference_answer", "solution", "target")
    truncated: tuple[str, ...] = ("truncated", "is_truncated")
    stop_reason: tuple[str, ...] = ("stop_reason", "finish_reason")

    def with_names(self, given: Mapping[str, str]) -> Fields:
        """Return the fields with some of them named by the caller: only that name is tried.

        Raises:
            ValueError: there is no such field here.
        """
        there = vars(self)
        wrong = sorted(given.keys() - there.keys())
        if wrong:
            raise ValueError(f"fields: expected some of {sorted(there)}, got {wrong}")
        return Fields(**{**there, **{name: (theirs,) for name, theirs in given.items()}})


class Record:
    """A record whose fields are taken out one by one, so that what nobody took is known at the end."""

    def __init__(self, values: Mapping[str, Any]):
        self._left = dict(values)

    def take(self, names: Iterable[str]) -> tuple[str, Any]:
        """Return (name, value) of the first name that is there and not null, and take it out; ("", None) if none is."""
        for name in names:
            value = _inside(self._left, name)
            if value is not None:
                self._left.pop(name, None)  # what stands inside another field stays there
                return name, value
        return "", None

    def put_back(self, values: Mapping[str, Any]) -> None:
        """Return fields that were taken and not used."""
        self._left.update(values)

    def left(self) -> dict[str, Any]:
        """What is left; nulls say nothing and are left out."""
        return {name: value for name, value in self._left.items() if value is not None}


def _inside(values: Mapping[str, Any], name: str) -> Any:
    """Value under a name, or under a path of names joined by dots."""
    if name in values or "." not in name:
        return values.get(name)
    outer, _, rest = name.partition(".")
    inner = values.get(outer)
    return _inside(inner, rest) if isinstance(inner, Mapping) else None


def kept_note(left: Iterable[str]) -> str:
    """Say which fields nobody took, and how to give them a meaning."""
    names = ", ".join(sorted(left))
    return (
        f"fields kept in `extra`, not interpreted: {names}; read(path, fields={{'outcome': NAME}}) gives one a meaning"
    )


def number(value: Any, field: str, losses: list[str]) -> float | None:
    """Return a reward; True and False are 1 and 0, NaN is unknown (with a note).

    Raises:
        RecordError: no number.
    """
    if value is None:
        return None
    if not isinstance(value, (bool, int, float)):
        raise RecordError(f"expected a number, got {type(value).__name__} {str(value)[:40]!r}", field=field)
    if not math.isfinite(value):
        losses.append(f"{field}: NaN or infinite values are read as unknown")
        return None
    return float(value)


def truth(value: Any, field: str) -> bool:
    """Return a yes or no.

    Raises:
        RecordError: neither.
    """
    if value in (None, 0, 1):
        return bool(value)
    raise RecordError(f"expected true or false, got {type(value).__name__} {str(value)[:40]!r}", field=field)


def clean(value: Any, field: str, losses: list[str]) -> Any:
    """Return a value that JSON can hold: NaN becomes None, bytes go to the blobs, the rest its text; noted."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        losses.append(f"{field}: NaN or infinite values are read as unknown")
        return None
    if isinstance(value, Mapping):
        return {str(k): clean(v, field, losses) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(v, field, losses) for v in value]
    if isinstance(value, bytes):
        return {"sha256": blobs.keep(value)}
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    losses.append(f"{field}: values of type {type(value).__name__} are kept as text")
    return str(value)
