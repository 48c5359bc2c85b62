"""A run folder as others see it: reading while it is written, liveness, asking, and the command's verbs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from workbench import cli, runs
from workbench.runs import Run, Scale, lock, read_lines, write_bytes, write_json


@pytest.fixture
def run(tmp_path):
    """A run of 10 steps that somebody began."""
    path = tmp_path / "runs" / "grpo-chain-001"
    path.mkdir(parents=True)
    write_json(path / "launch.json", {"format": 1, "steps": 10, "threads": 1})
    write_json(path / "status.json", {"state": "running", "step": 2, "steps": 10, "pid": 12345, "notes": ["a note"]})
    rows = [{"step": n, "outcome": n / 4, "dead_groups": None, "seconds": 1.0, "alarms": {}} for n in range(2)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Run(path)


@pytest.fixture
def alive(run):
    """The same with a process that holds its lock: this one."""
    handle = lock(run.path / "lock")
    yield run
    os.close(handle)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")  # as a model has, and a run's own weights
    assert runs.list(tmp_path) == ()
    with pytest.raises(FileNotFoundError, match=r"is no run.*workbench.runs.list"):
        Run(tmp_path)


def test_metrics_are_read_while_they_are_written(run):
    assert [row["step"] for row in run.metrics()] == [0, 1]
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "outc')
    assert [row["step"] for row in run.metrics()] == [0, 1]
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write("\n")
    assert [row["step"] for row in run.metrics()] == [0, 1]  # a torn line that somebody ended
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3}\n')
    with pytest.raises(ValueError, match="line 3: expected JSON.*damaged"):
        run.metrics()


def test_a_process_that_ended_without_a_word_has_failed(run):
    (run.path / "checkpoints" / "step-00000002").mkdir(parents=True)
    status = run.status
    assert status.state == "failed" and "goes on from step 2" in status.reason and status.notes == ("a note",)
    write_json(run.path / "status.json", {"state": "finished", "step": 10, "steps": 10})
    assert run.status.state == "finished" and run.status.reason == ""


def test_the_lock_says_who_lives_even_after_a_kill(run):
    code = (
        "import sys, time; from pathlib import Path; from workbench.runs import lock; "
        "lock(Path(sys.argv[1])); print(1, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(run.path / "lock")], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"1\n"
    assert run.alive and run.status.state == "running"
    process.kill()
    process.wait()
    process.stdout.close()
    assert not run.alive and run.status.state == "failed"


def test_looking_does_not_hinder_a_start(run):
    for _ in range(20):
        assert not run.alive
        handle = lock(run.path / "lock", patience_s=0.0)
        assert handle is not None and run.alive
        os.close(handle)


def test_asking_writes_the_control_file_and_needs_somebody_who_listens(alive):
    for ask, word in ((alive.pause, "pause"), (alive.resume, "run"), (alive.stop, "stop")):
        ask()
        assert json.loads((alive.path / "control.json").read_text()) == {"ask": word}
    with pytest.raises(TimeoutError, match="still running"):
        alive.wait(0.1)


def test_nobody_is_asked_where_no_process_is(run):
    with pytest.raises(RuntimeError, match=r"it is failed; `workbench resume .*` or workbench.train.resume"):
        run.stop()
    assert not (run.path / "control.json").exists()


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    write_bytes(tmp_path / "x", b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_bytes(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old" and os.listdir(tmp_path) == ["x"]


def test_log_is_its_tail(run):
    assert run.log() == ""
    (run.path / "log.txt").write_bytes(b"a\nb\n\xff\n")
    assert run.log(2) == "b\n\ufffd\n"


def row(step, **more):
    return json.dumps({"step": step, **more}) + "\n"


def test_what_is_new_is_read_once(run):
    first = run.metrics_after()
    assert [r["step"] for r in first.rows] == [0, 1] and not first.anew
    assert run.metrics_after(first.cursor) == ([], first.cursor, False)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write(row(2) + '{"step": 3')
    second = run.metrics_after(first.cursor)
    assert [r["step"] for r in second.rows] == [2]
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write("}\n")
    assert [r["step"] for r in run.metrics_after(second.cursor).rows] == [3]


def test_a_file_that_was_cut_and_grew_again_is_read_anew(run):
    """A run that is resumed makes steps again: same length or longer, other timings."""
    path = run.path / "metrics.jsonl"
    path.write_text(row(0, seconds=0.1) + row(1, seconds=0.2))
    cursor = run.metrics_after().cursor
    path.write_text(row(0, seconds=0.1) + row(1, seconds=0.3) + row(2))
    news = run.metrics_after(cursor)
    assert news.anew and [r["step"] for r in news.rows] == [0, 1, 2]
    path.write_text(row(0, seconds=0.1))
    shorter = run.metrics_after(news.cursor)
    assert shorter.anew and [r["step"] for r in shorter.rows] == [0]
    path.unlink()
    assert run.metrics_after(shorter.cursor) == ([], "", True)


def test_following_prints_every_step_once(alive, capsys):
    from workbench.runs import follow

    looks = []

    class Ends(Run):
        @property
        def alive(self):
            looks.append(1)
            if len(looks) == 3:
                with (self.path / "metrics.jsonl").open("a") as file:
                    file.write(row(2, seconds=1.0, alarms={"dead": "red \x1b[31m"}))
            return len(looks) < 5

    follow(Ends(alive.path), poll_s=0.0)
    said = capsys.readouterr().out
    assert [said.count(f"step     {n}/10") for n in (1, 2, 3)] == [1, 1, 1]
    assert "! red ⟦U+001B⟧[31m" in said and "\x1b" not in said


BAD = [
    "[]", "null", "3", '{"state": "<b>"}', '{"state": ["running"]}', "{",
    '{"state": "running", "step": "x", "notes": 3}',
    '{"state": "failed", "step": -1, "steps": 1e400, "reason": {"a": 1}}',
]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_a_status_that_somebody_else_wrote_is_read_as_text(run, text):
    (run.path / "status.json").write_text(text)
    (run.path / "checkpoints" / "step-of-mine").mkdir(parents=True)
    status = run.status
    assert status.state in runs.STATES and isinstance(status.reason, str) and status.step >= 0 and repr(run)


def test_a_repr_moves_no_cursor_and_turns_no_text_round(run):
    write_json(run.path / "status.json", {"state": "failed", "reason": "a\x1b[2J\u202egpj.exe", "step": 1, "steps": 2})
    assert "⟦U+001B⟧" in repr(run) and "⟦U+202E⟧" in repr(run) and "\x1b" not in repr(runs.list(run.path.parent))


def test_rollouts_that_were_not_kept_name_those_that_were(run):
    with pytest.raises(FileNotFoundError, match="no rollouts of step None; none are kept yet"):
        run.rollouts()
    (run.path / "trajectories" / "step-00000004").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no rollouts of step 3; kept are those of steps \[4\]"):
        run.rollouts(3)


def test_read_lines_counts_whole_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b'{"a": 1}\n{"a"')
    assert read_lines(tmp_path / "x") == ([{"a": 1}], 9)
    assert read_lines(tmp_path / "none") == ([], 0)
    (tmp_path / "x").write_bytes(b'{"a": 1}\n{"a": 2}')  # whole by chance: the next line would be glued to it
    assert read_lines(tmp_path / "x") == ([{"a": 1}], 9)


def test_only_one_local_process_is_local():
    assert Scale().local and Scale(device="cuda").local
    assert not Scale(nodes=2).local and not Scale(engine="vllm").local and not Scale(address="x").local


# ------------------------------------------------------------------------------------------------ the command


def command(capsys, *arguments):
    status = cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_runs_lists_them(capsys, run):
    assert [one.path for one in runs.list(run.path.parent)] == [run.path]
    status, out, _ = command(capsys, "runs", run.path.parent)
    assert status == 0 and "failed  2/10  25%" in out
    status, _, err = command(capsys, "runs", run.path)
    assert status == 1 and "`workbench train` starts one" in err


def test_watch_shows_steps_and_why_it_ended(capsys, run):
    status, out, err = command(capsys, "watch", run.path)
    assert status == 1
    assert out.splitlines()[:2] == [
        "step     1/10  outcome 0%  dead groups -  1.0 s",
        "step     2/10  outcome 25%  dead groups -  1.0 s",
    ]
    assert "failed after 2 of 10 steps" in out and "ended without a word" in err and "a note" in err


def test_pause_and_stop_are_heard(capsys, alive):
    assert command(capsys, "pause", alive.path)[0] == 0
    assert json.loads((alive.path / "control.json").read_text()) == {"ask": "pause"}
    assert command(capsys, "resume", alive.path)[0] == 0
    assert json.loads((alive.path / "control.json").read_text()) == {"ask": "run"}
    assert command(capsys, "stop", alive.path)[0] == 0


def test_pause_of_a_dead_run_is_one_readable_line(capsys, run):
    status, _, err = command(capsys, "pause", run.path)
    assert status == 1 and err.count("\n") == 1 and "no process works on this run" in err


def test_train_makes_the_run_it_was_asked_for(capsys, tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    import workbench.train

    monkeypatch.setattr(sys.modules[workbench.train.launch.__module__], "spawn", lambda run: run)
    asked = ("--recipe", "igpo", "--param", "gamma=0.5", "--hops", "2", "--steps", "3", "--rate", "0.01")
    status, out, err = command(capsys, "train", *asked, "--out", tmp_path / "r")
    assert status == 0 and out.strip() == str(tmp_path / "r") and "workbench watch" in err
    config = Run(tmp_path / "r").config
    assert config["env"]["parameters"]["hops"] == 2
    assert "reward_to_go(0.5)" in config["text"]["recipe"]
    assert (config["plan"]["parameters"]["steps"], config["plan"]["parameters"]["rate"]) == (3, 0.01)
    status, _, err = command(capsys, "train", "--recipe", "nothing")
    assert status == 1 and "no recipe 'nothing'" in err


@pytest.mark.parametrize("name", ["status.json", "metrics.jsonl", "control.json"])
def test_brackets_without_end_are_a_damaged_file(run, name):
    (run.path / name).write_text("[" * 100_000 + "\n{}\n")
    assert run.asked == "run" and "Run(" in repr(run)
    if name == "metrics.jsonl":
        with pytest.raises(ValueError, match="line 1: expected JSON.*damaged"):
            run.metrics()
    if name == "status.json":
        assert run.status.state == "failed" and "no JSON" in run.status.reason


def test_a_pipe_in_place_of_a_file_of_a_run_is_not_waited_for(run):
    """In a process of its own: a reader that waits for a pipe could not be ended from here."""
    for name in ("status.json", "metrics.jsonl", "control.json", "log.txt"):
        (run.path / name).unlink(missing_ok=True)
        os.mkfifo(run.path / name)
    look = "import sys; from workbench.runs import Run; r = Run(sys.argv[1]); print(r.status, r.asked, [r.log()])\n"
    look += "for read in (r.metrics, r.metrics_after):\n    try: read()\n    except ValueError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", look, str(run.path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "state='failed'" in done.stdout and " run ['']" in done.stdout
    assert done.stdout.count("is no regular file") == 3


def test_a_pipe_in_place_of_the_lock_is_not_waited_for(run):
    (run.path / "lock").unlink(missing_ok=True)
    os.mkfifo(run.path / "lock")
    assert not run.alive
