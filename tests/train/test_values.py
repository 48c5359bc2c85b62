"""A value head in training: its values, its gradient, what it learns, and what is kept of it."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from small_worlds import Bandit, Guided, chain, gambler, llama
from test_launch import contents, made

from workbench import policy as policies
from workbench import recipes
from workbench.credit import linear
from workbench.losses import ClippedAway, LogProbLoss, token_mean
from workbench.objective import DivideByNorm, Objective, Term
from workbench.policy import tiny_tokenizer
from workbench.recipes import Recipe
from workbench.train import checkpoint, worker
from workbench.train.learn import accumulate
from workbench.train.lora import Lora
from workbench.train.parts import cut, score
from workbench.train.plan import Plan, start
from workbench.train.policy_gradient import one_step, train, with_evidence
from workbench.train.student import Student, ValueHead, head_for
from workbench.train.trees import cut_trees, parts_of
from workbench.train.values import at_starts, values_of

PLAN = Plan(steps=3, groups=3, size=4, rate=3e-3, max_new_tokens=8, seed=5)
BANDIT = Plan(steps=6, groups=4, size=12, rate=1e-2, max_new_tokens=1, seed=1, save_every=2)
CRITICS = [recipes.ppo(), recipes.ppo_turn()]


def quiet(done, total, text):
    return None


def stirred(learner):
    """A head that says something: not 0 everywhere."""
    with torch.no_grad():
        learner.head.linear.weight.copy_(
            0.3 * torch.randn(learner.head.linear.weight.shape, generator=torch.Generator().manual_seed(0))
        )
        learner.head.linear.bias.fill_(0.2)
    return learner


@pytest.fixture
def played():
    player, env = chain()
    learner = stirred(start(player, recipes.ppo(), PLAN))
    done = one_step(learner, env, recipes.reinforce(), replace(PLAN, rate=0.0), 0)
    return learner, done.played


def test_values_are_those_of_the_state_before_each_token(played):
    learner, rollouts = played
    batch = rollouts.batch()
    found = values_of(learner, batch, PLAN)
    with torch.no_grad():
        for token in range(0, batch.count("token"), 7):
            ids, place = batch.sequences[int(batch.token_sequence[token])], int(batch.token_position[token])
            hidden = learner.model(input_ids=ids[None, :place], output_hidden_states=True).hidden_states[-1][:, -1]
            assert found[token].item() == pytest.approx(learner.head(hidden).item(), abs=1e-5)
    turns, known = at_starts(found, batch)
    assert known.all()
    first = [batch.token_turn.tolist().index(k) for k in range(batch.count("turn"))]
    assert torch.equal(turns, found[first])


def test_a_recipe_gets_the_columns_it_reads_and_no_others(played):
    learner, rollouts = played
    for recipe, name, level in ((recipes.ppo(), "value", "token"), (recipes.ppo_turn(), "turn_value", "turn")):
        found = with_evidence(rollouts, learner, recipe, PLAN)
        assert set(found.columns) == {name} and found.columns[name].level == level
        assert found.columns[name].provenance.provider == "ValueHead"
    given = rollouts.with_column("value", "token", torch.zeros(rollouts.batch().count("token")))
    assert not with_evidence(given, learner, recipes.ppo(), PLAN).columns["value"].values.any()


@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
@pytest.mark.parametrize("trunk", ["shared", "detached"])
def test_the_gradient_of_the_value_loss_is_that_of_a_loop_over_tokens(trunk, lora):
    player, env = chain()
    recipe = recipes.ppo(value_weight=1.0)
    only_value = Recipe("v", recipe.chain, Objective(recipe.objective.terms[1:]), recipe.streams)
    learner = stirred(start(player, only_value, replace(PLAN, value_trunk=trunk, lora=lora)))
    rollouts = one_step(learner, env, recipes.reinforce(), replace(PLAN, rate=0.0), 0).played
    batch = with_evidence(rollouts, learner, only_value, PLAN).batch()
    credits = only_value.credits(batch)
    trainable = [p for p in learner.student.parameters() if p.requires_grad]
    assert len(trainable) > 2
    returns, loss = credits["returns"].values, 0.0
    for token in range(batch.count("token")):
        ids, place = batch.sequences[int(batch.token_sequence[token])], int(batch.token_position[token])
        hidden = learner.model(input_ids=ids[None, :place], output_hidden_states=True).hidden_states[-1][:, -1]
        hidden = hidden.detach() if trunk == "detached" else hidden
        loss = loss + (learner.head.linear(hidden)[0, 0] - returns[token].float()) ** 2 / batch.count("token")
    loss.backward()
    expected = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in trainable]
    weights = only_value.objective.weights(batch, credits["credit"])
    for micro_tokens, how in ((10**9, "rows"), (150, "rows"), (10**9, "tree"), (150, "tree")):
        for p in trainable:
            p.grad = None
        parts = parts_of(learner.model, batch, credits["credit"].known, micro_tokens, how)
        accumulate(learner.student, only_value.objective, batch, credits, weights, parts, 1.0)
        for p, e in zip(trainable, expected, strict=True):
            found = torch.zeros_like(p) if p.grad is None else p.grad
            assert torch.allclose(found, e, atol=2e-5)
    moved = any(bool(e.any()) for e in expected[:-2])
    assert moved == (trunk == "shared") and bool(expected[-2].any())


@pytest.mark.parametrize("trunk", ["shared", "detached"])
def test_the_gradient_of_the_head_is_clipped_apart_from_the_policys(trunk):
    """However much the value loss weighs: what it asks of the head's own weights takes nothing from the policy's."""
    plan = replace(BANDIT, value_trunk=trunk, clip=1e-3)
    norms, rows = [], []
    for weight in (0.5, 5000.0):
        recipe = recipes.ppo(value_weight=weight)
        learner, seen = start(gambler(), recipe, plan), {}
        learner.optimiser.register_step_pre_hook(
            lambda optimiser, args, kwargs, seen=seen: seen.update(
                {
                    n: [p.grad.clone() for p in g["params"] if p.grad is not None]
                    for n, g in enumerate(optimiser.param_groups)
                }
            )
        )
        rows.append(one_step(learner, Bandit(), recipe, plan, 0).metrics)
        own = [g for n in (0, 1) for g in seen[n]], [g for n in (2, 3) for g in seen[n]]
        norms.append([torch.cat([g.flatten() for g in some]).norm().item() for some in own])
    assert norms == [pytest.approx([1e-3, 1e-3], rel=1e-2)] * 2
    assert rows[1]["gradient_norm_value"] == pytest.approx(1e4 * rows[0]["gradient_norm_value"], rel=1e-3)
    assert rows[0]["gradient_norm"] == pytest.approx(
        rows[1]["gradient_norm"], rel=1e-3
    )  # a fresh head is 0: no way down
    none = one_step(start(gambler(), recipes.reinforce(), plan), Bandit(), recipes.reinforce(), plan, 0).metrics
    assert none["gradient_norm_value"] is None and none["gradient_norm"] > 0


@pytest.mark.parametrize("recipe", CRITICS, ids=lambda r: r.name)
def test_a_bandit_is_learned_and_its_value_too(recipe):
    player = gambler()
    plan = replace(BANDIT, steps=25, rate=2e-2)
    learner = start(player, recipe, plan)
    rows = [one_step(learner, Bandit(), recipe, plan, step).metrics for step in range(plan.steps)]
    assert rows[0]["outcome"] < 0.6 and sum(row["outcome"] for row in rows[-5:]) / 5 > 0.95
    last = one_step(learner, Bandit(), recipe, replace(plan, rate=0.0), 99)
    assert last.used.columns[{"ppo": "value", "ppo_turn": "turn_value"}[recipe.name]].values.mean() > 0.7
    assert rows[-1]["loss_value"] < rows[0]["loss_value"]


def test_a_fresh_head_says_zero_and_its_rate_is_its_own():
    learner = start(gambler(), recipes.ppo(), replace(BANDIT, value_rate=10.0))
    row = one_step(learner, Bandit(), recipes.ppo(), replace(BANDIT, value_rate=10.0), 0)
    assert not row.used.columns["value"].values.any()
    assert [group["lr"] for group in learner.optimiser.param_groups] == pytest.approx([1e-2, 1e-2, 1e-1, 1e-1])


@pytest.mark.parametrize("recipe", [recipes.ppo(kl_reward=0.1), recipes.ppo_turn(kl_reward=linear(0.1, 0.0, 5))])
def test_a_kl_in_the_reward_holds_a_reference(recipe):
    player, env = chain()
    learner = start(player, recipe, PLAN)
    assert learner.reference is not None and start(chain()[0], recipes.ppo(), PLAN).reference is None
    row = one_step(learner, env, recipe, PLAN, 0).metrics
    assert row["updates"] == 1


def test_no_head_where_nothing_reads_values_and_none_where_values_are_given():
    assert start(gambler(), recipes.grpo(kl=0), PLAN).head is None

    class Given:
        name, provides = "Given", {"value": "token"}

    reads = Recipe("reads", recipes.ppo().chain, Objective((Term("policy", LogProbLoss(), 1.0, token_mean),)))
    assert start(gambler(), reads, PLAN).head is not None
    assert start(gambler(), reads, PLAN, [Given()]).head is None


# --------------------------------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize(("recipe", "lora"), [(CRITICS[0], Lora(rank=2)), (CRITICS[1], None)], ids=["ppo", "ppo_turn"])
def test_a_resumed_run_with_a_head_is_the_uninterrupted_one(recipe, lora, tmp_path, monkeypatch):
    plan = dataclasses.replace(BANDIT, lora=lora, epochs=2, value_rate=3.0)
    one, two = (made(monkeypatch, tmp_path / name, recipe=recipe, plan=plan) for name in ("one", "two"))
    worker.work(one.path)
    for steps in (3, 100):
        count = iter(range(steps))
        assert worker.work(two.path, lambda count=count: next(count, None) is None) == 0
    assert contents(one) == contents(two)
    stored = load_file(one.checkpoints[-1] / "weights.safetensors")
    assert stored["value_head.linear.weight"].any()
    beside = load_file(two.path / "value_head.safetensors")
    assert torch.equal(beside["linear.weight"], stored["value_head.linear.weight"])
    assert not any("value_head" in path.name for path in one.weights.iterdir())


def test_a_checkpoint_that_forgets_the_head_shows(tmp_path, monkeypatch):
    one, two = (made(monkeypatch, tmp_path / name, recipe=recipes.ppo(), plan=BANDIT) for name in ("one", "two"))
    worker.work(one.path)
    count = iter(range(3))
    worker.work(two.path, lambda: next(count, None) is None)
    real = checkpoint._load

    def forgetful(path, state, learner, evidence):
        real(path, state, learner, evidence)
        with torch.no_grad():
            learner.head.linear.weight.zero_()

    monkeypatch.setattr(checkpoint, "_load", forgetful)
    worker.work(two.path)
    assert contents(one) != contents(two)


def test_the_weights_of_a_run_with_a_head_load_as_a_policy(tmp_path):
    tokenizer = tiny_tokenizer.load()
    player, env = chain()
    train(player, env, recipes.ppo(), replace(PLAN, steps=1), tmp_path, progress=quiet)
    tokenizer.save_pretrained(str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = policies.load(tmp_path, tools=env.tools)
    for name, weight in player.engine.model.state_dict().items():
        assert torch.equal(loaded.engine.model.state_dict()[name], weight)
    assert load_file(tmp_path / "value_head.safetensors")["linear.weight"].any()


def test_a_saved_step_has_its_value_head_beside_its_weights(tmp_path):
    player, env = chain()
    train(player, env, recipes.ppo(), replace(PLAN, steps=2, save_every=1), tmp_path, progress=quiet)
    first, last = (load_file(tmp_path / name / "value_head.safetensors") for name in ("step-1", "step-2"))
    assert first["linear.weight"].any() and not torch.equal(first["linear.weight"], last["linear.weight"])
    whole = load_file(tmp_path / "value_head.safetensors")["linear.weight"]  # mapped, not read
    assert torch.equal(whole, last["linear.weight"])
    train(chain()[0], env, recipes.ppo(), replace(PLAN, steps=1), tmp_path, progress=quiet)
    assert torch.equal(whole, last["linear.weight"]) and not list(tmp_path.glob("*.part"))
    train(chain()[0], env, recipes.grpo(), replace(PLAN, steps=1, save_every=1), tmp_path / "none", progress=quiet)
    assert not list((tmp_path / "none").rglob("value_head.safetensors"))


# --------------------------------------------------------------------------------------- precision and memory


def test_layers_that_are_computed_again_give_the_same_gradient(played):
    learner, rollouts = played
    batch = rollouts.batch()
    everything = torch.ones(batch.count("token"), dtype=torch.bool)
    layer, calls = learner.model.model.layers[0].mlp, []
    layer.register_forward_pre_hook(lambda *_: calls.append(1))

    def gradient(student):
        calls.clear()
        found = []
        for parts in (cut(batch, everything, 10**9), cut_trees(batch, everything, 10**9, 1e9)):
            student.zero_grad()
            logprob, outputs = score(student, parts[0], 1.0)
            (logprob.sum() + outputs["value"].sum()).backward()
            found.append(torch.cat([p.grad.flatten() for p in student.parameters()]))
        return torch.cat(found), len(calls)

    student = Student(learner.model, learner.head)
    expected, once = gradient(student)
    learner.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    found, twice = gradient(student)
    assert (once, twice) == (2, 4)
    assert torch.equal(found, expected)
    assert not any(module.training for module in learner.model.modules())


def test_checkpointing_in_a_plan_changes_no_weight():
    weights = []
    for checkpointing in (False, True):
        player, env = chain(attention_dropout=0.5)
        train(player, env, recipes.ppo(), replace(PLAN, steps=2, checkpointing=checkpointing), progress=quiet)
        weights.append(torch.cat([p.detach().flatten() for p in player.engine.model.parameters()]))
    assert torch.equal(*weights)


@pytest.mark.parametrize("pack", ["rows", "tree"])
def test_autocast_computes_in_bfloat16_and_keeps_weights(pack):
    player, env = chain()
    plan = replace(PLAN, autocast="bfloat16", pack=pack, steps=1)
    learner = start(player, recipes.ppo(), plan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = one_step(learner, env, recipes.ppo(), plan, 0).metrics
    assert row["alarms"] == {} and row["updates"] == 1
    assert 1e-5 < row["ratio_gap"] < 0.1  # of bfloat16, against a sampler in float32
    assert {p.dtype for p in learner.student.parameters()} == {torch.float32}


def test_weights_in_bfloat16_train():
    player, env = chain()
    player = replace(player, engine=Guided(player.engine.model.to(torch.bfloat16), player.engine.tokenizer))
    learner = start(player, recipes.ppo(), replace(PLAN, rate=1e-2))
    row = one_step(learner, env, recipes.ppo(), replace(PLAN, rate=1e-2), 0).metrics
    assert (
        row["updates"] == 1 and learner.head.linear.weight.dtype == torch.float32 and learner.head.linear.weight.any()
    )


def test_adapters_other_than_asked_are_an_error():
    player = gambler()
    start(player, recipes.reinforce(), replace(BANDIT, lora=Lora(rank=2)))
    start(player, recipes.reinforce(), replace(BANDIT, lora=Lora(rank=2)))  # the same once more: those
    with pytest.raises(ValueError, match=r"has adapters already, with \{'rank': 2\}; asked were \{'rank': 4\}"):
        start(player, recipes.reinforce(), replace(BANDIT, lora=Lora(rank=4)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("autocast", "int8"), ("value_trunk", "own"), ("clip", -1.0), ("clip", float("nan")), ("refills", -1)],
        *[("rate", -1e-3), ("rate", float("nan")), ("value_rate", -1.0), ("temperature", float("nan"))],
    ],
)
def test_what_a_plan_refuses(name, value):
    with pytest.raises(ValueError, match=rf"Plan\.{name}"):
        replace(PLAN, **{name: value})


def test_a_head_has_the_width_of_the_hidden_state():
    head = head_for(llama(3))
    assert isinstance(head, ValueHead) and head.linear.weight.shape == (1, 32) and not head.linear.weight.any()


def test_a_rule_with_a_head_on_a_model_in_bfloat16():
    """The head is float32 whatever the model is: gradients put together by a rule go back to the dtype of each."""
    recipe = recipes.ppo()
    policy, value = recipe.objective.terms
    terms = (policy, value, Term("bias", ClippedAway(policy.loss), 0.0))
    recipe = replace(recipe, objective=Objective(terms, DivideByNorm("policy", "bias")))
    player = gambler(llama(3).to(torch.bfloat16))
    _, metrics = train(player, Bandit(), recipe, replace(BANDIT, steps=1))
    assert metrics[0]["updates"] == 1
