"""The policy-gradient loop: determinism, the cut, the mask, every recipe, the reference, a bandit, what goes wrong."""

from __future__ import annotations

import copy
import inspect
import json
import time
import warnings
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from small_worlds import Bandit, chain, gambler, llama

from workbench import catalogue, recipes
from workbench.credit import chain as chain_of
from workbench.credit import linear, read, spread
from workbench.evidence import MissingEvidence, Values, collect
from workbench.evidence.base import Provider
from workbench.evidence.cache import Cache
from workbench.evidence.scoring import SampledLogprobs, model_hash
from workbench.evidence.table import source_of
from workbench.losses import ClippedAway, EntropyLoss, PolicyLoss, ValueLoss, token_mean, trajectory_mean
from workbench.measure import alarms, concentration, credited, played
from workbench.objective import DivideByNorm, Objective, Term, clipped
from workbench.policy.hf import HFEngine
from workbench.recipes import Recipe
from workbench.rollout import play
from workbench.rollouts import Rollouts, full_ids
from workbench.train import policy_gradient
from workbench.train.command import recipe_of, success
from workbench.train.learn import accumulate, gradients
from workbench.train.lora import Lora, add_lora
from workbench.train.parts import cut, score
from workbench.train.plan import Plan, start
from workbench.train.policy_gradient import one_step, train, with_evidence
from workbench.train.seen import measure

PLAN = Plan(steps=3, groups=3, size=4, rate=3e-3, max_new_tokens=8, seed=5)
BANDIT = Plan(steps=25, groups=4, size=12, rate=1e-2, max_new_tokens=1, seed=1, refills=1)


def quiet(done, total, text):
    return None


def plain_rows(metrics):
    return [{k: v for k, v in row.items() if not k.startswith(("seconds", "tokens_per_second"))} for row in metrics]


def weights_of(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def batch():
    """A batch of the chain world whose outcomes differ, with the model that sampled it."""
    policy, env = chain()
    rollouts = play(policy, env, env.tasks("train", 3, 0), size=4, seed=3)
    return policy.engine.model, rollouts.batch(step=2)


def grpo_like(objective):
    return Recipe("grpo_like", recipes.grpo(kl=0).chain, objective)


def gradient(model, recipe, batch, micro_tokens, weights=None):
    credits = recipe.credits(batch)
    weights = weights or recipe.objective.weights(batch, credits["credit"])
    counted = torch.stack([w != 0 for w in weights.values()]).any(0)
    parts = cut(batch, counted, micro_tokens)
    model.zero_grad()
    passed = accumulate(model, recipe.objective, batch, credits, weights, parts, 1.0)
    found = torch.cat([p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    return found, passed, len(parts)


# ------------------------------------------------------------------------------------------------ the learner


def test_the_learner_gives_sampled_tokens_the_probability_they_were_sampled_with(batch):
    model, data = batch
    parts = cut(data, torch.ones(data.count("token"), dtype=torch.bool), 300)
    with torch.no_grad():
        found = [score(model, part, 1.0)[0] for part in parts]
    tokens = torch.cat([part.tokens for part in parts])
    assert sorted(tokens.tolist()) == list(range(data.count("token")))  # each once
    assert torch.allclose(torch.cat(found), data["logprob_old"].values[tokens], atol=1e-5)


def test_before_the_update_the_ratio_is_one_and_the_kl_zero_at_any_temperature():
    policy, env = chain()
    plan = replace(PLAN, temperature=0.5)
    row = one_step(start(policy, recipes.grpo(), plan), env, recipes.grpo(), plan, 0).metrics
    assert row["ratio_gap"] < 1e-3
    assert row["loss_kl"] == pytest.approx(0.0, abs=1e-6)  # the reference is scored at this temperature, too


def test_evidence_of_a_step_is_at_the_temperature_of_the_plan():
    policy, env = chain()
    plan = replace(PLAN, temperature=0.5, rate=0.0)
    done = one_step(start(policy, recipes.aem(), plan), env, recipes.aem(), plan, 0)
    assert done.used.columns["token_entropy"].provenance.parameters["temperature"] == 0.5


def test_dropout_is_off_when_the_learner_looks():
    policy, env = chain(attention_dropout=0.5)
    policy.engine.model.train()
    plan = replace(PLAN, lora=Lora(rank=2), rate=0.05)
    policy.engine.model = add_lora(policy.engine.model, Lora(rank=2, dropout=0.5))  # as supervised training leaves it
    learner = start(policy, recipes.rloo(), plan)
    rows = [one_step(learner, env, recipes.rloo(), plan, step).metrics for step in range(2)]
    assert max(row["ratio_gap"] for row in rows) < 1e-3


def test_another_temperature_than_the_samplers_shows_in_the_ratio(batch):
    model, data = batch
    recipe = recipes.grpo(kl=0)
    credits = recipe.credits(data)
    weights = recipe.objective.weights(data, credits["credit"])
    parts = cut(data, credits["credit"].known, 1000)
    passed = accumulate(model, recipe.objective, data, credits, weights, parts, 0.5)
    model.zero_grad()
    assert measure([passed.seen], data, 1e-3)["ratio_gap"] > 0.1


OBJECTIVES = {
    "tokens": clipped(aggregate=token_mean),
    "trajectories": clipped(aggregate=trajectory_mean),
    "sequence ratio": clipped(ratio="sequence", aggregate=trajectory_mean),
    "turn ratio, gradient through the turn": Objective((Term("policy", PolicyLoss(0.2, 0.2, "turn", through="unit")),)),
    "entropy": clipped(entropy=0.1),
    "a gradient rule": Objective(
        (
            Term("policy", PolicyLoss(0.2, 0.2)),
            Term("entropy", EntropyLoss(), 0.5),
            Term("by", ClippedAway(PolicyLoss(0.0, 0.0)), 0.0),
        ),
        DivideByNorm("policy", "entropy"),
    ),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_micro_batches_give_the_gradient_of_the_whole_batch(batch, name):
    model, data = batch
    recipe = grpo_like(OBJECTIVES[name])
    whole, one, parts = gradient(model, recipe, data, 10**9)
    assert parts == 1 and whole.abs().max() > 1e-4
    for micro_tokens in (1, 200):
        found, several, parts = gradient(model, recipe, data, micro_tokens)
        assert parts > 2
        assert (found - whole).abs().max() < 1e-6 * max(1.0, whole.abs().max())
        assert several.loss == pytest.approx(one.loss, abs=1e-6)


def test_a_gradient_rule_gets_one_gradient_a_term(batch):
    model, data = batch
    found, _, _ = gradient(model, grpo_like(OBJECTIVES["a gradient rule"]), data, 300)
    policy, _, _ = gradient(model, grpo_like(clipped()), data, 300)
    entropy, _, _ = gradient(model, grpo_like(Objective((Term("entropy", EntropyLoss()),))), data, 300)
    assert torch.allclose(found, policy / entropy.norm() + 0.5 * entropy, atol=1e-6)


def test_gradient_is_that_of_a_loop_over_tokens(batch):
    """REINFORCE by hand: mean over trajectories of the sum of -A log p, each sequence forwarded alone."""
    model, data = batch
    recipe = recipes.rloo()
    found, _, _ = gradient(model, recipe, data, 300)
    credit, loss = recipe.credit(data), 0.0
    for token in range(data.count("token")):
        ids, place = data.sequences[int(data.token_sequence[token])], int(data.token_position[token])
        if credit.values[token] != 0:
            logits = model(input_ids=ids[None, :place]).logits[0, -1]
            loss = loss - credit.values[token].float() * logits.log_softmax(-1)[ids[place]]
    model.zero_grad()
    (loss / data.count("trajectory")).backward()
    by_hand = torch.cat([p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    assert torch.allclose(found, by_hand, atol=1e-5)


def test_only_logits_before_sampled_tokens_get_a_gradient(batch):
    """Everything else (prompt, observations, padding) may be predicted in any way: no term ever looks."""
    model, data = batch
    recipe = grpo_like(clipped(entropy=0.1))
    credits = recipe.credits(data)
    weights = recipe.objective.weights(data, credits["credit"])
    (part,) = cut(data, credits["credit"].known, 10**9)
    logits = model(input_ids=part.ids).logits.detach().requires_grad_()

    class Fixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = torch.nn.Parameter(logits.detach().clone())

        def forward(self, input_ids, use_cache, logits_to_keep):
            return type("Out", (), {"logits": self.logits[:, -logits_to_keep:]})

    fixed = Fixed()
    first = accumulate(fixed, recipe.objective, data, credits, weights, [part], 1.0)
    asked = torch.zeros(part.ids.shape, dtype=torch.bool)
    asked[part.rows, part.before] = True
    moved = fixed.logits.grad.abs().sum(-1) > 0
    assert bool(moved[asked].any()) and not bool(moved[~asked].any())
    with torch.no_grad():
        fixed.logits[~asked] += 7.0 * torch.randn_like(fixed.logits[~asked])
    before, fixed.logits.grad = fixed.logits.grad, None
    assert accumulate(fixed, recipe.objective, data, credits, weights, [part], 1.0).loss == first.loss
    assert torch.equal(fixed.logits.grad, before)


def test_turns_that_must_not_be_trained_are_left_out(batch):
    model, data = batch
    trainable = torch.ones(data.count("turn"), dtype=torch.bool)
    trainable[data.turn_trajectory == 0] = False
    part_of = data.with_column("trainable", "turn", trainable)
    parts = cut(part_of, recipes.grpo(kl=0).credit(part_of).known, 10**9)
    assert 0 not in data.up("token", "trajectory")[torch.cat([p.tokens for p in parts])].tolist()


@pytest.mark.parametrize("loss", [PolicyLoss(0.2, 0.2, "sequence"), PolicyLoss(0.2, 0.2, "sequence", through="unit")])
def test_turns_that_must_not_be_trained_enter_no_ratio(batch, loss):
    """A ratio of many tokens would carry them into the loss of the others, and their gradient with it."""
    model, data = batch
    masked = data.turn_index == 0
    part_of = data.with_column("trainable", "turn", ~masked)
    old = data["logprob_old"].values - 0.05
    other = torch.where(masked[data.token_turn], old - 3.0, old)
    recipe = grpo_like(Objective((Term("policy", loss),)))
    found = [gradient(model, recipe, part_of.with_column("logprob_old", "token", x), 10**9)[0] for x in (old, other)]
    assert found[0].abs().max() > 1e-4 and torch.equal(*found)


def test_no_part_is_larger_than_asked_and_no_trajectory_is_cut(batch):
    _, data = batch
    parts = cut(data, torch.ones(data.count("token"), dtype=torch.bool), 200)
    owners = [set(data.up("token", "trajectory")[p.tokens].tolist()) for p in parts]
    assert sum(len(o) for o in owners) == len(set.union(*owners)) == data.count("trajectory")
    assert all(p.ids.numel() <= 200 for p in parts)
    assert sum(p.real for p in parts) <= sum(p.ids.numel() for p in parts)


# --------------------------------------------------------------------------------------------------- the loop


@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
def test_two_runs_are_equal_bit_for_bit(lora, tmp_path):
    def run(name, callers_seed, plan):
        policy, env = chain()
        torch.manual_seed(callers_seed)  # what the caller's generator does is not ours
        rows = train(policy, env, recipes.grpo(), plan, tmp_path / name, progress=quiet)[1]
        return plain_rows(rows), weights_of(policy.engine.model)

    plan = replace(PLAN, lora=lora, steps=2, epochs=2)
    (a, left), (b, right) = run("a", 1, plan), run("b", 2, plan)
    assert a == b and torch.equal(left, right)
    assert not torch.equal(run("c", 1, replace(plan, seed=6))[1], left)
    lines = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()
    assert plain_rows(map(json.loads, lines)) == a


def test_a_step_does_not_depend_on_the_steps_before_but_through_weights_and_optimiser():
    """Nothing is carried along: making step 1 twice, or after an unrelated draw, plays the very same rollouts."""
    policy, env = chain()
    recipe = recipes.reinforce()
    learner = start(policy, recipe, replace(PLAN, rate=0.0))
    first = one_step(learner, env, recipe, replace(PLAN, rate=0.0), 1)
    torch.rand(3)
    again = one_step(learner, env, recipe, replace(PLAN, rate=0.0), 1)
    other = one_step(learner, env, recipe, replace(PLAN, rate=0.0), 2)
    tokens = [[s.ids for t in done.played for s in t.sequences] for done in (first, again, other)]
    assert tokens[0] == tokens[1] != tokens[2]
    assert not set(first.played.batch().groups) & set(other.played.batch().groups)  # every step has tasks of its own


WAITING = {"igpo_released_2025", "artist_calls", "mapo"}  # a column of ours; what other worlds record
WAITING |= {name for row in catalogue.ALL if row.status == "recipe only" for name in row.recipes}
READY = [name for name in recipes.__all__ if inspect.isfunction(getattr(recipes, name)) and name not in WAITING]


@pytest.mark.parametrize("name", READY)
def test_every_recipe_takes_a_step(name):
    policy, env = chain()
    settings = {"reward": None} if name.startswith("gigpo") else {}  # the chain world gives no turn rewards
    settings = {"reward": "match_reward"} if name.startswith("mt_grpo") else settings
    recipe = getattr(recipes, name)(**settings)
    before = weights_of(policy.engine.model).clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            (row,) = train(policy, env, recipe, replace(PLAN, steps=1, epochs=2), progress=quiet)[1]
        except MissingEvidence as missing:  # of a later method, whose own world records what no provider makes
            assert not name.startswith("vpr") and {source_of(column) for column in missing.columns} == {None}
            return
    assert row["updates"] == 2 and row["ratio_gap"] < 1e-3 and row["alarms"] == {}
    assert not torch.equal(weights_of(policy.engine.model), before)
    assert {f"loss_{term.name}" for term in recipe.objective.terms} <= set(row)


def test_a_column_that_nothing_makes_is_named():
    policy, env = chain()
    with pytest.raises(MissingEvidence, match="token_reward"):
        train(policy, env, recipes.igpo_released_2025(), PLAN, progress=quiet)


def test_engine_samples_with_the_new_weights_after_a_step():
    policy, env = gambler(), Bandit()
    plan = replace(BANDIT, steps=2)
    rows = train(policy, env, recipes.reinforce(), plan, progress=quiet)[1]
    assert policy.engine.version == 2
    assert max(row["ratio_gap"] for row in rows) < 1e-3  # keys of the old weights would show here


@pytest.mark.parametrize("recipe", [recipes.grpo(), recipes.rloo(), recipes.dapo()], ids=lambda r: r.name)
def test_a_bandit_learns_the_right_arm(recipe):
    policy = gambler()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in the end every pull is right, and every group is dead
        rows = train(policy, Bandit(), recipe, BANDIT, progress=quiet)[1]
    assert rows[0]["outcome"] < 0.6
    assert sum(row["outcome"] for row in rows[-5:]) / 5 > 0.9


def test_a_bandit_of_several_pulls_learns_from_one_outcome():
    plan = replace(BANDIT, steps=30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = train(gambler(), Bandit(pulls=2), recipes.grpo(kl=0), plan, progress=quiet)[1]
    assert rows[0]["turns"] == 2 and rows[0]["outcome"] < 0.4
    assert sum(row["outcome"] for row in rows[-5:]) / 5 > 0.9


def test_the_wrong_sign_unlearns_it():
    """The bandit test can fail: minus the outcome drives the right arm away."""
    wrong = Recipe("wrong", chain_of(read("wrong"), spread("token")), recipes.reinforce().objective)

    class Wrong:
        name, sees, reads, parameters, model = "Wrong", (), ("results",), {}, ""
        provides = {"wrong": "trajectory"}

        async def compute(self, group, meter):
            return {"wrong": Values.of([0.5 - t.outcome for t in group])}

        def state(self):
            return {}

    rows = train(gambler(), Bandit(), wrong, BANDIT, progress=quiet, evidence=[Wrong()])[1]
    assert rows[-1]["outcome"] < 0.1


def test_rate_may_be_a_schedule():
    policy, env = gambler(), Bandit()
    rows = train(policy, env, recipes.reinforce(), replace(BANDIT, steps=3, rate=linear(1e-2, 0.0, 2)), progress=quiet)
    assert [row["rate"] for row in rows[1]] == [1e-2, 5e-3, 0.0]


def test_a_schedule_that_goes_below_zero_is_refused_by_its_step():
    falls = linear(1e-3, -1e-3, 4)
    with pytest.raises(ValueError, match=r"Plan\.rate: .* got -0\.0005 at step 3 of linear\(0\.001, -0\.001, 4\)"):
        replace(BANDIT, rate=falls)
    assert replace(BANDIT, steps=3, rate=falls).rate_at(2) == 0.0  # where it does not get there


def test_dropout_of_adapters_is_refused_not_ignored():
    with pytest.raises(ValueError, match=r"Plan\.lora: expected dropout 0: .*got dropout=0\.1"):
        replace(BANDIT, lora=Lora(dropout=0.1))


# ---------------------------------------------------------------------------------------------- the reference


def test_adapters_switched_off_are_the_reference():
    """No second copy: the reference scores as the model did before it had adapters, however far they have moved."""
    policy, env = chain()
    recipe, plan = recipes.grpo(), replace(PLAN, lora=Lora(rank=2), rate=0.05)
    rollouts = play(policy, env, env.tasks("train", 2, 0), size=2)
    learner = start(policy, recipe, plan)
    base = learner.model.get_base_model()
    assert learner.reference.engine.model is base
    for step in range(2):
        one_step(learner, env, recipe, plan, step)
    filled = with_evidence(rollouts, learner, recipe, plan).batch()
    assert torch.allclose(filled["logprob_ref"].values, filled["logprob_old"].values, atol=1e-5)
    whole = cut(filled, torch.ones(filled.count("token"), dtype=torch.bool), 10**9)[0]
    with torch.no_grad():
        now = score(learner.model, whole, 1.0)[0]
    assert (now - filled["logprob_old"].values).abs().max() > 0.05  # and the adapters are on again


def test_groups_are_scored_in_order():
    """What an engine kept of one group decides the last bits of the next: threads must not decide who comes first."""
    policy, env = chain()
    begun, done = [], []

    class Slow(HFEngine):
        def score(self, sequences, spans, **how):
            begun.append(sequences[0])
            time.sleep(0.2 if len(begun) == 1 else 0.0)
            found = super().score(sequences, spans, **how)
            done.append(sequences[0])
            return found

    rollouts = play(policy, env, env.tasks("train", 4, 0), size=1)
    other = replace(policy, engine=Slow(policy.engine.model))
    collect(rollouts, [SampledLogprobs(other)], cache=Cache())
    firsts = [full_ids(rollouts, t, 0) for t in rollouts]
    assert done == firsts


def test_the_hash_of_a_reference_does_not_change_with_the_adapters():
    """A resumed run asks for it when the adapters have moved; its record must name the same reference."""
    plan = replace(PLAN, lora=Lora(rank=2))
    plain = model_hash(chain()[0])
    for moved in (0.0, 0.1):
        learner = start(chain()[0], recipes.grpo(), plan)
        with torch.no_grad():
            for name, p in learner.model.named_parameters():
                p.add_(moved * ("lora_" in name))
        assert model_hash(learner.reference) == plain
    assert model_hash(learner.policy) != plain


def test_adapters_that_have_learned_before_are_part_of_the_reference():
    """Switched off, they would give the model before its warm start: a KL that is not 0 at the first look."""
    policy, env = chain()
    policy.engine.model = add_lora(policy.engine.model, Lora(rank=2))
    with torch.no_grad():
        for name, p in policy.engine.model.named_parameters():
            if "lora_B" in name:
                p.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(0))
    policy.engine.load(None)
    learner = start(policy, recipes.grpo(), PLAN)
    assert one_step(learner, env, recipes.grpo(), PLAN, 0).metrics["loss_kl"] == pytest.approx(0.0, abs=1e-6)
    assert not any(p.requires_grad for p in learner.reference.engine.model.parameters())


def test_reference_of_full_training_is_a_frozen_copy_made_only_where_a_term_asks():
    policy, env = chain()
    recipe, plan = recipes.grpo(), replace(PLAN, rate=0.02)
    learner = start(policy, recipe, plan)
    assert start(policy, recipes.grpo(kl=0), plan).reference is None
    rows = [one_step(learner, env, recipe, plan, step).metrics for step in range(2)]
    assert rows[0]["loss_kl"] == pytest.approx(0, abs=1e-6) and rows[1]["loss_kl"] > 1e-3


def test_lora_trains_adapters_only(tmp_path):
    policy, env = chain()
    before = {name: p.detach().clone() for name, p in policy.engine.model.named_parameters()}
    train(policy, env, recipes.rloo(), replace(PLAN, lora=Lora(rank=2), steps=2), tmp_path, progress=quiet)
    after = dict(policy.engine.model.get_base_model().named_parameters())
    same = [
        torch.equal(p, after.get(name, after.get(name.replace(".weight", ".base_layer.weight"))))
        for name, p in before.items()
    ]
    assert all(same)
    assert any(bool(p.abs().sum() > 0) for name, p in after.items() if "lora_B" in name)
    assert (tmp_path / "adapter_model.safetensors").exists() and not (tmp_path / "model.safetensors").exists()


# ------------------------------------------------------------------------------------------ refills and alarms


def test_dropped_groups_are_sampled_again_a_bounded_number_of_times():
    plan = replace(PLAN, groups=6, size=2, max_new_tokens=1, refills=6, seed=3)
    learner = start(gambler(), recipes.dapo(), plan)
    done = one_step(learner, Bandit(), recipes.dapo(), plan, 0)
    row = done.metrics
    assert 1 < row["rounds"] <= 7 and row["groups"] > 6  # all that was played is measured
    assert len(done.used.groups) == 6 and row["groups_dropped"] == 0
    assert all(len({t.outcome for t in group}) == 2 for group in done.used.groups)
    none = one_step(learner, Bandit(), recipes.dapo(), replace(plan, refills=0), 0)
    assert none.metrics["rounds"] == 1 and none.metrics["groups_dropped"] > 0
    assert len(none.credits["credit"]) == none.used.batch().count("token")  # what was not refilled is still there


class Remembers(Provider):
    """A provider with a memory: it numbers the trajectories it is asked for."""

    provides: ClassVar = {"asked": "trajectory", "length": "token"}

    def __init__(self):
        self.asked = []

    async def compute(self, group, meter):
        start = len(self.asked)
        self.asked += [t.id for t in group]
        meter.count(calls=len(group))
        numbers = Values.of(range(start, len(self.asked)))
        lengths = [float(len(span)) for t in group for s in t.sequences for span in s.spans if span.origin == "sampled"]
        return {"asked": numbers, "length": Values.of(lengths)}

    def state(self):
        return {"asked": self.asked}


def test_evidence_that_remembers_is_asked_once_for_a_group_that_survives_a_refill():
    plan = replace(PLAN, groups=6, size=2, max_new_tokens=1, refills=6, seed=3)
    memory = Remembers()
    done = one_step(start(gambler(), recipes.dapo(), plan), Bandit(), recipes.dapo(), plan, 0, [memory])
    assert done.metrics["rounds"] > 2
    assert memory.asked == [t.id for t in done.played]
    column = done.used.columns["asked"]
    assert [memory.asked[n] for n in column.values.tolist()] == [t.id for t in done.used] and column.known.all()
    assert column.provenance.provider == "Remembers" and len(done.used) <= column.provenance.calls <= len(memory.asked)
    assert done.used.batch().columns["length"].values.tolist() == [1.0] * len(done.used)


def test_a_step_without_any_credit_updates_nothing_and_says_so():
    policy = gambler()
    before = weights_of(policy.engine.model).clone()
    plan = replace(BANDIT, steps=2, refills=2)
    with pytest.warns(RuntimeWarning, match="every rollout of every task failed; take easier tasks") as said:
        rows = train(policy, Bandit(always=0.0), recipes.dapo(), plan, progress=quiet)[1]
    assert [row["updates"] for row in rows] == [0, 0] and rows[0]["rounds"] == 3
    assert torch.equal(weights_of(policy.engine.model), before)
    assert set(rows[0]["alarms"]) == {"dead", "refill"}
    assert len([w for w in said if "no group has any credit" in str(w.message)]) == 1  # not once a step
    with pytest.warns(RuntimeWarning, match="take harder ones"):
        train(gambler(), Bandit(always=1.0), recipes.grpo(), replace(plan, steps=1), progress=quiet)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_dead_step_leaves_weights_and_optimiser_as_they_were(weight_decay):
    """Every outcome is equal, so every credit is 0: neither momentum of good steps nor decay may move anything."""
    policy, recipe = gambler(), recipes.grpo(kl=0)
    plan = replace(BANDIT, rate=1e-4, epochs=2, weight_decay=weight_decay)
    learner = start(policy, recipe, plan)
    good = one_step(learner, Bandit(), recipe, plan, 0).metrics
    assert (good["updates"], good["updates_skipped"]) == (2, 0)
    weights, state = weights_of(policy.engine.model).clone(), copy.deepcopy(learner.optimiser.state_dict()["state"])
    dead = one_step(learner, Bandit(always=1.0), recipe, plan, 1).metrics
    assert (dead["updates"], dead["updates_skipped"], dead["gradient_norm"]) == (0, 2, 0.0)
    assert torch.equal(weights_of(policy.engine.model), weights)
    now = learner.optimiser.state_dict()["state"]
    assert state and all(torch.equal(now[n][k], x) for n, entries in state.items() for k, x in entries.items())


def test_a_step_in_which_every_rollout_is_truncated_says_so():
    with pytest.warns(RuntimeWarning, match="every rollout was truncated: episodes ran out of turns"):
        train(gambler(), Bandit(2, never_ends=True), recipes.reinforce(), replace(BANDIT, steps=1), progress=quiet)


def test_episodes_that_outgrow_the_model_do_not_end_the_run():
    policy = gambler(llama(3, max_position_embeddings=8))
    with pytest.warns(RuntimeWarning, match="outgrew what the model can read"):
        (row,) = train(
            policy, Bandit(20, never_ends=True), recipes.reinforce(), replace(BANDIT, steps=1), progress=quiet
        )[1]
    assert (row["truncated"], row["turns"], row["outcome"]) == (1.0, 4.0, 0.0)


def test_a_step_without_a_single_turn_says_what_the_world_said():
    class Closed(Bandit):
        def fresh(self):
            return Closed()

        def reset(self, task, seed):
            raise OSError("the world is closed")

    for recipe in (recipes.grpo(), recipes.dapo(), recipes.igpo()):
        with pytest.raises(RuntimeError, match="step 0: .* the world is closed"):
            train(gambler(), Closed(), recipe, PLAN, progress=quiet)


def test_unknown_outcomes_are_no_failures_in_an_evaluation():
    class Breaks(Bandit):
        def fresh(self):
            return Breaks(always=1.0)

        def reset(self, task, seed):
            if task.id.endswith("-0"):
                raise OSError("the world is closed")
            return super().reset(task, seed)

    assert success(gambler(), Breaks(), PLAN, 3) == (2, 2)


def test_a_sampler_that_is_not_the_learner_says_so(batch):
    policy, env = chain()
    rollouts = play(policy, env, env.tasks("train", 1, 0), size=2)
    row = {**played(rollouts), **credited(rollouts.batch(), recipes.reinforce().credit(rollouts.batch()))}
    row |= {"rounds": 1, "ratio_gap": 0.01}
    assert "same weights, temperature and tokens" in alarms(rollouts, row, torch.float32)["ratio"]
    assert "ratio" not in alarms(rollouts, row, torch.bfloat16)


# ----------------------------------------------------------------------------------------- what is not finite


class Breaks:
    """A loss that is fine on the first calls."""

    needs = streams = outputs = ()

    def __init__(self, good_calls, how):
        self.left, self.how = good_calls, how

    def __call__(self, look):
        self.left -= 1
        if self.left >= 0:
            return -look.logprob
        return look.logprob * float("nan") if self.how == "loss" else (look.logprob * 0).abs().sqrt() + look.logprob * 0


@pytest.mark.parametrize("how", ["loss", "gradient"])
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_loss_or_gradient_that_is_not_finite_stops_the_run_with_the_last_good_weights(how, epochs, tmp_path):
    breaks = Breaks(epochs + epochs - 1, how)  # step 0 is good, and all but the last update of step 1
    recipe = grpo_like(Objective((Term("policy", PolicyLoss(0.2, 0.2)), Term("odd", breaks))))
    plan = replace(BANDIT, steps=3, epochs=epochs, micro_tokens=10**9)
    policy = gambler()
    kind = "term 'odd' is nan" if how == "loss" else "gradient of the term 'odd' is not finite"
    problem = f"step 1, update {epochs} of {epochs}: the {kind} on 'run/1/train-"
    with pytest.raises(FloatingPointError, match=problem):
        train(policy, Bandit(), recipe, plan, tmp_path, progress=quiet)
    good = gambler()
    breaks.left = 10
    train(good, Bandit(), recipe, replace(plan, steps=1), progress=quiet)
    assert torch.equal(weights_of(policy.engine.model), weights_of(good.engine.model))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    assert (tmp_path / "model.safetensors").exists()


def test_what_cannot_work_is_refused_before_anything_is_played():
    with pytest.raises(ValueError, match=r"Plan.size: expected at least 1"):
        Plan(size=0)
    with pytest.raises(ValueError, match="at 0 nothing is sampled"):
        Plan(temperature=0)

    class Asks(ValueLoss):
        outputs = ("reward model",)

    asks = Recipe(
        "asks",
        chain_of(read("outcome"), spread("token")),
        Objective((Term("value", Asks("returns")),)),
        {"returns": chain_of(read("outcome"), spread("token"))},
    )
    with pytest.raises(NotImplementedError, match="reward model"):
        start(gambler(), asks, PLAN)
    from workbench.policy.scripted import ScriptedEngine

    with pytest.raises(TypeError, match="a model in this process"):
        start(replace(gambler(), engine=ScriptedEngine([])), recipes.grpo(), PLAN)


# ------------------------------------------------------------------------------------------------ the measures


def test_measures_of_a_known_batch():
    policy = gambler(llama(3))
    rollouts = play(policy, Bandit(2), Bandit(2).tasks("train", 2), size=3)
    row = played(rollouts)
    assert row["outcome_n"] == 6 and row["turns"] == 2 and row["tokens"] == 2 and row["truncated"] == 0
    data = rollouts.batch().with_column("c", "turn", [1.0, 1.0, 3.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    row = credited(data, chain_of(read("c"), spread("token"))(None, data))
    assert row["advantage_scale"] == pytest.approx(6 / 12) and row["advantage_largest"] == 3.0
    assert row["sign_balance"] == pytest.approx((3 - 1) / 4) and row["dead_groups"] == 0.5
    assert row["concentration"] == pytest.approx((0 + 1 + 1) / 3)  # even, one turn, one turn; the others say nothing
    assert concentration(data, recipes.reinforce().credit(data)) in (None, 0.0)


def test_gradients_of_terms_are_whole_vectors():
    w = [torch.nn.Parameter(torch.tensor([1.0, 2.0])), torch.nn.Parameter(torch.tensor(3.0))]
    found = gradients({"a": (w[0] ** 2).sum(), "b": w[1] * 2}, w)
    assert found["a"].tolist() == [2.0, 4.0, 0.0] and found["b"].tolist() == [0.0, 0.0, 2.0]


# ------------------------------------------------------------------------------------------------- the command


def test_recipes_by_name():
    assert recipe_of("grpo", ["kl=0", "low=0.1"]) == recipes.grpo(kl=0, low=0.1)
    with pytest.raises(ValueError, match="no recipe 'Recipe'"):
        recipe_of("Recipe")
    with pytest.raises(ValueError, match="expected key=value"):
        recipe_of("grpo", ["nothing=1"])


def test_the_loop_is_short():
    assert len(inspect.getsource(policy_gradient).splitlines()) < 300


class Few(Bandit):
    """A world with three tasks in all."""

    def tasks(self, split, count, seed=0):
        return super().tasks(split, min(count, 3), 0)

    def fresh(self):
        return Few(self.pulls, always=self.always)


def test_a_world_without_further_tasks_is_not_sampled_again():
    """Where all groups are dropped and no task is left, the step is dead and says so; it does not fail."""
    plan = replace(BANDIT, steps=2, groups=3, refills=2)
    _, metrics = train(gambler(), Few(always=1.0), recipes.dapo(), plan)
    assert [row["groups"] for row in metrics] == [3, 3] and {"dead", "refill"} <= metrics[0]["alarms"].keys()
    assert [row["rounds"] for row in metrics] == [1, 1]  # one that played nothing is none
    assert "no further task to replace 3 dropped groups" in metrics[0]["alarms"]["refill"]


def test_a_reference_does_not_thaw_what_is_frozen():
    policy, env = chain()
    plan = replace(PLAN, lora=Lora(rank=2))
    learner = start(policy, recipes.grpo(kl=0.1), plan)
    for name, p in learner.model.named_parameters():
        if "lora_A" in name:
            p.requires_grad_(False)
    before = [name for name, p in learner.model.named_parameters() if p.requires_grad]
    one_step(learner, env, recipes.grpo(kl=0.1), plan, 0)
    assert [name for name, p in learner.model.named_parameters() if p.requires_grad] == before


def test_answers_that_are_all_cut_short_are_truncation_though_the_episodes_end():
    """With turn credit no group is dead; a limit on tokens ended what the world thinks is over."""
    policy, env = chain()
    rollouts = play(policy, env, env.tasks("train", 2, 0), size=2, seed=3, progress=quiet)
    short = [
        replace(t, outcome=0.0, turns=(*t.turns[:-1], replace(t.turns[-1], stop_reason="length"))) for t in rollouts
    ]
    row = {**credited(rollouts.batch(), recipes.reinforce().credit(rollouts.batch())), **played(Rollouts(tuple(short)))}
    said = alarms(Rollouts(tuple(short)), {**row, "rounds": 1, "dead_groups": 0.0}, torch.float32)
    assert row["truncated"] == 1.0 and "every rollout was truncated" in said["truncated"]
    one_solved = Rollouts((replace(short[0], outcome=1.0), *short[1:]))
    assert "truncated" not in alarms(one_solved, {**row, "rounds": 1, "dead_groups": 0.0}, torch.float32)
