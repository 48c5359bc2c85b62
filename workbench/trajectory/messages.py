"""Messages and what is in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.trajectory.records import Record, RecordError, frozen, members, require

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
PartKind = Literal["text", "image", "audio", "file"]
PART_KINDS: tuple[PartKind, ...] = ("text", "image", "audio", "file")


@dataclass(frozen=True)
class Part(Record):
    """One piece of content: text, or an image, audio or file kept by its hash in the `blobs` folder.

    Args:
        kind: "text", "image", "audio" or "file".
        text: the text; empty for the others.
        sha256: 64 hex digits of the bytes; only for the others.
        mime: media type, e.g. "image/png"; only for the others.
    """

    kind: PartKind = "text"
    text: str = ""
    sha256: str = ""
    mime: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise RecordError(f"expected text, got {type(self.text).__name__}", field="parts.text")
        if self.kind == "text":
            require(not self.sha256, "a text part has no bytes; use kind='file'", field="parts.sha256")
        else:
            require(self.kind in PART_KINDS, f"expected one of {PART_KINDS}, got {self.kind!r}", field="parts.kind")
            good = re.fullmatch(r"[0-9a-f]{64}", self.sha256) is not None
            require(good, f"expected 64 hex digits (sha256 of the bytes), got {self.sha256!r}", field="parts.sha256")
            require("/" in self.mime, f"expected a media type such as 'image/png', got {self.mime!r}", field="mime")


@dataclass(frozen=True)
class ToolCall(Record):
    """A call as the model wrote it, with its parsed arguments or the reason they could not be parsed.

    Args:
        id: unique in its trajectory; a tool message answers it by this id.
        name: tool name; may be empty when even that could not be read.
        raw: the text the model wrote.
        arguments: parsed arguments; None if parsing failed.
        error: why parsing failed; None if it did not.
    """

    id: str
    name: str
    raw: str = ""
    arguments: Mapping[str, Any] | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        require(isinstance(self.id, str) and self.id != "", f"expected an id, got {self.id!r}", field="calls.id")
        known = (self.arguments is None) != (self.error is None)
        require(known, "give either `arguments` or the `error` of parsing them, not both or neither", field="calls")
        if self.arguments is not None:
            is_map = isinstance(self.arguments, Mapping)
            require(is_map, f"expected named arguments, got {type(self.arguments).__name__}", field="calls.arguments")
            object.__setattr__(self, "arguments", frozen(self.arguments))


@dataclass(frozen=True)
class Message(Record):
    """One message of a conversation.

    Args:
        id: unique in its trajectory.
        role: "system", "user", "assistant" or "tool".
        parts: content, in order; a plain string is taken as one text part.
        author: which agent or tool wrote it ("" if the role says it all).
        parent: id of the message it follows, where the conversation is a tree.
        calls: tool calls it makes, in order.
        answers: id of the call it answers (role "tool").
        extra: fields of a reader's format that have no place here; kept, never interpreted.
    """

    id: str
    role: Role
    parts: tuple[Part, ...] = ()
    author: str = ""
    parent: str | None = None
    calls: tuple[ToolCall, ...] = ()
    answers: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.parts, str):
            object.__setattr__(self, "parts", (Part(text=self.parts),) if self.parts else ())
        object.__setattr__(self, "parts", members(self.parts, Part, "parts"))
        object.__setattr__(self, "calls", members(self.calls, ToolCall, "calls"))
        object.__setattr__(self, "extra", frozen(self.extra))
        if not isinstance(self.id, str) or self.id == "":
            raise RecordError(f"expected an id, got {self.id!r}", field="id")
        if self.role not in ROLES:
            raise RecordError(f"expected one of {ROLES}, got {self.role!r}", field="role")

    @property
    def text(self) -> str:
        """All text parts, joined; other parts appear as [image image/png]."""
        return "".join(p.text if p.kind == "text" else f"[{p.kind} {p.mime}]" for p in self.parts)
