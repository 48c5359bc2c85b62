"""Which picture an object gets: one readable list, from type to payload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workbench.batch import Batch, Column
from workbench.credit import Credit, Node, TraceStep
from workbench.objective import Objective
from workbench.recipes.base import Recipe
from workbench.rollouts import Rollouts
from workbench.runs import Run, Runs
from workbench.trajectory import Example, Group, Message, Pair, Part, Sequence, Span, ToolCall, Trajectory, Turn
from workbench.view import html, payload
from workbench.view.html import run as html_run
from workbench.view.html.parts import PAGE_BYTES, REPR_BYTES
from workbench.view.payload import cards
from workbench.view.payload.records import TEXT_LIMIT
from workbench.view.words import plain_text

PAGE_TEXT = 40_000  # characters of a message shown on a page; a notebook shows TEXT_LIMIT


@dataclass(frozen=True)
class Picture:
    """A payload and the maker of its HTML.

    Args:
        data: JSON-able.
        make: (data, budget in bytes) -> HTML.
    """

    data: dict[str, Any]
    make: Callable[[dict[str, Any], int], str]

    def bundle(self) -> dict[str, str]:
        """Return what a notebook shows."""
        text = plain_text(self.data)
        room = REPR_BYTES - len(text.encode(errors="replace"))  # both are stored
        return {"text/plain": text, "text/html": str(self.make(self.data, room))}


def _card(builder: Callable[[Any], dict[str, Any]]) -> Callable[[Any, int], Picture]:
    return lambda thing, limit: Picture(builder(thing), html.card)


def _chain(node: Node) -> dict[str, Any]:
    return {"kind": "chain", "tree": payload.tree(node), "formula": repr(node)}


def _rollouts(r: Rollouts, limit: int) -> Picture:
    overview = payload.group_overview(r)
    if limit <= TEXT_LIMIT:
        return Picture(overview, html.group_overview)
    stories = [payload.transcript(t, limit=limit) for t in r.trajectories[: overview["total"] - overview["hidden"]]]
    return Picture(overview, lambda data, budget: html.gallery(data, stories, budget))


# From type to (thing, characters of a message) -> picture. The first that fits counts.
PICTURES: tuple[tuple[type, Callable[[Any, int], Picture]], ...] = (
    (Rollouts, _rollouts),
    (Run, lambda run, limit: Picture(payload.look(run, newest=0 if limit <= TEXT_LIMIT else 16), html_run.run)),
    (Runs, lambda found, limit: Picture(payload.runs(found), html_run.runs)),
    (Group, lambda g, limit: _rollouts(Rollouts(g.trajectories), limit)),
    (Trajectory, lambda t, limit: Picture(payload.transcript(t, limit=limit), html.transcript)),
    (Turn, lambda t, limit: Picture(payload.turn(t, None, limit), html.turn)),
    (Message, lambda m, limit: Picture(payload.message(m, limit), html.message_alone)),
    (Recipe, lambda r, limit: Picture(payload.recipe(r), html.recipe)),
    (Objective, lambda o, limit: Picture(payload.objective(o), html.objective)),
    (Node, lambda n, limit: Picture(_chain(n), html.chain)),
    (Span, _card(cards.span)),
    (Sequence, _card(cards.sequence)),
    (Example, _card(cards.example)),
    (Pair, _card(cards.pair)),
    (Part, _card(cards.part)),
    (ToolCall, _card(cards.tool_call)),
    (Credit, _card(cards.credit)),
    (Column, _card(cards.column)),
    (Batch, _card(cards.batch)),
)


def picture(thing: Any, limit: int = TEXT_LIMIT) -> Picture:
    """Return the picture of an object.

    Raises:
        TypeError: there is none for its type.
    """
    if isinstance(thing, tuple) and thing and all(isinstance(step, TraceStep) for step in thing):
        return Picture(cards.trace(thing), html.card)
    for kind, make in PICTURES:
        if isinstance(thing, kind):
            return make(thing, limit)
    names = ", ".join(kind.__name__ for kind, _ in PICTURES)
    raise TypeError(f"no picture for {type(thing).__name__}; there is one for {names}, CreditMap, Overview, Ribbons")


__all__ = ["PAGE_BYTES", "PAGE_TEXT", "PICTURES", "Picture", "picture"]
