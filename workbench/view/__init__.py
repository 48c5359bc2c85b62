"""Seeing: payloads, static HTML, and the displays of everything below.

    payload.*  data -> JSON-able payload        html.*  payload -> static HTML        CreditMap, Overview, Ribbons

Views see the data, the maths and the recipes, never a model, and only text of models and tools, never code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.view import html, payload
from workbench.view.base import View
from workbench.view.collapse_board import CollapseBoard
from workbench.view.link import Link, Selection
from workbench.view.many import Curves
from workbench.view.maps import CreditMap, Overview, Ribbons, credits_of, write_page
from workbench.view.monitor import Monitor
from workbench.view.recompute import Recompute
from workbench.view.reprs import picture
from workbench.view.turn_heat import TurnHeat
from workbench.view.watching import RunView, watch


def mimebundle(thing: Any) -> dict[str, str]:
    """Return the display bundle (`text/plain`, `text/html`) of any object the views know.

    Raises:
        TypeError: there is no picture for its type.
    """
    return thing._repr_mimebundle_() if isinstance(thing, View) else picture(thing).bundle()


def html_page(thing: Any, path: str | Path, title: str | None = None, lead: str = "") -> Path:
    """Write one offline HTML file, in light and dark; the views in it are interactive and share their selection.

    Args:
        thing: anything that displays itself, or a list of such things, shown below each other.
        path: where; folders are made.
        title: of the page; by default what it shows.
        lead: one sentence under the title.

    Returns:
        the path.
    """
    things = list(thing) if isinstance(thing, list) else [thing]
    shown = title or (getattr(things[0], "title", None) or type(things[0]).__name__ if things else "Nothing")
    return write_page(path, str(shown), things, lead)


__all__ = [
    "CollapseBoard",
    "CreditMap",
    "Curves",
    "Link",
    "Monitor",
    "Overview",
    "Recompute",
    "Ribbons",
    "RunView",
    "Selection",
    "TurnHeat",
    "View",
    "credits_of",
    "html",
    "html_page",
    "mimebundle",
    "payload",
    "watch",
]
