"""What a method's page says of stored runs: the verdict in words, why there is none, and what a step costs."""

from __future__ import annotations

import json

import pytest

from workbench.teach import method_curves
from workbench.train import sweep
from workbench.train.sweep import RATES, SEEDS, TUNING_SEEDS, keep

BASE = (50, 54, 46, 52, 48)


def line(method, seed, solved, rate=RATES[1], world="chain"):
    seen = {"outcome": [0.1, 0.2, 0.3, 0.4]}
    run = {"world": world, "method": method, "seed": seed, "rate": rate, "groups": 4, "size": 8, "steps": 4}
    return {**run, "success": [solved, 100], "steps_seen": seen}


def stored(folder, solved):
    """Runs of methods, five numbers each; those of GRPO are there, too."""
    folder.mkdir(exist_ok=True)
    for method, found in {"grpo": BASE, **solved}.items():
        for rate in RATES:
            keep(folder, line(method, TUNING_SEEDS[0], 60 if rate == RATES[1] else 30, rate))
        for seed, count in zip(SEEDS, found, strict=True):
            keep(folder, line(method, seed, count))
    return folder


def said(folder, names):
    return method_curves.beside_grpo(names, folder).data


@pytest.mark.parametrize(
    ("solved", "words"),
    [
        ((70, 75, 65, 73, 68), "`aem` **beats** `grpo`: +20 points of tasks solved [+19, +21] over 5 seeds"),
        ((30, 33, 26, 33, 28), "`aem` **does not beat** `grpo`: it is **worse**: -20 points"),
        ((57, 48, 51, 45, 50), "`aem` **does not beat** `grpo` here: the two cannot be told apart: +0 points"),
    ],
)
def test_the_verdict_is_said_in_words(tmp_path, solved, words):
    assert words in said(stored(tmp_path, {"aem": solved}), ["aem"])


def test_an_interval_that_leaves_0_out_is_no_victory_among_many(tmp_path):
    close = tuple(n + d for n, d in zip(BASE, (8, 1, 6, 2, 7), strict=True))
    others = {name: (57, 48, 51, 45, 50) for name in ("rloo", "igpo", "gigpo", "matchtir", "pbsd", "spae")}
    alone = said(stored(tmp_path / "a", {"aem": close}), ["aem"])
    among = said(stored(tmp_path / "b", {"aem": close, **others}), ["aem"])
    assert "**beats**" in alone
    assert "**does not beat**" in among and "leaves 0 out" in among and "Holm: 7 on chain" in among


def test_runs_made_again_on_fresh_seeds_are_said_beside_the_first(tmp_path):
    folder = stored(tmp_path, {"aem": (58, 55, 52, 54, 55), "rloo": BASE})
    assert "made again" not in said(folder, ["aem"])
    (folder / "again").mkdir()
    for seed, (base, mine) in enumerate(((50, 70), (54, 73), (46, 67)), start=11):
        keep(folder / "again", line("grpo", seed, base))
        keep(folder / "again", line("aem", seed, mine))
    text = said(folder, ["aem"])
    assert (
        "- **chain, made again on fresh seeds**: `aem` **beats** `grpo`: +20 points" in text and "over 3 seeds" in text
    )
    assert "made again" not in said(folder, ["rloo"])


def test_a_method_has_one_look_in_all_worlds(tmp_path, monkeypatch):
    """Two forms, one of which was run in one world alone: neither takes the other's colour where it is missing."""
    stored(tmp_path, {"igpo": BASE, "igpo_separate": BASE})
    for name in ("grpo", "igpo"):
        for rate in RATES:
            keep(tmp_path, line(name, TUNING_SEEDS[0], 60, rate, world="facet"))
        for seed, count in zip(SEEDS, BASE, strict=True):
            keep(tmp_path, line(name, seed, count, RATES[0], world="facet"))
    drawn = []
    monkeypatch.setattr(method_curves, "bundle", lambda panels, *rest: drawn.extend(panels) or {})
    said(tmp_path, ["igpo", "igpo_separate"])
    looks = {curve.name: {c.look for p in drawn for c in p.curves if c.name == curve.name} for curve in drawn[0].curves}
    assert [p.title for p in drawn] == ["chain", "facet"] and looks == {"grpo": {0}, "igpo_separate": {1}, "igpo": {2}}


def test_grpo_itself_is_compared_with_nobody(tmp_path):
    text = said(stored(tmp_path, {}), ["grpo"])
    assert "| chain | `grpo` |" in text and "beat" not in text


def test_where_nothing_was_run_the_reason_is_said_with_what_it_costs(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "LEFT_OUT", {("chain", "shapley"): "it takes too long"})
    costs = [
        {"world": "chain", "method": name, "seconds": s, "calls": c}
        for name, s, c in (("grpo", 0.5, 0), ("shapley", 6.0, 900))
    ]
    stored(tmp_path, {})
    (tmp_path / "costs.json").write_text(json.dumps({"costs": costs}))
    text = said(tmp_path, ["shapley"])
    assert text.startswith("**No stored runs of `shapley`**")
    assert "Not run: `shapley` on chain: it takes too long." in text
    assert "takes 12.0 times the processor time of one of `grpo`, and its evidence 900 calls of a model" in text
