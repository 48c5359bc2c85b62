"""Payloads: the right number in the right place, None for unknown, one scale, JSON all the way."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench import view
from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.trajectory import Message, Sequence, Span, Trajectory, Turn
from workbench.view import palette, payload
from workbench.view.payload.rows import Placed, coded, turn_arrays


def find(data, name):
    return next(m for m in data["methods"] if m["name"] == name)


def test_every_payload_is_json_without_nan(rollouts, credits, kit):
    recipe = kit.recipe()
    for data in (
        payload.credit_map(rollouts, 1, credits),
        payload.group_overview(rollouts, credits),
        payload.method_table(rollouts, 1, credits),
        payload.ribbons(rollouts, 0, recipe.trace(rollouts.batch())),
        payload.transcript(rollouts[0]),
        payload.recipe(recipe),
    ):
        assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_values_land_on_their_turn_and_token(rollouts, credits):
    data = payload.credit_map(rollouts, 1, credits)
    batch = rollouts.batch()
    turns = [k for k, n in enumerate(batch.turn_trajectory.tolist()) if n == 1]
    igpo = credits["IGPO"].tolist()
    assert [cell["value"] for cell in find(data, "IGPO")["turns"]] == [igpo[k] for k in turns]
    token = credits["A²TGPO"].tolist()
    for place, k in enumerate(turns):
        mine = [token[i] for i, owner in enumerate(batch.token_turn.tolist()) if owner == k]
        assert find(data, "A²TGPO")["tokens"][place]["values"] == mine
        known = [v for v in mine if v is not None]
        mean = find(data, "A²TGPO")["turns"][place]["value"]
        assert mean == (pytest.approx(sum(known) / len(known)) if known else None)


def test_texts_of_tokens_follow_the_spans(rollouts):
    turn = payload.transcript(rollouts[0])["turns"][0]
    assert "".join(turn["pieces"]["texts"]) == turn["action"]["text"]
    assert turn["pieces"]["origins"][0] == "forced" and turn["sampled"] == turn["pieces"]["origins"].count("sampled")


def test_unknown_is_none_and_never_zero(rollouts, credits):
    cell = find(payload.credit_map(rollouts, 0, credits), "MatchTIR")["turns"][2]
    assert cell["value"] is None and cell["status"] == "u"


def test_zero_unknown_dropped_and_untrained_are_told_apart(kit):
    t = kit.trajectory("a", "g", [" one", " two", " three"], ["r", "r"], 1.0)
    turns = (*t.turns[:2], replace(t.turns[2], trainable=False, why_not="another agent"))
    r = Rollouts((replace(t, turns=turns), kit.trajectory("b", "g", [" x"], [], 0.0)))
    credit = kit.credit("turn", [0.0, None, 2.0, 1.0], drop=[3])
    data = payload.credit_map(r, "a", {"m": credit})
    assert [c["status"] for c in find(data, "m")["turns"]] == ["z", "u", "n"]
    other = find(payload.credit_map(r, "b", {"m": credit}), "m")["turns"][0]
    assert other["status"] == "d" and other["why"] == "all outcomes of the group are equal"


def test_counts_of_each_status_cover_every_unit(rollouts, credits):
    for method in payload.credit_map(rollouts, 5, credits)["methods"]:
        counts = method["counts"]
        units = sum(len(t["values"]) for t in method["tokens"]) if method["unit"] == "token" else len(method["turns"])
        assert sum(counts.get(s, 0) for s in palette.STATUS) == units
        assert counts["+"] + counts["-"] == counts.get("v", 0)


def test_one_scale_symmetric_at_the_98th_percentile_of_what_counts(rollouts, credits):
    scale = payload.credit_map(rollouts, 0, credits)["scale"]
    pooled = np.concatenate([c.values[c.known].abs().numpy() for c in credits.values()])
    pooled = pooled[pooled > 0]
    inside = (pooled <= scale["full"]).mean()
    assert 0.98 <= inside <= 0.98 + 1 / len(pooled) + 1e-9 or (pooled == scale["full"]).sum() > 1
    assert scale["full"] in pooled
    assert (
        scale
        == payload.group_overview(rollouts, credits)["scale"]
        == payload.method_table(rollouts, 3, credits)["scale"]
    )
    given = payload.credit_map(rollouts, 0, credits, scale=0.5)["scale"]
    assert given["full"] == 0.5 and given["given"] and given["beyond"] == int((pooled > 0.5).sum())


def test_dropped_values_do_not_stretch_the_scale(rollouts, kit):
    values = [1.0] * len(rollouts)
    values[7] = 100.0
    assert payload.group_overview(rollouts, {"m": kit.credit("trajectory", values, [7])})["scale"]["full"] == 1.0


def test_all_zero_has_no_scale_and_no_colour(rollouts, kit):
    data = payload.credit_map(rollouts, 0, {"m": kit.credit("trajectory", [0.0] * 8)})
    assert data["scale"]["full"] is None and find(data, "m")["turns"][0]["status"] == "z"
    assert "no colour scale" in view.CreditMap(rollouts, 0, {"m": kit.credit("trajectory", [0.0] * 8)}).html()


def test_a_sparse_credit_still_has_a_scale(rollouts, kit):
    values = [0.0] * rollouts.batch().count("token")
    values[3] = -0.25
    assert payload.credit_map(rollouts, 0, {"m": kit.credit("token", values)})["scale"]["full"] == 0.25


def test_credit_of_other_rollouts_is_refused(rollouts, kit):
    with pytest.raises(ValueError, match="the rollouts have 24 turns"):
        payload.credit_map(rollouts, 0, {"m": kit.credit("turn", [1.0] * 23)})


def test_nan_where_known_is_refused(rollouts):
    values = torch.full((8,), float("nan"), dtype=torch.float64)
    with pytest.raises(ValueError, match="credit 'm': trajectory 0 is nan"):
        payload.credit_map(rollouts, 0, {"m": Credit(values, "trajectory", torch.ones(8, dtype=torch.bool))})


def test_no_such_trajectory(rollouts, credits):
    with pytest.raises(KeyError, match="no trajectory 'nobody'"):
        payload.credit_map(rollouts, "nobody", credits)
    with pytest.raises(KeyError, match="position 8"):
        payload.credit_map(rollouts, 8, credits)


def test_group_and_batch_level_credit_reaches_every_turn(rollouts, kit):
    data = payload.credit_map(rollouts, 5, {"g": kit.credit("group", [1.0, -2.0]), "b": kit.credit("batch", [3.0])})
    assert [c["value"] for c in find(data, "g")["turns"]] == [-2.0] * 3
    assert [c["value"] for c in find(data, "b")["turns"]] == [3.0] * 3


def test_a_unit_inside_a_turn_is_drawn_on_its_tokens(rollouts, kit):
    batch = rollouts.batch()
    halves, unit = [], -1
    for i, k in enumerate(batch.token_turn.tolist()):
        unit += 1 if i == 0 or k != batch.token_turn[i - 1] else 0
        halves.append(unit)
    r = rollouts.with_unit("segment", "token", halves)
    data = payload.credit_map(r, 0, {"m": kit.credit("segment", [float(i) for i in range(unit + 1)])})
    assert set(find(data, "m")["tokens"][1]["values"]) == {1.0} and find(data, "m")["unit"] == "token"


def test_turns_in_few_passes_are_turns_one_by_one(rollouts, credits):
    batch = rollouts.batch()
    for name, credit in credits.items():
        c = coded(name, credit, batch)
        one_by_one = [Placed(c, batch).turn(k) for k in range(batch.count("turn"))]
        values, status = turn_arrays(c, batch)
        assert status == [t.status for t in one_by_one]
        assert values == [t.value if t.value is None else pytest.approx(t.value) for t in one_by_one]


def test_a_branch_goes_on_counting_and_says_where_it_left(rollouts, kit):
    root = rollouts[0]
    message = Message("br/a", "assistant", "Answer: euro")
    branch = Trajectory("br", root.group, turns=(Turn(message),), parent=(root.id, 1), outcome=1.0)
    r = Rollouts((root, branch))
    story = payload.credit_map(r, "br", {"m": kit.credit("trajectory", [1.0, -1.0])})["transcript"]
    assert story["turns"][0]["index"] == 2 and story["parent"] == [root.id, 1]
    assert "branched from" in view.CreditMap(r, "br", {"m": kit.credit("trajectory", [1.0, -1.0])}).html()


def test_groups_say_what_their_outcomes_allow(rollouts, credits):
    data = payload.group_overview(rollouts, credits)
    assert [g["outcomes"] for g in data["groups"]] == ["mixed", "collapsed"]
    assert data["group_kinds"] == {"mixed": 1, "collapsed": 1} and data["hidden"] == 0
    unknown = Rollouts(tuple(replace(t, outcome=None) for t in rollouts))
    assert payload.group_overview(unknown)["group_kinds"] == {"unknown": 2}
    assert payload.group_overview(Rollouts(rollouts.trajectories[:1]))["group_kinds"] == {"lone": 1}


def test_ribbons_have_one_cell_a_turn_and_a_scale_each(rollouts, kit):
    recipe = kit.recipe()
    data = payload.ribbons(rollouts, 0, recipe.trace(rollouts.batch()), recipe.name)
    names = [s["name"] for s in data["steps"]]
    assert names[:4] == ["read", "center", "drop", "spread"] and names[-1] == "spread" and "mix" in names
    assert [len(s["cells"]) for s in data["steps"]][:4] == [1, 1, 1, 3]
    assert data["steps"][2]["counts"]["d"] == 4 and data["steps"][2]["reasons"] == ["all outcomes are equal"]
    turn_reward = next(s for s in data["steps"] if s["params"].get("column") == "turn_reward")
    assert [c["value"] for c in turn_reward["cells"]] == [0.2, None, None]
    assert turn_reward["scale"]["full"] == pytest.approx(0.2)
    assert [s["depth"] for s in data["steps"]][-1] == 0 and max(s["depth"] for s in data["steps"]) == 1


def test_without_tokens_everything_works_by_turn(kit):
    t = kit.trajectory("a", "g", [" one", " two"], ["r"], 1.0)
    r = Rollouts((replace(t, sequences=()),))
    shown = view.CreditMap(r, 0, {"m": kit.credit("turn", [1.0, None])})
    assert shown.payload["transcript"]["has_tokens"] is False
    assert "tokens are not stored" in shown.html()
    assert view.Ribbons(r, 0, kit.recipe()).payload["steps"][-1]["level"] == "turn"
    assert list(view.CreditMap(r, 0, kit.recipe()).credits) == ["gigpo_like"]


def test_token_texts_that_are_not_known_fall_back_to_the_turn(kit):
    t = kit.trajectory("a", "g", [" one", " two"], [], 1.0)
    bare = Sequence(tuple(Span(s.ids, s.origin, s.turn, s.message) for s in t.sequences[0].spans))
    r = Rollouts((replace(t, sequences=(bare,)),))
    n = r.batch().count("token")
    page = view.CreditMap(r, 0, {"m": kit.credit("token", [1.0] * n)}).html()
    assert "texts of single tokens are not stored" in page
    read = kit.read(page)
    assert "Search: one" in "".join(read.text) and "+1.00" in read.titles


def test_frames_hold_all_turns_of_all_rollouts(rollouts, credits):
    frame = view.Overview(rollouts, credits, rows=2).to_frame()
    assert len(frame) == len(credits) * rollouts.batch().count("turn")
    one = view.CreditMap(rollouts, 3, credits).to_frame()
    assert set(one["trajectory"]) == {rollouts[3].id} and len(one) == 3 * len(credits)
    assert one[one["status"] == "unknown"]["value"].isna().all()


def test_methods_are_named_once(rollouts, kit):
    shown = view.Overview(rollouts, [kit.recipe(), kit.recipe()])
    assert list(shown.credits) == ["gigpo_like", "gigpo_like (2)"]
    with pytest.raises(TypeError, match="expected a recipe or a credit, got str"):
        view.Overview(rollouts, {"x": "grpo"})


def test_levels_of_the_palette():
    assert [palette.level(v, 1.6) for v in (0.0, 0.05, 0.1, 0.11, -0.8, 1.6, -99.0)] == [0, 1, 1, 2, -8, 16, -16]
    assert palette.wash(16).endswith(",.8)") and palette.wash(1).endswith(",.05)")
    assert palette.number(-1.005, 2).startswith("−") and palette.number(1e-9, 2) == "+1e-9"
    assert palette.wash(-3).startswith("rgba(213,94,0,") and palette.wash(3).startswith("rgba(0,114,178,")


def test_the_scale_is_the_98th_percentile_by_hand():
    """1 to 200 (zeros apart): 98 % lie at or below 197; one far value alone does not set the scale."""
    values = [np.arange(1.0, 200.0), np.array([0.0] * 500), np.array([-1e6])]
    assert palette.common_scale(values) == 197.0


def test_ribbons_count_turns_of_the_whole_story(rollouts, kit):
    root = rollouts[0]
    branch = Trajectory("br", root.group, turns=root.turns[2:], parent=(root.id, 1), outcome=0.0)
    data = payload.ribbons(Rollouts((root, branch)), "br", kit.recipe().trace(Rollouts((root, branch)).batch()))
    assert [t["index"] for t in data["turns"]] == [2]
