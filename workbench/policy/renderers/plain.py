"""Plain text: one line an action. What a small model without chat training understands best.

Question: What is the currency of the country whose capital is Paris?
Search: capital Paris
Result: Paris is the capital of France.
Answer: Euro
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from workbench.envs.base import Tool
from workbench.policy.renderers.codec import Codec
from workbench.trajectory import Message, Origin, Span, ToolCall

Shot = tuple[str, Sequence[tuple[str, ...]], str]
"""A worked example: (question, [(search, result) or (tool, value, result), ...], answer)."""


def _text_tool(name: str, description: str, argument: str) -> Tool:
    schema = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    return Tool(name, description, schema)


SEARCH = _text_tool("search", "Search for facts.", "query")
ANSWER = _text_tool("answer", "Give the final answer.", "text")


def label(tool: Tool) -> str:
    """Return the word that begins a tool's line: "search" -> "Search", "look_up" -> "Look up"."""
    return tool.name.replace("_", " ").capitalize()


def only_argument(tool: Tool) -> str:
    """Return the name of a tool's one text argument.

    Raises:
        ValueError: it has none or several; such a tool does not fit on a line.
    """
    properties: Mapping[str, Any] = tool.parameters.get("properties", {})
    names = [name for name, schema in properties.items() if schema.get("type", "string") == "string"]
    if len(names) != 1 or len(properties) != 1:
        raise ValueError(
            f"tool {tool.name!r}: a plain-text line holds exactly one text argument, it has {list(properties)}; "
            "use the chat renderer"
        )
    return names[0]


def one_line(text: str) -> str:
    """Put a text on one line; a line break inside it could pass for a line of somebody else."""
    return " ".join(text.split())


class PlainText:
    """Render a conversation as labelled lines; a generation is one line.

    Args:
        tokenizer: a fast tokenizer of transformers.
        shots: worked examples shown before the question.
        tools: the tools, each with one text argument; the first is the one that two-part calls of `shots` mean, and
            "answer" (or the last) is the one that ends an example.
    """

    prefix_preserving = True

    def __init__(self, tokenizer: Any, shots: Sequence[Shot] = (), tools: Sequence[Tool] = (SEARCH, ANSWER)):
        if not tools:
            raise ValueError("PlainText needs at least one tool")
        self.codec = Codec(tokenizer)
        self.tools = tuple(tools)
        self.shots = tuple(shots)
        self._lines = {label(tool): (tool.name, only_argument(tool)) for tool in self.tools}
        self._labels = {tool.name: label(tool) for tool in self.tools}

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Every token with a newline in it: an action is one line."""
        return self.codec.newline_ids

    def prompt(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> list[Span]:
        """Render the worked examples and the messages before the first turn.

        The whole text is tokenised at once (a line break that ends one part may merge with what follows); a token
        belongs to the part its first character stands in.
        """
        strange = [tool.name for tool in tools if tool.name not in self._labels]
        if strange:
            raise ValueError(f"PlainText was made for the tools {list(self._labels)}, not {strange}; pass `tools=`")
        parts = [(self.shots_text(), None), *((self.line_of(m), m.id) for m in messages)]
        ids = self.encode("".join(text for text, _ in parts))
        ends = list(accumulate(len(text) for text, _ in parts))
        pieces = self.pieces(ids)
        starts = accumulate((len(piece) for piece in pieces[:-1]), initial=0)
        homes = [min(bisect_right(ends, start), len(parts) - 1) for start in starts] if ids else []
        spans = []
        for home, (_, message) in enumerate(parts):
            mine = slice(bisect_left(homes, home), bisect_right(homes, home))
            spans.append(Span(tuple(ids[mine]), "prompt", message=message, pieces=pieces[mine]))
        return [span for span in spans if len(span)]

    def observation(self, messages: Sequence[Message], turn: int, *, closed: bool) -> list[Span]:
        """Render what came back; a generation that ran out of tokens is closed by an inserted newline."""
        closing = [] if closed else [self._span("\n", "inserted", turn)]
        return closing + [self._span(self.line_of(m), "observation", turn, m.id) for m in messages]

    def parse(self, token_ids: Sequence[int], message_id: str) -> Message:
        """Read one line: `Search: x` is a call of search; anything else is a call with an error."""
        ids = list(token_ids)
        control = next((n for n, i in enumerate(ids) if i in self.codec.control_ids), len(ids))
        text = self.codec.decode(ids[:control]).split("\n", 1)[0]
        call = self.read_line(text, f"{message_id}.call0")
        return Message(message_id, "assistant", parts=text, calls=(call,))  # type: ignore[arg-type]

    def read_line(self, line: str, call_id: str) -> ToolCall:
        """Return the call a line makes, or the reason why it makes none."""
        name, colon, value = line.strip().partition(":")
        if not colon or name not in self._lines:
            known = " or ".join(f"'{name}: ...'" for name in self._lines)
            return ToolCall(call_id, "", raw=line, error=f"expected a line {known}")
        tool, argument = self._lines[name]
        if not value.strip():
            return ToolCall(call_id, tool, raw=line, error=f"nothing after '{name}:'")
        return ToolCall(call_id, tool, raw=line, arguments={argument: value.strip()})

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """Return each token's text; joined they are the text."""
        return self.codec.pieces(token_ids)

    def encode(self, text: str) -> list[int]:
        """Tokenise a text as it stands; control tokens spelled in it stay text."""
        return self.codec.encode(text)

    def answer_probe(self, answer: str) -> tuple[list[int], tuple[int, int]]:
        """Return the tokens of `Answer: <answer>` with its newline, and the [start, stop) of the answer in them."""
        lead = f"{self._answer_label}: "
        ids = self.encode(f"{lead}{one_line(answer)}\n")
        return ids, self.codec.overlapping(ids, len(lead), len(lead) + len(one_line(answer)))

    @property
    def _answer_label(self) -> str:
        return self._labels.get("answer", label(self.tools[-1]))

    def shots_text(self) -> str:
        """Return the worked examples as text, a blank line after each."""
        return "".join(f"{self._shot(*shot)}\n" for shot in self.shots)

    def _shot(self, question: str, calls: Sequence[tuple[str, ...]], answer: str) -> str:
        lines = [f"Question: {one_line(question)}"]
        for call in calls:
            name, value, result = call if len(call) == 3 else (self.tools[0].name, *call)
            lines += [f"{self._labels[name]}: {one_line(value)}", f"Result: {one_line(result)}"]
        return "\n".join([*lines, f"{self._answer_label}: {one_line(answer)}"]) + "\n"

    def line_of(self, message: Message) -> str:
        """Return the line of a message; a system message has a blank line after it."""
        leads = {"user": "Question: ", "tool": "Result: ", "assistant": "", "system": ""}
        gap = "\n" if message.role == "system" else ""
        return f"{leads[message.role]}{one_line(message.text)}\n{gap}"

    def _span(self, text: str, origin: Origin, turn: int = -1, message: str | None = None) -> Span:
        ids = self.encode(text)
        return Span(tuple(ids), origin, turn=turn, message=message, pieces=self.pieces(ids))
