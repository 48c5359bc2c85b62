"""OpenAI-like chat messages to ours, and where one turn ends."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from workbench.store import blobs
from workbench.store.foreign import clean, number, truth
from workbench.trajectory import Message, Part, RecordError, Role, ToolCall, Turn

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}

_PLACED = frozenset(["id", "role", "content", "name", "tool_calls", "function_call", "tool_call_id"])
TURN_FIELDS = frozenset(
    ("reward", "weight", "trainable", "finish_reason", "stop_reason", "model")
    + ("token_ids", "prompt_token_ids", "logprobs")
)


class Chat(NamedTuple):
    """Messages with, for each, the fields that say something of its turn."""

    messages: tuple[Message, ...]
    turn_fields: tuple[dict[str, Any], ...]


def read_messages(raw: Any, losses: list[str]) -> Chat:
    """Return the messages of a conversation.

    Args:
        raw: list of messages as the tool wrote them.
        losses: gets one sentence for each thing that could not be kept as it was.

    Raises:
        RecordError: not a conversation; `field` says which message.
    """
    if not isinstance(raw, list):
        raise RecordError(f"expected a list of messages, got {type(raw).__name__}", field="messages")
    names = _CallNames(losses)
    messages: list[Message] = []
    turn_fields: list[dict[str, Any]] = []
    taken: set[str] = set()
    for number_, item in enumerate(raw):
        try:
            message, of_turn = _message(number_, item, names, taken, losses)
        except RecordError as error:
            raise RecordError(error.problem, field=f"messages[{number_}].{error.field or ''}".rstrip(".")) from None
        taken.add(message.id)
        messages.append(message)
        turn_fields.append(of_turn)
    return Chat(tuple(messages), tuple(turn_fields))


def _message(
    number_: int, item: Any, names: _CallNames, taken: set[str], losses: list[str]
) -> tuple[Message, dict[str, Any]]:
    if not isinstance(item, Mapping):
        raise RecordError(f"expected an object with role and content, got {type(item).__name__}")
    role = item.get("role")
    if not isinstance(role, str):
        raise RecordError(f"expected a role, got {role!r}", field="role")
    extra: dict[str, Any] = {}
    author = str(item.get("name") or "")
    if role not in ROLES:
        losses.append(f"role {role!r} is read as a user message with that author")
        author = author or role
    if role not in ("system", "user", "assistant", "tool"):
        extra["role"] = role
    parts = _parts(item.get("content"), extra, losses)
    calls = names.made(item)
    has_tokens = item.get("token_ids") is not None
    if role == "assistant" and "content" not in item and not calls and not has_tokens:
        raise RecordError("an assistant message without `content`, tool calls or tokens", field="content")
    of_turn = {k: v for k, v in item.items() if role == "assistant" and k in TURN_FIELDS and v is not None}
    for key, value in item.items():
        if key not in _PLACED and key not in of_turn and value is not None:
            extra[key] = clean(value, f"messages.{key}", losses)
    own = item.get("id")
    name = own if isinstance(own, str) and own not in ("", *taken) else _free(f"m{number_}", taken)
    if own is not None and name != own:
        extra["id"] = clean(own, "messages.id", losses)
    message = Message(
        id=name,
        role=ROLES.get(role, "user"),
        parts=parts,
        author=author,
        calls=calls,
        answers=names.answered(item, extra) if ROLES.get(role) == "tool" else None,
        extra=extra,
    )
    return message, of_turn


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


# ----------------------------------------------------------------------------------------------------- content


def _parts(content: Any, extra: dict[str, Any], losses: list[str]) -> tuple[Part, ...]:
    if content is None or content == "":
        return ()
    if isinstance(content, str):
        return (Part(text=content),)
    if not isinstance(content, list):
        raise RecordError(f"expected text or a list of parts, got {type(content).__name__}", field="content")
    return tuple(_part(item, f"content[{i}]", extra, losses) for i, item in enumerate(content))


def _part(item: Any, place: str, extra: dict[str, Any], losses: list[str]) -> Part:
    if isinstance(item, str):
        return Part(text=item)
    if not isinstance(item, Mapping):
        raise RecordError(f"expected a part, got {type(item).__name__}", field=place)
    kind = str(item.get("type"))
    if kind == "text" and isinstance(item.get("text"), str):
        _keep_rest(item, ("type", "text"), place, extra, losses)
        return Part(text=item["text"])
    if kind in _WITH_BYTES:
        part_kind, url_of = _WITH_BYTES[kind]
        inner = item.get(kind)
        inner = inner if isinstance(inner, Mapping) else {"url": inner}
        name, data = url_of(inner)
        if isinstance(data, str) and data.startswith("data:"):
            _keep_rest(item, ("type", kind), place, extra, losses)
            _keep_rest(inner, (name, "format"), f"{place}.{kind}", extra, losses)
            mime, content = _decode(data, place)
            return Part(part_kind, "", blobs.keep(content), mime)
    extra[place] = clean(item, place, losses)
    losses.append(f"content parts of type {kind!r} without bytes are shown as a text in brackets; kept in `extra`")
    return Part(text=f"[{kind}]")


def _keep_rest(
    item: Mapping[str, Any], used: tuple[str, ...], place: str, extra: dict[str, Any], losses: list[str]
) -> None:
    for name, value in item.items():
        if name not in used and value is not None:
            extra[f"{place}.{name}"] = clean(value, place, losses)


def _audio(inner: Mapping[str, Any]) -> tuple[str, Any]:
    data = inner.get("data")
    return "data", f"data:audio/{inner.get('format') or 'wav'};base64,{data}" if isinstance(data, str) else None


_WITH_BYTES: Mapping[str, Any] = {
    "image_url": ("image", lambda inner: ("url", inner.get("url"))),
    "image": ("image", lambda inner: ("url", inner.get("url"))),
    "input_audio": ("audio", _audio),
    "file": ("file", lambda inner: ("file_data", inner.get("file_data"))),
}
"""Type of a part -> (our kind, where its data URL stands)."""

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*(;base64)?,", re.ASCII)


def _decode(url: str, place: str) -> tuple[str, bytes]:
    """(media type, bytes) of a data URL."""
    match = _DATA_URL.match(url)
    if match is None or match[2] is None:
        raise RecordError(f"expected data:TYPE;base64,..., got {url[:40]!r}", field=place)
    try:
        return match[1] or "application/octet-stream", base64.b64decode(url[match.end() :], validate=True)
    except binascii.Error as error:
        raise RecordError(f"the data URL is not base64: {error}", field=place) from None


# ------------------------------------------------------------------------------------------------------- calls


class _CallNames:
    """Calls of one conversation: ids made unique, answers led to the call they answer."""

    def __init__(self, losses: list[str]):
        self._losses = losses
        self._ours: dict[str, str] = {}  # their id -> ours, of the latest call that carries it
        self._taken: set[str] = set()
        self._open: list[str] = []  # ours, not answered yet

    def made(self, item: Mapping[str, Any]) -> tuple[ToolCall, ...]:
        """Return the calls of a message."""
        raw = item.get("tool_calls") or []
        if not isinstance(raw, list):
            raise RecordError(f"expected a list, got {type(raw).__name__}", field="tool_calls")
        if item.get("function_call") is not None:
            raw = [*raw, {"function": item["function_call"]}]
        if raw and item.get("role") != "assistant":
            raise RecordError(f"a message of role {item.get('role')!r} makes no calls", field="tool_calls")
        if raw:
            self._open = []
        return tuple(self._call(call, f"tool_calls[{i}]") for i, call in enumerate(raw))

    def _call(self, item: Any, place: str) -> ToolCall:
        if not isinstance(item, Mapping):
            raise RecordError(f"expected an object, got {type(item).__name__}", field=place)
        function = item.get("function") or item.get("custom") or item
        if not isinstance(function, Mapping):
            raise RecordError(f"expected an object, got {type(function).__name__}", field=f"{place}.function")
        theirs = item.get("id")
        name = theirs if isinstance(theirs, str) and theirs else f"call-{len(self._taken)}"
        if name in self._taken:
            self._losses.append("call ids that are used again in a conversation get a number")
            name = next(n for i in range(2, 10**9) if (n := f"{name}#{i}") not in self._taken)
        self._taken.add(name)
        if isinstance(theirs, str):
            self._ours[theirs] = name
        self._open.append(name)
        given = function.get("arguments", function.get("input"))
        raw, arguments, error = parse_arguments(given, custom="input" in function)
        said = function.get("name")
        return ToolCall(name, said if isinstance(said, str) else "", raw, arguments, error)

    def answered(self, item: Mapping[str, Any], extra: dict[str, Any]) -> str | None:
        """Return our id of the call a tool message answers: by its id, else the next one that is open."""
        theirs = item.get("tool_call_id")
        if theirs is not None:
            ours = self._ours.get(str(theirs))
            if ours is None:
                self._losses.append("tool messages that answer a call nobody made are kept without it")
                extra["tool_call_id"] = clean(theirs, "tool_call_id", self._losses)
            elif ours in self._open:
                self._open.remove(ours)
            return ours
        return self._open.pop(0) if self._open else None


def parse_arguments(given: Any, *, custom: bool = False) -> tuple[str, dict[str, Any] | None, str | None]:
    """Return (raw text, arguments or None, error or None) of a call's arguments, text or object."""
    if custom:
        return str(given), {"input": clean(given, "input", [])}, None
    if given is None or given == "":
        return "", {}, None
    if isinstance(given, Mapping):
        raw = json.dumps(given, ensure_ascii=False, default=str)
        return raw, {k: clean(v, "arguments", []) for k, v in given.items()}, None
    if not isinstance(given, str):
        return str(given), None, f"expected named arguments, got {type(given).__name__}"
    try:
        value = json.loads(given, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return given, None, f"not JSON: {error}"
    if not isinstance(value, dict):
        return given, None, f"expected named arguments, got {type(value).__name__}"
    return given, value, None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


# ------------------------------------------------------------------------------------------------------- turns


class Cut(NamedTuple):
    """A conversation cut into turns; `fields[k]` is what the file says of turn k."""

    prompt: tuple[Message, ...]
    turns: tuple[Turn, ...]
    fields: tuple[dict[str, Any], ...]


def cut(chat: Chat, losses: list[str]) -> Cut:
    """Cut a conversation into turns: each assistant message starts one, what follows it is what came back.

    Example:
        >>> said = [{"role": r, "content": r} for r in ("user", "assistant", "tool", "assistant")]
        >>> done = cut(read_messages(said, []), [])
        >>> len(done.prompt), [len(turn.observations) for turn in done.turns]
        (1, [1, 0])
    """
    starts = [i for i, m in enumerate(chat.messages) if m.role == "assistant"]
    ends = [*starts[1:], len(chat.messages)] if starts else []
    fields = tuple(chat.turn_fields[i] for i in starts)
    turns = tuple(
        _turn(k, chat.messages[a], chat.messages[a + 1 : b], fields[k], losses)
        for k, (a, b) in enumerate(zip(starts, ends, strict=True))
    )
    return Cut(chat.messages[: starts[0]] if starts else chat.messages, turns, fields)


def _turn(
    k: int, action: Message, observations: tuple[Message, ...], fields: dict[str, Any], losses: list[str]
) -> Turn:
    if not action.parts and not action.calls:
        losses.append(f"turn {k} has neither text nor tool calls: kept as empty")
    try:
        trained = truth(fields.get("trainable", fields.get("weight", True)), "trainable")
        return Turn(
            action=action,
            observations=observations,
            agent=action.author or "policy",
            policy=str(fields.get("model", "")),
            stop_reason=str(fields.get("finish_reason", fields.get("stop_reason", ""))),
            trainable=trained,
            why_not="" if trained else "the file gives it weight 0",
            reward=number(fields.get("reward"), "reward", losses),
        )
    except RecordError as error:
        raise error.at(turn=k) from None
