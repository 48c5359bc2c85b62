"""One line of the store back to a trajectory: types checked, unknown fields kept, errors that say where."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from workbench.store.encode import BODY, HEAD, Head
from workbench.trajectory import Message, Part, Prefix, RecordError, Sequence, Span, ToolCall, Trajectory, Turn

_TYPE = {str: "text", bool: "true or false", int: "an integer", list: "a list", dict: "an object"}
_BODY_STARTS = b',"prompt":['  # a head holds no list of objects, so this stands in no head but at its end


def from_line(line: bytes, migrate: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> Trajectory:
    """Return the trajectory of one line.

    Args:
        line: JSON, UTF-8.
        migrate: turns a record of an older schema version into the current one.

    Raises:
        RecordError: not JSON, or a record that cannot be right.
    """
    record = loads(line)
    return from_record(migrate(record) if migrate is not None else record)


def loads(line: bytes | str) -> dict[str, Any]:
    """Return the JSON object of a line.

    Raises:
        RecordError: not UTF-8, not JSON, nested too deeply, or not an object.
    """
    try:
        record = json.loads(line)
    except RecursionError:
        raise RecordError("nested too deeply to be read") from None
    except ValueError as error:  # json and unicode errors both are
        raise RecordError(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise RecordError(f"expected an object, got {_found(record)}")
    return record


def head_from_line(line: bytes) -> Head:
    """Return the head of a line without reading its body, if the line was written by this package; else read it all."""
    end = line.find(_BODY_STARTS)
    if end > 0:
        try:
            record = json.loads(line[:end] + b"}")
        except ValueError:
            record = None
        if isinstance(record, dict) and tuple(record) == HEAD:
            return head_from_record(record)
    return head_from_record(loads(line))


def head_from_record(record: Mapping[str, Any]) -> Head:
    """Return the head of a record, checked."""
    name = record.get("id")
    try:
        parent = _get(record, "parent", list, None)
        if parent is not None and (len(parent) != 2 or not isinstance(parent[0], str) or type(parent[1]) is not int):
            raise RecordError(f"expected [trajectory id, turn index], got {_found(parent)}", field="parent")
        return Head(
            id=_text(record, "id", required=True),
            group=_text(record, "group", required=True),
            outcome=record.get("outcome"),
            rewards=_get(record, "rewards", dict, None) or {},
            truncated=_get(record, "truncated", bool, False),
            stop_reason=_text(record, "stop_reason"),
            parent=None if parent is None else (parent[0], parent[1]),
        )
    except RecordError as error:
        raise error.at(trajectory=name if isinstance(name, str) else None) from None


def from_record(record: Mapping[str, Any]) -> Trajectory:
    """Return the trajectory of a record of the current schema version.

    Raises:
        RecordError: names trajectory, turn and field.
    """
    head = head_from_record(record)
    try:
        extra = _extra(record, _TRAJECTORY)
        return Trajectory(
            *(head.id, head.group),
            prompt=tuple(_message(m) for m in _get(record, "prompt", list, ())),
            turns=tuple(_turn(k, turn) for k, turn in enumerate(_get(record, "turns", list, ()))),
            sequences=tuple(_sequence(n, s, extra) for n, s in enumerate(_get(record, "sequences", list, ()))),
            parent=head.parent,
            outcome=head.outcome,
            rewards=head.rewards,
            gold=_get(record, "gold", dict, None) or {},
            truncated=head.truncated,
            stop_reason=head.stop_reason,
            extra=extra,
        )
    except RecordError as error:
        raise error.at(trajectory=head.id) from None


# ------------------------------------------------------------------------------------------------- fields

_TRAJECTORY = frozenset((*HEAD, *BODY))
_MESSAGE = frozenset(("id", "role", "content", "author", "parent", "calls", "answers", "extra"))
_PART = frozenset(("kind", "text", "sha256", "mime"))
_CALL = frozenset(("id", "name", "raw", "arguments", "error"))
_SEQUENCE = frozenset(("prefix", "spans"))
_TURN = frozenset(
    ("action", "observations", "agent", "policy", "policy_version", "sampling", "stop_reason")
    + ("trainable", "why_not", "state_key", "reward", "rewards", "extra")
)


def _found(value: Any) -> str:
    """Name the type of a value, with a look at it."""
    kind = "null" if value is None else _TYPE.get(type(value), "a number" if type(value) is float else "?")
    shown = repr(value)
    return f"{kind} ({shown[:60]}{' ...' if len(shown) > 60 else ''})"


def _get(record: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    """Return a field of one type; null and missing are the default."""
    value = record.get(name)
    if value is None:
        return default
    if type(value) is not kind:
        raise RecordError(f"expected {_TYPE[kind]}, got {_found(value)}", field=name)
    return value


def _text(record: Mapping[str, Any], name: str, default: Any = "", *, required: bool = False) -> Any:
    value = record.get(name)
    if value is None and not required:
        return default
    if type(value) is not str:
        came = "nothing" if name not in record else _found(value)
        raise RecordError(f"expected text, got {came}", field=name)
    return value


def _object(value: Any, field: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise RecordError(f"expected an object, got {_found(value)}", field=field)
    return value


def _extra(record: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return `extra` with the fields this version does not know; a name that is taken gets a `_`."""
    extra = dict(_get(record, "extra", dict, None) or {}) if "extra" in known else {}
    for name in record:
        if name not in known:
            key = name
            while key in extra:
                key += "_"
            extra[key] = record[name]
    return extra


def _lift(record: Mapping[str, Any], known: frozenset[str], place: str, extra: dict[str, Any]) -> None:
    """Keep unknown fields of a record that has no `extra` in that of its owner, under `place.name`."""
    for name in record.keys() - known:
        extra[f"{place}.{name}"] = record[name]


def _message(value: Any) -> Message:
    record = _object(value, "messages")
    extra = _extra(record, _MESSAGE)
    content = record.get("content")
    if content is None:
        parts: tuple[Part, ...] = ()
    elif type(content) is str:
        parts = (Part(text=content),)
    else:
        listed = _get(record, "content", list, ())
        parts = tuple(_part(_object(p, "content"), i, extra) for i, p in enumerate(listed))
    return Message(
        id=_text(record, "id", required=True),
        role=_text(record, "role", required=True),
        parts=parts,
        author=_text(record, "author"),
        parent=_text(record, "parent", None),
        calls=tuple(_call(_object(c, "calls"), i, extra) for i, c in enumerate(_get(record, "calls", list, ()))),
        answers=_text(record, "answers", None),
        extra=extra,
    )


def _part(record: dict[str, Any], number: int, extra: dict[str, Any]) -> Part:
    _lift(record, _PART, f"content[{number}]", extra)
    kind = _text(record, "kind", "text")
    return Part(kind, _text(record, "text"), _text(record, "sha256"), _text(record, "mime"))


def _call(record: dict[str, Any], number: int, extra: dict[str, Any]) -> ToolCall:
    _lift(record, _CALL, f"calls[{number}]", extra)
    return ToolCall(
        id=_text(record, "id", required=True),
        name=_text(record, "name"),
        raw=_text(record, "raw"),
        arguments=_get(record, "arguments", dict, None),
        error=_text(record, "error", None),
    )


def _turn(number: int, value: Any) -> Turn:
    try:
        record = _object(value, "turns")
        if "action" not in record:
            raise RecordError("the turn has no `action` (the generated message)", field="action")
        version = _get(record, "policy_version", list, None)
        if version is not None and (len(version) != 2 or any(type(v) is not int for v in version)):
            raise RecordError(f"expected [first, last], got {_found(version)}", field="policy_version")
        return Turn(
            action=_message(record["action"]),
            observations=tuple(_message(m) for m in _get(record, "observations", list, ())),
            agent=_text(record, "agent", "policy"),
            policy=_text(record, "policy"),
            policy_version=version,
            sampling=_get(record, "sampling", dict, None) or {},
            stop_reason=_text(record, "stop_reason"),
            trainable=_get(record, "trainable", bool, True),
            why_not=_text(record, "why_not"),
            state_key=_text(record, "state_key", None),
            reward=record.get("reward"),
            rewards=_get(record, "rewards", dict, None) or {},
            extra=_extra(record, _TURN),
        )
    except RecordError as error:
        raise error.at(turn=number) from None


def _sequence(number: int, value: Any, extra: dict[str, Any]) -> Sequence:
    where = f"sequences[{number}]"
    record = _object(value, where)
    _lift(record, _SEQUENCE, where, extra)
    prefix = _get(record, "prefix", list, None)
    if prefix is not None and [type(p) for p in prefix] != [str, int, int]:
        raise RecordError(f"expected [trajectory id, sequence, length], got {_found(prefix)}", field=f"{where}.prefix")
    spans = tuple(_span(row, f"{where}.spans[{i}]") for i, row in enumerate(_get(record, "spans", list, ())))
    return Sequence(spans, None if prefix is None else Prefix(*prefix))


def _span(row: Any, where: str) -> Span:
    if type(row) is not list or not 4 <= len(row) <= 6:
        raise RecordError(f"expected [origin, turn, message, ids, logprobs, pieces], got {_found(row)}", field=where)
    origin, turn, message, ids = row[:4]
    logprobs, pieces = (*row[4:], None, None)[:2]
    good = type(origin) is str and type(turn) is int and (message is None or type(message) is str)
    good = good and type(ids) is list and all(x is None or type(x) is list for x in (logprobs, pieces))
    if not good:
        shape = "[text, integer, text or null, list, list or null, list or null]"
        raise RecordError(f"expected {shape}, got {_found(row)}", field=where)
    if pieces is not None and set(map(type, pieces)) - {str}:
        raise RecordError("expected the text of each token", field=f"{where}.pieces")
    return Span(tuple(ids), origin, turn, message, logprobs, pieces)
