"""Recompute without a browser: what the panel is told, what the kernel answers, what reaches Python."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench import recipes, view
from workbench.credit import chain, peers, read, reward_to_go, spread
from workbench.recipes import Recipe
from workbench.recompute import KNOBS, Edit, Memory, coarsest, edited, recompute, turned
from workbench.rollouts import Rollouts
from workbench.view.payload import recompute as knobs
from workbench.view.payload.rows import turns_of
from workbench.view.sources import order, widget_script


@pytest.fixture
def rich(rollouts) -> Rollouts:
    def rewarded(n, t):
        turns = tuple(replace(turn, reward=0.1 * ((3 * n + 2 * k) % 7)) for k, turn in enumerate(t.turns))
        return replace(t, turns=turns)

    return Rollouts(tuple(rewarded(n, t) for n, t in enumerate(rollouts)))


@pytest.fixture
def turning(rich) -> view.Recompute:
    return view.Recompute(rich, [recipes.grpo(), recipes.gigpo(), recipes.rloo()], 1)


def patched(answer: dict) -> dict:
    """The change a page gets."""
    data = answer["patch"].tobytes()
    size = int(np.frombuffer(data, "<u4", 1)[0])
    return json.loads(data[4 : 4 + size])["payload"]


def wanted(turning: view.Recompute, settings: dict, edits: tuple, n: int) -> dict[str, list[float | None]]:
    batch = edited(turning.rollouts.batch(), edits)
    out = {}
    for name, recipe in turning.given.items():
        credit = turned(recipe, settings).credit(batch, "turn").tolist()
        out[name] = [credit[k] for k in turns_of(batch, n)]
    return out


@pytest.mark.parametrize(
    ("said", "settings", "edits"),
    [
        ({}, {}, ()),
        ({"gamma": 0.3}, {"gamma": 0.3}, ()),
        ({"ddof": "0", "singleton": "drop"}, {"ddof": 0, "singleton": "drop"}, ()),
        ({"clip": 0.5, "peers": "batch"}, {"clip": 0.5, "peers": peers.batch}, ()),
        ({"gamma": 0.3}, {"gamma": 0.3}, (Edit("turn_reward", 4, 2.0), Edit("outcome", 2, None))),
    ],
)
def test_a_step_sends_what_recipes_made_so_compute(turning, said, settings, edits):
    for n in (1, 2, 6):
        identity = turning.rollouts[n].id
        answer = turning.answers()["step"](
            {"knobs": said, "edits": [list(e) for e in edits], "rollout": identity}, None
        )
        got = {m["name"]: [c["value"] for c in m["cells"]] for m in patched(answer)["methods"]}
        assert got == wanted(turning, settings, edits, n)
        assert answer["problems"] == [] and len(answer["patch"]) < 10_000


def test_a_method_that_cannot_be_turned_stays_as_it_was_with_the_edits(turning):
    edits = (Edit("outcome", 1, 4.0),)
    asked = {"knobs": {"peers": "task_and_turn", "gamma": 0.2}, "edits": [list(e) for e in edits]}
    answer = turning.answers()["step"](asked, None)
    assert [name for name, _ in answer["problems"]] == ["grpo", "gigpo", "rloo"]
    change = patched(answer)
    assert {m["mark"] for m in change["methods"]} == {" (as it was)"}
    assert {m["name"]: [c["value"] for c in m["cells"]] for m in change["methods"]} == wanted(turning, {}, edits, 1)
    assert change["notes"] == {"2": "outcome edited"}
    assert "turned(" not in turning.answers()["rest"](asked, None)["code"]


def test_the_ledger_follows_the_knobs_once_the_hand_rests(turning):
    asked = {"knobs": {"clip": 0.6}}
    moving = patched(turning.answers()["step"](asked, None))["ledger"]
    rested = patched(turning.answers()["rest"](asked, None))["ledger"]
    assert [row["sum"] for row in moving] == [row["sum"] for row in rested]
    assert {row["holds"] for row in moving} == {None} and "hand rests" in moving[0]["why"]
    assert rested[0]["holds"] is None and "promise no sum" in rested[0]["why"]  # a clip promises nothing
    assert patched(turning.answers()["rest"]({}, None))["ledger"][0]["holds"] is True


def test_what_was_turned_reaches_python(turning):
    assert turning.settings == {} and turning.edits == () and "turned" not in turning.code
    turning.state.update(knobs={"gamma": 0.5, "peers": "task"}, edits=[["outcome", 1, 3.0], ["turn_reward", 4, None]])
    assert turning.settings == {"gamma": 0.5, "peers": peers.task}
    assert turning.edits == (Edit("outcome", 1, 3.0), Edit("turn_reward", 4, None))
    assert turning.recipes["gigpo"].chain == turned(recipes.gigpo(), {"gamma": 0.5, "peers": peers.task}).chain
    names = {"rollouts": turning.rollouts}
    exec(turning.code, names)
    assert {name: r.chain for name, r in names["methods"].items()} == {n: r.chain for n, r in turning.recipes.items()}
    assert names["batch"]["outcome"].values[1] == 3.0 and not names["batch"]["turn_reward"].known[4]
    frame = turning.to_frame()
    expected = wanted(turning, turning.settings, turning.edits, 1)["gigpo"]
    assert [None if np.isnan(v) else v for v in frame[frame.method == "gigpo"]["value"]] == expected
    assert list(frame["trajectory"].unique()) == [turning.rollouts[1].id]
    assert "Shown with gamma 0.5, peers task, 2 edited rewards" in turning.html()


def test_code_of_recipes_with_parameters_and_of_ones_own(rich):
    own = Recipe(
        "mine", chain(read("turn_reward", "turn"), reward_to_go(0.7), spread("token")), recipes.grpo().objective
    )
    given = {"a": recipes.gigpo(gamma=0.8), "b": recipes.grpo(ddof=0), "mine": own}
    names = {"given": given}
    exec(knobs.code(given, {"gamma": 0.1, "ddof": 1}, ()), names)
    assert {n: r.chain for n, r in names["methods"].items()} == {
        n: turned(r, {"gamma": 0.1, "ddof": 1}).chain for n, r in given.items()
    }


def test_the_panel_says_who_has_which_knob_with_which_value(turning):
    told = {knob["name"]: knob for knob in turning.interactive()["knobs"]}
    assert list(told) == [knob.name for knob in KNOBS]
    assert told["gamma"]["own"] == [["gigpo", "0.95"]] and told["gamma"]["without"] == ["grpo", "rloo"]
    assert told["gamma"]["start"] == 0.95 and told["ddof"]["without"] == ["rloo"]
    assert dict(told["peers"]["own"])["gigpo"] == "task, same_state" and told["clip"]["own"][0][1] == "no bound"


def test_rewards_and_rollouts_of_the_group(turning):
    data = turning.interactive()
    assert [r["name"] for r in data["rewards"]] == ["outcome", "turn_reward"]
    assert data["rewards"][1]["unit"] == 3 and data["turns"] == [0, 1, 2]
    assert data["peers"] == [t.id for t in turning.rollouts[:4]]
    other = turning.answers()["show"]({"rollout": turning.rollouts[5].id, "edits": [["outcome", 5, None]]}, None)
    assert other["rollout"] == turning.rollouts[5].id and other["rewards"][0]["values"] == [0.0]
    assert other["edits"][0] == {
        "trajectory": turning.rollouts[5].id, "turn": None, "column": "outcome", "before": 0.0, "after": None
    }  # fmt: skip


@pytest.mark.parametrize(
    "said", [{"gama": 1.0}, {"peers": "__class__"}, {"gamma": "x"}, {"gamma": 7.0}, {"gamma": float("nan")}], ids=str
)
def test_nonsense_from_a_page_is_refused(turning, said):
    with pytest.raises((KeyError, ValueError)):
        turning.answers()["step"]({"knobs": said}, None)
    with pytest.raises(KeyError, match="no column 'nope'"):
        turning.answers()["step"]({"edits": [["nope", 0, 1.0]]}, None)
    assert turning.answers()["step"]({}, None)["problems"] == []


def test_the_coarsest_level_says_all_there_is(rich):
    batch = rich.batch()
    assert coarsest(recipes.gigpo(), batch) == coarsest(recipes.grpo(), batch) == "turn"
    assert coarsest(recipes.igpo_released_2025(), batch) == "token"
    fine = Recipe(
        "fine", chain(read("turn_reward", "turn"), spread("token"), reward_to_go(0.9)), recipes.grpo().objective
    )
    assert coarsest(fine, batch) == "token"
    turning = view.Recompute(rich, [fine, recipes.grpo()])
    sent = patched(turning.answers()["step"]({"knobs": {"gamma": 0.2}}, None))["methods"]
    assert [m["unit"] for m in sent] == ["token", "turn"]
    got = recompute([fine], Memory(batch), {"gamma": 0.2}, None).credits["fine"]
    assert torch.equal(got.values, turned(fine, {"gamma": 0.2}).credit(batch, "token").values)


def test_static_first_and_small(turning):
    bundle = turning.picture().bundle()
    assert "needs a kernel: show this view with .live()" in re.sub("<[^>]+>", "", bundle["text/html"])
    assert len(bundle["text/html"]) < 150_000
    assert order(["recompute"])[-1] == "recompute" and len(widget_script(("recompute",)).encode()) < 60_000


def test_only_recipes_can_be_turned(rich, credits):
    with pytest.raises(TypeError, match="only a recipe can be turned, got Credit"):
        view.Recompute(rich, credits)
    with pytest.raises(ValueError, match="match_turn_reward"):
        view.Recompute(rich, recipes.matchtir())
