"""The parity runner on the repository's cases; and that it can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
FILE = HERE / "cases" / "worked_examples.json"
sys.path.insert(0, str(HERE))

import run as parity  # noqa: E402

CASES = json.loads(FILE.read_text(encoding="utf-8"))
HERE_NOW = ("IGPO", "A2TGPO", "MatchTIR", "GiGPO", "baselines", "DR-Venus", "VPR", "PBSD", "GRPO-VPS", "SPAE")
HERE_NOW += ("AEM", "MAPO", "Mini-o3", "SIOP", "UFO", "ARTIST")


@pytest.mark.parametrize("method", HERE_NOW)
def test_every_case_is_ok(method: str) -> None:
    verdicts = parity.run(CASES, method)
    assert verdicts
    assert [v for v in verdicts if v.status != "ok"] == []


def test_a_changed_constant_in_one_stage_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 1e-8 inside the root of the IGPO family is one constant of one stage."""
    from workbench.recipes import _released, gold

    def other(peers):  # type: ignore[no-untyped-def]
        return gold.zscore(peers, ddof=1, eps_root=1e-8, eps=1e-6)

    monkeypatch.setattr(_released, "igpo_z", other)
    failed = [v.name for v in parity.run(CASES, "IGPO") if v.status == "FAIL"]
    assert "separate_logprob_gamma1" in failed


def test_a_changed_discount_is_seen() -> None:
    case = next(c for c in CASES["MatchTIR"] if c["function"] == "turn_advantages")
    changed = {**case, "params": {**case["params"], "turn_discount": 0.91}}
    assert parity.run_case("MatchTIR", case).status == "ok"
    assert parity.run_case("MatchTIR", changed).status == "FAIL"


def test_dispatch_is_by_method_and_function() -> None:
    case = {**CASES["IGPO"][1], "name": "any other name"}
    assert parity.run_case("IGPO", case).status == "ok"
    assert parity.run_case("IGPO", {**case, "function": "no such function"}).status == "unsupported"


def test_a_key_that_is_not_produced_is_a_fail() -> None:
    case = CASES["baselines"][0]
    more = {**case, "expected": {**case["expected"], "something_else": 1.0}}
    verdict = parity.run_case("baselines", more)
    assert verdict.status == "FAIL" and "something_else" in verdict.why


def test_bools_ints_and_strings_are_compared_exactly() -> None:
    worst = [gap for gap, _ in parity.differences({"a": [1, True, "x", 0.5]}, {"a": [1, True, "x", 0.5000001]})]
    assert max(worst) < 1e-5
    for wrong in ([2, True, "x", 0.5], [1, False, "x", 0.5], [1, True, "y", 0.5], [1, True, "x"], [1, True, "x", None]):
        assert max(gap for gap, _ in parity.differences({"a": [1, True, "x", 0.5]}, {"a": wrong})) == float("inf")


def test_the_command_exits_1_on_a_fail(tmp_path: Path) -> None:
    case = json.loads(json.dumps(CASES["baselines"][0]))
    case["expected"]["advantages"][0] += 0.01
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"baselines": [case]}), encoding="utf-8")
    done = subprocess.run([sys.executable, str(HERE / "run.py"), str(bad)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FAIL" in done.stdout and "0 ok, 1 FAIL, 0 unsupported" in done.stdout
