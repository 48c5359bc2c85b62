"""The monitor's payload and its messages: only what is new, small, and whatever a run folder holds."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from workbench.runs import Run, write_json
from workbench.view import Monitor, RunView, monitor
from workbench.view.pack import pack
from workbench.view.payload import course, run
from workbench.view.payload.monitor import causes_of, each_of, points, totals


def view_run():
    """The builders of the tests beside: folders of runs, lines of metrics."""
    spec = importlib.util.spec_from_file_location("view_run", Path(__file__).with_name("test_view_run.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = view_run()
make, alive = BUILD.make, BUILD.alive  # fixtures


def add(found: Run, *rows) -> None:
    with (found.path / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(one) + "\n" for one in rows)


def joined(old, change):
    """What the page does with a change of the curves."""
    first = change["first"]
    if first == 0:
        return change["points"]
    put = lambda a, b: np.concatenate([a[:first], b])  # noqa: E731
    new = change["points"]
    both = {part: {k: put(old[part][k], v) for k, v in new[part].items()} for part in ("x", "y")}
    causes = [{**one, "y": put(old["causes"][i]["y"], one["y"])} for i, one in enumerate(new["causes"])]
    return {**both, "causes": causes}


def same(a, b) -> None:
    assert [one["name"] for one in a["causes"]] == [one["name"] for one in b["causes"]]
    pairs = [(a[part][k], b[part][k]) for part in ("x", "y") for k in b[part]]
    for one, other in [*pairs, *((p["y"], q["y"]) for p, q in zip(a["causes"], b["causes"], strict=True))]:
        np.testing.assert_array_equal(one, other)


# ------------------------------------------------------------------------------------------------- what is sent


def test_a_page_is_told_only_what_is_new_and_ends_with_all_of_it(alive):
    view = Monitor(alive)
    page = view.interactive()
    shown, seq = page["points"], page["seq"]
    assert view.seen.change() is None and len(shown["x"]["step"]) == 10
    for n in range(10, 1_700, 1):
        add(alive, BUILD.row(n, collapse_causes={"varied": 1, "all solved" if n > 500 else "all failed": 1}))
        if n % 7:
            continue
        change = view.seen.change()
        assert change["seq"] == seq + 1
        seq, shown = change["seq"], joined(shown, change)
        new = len(change["points"]["x"]["step"])
        assert new <= 9 or change["first"] == 0
    everything = view.seen.everything()
    view.seen.change()
    assert each_of(len(view.seen.watcher.rows)) == 8 == everything["each"]
    same(shown, everything["points"])
    assert [c["name"] for c in shown["causes"]] == ["all failed", "all solved"]


def test_a_step_costs_little(alive):
    view = Monitor(alive)
    assert len(pack(view.interactive())) < 20_000
    add(alive, BUILD.row(10))
    change = view.seen.change()
    assert "rollouts" not in change and len(pack({"points": change["points"]})) < 2_500


def test_a_resumed_run_that_cut_its_last_steps_is_told_anew(alive, rollouts):
    view = Monitor(alive)
    BUILD.keep(alive, rollouts, 8)
    assert view.seen.change()["rollouts"]["step"] == 8
    (alive.path / "metrics.jsonl").write_text("".join(json.dumps(BUILD.row(n, seconds=3.0)) + "\n" for n in range(5)))
    change = view.seen.change()
    assert change["first"] == 0 and change["points"]["x"]["seconds"].tolist() == [3.0, 6.0, 9.0, 12.0, 15.0]


def test_pushes_leave_the_time_that_their_bytes_cost(alive, monkeypatch):
    """At most ten a second and 20 kB a second on average; nothing but a beat where nothing is new."""
    view, slept, pushed = Monitor(alive), [], []
    clock = SimpleNamespace(now=0.0)
    add(alive, *[BUILD.row(n) for n in range(10, 390)])

    def sleep(seconds):
        slept.append(seconds)
        clock.now += seconds
        if len(slept) == 40:
            view._pages.clear()

    def wait(seconds):
        clock.now += seconds

    monkeypatch.setattr(monitor.time, "sleep", sleep)
    monkeypatch.setattr(monitor.time, "monotonic", lambda: clock.now)
    view._wake = SimpleNamespace(clear=lambda: None, wait=wait, set=lambda: None)
    view._lives = [SimpleNamespace(push=pushed.append)]
    view._pages.add("a page")
    view._follow()
    monkeypatch.undo()
    sizes = [len(pack({k: v for k, v in one.items() if k != "beat"})) for one in pushed]
    assert sizes[0] > 10_000 and sum(sizes) <= monitor.BYTES_S * clock.now
    assert slept[0] == pytest.approx(sizes[0] / monitor.BYTES_S) and min(slept) >= 0.1
    assert len(pushed) <= 2 + clock.now / monitor.BEAT_S and "points" not in pushed[-1]


def test_a_view_stops_reading_when_no_page_shows_it(alive):
    view = Monitor(alive)
    assert view._all({"page": "a"}, None)["seq"] == view.seen.seq and view._thread.is_alive()
    thread = view._thread
    view._leave({"page": "a"}, None)
    thread.join(5)
    assert not thread.is_alive()
    view._all({"page": "b"}, None)
    assert view._thread.is_alive() and view._thread is not thread
    view._leave({"page": "b"}, None)


# ------------------------------------------------------------------------------------------------- what is asked


def test_buttons_write_what_the_run_reads(alive):
    view = Monitor(alive)
    for what in ("pause", "run", "stop"):
        answer = view._do({"what": what}, None)
        assert answer["refused"] == "" and alive.asked == what
    assert "asked to stop: it finishes step 11, saves, and ends" in answer["head"]["stands"]
    assert "expected one of" in view._do({"what": "kill"}, None)["refused"]


def test_a_run_that_ended_says_why_nothing_can_be_asked(make, tmp_path):
    write_json(make([BUILD.row(0)], "stopped").path / "control.json", {"ask": "stop"})
    stopped = Run(tmp_path / "runs" / "grpo-chain-001")
    view = Monitor(stopped)
    head = view.interactive()["head"]
    assert head["stands"] == "It stopped after 1 step, without a checkpoint."
    assert head["start"] == [f"workbench.train.resume({str(stopped.path)!r})", "goes on from the beginning."]
    assert "no process works on this run" in view._do({"what": "pause"}, None)["refused"]
    assert view._do({"what": "resume"}, None)["refused"]
    view.resume = lambda path: path.joinpath("resumed").touch()
    assert view._do({"what": "resume"}, None)["refused"] == "" and (stopped.path / "resumed").exists()


def test_what_was_asked_is_read_whatever_stands_there(alive):
    assert alive.asked == "run"
    for text in ("", "[]", "3", '{"ask": 7}', '{"ask": "fly"}'):
        (alive.path / "control.json").write_text(text)
        assert alive.asked == "run"


def test_a_kept_rollout_is_opened_as_a_credit_map(make, rollouts):
    found = make([BUILD.row(0)])
    BUILD.keep(found, rollouts, 0)
    view = Monitor(found)
    answer = view._open({"step": 0, "trajectory": rollouts.trajectories[1].id, "script": True}, None)
    assert "credit_map" in answer["script"] and answer["map"].dtype == np.uint8
    assert rollouts.trajectories[1].id.encode() in bytes(answer["map"])
    assert len(view.for_page()["carried"]["maps"]) == len(rollouts)


# ------------------------------------------------------------------------------------------------- what is said


def test_frames_have_what_is_on_screen_and_every_step(make):
    found = make([BUILD.row(n) for n in range(1000)])
    frame = Monitor(found).to_frame()
    assert len(frame) == 250 and frame["step"].iloc[-1] == 1000 and frame["seconds"].iloc[-1] == 2000.0
    assert frame["collapsed: all failed"].iloc[0] == 0.25 and frame["low"].iloc[0] < frame["outcome"].iloc[0]
    assert len(RunView(found).to_frame()) == 1000


def test_tokens_count_those_of_groups_that_were_sampled_anew():
    more = {"tokens_per_second_rollout": 200.0, "seconds_rollout": 1.5, "tokens": 6.25}
    rows = [run.clean(BUILD.row(n, **more)) for n in range(2)]
    assert course.tokens_of(rows[0]) == 300 and course.tokens_of(run.clean(BUILD.row(0))) == 100
    assert course.pace(rows, {"state": "running", "step": 2, "steps": 4})["tokens_second"] == 150.0
    assert totals(rows)[-1] == {"step": 2, "rollouts": 96.0, "tokens": 600.0, "seconds": 4.0}


def test_what_is_unknown_stays_unknown():
    nothing = {"outcome": None, "seconds": None, "tokens_known": None, "collapse_causes": {}}
    rows = [run.clean(BUILD.row(n, **nothing)) for n in range(3)]
    spent = totals(rows)
    found = points(rows, spent, causes_of(rows), 1)
    assert spent[-1] == {"step": 3, "rollouts": None, "tokens": None, "seconds": None}
    for y in (found["x"]["tokens"], found["y"]["outcome"], found["y"]["tokens_second"], found["y"]["entropy"][:0]):
        assert np.isnan(y).all()
    assert found["causes"] == [] and found["y"]["gradient_norm"].tolist() == [0.5] * 3


@pytest.mark.parametrize("text", BUILD.BAD_ROWS)
def test_metrics_that_somebody_else_wrote_can_be_sent(make, text):
    found = make([BUILD.row(0)])
    with (found.path / "metrics.jsonl").open("a") as file:
        file.write((text + "\n") * 3)
    (found.path / "launch.json").write_text('{"text": 3, "steps": "many"}')
    view = Monitor(found)
    pack(view.interactive()), view.to_frame(), pack(view.for_page())


def test_every_panel_is_defined(make):
    for panel in Monitor(make([BUILD.row(0)])).interactive()["panels"]:
        assert all(one["what"] and one["good"] and one["bad"] for one in panel["defined"]), panel["key"]


def test_an_empty_run_is_drawn(make):
    found = make()
    for name in ("metrics.jsonl", "status.json"):
        (found.path / name).unlink()
    view = Monitor(found)
    assert len(pack(view.interactive())) < 20_000 and view.to_frame().empty and "failed" in repr(view)
