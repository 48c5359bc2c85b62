"""Reading and writing tool calls in chat text. What a model wrote is parsed, never run; what fails is a value."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from workbench.envs.base import Tool
from workbench.trajectory import ToolCall

Syntax = Literal["json", "plain"]
LONGEST = 2000  # characters of an argument list; the parser of Python is not made for nesting without end
_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


def write_call(name: str, arguments: Mapping[str, Any], syntax: Syntax) -> str:
    """Write a call as a model should.

    Example:
        >>> write_call("search", {"query": "Paris"}, "plain")
        'search("Paris")'
        >>> write_call("search", {"query": "Paris"}, "json").splitlines()[1]
        '{"name": "search", "arguments": {"query": "Paris"}}'
    """
    if syntax == "plain":
        return f"{name}({', '.join(json.dumps(v, ensure_ascii=False) for v in arguments.values())})"
    call = json.dumps({"name": name, "arguments": dict(arguments)}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


def read_calls(text: str, tools: Sequence[Tool], message_id: str) -> tuple[ToolCall, ...]:
    """Return the calls in a text, in order; at least one: if there is none, one that says so.

    Three ways to write a call are read: `<tool_call>{json}</tool_call>`, a bare JSON object with a "name", and
    `name(argument)` on a line. What stands in <think> is thought, not said.
    """
    said = _THINKING.sub("", text)
    tagged = _TAGGED.findall(said)
    if tagged:
        found = [_from_json(raw, tools) for raw in tagged]
    elif said.strip().startswith("{"):
        found = [_from_json(said, tools)]
    else:
        found = [call for line in said.split("\n") if (call := _from_line(line, tools))]
    if not found:
        known = " or ".join(f"{tool.name}(...)" for tool in tools)
        found = [("", text, None, f"expected a call {known}")]
    return tuple(
        ToolCall(f"{message_id}.call{n}", name, raw=raw, arguments=arguments, error=error)
        for n, (name, raw, arguments, error) in enumerate(found)
    )


Found = tuple[str, str, dict[str, Any] | None, str | None]
"""Name, raw text, and arguments or the error."""


def _from_json(raw: str, tools: Sequence[Tool]) -> Found:
    raw = raw.strip()
    try:
        call, _ = json.JSONDecoder().raw_decode(raw)  # what stands behind the object is ignored
    except (ValueError, RecursionError) as error:
        return "", raw, None, f"no valid JSON: {error}"
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return "", raw, None, 'expected {"name": ..., "arguments": {...}}'
    arguments = call.get("arguments", call.get("parameters", {}))
    if not isinstance(arguments, dict):
        return call["name"], raw, None, f"expected named arguments, got {type(arguments).__name__}"
    return _checked(call["name"], raw, arguments, tools)


def _from_line(line: str, tools: Sequence[Tool]) -> Found | None:
    names = "|".join(re.escape(tool.name) for tool in tools)
    match = re.search(rf"\b({names})\((.*)\)", line) if names else None
    if match is None:
        return None
    tool = next(t for t in tools if t.name == match[1])
    arguments = _arguments(match[2], list(tool.parameters.get("properties", {})))
    if arguments is None:
        return tool.name, match[0], None, f"cannot read the arguments of {tool.name}(...)"
    return _checked(tool.name, match[0], arguments, tools)


def _arguments(inside: str, names: list[str]) -> dict[str, Any] | None:
    """Read what stands in the brackets: literals in order or by name; else, for one argument, the text as it stands."""
    try:
        if len(inside) > LONGEST:
            raise ValueError("too long to be looked at as literals")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in a model's strings concern nobody
            call = ast.parse(f"f({inside})", mode="eval").body
        assert isinstance(call, ast.Call)
        values = [ast.literal_eval(arg) for arg in call.args]
        named = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        if len(values) <= len(names) and not set(named) & set(names[: len(values)]):
            return dict(zip(names, values, strict=False)) | named
    except (SyntaxError, ValueError, AssertionError, MemoryError, RecursionError, TypeError):
        pass
    return {names[0]: inside.strip().strip("\"'")} if len(names) == 1 else None


def _checked(name: str, raw: str, arguments: dict[str, Any], tools: Sequence[Tool]) -> Found:
    """Compare a call with the tool's schema, as far as names go."""
    tool = next((t for t in tools if t.name == name), None)
    if tool is None:
        return name, raw, None, f"no tool {name!r}; there are {[t.name for t in tools]}"
    wanted = list(tool.parameters.get("properties", {}))
    strange = [key for key in arguments if key not in wanted]
    missing = [key for key in tool.parameters.get("required", []) if key not in arguments]
    if strange or missing:
        return name, raw, None, f"{name} takes {wanted}: missing {missing}, unknown {strange}"
    try:
        json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:  # sets, NaN, halves of characters
        return name, raw, None, f"arguments are no plain data: {error}"
    return name, raw, arguments, None
