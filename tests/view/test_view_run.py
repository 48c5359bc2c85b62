"""A run as one sees it: going on, finished, failed, empty, somebody else's; text that wants to be more than text."""

from __future__ import annotations

import json
import os

import pytest

from workbench import runs, store, view
from workbench.batch import Provenance
from workbench.runs import Run, lock, write_json
from workbench.view import figure, payload
from workbench.view.html import run as html_run
from workbench.view.payload import course
from workbench.view.watching import RunView, Watcher

HOSTILE = [
    "<script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    '"><svg onload=window.hit=1>',
    "</script></style><b>bold</b>",
    "<a href=javascript:window.hit=1>x</a>",
    "safe\u202etxt.exe",
    "red \x1b[31m\x00\x07",
    "\u200b\ufeff\u2066hidden",
    "$\\href{javascript:alert(1)}{x}$",
    "%{customdata} <!-- never closed",
]


def row(step, **more):
    """A line of metrics as a run writes it."""
    made = {"step": step, "outcome": min(1.0, step / 20), "outcome_n": 16, "outcome_low": 0.0, "outcome_high": 1.0}
    made |= {
        "collapsed": 0.25,
        "collapse_causes": {"varied": 3, "all failed": 1},
        "gradient_norm": 0.5,
        "surprise": 0.3,
    }
    made |= {"tokens_known": 90, "tokens_unknown": 0, "tokens_dropped": 10, "alarms": {}, "dead_groups": None}
    return {**made, "seconds_rollout": 1.5, "seconds_learn": 0.5, "seconds": 2.0, **more}


@pytest.fixture
def make(tmp_path):
    """Return a function that makes the folder of a run."""

    def made(rows=(), state="finished", folder="grpo-chain-001", reason="", **asked):
        path = tmp_path / "runs" / folder
        path.mkdir(parents=True)
        text = {"recipe": "grpo\n  credit: read('outcome')", "env": "Chain(hops=3)", "policy": "tiny"}
        write_json(path / "launch.json", {"steps": 40, "text": text, "made": "2026-11-22", **asked})
        said = {"state": state, "step": len(rows), "steps": 40, "reason": reason, "notes": ["a note"]}
        write_json(path / "status.json", said)
        (path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        return Run(path)

    return made


@pytest.fixture
def alive(make):
    """A run that goes on, ten steps in."""
    run = make([row(n) for n in range(10)], "running")
    handle = lock(run.path / "lock")
    yield run
    os.close(handle)


def keep(run, rollouts, step):
    """Write rollouts as those of a step, as a run does."""
    batch = rollouts.batch()
    values = [((i * 37) % 19 - 9) / 7 for i in range(batch.count("token"))]
    kept = rollouts.with_column("training_credit", "token", values, None, Provenance("training", {"recipe": "grpo"}))
    store.write(run.path / "trajectories" / f"step-{step:08d}", kept)


# ---------------------------------------------------------------------------------------------- how it is said


def test_a_run_that_goes_on(alive):
    text = view.mimebundle(alive)["text/plain"]
    assert "grpo-chain-001: running" in text and "a note" in text
    assert "step 10 of 40 · 2.0 s a step · about 1 min left · 50 tokens a second · rollout 75%, learn 25%" in text
    assert "run.pause()" in text and "run.stop()" in text and "resume" not in text
    assert any(line.split()[:3] == ["success", "10.0%", "35.0%"] for line in text.splitlines())


def test_a_run_without_a_word_for_long_says_so_instead_of_a_time_left(alive):
    os.utime(alive.path / "status.json", (0, 0))
    text = view.mimebundle(alive)["text/plain"]
    assert "no step for" in text and "left" not in text


@pytest.mark.parametrize(
    ("state", "word"),
    [("finished", "finished"), ("stopped", "workbench.train.resume"), ("failed", "the disk is full: free space")],
)
def test_a_run_that_ended(make, kit, state, word):
    run = make([row(n) for n in range(3)], state, reason="the disk is full: free space" if state == "failed" else "")
    bundle = view.mimebundle(run)
    assert word in bundle["text/plain"] and word in "".join(kit.read(bundle["text/html"]).text)
    assert "left" not in bundle["text/plain"] and "run.stop()" not in bundle["text/plain"]


def test_going_on_with_code_of_others_is_warned_of(make):
    run = make([row(0)], "stopped")
    assert "only with runs you trust" not in view.mimebundle(run)["text/html"]
    (run.path / "code").mkdir()
    assert "only with runs you trust" in view.mimebundle(run)["text/html"]


def test_alarms_sound_first_and_silent_ones_are_remembered(make, kit):
    rows = [
        row(0, alarms={"truncated": "raise it"}),
        row(1),
        row(2, alarms={"dead": "why"}),
        row(3, alarms={"dead": "now"}),
    ]
    run = make(rows, "stopped")
    found = course.alarms(payload.look(run)["metrics"]["rows"])
    assert [(a["kind"], a["now"], a["since"], a["steps"]) for a in found] == [
        ("dead", True, 3, 2),
        ("truncated", False, 1, 1),
    ]
    text = "".join(kit.read(view.mimebundle(run)["text/html"]).text)
    assert "! dead now (since step 3)" in text and "Earlier alarms, silent now: truncated (1 step" in text


def test_an_empty_run_and_an_empty_list(make, tmp_path):
    run = make()
    (run.path / "metrics.jsonl").unlink()
    (run.path / "status.json").unlink()
    assert "failed" in view.mimebundle(run)["text/plain"]  # nobody works on it
    assert "none" in view.mimebundle(runs.list(tmp_path / "nowhere"))["text/html"]
    assert view.mimebundle(runs.list(tmp_path / "nowhere"))["text/plain"] == "no runs"
    assert len(Watcher(run).look()) == 3 and RunView(run).to_frame().empty


def test_a_table_of_runs(make, kit, tmp_path):
    make([row(n) for n in range(3)], "failed", "a-001", reason="why it failed")
    make([row(n) for n in range(5)], "finished", "b-001")
    found = runs.list(tmp_path / "runs")
    text = "".join(kit.read(view.mimebundle(found)["text/html"]).text)
    for word in ("a-001", "✗ failed", "3 of 40", "why it failed", "b-001", "✓ finished", "20%", "grpo", "Chain"):
        assert word in text
    assert "a-001" in repr(found) and found[0].path.name == "a-001" and isinstance(found, tuple)


# ------------------------------------------------------------------------------------------------- the contract


def test_a_viewer_that_polls_reads_only_what_is_new(alive, rollouts):
    first = payload.look(alive)
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert len(first["metrics"]["rows"]) == 10 and first["rollouts"] == {"step": -1, "new": None, "problem": ""}
    keep(alive, rollouts, 10)
    with (alive.path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row(10)) + "\n")
    second = payload.look(alive, first["metrics"]["cursor"], first["rollouts"]["step"])
    assert [r["step"] for r in second["metrics"]["rows"]] == [10] and not second["metrics"]["anew"]
    assert second["rollouts"]["step"] == 10 and second["rollouts"]["new"]["methods"] == ["grpo"]
    third = payload.look(alive, second["metrics"]["cursor"], 10)
    assert third["metrics"]["rows"] == [] and third["rollouts"]["new"] is None and third["rollouts"]["step"] == 10


def test_a_watcher_forgets_what_a_resumed_run_cut(alive, rollouts):
    watcher = Watcher(alive)
    keep(alive, rollouts, 8)
    watcher.look()
    assert len(watcher.rows) == 10 and watcher.shown["step"] == 8
    for path in (alive.path / "trajectories" / "step-00000008").rglob("*"):
        if path.is_file():
            path.unlink()
    (alive.path / "trajectories" / "step-00000008" / "evidence").rmdir()
    (alive.path / "trajectories" / "step-00000008").rmdir()
    (alive.path / "metrics.jsonl").write_text("".join(json.dumps(row(n, seconds=3.0)) + "\n" for n in range(5)))
    watcher.look()
    assert len(watcher.rows) == 5 and watcher.shown["step"] == -1


def test_rollouts_that_cannot_be_read_are_named_and_those_before_are_shown(make, rollouts):
    run = make([row(0)])
    keep(run, rollouts, 0)
    (run.path / "trajectories" / "step-00000005").mkdir()
    (run.path / "trajectories" / "step-00000005" / "manifest.json").write_text("{")
    found = payload.look(run)["rollouts"]
    assert found["step"] == 0 and "step 5 cannot be read" in found["problem"]
    assert "cannot be read" in html_run.newest(found)


def test_a_kept_rollout_opens_as_a_credit_map(make, rollouts):
    run = make([row(0)])
    keep(run, rollouts, 0)
    shown = run.credit_map(1)
    assert isinstance(shown, view.CreditMap) and list(shown.credits) == ["grpo"]
    assert "run.credit_map(0)" in view.mimebundle(run)["text/html"]


# ------------------------------------------------------------------------------------------------- the curves


def test_points_pool_their_rollouts():
    rows = [payload.run.clean(row(n, outcome=n % 2, outcome_n=8)) for n in range(1000)]
    c = course.curves(rows, points=100)
    assert c["each"] == 10 and len(c["step"]) == 100 and c["step"][-1] == 1000
    assert c["outcome"][0] == 0.5 and 0.38 < c["low"][0] < 0.5 < c["high"][0] < 0.62  # 40 of 80
    assert c["causes"] == {"all failed": [0.25] * 100} and c["seconds"]["rollout"][0] == 1.5


def test_an_interval_of_outcomes_that_are_no_shares_is_not_pooled():
    rows = [row(n, outcome=0.4, success=0.0) for n in range(2)]
    assert course.pooled(rows[:1]) == (0.4, 0.0, 1.0) and course.pooled(rows) == (0.4, None, None)


def test_unknown_stays_unknown():
    rows = [payload.run.clean(row(n, outcome=None, gradient_norm=None, collapse_causes={})) for n in range(3)]
    c = course.curves(rows)
    assert c["outcome"] == [None] * 3 and c["lines"]["gradient_norm"] == [None] * 3 and c["causes"] == {}
    assert html_run.value("outcome", rows) == "unknown" and html_run.spark("gradient_norm", rows) == ""


def test_a_stack_has_a_gap_where_nothing_is_known():
    rows = [payload.run.clean(row(n, seconds_rollout=None if n == 2 else 1.5)) for n in range(5)]
    for one in rows[2:3]:
        one["collapse_causes"] = {}
        for name in [k for k in one if k.startswith("seconds_")]:
            del one[name]
    areas = [t for t in figure.figure(rows)["data"] if "stackgroup" in t]
    assert [t["x"] for t in areas if t["name"] == "rollout"] == [[1, 2], [4, 5]]
    assert [t["showlegend"] for t in areas if t["name"] == "all failed"] == [True, False]
    assert not any(3 in t["x"] for t in areas)


def test_plotly_takes_the_figure(make):
    import plotly.graph_objects as go

    run = make([row(n, alarms={}) for n in range(40)])
    made = RunView(run).figure()
    assert isinstance(made, go.Figure) and [t.name for t in made.data if t.stackgroup] == [
        "all failed",
        "rollout",
        "learn",
    ]
    bundle = Watcher(run).look()[1]
    assert len(json.dumps(bundle)) < 40_000 and figure.MIME in bundle
    long = figure.figure([payload.run.clean(row(n)) for n in range(20_000)])
    assert len(json.dumps(long)) < 150_000 and "steps together" in json.dumps(long)


# ------------------------------------------------------------------------------------------------- hostile text


@pytest.mark.parametrize("text", HOSTILE)
def test_text_anywhere_in_a_run_stays_text(make, kit, rollouts, text):
    rows = [
        row(n, alarms={text: text}, collapse_causes={text: 1, "varied": 1}, **{f"seconds_{text}": 1.0, text: 1})
        for n in (0, 1)
    ]
    run = make(rows, "failed", reason=text, text={"recipe": text, "env": text, "policy": text}, made=text)
    write_json(run.path / "status.json", {"state": "failed", "reason": text, "notes": [text], "step": 1, "steps": 2})
    keep(run, rollouts, 1)
    bundles = [*Watcher(run).look(), view.mimebundle(run), view.mimebundle(runs.list(run.path.parent))]
    for bundle in bundles:
        assert kit.read(bundle.get("text/html", "")).wrong == []
        for sign in "\u202e\x1b\x00\u200b\u2066":
            assert sign not in json.dumps(bundle, ensure_ascii=False)
    drawn = json.dumps(bundles[1][figure.MIME], ensure_ascii=False)
    assert "<script" not in drawn and "<img" not in drawn and "<svg" not in drawn and "$" not in drawn
    assert "<b>bold" not in drawn and "<a " not in drawn and "%{customdata}" not in drawn


BAD_ROWS = [
    "[]", "3", "null", '{"step": "x"}', '{"step": true, "alarms": [1], "collapse_causes": "x"}',
    '{"step": 1, "outcome": "much", "seconds": {"a": 1}, "alarms": {"a": {"b": 1}}}',
    '{"step": 1, "outcome": 1e999, "outcome_n": 1e308, "outcome_low": -1, "outcome_high": 7, "seconds": NaN}',
    '{"step": 99999999999999999999999999, "outcome": 1e99, "outcome_n": 1e99, "seconds": -1e99}',
    '{"step": 1, "outcome": 0.5, "outcome_n": 0.3, "collapse_causes": {"a": -1, "b": 1e9, "c": true}}',
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_ROWS)
def test_metrics_that_somebody_else_wrote_are_drawn_or_left_out(make, text):
    run = make([row(0)])
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write((text + "\n") * 3)
    (run.path / "launch.json").write_text('{"text": 3, "steps": "many"}')
    for bundle in (*Watcher(run).look(), view.mimebundle(run), view.mimebundle(runs.list(run.path.parent))):
        json.dumps(bundle, allow_nan=False)
    rows = payload.look(run)["metrics"]["rows"]
    figure.figure(rows), course.curves(rows, points=2)


def test_a_damaged_line_is_named(make):
    run = make([row(0)])
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write("{torn}\n" + json.dumps(row(1)) + "\n")
    assert "line 2: expected JSON" in view.mimebundle(run)["text/plain"]


def test_looking_loads_no_code_of_the_run(make, rollouts, tmp_path):
    run = make([row(0)])
    keep(run, rollouts, 0)
    (run.path / "code").mkdir()
    (run.path / "code" / "env-0.pkl").write_bytes(b"cposix\nsystem\n(S'touch " + bytes(tmp_path) + b"/x'\ntR.")
    (run.path / "code" / "env-0.py").write_text(f"open({str(tmp_path / 'x')!r}, 'w')")
    write_json(
        run.path / "launch.json", {"env": {"shipped": "env-0.pkl"}, "recipe": {"name": "not.there:x"}, "steps": 1}
    )
    Watcher(run).look(), view.mimebundle(run), run.credit_map(0)
    assert not (tmp_path / "x").exists()
