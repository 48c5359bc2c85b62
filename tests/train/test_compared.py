"""Methods compared by training: what is counted, what is kept, what follows from it."""

from __future__ import annotations

import json
import math

import pytest
import torch
from scipy import stats

from workbench import recipes
from workbench.evidence import collect, for_recipe
from workbench.policy import load
from workbench.policy.base import Settings
from workbench.rollout import play
from workbench.train import compared, sweep, sweep_methods
from workbench.train.compared import against, holm, over_seeds, paired_p, stopping_edge, unit
from workbench.train.plan import Plan, start
from workbench.train.policy_gradient import one_step
from workbench.train.sweep import RATES, SEEDS, TUNING_SEEDS, Job, Size, best_rate, jobs, keep, read
from workbench.train.tally import Cell, habits, kinds, tally, together


@pytest.fixture(scope="module")
def rollouts():
    env, player = sweep.world("chain"), load("tiny")
    return play(player, env, env.tasks("train", 3), size=4, settings=Settings(max_new_tokens=32), gather_s=None)


# -------------------------------------------------------------------------------------------------- turns counted


def test_every_turn_is_of_one_kind_and_answers_end(rollouts):
    for t in rollouts:
        found = kinds(t)
        assert len(found) == len(t.turns)
        answered = [kind in ("early", "due") for kind in found]
        assert answered == [turn.action.calls[0].name == "answer" for turn in t.turns]
        if t.outcome == 1.0 and found[-1] == "due":
            assert found.count("useful") == 3  # one search a fact of the chain


def test_an_answer_is_due_only_when_all_is_found(rollouts):
    for t in rollouts:
        for kind, before in zip(kinds(t)[1:], t.turns, strict=False):
            if kind in ("early", "due"):
                assert (kind == "due") == (before.rewards["oracle_distance"] == 1)


def test_a_tally_holds_every_turn_and_all_credit(rollouts):
    batch = rollouts.batch()
    credit = recipes.grpo(kl=0.0).credit(batch)
    found = tally(rollouts, batch, credit)
    assert sum(cell.turns for cell in found) == batch.count("turn")
    turn = recipes.grpo(kl=0.0).credit(batch, to="turn")
    assert math.isclose(sum(cell.credit for cell in found), float(turn.values.sum()), abs_tol=1e-9)
    assert math.isclose(sum(cell.size for cell in found), float(turn.values.abs().sum()), abs_tol=1e-9)
    alone = recipes.rloo().credit(batch, to="turn").values
    assert math.isclose(sum(cell.outcome for cell in found), float(alone.sum()), abs_tol=1e-9)
    assert math.isclose(sum(cell.outcome_size for cell in found), float(alone.abs().sum()), abs_tol=1e-9)
    again = together([found, found])
    assert [cell.turns for cell in again] == [2 * cell.turns for cell in found]


def test_habits_by_hand(rollouts):
    found = habits(rollouts)
    searches = sum(turn.action.calls[0].name == "search" for t in rollouts for turn in t.turns)
    assert found["searches"] == searches / len(rollouts)
    assert 0 <= found["early"] <= 1


VALUED = ("ppo", "ppo_turn", "bilevel_gae")


@pytest.mark.parametrize("method", [name for name in sweep.METHODS if name not in VALUED])
def test_every_method_finds_its_evidence(rollouts, method):
    recipe, player, env = sweep.METHODS[method], load("tiny"), sweep.world("chain")
    had = collect(rollouts, sweep.given("chain", method, player, env))
    filled = collect(had, for_recipe(recipe, had, policy=player, training=True))
    credits = recipe.credits(filled.batch())
    assert bool(credits["credit"].known.any())


@pytest.mark.parametrize(
    ("world", "method"),
    [*(("chain", name) for name in VALUED), *((w, m) for w, own in sweep.OWN.items() for m in own.methods)],
)
def test_a_step_of_values_and_of_worlds_of_their_own_can_be_made(world, method):
    env, recipe = sweep.world(world), sweep.recipes_of(world)[method]
    plan = Plan(steps=1, groups=1, size=3, pack="tree")
    done = one_step(start(sweep.start_of(world, env), recipe, plan), env, recipe, plan, 0)
    assert bool(done.credits["credit"].known.any()) and done.metrics["outcome"] is not None


def test_a_method_that_samples_again_has_no_more_rollouts_than_the_others():
    plan, spent = Plan(steps=6, groups=2, size=4, refills=2), []
    took = iter((8, 20, 12, 8))  # rollouts of each step: rounds of at most 8, some of them of one group
    for step, here in sweep.steps_of(plan, sweep.METHODS["dapo"], spent):
        assert step == len(spent) and here.refills <= plan.refills
        most = 8 * (1 + here.refills)
        assert most <= 48 - sum(row["rollouts"] for row in spent)
        spent.append({"rollouts": min(next(took), most)})
    assert [row["rollouts"] for row in spent] == [8, 20, 12, 8]
    assert [step for step, _ in sweep.steps_of(plan, sweep.METHODS["grpo"], [])] == list(range(6))


def test_its_curve_stands_where_its_steps_ended():
    one = {"groups": 2, "size": 4, "steps": 4, "steps_seen": {"outcome": [0.25, 0.5], "rollouts": [12, 16]}}
    (found,) = compared.curves([{**one, "world": "chain", "method": "dapo"}], "chain", "dapo", "outcome", window=1)
    assert math.isnan(found[0]) and found[1:] == [0.25, 0.25, 0.5]
    assert compared.rollouts_after(one) == [8, 16, 24, 32]


# ----------------------------------------------------------------------------------------------------- statistics


def test_the_interval_is_that_of_scipy():
    values = [0.3, 0.5, 0.45, 0.2, 0.6]
    found = over_seeds(values)
    low, high = stats.t.interval(0.95, 4, loc=sum(values) / 5, scale=stats.sem(values))
    assert math.isclose(found.low, low) and math.isclose(found.high, high)
    assert over_seeds([0.5]) == (0.5, None, None, 1)
    with pytest.raises(ValueError, match="at least one seed"):
        over_seeds([])


def test_the_test_is_that_of_scipy():
    a, b = [0.3, 0.5, 0.45, 0.2, 0.6], [0.1, 0.4, 0.5, 0.1, 0.3]
    mine = paired_p([x - y for x, y in zip(a, b, strict=True)])
    assert math.isclose(mine, stats.ttest_rel(a, b).pvalue)
    assert paired_p([0.2]) is None


def test_seeds_that_all_differ_by_the_same_amount_are_told():
    """The clearest difference there is: t is infinite. No difference at all has p 1, not none."""
    assert paired_p([0.25, 0.25, 0.25]) == 0.0 and paired_p([-0.25, -0.25]) == 0.0
    assert paired_p([0.0, 0.0]) == 1.0


def test_holm_never_falls_and_multiplies_the_smallest_by_all():
    assert holm([0.01, 0.011, 0.9]) == [0.03, 0.03, 0.9]
    assert holm([None, 0.5]) == [None, 0.5]
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def line(method, seed, solved, rate=RATES[1], world="chain"):
    return {"world": world, "method": method, "seed": seed, "rate": rate, "success": [solved, 100]}


def tuned(method, best, world="chain"):
    """Tuning runs in which `best` solved most."""
    return [line(method, seed, 60 if rate == best else 30, rate, world) for rate in RATES for seed in TUNING_SEEDS]


def test_the_rate_comes_from_tuning_seeds_alone():
    kept = [*tuned("grpo", RATES[2]), line("grpo", SEEDS[0], 99, RATES[0])]
    assert best_rate(kept, "chain", "grpo") == RATES[2]
    assert compared.reported(kept) == []  # the reported seed was run at another rate
    with pytest.raises(ValueError, match="2 tuning runs of 3"):
        best_rate(kept[1:], "chain", "grpo")


def test_of_equal_rates_the_smallest_is_taken():
    kept = [line("grpo", seed, 30, rate) for rate in RATES for seed in TUNING_SEEDS]
    assert best_rate(kept, "chain", "grpo") == min(RATES)


def test_a_clear_difference_is_told_and_noise_is_not():
    kept = tuned("grpo", RATES[1]) + tuned("igpo", RATES[1]) + tuned("rloo", RATES[1])
    base = (50, 54, 46, 52, 48)
    kept += [line("grpo", s, base[s - 1]) for s in SEEDS]
    kept += [line("igpo", s, base[s - 1] - 20 + s) for s in SEEDS]
    kept += [line("rloo", s, base[s - 1] + (7, -6, 5, -7, 2)[s - 1]) for s in SEEDS]
    found = {d.method: d for d in against(compared.reported(kept), "chain")}
    assert found["igpo"].told and found["igpo"].mean.high < 0
    assert not found["rloo"].told and found["rloo"].mean.low < 0 < found["rloo"].mean.high


# ------------------------------------------------------------------------------------------------------ stopping


def test_the_edge_of_stopping_compares_at_the_same_place():
    found = [
        Cell(0, "useful", 20, -20.0),
        Cell(0, "early", 10, 10.0),  # place 0: +1 against -1
        Cell(1, "useless", 10, 0.0),
        Cell(1, "early", 30, -30.0),  # place 1: -1 against 0
        Cell(2, "early", 9, 900.0),  # too few to speak
        Cell(2, "useful", 50, 0.0),
    ]
    assert stopping_edge(found) == pytest.approx((10 * 2 + 30 * -1) / 40)
    assert stopping_edge([Cell(0, "due", 50, 1.0)]) is None
    told = [Cell(0, "useful", 10, 0.0, 5.0, 4.0, 6.0), Cell(0, "early", 10, 0.0, 7.0, 1.0, 9.0)]
    assert stopping_edge(told) == 0 and stopping_edge(told, "outcome") == pytest.approx(0.1 - 0.4)
    assert unit(told) == 12 / 20 and unit(told, "outcome") == 15 / 20


# ------------------------------------------------------------------------------------------------------- the sweep


def test_jobs_give_each_method_the_same_budget_and_disjoint_seeds():
    kept = [one for world, method in sweep.wanted() for one in tuned(method, RATES[1], world)]
    every = list(jobs(kept))
    assert len(every) == len(set(every))
    assert not set(SEEDS) & set(TUNING_SEEDS) and len(SEEDS) >= 5 and len(RATES) == 3
    assert {(job.world, job.method) for job in every} == set(sweep.pairs()) - set(sweep.LEFT_OUT)
    for pair in sweep.wanted():
        mine = [job for job in every if (job.world, job.method) == pair]
        assert len(mine) == len(RATES) * len(TUNING_SEEDS) + len(SEEDS)


def test_what_is_left_out_is_run_where_it_is_asked_for():
    pair = next(iter(sweep.LEFT_OUT))
    kept = tuned(pair[1], RATES[1], pair[0])
    assert {(job.world, job.method) for job in jobs(kept, [pair])} == {pair}
    assert set(sweep.LEFT_OUT) <= set(sweep.pairs()) and all(sweep.LEFT_OUT.values())


def test_runs_made_again_have_seeds_of_their_own_and_the_rate_that_was_chosen():
    kept = tuned("mt_grpo", RATES[0], "chain")
    again = list(sweep.fresh_jobs(kept, [("chain", "mt_grpo")]))
    assert [job.seed for job in again] == list(sweep.FRESH_SEEDS) and {job.rate for job in again} == {RATES[0]}
    assert not set(sweep.FRESH_SEEDS) & {*SEEDS, *TUNING_SEEDS}
    with pytest.raises(ValueError, match="tuning runs"):
        list(sweep.fresh_jobs([], [("chain", "mt_grpo")]))


def test_a_torn_line_is_cut_and_its_run_made_again(tmp_path):
    keep(tmp_path, line("grpo", 0, 5))
    file = tmp_path / "chain.jsonl"
    file.write_bytes(file.read_bytes() + b'{"world": "cha')
    assert [one["seed"] for one in read(tmp_path)] == [0]
    keep(tmp_path, line("grpo", 1, 6))
    assert [json.loads(text)["seed"] for text in file.read_text().splitlines()] == [0, 1]


def test_the_same_job_twice_is_the_same_but_for_the_seconds(monkeypatch):
    monkeypatch.setattr(sweep_methods, "STARTS", {"chain": "tiny", "facet": "tiny"})
    monkeypatch.setattr(sweep, "TESTS", 8)
    monkeypatch.setattr(sweep, "GREEDY_TESTS", 8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        first, second = (sweep.run(Job("chain", "gigpo", 1e-3, SEEDS[0]), Size(2, 4, 2)) for _ in range(2))
    finally:
        torch.set_num_threads(threads)
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert first["success"][1] == 8 and len(first["steps_seen"]["outcome"]) == 2
    assert sum(cell[2] for cell in first["turns_seen"][0]) == round(sum(first["steps_seen"]["turns"]) * 8)
