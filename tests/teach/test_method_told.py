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
