"""Which turns moved the weights: parts that add up, norms by hand, the outcome's direction."""

from __future__ import annotations

import math

import pytest
import torch
from small_worlds import chain

from workbench import recipes
from workbench.credit import chain as chain_of
from workbench.credit import read, spread
from workbench.losses import EntropyLoss, PolicyLoss
from workbench.objective import DivideByNorm, Objective, Term, clipped
from workbench.recipes import Recipe
from workbench.rollout import play
from workbench.train.parts import cut, score
from workbench.train.turn_gradients import turn_gradients


@pytest.fixture(scope="module")
def batch():
    policy, env = chain()
    rollouts = play(policy, env, env.tasks("train", 3, 0), size=4, seed=3)
    return policy.engine.model, rollouts.batch()


def gradient_by_hand(model, data, recipe, tokens):
    """The gradient of minus the mean over trajectories of the sum of A log p, over some tokens alone."""
    (part,) = cut(data, torch.ones(data.count("token"), dtype=torch.bool), 10**9)
    logprob = score(model, part, 1.0)[0]
    credit = recipe.credit(data).values[part.tokens].float()
    loss = -(credit * logprob)[torch.isin(part.tokens, tokens)].sum() / data.count("trajectory")
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


@pytest.mark.parametrize("micro_tokens", [1, 10**9])
def test_norms_and_cosines_by_hand(batch, micro_tokens):
    model, data = batch
    recipe = recipes.rloo()
    place = data.turn_index[data.token_turn]
    whole = gradient_by_hand(model, data, recipe, torch.arange(data.count("token")))
    rows = turn_gradients(model, recipe, data, micro_tokens=micro_tokens)
    assert [row.turn for row in rows] == [0, 1, 2]
    for row in rows:
        tokens = torch.nonzero(place == row.turn).flatten()
        own = gradient_by_hand(model, data, recipe, tokens)
        assert row.tokens == len(tokens) and row.norm == pytest.approx(float(own.norm()), rel=1e-4)
        assert row.cosine == pytest.approx(float(own @ whole / own.norm() / whole.norm()), abs=1e-4)
        assert row.cosine_outcome == pytest.approx(row.cosine, abs=1e-6)  # rloo is the outcome's own recipe
        assert row.share == pytest.approx(float(own @ whole / (whole @ whole)), abs=1e-4)


@pytest.mark.parametrize("by", ["index", "turn"])
@pytest.mark.parametrize("objective", [clipped(), clipped(entropy=0.1), clipped(ratio="turn")])
def test_turns_add_up_to_the_batch(batch, by, objective):
    model, data = batch
    recipe = Recipe("any", recipes.grpo(kl=0).chain, objective)
    rows = turn_gradients(model, recipe, data, by=by, micro_tokens=300)
    assert sum(row.share for row in rows) == pytest.approx(1.0, abs=1e-4)
    assert len(rows) == (3 if by == "index" else data.count("turn"))
    assert sum(row.tokens for row in rows) == data.count("token")
    assert all(p.grad is None for p in model.parameters())


def test_a_turn_with_all_the_credit_has_all_the_gradient(batch):
    model, data = batch
    data = data.with_column("c", "turn", (data.turn_index == 1).double())
    recipe = Recipe("second", chain_of(read("c"), spread("token")), recipes.rloo().objective)
    first, second, third = turn_gradients(model, recipe, data)
    assert first.norm == third.norm == 0.0 and second.share == pytest.approx(1.0)
    assert first.cosine is None and first.cosine_outcome is None and first.share == 0.0
    assert abs(second.cosine_outcome) < 0.99  # it does not go where the outcome points


def test_nothing_to_learn_has_no_direction(batch):
    model, data = batch
    same = data.with_column("outcome", "trajectory", [1.0] * data.count("trajectory"))
    rows = turn_gradients(model, recipes.rloo(), same)
    assert {(row.norm, row.share, row.cosine, row.cosine_outcome) for row in rows} == {(0.0, None, None, None)}


def test_what_does_not_add_up_is_refused(batch):
    model, data = batch
    terms = (Term("policy", PolicyLoss(0.2, 0.2)), Term("entropy", EntropyLoss()))
    ruled = Recipe("ruled", recipes.rloo().chain, Objective(terms, DivideByNorm("policy", "entropy")))
    with pytest.raises(ValueError, match="ruled: its gradient rule takes norms of the whole batch"):
        turn_gradients(model, ruled, data)
    with pytest.raises(ValueError, match="ppo: its loss asks for a value head"):
        turn_gradients(model, recipes.ppo(), data)


def test_the_cheap_share_is_the_exact_one_of_independent_logits():
    """Where each token has logits of its own, gradients of turns are orthogonal and nothing cancels between turns."""
    from workbench.train.glance import glance
    from workbench.train.seen import pull_by_turn

    z = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ids, place, credit = torch.arange(6) % 5, torch.arange(6), torch.linspace(-1, 2, 6)
    loss = -(credit * z.log_softmax(-1)[torch.arange(6), ids]).sum()
    exact = torch.autograd.grad(loss, z)[0].norm(dim=-1)
    found = pull_by_turn(credit.abs() * glance(z, ids).slope, place)
    assert found == pytest.approx((exact / exact.sum()).tolist(), abs=1e-6) and math.isclose(sum(found), 1.0)
