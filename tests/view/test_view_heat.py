"""The heat map without a browser: what travels, in which order, where methods part, and the static picture."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from workbench import compare, view
from workbench.batch import Batch
from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.view import TurnHeat, html
from workbench.view.html import raster
from workbench.view.html.parts import REPR_BYTES
from workbench.view.pack import pack
from workbench.view.payload import live_map, orders
from workbench.view.payload.disagree import MEASURES, apart
from workbench.view.payload.heat import ABSENT, BEYOND, DROPPED, LETTERS, UNKNOWN, UNTRAINED, ZERO, codes, heat
from workbench.view.payload.heat_picture import heat_picture
from workbench.view.payload.rows import coded, turn_arrays
from workbench.view.turn_heat import of_group
from workbench.view.words import plain_text

HOSTILE = [
    "<script>window.hit=1</script>",
    '"><img src=x onerror=window.hit=1>',
    "'-alert(1)-'",
    "<!-- never closed",
    "</td></table><h1>out",
    "a\u202etxt.exe",
    "\ud800 half",
    "data:text/html,<script>1</script>",
]


def made(rollouts: int, turns: int, methods: int = 2, group: int = 8, seed: int = 0) -> tuple[Batch, dict[str, Credit]]:
    """Ragged rollouts of up to `turns` turns, some credits zero and some unknown."""
    draw = np.random.default_rng(seed)
    owner = np.repeat(np.arange(rollouts), draw.integers(1, turns + 1, rollouts))
    batch = Batch.of_maps(owner, np.arange(rollouts) // group)
    outcome = torch.tensor((draw.random(rollouts) < 0.4) * 1.0)
    batch = batch.with_column("outcome", "trajectory", outcome, torch.tensor(draw.random(rollouts) < 0.95))
    credits = {}
    for m in range(methods):
        values = torch.tensor(np.where(draw.random(len(owner)) < 0.1, 0.0, draw.normal(size=len(owner))))
        credits[f"method {m}"] = Credit(values, "turn", torch.tensor(draw.random(len(owner)) > 0.1))
    return batch, credits


# ------------------------------------------------------------------------------------------------ what travels


def test_turns_hold_what_the_credit_map_says(rollouts, credits, kit):
    some = list(rollouts)
    some[1] = replace(
        some[1],
        turns=(
            some[1].turns[0],
            replace(some[1].turns[1], trainable=False, why_not="demonstrated"),
            *some[1].turns[2:],
        ),
    )
    r = Rollouts(tuple(some))
    every = {**credits, "by group": kit.credit("group", [1.0, None])}
    p = heat(r.batch(), every)
    for m, (name, credit) in enumerate(every.items()):
        values, status = turn_arrays(coded(name, credit, r.batch()), r.batch())
        assert [LETTERS[s] for s in p["status"][m]] == status
        np.testing.assert_allclose(p["values"][m], [np.nan if v is None else v for v in values], rtol=1e-6)
    assert "n" in {LETTERS[s] for s in p["status"][1]}


def test_numbers_travel_as_bytes_and_the_rest_is_small():
    batch, credits = made(500, 20)
    packed = pack(heat(batch, credits))
    head = json.loads(packed[4 : 4 + struct.unpack("<I", packed[:4])[0]])
    assert len(json.dumps(head)) < 8_000  # ids included: what grows with the turns is in arrays
    assert max((len(v) for v in head["payload"].values() if isinstance(v, list)), default=0) <= len(credits)


def test_ids_come_back_whatever_they_hold():
    texts = ["a", "", "né", "\U0001f600b", "\ud800 half", "</script>", "x\u202ey"]
    from workbench.view.payload.heat import packed_text

    assert orders.texts_of(packed_text(texts)) == texts and orders.texts_of(packed_text([])) == []


def test_a_credit_of_other_rollouts_is_refused(rollouts, kit):
    with pytest.raises(ValueError, match="compute it on the same rollouts"):
        TurnHeat(rollouts, {"m": kit.credit("turn", [1.0])}).payload  # noqa: B018
    with pytest.raises(ValueError, match="expected a positive number"):
        heat(rollouts.batch(), {}, scale=-1.0)


# ------------------------------------------------------------------------------------------------------- orders


@pytest.fixture
def five() -> dict:
    """Five rollouts in two groups, interleaved; one outcome is unknown."""
    batch = Batch.of_maps([0, 0, 1, 2, 2, 2, 4], ["a", "b", "a", "b", "a"])
    batch = batch.with_column("outcome", "trajectory", [0.0, 1.0, None, 0.5, 1.0])
    credit = Credit(torch.tensor([1.0, 3.0, -1.0, 0.0, 0.0, 6.0, 9.0]), "turn", torch.tensor([True] * 6 + [False]))
    return heat(batch, {"m": credit, "n": replace(credit, values=-credit.values)}, questions=["Where?", "When?"])


@pytest.mark.parametrize(
    "state, wanted",
    [
        ({"grouped": False}, [0, 1, 2, 3, 4]),
        ({}, [0, 2, 4, 1, 3]),
        ({"sort": "outcome", "grouped": False}, [1, 4, 3, 0, 2]),  # unknown last
        ({"sort": "outcome", "grouped": False, "flip": True}, [0, 3, 1, 4, 2]),  # and last the other way round
        ({"sort": "outcome"}, [1, 3, 4, 0, 2]),  # mean of b 0.75, of a 0.5
        ({"sort": "length", "grouped": False}, [2, 0, 1, 4, 3]),
        ({"sort": "credit", "grouped": False}, [0, 2, 1, 3, 4]),  # means 2, 2, -1, none, none
        ({"sort": "credit", "methods": ["n"], "grouped": False}, [1, 0, 2, 3, 4]),
        ({"sort": "sign", "grouped": False}, [0, 1, 2, 3, 4]),
        ({"find": "when", "grouped": False}, [1, 3]),
        ({"find": 4}, [4]),
        ({"only": "unknown"}, [0, 2, 4]),
        ({"only": "mixed"}, [1, 3]),
        ({"only": "selected", "rows": "n1.3-4", "grouped": False}, [1, 3, 4]),
        ({"only": "selected", "rows": "x21", "grouped": False}, [1, 4]),
        ({"only": "selected", "rows": "nonsense-"}, []),
        ({"only": "collapsed"}, []),
    ],
)
def test_orders_and_filters(five, state, wanted):
    assert orders.shown_rollouts(five, state).tolist() == wanted


def test_an_order_that_is_not_there_is_an_error(five, rollouts, credits):
    with pytest.raises(ValueError, match="expected one of"):
        orders.shown_rollouts(five, {"sort": "colour"})
    with pytest.raises(ValueError, match="expected 'all'"):
        orders.shown_rollouts(five, {"only": "good"})
    with pytest.raises(ValueError, match="sort"):
        TurnHeat(rollouts, credits, sort="colour")


# ------------------------------------------------------------------------------------------- where methods part


def test_disagreement_by_hand():
    nan = np.nan
    values = np.array([[1.0, 0.0, -1.0, 2.0, nan], [-2.0, 0.0, 2.0, 1.0, 1.0], [1.0, 1.0, 1.0, nan, nan]])
    owner = np.array([0, 0, 0, 1, 2])
    sign = apart("sign", values, owner, 3)
    np.testing.assert_allclose(sign.turn, [2 / 3, 2 / 3, 2 / 3, 0.0, nan])
    np.testing.assert_allclose(sign.rollout, [2 / 3, 0.0, nan])
    rank = apart("rank", values, owner, 3)
    # ranks 1, 1/2, 0 against 0, 1/2, 1 against 1/2 for all; a lone turn has no rank
    np.testing.assert_allclose(rank.turn, [1.0, 0.0, 1.0, nan, nan])
    np.testing.assert_allclose(rank.rollout, [2 / 3, nan, nan])
    share = apart("share", values, owner, 3)
    # shares 1/2, 0, -1/2 and -1/2, 0, 1/2 and 1/3 each
    np.testing.assert_allclose(share.turn[:3], [(1 + 1 / 6 + 5 / 6) / 6, (1 / 3 + 1 / 3) / 6, (1 + 5 / 6 + 1 / 6) / 6])
    assert share.turn[3] == 0.0 and np.isnan(share.turn[4])


def test_shares_of_two_methods_are_the_score_of_compare():
    batch, credits = made(40, 8)
    a, b = credits.values()
    both = a.known & b.known
    a, b = replace(a, known=both), replace(b, known=both)
    owner = batch.turn_trajectory.numpy()
    stacked = np.stack([np.where(both, c.values, np.nan) for c in (a, b)])
    ours = apart("share", stacked, owner, 40).rollout
    for found in compare.disagreement(a, b, batch):
        assert ours[found.place] == pytest.approx(found.score)
        assert apart("sign", stacked, owner, 40).rollout[found.place] == pytest.approx(found.signs)


@pytest.mark.parametrize("measure", MEASURES)
def test_disagreement_stays_between_0_and_1_and_needs_two(measure):
    batch, credits = made(60, 9, methods=5)
    values = np.stack([np.where(c.known, c.values, np.nan) for c in credits.values()])
    found = apart(measure, values, batch.turn_trajectory.numpy(), 60)
    for x in found:
        assert np.nanmin(x) >= 0 and np.nanmax(x) <= 1 + 1e-12
    same = np.repeat(values[:1], 3, 0)
    assert np.nanmax(apart(measure, same, batch.turn_trajectory.numpy(), 60).turn) == pytest.approx(0.0)
    assert np.isnan(apart(measure, values[:1], batch.turn_trajectory.numpy(), 60).turn).all()
    with pytest.raises(ValueError, match="expected one of"):
        apart("taste", values, batch.turn_trajectory.numpy(), 60)


def test_the_board_lists_the_worst_first(rollouts, credits):
    v = TurnHeat(rollouts, credits)
    board = v.apart()
    assert board["apart"].is_monotonic_decreasing and list(board.columns) == ["trajectory", "group", "outcome", "apart"]
    turns = v.apart("sign", of="turn", most=3)
    assert len(turns) == 3 and set(credits) < set(turns.columns)
    row = turns.iloc[0]
    signs = {np.sign(row[name]) for name in credits if not np.isnan(row[name])}
    assert len(signs) == 3 and row["apart"] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="two methods"):
        TurnHeat(rollouts, {"IGPO": credits["IGPO"]}).apart()


# --------------------------------------------------------------------------------------------- the static layer


def test_each_mark_is_drawn_differently_at_every_height():
    marks = [ZERO, UNKNOWN, DROPPED, UNTRAINED, ABSENT, BEYOND, BEYOND - 1, -BEYOND, 1, -1]
    for height in (8, 16, 32):
        drawn = {raster.tile(code, 24, height).tobytes() for code in marks}
        assert len(drawn) == len(marks), height


def test_codes_tell_the_end_of_the_scale_from_beyond_it():
    values = np.array([1.0, 1.1, -1.0, -1.1, 1e-9], np.float32)
    assert codes(values, np.zeros(5, np.uint8), float(np.float32(1.0))).tolist() == [16, 17, -16, -17, 1]
    assert codes(values, np.arange(5, dtype=np.uint8), None).tolist()[1:] == [ZERO, UNKNOWN, DROPPED, UNTRAINED]


def test_the_picture_is_a_png_with_the_right_cells():
    dots = raster.raster(np.array([[16, ABSENT], [-16, ZERO]], np.int8), 4, 4)
    data = raster.png(dots, raster._colours())
    width, height = struct.unpack(">II", data[16:24])
    rows = zlib.decompress(data[data.index(b"IDAT") + 4 : data.index(b"IEND") - 8])
    assert (width, height) == (8, 8) and len(rows) == 8 * 9
    assert set(rows[1:5]) == {raster.LEVELS * 2} and set(rows[5:9]) == {0}  # strongest blue, nothing
    assert set(rows[4 * 9 + 1 : 4 * 9 + 5]) == {raster.LEVELS}  # strongest vermillion


def wrong_but_for_the_picture(read, fragment: str) -> set[str]:
    images = {"element <img>", *(f"<img {name}>" for name in ("src", "alt", "width", "height"))}
    return set(read(fragment).wrong) - images - {"<img> 'max-width:none'"}


def test_the_static_layer_survives_a_sanitiser_and_reads_as_text(rollouts, credits, kit):
    fragment = view.mimebundle(TurnHeat(rollouts, credits))["text/html"]
    assert wrong_but_for_the_picture(kit.read, fragment) == set()
    text = " ".join(kit.read(fragment).text)
    assert "8 rollouts" in text and "−0.96" in text and "unknown" in text and "Where the methods part most" in text
    assert 'alt="Heat map: 8 rollouts by 3 turns' in fragment and "at every turn that has any" in fragment


@pytest.mark.parametrize("shape", [(10_000, 20, 4), (400, 200, 3), (2_000, 6, 60), (40, 3_000, 1)])
def test_the_static_layer_stays_small_and_says_what_is_left_out(shape):
    rollouts, turns, methods = shape
    picture = heat_picture(heat(*made(rollouts, turns, methods)))
    fragment = str(html.turn_heat(picture))
    assert len(fragment.encode()) <= REPR_BYTES and "<img" in fragment
    assert ("th rollout, one line each" in fragment) == (rollouts > 400)
    assert ("more method" in fragment) == (methods == 60 or turns == 200)
    assert ("the first 200 turns of" in fragment) == (turns == 3_000)


def test_hostile_text_stays_text(kit):
    many = [kit.trajectory(f"{i}{text}", text, [text, text], [text], 1.0) for i, text in enumerate(HOSTILE)]
    r = Rollouts(tuple(many))
    v = TurnHeat(r, {text: kit.credit("turn", [1.0, -1.0] * len(r)) for text in HOSTILE[:3]})
    assert wrong_but_for_the_picture(kit.read, view.mimebundle(v)["text/html"]) == set()
    assert set(v.to_frame()["trajectory"]) == {t.id for t in r}


@pytest.mark.parametrize("values", [None, [], [[None]], [[0.0, 0.0]], [[1.0]], [[None] * 200, [0.5] * 200]])
def test_odd_inputs_draw_sensibly(values, kit):
    ts = [kit.trajectory(str(i), "g", ["a"] * len(turns), [], None) for i, turns in enumerate(values or [])]
    flat = [v for turns in values or [] for v in turns]
    v = TurnHeat(Rollouts(tuple(ts)), {} if values is None else {"m": kit.credit("turn", flat)})
    bundle = view.mimebundle(v)
    assert wrong_but_for_the_picture(kit.read, bundle["text/html"]) == set()
    assert bundle["text/plain"] == plain_text(v.payload)
    assert len(v.to_frame()) == len(flat)
    assert len(pack(v.for_page())) > 0
    if not flat:
        assert "Nothing to draw" in bundle["text/html"]


# ------------------------------------------------------------------------------------------------------- frames


def test_the_frame_is_what_is_on_screen(rollouts, credits):
    v = TurnHeat(rollouts, credits, sort="outcome")
    whole = v.to_frame()
    assert len(whole) == 24 * 4 and whole["trajectory"].iloc[0] == "run0/000/Mozambique/0"
    assert whole.loc[whole["status"] == "unknown", "value"].isna().all()
    assert (whole.loc[whole["status"] == "zero", "value"] == 0).all()
    v.state.update(find="finland", methods=["IGPO"], grouped=False, flip=True)
    some = v.to_frame()
    assert set(some["group"]) == {"Finland"} and set(some["method"]) == {"IGPO"} and len(some) == 12
    everything = view.Overview(rollouts, credits).to_frame()
    both = some.merge(everything, on=["trajectory", "turn", "method"])
    pd.testing.assert_series_equal(both["value_x"], both["value_y"], check_names=False, rtol=1e-6)
    assert (both["status_x"] == both["status_y"]).all()


def test_of_many_methods_the_first_four_are_shown(rollouts, credits):
    v = TurnHeat(rollouts, [credits["IGPO"]] * 6)
    assert v.state["methods"] == ["credit", "credit (2)", "credit (3)", "credit (4)"]
    assert v.to_frame()["method"].nunique() == 4
    v.state["methods"] = None
    assert v.to_frame()["method"].nunique() == 6


def test_the_map_of_a_rollout_is_the_same_from_its_group_alone(rollouts, credits):
    for place in (1, 6):
        t = rollouts[place]
        fewer, cut = of_group(rollouts, credits, t.group)
        assert len(fewer) == 4
        ours, whole = live_map(fewer, t.id, cut, 1.0), live_map(rollouts, t.id, credits, 1.0)
        assert ours.keys() == whole.keys()
        for key in ("text", "ledger", "story"):
            assert ours[key] == whole[key]
        for a, b in zip(ours["methods"], whole["methods"], strict=True):
            assert a["cells"] == b["cells"]
            np.testing.assert_array_equal(a["values"], b["values"])


def test_a_file_carries_the_maps_of_the_rollouts_that_part_most(rollouts, credits, monkeypatch):
    from workbench.view import turn_heat

    monkeypatch.setattr(turn_heat, "MAPS", 2)
    v = TurnHeat(rollouts, credits)
    carried = v.for_page()["carried"]
    assert set(carried["maps"]) == {"2", "3"}  # the board's first two
    assert "core" in carried["script"] and "carried" not in v.interactive()
    answer = v.answers()["open"]({"trajectory": rollouts[5].id, "script": False}, None)
    assert set(answer) == {"map"} and answer["map"].dtype == np.uint8
