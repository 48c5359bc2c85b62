"""Many rollouts x turns as a heat map: sort, group, select, and open the credit map of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.view import html, palette, payload
from workbench.view.base import View
from workbench.view.escape import one_line
from workbench.view.maps import CreditMap, Methods, credits_of
from workbench.view.pack import pack
from workbench.view.payload.disagree import MEASURES, apart
from workbench.view.payload.heat import LETTERS, credited, heat, owners, turn_numbers
from workbench.view.payload.heat_picture import heat_picture
from workbench.view.payload.orders import shown_methods, shown_rollouts, texts_of
from workbench.view.reprs import Picture
from workbench.view.reroll import Reroll, rerolled
from workbench.view.sources import widget_script

if TYPE_CHECKING:
    import pandas as pd

    from workbench.view.link import Link
    from workbench.view.widget import Answer, Call, Live

TEXTS_UP_TO = 3_000  # turns whose first words travel with the map
MAPS = 40  # credit maps a file carries, if they fit
MAPS_BYTES = 2_000_000  # before they are compressed
PANELS = 4  # methods shown at first


class TurnHeat(View):
    """Rollouts x turns under one to many methods: which turns get credit, and where the methods part.

    Args:
        rollouts: with the columns the recipes need.
        methods: recipes or credits; see `credits_of`.
        scale: value of full colour; by default the 98th percentile of the non-zero credits of all methods.
        sort: how the rollouts are ordered at first; see `workbench.view.payload.orders.SORTS`.
        grouped: keep the rollouts of a group together.

    Of more than four methods the first four are shown at first; their buttons show the others.

    Raises:
        ValueError: a credit that was computed on other rollouts, or an order there is not.
    """

    title, kind = "Turn heat", "turn_heat"

    def __init__(
        self,
        rollouts: Rollouts,
        methods: Methods = (),
        *,
        scale: float | None = None,
        sort: str = "given",
        grouped: bool = True,
    ):
        self.rollouts, self.scale = rollouts, scale
        self.credits = credits_of(rollouts, methods)
        self.reroll: Reroll | None = None
        opening = {"sort": None if sort == "given" else sort, "grouped": None if grouped else False}
        opening["methods"] = list(self.credits)[:PANELS] if len(self.credits) > PANELS else None
        self.state.update({key: value for key, value in opening.items() if value is not None})
        shown_rollouts(self._heat, self.state)  # an order that is not there is said here, not in a page

    @cached_property
    def _heat(self) -> dict[str, Any]:
        few = self.rollouts.batch().count("turn") <= TEXTS_UP_TO
        texts = [one_line(turn.action.text, 72) for t in self.rollouts for turn in t.turns] if few else None
        return heat(self.rollouts.batch(), self.credits, self.scale, self._questions(), texts)

    def _questions(self) -> list[str]:
        asked = {t.group: m.text for t in self.rollouts for m in t.prompt if m.role == "user"}
        return [one_line(asked.get(group, ""), 96) for group in self.rollouts.batch().groups]

    def picture(self, *, wide: bool = False) -> Picture:
        return Picture(heat_picture(self._heat, self.state), html.turn_heat)

    def interactive(self) -> dict[str, Any]:
        return self._heat

    def frame(self, state: Mapping[str, Any]) -> pd.DataFrame:
        """Return one row a turn and method of what is shown, in the order shown.

        Columns: trajectory, turn, group, outcome, method, value (missing if none), status, and the disagreement of the
        turn by each measure where there are several methods.
        """
        import pandas as pd

        p, methods = self._heat, shown_methods(self._heat, state)
        order = shown_rollouts(p, state)
        ends = np.concatenate([[0], p["ends"].astype(np.int64)])
        sizes = np.diff(ends)[order]
        turns = np.repeat(ends[order] - np.concatenate([[0], np.cumsum(sizes)])[: len(order)], sizes)
        turns = turns + np.arange(len(turns))
        at, owner = np.tile(turns, len(methods)), owners(p)
        which = np.repeat(np.arange(len(methods)), len(turns))
        value = np.stack([p["values"][m] for m in methods])[which, at] if methods else np.zeros(0, np.float32)
        status = np.stack([p["status"][m] for m in methods])[which, at] if methods else np.zeros(0, np.uint8)
        words = np.array([palette.STATUS[letter] for letter in LETTERS], object)
        out = {
            "trajectory": np.array(texts_of(p["ids"]), object)[owner[at]],
            "turn": turn_numbers(p)[at],
            "group": np.array(texts_of(p["groups"]), object)[p["group"][owner[at]]],
            "outcome": p["outcome"].astype(np.float64)[owner[at]],
            "method": np.array([p["methods"][m] for m in methods], object)[which],
            "value": value.astype(np.float64),
            "status": words[status],
        }
        for measure in p["apart"]:
            out[f"apart_{measure}"] = self._turns_apart(measure)[at]
        return pd.DataFrame({k: pd.Series(v, dtype=v.dtype) for k, v in out.items()})  # text as it is, halves and all

    def apart(self, by: str = "rank", of: str = "rollout", most: int | None = 20) -> pd.DataFrame:
        """Return the rollouts or turns on which the methods disagree most, the worst first.

        Args:
            by: "rank" (a turn one method ranks high and another low), "sign" (different signs), "share" (different
                shares of the rollout's credit); see `workbench.view.payload.disagree`.
            of: "rollout" or "turn".
            most: how many; None for all. What cannot be compared is left out.

        Returns:
            trajectory, group, outcome, apart (0 to 1); for turns also turn, and each method's value.

        Raises:
            ValueError: no such measure or unit, or fewer than two methods.
        """
        import pandas as pd

        p = self._heat
        if by not in MEASURES or of not in ("rollout", "turn"):
            raise ValueError(
                f"apart: expected by in {list(MEASURES)} and of in ['rollout', 'turn'], got {by!r}, {of!r}"
            )
        if not p["apart"]:
            raise ValueError(f"apart: disagreement needs two methods, there are {p['methods']}")
        score = p["apart"][by]["rollout"].astype(np.float64) if of == "rollout" else self._turns_apart(by)
        at = np.flatnonzero(~np.isnan(score))
        at = at[np.argsort(-score[at], kind="stable")][:most]
        rollout = at if of == "rollout" else owners(p)[at]
        out = {
            "trajectory": np.array(texts_of(p["ids"]), object)[rollout],
            "group": np.array(texts_of(p["groups"]), object)[p["group"][rollout]],
            "outcome": p["outcome"].astype(np.float64)[rollout],
            "apart": score[at],
        }
        if of == "turn":
            out["turn"] = turn_numbers(p)[at]
            counted = LETTERS.index("z")
            for m, name in enumerate(p["methods"]):
                out[name] = np.where(p["status"][m][at] <= counted, p["values"][m][at].astype(np.float64), np.nan)
        return pd.DataFrame(out)

    def _turns_apart(self, measure: str) -> np.ndarray:
        """Disagreement on each turn, exact: it travels to the page in 254ths."""
        every = np.stack([credited(self._heat, m) for m in range(len(self._heat["methods"]))])
        return apart(measure, every, owners(self._heat), self._heat["count"]).turn

    def for_page(self) -> dict[str, Any]:
        """Return the payload for a file: with the credit maps of the rollouts on which the methods part most."""
        maps, room = {}, MAPS_BYTES
        for n in self._worth_reading():
            packed = self._map(n)
            room -= len(packed)
            if room < 0:
                break
            maps[str(n)] = packed
        return {**self._heat, "carried": {"script": widget_script(("credit_map",)), "maps": maps}}

    def _worth_reading(self) -> list[int]:
        """Rollouts whose credit map a file carries, by place."""
        p = self._heat
        if not p["apart"]:
            return shown_rollouts(p, self.state)[:MAPS].tolist()
        score = np.nan_to_num(p["apart"]["rank"]["rollout"].astype(np.float64), nan=-1.0)
        return np.argsort(-score, kind="stable")[:MAPS].tolist()

    def live(self, *, link: Link | None = None, reroll: Reroll | None = None) -> Live:
        """Return the heat map with its kernel; as the last line of a cell it shows itself.

        Args:
            link: views of one link share their selection; by default a link of its own.
            reroll: samples a turn anew in the credit map of a rollout that was opened; see `CreditMap.live`.
        """
        self.reroll = reroll or self.reroll
        return super().live(link=link)

    def answers(self) -> Mapping[str, Answer]:
        return {"open": self._open, **({"reroll": self._again} if self.reroll else {})}

    def _again(self, args: Mapping[str, Any], call: Call) -> dict[str, Any]:
        """Sample a turn of a rollout that was opened anew."""
        assert self.reroll is not None
        return rerolled(self.rollouts, str(args["trajectory"]), self.reroll, args, call)

    def _open(self, args: Mapping[str, Any], call: Any) -> dict[str, Any]:
        """Return the packed credit map of one rollout, and the module that draws it where the page lacks it."""
        place = payload.position(self.rollouts, str(args["trajectory"]))
        script = {"script": widget_script(("credit_map",))} if args.get("script") else {}
        return {**script, "map": self._map(place, self.reroll)}

    def _map(self, place: int, reroll: Reroll | None = None) -> np.ndarray:
        """Return the packed interactive payload of a rollout's credit map -> uint8, on the scale of the heat map."""
        t = self.rollouts.trajectories[place]
        rollouts, credits = of_group(self.rollouts, self.credits, t.group)
        shown = CreditMap(rollouts, t.id, credits, scale=self._heat["scale"]["full"])
        shown.reroll = reroll
        return np.frombuffer(pack(shown.interactive()), np.uint8)


def of_group(rollouts: Rollouts, credits: Mapping[str, Credit], group: str) -> tuple[Rollouts, Mapping[str, Credit]]:
    """Return the rollouts of a group with their credit, so that one map costs no pass over all rollouts.

    Credits of a level that a selection counts anew (a user's unit) leave everything as it is.
    """
    batch = rollouts.batch()
    kept = [n for n, t in enumerate(rollouts) if t.group == group]
    if len(kept) == len(rollouts) or any(c.level not in ("token", "turn", "trajectory") for c in credits.values()):
        return rollouts, credits
    inside = torch.zeros(len(rollouts), dtype=torch.bool)
    inside[kept] = True
    return rollouts[kept], {name: _cut(c, inside[batch.up(c.level, "trajectory")]) for name, c in credits.items()}


def _cut(credit: Credit, use: torch.Tensor) -> Credit:
    dropped = None if credit.dropped is None else credit.dropped[use]
    return replace(credit, values=credit.values[use], known=credit.known[use], dropped=dropped)
