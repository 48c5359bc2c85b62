"""Value heads fitted for notebooks: the least-squares solution, what the head then says, and who moves."""

from __future__ import annotations

import pytest
import torch

from workbench import envs, policy, recipes
from workbench.policy import Settings
from workbench.rollout import play
from workbench.teach import critics
from workbench.teach import method_page as page
from workbench.train.plan import Plan, start
from workbench.train.policy_gradient import learn
from workbench.train.values import with_values


@pytest.fixture(scope="module")
def rollouts():
    env = envs.load("chain", hops=1)
    player = policy.load("tiny@chain-misread")
    tasks = env.tasks("train", 6, seed=1)
    return play(player, env, tasks, size=2, settings=Settings(max_new_tokens=16), seed=1, run="fit")


def fresh(recipe, plan=None):
    return start(policy.load("tiny@chain-misread"), recipe, plan or Plan())


def test_least_squares_is_torchs_and_the_ridge_leaves_the_level_alone():
    draw = torch.Generator().manual_seed(0)
    x, y = torch.rand(30, 3, generator=draw).double(), torch.rand(30, generator=draw).double()
    w, b = critics.least_squares(x, y, 0.0)
    known = torch.linalg.lstsq(torch.cat([x, torch.ones(30, 1).double()], 1), y[:, None]).solution[:, 0]
    assert torch.allclose(torch.cat([w, torch.tensor([b]).double()]), known)
    w, b = critics.least_squares(x, y, 1e9)
    assert w.abs().max() < 1e-6 and b == pytest.approx(y.mean().item(), abs=1e-6)


@pytest.mark.parametrize("at", ["token", "turn"])
def test_a_fitted_head_says_what_it_was_fitted_to(at, rollouts):
    """The head's own values are those of the least-squares solution at the units it was fitted at."""
    recipe = recipes.bilevel_gae()
    learner = critics.fit(fresh(recipe), rollouts, at, ridge=0.5)
    batch = with_values(rollouts, learner, recipe, Plan()).batch()
    seen = critics.hidden(learner, batch)
    said = learner.head.linear(seen.float())[:, 0]
    assert torch.allclose(batch["value"].values.float(), said, atol=1e-4)
    column = batch["turn_value" if at == "turn" else "value"]
    came = batch.down(batch["outcome"].values.double(), "trajectory", at)
    error = came - column.values
    assert error.mean().item() == pytest.approx(0.0, abs=1e-4)  # the level is free, so nothing is left of it
    assert critics.explained(column.values, came) > 0.3


def test_a_learner_without_a_head_is_refused(rollouts):
    with pytest.raises(ValueError, match="no head"):
        critics.fit(fresh(recipes.grpo(kl=0.0)), rollouts)
    with pytest.raises(ValueError, match="'rollout'"):
        critics.fit(fresh(recipes.ppo()), rollouts, "rollout")


@pytest.mark.parametrize(("trunk", "moves"), [("shared", True), ("detached", False)])
def test_the_value_loss_alone_moves_a_policy_that_shares_its_layers(trunk, moves, rollouts):
    only = critics.values_only(recipes.ppo())
    assert [term.name for term in only.objective.terms] == ["value"]
    plan = Plan(value_trunk=trunk, rate=1e-3, epochs=3)
    learner = fresh(only, plan)
    batch = with_values(rollouts, learner, only, plan).batch()
    assert critics.drift(learner, batch, plan) < 1e-4
    learn(learner, only, plan, batch, only.credits(batch))
    assert (critics.drift(learner, batch, plan) > 1e-3) == moves


def test_quick_facts_say_who_makes_values():
    said = page.facts(recipes.bilevel_gae(), recipes.mt_grpo(reward="mine")).data
    assert "a value head, trained beside the policy: turn_value, value" in said
    assert "the world or you: mine" in said and "the world or you: value" not in said
