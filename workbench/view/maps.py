"""The views one asks for by name: a credit map, an overview, the ribbons of a recipe.

Each holds rollouts and credits, makes its payload when it is shown, and shows it as static HTML, as a page or as a
frame. Interactive layers extend these classes; the static one always stays below them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.credit import Credit
from workbench.recipes.base import Recipe
from workbench.rollouts import Rollouts
from workbench.view import html, payload
from workbench.view.escape import one_line
from workbench.view.html.parts import PAGE_BYTES
from workbench.view.page import page
from workbench.view.reprs import PAGE_TEXT, Picture
from workbench.view.words import plain_text

if TYPE_CHECKING:
    import pandas as pd

Methods = Recipe | Credit | Mapping[str, "Recipe | Credit"] | Iterable["Recipe | Credit"]
PAGE_TOKENS = 20_000


def credits_of(rollouts: Rollouts, methods: Methods) -> dict[str, Credit]:
    """Return a credit per method, by name.

    Args:
        rollouts: with the columns the recipes need.
        methods: a recipe or a credit, several of them, or a mapping from the name to show to either.

    Raises:
        TypeError: something that is neither recipe nor credit.
        ValueError: a recipe lacks a column (all are named, with the call that makes them).
    """
    out: dict[str, Credit] = {}
    for name, method in _named(methods):
        if isinstance(method, Recipe):
            method = method.credit(rollouts.batch(), to="token" if rollouts.has_tokens else "turn")
        if not isinstance(method, Credit):
            raise TypeError(f"method {name!r}: expected a recipe or a credit, got {type(method).__name__}")
        out[_unique(name, out)] = method
    return out


def _named(methods: Methods) -> list[tuple[str, Any]]:
    if isinstance(methods, Mapping):
        return [(str(name), method) for name, method in methods.items()]
    listed = [methods] if isinstance(methods, (Recipe, Credit)) else list(methods)
    return [(getattr(m, "name", "credit"), m) for m in listed]


def _unique(name: str, taken: Iterable[str]) -> str:
    """Return a name not taken yet: the same recipe with other parameters gets a number."""
    others, candidate, number = set(taken), name, 1
    while candidate in others:
        number += 1
        candidate = f"{name} ({number})"
    return candidate


class View:
    """What all named views do: show themselves, become a page, become a frame."""

    title = "View"

    def picture(self, *, wide: bool = False) -> Picture:
        """Return payload and maker; `wide` asks for all that a page has room for."""
        raise NotImplementedError

    @property
    def payload(self) -> dict[str, Any]:
        """The JSON-able data of the picture."""
        return self.picture().data

    def html(self, budget: int = PAGE_BYTES) -> str:
        """Return the static HTML as a fragment of at most `budget` bytes."""
        picture = self.picture(wide=True)
        return str(picture.make(picture.data, budget))

    def to_html(self, path: str | Path, title: str | None = None, lead: str = "") -> Path:
        """Write one offline HTML file; return its path."""
        return write_page(path, title or self.title, [self], lead)

    def to_frame(self) -> pd.DataFrame:
        """Return what is shown, and what is not, as a data frame."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.picture().bundle()["text/plain"]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self.picture().bundle()


class CreditMap(View):
    """One rollout under several methods: bars by turn, and the text washed by credit.

    Args:
        rollouts: with the columns the recipes need.
        trajectory: id or position of the rollout to show.
        methods: recipes or credits; see `credits_of`.
        scale: value of full colour; by default the 98th percentile of the non-zero credits of all methods and rollouts.
    """

    title = "Credit map"

    def __init__(
        self, rollouts: Rollouts, trajectory: int | str = 0, methods: Methods = (), *, scale: float | None = None
    ):
        self.rollouts, self.trajectory, self.scale = rollouts, trajectory, scale
        self.credits = credits_of(rollouts, methods)

    def picture(self, *, wide: bool = False) -> Picture:
        sizes = {"limit": PAGE_TEXT, "tokens": PAGE_TOKENS} if wide else {}
        data = payload.credit_map(self.rollouts, self.trajectory, self.credits, self.scale, **sizes)
        return Picture(data, html.credit_map)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a turn and method of this rollout: trajectory, turn, method, value, status."""
        frame = Overview(self.rollouts, self.credits).to_frame()
        identity = self.rollouts.trajectories[payload.position(self.rollouts, self.trajectory)].id
        return frame[frame["trajectory"] == identity].reset_index(drop=True)


class Overview(View):
    """All rollouts by group: outcome, and credit of every turn under every method.

    Args:
        rollouts, methods, scale: as in `CreditMap`.
        rows: rollouts shown.
    """

    title = "Rollouts"

    def __init__(self, rollouts: Rollouts, methods: Methods = (), *, scale: float | None = None, rows: int = 200):
        self.rollouts, self.scale, self.rows = rollouts, scale, rows
        self.credits = credits_of(rollouts, methods)

    def picture(self, *, wide: bool = False) -> Picture:
        return Picture(payload.group_overview(self.rollouts, self.credits, self.scale, self.rows), html.group_overview)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a turn and method of all rollouts: trajectory, turn, method, value, status."""
        import pandas as pd

        return pd.DataFrame(payload.turn_frame(self.rollouts, self.credits))


class Ribbons(View):
    """The stages of a recipe on one rollout, one ribbon a stage.

    Args:
        rollouts: with the columns the recipe needs.
        trajectory: id or position of the rollout to show.
        recipe: the recipe, or any chain.
    """

    title = "Stage by stage"

    def __init__(self, rollouts: Rollouts, trajectory: int | str, recipe: Any):
        self.rollouts, self.trajectory, self.recipe = rollouts, trajectory, recipe
        self.trace = recipe.trace(rollouts.batch())

    def picture(self, *, wide: bool = False) -> Picture:
        name = getattr(self.recipe, "name", "")
        return Picture(payload.ribbons(self.rollouts, self.trajectory, self.trace, name), html.ribbons)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a stage and turn of this rollout: step, stage, level, turn, value, status."""
        import pandas as pd

        data = self.payload
        rows = [
            {"step": i, "stage": step["label"], "level": step["level"], "turn": turn["index"], **_value(step, k)}
            for i, step in enumerate(data["steps"])
            for k, turn in enumerate(data["turns"])
        ]
        return pd.DataFrame(rows, columns=["step", "stage", "level", "turn", "value", "status"])


def _value(step: dict[str, Any], k: int) -> dict[str, Any]:
    from workbench.view.palette import STATUS

    cell = step["cells"][0 if step["whole"] else k]
    return {"value": cell["value"], "status": STATUS[cell["status"]]}


# ------------------------------------------------------------------------------------------------- pages


def write_page(path: str | Path, title: str, things: list[Any], lead: str = "") -> Path:
    """Write things below each other on one offline page of at most about 2 MB; return its path."""
    from workbench.view.reprs import picture

    budget = PAGE_BYTES // max(1, len(things))
    pictures = [t.picture(wide=True) if isinstance(t, View) else picture(t, PAGE_TEXT) for t in things]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sections = [(one_line(plain_text(p.data).partition("\n")[0], 120), p.make(p.data, budget)) for p in pictures]
    path.write_text(page(title, sections, lead), encoding="utf-8")
    return path
