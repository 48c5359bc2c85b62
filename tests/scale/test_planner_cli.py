"""`workbench plan` and `workbench wall`."""

from __future__ import annotations

import json

from workbench import cli

QUICK = ("--groups", "4", "--size", "4", "--turns", "2", "--tokens", "20", "--observation", "20")


def run(capsys, *arguments):
    status = cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_plan_prints_a_row_a_cluster_and_its_assumptions(capsys):
    status, out, _ = run(capsys, "plan", "--model", "0.5b", "--gpus", 2, 16, *QUICK)
    assert status == 0
    assert out.startswith("0.5b (0.49 billion parameters) on H100 SXM 80 GB")
    rows = [line.split() for line in out.splitlines() if line[:1].isdigit()][1:]
    assert [row[:2] for row in rows] == [["2", "0"], ["2", "1"], ["16", "0"], ["16", "1"]]
    assert "Rates are assumed: public data sheets" in out and "4 x 4 episodes" in out and "data sheet" in out


def test_plan_as_json_has_the_assumptions_with_it(capsys):
    found = json.loads(run(capsys, "plan", "--model", "70b", "--gpus", 2, "--delay", 0, "--json", *QUICK)[1])
    assert found["rows"][0]["note"].startswith("does not fit: a learner among 1 needs")
    assert found["work"]["groups"] == 4 and found["assumed"]["utilisation"]["learn"] > 0


def test_plan_takes_the_folder_of_a_model(capsys, tmp_path):
    from workbench.policy import tiny

    tiny.config().save_pretrained(tmp_path)
    status, out, _ = run(capsys, "plan", "--model", tmp_path, "--gpus", 2, "--delay", 0, *QUICK)
    assert status == 0 and "0.00 billion" in out


def test_plan_says_what_it_does_not_know(capsys):
    status, _, err = run(capsys, "plan", "--model", "9b")
    assert status == 1 and "no shape is called '9b'; known: tiny" in err
    status, _, err = run(capsys, "plan", "--gpu", "b99", *QUICK)
    assert status == 1 and "no data sheet of 'b99'" in err
    status, _, err = run(capsys, "plan", "--gpus", 1)
    assert status == 1 and "--gpus from 2 on" in err


def test_wall_prints_steps_and_cost(capsys, tmp_path):
    (tmp_path / "launch.json").write_text("{}")
    row = {"step": 0, "seconds_rollout": 2.0, "seconds_learn": 1.0, "seconds": 3.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, "step": 1}) + "\n")
    status, out, err = run(capsys, "wall", tmp_path)
    assert status == 0 and out.splitlines()[0].split() == ["step", "rollout", "learn", "wall", "overlap"]
    assert out.splitlines()[-1].split() == ["mean", "2.000", "1.000", "3.000", "0.000"]
    assert "0.00167 process hours (1 x 6 s)" in err
    found = json.loads(run(capsys, "wall", tmp_path, "--json")[1])
    assert found["devices"] == 1 and len(found["rows"]) == 2


def test_wall_of_no_run_is_a_sentence(capsys, tmp_path):
    status, _, err = run(capsys, "wall", tmp_path)
    assert status == 1 and "is no run" in err
