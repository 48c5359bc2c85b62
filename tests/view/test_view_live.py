"""The live layer without a browser: payload of the credit map, its ledger, what the kernel answers, selections."""

from __future__ import annotations

import importlib.util
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from workbench import credit as c
from workbench import view
from workbench.axioms import conserves
from workbench.credit import Credit
from workbench.objective import clipped
from workbench.recipes import grpo, rloo
from workbench.recipes.base import Recipe
from workbench.rollouts import Rollouts
from workbench.search import branch_value, reroll
from workbench.trajectory import Message, Sequence, Span, Trajectory, Turn
from workbench.view.html.parts import REPR_BYTES
from workbench.view.link import Link, Selection, selection_of
from workbench.view.payload import credit_map, live_map, unit_rows
from workbench.view.payload.ledger import promise_of


@pytest.fixture(scope="module")
def world() -> SimpleNamespace:
    """Rollouts of a scripted policy in a chain world, from the tests of branching."""
    path = Path(__file__).parents[1] / "test_search.py"
    spec = importlib.util.spec_from_file_location("search_kit", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rollouts, policy, env, _ = module.played()
    return SimpleNamespace(rollouts=rollouts, policy=policy, env=env)


# ------------------------------------------------------------------------------------------------------ the payload


def test_tokens_of_the_live_map_are_those_of_the_batch(rollouts, credits):
    batch = rollouts.batch()
    for n, t in enumerate(rollouts):
        data = live_map(rollouts, n, credits)
        sampled = data["origin"] == data["origins"].index("sampled")
        mine = (batch.up("token", "trajectory") == n).numpy()
        for m in data["methods"]:
            fine = m["unit"] == "token"
            if fine:
                wanted = np.where(
                    credits[m["name"]].known.numpy()[mine], credits[m["name"]].values.numpy()[mine], np.nan
                )
                np.testing.assert_allclose(m["values"][sampled], wanted, rtol=1e-6)
            assert set(m["status"][~sampled]) == {4}  # not trained
        texts = [p for k in range(len(t.turns)) for s in t.sequences[0].spans for p in s.pieces if s.turn == k]
        assert data["text"] == "".join(t.turns[k].action.text for k in range(len(t.turns)))
        assert len(data["ends"]) == len(data["origin"]) <= len(texts) and data["more"] == 0
        np.testing.assert_allclose(data["logprob"][sampled], batch["logprob_old"].values.numpy()[mine], rtol=1e-6)


def test_the_live_map_agrees_with_the_static_one(rollouts, credits):
    live, static = live_map(rollouts, 5, credits), credit_map(rollouts, 5, credits)
    assert live["scale"] == static["scale"]
    for a, b in zip(live["methods"], static["methods"], strict=True):
        assert a["name"] == b["name"] and a["cells"] == b["turns"]


def test_a_branch_shows_its_own_tokens(world):
    grown = reroll(world.rollouts, world.policy, world.env, world.rollouts[0].id, 1, 2)[1]
    branch = next(t for t in grown if t.parent is not None)
    n = grown.batch().count("token")
    numbered = Credit(torch.arange(n, dtype=torch.float64), "token", torch.ones(n, dtype=torch.bool))
    data = live_map(grown, branch.id, {"place": numbered})
    mine = np.flatnonzero((grown.batch().up("token", "trajectory") == list(grown.by_id).index(branch.id)).numpy())
    sampled = data["origin"] == data["origins"].index("sampled")
    assert data["methods"][0]["values"][sampled].tolist() == mine.tolist()
    assert data["story"]["turns"][0]["index"] == 1 and data["story"]["parent"] == [world.rollouts[0].id, 0]


def test_offsets_count_as_a_browser_does_and_long_rollouts_are_cut(kit, monkeypatch):
    pieces = ("a", "😀b", "\ud800", "é")
    message = Message("m", "assistant", "".join(pieces))
    t = Trajectory("t", "g", (), (Turn(message),), (Sequence((Span((1, 2, 3, 4), "sampled", 0, "m", None, pieces),)),))
    credit = kit.credit("token", [1.0, None, -1.0, 0.0])
    data = live_map(Rollouts((t,)), 0, {"m": credit})
    assert data["ends"].tolist() == [1, 4, 5, 6]
    rows = list(unit_rows(data, "m", "token"))
    assert [row["text"] for row in rows] == list(pieces)
    assert [row["status"] for row in rows] == ["credited", "unknown", "credited", "zero"]
    assert view.pack.pack(data)
    monkeypatch.setitem(live_map.__globals__, "MAX_TOKENS", 3)
    cut = live_map(Rollouts((t,)), 0, {"m": credit})
    assert cut["more"] == 1 and len(cut["ends"]) == 3


def test_units_of_the_text(rollouts, credits):
    batch = rollouts.batch()
    half = (torch.arange(batch.count("token")) // 2 + 100 * batch.token_turn).unique(return_inverse=True)[1]
    phases = torch.tensor([[2 * n, 2 * n, 2 * n + 1] for n in range(8)]).flatten()
    named = rollouts.with_unit("segment", "token", half).with_unit("phase", "turn", phases)
    data = live_map(named, 1, credits)
    assert list(data["units"]) == ["word", "call", "segment", "phase", "turn"]
    rows = list(unit_rows(data, "A²TGPO", "segment"))
    mine = (batch.up("token", "trajectory") == 1).numpy()
    assert [row["segment"] for row in rows] == sorted(set(half.numpy()[mine].tolist()))
    words = [row["text"] for row in unit_rows(data, "GRPO", "word")]
    assert "".join(words) == data["text"] and all(len(w.split()) <= 1 for w in words)
    calls = [row["text"] for row in unit_rows(data, "GRPO", "call")]
    assert calls == [call.raw for turn in rollouts[1].turns for call in turn.calls]


def test_a_frame_is_what_is_on_screen(rollouts, credits):
    made = view.CreditMap(rollouts, 1, credits)
    assert list(made.to_frame()) == ["trajectory", "turn", "method", "value", "status"] and len(made.to_frame()) == 12
    made.state.update({"unit": "token", "method": "A²TGPO"})
    tokens = made.to_frame()
    assert set(tokens["method"]) == {"A²TGPO"} and "".join(tokens["text"]) == live_map(rollouts, 1, {})["text"]


# ----------------------------------------------------------------------------------------------------------- the ledger


def recipe(*stages) -> Recipe:
    return Recipe("made", c.chain(*stages), clipped(0.2, 0.2))


def test_promises_are_read_off_the_last_stages(rollouts):
    batch = rollouts.batch()
    assert promise_of(grpo(), batch).name == "zero_mean(task)"
    assert promise_of(rloo(), batch).check(rloo(), batch).holds
    turns = recipe(c.read("turn_reward"), c.fill(0.0), c.center(c.task_and_turn), c.spread("token"))
    assert promise_of(turns, batch).says == "Credit of turns has mean zero within task_and_turn."
    after = recipe(c.read("outcome"), c.center(c.task), c.clip(-0.1, 0.1), c.spread("token"))
    assert promise_of(after, batch) is None
    other = recipe(c.read("outcome"), c.center(c.task), c.scale(c.batch), c.spread("token"))
    assert promise_of(other, batch) is None


def test_the_ledger_says_kept_and_broken(rollouts, credits):
    kept = view.CreditMap(rollouts, 1, [grpo()]).interactive()["ledger"][0]
    assert kept["holds"] is True and kept["group"] == pytest.approx(0.0, abs=1e-9) and kept["sum"] < 0
    broken = view.CreditMap(rollouts, 0, [grpo()], promises={"grpo": conserves("outcome")}).interactive()["ledger"][0]
    assert broken["holds"] is False and "misses its sum by" in broken["why"] and broken["gap"] > 1
    bare = view.CreditMap(rollouts, 0, credits).interactive()["ledger"]
    assert [row["holds"] for row in bare] == [None] * 4 and bare[2]["unknown"] == 0
    assert bare[1]["unknown"] == 1 and bare[1]["sum"] == pytest.approx(0.35 + 0.8)


# ---------------------------------------------------------------------------------------------------------- the widget


def told(live) -> list[tuple[dict, list]]:
    """Replace the widget's line to the page by a list."""
    sent: list = []
    live.widget.send = lambda content, buffers=None: sent.append((content, buffers or []))
    return sent


def test_a_widget_opens_with_little_beside_its_data(rollouts, credits):
    live = view.CreditMap(rollouts, 1, credits).live()
    state = live.widget.get_state()
    data = live.widget.data
    rest = {k: v for k, v in state.items() if not isinstance(v, (bytes, memoryview))}
    assert len(json.dumps(rest, default=str)) < 300_000 and isinstance(data, bytes)
    assert all(len(json.dumps(v, default=str)) < 500 for k, v in rest.items() if k != "_esm")
    bundle = live.bundle()
    assert len(bundle["text/html"].encode()) <= REPR_BYTES + 100 and "cw-static cw-of-" in bundle["text/html"]


def test_a_turn_is_sampled_anew_and_as_branch_value_says(world):
    made = view.CreditMap(world.rollouts, 0, [grpo()])
    live = made.live(reroll=partial(reroll, policy=world.policy, env=world.env))
    assert made.interactive()["reroll"] is True
    sent = told(live)
    live.heard({"ask": "reroll", "id": "a", "args": {"turn": 0, "n": 4, "seed": 3}}).join(60)
    assert sent[0][0]["progress"]["total"] == 8 and sent[-1][0] == {"id": "a"}
    assert len(sent[-1][1]) == 1
    found = json.loads(sent[-1][1][0][4 : 4 + int.from_bytes(sent[-1][1][0][:4], "little")])["payload"]
    wanted = branch_value(world.rollouts, world.policy, world.env, world.rollouts[0].id, 0, 4, seed=3)
    assert found["before"]["mean"] == wanted.before.mean and found["gain"]["low"] == wanted.gain.low
    assert [b["id"] for b in found["branches"]] == [f"{world.rollouts[0].id}.0.{k}" for k in range(4)]


def test_stop_stops_and_errors_are_told(world):
    live = view.CreditMap(world.rollouts, 0, [grpo()]).live(reroll=partial(reroll, policy=world.policy, env=world.env))
    sent = told(live)
    live.widget.send = lambda content, buffers=None: (sent.append((content, buffers)), live.heard({"stop": "b"}))
    live.heard({"ask": "reroll", "id": "b", "args": {"turn": 0, "n": 4}}).join(60)
    assert sent[-1][0] == {"id": "b", "error": "stopped"} and live.calls == {}
    for args, words in (({"turn": 99, "n": 4}, "expected a turn below"), ({"turn": 0, "n": 999}, "1 to 64")):
        live.heard({"ask": "reroll", "id": "c", "args": args}).join(60)
        assert words in sent[-1][0]["error"]
    live.heard({"ask": "__class__", "id": "d"}).join(60)
    assert "this view answers ['open', 'reroll']" in sent[-1][0]["error"]
    assert live.heard({"stop": "nobody"}) is None


def test_a_view_without_an_interactive_layer_says_so(rollouts):
    with pytest.raises(TypeError, match="no interactive layer"):
        view.Ribbons(rollouts, 0, grpo()).live()


# ---------------------------------------------------------------------------------------------------------- selections


def test_selections_reach_python_and_go_back(rollouts, credits):
    link = Link()
    one, two = view.CreditMap(rollouts, 1, credits), view.CreditMap(rollouts, 2, credits)
    live, other = one.live(link=link), two.live(link=link)
    heard = []
    link.observe(heard.append)
    identity = rollouts[1].id
    live.widget.selection = {"trajectories": [identity], "turns": [[identity, 2]], "expression": "x", "by": "click"}
    assert live.selection == other.selection == Selection((identity,), ((identity, 2),), "x", "click") == heard[0]
    frame = view.Overview(rollouts, credits).to_frame()
    assert len(live.selection.of(frame)) == 4
    link.select(turns=[(identity, 0), (identity, 1)])
    assert other.widget.pushed["expression"] == f'(trajectory == "{identity}" and turn in [0, 1])'
    assert len(frame.query(link.selection.expression)) == 8


def test_what_is_no_selection_is_left_out():
    odd = {"trajectories": ["a", 3, None], "turns": [["a", 1], [4, 1]], "by": "brush"}
    assert selection_of(odd) == Selection(("a",), (("a", 1),), "", "brush")
    assert not Selection() and Selection(("a",))


def test_another_rollout_is_opened_and_what_is_not_there_is_refused(rollouts, credits):
    made = view.CreditMap(rollouts, 1, credits)
    live = made.live()
    sent, before = told(live), live.widget.data
    live.heard({"ask": "open", "id": "a", "args": {"trajectory": rollouts[4].id}}).join(20)
    assert set(made.to_frame()["trajectory"]) == {rollouts[4].id} and live.widget.data != before
    live.heard({"ask": "open", "id": "b", "args": {"trajectory": "nobody"}}).join(20)
    assert "no trajectory 'nobody'" in sent[-1][0]["error"] and made.trajectory == rollouts[4].id
    live.heard({"ask": "reroll", "id": "c", "args": {"turn": 0, "n": 1}}).join(20)
    assert "answers ['open']" in sent[-1][0]["error"]  # nothing to sample with was handed in
