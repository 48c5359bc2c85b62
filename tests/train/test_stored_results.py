"""The stored comparison: it loads, it is what its card says, and the notebook's verdicts follow from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scipy import stats

from workbench import store
from workbench.train import compared, sweep, sweep_cost
from workbench.train.sweep import RATES, SEEDS, TUNING_SEEDS, Size
from workbench.train.tally import KINDS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "datasets" / "results" / "training"
NOTEBOOK = ROOT / "notebooks" / "compare" / "training.py"
PAIRS = sweep.wanted()


@pytest.fixture(scope="module")
def lines():
    return sweep.read(FOLDER)


@pytest.fixture(scope="module")
def runs(lines):
    return compared.reported(lines)


def test_no_run_is_there_twice_or_at_another_size(lines):
    jobs = [(line["world"], line["method"], line["rate"], line["seed"]) for line in lines]
    assert len(set(jobs)) == len(jobs)
    size = Size()
    for line in lines:
        assert (line["groups"], line["size"], line["steps"]) == (size.groups, size.size, size.steps)
        assert line["success"][1] == sweep.TESTS and not line["changed"] and line["threads"] == 1


@pytest.mark.parametrize(("world", "method"), PAIRS)
def test_each_method_had_the_same_tuning_and_the_promised_seeds(lines, runs, world, method):
    mine = compared.of(lines, world, method)
    tuning = {(line["rate"], line["seed"]) for line in mine if line["seed"] in TUNING_SEEDS}
    assert tuning == {(rate, seed) for rate in RATES for seed in TUNING_SEEDS}
    chosen = compared.of(runs, world, method)
    assert [line["seed"] for line in chosen] == list(SEEDS)
    assert len(mine) == len(tuning) + len(chosen)  # no rate was tried on a reported seed and left out


def test_no_run_is_of_a_pair_that_is_left_out(lines):
    assert {(line["world"], line["method"]) for line in lines} == set(PAIRS)


def test_a_step_of_every_method_was_measured():
    assert {(line["world"], line["method"]) for line in sweep_cost.read(FOLDER)} >= set(PAIRS)


def test_runs_made_again_are_on_fresh_seeds_at_the_rates_of_the_first(lines):
    again = sweep.read(FOLDER / "again")
    assert len({(line["world"], line["method"], line["seed"]) for line in again}) == len(again) > 0
    for line in again:
        assert line["rate"] == sweep.best_rate(lines, line["world"], line["method"])
        assert line["seed"] in sweep.FRESH_SEEDS and not line["changed"] and line["threads"] == 1
    for world in sweep.WORLDS:  # whatever looked different before the correction, and what it is compared with
        first = {d.method for d in compared.against(compared.reported(lines), world) if (d.p or 0.0) < 0.05}
        for method in {"grpo", *first}:
            assert [line["seed"] for line in compared.of(again, world, method)] == list(sweep.FRESH_SEEDS)
        assert {line["method"] for line in again if line["world"] == world} == {"grpo", *first}


def test_a_run_that_samples_again_has_the_rollouts_of_the_others(runs):
    for line in runs:
        if "rollouts" in line["steps_seen"]:
            all_there_are = line["groups"] * line["size"] * line["steps"]
            batch = line["groups"] * line["size"]
            assert all_there_are - batch < sum(line["steps_seen"]["rollouts"]) <= all_there_are
            assert {len(values) for values in line["steps_seen"].values()} == {len(line["steps_seen"]["rollouts"])}


def test_every_step_and_every_turn_is_there(runs):
    for line in (one for one in runs if "rollouts" not in one["steps_seen"]):
        assert {len(values) for values in line["steps_seen"].values()} == {line["steps"]}
        assert bool(line["turns_seen"]) == (line["world"] in sweep.WORLDS)
        if line["world"] not in sweep.WORLDS:
            continue
        rollouts = line["groups"] * line["size"]
        turns = sum(cell[2] for block in line["turns_seen"] for cell in block)
        assert turns == pytest.approx(sum(line["steps_seen"]["turns"]) * rollouts, abs=0.01 * turns)
        assert {cell[1] for block in line["turns_seen"] for cell in block} <= set(KINDS)


@pytest.mark.parametrize("world", list(dict.fromkeys(world for world, _ in PAIRS)))
def test_the_verdicts_are_those_of_scipy(runs, world):
    base = {line["seed"]: compared.solved(line) for line in compared.of(runs, world, "grpo")}
    found = compared.against(runs, world)
    ps = {}
    for d in found:
        mine = {line["seed"]: compared.solved(line) for line in compared.of(runs, world, d.method)}
        seeds = sorted(set(mine) & set(base))
        ps[d.method] = float(stats.ttest_rel([mine[s] for s in seeds], [base[s] for s in seeds]).pvalue)
        assert d.p == pytest.approx(ps[d.method])
    for d in found:  # told by Holm: every smaller p passed, too
        smaller = sorted(p for p in ps.values() if p <= ps[d.method])
        passes = all(p * (len(ps) - rank) < 0.05 for rank, p in enumerate(smaller))
        assert d.told == passes, d.method


def test_the_starts_err_and_do_not_always(runs):
    starts = {line["world"]: line for line in sweep.starts(FOLDER)}
    assert set(starts) == {world for world, _ in PAIRS}
    for line in starts.values():
        for right, count in (line["success"], line["greedy"]):
            assert 0.02 < right / count < (0.4 if line["world"] in sweep.WORLDS else 0.9)


@pytest.mark.parametrize("name", [f"{w}-{m}" for w in sweep.WORLDS for m in ("start", "grpo", "igpo")])
def test_the_maps_carry_their_evidence(name):
    rollouts = store.read(FOLDER / "maps" / name)
    assert len({t.group for t in rollouts}) == 1
    batch = rollouts.batch()
    for recipe in (sweep.METHODS[method] for method in sweep.COMPARED):
        assert recipe.credit(batch, to="turn").known.any(), recipe.name


def test_it_is_small():
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 6_000_000


def test_the_notebook_types_no_result_into_its_text():
    cells = re.split(r"^# %%", NOTEBOOK.read_text("utf-8"), flags=re.M)
    prose = [cell for cell in cells if cell.lstrip().startswith("[markdown]")]
    assert prose
    for cell in prose:
        assert set(re.findall(r"\d[\d.]* ?%", cell)) <= {"95 %"}, cell
