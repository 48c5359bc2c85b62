"""A trajectory as one line of compact JSON (schema version 1).

    {"id", "group", "outcome", "rewards", "truncated", "stop_reason", "parent",     the head: always there, so ordered
     "prompt", "turns", "sequences", "gold", "extra"}                               the body

What stands at its default is left out of the body. Unknown is null. A span is an array
`[origin, turn, message, ids, logprobs, pieces]`, trailing nulls left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from workbench.trajectory import Message, Part, RecordError, Sequence, Span, ToolCall, Trajectory, Turn

SCHEMA = 1
HEAD = ("id", "group", "outcome", "rewards", "truncated", "stop_reason", "parent")
BODY = ("prompt", "turns", "sequences", "gold", "extra")


class Head(NamedTuple):
    """What can be known of a stored trajectory without reading its messages and tokens."""

    id: str
    group: str
    outcome: float | None = None
    rewards: Mapping[str, float | None] = {}
    truncated: bool = False
    stop_reason: str = ""
    parent: tuple[str, int] | None = None


def to_line(trajectory: Trajectory) -> str:
    """Return the line of a trajectory, without its line break.

    Raises:
        RecordError: something in it is no JSON value (a set, NaN, a key that is not text); names the field.
    """
    return dumps(to_record(trajectory), trajectory.id)


def dumps(record: Any, trajectory: str) -> str:
    """Return compact JSON; readable where the text is valid Unicode, escaped where it is not (lone surrogates)."""
    try:
        text = json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RecordError(f"cannot be written as JSON: {error}", trajectory=trajectory) from None
    if text.isascii() or _encodable(text):
        return text
    return json.dumps(record, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def head_of(t: Trajectory) -> dict[str, Any]:
    """Return the head of a trajectory's record."""
    return {
        "id": t.id,
        "group": t.group,
        "outcome": t.outcome,
        "rewards": dict(t.rewards),
        "truncated": t.truncated,
        "stop_reason": t.stop_reason,
        "parent": None if t.parent is None else list(t.parent),
    }


def body_of(t: Trajectory) -> dict[str, Any]:
    """Return the body of a trajectory's record; `prompt` is always there and comes first."""
    body: dict[str, Any] = {"prompt": [_message(m) for m in t.prompt]}
    try:
        body["turns"] = [_turn(turn) for turn in t.turns]
        if t.sequences:
            body["sequences"] = [_sequence(s) for s in t.sequences]
        for name in ("gold", "extra"):
            if value := getattr(t, name):
                body[name] = plain(value, name)
    except RecordError as error:
        raise error.at(trajectory=t.id) from None
    return body


def to_record(t: Trajectory) -> dict[str, Any]:
    """Return a trajectory as plain JSON values: head, then body."""
    return {**head_of(t), **body_of(t)}


def plain(value: Any, where: str) -> Any:
    """Return a value of JSON's own types: tuples become lists, mappings dicts.

    Raises:
        RecordError: a value or key that JSON does not have; `field` says where it stands.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        raise RecordError(f"expected a finite number or None (unknown), got {value!r}", field=where)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise RecordError(f"expected text as key, got {key!r} ({type(key).__name__})", field=where)
        return {key: plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    problem = f"expected text, numbers, lists or dicts (what JSON can hold), got {type(value).__name__}"
    raise RecordError(problem, field=where)


def _message(m: Message) -> dict[str, Any]:
    out: dict[str, Any] = {"id": m.id, "role": m.role}
    if len(m.parts) == 1 and m.parts[0].kind == "text" and m.parts[0].text:
        out["content"] = m.parts[0].text
    elif m.parts:
        out["content"] = [_part(p) for p in m.parts]
    if m.author:
        out["author"] = m.author
    if m.parent is not None:
        out["parent"] = m.parent
    if m.calls:
        out["calls"] = [_call(c) for c in m.calls]
    if m.answers is not None:
        out["answers"] = m.answers
    if m.extra:
        out["extra"] = plain(m.extra, "extra")
    return out


def _part(p: Part) -> dict[str, Any]:
    return (
        {"text": p.text} if p.kind == "text" else {"kind": p.kind, "sha256": p.sha256, "mime": p.mime, "text": p.text}
    )


def _call(c: ToolCall) -> dict[str, Any]:
    out: dict[str, Any] = {"id": c.id, "name": c.name, "raw": c.raw}
    if c.arguments is not None:
        out["arguments"] = plain(c.arguments, "calls.arguments")
    else:
        out["error"] = c.error
    return out


_TURN_TEXTS = ("policy", "stop_reason", "why_not")
_TURN_MAPS = ("sampling", "rewards", "extra")


def _turn(turn: Turn) -> dict[str, Any]:
    out: dict[str, Any] = {"action": _message(turn.action)}
    if turn.observations:
        out["observations"] = [_message(m) for m in turn.observations]
    if turn.agent != "policy":
        out["agent"] = turn.agent
    out["reward"] = turn.reward
    if turn.policy_version is not None:
        out["policy_version"] = list(turn.policy_version)
    if not turn.trainable:
        out["trainable"] = False
    if turn.state_key is not None:
        out["state_key"] = turn.state_key
    for name in _TURN_TEXTS:
        if value := getattr(turn, name):
            out[name] = value
    for name in _TURN_MAPS:
        if value := getattr(turn, name):
            out[name] = plain(value, name)
    return out


def _sequence(s: Sequence) -> dict[str, Any]:
    out: dict[str, Any] = {} if s.prefix is None else {"prefix": list(s.prefix)}
    out["spans"] = [_span(span) for span in s.spans]
    return out


def _span(span: Span) -> list[Any]:
    row: list[Any] = [span.origin, span.turn, span.message, span.ids, span.logprobs, span.pieces]
    while row[-1] is None:
        row.pop()
    return row
