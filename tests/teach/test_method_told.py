"""The table of a stored measurement: a method that is there beside others, one that is not, and numbers as stored."""

from __future__ import annotations

import json
from pathlib import Path

from workbench.teach import method_told

ROOT = Path(__file__).resolve().parents[2]
STORED = ROOT / "benchmarks" / "results" / "which_turn.json"


def test_a_method_stands_first_with_its_numbers_as_stored():
    rows = {row["method"]: row for row in json.loads(STORED.read_text())["rows"]}
    shown = method_told.which_turn("turn_ablation", STORED).data.splitlines()
    mean, half = rows["turn_ablation"]["beside"]
    assert shown[2].startswith("| **`turn_ablation`** |") and f"{mean:.2f} ± {half:.2f}" in shown[2]
    assert [line.split("|")[1].strip() for line in shown[3:7]] == [
        "earlier is better",
        "`grpo`",
        "`matchtir`",
        "`shapley`",
    ]
    assert "python benchmarks/which_turn.py" in shown[-1]


def test_a_method_that_was_not_measured_has_no_number():
    said = method_told.which_turn("nobody", STORED).data
    assert said == "**Not measured yet**: `nobody`."


def test_cross_fitting_counts_rows_whose_intervals_are_apart(tmp_path):
    def row(way, within, beside, error):
        figures = {"within": [within, 0.1], "beside": [beside, 0.1], "error": [error, 0.1], "size": [0.1, 0.0]}
        return {"world": "chain", "tasks": 8, "way": way, **figures}

    grpo = {key: value for key, value in row("grpo", 0.5, 0.6, 0.0).items() if key != "error"}
    rows = [grpo, row("folds=0", 0.4, 0.6, 0.1), row("folds=2", 0.65, 0.55, 0.95), row("folds=4", 0.55, 0.3, 0.85)]
    file = tmp_path / "kept.json"
    file.write_text(json.dumps({"command": "benchmarks/rudder_folds.py", "rows": rows}))
    shown = method_told.cross_fitting(file).data
    assert "| chain | 8 | `folds=2` | 0.65 ± 0.10 | 0.55 ± 0.10 | 0.95 ± 0.10 | 0.10 ± 0.00 |" in shown
    assert "| chain | 8 | grpo | 0.50 ± 0.10 | 0.60 ± 0.10 |  | 0.10 ± 0.00 |" in shown
    assert (
        "Of 2 cross-fitted rows, within a rollout in 1 clearly more often than the default, in 0 clearly less" in shown
    )
    assert "beside siblings in 0 clearly more often than the default, in 1 clearly less" in shown
    assert "In 1 of them" in shown and "python benchmarks/rudder_folds.py" in shown
