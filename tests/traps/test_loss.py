"""Traps of the loss: denominators, ratios, log-probs of two sides that must be one policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from small_worlds import Bandit, chain, gambler, llama
from trap_worlds import batch_of, played, quiet, story

from workbench import recipes
from workbench.credit import Credit
from workbench.losses import (
    EntropyLoss,
    KLLoss,
    LogProbLoss,
    PolicyLoss,
    constant_length,
    importance_ratio,
    token_mean,
    trajectory_mean,
    trajectory_sum,
    unit_sum,
)
from workbench.objective import Objective, Term, clipped
from workbench.policy.base import Settings
from workbench.policy.hf import HFEngine
from workbench.rollout import play
from workbench.train import sft
from workbench.train.learn import accumulate
from workbench.train.lora import Lora, add_lora
from workbench.train.parts import cut, score
from workbench.train.plan import Plan, start
from workbench.train.policy_gradient import one_step
from workbench.trajectory import Example, RecordError, Span

PLAN = Plan(steps=2, groups=2, size=4, rate=3e-3, max_new_tokens=8, seed=5)

# ------------------------------------------------------------------------------------------------- denominators


def test_aggregations_on_one_batch() -> None:
    """Two episodes, of two turns (1 and 3 tokens) and of one (2): what each token weighs, by hand."""
    batch = batch_of(story("a", [[-1.0], [-1.0] * 3]), story("b", [[-1.0] * 2]))
    every, most = torch.ones(6, dtype=torch.bool), torch.tensor([True, True, False, False, True, True])
    table = {
        token_mean: ([1 / 6] * 6, [1 / 4, 1 / 4, 0, 0, 1 / 4, 1 / 4]),
        trajectory_mean: ([1 / 8] * 4 + [1 / 4] * 2, [1 / 4, 1 / 4, 0, 0, 1 / 4, 1 / 4]),
        trajectory_sum: ([1 / 2] * 6, [1 / 2, 1 / 2, 0, 0, 1 / 2, 1 / 2]),
        unit_sum("turn"): ([1 / 3] * 6, [1 / 3, 1 / 3, 0, 0, 1 / 3, 1 / 3]),
        constant_length(10): ([1 / 10] * 6, [1 / 10, 1 / 10, 0, 0, 1 / 10, 1 / 10]),
    }
    for aggregate, (whole, part) in table.items():
        assert aggregate(batch, every).tolist() == pytest.approx(whole), aggregate
        assert aggregate(batch, most).tolist() == pytest.approx(part), aggregate


OBJECTIVES = {
    "token mean": clipped(),
    "trajectory mean": clipped(aggregate=trajectory_mean),
    "with entropy": clipped(entropy=0.1),
    "sequence ratio": clipped(ratio="sequence"),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_denominator_of_the_micro_batch(name: str) -> None:
    """However a batch is cut, loss and gradient are those of the whole."""
    policy, env = chain()
    batch = play(policy, env, env.tasks("train", 2, 0), size=4, seed=3, progress=quiet).batch()
    model, objective, credits = policy.engine.model, OBJECTIVES[name], recipes.grpo(kl=0).credits(batch)
    weights, found = objective.weights(batch, credits["credit"]), []
    for micro_tokens in (10**9, 150, 1):
        parts = cut(batch, credits["credit"].known, micro_tokens)
        loss = accumulate(model, objective, batch, credits, weights, parts, 1.0).loss
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        model.zero_grad()
        found.append((len(parts), loss, gradient))
    assert found[0][0] == 1 < found[1][0] < found[2][0] and found[0][2].abs().max() > 1e-4
    for _, loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][1], abs=1e-6)
        assert (gradient - found[0][2]).abs().max() < 1e-6 * max(1.0, found[0][2].abs().max())


def test_denominator_of_the_micro_batch_in_imitation() -> None:
    """The same of a warm start, whose parts have different numbers of learned tokens."""
    examples = [Example((1, 2, 3), (0, 1, 1)), Example((4, 5, 6, 7, 8), (0, 0, 0, 0, 1)), Example((2, 2), (0, 1))]
    losses, gradients = [], []
    for micro_batch in (3, 1):
        model = llama(9)
        losses.append(sft.backward(model, examples, micro_batch)[0])
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert torch.allclose(*gradients, atol=1e-6)


def test_numerator_and_denominator_have_one_mask() -> None:
    """A loss of 1 on each token that counts is 1 in all, whatever was dropped; of a constant divisor, their share."""
    batch = batch_of(
        story("a", [[-1.0], [-1.0] * 3], skip=[1]), story("b", [[-1.0] * 2]), story("c", [[-1.0]], skip=[0])
    )
    known = torch.tensor([True, False, False, False, True, True, False])
    credit = Credit(-torch.ones(7, dtype=torch.float64), "token", known)
    for aggregate, expected in ((token_mean, 1.0), (trajectory_mean, 1.0), (trajectory_sum, 1.5), (unit_sum(), 1.5)):
        for over in ("credited", "trainable"):
            objective = Objective((Term("t", LogProbLoss(), 1.0, aggregate, over),))  # type: ignore[arg-type]
            result = objective(torch.ones(7), batch, credit)
            assert result.loss.item() == pytest.approx(expected), (aggregate, over)
    assert Objective((Term("t", LogProbLoss(), 1.0, constant_length(10)),))(torch.ones(7), batch, credit).loss == (
        pytest.approx(0.3)
    )


# ------------------------------------------------------------------------------------- two sides, one policy


@pytest.mark.parametrize("pack", ["rows", "tree"])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_sampler_and_learner_have_one_temperature(temperature: float, pack: Any) -> None:
    """Before the first update the ratio is 1 and the KL to the reference 0, at any temperature."""
    policy, env = chain()
    plan = replace(PLAN, temperature=temperature, pack=pack)
    row = one_step(start(policy, recipes.grpo(), plan), env, recipes.grpo(), plan, 0).metrics
    assert row["ratio_gap"] < 1e-3 and row["loss_kl"] == pytest.approx(0.0, abs=1e-6) and "ratio" not in row["alarms"]
    batch = played(pulls=2, policy=gambler(), settings=Settings(temperature=temperature))[1].batch()
    (part,) = cut(batch, torch.ones(batch.count("token"), dtype=torch.bool), 10**6)
    found = score(gambler().engine.model, part, temperature)[0]  # type: ignore[attr-defined]
    assert torch.allclose(found, batch["logprob_old"].values, atol=1e-5)


@pytest.mark.parametrize("lie", [{"temperature": 2.0}, {"top_p": 0.5}])
def test_sampler_that_is_not_the_learner_is_said(lie: dict[str, float]) -> None:
    """Log-probs of another temperature or nucleus show in the ratio of the first look, and raise an alarm."""

    class Other(HFEngine):
        def sample(self, prompts: Any, settings: Settings, seeds: Any) -> Any:
            return super().sample(prompts, replace(settings, **lie), seeds)

    policy = replace(gambler(), engine=Other(llama(3)))
    plan = replace(PLAN, max_new_tokens=1, size=8)
    row = one_step(start(policy, recipes.grpo(kl=0), plan), Bandit(), recipes.grpo(kl=0), plan, 0).metrics
    assert row["ratio_gap"] > 0.05
    assert "same weights, temperature and tokens" in row["alarms"]["ratio"]


@pytest.mark.parametrize("through", ["token", "unit"])
def test_sequence_ratio_does_not_grow_with_length(through: Any) -> None:
    """Every token 10 % more likely: the ratio of an episode is 1.1, of 2 tokens or of 200."""
    for count in (2, 200):
        gap = torch.full((count,), 1.1).log()
        ratio = importance_ratio(gap, torch.zeros(count), torch.zeros(count, dtype=torch.int64), through)
        assert torch.allclose(ratio, torch.full((count,), 1.1), atol=1e-5)
    loss = recipes.gspo().objective.terms[0].loss
    assert isinstance(loss, PolicyLoss) and loss.ratio == "sequence"


def test_placeholder_log_prob() -> None:
    """Nothing but a sampled token has a log-prob; an unknown one is no 0 in any ratio, KL or mean."""
    with pytest.raises(RecordError, match="only sampled tokens have log-probs"):
        Span((1, 2), "observation", 0, logprobs=(0.0, 0.0))
    batch = batch_of(story("a", [[-1.0, None], [-2.5]]))
    assert batch["logprob_old"].known.tolist() == [True, False, True]
    credit = recipes.reinforce().credit(batch)
    with pytest.raises(ValueError, match="logprob_old: unknown for 1 credited tokens, the first is token 1"):
        clipped()(torch.full((3,), -2.0), batch, credit)
    partly = Credit(torch.ones(3, dtype=torch.float64), "token", torch.tensor([True, False, True]))
    result = clipped(ratio="sequence", aggregate=trajectory_sum)(torch.full((3,), -2.0), batch, partly)
    expected = -2 * torch.tensor(-0.25).exp().item()  # mean of -1 and 0.5: the unknown one is in no ratio
    assert result.loss.item() == pytest.approx(expected)
    referred = batch.with_column("logprob_ref", "token", [-2.0, None, -2.0])
    kl = Objective((Term("kl", KLLoss("k1")),))
    assert kl(torch.full((3,), -1.0), referred, partly).loss.item() == pytest.approx(1.0)
    scored = referred.with_column("logprob_old", "token", [-1.0, -1.0, -2.5])
    with pytest.raises(ValueError, match="logprob_ref: unknown"):
        kl(torch.full((3,), -1.0), scored, credit)
    entropy = Objective((Term("entropy", EntropyLoss()),))
    said = {"entropy": torch.tensor([1.0, 50.0, 1.0])}
    assert entropy(torch.full((3,), -1.0), batch, partly, outputs=said).loss.item() == pytest.approx(-1.0)


@pytest.mark.parametrize("how", [{}, {"lora": Lora(rank=2)}, {"checkpointing": True}], ids=repr)
def test_dropout_is_off(how: dict[str, Any]) -> None:
    """Whatever mode the model came in, sampler and learner are one function: at every step the ratio begins at 1."""
    policy, env = chain(attention_dropout=0.5)
    if "lora" in how:  # as supervised training leaves them
        policy.engine.model = add_lora(policy.engine.model, replace(how["lora"], dropout=0.5))
    policy.engine.model.train()
    plan = replace(PLAN, rate=0.05, **how)
    learner = start(policy, recipes.rloo(), plan)
    rows = [one_step(learner, env, recipes.rloo(), plan, step).metrics for step in range(2)]
    assert max(row["ratio_gap"] for row in rows) < 1e-3


def test_tokens_of_old_weights() -> None:
    """Each turn says which weights sampled it; new weights forget what was computed with the old ones."""
    policy, recipe = gambler(), recipes.reinforce()
    plan = replace(PLAN, max_new_tokens=1, rate=0.05)
    learner = start(policy, recipe, plan)
    done = [one_step(learner, Bandit(pulls=2), recipe, plan, step) for step in range(3)]
    versions = [{turn.policy_version for t in d.used for turn in t.turns} for d in done]
    assert versions == [{(0, 0)}, {(1, 1)}, {(2, 2)}]
    assert max(d.metrics["ratio_gap"] for d in done) < 1e-3
    engine = HFEngine(llama(5))
    engine.score([[1, 2, 3, 4]], [(3, 4)])
    other = {name: w + 0.5 * torch.sign(w) for name, w in llama(5).state_dict().items()}
    engine.load(other)
    fresh = HFEngine(llama(5))
    fresh.model.load_state_dict(other)
    assert torch.allclose(*(e.score([[1, 2, 3, 4]], [(3, 4)])[0].logprobs for e in (engine, fresh)), atol=1e-5)
