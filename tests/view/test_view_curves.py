"""Learning curves: the same data in both forms, looks that never stand on colour alone, text shown as text."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest

from workbench.view.curves import DASHES, LOOKS, Curve, Panel, bundle, svg
from workbench.view.figure import MIME

NAME = "<b>a</b> & b"


@pytest.fixture
def panels():
    one = Curve(NAME, [10, 20, 30], [0.1, 0.2, 0.4], [0.0, 0.1, 0.3], [0.2, 0.3, 0.5], ([0.1, 0.1, 0.3],), 1)
    two = Curve("other", [10, 20, 30], [0.3, float("nan"), 0.3], look=0)
    return [Panel("left", (one, two)), Panel("right", (one,))]


def test_the_bundle_is_plain_json_and_well_formed(panels):
    made = bundle(panels, "rollouts", "success", share=True)
    assert json.loads(json.dumps(made[MIME]))["layout"]["yaxis"]["tickformat"] == ".0%"
    ElementTree.fromstring(made["image/svg+xml"])
    assert "left" in made["text/plain"]


def test_each_name_is_once_in_the_legend_and_is_text(panels):
    data = bundle(panels, "x", "y")[MIME]["data"]
    shown = [trace["name"] for trace in data if trace.get("showlegend")]
    assert shown == ["&lt;b&gt;a&lt;/b&gt; &amp; b", "other"]
    picture = svg(panels, "x", "y", share=False)
    assert "<b>" not in picture and picture.count("&lt;b&gt;") == 1


def test_band_singles_and_mean_are_all_there(panels):
    data = [trace for trace in bundle(panels, "x", "y")[MIME]["data"] if trace["legendgroup"] == f"of {NAME}"]
    left = [trace for trace in data if trace["xaxis"] == "x"]
    assert [trace["y"] for trace in left] == [[0.2, 0.3, 0.5, 0.3, 0.1, 0.0], [0.1, 0.1, 0.3], [0.1, 0.2, 0.4]]
    assert {trace["yaxis"] for trace in data} == {"y", "y2"}


def test_no_two_looks_share_a_colour_or_a_dash():
    assert len({colour for colour, _ in LOOKS}) == len({dash for _, dash in LOOKS}) == len(LOOKS)
    assert {dash for _, dash in LOOKS} == set(DASHES) and len(set(DASHES.values())) == len(DASHES)


def test_the_picture_is_to_scale(panels):
    """Twice the value is twice as high above the foot."""
    one = Curve("m", [0, 1, 2], [0.0, 0.25, 0.5])
    root = ElementTree.fromstring(svg([Panel("p", (one,))], "x", "y", share=False))
    line = next(e for e in root.iter() if e.tag.endswith("polyline"))
    heights = [float(point.split(",")[1]) for point in line.attrib["points"].split()]
    assert heights[0] - heights[2] == pytest.approx(2 * (heights[0] - heights[1]), abs=0.2)


def test_what_is_unknown_is_a_gap_and_not_zero():
    nan = float("nan")
    mean = [0.4, 0.4, nan, 0.4, nan]
    panel = Panel("p", (Curve("m", [1, 2, 3, 4, 5], mean, [0.3, 0.3, 0.3, nan, nan], [0.5, 0.5, nan, 0.5, nan]),))
    root = ElementTree.fromstring(svg([panel], "x", "y", share=True))
    tags = [e.tag.rpartition("}")[2] for e in root.iter()]
    lines = [e.attrib["points"].split() for e in root.iter() if e.tag.endswith("polyline")]
    assert [len(points) for points in lines] == [2, 2]  # two known neighbours, and the legend's sample
    assert tags.count("circle") == 1 and tags.count("polygon") == 1
    heights = {point.split(",")[1] for point in lines[0]}
    assert len(heights) == 1  # nothing falls to the foot
    data = bundle([panel], "x", "y", share=True)[MIME]["data"]
    assert json.loads(json.dumps(data, allow_nan=False))[-1]["y"] == [0.4, 0.4, None, 0.4, None]
    assert len(data) == 2 and data[0]["x"] == [1, 2, 2, 1]


def test_values_below_nothing_and_no_values_do_not_break_it():
    for mean in ([-1.0, 1.0], [float("nan")] * 2, [0.0, 0.0]):
        ElementTree.fromstring(svg([Panel("p", (Curve("m", [1, 2], mean),))], "x", "y", share=True))
