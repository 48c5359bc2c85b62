"""Collapse of groups: causes and measures of a run and of a batch, thresholds as the glossary says them, what opens."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from workbench import store
from workbench.batch import Provenance
from workbench.compare import Cause
from workbench.glossary import ENTRIES
from workbench.recipes import grpo
from workbench.rollouts import Rollouts
from workbench.runs import Run, write_json
from workbench.view import CollapseBoard
from workbench.view.html import collapse as html
from workbench.view.html.parts import REPR_BYTES
from workbench.view.pack import pack
from workbench.view.payload import collapse

HOSTILE = "</script><img src=x onerror=window.hit=1>\u202e"


def row(step, causes, **more):
    total = sum(causes.values())
    dead = 1 - causes.get("varied", 0) / total if total else None
    base = {"collapsed": dead, "forecast": 0.25, "dead_groups": dead, "sign_balance": -0.1, "clip_share": 0.0}
    return {"step": step, "collapse_causes": causes, "alarms": {}, "gradient_norm": 1.0, **base, **more}


@pytest.fixture
def make(tmp_path, rollouts):
    def made(rows, kept=(), name="grpo-001"):
        path = tmp_path / name
        path.mkdir(parents=True)
        write_json(path / "launch.json", {"steps": len(rows), "text": {"recipe": "grpo", "env": "Chain()"}})
        write_json(path / "status.json", {"state": "finished", "step": len(rows), "steps": len(rows), "reason": ""})
        (path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        values = [1.0] * rollouts.batch().count("token")
        credit = Provenance("training", {"recipe": "grpo"})
        for step in kept:
            with_credit = rollouts.with_column("training_credit", "token", values, None, credit)
            store.write(path / "trajectories" / f"step-{step:08d}", with_credit)
        return Run(path)

    return made


@pytest.fixture
def run(make):
    rows = [row(s, {"varied": s, "all failed": 4 - s}, alarms={"dead": "why"} if s == 0 else {}) for s in range(4)]
    return make(rows, kept=(1, 3))


# ------------------------------------------------------------------------------------------------------- a training


def test_shares_are_of_all_groups_and_stand_beside_forecast_and_alarms(run):
    board = CollapseBoard(run).picture().data
    (cause,) = board["causes"]
    assert cause["name"] == "all failed" and cause["groups"] == 10 and board["groups_alive"] == 6
    assert cause["share"].tolist() == [1.0, 0.75, 0.5, 0.25] and board["count"].tolist() == [4.0] * 4
    tile = board["tiles"][0]
    assert tile["y"].tolist() == [1.0, 0.75, 0.5, 0.25] and tile["forecast"].tolist() == [0.25] * 4
    assert (tile["state"], tile["now"]) == ("within", 0.25) and "beyond it in 2 of 4 steps" in tile["verdict"]
    dead = next(t for t in board["tiles"] if t["key"] == "dead_groups")
    assert "an alarm in 1 of 4 steps, last in step 1" in dead["verdict"]
    assert board["kept"] == [2, 4] and board["first"].tolist() == board["last"].tolist() == [1, 2, 3, 4]


def test_the_thresholds_are_those_the_glossary_says():
    for tile in collapse.TILES:
        for bound in (tile.low, tile.high):
            assert bound is None or f"{bound:g}" in ENTRIES[tile.key].good, tile.key
    assert set(collapse.LOOKS) | {"varied"} == set(Cause.__args__)
    assert all(f'"{cause}"' in ENTRIES["collapse_causes"].what for cause in [*collapse.LOOKS])
    assert set(collapse.DO) == set(collapse.LOOKS)
    assert len(set(collapse.LOOKS.values())) == len(collapse.LOOKS)


def test_beyond_the_threshold_is_an_alarm_in_words(make):
    run = make([row(0, {"varied": 1, "all failed": 3}, sign_balance=-0.9)])
    text, page = str(CollapseBoard(run)), CollapseBoard(run).html()
    assert "! Advantage sign balance is −0.9, beyond the threshold, −0.5 to 0.5" in text
    assert "the step only unlearns" in page and ENTRIES["sign_balance"].what in page


def test_neighbouring_steps_are_put_together_where_there_are_many(make):
    rows = [row(s, {"varied": 1, "all solved": 1 + s % 2}, collapsed_low=0.1, collapsed_high=0.9) for s in range(900)]
    board = CollapseBoard(make(rows)).picture().data
    assert board["each"] == 3 and len(board["last"]) == 300 and board["last"][-1] == 900
    assert board["causes"][0]["share"][0] == pytest.approx(4 / 7)  # 1, 2, 1 of 2, 3, 2
    assert np.isnan(board["tiles"][0]["low"]).all()  # the interval of one step is none of three
    assert len(CollapseBoard(make(rows, name="b"))._repr_mimebundle_()["text/html"]) < REPR_BYTES


def test_the_picture_is_to_scale(run):
    drawn = html.svg(CollapseBoard(run).picture().data)
    tree = ElementTree.fromstring(drawn)
    bars = [float(e.get("height")) for e in tree if e.tag.endswith("rect")]
    assert bars[0] == pytest.approx(4 * bars[3], abs=0.2) and len(bars) == 4


def test_empty_runs_one_step_and_unknown_throughout(make):
    empty = CollapseBoard(make([], name="a"))
    assert "Nothing was measured yet" in empty.html() and empty.to_frame().empty
    one = CollapseBoard(make([row(0, {"unknown": 4}, collapsed=None, dead_groups=None, forecast=None)], name="b"))
    tile = one.picture().data["tiles"][0]
    assert (tile["state"], tile["now"], tile["verdict"]) == ("unknown", None, "not measured")
    assert "unknown" in one.html() and len(one.to_frame()) == 1
    pack(one.for_page()), pack(empty.for_page())
    none = CollapseBoard(make([row(0, {})], name="c"))
    assert "No group was counted" in none.html()


def wrong_but_for_the_picture(read, fragment: str) -> set[str]:
    images = {"element <img>", *(f"<img {name}>" for name in ("src", "alt", "width", "height"))}
    return set(read(fragment).wrong) - images - {"<img> 'max-width:none'"}


def test_the_static_layer_survives_a_sanitiser(make, kit, rollouts, credits):
    every = {cause: 1 for cause in collapse.LOOKS} | {"varied": 2}
    run = make([row(s, every) for s in range(3)])
    for board in (CollapseBoard(run), CollapseBoard(rollouts, credits), CollapseBoard(Rollouts(()))):
        assert wrong_but_for_the_picture(kit.read, board._repr_mimebundle_()["text/html"]) == set()


def test_names_of_a_folder_of_somebody_else_are_text(make, kit):
    rows = [row(0, {HOSTILE: 3, "varied": 1}, alarms={HOSTILE: HOSTILE})]
    board = CollapseBoard(make(rows))
    page = board.html()
    assert "<img src=x" not in page and "\u202e" not in page
    text = "".join(kit.read(page).text)
    assert "onerror=window.hit=1" in text and "⟦U+202E⟧" in text


# ------------------------------------------------------------------------------------------------- what is behind it


def test_a_step_opens_its_groups_and_a_rollout_its_map(run):
    board = CollapseBoard(run)
    found = board.answers()["groups"]({"step": 2}, None)["groups"]
    assert [g["cause"] for g in found] == ["all failed", "varied"] and found[0]["group"] == "Finland"
    assert found[0]["credit"] == {"grpo": "shaping only"} and found[1]["credit"] == {"grpo": "credit"}
    answer = board.answers()["open"]({"step": 2, "trajectory": found[0]["rollouts"][1]["id"], "script": True}, None)
    assert answer["map"].dtype == np.uint8 and "credit_map" in answer["script"]
    with pytest.raises(FileNotFoundError, match=r"no rollouts of step 2; kept are those of steps \[1, 3\]"):
        board.answers()["groups"]({"step": 3}, None)


def test_a_file_carries_the_groups_of_kept_steps_and_says_what_it_cannot_read(run):
    damaged = run.path / "trajectories" / "step-00000001"
    for path in damaged.glob("*.jsonl"):
        path.write_text("{")
    data = CollapseBoard(run).for_page()
    assert list(data["groups"]) == ["4"] and list(data["unread"]) == ["2"]
    assert data["carried"]["names"][0] == "4 run0/001/Finland/0" and len(data["carried"]["maps"]) == 2


def test_the_frame_is_of_steps_until_a_step_is_opened(run):
    board = CollapseBoard(run)
    frame = board.to_frame()
    assert frame["step"].tolist() == [1, 2, 3, 4] and frame["all failed"].tolist() == [1.0, 0.75, 0.5, 0.25]
    board.state.update(step=2)
    assert board.to_frame()["group"].tolist() == ["Finland", "Mozambique"]
    board.state.update(cause="varied")
    assert board.to_frame()["group"].tolist() == ["Mozambique"]


# ------------------------------------------------------------------------------------------------------- one batch


def test_the_autopsy_of_a_batch_names_dead_groups_and_how_likely_they_were(rollouts, credits):
    board = CollapseBoard(rollouts, credits)
    data = board.picture().data
    assert data["one"] and [c["name"] for c in data["causes"]] == ["all failed"]
    chance = data["chance"]
    assert chance["p"] == 0.25 and chance["sizes"][0] == {"members": 4, "groups": 2, "dead": 0.25**4 + 0.75**4}
    assert [one["members"] for one in chance["sizes"]] == [4, 8, 16, 32]
    first = data["groups"][0]
    assert first["credit"] == {n: "dropped" if n == "GRPO" else "shaping only" for n in credits}
    dead = next(t for t in data["tiles"] if t["key"] == "dead_groups")
    assert dead["methods"] == {"GRPO": 0.5, "MatchTIR": 0.0, "IGPO": 0.0, "A²TGPO": 0.0}
    assert list(board.to_frame()["chance"]) == pytest.approx([0.25**4 + 0.75**4] * 2)
    assert "P(dead)" in board.html() and len(board.html().encode()) < REPR_BYTES


def test_one_method_beyond_its_threshold_is_named(rollouts, credits):
    tiles = CollapseBoard(rollouts, credits).picture().data["tiles"]
    sign = next(t for t in tiles if t["key"] == "sign_balance")
    assert sign["state"] == "beyond" and sign["verdict"].endswith(": MatchTIR")


def test_causes_that_need_more_than_outcomes(rollouts):
    cut = [replace(t, truncated=True, stop_reason="max_turns") if t.group == "Finland" else t for t in rollouts]
    groups = CollapseBoard(Rollouts(tuple(cut))).picture().data["groups"]
    assert groups[0]["cause"] == "all truncated" and "raise max_turns" in groups[0]["why"]
    unknown = Rollouts(tuple(replace(t, outcome=None) for t in rollouts))
    data = CollapseBoard(unknown).picture().data
    assert {g["cause"] for g in data["groups"]} == {"unknown"} and data["chance"] is None
    assert [g["chance"] for g in data["groups"]] == [None, None]


def test_a_recipe_is_taken_and_nothing_else_is(rollouts, run):
    data = CollapseBoard(rollouts, grpo()).picture().data
    assert data["groups"][0]["credit"] == {"grpo": "dead"}
    with pytest.raises(TypeError, match="expected a Run or Rollouts, got list"):
        CollapseBoard([1])
    with pytest.raises(TypeError, match="a run has the credit it taught with"):
        CollapseBoard(run, grpo())


def test_a_half_of_a_pair_in_an_id_is_no_obstacle(rollouts):
    odd = Rollouts(tuple(replace(t, id=f"{t.id}\ud800", group=f"{t.group}\ud800") for t in rollouts))
    board = CollapseBoard(odd)
    assert board.to_frame()["group"][0] == "Finland\ud800" and "⟦U+D800⟧" in board.html()
    pack(board.for_page())


def test_no_rollouts_at_all(rollouts):
    board = CollapseBoard(Rollouts(()))
    assert board.to_frame().empty and "0 groups" in str(board)
    pack(board.for_page())
