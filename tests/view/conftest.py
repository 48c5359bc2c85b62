"""A small set of rollouts with everything a view must tell apart, and credits for it made by hand."""

from __future__ import annotations

import re

import torch

from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.trajectory import Message, Sequence, Span, ToolCall, Trajectory, Turn

CAPITALS = {"Mozambique": ("Maputo", "metical"), "Finland": ("Helsinki", "euro")}


def split(text: str) -> tuple[str, ...]:
    """Cut a text into word-like pieces whose concatenation is the text."""
    return tuple(re.findall(r"\n|[^\s]{1,7}|\s(?=\S)\S{0,7}|\s", text)) or ("",)


def span(text: str, origin: str, turn: int, message: str | None = None) -> Span:
    pieces = split(text)
    logprobs = tuple(-0.1 * (1 + i % 3) for i in range(len(pieces))) if origin == "sampled" else None
    return Span(tuple(range(len(pieces))), origin, turn, message, logprobs, pieces)  # type: ignore[arg-type]


def trajectory(identity: str, group: str, actions: list[str], results: list[str], outcome: float | None) -> Trajectory:
    """One episode: each action is sampled after a forced "Search:" or "Answer:", each result comes back from a tool."""
    question = Message(f"{identity}/q", "user", f"Question: what is the currency of the country named in {group}?")
    turns, spans = [], [span(question.text, "prompt", -1, question.id)]
    for k, action in enumerate(actions):
        name = "search" if k < len(actions) - 1 else "answer"
        head = f"{name.capitalize()}:"
        message = Message(
            f"{identity}/a{k}",
            "assistant",
            f"{head}{action}\n",
            calls=(ToolCall(f"{identity}/c{k}", name, f"{head}{action}", {"query": action.strip()}),),
        )
        back = tuple(
            Message(f"{identity}/o{k}", "tool", f"Result: {text}", author="search", answers=f"{identity}/c{k}")
            for text in results[k : k + 1]
        )
        turns.append(
            Turn(message, back, stop_reason="newline", reward=0.2 if k == 0 else None, state_key=f"{group}/{k}")
        )
        spans += [span(head, "forced", k, message.id), span(f"{action}\n", "sampled", k, message.id)]
        spans += [span(m.text, "observation", k, m.id) for m in back]
    return Trajectory(
        identity, group, (question,), tuple(turns), (Sequence(tuple(spans)),), outcome=outcome, gold={"answer": group}
    )


def rollouts() -> Rollouts:
    """Two groups of four, three turns each; the second group's outcomes are all equal."""
    out = []
    for g, (country, (capital, money)) in enumerate(CAPITALS.items()):
        for s in range(4):
            right = g == 0 and s % 2 == 0
            actions = [
                f" country whose capital is {capital}",
                f" currency of {country}" if s != 3 else f" currency of the place that {capital} is in, if any",
                f" {money}" if right else " the dollar",
            ]
            results = [
                f"{capital} is the capital of {country}. It lies on the coast and is the largest city of the country.",
                f"The currency of {country} is the {money}." if s < 3 else "nothing found",
            ]
            out.append(trajectory(f"run0/{g:03d}/{country}/{s}", country, actions, results, float(right)))
    return Rollouts(tuple(out))


def credit(level: str, values: list[float | None], drop: list[int] | None = None) -> Credit:
    """A credit from a list with None for unknown; `drop` holds positions that a rule took out."""
    known = torch.tensor([v is not None for v in values])
    out = Credit(torch.tensor([v if v is not None else 0.0 for v in values], dtype=torch.float64), level, known)
    if drop:
        where = torch.zeros(len(values), dtype=torch.bool)
        where[drop] = True
        out = out.drop(where, "all outcomes of the group are equal")
    return out


def credits(r: Rollouts) -> dict[str, Credit]:
    """Four invented methods: per trajectory, per turn with unknowns, per token, and one that drops the second group."""
    batch = r.batch()
    turns, tokens = batch.count("turn"), batch.count("token")
    group = batch.up("turn", "group").tolist()
    outcome = [1.0 if t.outcome else -1.0 for t in r]
    flat = [0.0 if i >= 4 else outcome[i] for i in range(len(r))]
    token_turn = batch.token_turn.tolist()
    wave = [((i * 37) % 19 - 9) / 7 for i in range(tokens)]
    by_turn: list[float | None] = [[0.35, 0.9, -0.4][i % 3] - 0.1 * (i % 5) for i in range(turns)]
    return (
        {
            "GRPO": credit("trajectory", flat, [4, 5, 6, 7]),
            "MatchTIR": credit("turn", [None if i % 3 == 2 else v for i, v in enumerate(by_turn)]),
            "IGPO": credit("turn", [0.0 if i % 6 == 1 else 1.3 * (v or 0.0) - 0.2 for i, v in enumerate(by_turn)]),
            "A²TGPO": credit("token", [None if k % 4 == 3 else wave[i] for i, k in enumerate(token_turn)]),
        }
        if group
        else {}
    )
