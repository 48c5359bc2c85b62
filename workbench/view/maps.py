"""The views one asks for by name: a credit map, an overview, the ribbons of a recipe.

Each holds rollouts and credits and makes its payload when it is shown. What they share is in `base.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.axioms import Axiom
from workbench.credit import Credit
from workbench.recipes.base import Recipe
from workbench.rollouts import Rollouts
from workbench.view import html, payload
from workbench.view.base import View
from workbench.view.escape import one_line
from workbench.view.frames import framed
from workbench.view.html.parts import PAGE_BYTES
from workbench.view.page import island, page
from workbench.view.reprs import PAGE_TEXT, Picture
from workbench.view.reroll import Reroll, rerolled
from workbench.view.sources import page_script
from workbench.view.words import plain_text

if TYPE_CHECKING:
    import pandas as pd

    from workbench.view.link import Link
    from workbench.view.widget import Answer, Call, Live

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
    return {name: credit for name, (credit, _) in _resolved(rollouts, methods).items()}


def _resolved(rollouts: Rollouts, methods: Methods) -> dict[str, tuple[Credit, Recipe | None]]:
    """Return a credit per method, by name, and the recipe it came from, if one did."""
    out: dict[str, tuple[Credit, Recipe | None]] = {}
    for name, method in _named(methods):
        recipe = method if isinstance(method, Recipe) else None
        if recipe is not None:
            method = recipe.credit(rollouts.batch(), to="token" if rollouts.has_tokens else "turn")
        if not isinstance(method, Credit):
            raise TypeError(f"method {name!r}: expected a recipe or a credit, got {type(method).__name__}")
        out[_unique(name, out)] = (method, recipe)
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


class CreditMap(View):
    """One rollout under several methods: bars by turn, and the text washed by credit.

    Args:
        rollouts: with the columns the recipes need.
        trajectory: id or position of the rollout to show.
        methods: recipes or credits; see `credits_of`.
        scale: value of full colour; by default the 98th percentile of the non-zero credits of all methods and rollouts.
        promises: name of a method to the axiom its sums should keep (`workbench.axioms`), where its stages do not say.
    """

    title = "Credit map"
    kind = "credit_map"

    def __init__(
        self,
        rollouts: Rollouts,
        trajectory: int | str = 0,
        methods: Methods = (),
        *,
        scale: float | None = None,
        promises: Mapping[str, Axiom] | None = None,
    ):
        self.rollouts, self.trajectory, self.scale = rollouts, trajectory, scale
        found = _resolved(rollouts, methods)
        self.credits = {name: credit for name, (credit, _) in found.items()}
        said = promises or {}
        self.promises = {name: (recipe, said.get(name)) for name, (_, recipe) in found.items() if recipe is not None}
        self.reroll: Reroll | None = None

    def picture(self, *, wide: bool = False) -> Picture:
        sizes = {"limit": PAGE_TEXT, "tokens": PAGE_TOKENS} if wide else {}
        data = payload.credit_map(self.rollouts, self.trajectory, self.credits, self.scale, **sizes)
        return Picture(data, html.credit_map)

    def interactive(self) -> dict[str, Any]:
        data = payload.live_map(self.rollouts, self.trajectory, self.credits, self.scale, self.promises)
        return {**data, "reroll": self.reroll is not None}

    def for_page(self) -> dict[str, Any]:
        """Return the payload for a file, where no kernel samples anything anew."""
        return {**self.interactive(), "reroll": False}

    def live(self, *, link: Link | None = None, reroll: Reroll | None = None) -> Live:
        """Return the map with its kernel; as the last line of a cell it shows itself.

        Args:
            link: views of one link share their selection; by default a link of its own.
            reroll: samples a turn anew, so that its value can be measured beside each method's claim. Called with
                rollouts, trajectory, turn, n, seed, progress by name:
                `functools.partial(workbench.search.reroll, policy=policy, env=env)`.
        """
        self.reroll = reroll or self.reroll
        return super().live(link=link)

    def answers(self) -> Mapping[str, Answer]:
        again = {"reroll": partial(rerolled, self.rollouts, self.trajectory, self.reroll)} if self.reroll else {}
        return {"open": self._open, **again}

    def _open(self, args: Mapping[str, Any], call: Call) -> dict[str, Any]:
        """Show another rollout: a linked view selected it."""
        wanted = str(args["trajectory"])
        payload.position(self.rollouts, wanted)
        self.trajectory = wanted
        call.refresh()
        return {}

    def frame(self, state: Mapping[str, Any]) -> pd.DataFrame:
        """Return one row a turn and method: trajectory, turn, method, value, status.

        Where the reader chose a finer unit and a method, one row a unit of that method, with its text.
        """
        identity = self.rollouts.trajectories[payload.position(self.rollouts, self.trajectory)].id
        unit, method = state.get("unit"), state.get("method")
        if unit and unit != "turn" and self.credits:
            rows = list(payload.unit_rows(self.interactive(), method or next(iter(self.credits)), unit))
            names = ["turn", unit, "text", "method", "value", "status"]
            columns = {name: [row[name] for row in rows] for name in names}
            return framed({"trajectory": [identity] * len(rows), **columns})
        frame = Overview(self.rollouts, self.credits).frame({})
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

    def frame(self, state: Mapping[str, Any]) -> pd.DataFrame:
        """Return one row a turn and method of all rollouts: trajectory, turn, method, value, status."""
        return framed(payload.turn_frame(self.rollouts, self.credits))


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

    def frame(self, state: Mapping[str, Any]) -> pd.DataFrame:
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
    """Write things below each other on one offline page, interactive where they can be; return its path.

    The views of a page share their selection.
    """
    from workbench.view.reprs import picture

    budget = PAGE_BYTES // max(1, len(things))
    sections, kinds = [], []
    for thing in things:
        made = thing.picture(wide=True) if isinstance(thing, View) else picture(thing, PAGE_TEXT)
        body = made.make(made.data, budget)
        if isinstance(thing, View) and thing.kind:
            kinds.append(thing.kind)
            body = island(body, thing.kind, thing.title, thing.for_page(), thing.state)
        sections.append((one_line(plain_text(made.data).partition("\n")[0], 120), body))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    script = page_script(tuple(dict.fromkeys(kinds))) if kinds else ""
    path.write_text(page(title, sections, lead, script), encoding="utf-8")
    return path
