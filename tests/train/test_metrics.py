"""What a step says: intervals, causes of collapse, ratio, KL, entropy, alarms; and what a bad pass leaves behind."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy import stats
from small_worlds import Bandit, chain, gambler

from workbench import recipes
from workbench.losses import PolicyLoss
from workbench.measure import BOUNDS, alarms, credited, played
from workbench.objective import Objective, Term, clipped
from workbench.outcomes import causes, mean_over_groups
from workbench.recipes import Recipe
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.train.glance import glance
from workbench.train.lora import Lora
from workbench.train.plan import Plan, start
from workbench.train.policy_gradient import learn, one_step
from workbench.train.seen import kl_of_update, measure, pull_by_turn, ratio_of
from workbench.trajectory import Message, ToolCall, Trajectory, Turn

PLAN = Plan(steps=2, groups=3, size=4, rate=3e-3, max_new_tokens=8, seed=5)


def turn(good=True, stop="stop", reward=None):
    call = ToolCall("c", "search", arguments={"q": "x"}) if good else ToolCall("c", "", error="no valid JSON")
    return Turn(Message("m", "assistant", parts="x", calls=(call,)), stop_reason=stop, reward=reward)


def numbered(turns):
    """The same turns with message and call ids of their own."""
    for k, one in enumerate(turns):
        calls = tuple(replace(call, id=f"c{k}") for call in one.action.calls)
        yield replace(one, action=replace(one.action, id=f"m{k}", calls=calls))


def rollout(n, group, outcome, *turns, **how):
    return Trajectory(f"{group}/{n}", group, turns=tuple(numbered(turns or (turn(),))), outcome=outcome, **how)


def group_of(name, outcomes, *turns, **how):
    return [rollout(n, name, outcome, *turns, **how) for n, outcome in enumerate(outcomes)]


# -------------------------------------------------------------------------------------------- what was achieved


def test_a_mean_over_groups_is_that_of_a_t_test_where_groups_are_alike():
    x = torch.tensor([0.0, 0.5, 1.0, 2.0, 0.25, 0.75])
    group = torch.tensor([0, 0, 1, 1, 2, 2])
    means = [0.25, 1.5, 0.5]
    low, high = stats.t.interval(0.95, 2, loc=sum(means) / 3, scale=stats.sem(means))
    assert mean_over_groups(x, group) == pytest.approx((sum(means) / 3, low, high))
    alike = mean_over_groups(x.repeat_interleave(5), group.repeat_interleave(5))
    assert alike == pytest.approx((sum(means) / 3, low, high))  # copies of a rollout tell nothing new


def test_an_interval_over_groups_covers_the_truth():
    draw = torch.Generator().manual_seed(0)
    sizes = torch.tensor([2, 3, 4, 5] * 5)
    group = torch.repeat_interleave(torch.arange(20), sizes)
    inside = 0
    for _ in range(400):
        x = torch.randn(20, generator=draw)[group] + torch.randn(len(group), generator=draw) + 3.0
        found = mean_over_groups(x, group)
        inside += found.low < 3.0 < found.high
    assert 0.92 < inside / 400 < 0.98  # an interval that took rollouts as independent covers about 0.8


def test_intervals_of_outcome_success_and_reward():
    ts = [*group_of("a", [1.0, 0.0], turn(reward=0.5)), *group_of("b", [1.0, None], turn(reward=1.0), turn())]
    row = played(Rollouts(tuple(ts)))
    assert (row["outcome"], row["outcome_n"], row["outcome_interval"]) == (2 / 3, 3, "wilson")
    wilson = stats.binomtest(2, 3).proportion_ci(method="wilson")
    assert (row["success_low"], row["success_high"]) == pytest.approx((wilson.low, wilson.high), abs=1e-6)
    assert row["reward"] == pytest.approx((1.5 + 0.5 + 2.0) / 3)  # an unknown outcome is no reward of 0
    assert row["reward_low"] < row["reward"] < row["reward_high"]
    half = played(Rollouts(tuple([*group_of("a", [0.5, 0.0]), *group_of("b", [1.0, 1.0])])))
    assert half["outcome_interval"] == "t over groups" and half["success"] == 0.5
    same = played(Rollouts(tuple([*group_of("a", [0.0, 0.0]), *group_of("b", [0.0, 0.0])])))
    assert (same["reward"], same["reward_low"], same["reward_high"]) == (0.0, None, None)  # 4 zeros are no certainty
    tenth = torch.full((6,), 0.1) + torch.tensor([0.1, -0.1] * 3)  # groups that do not differ, up to rounding
    assert mean_over_groups(tenth, torch.tensor([0, 0, 1, 1, 2, 2]))[1:] == (None, None)
    lone = played(Rollouts(tuple(group_of("a", [0.5, 0.0]))))
    assert (lone["outcome"], lone["outcome_low"], lone["outcome_interval"]) == (0.25, None, None)
    assert played(Rollouts(tuple(group_of("a", [None]))))["success"] is None


def test_causes_of_collapse():
    ts = [
        *group_of("varied", [1.0, 0.0]),
        *group_of("solved", [1.0, 1.0], turn(good=False), truncated=True),  # how it ended does not matter then
        *group_of("failed", [0.0, 0.0]),
        *group_of("cut", [0.0, 0.0], truncated=True, stop_reason="max_turns"),
        *group_of("short", [0.0, 0.0], turn(), turn(good=False, stop="length")),  # unreadable, being cut short
        *group_of("garbled", [0.0, 0.0], turn(), turn(good=False), truncated=True),
        rollout(0, "mixed", 0.0, turn(good=False)),
        rollout(1, "mixed", 0.0, truncated=True),
        *group_of("equal", [0.5, 0.5]),
        *group_of("one", [0.0, None], truncated=True),
        *group_of("rest", [0.0, 0.0], truncated=True),
        rollout(2, "rest", None),  # how one of unknown outcome ended does not matter
        *group_of("none", [None, None]),
    ]
    assert causes(Rollouts(tuple(ts))) == [
        "varied", "all solved", "all failed", "all truncated", "all truncated", "unparsable", "all failed",
        "all equal", "single survivor", "all truncated", "unknown",
    ]  # fmt: skip
    row = played(Rollouts(tuple(ts)))
    assert sum(row["collapse_causes"].values()) == row["groups"] == 11
    assert row["collapsed_low"] < row["collapsed"] == 9 / 10 < row["collapsed_high"]


def test_forecast_takes_each_groups_own_size():
    ts = [*group_of("a", [1.0, 0.0, 0.0, 0.0]), *group_of("b", [0.0, 0.0])]
    assert played(Rollouts(tuple(ts)))["forecast"] == pytest.approx(
        ((1 / 6) ** 4 + (5 / 6) ** 4 + (1 / 6) ** 2 + (5 / 6) ** 2) / 2
    )


def test_credit_of_groups_whose_outcomes_do_not_differ_is_shaping():
    policy, env = chain()
    rollouts = one_step(start(policy, recipes.rloo(), PLAN), env, recipes.rloo(), PLAN, 0).used
    data = rollouts.batch().with_column("outcome", "trajectory", [0.0] * 4 + [1.0] * 4 + [1.0, 0.0, 0.0, 0.0])
    assert credited(data, recipes.rloo().credit(data))["shaping_only"] == 0.0
    row = credited(data, recipes.reinforce().credit(data))  # the raw outcome pushes solved groups, too
    assert row["shaping_only"] == pytest.approx(1 / 3) and row["shaping_only_causes"] == {"all solved": 1}


def test_dapo_says_why_it_drops():
    policy, env = chain()
    rollouts = one_step(start(policy, recipes.rloo(), PLAN), env, recipes.rloo(), PLAN, 0).used
    outcomes = [None] * 4 + [1.0, None, None, None] + [0.0] * 4
    known, values = [x is not None for x in outcomes], [x or 0.0 for x in outcomes]
    data = rollouts.batch().with_column("outcome", "trajectory", values, known)
    reasons = credited(data, recipes.dapo().credit(data))["drop_reasons"]
    owner = data.up("token", "group")
    assert reasons == {
        "fewer than two known outcomes in the group": int((owner < 2).sum()),
        "all outcomes of the group equal": int((owner == 2).sum()),
    }


# ------------------------------------------------------------------------------------------ what a pass has seen


def test_entropy_and_slope_are_those_of_autograd_however_they_are_sliced(monkeypatch):
    z = torch.randn(7, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ids, temperature = torch.arange(7), 0.7
    logp = (z / temperature).log_softmax(-1)
    by_hand = torch.autograd.grad(logp[torch.arange(7), ids].sum(), z)[0].norm(dim=-1)
    for at_once in (1, 40, 10**6):
        monkeypatch.setattr("workbench.train.glance.AT_ONCE", at_once)
        found = glance(z, ids, temperature)
        assert torch.allclose(found.slope.double(), by_hand, atol=1e-6)
        assert torch.allclose(found.entropy.double(), -(logp.exp() * logp).sum(-1), atol=1e-6)
        assert not found.entropy.requires_grad
    sure = glance(torch.tensor([[20.0, 0.0]]), torch.tensor([0]))
    assert sure.slope.item() == pytest.approx(math.sqrt(2) * math.exp(-20), rel=1e-4)  # 1 - p is rounded to 0


def test_kl_of_an_update_is_estimated_without_bias():
    draw = torch.Generator().manual_seed(0)
    old, new = torch.randn(5, generator=draw).log_softmax(0), torch.randn(5, generator=draw).log_softmax(0)
    true = float((old.exp() * (old - new)).sum())
    y = torch.multinomial(old.exp(), 200_000, replacement=True, generator=draw)
    assert kl_of_update(new[y], old[y]) == pytest.approx((true, true), rel=0.02)
    assert kl_of_update(old[y], old[y]) == (0.0, 0.0)
    assert kl_of_update(old[:0], old[:0]) is None


def test_ratio_and_pull_by_hand():
    found = ratio_of(torch.tensor([0.0, 0.2, -0.2]), torch.zeros(3), 0.2)
    assert found[:3] == pytest.approx((math.exp(0.2) - 1, 0.4 / 3, 1 / 3))
    assert found.quantiles == pytest.approx((0.2, 0.2, 0.2))  # of 0, 0.2, 0.2: the middle one is 0.2 already
    assert ratio_of(torch.zeros(0), torch.zeros(0), 0.2) == (None, None, None, None)
    assert math.isfinite(ratio_of(torch.tensor([0.0]), torch.tensor([-1e6]), 0.2).gap)  # JSON knows no infinity
    assert pull_by_turn(torch.zeros(2), torch.tensor([0, 1])) is None
    assert pull_by_turn(torch.tensor([3.0, 1.0]), torch.tensor([2, 0])) == [0.25, 0.0, 0.75]


def test_a_step_measures_the_update():
    policy, env = chain()
    recipe, plan = recipes.grpo(), replace(PLAN, epochs=3)
    learner = start(policy, recipe, plan)
    row = one_step(learner, env, recipe, plan, 0).metrics
    assert row["kl_before"] < 1e-9 and row["ratio_mean"] < 1e-5 and row["ratio_off"] == 0.0
    assert row["kl_update_k3"] > 1e-4 and row["kl_reference"] == pytest.approx(0.0, abs=1e-6)
    assert row["entropy"] == pytest.approx(math.log(1024), rel=0.05)  # a random model
    assert sum(row["gradient_by_turn"]) == pytest.approx(1.0) and len(row["gradient_by_turn"]) == 3
    later = one_step(learner, env, recipe, replace(plan, epochs=1), 1).metrics
    assert later["kl_update_k1"] is later["kl_update_k3"] is None and later["kl_reference"] > 1e-3
    assert one_step(start(policy, recipes.rloo(), PLAN), env, recipes.rloo(), PLAN, 1).metrics["kl_reference"] is None
    assert json.loads(json.dumps([row, later], allow_nan=False)) == [row, later]


def test_turns_without_credit_have_no_share_of_the_gradient():
    policy, env = chain()
    rollouts = play(policy, env, env.tasks("train", 3, 0), size=4, seed=3)
    data = rollouts.batch()
    data = data.with_column("trainable", "turn", data.turn_index != 1)
    recipe = recipes.rloo()
    still = replace(PLAN, rate=0.0)
    row = learn(start(policy, recipe, still), recipe, still, data, recipe.credits(data))
    first, second, third = row["gradient_by_turn"]
    assert second == 0.0 and first > 0 and third > 0
    masked = data.turn_index[data.token_turn] == 1
    old = data["logprob_old"].values
    data = data.with_column("logprob_old", "token", torch.where(masked, old - 3.0, old))
    again = learn(start(policy, recipe, still), recipe, still, data, recipe.credits(data))
    assert again["kl_before"] == row["kl_before"]  # tokens that nothing counts are not looked at


def test_measures_of_no_pass_are_unknown():
    policy, env = chain()
    data = one_step(start(policy, recipes.rloo(), PLAN), env, recipes.rloo(), PLAN, 0).used.batch()
    assert set(measure([], data, 1e-3).values()) == {None}


# --------------------------------------------------------------------------------------------------- the alarms


def row_of(rollouts, **more):
    quiet = {"dead_groups": 0.0, "rounds": 1, "groups_dropped": 0, "updates": 1, "updates_skipped": 0}
    return {**played(rollouts), **quiet, **more}


def test_nearly_all_truncated_without_reward_is_an_alarm():
    def alarm(share, outcome):
        cut = [rollout(n, "a", 0.0, truncated=True, stop_reason="max_turns") for n in range(share)]
        rollouts = Rollouts((*cut, *(rollout(n, "a", outcome) for n in range(share, 20))))
        return alarms(rollouts, row_of(rollouts), torch.float32).get("truncated", "")

    assert "95% of the rollouts were truncated and none has any reward: episodes ran out of turns" in alarm(19, 0.0)
    assert alarm(18, 0.0) == "" and alarm(19, 1.0) == ""  # few enough; or something was earned
    assert "every rollout was truncated" in alarm(20, 0.0)


@pytest.mark.parametrize(
    ("ts", "fix"),
    [
        (group_of("a", [0.0, 0.0]), "take easier tasks"),
        (group_of("a", [0.0, 0.0], truncated=True), "cut off; episodes ran out of turns"),
        (group_of("a", [0.0, 0.0], turn(stop="length")), "cut off; most turns ran out of tokens; raise max_new_tokens"),
        (group_of("a", [0.0, 0.0], turn(good=False)), "mend prompt, template or parser"),
        ([*group_of("a", [0.0, 0.0], truncated=True), *group_of("b", [0.0, 0.0])], "all failed: 1, all truncated: 1"),
        (group_of("a", [1.0, 1.0]), "take harder ones"),
        (group_of("a", [0.0, None]), "a single rollout with a known outcome"),
        (group_of("a", [None, None]), "no outcome is known"),
        (group_of("a", [0.5, 0.5]), "outcomes never differ inside a group (all equal: 1); raise size"),
        (group_of("a", [1.0, 0.0]), "the recipe credits nothing (odd: 3 tokens were dropped); look at recipe.trace"),
    ],
)
def test_a_dead_step_names_the_likely_fix(ts, fix):
    rollouts = Rollouts(tuple(ts))
    row = row_of(rollouts, dead_groups=1.0, updates=0, updates_skipped=1, drop_reasons={"odd": 3})
    found = alarms(rollouts, row, torch.float32)
    assert fix in found["dead"] and "skipped" not in found  # one reason is enough


def test_ratio_alarm_has_a_bound_in_each_dtype():
    rollouts = Rollouts(tuple(group_of("a", [1.0, 0.0])))
    for dtype, bound in BOUNDS.items():
        for gap, mean in ((bound.gap, bound.mean), (1.1 * bound.gap, 0.0), (0.0, 1.1 * bound.mean)):
            found = alarms(rollouts, row_of(rollouts, ratio_gap=gap, ratio_mean=mean), dtype)
            assert ("ratio" in found) == (gap > bound.gap or mean > bound.mean)
    assert "bfloat16 explains 1 and 0.08" in found["ratio"]


def test_a_wrong_temperature_is_noticed_in_bfloat16():
    policy, env = chain()
    plan = replace(PLAN, rate=0.0, autocast="bfloat16")
    learner = start(policy, recipes.rloo(), plan)
    fine = one_step(learner, env, recipes.rloo(), plan, 0)
    assert "ratio" not in fine.metrics["alarms"] and fine.metrics["ratio_mean"] > BOUNDS[torch.float32].mean
    batch = fine.used.batch()
    hot = replace(plan, temperature=0.5)
    row = fine.metrics | learn(learner, recipes.rloo(), hot, batch, recipes.rloo().credits(batch))
    assert "bfloat16" in alarms(fine.played, row, learner.dtype)["ratio"]


def test_most_rollouts_failing_and_passes_without_effect_are_alarms():
    rollouts = Rollouts((*group_of("a", [None] * 3, stop_reason="error: no net"), *group_of("b", [1.0, 0.0])))
    assert (
        "60% of the rollouts failed in the environment (error: no net)"
        in alarms(rollouts, row_of(rollouts), torch.float32)["failed"]
    )
    policy = gambler()
    recipe = Recipe("narrow", recipes.grpo(kl=0).chain, clipped(1e-6))
    plan = replace(PLAN, groups=4, size=12, max_new_tokens=1, epochs=3, rate=1e-2)
    row = one_step(start(policy, recipe, plan), Bandit(), recipe, plan, 0).metrics
    assert (row["updates"], row["updates_skipped"]) == (1, 2) or "skipped" in row["alarms"]
    assert "every token is clipped; lower the rate or epochs" in row["alarms"]["skipped"]


# ------------------------------------------------------------------------------------------- a pass that goes bad


class LaterBad:
    """A loss that is fine on its first calls and not a number then."""

    needs = streams = outputs = ()

    def __init__(self, good):
        self.left = good

    def __call__(self, look):
        self.left -= 1
        return -look.logprob * (1.0 if self.left >= 0 else float("nan"))


@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
def test_a_bad_later_pass_puts_weights_and_optimiser_back(lora):
    policy = gambler()
    bad = LaterBad(2 + 2)  # both passes of step 0, and two of three of step 1
    recipe = Recipe("odd", recipes.grpo(kl=0).chain, Objective((Term("p", PolicyLoss(9, 9)), Term("odd", bad))))
    plan = replace(PLAN, groups=4, size=12, max_new_tokens=1, epochs=2, micro_tokens=10**9, lora=lora)
    learner = start(policy, recipe, plan)
    one_step(learner, Bandit(), recipe, plan, 0)
    weights = [p.detach().clone() for p in learner.model.parameters()]
    before = copy.deepcopy(learner.optimiser.state_dict())
    with pytest.raises(FloatingPointError, match="update 3 of 3.*weights and optimiser are those before the step"):
        one_step(learner, Bandit(), recipe, replace(plan, epochs=3, rate=0.5), 1)
    assert all(torch.equal(p, w) for p, w in zip(learner.model.parameters(), weights, strict=True))
    after = learner.optimiser.state_dict()
    assert after["param_groups"] == before["param_groups"] and before["state"]
    for n, entries in before["state"].items():
        assert all(torch.equal(after["state"][n][name], x) for name, x in entries.items())
    assert all(p.grad is None for p in learner.model.parameters())


def test_the_step_reads_top_to_bottom():
    from workbench.train import policy_gradient

    assert len(Path(policy_gradient.__file__).read_text("utf-8").splitlines()) < 400
