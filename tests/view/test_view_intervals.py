"""Forest plots and scatter plots: what a mark says, the numbers behind it, empty places, and text as text."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from workbench.view import dots, intervals
from workbench.view.figure import MIME
from workbench.view.intervals import Estimate, Panel

HOSTILE = "<img src=x onerror=window.hit=1>$\\href{javascript:alert(1)}{x}$ %{customdata}"
BETTER, WORSE, OPEN = Estimate(4.0, 1.0, 7.0, True), Estimate(-4.0, -7.0, -1.0, True), Estimate(1.0, -3.0, 5.0)


@pytest.fixture
def drawn():
    panels = [Panel("chain", {"a": BETTER, "b": WORSE}, 2.5), Panel("facet", {"b": OPEN})]
    return intervals.bundle(panels, {"few": ["a"], "none": [], "many": ["b"]}, "points")


def test_a_verdict_is_in_the_shape_not_only_in_the_colour(drawn):
    symbols = {trace["name"]: trace["marker"]["symbol"] for trace in drawn[MIME]["data"]}
    assert symbols == {
        "told apart: better": "triangle-right",
        "told apart: worse": "triangle-left",
        "not told apart": "circle-open",
    }
    picture = drawn["image/svg+xml"]
    assert picture.count("<polygon") == 2 + 2 and picture.count("<circle") == 1 + 1  # each once, and in the key


def test_bounds_are_the_interval_s_and_rows_stand_under_their_heading(drawn):
    better = drawn[MIME]["data"][0]
    assert (better["x"], better["y"]) == ([4.0], [1])  # row 0 is the heading
    assert better["error_x"]["array"] == [3.0] and better["error_x"]["arrayminus"] == [3.0]
    assert drawn[MIME]["layout"]["yaxis"]["ticktext"] == ["<b>few</b>", "a", "<b>many</b>", "b"]
    assert "a +4 [+1, +7]" in drawn["text/plain"] and "facet: b +1 [-3, +5]" in drawn["text/plain"]


def test_the_blurred_band_is_drawn_where_it_was_given(drawn):
    (band,) = drawn[MIME]["layout"]["shapes"]
    assert (band["x0"], band["x1"], band["xref"]) == (-2.5, 2.5, "x")


def test_panels_share_one_scale_wide_enough_for_every_bound():
    panels = [Panel("a", {"m": Estimate(1.0, -56.0, 3.0)}), Panel("b", {"m": OPEN})]
    assert intervals.reach(panels) == 60.0
    layout = intervals.plotly(panels, {"all": ["m"]}, "points")["layout"]
    assert layout["xaxis"]["range"] == layout["xaxis2"]["range"] == [-60.0, 60.0]


def test_a_picture_without_numbers_is_still_one():
    ElementTree.fromstring(intervals.svg([Panel("empty", {})], {}, "points"))
    ElementTree.fromstring(dots.svg([dots.Panel("empty", ())], "x", "y"))


@pytest.mark.parametrize("what", ["intervals", "dots"])
def test_hostile_text_stays_text(what):
    if what == "intervals":
        found = intervals.bundle([Panel(HOSTILE, {HOSTILE: OPEN})], {HOSTILE: [HOSTILE]}, HOSTILE)
    else:
        panel = dots.Panel(HOSTILE, (dots.Dot(HOSTILE, 1.0, 2.0, True),), HOSTILE)
        found = dots.bundle([panel], HOSTILE, HOSTILE)
    tags = {re.sub(r"\{.*\}", "", e.tag) for e in ElementTree.fromstring(found["image/svg+xml"]).iter()}
    assert tags <= {"svg", "title", "text", "line", "rect", "circle", "polygon"}
    drawn = json.dumps(found[MIME])
    assert "<img" not in drawn and "%{customdata}" not in drawn and "$\\\\href" not in drawn


def test_dots_without_a_number_are_left_out_and_names_keep_inside():
    here = (dots.Dot("a", 0.0, 1.0), dots.Dot("far to the right", 9.0, 2.0, True), dots.Dot("lost", float("nan"), 1.0))
    found = dots.bundle([dots.Panel("p", here)], "x", "y")
    assert found[MIME]["data"][0]["hovertext"] == ["a", "far to the right"]
    assert found[MIME]["data"][0]["text"] == ["", "far to the right"]
    assert re.search(r'text-anchor="end" y="[\d.]+">far to the right', found["image/svg+xml"])
