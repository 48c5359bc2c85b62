"""Knobs of recipes and edits of rewards above a credit map: all its methods are computed again while the hand moves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from workbench.axioms import Axiom
from workbench.batch import Batch
from workbench.credit import Credit
from workbench.recipes.base import Recipe
from workbench.recompute import Edit, Memory, edited, recompute, turned
from workbench.rollouts import Rollouts
from workbench.view import html, payload
from workbench.view.base import View
from workbench.view.html.parts import frame, note
from workbench.view.maps import PAGE_TOKENS, CreditMap, Methods, _named, _unique
from workbench.view.pack import pack
from workbench.view.palette import common_scale
from workbench.view.payload import recompute as knobs
from workbench.view.payload.ledger import _kept, ledger
from workbench.view.payload.live_map import live_map, methods_of
from workbench.view.payload.maps import _all_coded, _credited, _scale
from workbench.view.payload.rows import Coded, coded, turns_of
from workbench.view.reprs import PAGE_TEXT, Picture
from workbench.view.sources import widget_script
from workbench.view.tags import Markup

if TYPE_CHECKING:
    import pandas as pd

    from workbench.view.widget import Answer

KERNEL = "Turning knobs and editing rewards needs a kernel: show this view with .live()."
AS_IT_WAS = " (as it was)"
PEERS = 64  # rollouts of the group one can choose from


class Now(NamedTuple):
    """All methods with knobs and edits as they stand; `problems` says why a method could not be turned."""

    batch: Batch
    settings: Mapping[str, Any]
    edits: tuple[Edit, ...]
    recipes: Mapping[str, Recipe]
    credits: Mapping[str, Credit]
    problems: Mapping[str, str]


class Cut(NamedTuple):
    """The rollouts of one group, which of the batch they are, the one shown, what makes its methods, units by level."""

    rollouts: Rollouts
    inside: torch.Tensor
    n: int
    method: Callable[[str, Coded], dict[str, Any]]
    units: dict[str, torch.Tensor]

    def of(self, credit: Credit, batch: Batch) -> Credit:
        """Return the credit of these rollouts alone."""
        if credit.level not in self.units:  # the same at every step
            self.units[credit.level] = torch.nonzero(self.inside[batch.up(credit.level, "trajectory")]).flatten()
        use = self.units[credit.level]
        dropped = None if credit.dropped is None else credit.dropped[use]
        return replace(credit, values=credit.values[use], known=credit.known[use], dropped=dropped)


class Recompute(View):
    """A credit map whose methods can be turned: sliders on their parameters, edits of any reward.

    All methods are computed again on all rollouts, in the kernel; the page gets the rollout it shows. Without a kernel
    it is the credit map, and says so.

    Args:
        rollouts: with the columns the recipes need.
        recipes: one, several, or a mapping from the name to show. Credits cannot be turned: give what made them.
        trajectory: id or position of the rollout to show first.
        scale: value of full colour; by default the 98th percentile of the non-zero credits of all methods as they are.
            It stays while knobs turn, so that colours compare.
        promises: name of a method to the axiom its sums should keep, where its stages do not say.

    Raises:
        TypeError: something that is no recipe.
        ValueError: a recipe lacks a column.

    Example:
        >>> view = Recompute(rollouts, [gigpo(), igpo()])                # doctest: +SKIP
        >>> view.live()                                                  # doctest: +SKIP
        >>> view.settings, view.edits, view.recipes["gigpo"]             # doctest: +SKIP
    """

    title, kind = "Recompute", "recompute"

    def __init__(
        self,
        rollouts: Rollouts,
        recipes: Methods,
        trajectory: int | str = 0,
        *,
        scale: float | None = None,
        promises: Mapping[str, Axiom] | None = None,
    ):
        self.rollouts, self.scale, self.promises = rollouts, scale, promises or {}
        self.trajectory = rollouts.trajectories[payload.position(rollouts, trajectory)].id
        self.given: dict[str, Recipe] = {}
        for name, recipe in _named(recipes):
            if not isinstance(recipe, Recipe):
                raise TypeError(f"method {name!r}: only a recipe can be turned, got {type(recipe).__name__}")
            recipe.check(rollouts.batch(), recipe.chain.needs)
            shown = _unique(name, self.given)
            self.given[shown] = replace(recipe, name=shown)
        self._lock = threading.Lock()  # a question runs in a thread of its own; they share what was computed
        self._memory = self._plain = Memory(rollouts.batch())
        self._edits: tuple[Edit, ...] = ()
        self._cuts: dict[str, Cut] = {}

    # -- how the controls stand ----------------------------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        """The knobs that are turned, by name; empty while everything is as the methods say."""
        return knobs.settings_of(self.state.get("knobs") or {})

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The edits that stand, in the order they were made."""
        return _edits(self.state)

    @property
    def recipes(self) -> dict[str, Recipe]:
        """The recipes as they are turned; one that cannot be turned so is as it was."""
        return dict(self._now(self.state).recipes)

    @property
    def code(self) -> str:
        """Python that makes them."""
        return self._code(self._now(self.state))

    def _code(self, now: Now) -> str:
        return knobs.code(self.given, now.settings, now.edits, now.problems)

    # -- computing -----------------------------------------------------------------------------------------

    def _now(self, state: Mapping[str, Any]) -> Now:
        settings, edits = knobs.settings_of(state.get("knobs") or {}), _edits(state)
        with self._lock:
            if edits != self._edits:
                batch = edited(self.rollouts.batch(), edits)
                self._memory, self._plain, self._edits = Memory(batch), Memory(batch), edits
            batch = self._memory.batch
            got = recompute(list(self.given.values()), self._memory, settings, None)
            left = [self.given[name] for name in got.problems]
            as_it_was = recompute(left, self._plain, None, None).credits if left else {}
        credits = {name: got.credits.get(name, as_it_was.get(name)) for name in self.given}
        made = {n: r if n in got.problems else turned(r, settings) for n, r in self.given.items()}
        return Now(batch, settings, edits, made, credits, got.problems)  # type: ignore[arg-type]

    @cached_property
    def _opening(self) -> tuple[dict[str, Any], dict[str, float | None]]:
        """The shared scale, and the scale of each method alone: of all rollouts, as the methods say."""
        every = _all_coded(self._now({}).credits, self.rollouts.batch())
        return _scale(every, self.scale), {name: common_scale(_credited({name: c})) for name, c in every.items()}

    def _cut(self, identity: str) -> Cut:
        """The group of a rollout alone: what is shown of it costs no pass over all rollouts."""
        if identity not in self._cuts:
            group = self.rollouts[identity].group
            kept = [n for n, t in enumerate(self.rollouts) if t.group == group]
            inside = torch.zeros(len(self.rollouts), dtype=torch.bool)
            inside[kept] = True
            here = self.rollouts[kept]
            shown = Cut(here, inside, payload.position(here, identity), methods_of(here, identity), {})
            self._cuts = {identity: shown}  # one is on the screen
        return self._cuts[identity]

    def _shown(self, state: Mapping[str, Any]) -> str:
        said = str(state.get("rollout") or self.trajectory)
        return said if said in self.rollouts.by_id else self.trajectory

    # -- static layer, page, frame --------------------------------------------------------------------------

    def _map(self, now: Now) -> tuple[Cut, dict[str, Credit]]:
        cut = self._cut(self._shown(self.state))
        return cut, {name: cut.of(credit, now.batch) for name, credit in now.credits.items()}

    def picture(self, *, wide: bool = False) -> Picture:
        sizes = {"limit": PAGE_TEXT, "tokens": PAGE_TOKENS} if wide else {}
        scale, _ = self._opening
        cut, credits = self._map(self._now(self.state))
        data = payload.credit_map(cut.rollouts, cut.n, credits, scale["full"], **sizes)
        said = self._said()
        return Picture({**data, "scale": scale, "rollouts": len(self.rollouts), "said": said}, _drawn)

    def _said(self) -> str:
        turned_to = [f"{name} {value!r}" for name, value in self.settings.items()]
        stands = [*turned_to, f"{len(self.edits)} edited rewards"] if self.edits else turned_to
        return f"{'Shown with ' + ', '.join(stands) if stands else 'Shown as the methods say'}. {KERNEL}"

    def interactive(self) -> dict[str, Any]:
        now = self._now(self.state)
        return {
            "knobs": knobs.panel(self.given),
            "says": KERNEL,
            "script": widget_script(("credit_map",)),
            **self._place(self._shown(self.state), now),
            **self._words(now),
            "code": self._code(now),
        }

    def _place(self, identity: str, now: Now) -> dict[str, Any]:
        """Return one rollout: its packed credit map, its rewards as they were, the others of its group."""
        cut, (scale, own) = self._cut(identity), self._opening
        credits = {name: cut.of(credit, now.batch) for name, credit in now.credits.items()}
        data = live_map(cut.rollouts, cut.n, credits, scale["full"])
        for m in data["methods"]:
            m["full"] = own[m["name"]]
            m["mark"] = AS_IT_WAS if m["name"] in now.problems else ""
        data |= {"scale": scale, "rollouts": len(self.rollouts), "ledger": self._ledger(cut, credits, now)}
        data["notes"] = self._notes(cut, now)
        batch, n = self.rollouts.batch(), payload.position(self.rollouts, identity)
        names = knobs.editable(list(self.given.values()), batch)
        return {
            "rollout": identity,
            "of": len(self.rollouts),
            "peers": [t.id for t in cut.rollouts][:PEERS],
            "turns": batch.turn_index[turns_of(batch, n).start : turns_of(batch, n).stop].tolist(),
            "rewards": knobs.rewards(names, batch, n, turns_of(batch, n)),
            "map": np.frombuffer(pack(data), np.uint8),
        }

    def _ledger(self, cut: Cut, credits: Mapping[str, Credit], now: Now, check: bool = True) -> list[dict[str, Any]]:
        """Return the ledger; without `check` only its sums, in the time of a slider's step."""
        rows = ledger(cut.rollouts.batch(), cut.n, credits, {})
        later = {"says": "", "holds": None, "gap": None, "why": "checked as soon as the hand rests"}
        for row in rows:
            name = row["name"]
            row.update(_kept(now.recipes[name], self.promises.get(name), now.batch) if check else later)
        return rows

    def _notes(self, cut: Cut, now: Now) -> dict[str, str]:
        """Return what was edited in the shown rollout, by place of the turn."""
        n = payload.position(self.rollouts, cut.rollouts.trajectories[cut.n].id)
        turns, found = turns_of(now.batch, n), dict[str, list[str]]()
        for edit in now.edits:
            whole = now.batch[edit.column].level != "turn"
            unit = turns.stop - 1 if whole and edit.unit == n else -1 if whole else edit.unit  # an outcome comes last
            if unit in turns:
                found.setdefault(str(unit - turns.start), []).append(f"{edit.column.replace('_', ' ')} edited")
        return {k: ", ".join(dict.fromkeys(words)) for k, words in found.items()}

    def _words(self, now: Now) -> dict[str, Any]:
        return {
            "problems": [[name, why] for name, why in now.problems.items()],
            "edits": knobs.listed(now.edits, self.rollouts.batch()),
        }

    def frame(self, state: Mapping[str, Any]) -> pd.DataFrame:
        """Return one row a turn (or the unit chosen) and method of the rollout shown: see `CreditMap.frame`."""
        now, cut = self._now(state), self._cut(self._shown(state))
        credits = {name: cut.of(credit, now.batch) for name, credit in now.credits.items()}
        return CreditMap(cut.rollouts, cut.n, credits, scale=self._opening[0]["full"]).frame(state)

    # -- what the page asks --------------------------------------------------------------------------------

    def answers(self) -> Mapping[str, Answer]:
        return {"step": self._step, "rest": self._rest, "show": self._show}

    def _step(self, args: Mapping[str, Any], call: Any) -> dict[str, Any]:
        """Return what changes on the screen while the hand moves."""
        now, cut = self._now(args), self._cut(self._shown(args))
        credits = {name: cut.of(credit, now.batch) for name, credit in now.credits.items()}
        batch = cut.rollouts.batch()
        methods = [cut.method(name, coded(name, credit, batch)) for name, credit in credits.items()]
        for m in methods:
            m |= {"full": self._opening[1][m["name"]], "mark": AS_IT_WAS if m["name"] in now.problems else ""}
        sums = self._ledger(cut, credits, now, check=False)
        change = {"methods": methods, "ledger": sums, "notes": self._notes(cut, now)}
        return {"patch": np.frombuffer(pack(change), np.uint8), **self._words(now)}

    def _rest(self, args: Mapping[str, Any], call: Any) -> dict[str, Any]:
        """Return what is worth its time once the hand rests: are sums what the methods promise, and the code."""
        now, cut = self._now(args), self._cut(self._shown(args))
        credits = {name: cut.of(credit, now.batch) for name, credit in now.credits.items()}
        change = {"ledger": self._ledger(cut, credits, now)}
        return {"patch": np.frombuffer(pack(change), np.uint8), "code": self._code(now)}

    def _show(self, args: Mapping[str, Any], call: Any) -> dict[str, Any]:
        """Return another rollout."""
        now = self._now(args)
        return {**self._place(self._shown(args), now), **self._words(now)}


def _edits(state: Mapping[str, Any]) -> tuple[Edit, ...]:
    return tuple(
        Edit(str(column), int(unit), None if value is None else float(value))
        for column, unit, value in state.get("edits") or ()
    )


def _drawn(data: dict[str, Any], budget: int) -> Markup:
    said = frame(note(data["said"]))
    return Markup(said + html.credit_map(data, budget - len(said)))
