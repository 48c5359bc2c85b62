"""The model's own chat template, cut into what is template and what is content."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from workbench.envs.base import Tool
from workbench.policy.renderers.calls import Syntax, read_calls, write_call
from workbench.policy.renderers.codec import Codec
from workbench.policy.renderers.plain import ANSWER, SEARCH, Shot
from workbench.trajectory import Message, Origin, Span

_MARK = "\ue000{}\ue001"  # private-use characters: stand in for a content while the template is rendered
_MARKED = re.compile("\ue000([0-9]+)\ue001")
_THOUGHT = "<think>\nfirst\n</think>\n\nthen"


class ChatTemplate:
    """Render a conversation by the chat template of a tokenizer.

    Contents are tokenised apart from the template, so that a tool's text can hold the spelling of a control token
    without becoming one. Observations are what the template puts behind an assistant's message; the conversation
    before them is never tokenised again.

    Args:
        tokenizer: a fast tokenizer of transformers with a chat template.
        shots: worked examples, as turns of the conversation before the question.
        tools: what the agent may call.
        system: text of the system message; None leaves it to the template and the tools.
        eos_ids: further tokens that end a turn: those of the model's `generation_config`, which may be several.
        observe_as: role in which tool results are given; "auto" is "tool" where the template knows that role.

    Attributes:
        prefix_preserving: does the template leave earlier turns as they are? If not (it drops earlier thinking),
            `observation` refuses and every turn is rendered anew with `prompt(all messages, tools)`.
        syntax: "json" (`<tool_call>{...}</tool_call>`) if the template lists the tools itself, else "plain"
            (`name("argument")`) with the tools listed in the system message.
    """

    def __init__(
        self,
        tokenizer: Any,
        shots: Sequence[Shot] = (),
        tools: Sequence[Tool] = (SEARCH, ANSWER),
        *,
        system: str | None = None,
        eos_ids: Sequence[int] = (),
        observe_as: Literal["auto", "tool", "user"] = "auto",
    ):
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError("the tokenizer has no chat template; use the plain-text renderer")
        self.codec = Codec(tokenizer)
        self.tools, self.shots, self.system, self.eos_ids = tuple(tools), tuple(shots), system, tuple(eos_ids)
        self.syntax: Syntax = "json" if self._lists_tools() else "plain"
        self.observe_as = observe_as if observe_as != "auto" else ("tool" if self._preserves("tool", "x") else "user")
        self.prefix_preserving = self._preserves(self.observe_as, _THOUGHT)
        self._closer = self._find_closer()

    # -- the contract ------------------------------------------------------------------------------------

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The token that ends a turn in the template, the tokenizer's end of text, and those of the model."""
        ends = [*self._closer[-1:], self.codec.tokenizer.eos_token_id, *self.eos_ids]
        return tuple(dict.fromkeys(i for i in ends if i is not None))

    def prompt(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> list[Span]:
        """Render a conversation up to where the agent writes: the first turns, or all of it anew."""
        strange = [tool.name for tool in tools if tool.name not in {t.name for t in self.tools}]
        if strange:
            raise ValueError(f"ChatTemplate was made for {[t.name for t in self.tools]}, not {strange}; pass `tools=`")
        contents: list[_Content] = []
        turns = self._head(messages, contents) + self._shot_turns(contents)
        turns += [self._turn(m, contents, "prompt") for m in messages if m.role != "system"]
        return self._spans(self._render(turns, tools=True), contents, turn=-1)

    def observation(self, messages: Sequence[Message], turn: int, *, closed: bool) -> list[Span]:
        """Render what the template puts behind the agent's message: its end, the observations, the next beginning."""
        roles = {self._role(m) for m in messages}
        if not all(self._preserves(role, _THOUGHT) for role in roles):
            raise ValueError(
                f"this template does not leave earlier turns as they are before a message of role {sorted(roles)}; "
                "render the whole conversation with prompt(messages, tools)"
            )
        contents: list[_Content] = []
        before = [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": _mark(contents, _Content("", None))},
        ]
        after = [self._turn(m, contents, "observation") for m in messages]
        text = self._render(before + after).split(_MARK.format(0), 1)[1]
        spans = self._spans(text, contents, turn)
        return self._without_closer(spans) if closed else self._with_inserted(spans)

    def parse(self, token_ids: Sequence[int], message_id: str) -> Message:
        """Read a generation: its text without control tokens, and its calls."""
        text = self.codec.decode([i for i in token_ids if i not in self._hidden])
        calls = read_calls(text, self.tools, message_id) if self.tools else ()
        return Message(message_id, "assistant", parts=text, calls=calls)  # type: ignore[arg-type]

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """Return each token's text; joined they are the text."""
        return self.codec.pieces(token_ids)

    def encode(self, text: str) -> list[int]:
        """Tokenise a text as it stands; control tokens spelled in it stay text."""
        return self.codec.encode(text)

    def answer_probe(self, answer: str) -> tuple[list[int], tuple[int, int]]:
        """Return the tokens of a call of "answer" (or the last tool) with this text, and the [start, stop) of it."""
        tool = next((t for t in self.tools if t.name == "answer"), self.tools[-1])
        argument = next(iter(tool.parameters["properties"]))
        hole = "\ue000"
        lead, tail = write_call(tool.name, {argument: hole}, self.syntax).split(hole)
        inner = json.dumps(answer, ensure_ascii=False)[1:-1]
        ids = self.encode(lead + inner + tail)
        return ids, self.codec.overlapping(ids, len(lead), len(lead) + len(inner))

    # -- the conversation as the template wants it -------------------------------------------------------

    def _head(self, messages: Sequence[Message], contents: list[_Content]) -> list[dict[str, Any]]:
        """Return the system turn: the world's, ours, and the list of tools if the template has no place for it."""
        given = [m for m in messages if m.role == "system"]
        texts = [self.system or "", *(m.text for m in given)]
        texts += [describe(self.tools)] if self.tools and self.syntax == "plain" else []
        text = "\n\n".join(t for t in texts if t)
        if not text:
            return []
        content = _Content(text, given[0].id if given else None, "prompt")
        return [{"role": "system", "content": _mark(contents, content)}]

    def _shot_turns(self, contents: list[_Content]) -> list[dict[str, Any]]:
        return [
            {"role": role, "content": _mark(contents, _Content(text, None, "prompt"))}
            for shot in self.shots
            for role, text in self._shot(*shot)
        ]

    def _shot(self, question: str, calls: Sequence[tuple[str, ...]], answer: str) -> list[tuple[str, str]]:
        turns = [("user", question)]
        for call in calls:
            name, value, result = call if len(call) == 3 else (self.tools[0].name, *call)
            turns += [("assistant", self._write(name, value)), (self.observe_as, result)]
        last = next((t.name for t in self.tools if t.name == "answer"), self.tools[-1].name)
        return [*turns, ("assistant", self._write(last, answer))]

    def _write(self, name: str, value: str) -> str:
        tool = next(t for t in self.tools if t.name == name)
        return write_call(name, {next(iter(tool.parameters["properties"])): value}, self.syntax)

    def _turn(self, message: Message, contents: list[_Content], origin: Origin) -> dict[str, Any]:
        """Return a message for the template; thinking must be seen by it (it may drop it), all else is marked."""
        text = message.text
        if message.role == "assistant" and "</think>" in text:
            return {"role": "assistant", "content": text.replace("\ue000", "\ufffd")}
        return {"role": self._role(message), "content": _mark(contents, _Content(text, message.id, origin))}

    def _role(self, message: Message) -> str:
        return self.observe_as if message.role == "tool" else message.role

    def _render(self, turns: list[dict[str, Any]], *, tools: bool = False, open_: bool = True) -> str:
        listed = [schema(t) for t in self.tools] if tools and self.tools else None
        return self.codec.tokenizer.apply_chat_template(
            turns, tools=listed, tokenize=False, add_generation_prompt=open_
        )

    # -- what the template does --------------------------------------------------------------------------

    def _lists_tools(self) -> bool:
        ask = [{"role": "user", "content": "x"}]
        return bool(self.tools) and self._render(ask, tools=True) != self._render(ask)

    def _preserves(self, role: str, said: str) -> bool:
        """Does every later prompt extend the earlier one and what the agent wrote after it?"""
        ask, reply = {"role": "user", "content": "question"}, {"role": "assistant", "content": said}
        back = {"role": role, "content": "result"}
        try:
            prompts = [self._render([ask, *[reply, back] * n]) for n in range(3)]
        except Exception:  # templates refuse roles they do not know, each with an exception of its own
            return False
        grows = all(b.startswith(a + said) for a, b in zip(prompts, prompts[1:], strict=False))
        return grows and "result" in prompts[1]

    def _find_closer(self) -> list[int]:
        """Return the tokens the template puts behind an agent's message, up to the first control token."""
        contents: list[_Content] = []
        said = {"role": "assistant", "content": _mark(contents, _Content("", None))}
        text = self._render([{"role": "user", "content": "x"}, said], open_=False).split(_MARK.format(0), 1)[1]
        ids = self.codec.encode(text, special=True)
        first = next((n for n, i in enumerate(ids) if i in self._hidden), None)
        return [] if first is None else ids[: first + 1]

    @property
    def _hidden(self) -> frozenset[int]:
        return self.codec.control_ids

    def _without_closer(self, spans: list[Span]) -> list[Span]:
        """Drop the end of the agent's message: it was sampled."""
        n = len(self._closer)
        if not spans or spans[0].ids[:n] != tuple(self._closer):
            return spans
        return [s for s in [_cut(spans[0], n, None, spans[0].origin), *spans[1:]] if len(s)]

    def _with_inserted(self, spans: list[Span]) -> list[Span]:
        n = len(self._closer)
        if not n or not spans or spans[0].ids[:n] != tuple(self._closer):
            return spans
        first = spans[0]
        parts = [_cut(first, 0, n, "inserted"), _cut(first, n, None, first.origin), *spans[1:]]
        return [s for s in parts if len(s)]

    def _spans(self, text: str, contents: list[_Content], turn: int) -> list[Span]:
        """Tokenise a rendered text: template as such, contents as plain text."""
        spans = []
        for n, part in enumerate(_MARKED.split(text)):
            content = contents[int(part)] if n % 2 else None
            ids = self.codec.encode(content.text) if content else self.codec.encode(part, special=True)
            origin: Origin = content.origin if content else "template"
            message = content.message if content else None
            spans.append(Span(tuple(ids), origin, turn, message, pieces=self.pieces(ids)))
        return [s for s in spans if len(s)]


class _Content:
    """A text that stands in the conversation, and where it comes from."""

    def __init__(self, text: str, message: str | None, origin: Origin = "prompt"):
        self.text, self.message, self.origin = text, message, origin


def _mark(contents: list[_Content], content: _Content) -> str:
    contents.append(content)
    return _MARK.format(len(contents) - 1)


def _cut(span: Span, start: int, stop: int | None, origin: Origin) -> Span:
    pieces = None if span.pieces is None else span.pieces[start:stop]
    return Span(span.ids[start:stop], origin, span.turn, span.message, pieces=pieces)


def schema(tool: Tool) -> dict[str, Any]:
    """Return a tool as chat templates expect it."""
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def describe(tools: Sequence[Tool]) -> str:
    """List tools in words, for a template that has no place for them."""
    lines = [f"- {t.name}({', '.join(t.parameters.get('properties', {}))}): {t.description}" for t in tools]
    example = f'{tools[0].name}("...")'
    return "\n".join(["You can call these tools:", *lines, f"Reply with one call and nothing else, such as {example}"])
