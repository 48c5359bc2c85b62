"""Ids, groups and method names of odd text: a frame holds them as they are, halves of surrogate pairs included."""

from __future__ import annotations

import pytest

from workbench import recipes, view
from workbench.rollouts import Rollouts
from workbench.view.frames import framed

ODD = ("half \ud800 pair", "nul \x00 bell \x07", "a\u202etxt.exe", " ", "__proto__", "1e5")


@pytest.fixture
def views(kit):
    ts = [kit.trajectory(f"{text}{n}", text, ["one", "two"], ["back"], float(n)) for n, text in enumerate(ODD)]
    r = Rollouts(tuple(ts))
    credits = dict.fromkeys(ODD, kit.credit("turn", [0.5, -0.5] * len(ts)))
    return {
        "CreditMap": view.CreditMap(r, 0, credits),
        "TurnHeat": view.TurnHeat(r, credits),
        "CollapseBoard": view.CollapseBoard(r, credits),
        "Overview": view.Overview(r, credits),
        "Recompute": view.Recompute(r, dict.fromkeys(ODD, recipes.grpo())),
    }


@pytest.mark.parametrize("name", ["CreditMap", "TurnHeat", "CollapseBoard", "Overview", "Recompute"])
def test_a_frame_holds_odd_text_as_it_is(views, name):
    frame = views[name].to_frame()
    column = "trajectories" if name == "CollapseBoard" else "trajectory"
    ids = {one for cell in frame[column] for one in (cell if isinstance(cell, list) else [cell])}
    wanted = {f"{text}{n}" for n, text in enumerate(ODD)}
    assert ids == (wanted if name in ("TurnHeat", "CollapseBoard", "Overview") else {f"{ODD[0]}0"})
    if "method" in frame:
        shown = ODD[:4] if name == "TurnHeat" else ODD  # it opens with four of its methods
        assert set(frame["method"]) == set(shown)
    else:
        assert set(ODD) <= set(frame.columns)


def test_columns_of_text_keep_halves_and_columns_of_numbers_their_kind():
    frame = framed({"text": list(ODD), "number": [1, 2, 3, 4, 5, 6], "some": [None, "\udfff", None, "b", "c", None]})
    assert list(frame["text"]) == list(ODD) and frame["number"].dtype.kind == "i"
    assert frame["some"][1] == "\udfff" and frame["some"][0] is None
