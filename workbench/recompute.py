"""Turn the knobs of recipes, edit rewards, and see the credit again: fast enough for a hand on a slider.

    recipe  --turned(gamma=0.9, peers=task, ...)-->  recipe        batch  --edited(...)-->  batch

A knob is a parameter that stages of several methods share. It is found by its name on the stages, whatever recipe they
stand in, so a recipe of a user's own has the same knobs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, get_args

import torch

from workbench.batch import Batch, Level
from workbench.credit import Credit, Node, Work, clip, peers
from workbench.credit.core import Chain, Combine, Stage, _Arrived
from workbench.credit.normalise import Singleton
from workbench.recipes import Recipe

__all__ = ["KNOBS", "Edit", "Knob", "Memory", "Recomputed", "edited", "knobs", "recompute", "turned"]


@dataclass(frozen=True)
class Knob:
    """A parameter that can be turned while one looks.

    Args:
        name: of the parameter on the stages; "clip" bounds what a recipe ends with.
        title: what a screen says.
        says: what turning it does, in a sentence.
        choices: the values by name; empty for a number.
        low, high, step: of a number.
    """

    name: str
    title: str
    says: str
    choices: Mapping[str, Any] = field(default_factory=dict, hash=False)
    low: float = 0.0
    high: float = 1.0
    step: float = 0.01


PEERS = {
    one.name: one
    for one in (peers.task, peers.task_and_turn, peers.same_state, peers.siblings, peers.role, peers.batch)
}
KNOBS: tuple[Knob, ...] = (
    Knob("gamma", "Discount", "what a later turn is worth one turn earlier"),
    Knob("peers", "Peers", "with whom a unit is compared", PEERS),
    Knob("singleton", "Lone member", "what a unit without peers gets", {one: one for one in get_args(Singleton)}),
    Knob("ddof", "ddof", "1: sample spread, 0: population spread", {"0": 0, "1": 1}),
    Knob("clip", "Clip", "bound of the credit, above and below", low=0.05, high=5.0, step=0.05),
)
"""What can be turned, in the order a screen shows it."""


def knobs(recipe: Recipe) -> dict[str, tuple[Any, ...]]:
    """Return which knobs a recipe has, and the values its own stages give them, in order.

    Example:
        >>> from workbench.recipes import gigpo
        >>> knobs(gigpo(gamma=0.9))["gamma"], knobs(gigpo())["peers"]
        ((0.9,), (task, same_state))
    """
    found: dict[str, dict[Any, None]] = {}
    for stage in _stages(recipe.chain):
        for name, value in stage.params:
            if name in NAMES and _plain(name, value):
                found.setdefault(name, {})[value] = None
    return {**{name: tuple(found[name]) for name in NAMES if name in found}, "clip": ()}


NAMES = tuple(knob.name for knob in KNOBS if knob.name != "clip")


def turned(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe with knobs turned; what it does not have is left alone.

    Args:
        recipe: any.
        settings: values by the name of the knob. Every stage that has such a parameter gets it. A discount that is a
            schedule or a column stays.

    Raises:
        KeyError: there is no such knob.
        ValueError: a stage cannot work with it.

    Example:
        >>> from workbench.recipes import gigpo
        >>> turned(gigpo(), {"gamma": 0.5}).chain == gigpo(gamma=0.5).chain
        True
    """
    if unknown := sorted(set(settings) - {knob.name for knob in KNOBS}):
        raise KeyError(f"no knobs {unknown}; there are {[knob.name for knob in KNOBS]}")
    chain = _turned(recipe.chain, {name: value for name, value in settings.items() if name != "clip"})
    if settings.get("clip") is not None:
        chain = _bounded(chain, float(settings["clip"]))
    return recipe if chain == recipe.chain else replace(recipe, chain=chain)


def _plain(name: str, value: Any) -> bool:
    return name != "gamma" or isinstance(value, int | float)


def _stages(node: Node) -> list[Stage]:
    if isinstance(node, Stage):
        return [node]
    parts = node.stages if isinstance(node, Chain) else node.branches if isinstance(node, Combine) else ()
    return [stage for part in parts for stage in _stages(part)]


def _turned(node: Node, settings: Mapping[str, Any]) -> Node:
    if isinstance(node, Chain):
        return Chain(tuple(_turned(one, settings) for one in node.stages))
    if isinstance(node, Combine):
        return replace(node, branches=tuple(_turned(one, settings) for one in node.branches))
    if not isinstance(node, Stage):
        return node
    params = tuple((k, settings[k] if k in settings and _plain(k, v) else v) for k, v in node.params)
    if params == node.params:
        return node
    changed = {k for (k, new), (_, old) in zip(params, node.params, strict=True) if new != old}
    return replace(node, params=params, plain=tuple(k for k in node.plain if k not in changed))


def _bounded(node: Node, bound: float) -> Node:
    """Clip after the last stage but the spread to tokens, so that turns and tokens are bounded alike."""
    if not math.isfinite(bound) or bound <= 0:
        raise ValueError(f"clip: expected a bound above 0, got {bound!r}")
    stages = node.stages if isinstance(node, Chain) else (node,)
    at = len(stages) - 1 if _spreads(stages[-1]) else len(stages)
    return Chain((*stages[:at], clip(-bound, bound), *stages[at:]))


def _spreads(node: Node) -> bool:
    return isinstance(node, Stage) and node.name == "spread"


# ------------------------------------------------------------------------------------------------------ edits


class Edit(NamedTuple):
    """Another value for one unit of a column; None makes it unknown."""

    column: str
    unit: int
    value: float | None


def edited(batch: Batch, edits: Sequence[Edit]) -> Batch:
    """Return the batch with some values replaced; a later edit of a unit wins.

    Raises:
        KeyError: the batch has no such column.
        IndexError: a column has no such unit.
    """
    for name in dict.fromkeys(edit.column for edit in edits):
        if name not in batch.columns:
            raise KeyError(f"no column {name!r} to edit; there are {sorted(batch.columns)}")
        column = batch[name]
        values, known = column.values.to(torch.float64).clone(), column.known.clone()
        for edit in edits:
            if edit.column != name:
                continue
            if not 0 <= edit.unit < len(values):
                raise IndexError(f"{name}: there is no {column.level} {edit.unit}, there are {len(values)}")
            known[edit.unit] = edit.value is not None
            values[edit.unit] = 0.0 if edit.value is None else float(edit.value)
        origin = replace(column.provenance, provider=f"{column.provenance.provider}, edited")
        batch = batch.with_column(name, column.level, values, known, provenance=origin)
    return batch


# ------------------------------------------------------------------------------------------------------ again


@dataclass
class Memory(Work):
    """What was computed for a batch before: a slider's step computes only what the slider reaches.

    What no shown method used in the last evaluation is forgotten, so that a long drag does not fill the memory.
    """

    used: set[tuple[Any, ...]] = field(default_factory=set)
    ends: dict[tuple[Node, Level], Credit] = field(default_factory=dict)
    shown: set[tuple[Node, Level]] = field(default_factory=set)

    def once(self, key: tuple[Any, ...], make: Callable[[], Credit]) -> _Arrived:
        self.used.add(key)
        return super().once(key, make)

    def whole(self, recipe: Recipe, level: Level) -> Credit:
        """Return the credit of a recipe; where nothing of it was turned, what it was before."""
        key = (recipe.chain, level)
        if key not in self.ends:
            self.ends[key] = recipe.credit(self.batch, to=level, work=self)
        self.shown.add(key)
        return self.ends[key]

    def settle(self) -> None:
        """End an evaluation."""
        self.done = {key: credit for key, credit in self.done.items() if key in self.used}
        self.ends = {key: credit for key, credit in self.ends.items() if key in self.shown}
        self.used, self.shown, self.steps = set(), set(), []


class Recomputed(NamedTuple):
    """Credits by the name of the method, and why a method could not be computed with these settings."""

    credits: Mapping[str, Credit]
    problems: Mapping[str, str]


def coarsest(recipe: Recipe, batch: Batch) -> Level:
    """Return "turn" where a recipe gives all tokens of a turn the same, else "token"."""
    stages = recipe.chain.stages if isinstance(recipe.chain, Chain) else ()
    level = Chain(stages[:-1]).level_out(None) if len(stages) > 1 and _spreads(stages[-1]) else "token"
    return "turn" if not batch.has_tokens or level in ("turn", "trajectory", "group") else "token"


def recompute(
    recipes: Sequence[Recipe], memory: Memory, settings: Mapping[str, Any] | None = None, level: Level | None = "turn"
) -> Recomputed:
    """Compute the credit of every method with its knobs turned.

    Args:
        recipes: with different names.
        memory: `Memory(batch)`; give the same one again for the next step, a new one after an edit.
        settings: values of knobs; a method that lacks one is computed as it is.
        level: of the credit; None is the coarsest that says all of it, see `coarsest`.
    """
    credits, problems = {}, {}
    for recipe in recipes:
        try:
            now = turned(recipe, settings or {})
            credits[recipe.name] = memory.whole(now, level or coarsest(now, memory.batch))
        except ValueError as error:
            problems[recipe.name] = str(error)
    memory.settle()
    return Recomputed(credits, problems)
