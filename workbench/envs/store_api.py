"""A small store behind an API of tools, and gold traces of calls: pure functions.

A store says how many are in each thing. Calls that fail say why and change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.envs.base import Tool
from workbench.envs.games import move_tool
from workbench.envs.hop import ANSWER
from workbench.envs.oracle import Call

Store = Mapping[str, int]
"""How many are in each thing."""

COUNT = move_tool("count", "Say how many are in a thing, e.g. 'red box'.", "thing")
ADD = move_tool("add", "Put some more into a thing, e.g. '3 red box'.", "what")
TAKE = move_tool("take", "Take some out of a thing, e.g. '3 red box'.", "what")
TOOLS = (COUNT, ADD, TAKE, ANSWER)
ARGUMENT = {"count": "thing", "add": "what", "take": "what", "answer": "text"}

NO_SUCH_TOOL = "error : use count , add , take or answer"
NO_SUCH_THING = "error : there is no such thing"
NEEDS = {"count": "error : count needs a thing", "answer": "error : answer needs a text"}
NEEDS |= {name: f"error : {name} needs a number and a thing" for name in ("add", "take")}
TOO_FEW = "error : there are not so many"
MOST = 99  # in a thing: two digits
TOO_MANY = f"error : a thing holds {MOST}"


# ----------------------------------------------------------------------------------------------------------- the API


@dataclass(frozen=True)
class Done:
    """What a call did: the store after it, what it says, and did it work?"""

    store: Store
    said: str
    worked: bool


def run_call(store: Store, name: str, argument: str) -> Done:
    """Run `count`, `add` or `take`; whatever is wrong is said, and the store stays as it is.

    Example:
        >>> run_call({"red box": 2}, "add", "3 red box")
        Done(store={'red box': 5}, said='red box holds 5', worked=True)
        >>> run_call({"red box": 2}, "take", "3 red box").said
        'error : there are not so many'
    """
    words = argument.lower().split()
    number = None
    if name != "count":
        if not words or not re.fullmatch("[0-9]{1,2}", words[0]):
            return Done(store, NEEDS[name], False)
        number, words = int(words[0]), words[1:]
    thing = " ".join(words)
    if thing not in store:
        return Done(store, NO_SUCH_THING, False)
    now = store[thing] + {"count": 0, "add": number or 0, "take": -(number or 0)}[name]
    if not 0 <= now <= MOST:
        return Done(store, TOO_FEW if now < 0 else TOO_MANY, False)
    return Done({**store, thing: now}, f"{thing} holds {now}", True)


def trace_problem(calls: Any, tools: Sequence[Tool]) -> str:
    """Say what keeps a gold trace from being calls of these tools; "" if nothing does.

    Args:
        calls: should be a list of {"name": ..., "arguments": {...}}.
        tools: what there is.

    Example:
        >>> trace_problem([{"name": "count", "arguments": {"item": "red box"}}], TOOLS)
        "call 0 of 'count' has the arguments ['item'], the tool takes ['thing'] and needs ['thing']"
    """
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        return f"expected a list of calls, got {type(calls).__name__}"
    by_name = {tool.name: tool for tool in tools}
    for number, call in enumerate(calls):
        if not isinstance(call, Mapping) or not isinstance(call.get("arguments"), Mapping):
            return f"call {number}: expected {{'name': ..., 'arguments': {{...}}}}, got {call!r}"
        tool = by_name.get(call.get("name", ""))
        if tool is None:
            return f"call {number} is of {call.get('name')!r}, the tools are {list(by_name)}"
        takes, needs = tool.parameters.get("properties", {}), tool.parameters.get("required", [])
        given = call["arguments"]
        if not set(needs) <= set(given) <= set(takes):
            has = f"the arguments {sorted(given)}, the tool takes {sorted(takes)} and needs {sorted(needs)}"
            return f"call {number} of {tool.name!r} has {has}"
        odd = next((key for key in given if takes[key].get("type") == "string" and not isinstance(given[key], str)), "")
        if odd:
            return f"call {number} of {tool.name!r}: {odd!r} is {given[odd]!r}, the tool takes a text"
    return ""


def played(store: Store, calls: Sequence[Call]) -> Store:
    """Return the store after a gold trace.

    Raises:
        ValueError: a call of it does not work.
    """
    for number, call in enumerate(calls):
        if call["name"] != "answer":
            done = run_call(store, call["name"], call["arguments"][ARGUMENT[call["name"]]])
            if not done.worked:
                raise ValueError(f"call {number} of the gold trace, {call!r}, fails: {done.said!r}")
            store = done.store
    return store


def share(store: Store, goal: Store) -> float:
    """Return which share of the things hold what they should.

    Example:
        >>> share({"red box": 1, "blue cat": 2}, {"red box": 1, "blue cat": 3})
        0.5
    """
    return sum(store[thing] == goal[thing] for thing in goal) / len(goal)
