"""A small set of rollouts with everything a view must tell apart, and credits for it made by hand."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
import torch

from workbench import credit as c
from workbench import view
from workbench.credit import Credit
from workbench.objective import clipped
from workbench.recipes.base import Recipe
from workbench.rollouts import Rollouts
from workbench.trajectory import Example, Message, Pair, Sequence, Span, ToolCall, Trajectory, Turn
from workbench.view import html, payload

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
    outcome = [1.0 if t.outcome else -1.0 for t in r]
    flat = [0.0 if i >= 4 else outcome[i] for i in range(len(r))]
    token_turn = batch.token_turn.tolist()
    wave = [((i * 37) % 19 - 9) / 7 for i in range(tokens)]
    by_turn: list[float | None] = [[0.35, 0.9, -0.4][i % 3] - 0.1 * (i % 5) for i in range(turns)]
    return {
        "GRPO": credit("trajectory", flat, [4, 5, 6, 7]),
        "MatchTIR": credit("turn", [None if i % 3 == 2 else v for i, v in enumerate(by_turn)]),
        "IGPO": credit("turn", [0.0 if i % 6 == 1 else 1.3 * (v or 0.0) - 0.2 for i, v in enumerate(by_turn)]),
        "A²TGPO": credit("token", [None if k % 4 == 3 else wave[i] for i, k in enumerate(token_turn)]),
    }


# ------------------------------------------------------------------------- what an untrusted notebook keeps

# JupyterLab's sanitiser (4.6, packages/apputils/src/sanitizer.ts): elements, attributes and style values that survive,
# here only those we mean to use, and the values stricter than it (its own expressions match too much).
ELEMENTS = frozenset(
    ("div", "span", "p", "pre", "details", "summary") + ("table", "caption", "thead", "tbody", "tr", "td", "th")
)
ATTRIBUTES = {"*": {"style", "title"}, "td": {"colspan"}, "th": {"colspan", "scope"}, "details": {"open"}}
LENGTH = r"-?(?:\d*\.)?\d+(?:px|em|%)|0"
COLOUR = r"rgba\(\d{1,3},\d{1,3},\d{1,3},(?:0|1|0?\.\d+)\)"
LINE = rf"(?:0|\d+px) (?:solid|dotted|dashed) {COLOUR}|0"
STOP = rf"{COLOUR}(?: (?:{LENGTH}))?"
GRADIENT = rf"linear-gradient\((?:to right|\d+deg)(?:,{STOP}){{2,}}\)"
LENGTHS = rf"(?:{LENGTH})(?: (?:{LENGTH})){{0,3}}"
STYLES = {
    "align-items": "center|baseline",
    "background-clip": "padding-box",
    "background-color": COLOUR,
    "background-image": rf"{GRADIENT}(?:,{GRADIENT})*",
    "background-position": "left center(?:,left top)?",
    "background-repeat": "no-repeat|repeat-x,no-repeat",
    "background-size": rf"(?:{LENGTH}) (?:{LENGTH})(?:,(?:{LENGTH}) (?:{LENGTH}))*",
    "border": LINE,
    "border-bottom": LINE,
    "border-collapse": "collapse",
    "border-left": LINE,
    "border-radius": LENGTH,
    "border-right": LINE,
    "border-top": LINE,
    "caption-side": "top",
    "cursor": "pointer",
    "display": "flex|inline-block|block",
    "flex-wrap": "wrap",
    "font": r"13px/1\.5 system-ui,-apple-system,sans-serif",
    "font-family": "ui-monospace,Menlo,Consolas,monospace",
    "font-size": LENGTH,
    "font-style": "italic",
    "font-weight": "normal|600",
    "gap": LENGTHS,
    "height": LENGTH,
    "line-height": r"\d(?:\.\d+)?",
    "margin": LENGTHS,
    "margin-left": LENGTH,
    "max-height": LENGTH,
    "max-width": LENGTH,
    "min-width": LENGTH,
    "opacity": r"1|0?\.\d+",
    "overflow-wrap": "break-word",
    "overflow-x": "auto",
    "overflow-y": "auto",
    "padding": LENGTHS,
    "padding-left": LENGTH,
    "table-layout": "auto|fixed",
    "text-align": "left|right|center",
    "text-decoration": "line-through",
    "vertical-align": "baseline|middle",
    "white-space": "normal|nowrap|pre|pre-wrap",
    "width": LENGTH,
}
VOID = frozenset({"br", "hr", "img", "meta"})
NO_MATHS = "mathjax_ignore tex2jax_ignore"


class Reader(HTMLParser):
    """Reads a fragment as a browser would, keeps its text, and notes whatever the sanitiser would take away."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: Counter[str] = Counter()
        self.text: list[str] = []
        self.titles: list[str] = []
        self.wrong: list[str] = []
        self.literal: list[int] = []  # depths of elements in which a notebook leaves TeX alone

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        if tag not in ELEMENTS:
            self.wrong.append(f"element <{tag}>")
        for name, value in attrs:
            if (tag, name, value) == ("div", "class", NO_MATHS):
                self.literal.append(len(self.open))
                continue
            if name not in ATTRIBUTES["*"] | ATTRIBUTES.get(tag, set()):
                self.wrong.append(f"<{tag} {name}>")
            if name == "title":
                self.titles.append(value or "")
            if name == "style":
                self.read_style(tag, value or "")

    def read_style(self, tag: str, style: str) -> None:
        for declaration in style.split(";"):
            name, _, value = declaration.partition(":")
            if name not in STYLES or not re.fullmatch(STYLES[name], value):
                self.wrong.append(f"<{tag}> {declaration!r}")

    def handle_endtag(self, tag: str) -> None:
        if self.literal and self.literal[-1] == len(self.open):
            self.literal.pop()
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if not self.literal and re.search(r"\$|\\[(\[]|\\begin", data):
            self.wrong.append(f"a notebook typesets {data!r} as TeX")

    def handle_comment(self, data: str) -> None:
        self.wrong.append("a comment")

    def handle_decl(self, decl: str) -> None:
        self.wrong.append("a declaration")

    unknown_decl = handle_pi = handle_decl


def read_html(fragment: str) -> Reader:
    """Parse a fragment; `wrong` lists what an untrusted notebook would take away, `text` holds its text."""
    reader = Reader()
    reader.feed(fragment)
    reader.close()
    if reader.open:
        reader.wrong.append(f"left open: {reader.open}")
    return reader


# ------------------------------------------------------------------------------------------------ fixtures


def gigpo_like() -> Recipe:
    """A recipe with branches, a drop, unknown evidence and two terms."""
    episode = c.chain(
        c.read("outcome"), c.center(c.task), c.drop(c.constant(c.task), "all outcomes are equal"), c.spread("turn")
    )
    turn = c.chain(c.read("turn_reward"), c.fill(0.0), c.reward_to_go(0.9), c.center(c.same_state))
    chain = c.chain(c.mix(episode, turn, weights=(1.0, 0.5)), c.spread("token"))
    return Recipe("gigpo_like", chain, clipped(0.2, 0.28, kl=0.01))


@pytest.fixture(scope="session", name="rollouts")
def _rollouts() -> Rollouts:
    return rollouts()


@pytest.fixture(scope="session", name="credits")
def _credits() -> dict[str, Credit]:
    return credits(rollouts())


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """Builders of the small things above."""
    return SimpleNamespace(
        trajectory=trajectory, credit=credit, span=span, split=split, recipe=gigpo_like, read=read_html
    )


def fragments(r: Rollouts, given: Mapping[str, Credit]) -> dict[str, str]:
    """Every maker's HTML of the given rollouts, by name."""
    recipe = gigpo_like()
    example = Example((1, 2, 3), (0.0, 1.0, 0.5), source=(r[0].id, 0), reason=r[0].turns[0].action.text)
    things = {
        "credit_map": view.CreditMap(r, 0, given),
        "overview": view.Overview(r, given),
        "ribbons": view.Ribbons(r, 0, recipe),
        "rollouts": r,
        "group": r.groups[0],
        "trajectory": r[0],
        "turn": r[0].turns[0],
        "message": r[0].turns[0].action,
        "part": r[0].turns[0].action.parts[0],
        "call": r[0].turns[0].calls[0],
        "sequence": r[0].sequences[0],
        "span": r[0].sequences[0].spans[2],
        "example": example,
        "pair": Pair(example, example, 1, reason=example.reason),
        "recipe": recipe,
        "chain": recipe.chain,
        "stage": recipe.chain.stages[-1],
        "objective": recipe.objective,
        "trace": recipe.trace(r.batch()),
        "credit": next(iter(given.values())),
        "column": r.batch()["turn_reward"],
        "batch": r.batch(),
    }
    out = {name: view.mimebundle(thing)["text/html"] for name, thing in things.items()}
    out["method_table"] = html.method_table(payload.method_table(r, 0, given))
    stories = [payload.transcript(t) for t in r]
    out["gallery"] = html.gallery(payload.group_overview(r), stories, 500_000)
    return out


@pytest.fixture(scope="session", name="fragments")
def _fragments() -> Callable[[Rollouts, Mapping[str, Credit]], dict[str, str]]:
    return fragments
