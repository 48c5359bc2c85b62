"""Where the wall time went, and what it cost: from rows of metrics, and from a run that was made here."""

from __future__ import annotations

import json
import math

import pytest

from workbench.runs import Run, Scale
from workbench.scale.picture import Bars
from workbench.scale.wall import bars, cost, idle_share, scale_of, wall

LOCAL = [
    {"step": 0, "seconds_rollout": 2.0, "seconds_credit": 0.5, "seconds_learn": 1.5, "seconds": 4.0, "outcome": 0.1},
    {"step": 1, "seconds_rollout": 3.0, "seconds_credit": 0.5, "seconds_learn": 2.5, "seconds": 6.0, "outcome": 0.1},
]
SCALED = [
    {"seconds_rollout": 6.0, "seconds_evidence": 0.0, "seconds_credit": 0.0, "seconds_learn": 2.0}
    | {"seconds_sync": 1.0, "seconds_idle": 1.0, "seconds": 10.0}
]


def test_a_row_a_step_and_what_was_not_measured_is_unknown():
    frame = wall([*LOCAL, {"step": 2, "seconds_rollout": 1.0, "seconds_learn": None, "seconds": 2.0}])
    assert list(frame.columns) == ["rollout", "credit", "learn", "wall", "overlap"]
    assert list(frame.index) == [0, 1, 2] and frame.loc[1, "rollout"] == 3.0
    assert math.isnan(frame.loc[2, "learn"]) and math.isnan(frame.loc[2, "credit"]) and frame.loc[2, "wall"] == 2.0


def test_parts_stand_in_their_order_and_new_ones_behind():
    frame = wall([{"seconds_probe": 1.0, "seconds_idle": 1.0, "seconds_learn": 1.0, "seconds_rollout": 1.0}])
    assert list(frame.columns) == ["rollout", "learn", "idle", "probe", "wall", "overlap"]
    assert frame.loc[0, "wall"] == 4.0  # without a clock the parts one after the other


def test_what_went_on_at_once_is_overlap():
    frame = wall([{"seconds_rollout": 6.0, "seconds_learn": 5.0, "seconds": 7.0}])
    assert frame.loc[0, "overlap"] == 4.0


def test_numbers_that_are_none_do_not_count():
    frame = wall([{"seconds_rollout": "2", "seconds_learn": float("inf"), "seconds_sync": True, "seconds": 3.0}])
    assert frame[["rollout", "learn", "sync"]].isna().all(axis=None) and frame.loc[0, "wall"] == 3.0


def test_rows_of_something_else_are_refused():
    with pytest.raises(ValueError, match="no step was finished yet"):
        wall([])
    with pytest.raises(ValueError, match="begins with 'seconds_'"):
        wall([{"loss": 1.0}])


def test_cost_is_devices_times_hours():
    found = cost(SCALED, Scale("cuda", learners=4, rollouts=2, engine="vllm", tensor_parallel=2))
    assert found.devices == 8 and found.hours == pytest.approx(8 * 10 / 3600)
    # engines work 6 of 10 seconds on 4 GPUs, learners 2 of 10 on 4
    assert found.idle == pytest.approx(1 - (4 * 6 + 4 * 2) / 80)
    assert str(found) == "0.0222 GPU hours (8 x 10 s), 60% of them idle"


def test_an_engine_plays_for_learners_that_name_none():
    found = idle_share(wall(SCALED), Scale(learners=2))
    assert found == pytest.approx(1 - (2 * 2 + 1 * 6) / 30)


def test_one_process_is_idle_where_it_says_so_and_unknown_where_it_does_not():
    assert cost(LOCAL).idle is None and "idle share unknown" in str(cost(LOCAL))
    assert cost([{**LOCAL[0], "seconds_idle": 1.0, "seconds": 5.0}]).idle == pytest.approx(0.2)
    assert "process hours (1 x 10 s)" in str(cost(LOCAL))


def test_bars_stack_up_to_the_step_and_shares_to_one():
    found = bars(LOCAL)
    assert found.labels == ("0", "1") and [sum(v[n] for v in found.parts.values()) for n in (0, 1)] == [4.0, 6.0]
    shares = bars(LOCAL, share=True)
    assert [sum(v[n] for v in shares.parts.values()) for n in (0, 1)] == pytest.approx([1, 1])
    assert "1: rollout 50%, credit 8%, learn 42%" in repr(shares)


def test_what_was_not_measured_draws_nothing():
    found = bars([LOCAL[0], {"step": 1, "seconds_rollout": 1.0}])
    assert list(found.parts["learn"]) == [1.5, None] and repr(found).endswith("\n1: rollout 1")


def test_many_steps_are_put_together():
    rows = [{"step": n, "seconds_rollout": float(n % 2), "seconds_learn": 1.0} for n in range(150)]
    found = bars(rows)
    assert len(found.labels) == 50 and found.labels[1] == "3" and "mean of 3 steps" in found.below
    assert found.parts["rollout"][0] == pytest.approx(1 / 3)


def test_the_scale_of_a_run_is_read_from_its_folder(tmp_path):
    given = {"name": "workbench.runs:Scale", "parameters": {"device": "cuda", "learners": 3}}
    (tmp_path / "launch.json").write_text(json.dumps({"scale": given}))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in LOCAL))
    assert scale_of(tmp_path) == Scale("cuda", learners=3)
    assert cost(Run(tmp_path)).hours == pytest.approx((3 + 1) * 10 / 3600)
    (tmp_path / "launch.json").write_text(json.dumps({"scale": {"parameters": {"learners": -1}}}))
    assert scale_of(Run(tmp_path)) == Scale()


def test_a_run_that_was_made_here_adds_up(tmp_path):
    from workbench import envs, policy, recipes
    from workbench.train.policy_gradient import Plan, train

    env = envs.load("chain", hops=1)
    plan = Plan(steps=2, groups=2, size=2, max_new_tokens=8)
    _, rows = train(policy.load("tiny", tools=env.tools), env, recipes.grpo(), plan, progress=lambda *_: None)
    frame = wall(rows)
    assert list(frame.columns[:4]) == ["rollout", "evidence", "credit", "learn"]
    parts = frame[["rollout", "evidence", "credit", "learn"]].sum(axis=1)
    assert parts.tolist() == pytest.approx(frame["wall"].tolist(), abs=1e-3)


# --------------------------------------------------------------------------------------------------------- pictures


def test_a_picture_is_plain_data_a_drawing_and_words():
    picture = Bars("t <b>", ("a", "b<"), {"rollout": (1.0, None), "idle": (0.5, 0.5)}, "seconds")
    found = picture._repr_mimebundle_()
    assert set(found) == {"application/vnd.plotly.v1+json", "image/svg+xml", "text/plain"}
    json.dumps(found["application/vnd.plotly.v1+json"])
    assert "<b>" not in found["image/svg+xml"] and "b&lt;" in found["image/svg+xml"]
    assert found["text/plain"] == "t <b> (seconds)\na: rollout 1, idle 0.5\nb<: idle 0.5"
    figure = picture.figure()
    assert [bar.name for bar in figure.data] == ["rollout", "idle"] and figure.layout.barmode == "stack"


def test_parts_have_colours_and_patterns_of_their_own():
    picture = Bars("t", ("a",), {name: (1.0,) for name in ("rollout", "learn", "sync", "idle")}, "seconds")
    looks = [(bar["marker"]["color"], bar["marker"]["pattern"]["shape"]) for bar in picture.plotly()["data"]]
    assert len({colour for colour, _ in looks}) == 4 and len({pattern for _, pattern in looks}) == 4
    assert looks[-1][0] == "#999999"
