"""Curves of runs and seeds: the numbers of lines and bands, what stands beside them, unknown as a gap, text as text."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from workbench.runs import Run, write_json
from workbench.view import Curves, sources
from workbench.view.figure import MIME
from workbench.view.html import curves as html
from workbench.view.html.parts import REPR_BYTES
from workbench.view.pack import pack
from workbench.view.payload import curves as payload

HOSTILE = "<img src=x onerror=window.hit=1>$\\href{javascript:alert(1)}{x}$ %{customdata}\u202e"


def tidy(methods=("a", "b"), seeds=3, steps=10, **columns):
    rows = [
        {
            "method": m,
            "seed": s,
            "step": t,
            "outcome": 0.1 * s + 0.01 * t + 0.2 * k,
            "rollouts": 8 * t,
            "seconds": t * s + t,
        }
        for k, m in enumerate(methods)
        for s in range(seeds)
        for t in range(1, steps + 1)
    ]
    return pd.DataFrame(rows).assign(**columns)


@pytest.fixture
def make(tmp_path):
    def made(values, name, recipe="grpo credit: read"):
        path = tmp_path / name
        path.mkdir()
        write_json(path / "launch.json", {"steps": len(values), "text": {"recipe": recipe}})
        more = {"tokens_known": 90, "tokens_unknown": 0, "tokens_dropped": 6, "tokens": 12.0, "seconds": 2.0}
        lines = [json.dumps({"step": t, "outcome": v, **more}) for t, v in enumerate(values)]
        (path / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
        return Run(path)

    return made


# ------------------------------------------------------------------------------------------------------ the numbers


def test_the_band_is_the_t_interval_over_seeds():
    line = Curves(tidy()).payload["panels"][0]["lines"][1]
    seeds = np.array([0.2, 0.3, 0.4]) + 0.01
    half = 4.302653 * seeds.std(ddof=1) / np.sqrt(3)  # t of 2 degrees of freedom
    assert line["y"][0] == pytest.approx(seeds.mean())
    assert (line["low"][0], line["high"][0]) == pytest.approx((seeds.mean() - half, seeds.mean() + half))
    alone = Curves(tidy(seeds=1)).payload["panels"][0]["lines"][0]
    assert np.isnan(alone["low"]).all() and alone["n"].tolist() == [1.0] * 10


def test_smoothing_never_stands_alone():
    frame = tidy(("a",), 1, 10)
    data = Curves(frame, smooth=4).payload
    line = data["panels"][0]["lines"][0]
    assert line["y"][-1] == pytest.approx(frame["outcome"][6:].mean())
    assert line["seeds"][0]["y"].tolist() == pytest.approx(frame["outcome"].tolist())
    assert len(html.plotly(data)["data"]) == 2 and html.svg(data)[1].count('stroke-opacity=".5"') == 1
    assert "Thin: as measured" in html.said(data) and "mean of the last 4 steps" in html.said(data)


def test_unknown_is_a_gap_and_never_0():
    frame = tidy(("a",), 1, 5)
    frame.loc[2, "outcome"] = np.nan
    view = Curves(frame, smooth=3)
    data = view.payload
    assert np.isnan(data["panels"][0]["lines"][0]["y"][2])
    assert html.plotly(data)["data"][-1]["y"][2] is None
    paths = [e.get("d") for e in ElementTree.fromstring(html.svg(data)[1]) if e.tag.endswith("path")]
    assert any(d.count("M") == 2 for d in paths)
    json.dumps(view._repr_mimebundle_(), allow_nan=False)


def test_seeds_of_different_length_say_so():
    frame = tidy(("a",), 2, 6)
    frame = frame[~((frame["seed"] == 1) & (frame["step"] > 4))]
    data = Curves(frame).payload
    line = data["panels"][0]["lines"][0]
    assert line["n"].tolist() == [2, 2, 2, 2, 1, 1] and np.isnan(line["low"][4:]).all()
    assert "Seeds that are known differ by step: a 1 to 2." in html.said(data)


def test_over_seconds_a_mean_stands_at_the_mean_place():
    view = Curves(tidy(("a",), 3, 4), x="seconds")
    line = view.payload["panels"][0]["lines"][0]
    assert line["x"]["seconds"].tolist() == [2, 4, 6, 8] and line["seeds"][2]["x"]["seconds"].tolist() == [3, 6, 9, 12]
    assert "seeds' mean seconds" in html.said(view.payload)
    view.state["x"] = "nonsense"  # of a permalink
    assert view.payload["x"] == "seconds"


def test_runs_have_rollouts_tokens_and_seconds(make):
    runs = [make([0.0, 0.5, 1.0], "s0"), make([0.0, None, 0.5], "s1")]
    view = Curves(runs, "outcome", x="rollouts")
    line = view.payload["panels"][0]["lines"][0]
    assert view.payload["axes"] == ["step", "rollouts", "tokens", "seconds"]
    assert line["name"] == "grpo" and line["x"]["rollouts"].tolist() == [8, 16, 24]
    assert line["y"].tolist() == [0.0, 0.5, 0.75] and line["n"].tolist() == [2, 1, 2]
    by_name = Curves({"mine": runs[0], "theirs": runs[1:]}).payload
    assert [line["name"] for line in by_name["panels"][0]["lines"]] == ["mine", "theirs"]
    assert Curves(runs[0]).payload["steps"] == 3


def test_the_frame_has_every_step_though_the_output_has_not():
    view = Curves(tidy(steps=2_000))
    assert view.payload["each"] > 1 and "One step in" in html.said(view.payload)
    assert len(view.to_frame()) == 2 * 2_000 * (3 + 1)
    bundle = view._repr_mimebundle_()
    assert sum(len(json.dumps(part)) for part in bundle.values()) < REPR_BYTES
    assert view.payload["panels"][0]["lines"][0]["x"]["step"][-1] == 2_000


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(KeyError, match="no column .*'arm'.*it has"):
        Curves(tidy(), by="arm")
    with pytest.raises(ValueError, match="expected x in .*got 'tokens'"):
        Curves(tidy(), x="tokens")
    with pytest.raises(ValueError, match="one row a step"):
        Curves(pd.concat([tidy(), tidy()]))
    with pytest.raises(TypeError, match="got a int"):
        Curves([3])


# ------------------------------------------------------------------------------------------------------- as is shown


def test_a_notebook_gets_plotly_and_a_still_picture_no_widget(kit):
    bundle = Curves(tidy(), ["outcome", "rollouts"])._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", MIME}
    figure = bundle[MIME]
    assert {trace["xaxis"] for trace in figure["data"]} == {"x", "x2"}
    assert "95 % interval" in figure["layout"]["annotations"][-1]["text"]
    assert figure["layout"]["paper_bgcolor"] == "rgba(0,0,0,0)" and figure["layout"]["yaxis"]["tickformat"] == ".0%"
    images = {"element <img>", *(f"<img {name}>" for name in ("src", "alt", "width", "height"))}
    assert set(kit.read(bundle["text/html"]).wrong) - images - {"<img> 'max-width:none'"} == set()


def test_names_are_text_everywhere():
    view = Curves(tidy((HOSTILE, "b")), ["outcome"])
    bundle = view._repr_mimebundle_()
    assert "<img src=x" not in bundle["text/html"] and "<img src=x" not in html.svg(view.payload)[1]
    names = [trace["name"] for trace in bundle[MIME]["data"] if trace.get("showlegend")]
    assert all("<" not in name and "$" not in name and "%{" not in name for name in names)
    ElementTree.fromstring(html.svg(view.payload)[1])


def test_looks_are_those_of_the_charts():
    text = (sources.folder() / "charts.js").read_text("utf-8")
    hues = tuple(re.findall(r'"(\d+,\d+,\d+)"', re.search(r"HUES = \[(.*)\];", text)[1]))
    dashes = json.loads("[" + re.search(r"DASHES = \[(.*)\];", text)[1] + "]")
    assert hues[: len(payload.HUES)] == payload.HUES
    assert [list(d) for d in payload.DASHES] == dashes[: len(payload.DASHES)]
    assert len({(k % 6, html.dash_of(k)) for k in range(36)}) == 36


def test_nothing_at_all(make):
    empty = make([], "none")
    for view in (
        Curves([]),
        Curves(empty),
        Curves(tidy(steps=0, seeds=1)[:0].assign(method="a", seed=0, step=0, outcome=0.0)),
    ):
        assert "nothing was measured yet" in view.html() and MIME not in view._repr_mimebundle_()
        assert view.to_frame().empty
        pack(view.interactive())
