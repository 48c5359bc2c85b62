"""A policy loss for samplers that are not the learner: the truncated ratio of the two as a weight."""

from __future__ import annotations

import math

import pytest
import torch

from workbench.batch import Batch
from workbench.credit import Credit
from workbench.losses import TruncatedPolicyLoss
from workbench.objective import Objective, Term, clipped, truncated

OLD = [-1.0, -1.0, -3.0, -0.5]
NEW = [-1.0, -1.2, -1.0, -2.5]
CREDIT = [1.0, -2.0, 0.5, -1.0]


def batch() -> Batch:
    one = Batch.of_maps([0], ["a"], [0, 0, 0, 0])
    return one.with_column("logprob_old", "token", torch.tensor(OLD, dtype=torch.float64))


def credit() -> Credit:
    return Credit(torch.tensor(CREDIT, dtype=torch.float64), "token", torch.ones(4, dtype=torch.bool))


def test_weight_and_gradient_are_those_of_the_equation() -> None:
    """d loss / d l_t = -min(p / q, cap) A_t / T: the clip of a first update takes nothing away."""
    new = torch.tensor(NEW, dtype=torch.float64, requires_grad=True)
    result = truncated(clipped(0.2), cap=2.0)(new, batch(), credit())
    result.loss.backward()
    weights = [min(math.exp(n - o), 2.0) for n, o in zip(NEW, OLD, strict=True)]
    assert new.grad.tolist() == pytest.approx([-w * a / 4 for w, a in zip(weights, CREDIT, strict=True)])
    assert result.clip_share == 0.0 and weights[2] == 2.0 < math.exp(2.0)


def test_without_a_difference_nothing_changes() -> None:
    same = torch.tensor(OLD, dtype=torch.float64)
    one, other = (objective(same, batch(), credit()).loss for objective in (clipped(0.2), truncated(clipped(0.2))))
    assert torch.equal(one, other)


def test_other_terms_stay_and_an_objective_without_policy_is_refused() -> None:
    found = truncated(clipped(0.1, 0.3, kl=0.01, entropy=0.02), cap=5.0)
    assert [term.name for term in found.terms] == ["policy", "kl", "entropy"]
    assert found.terms[0].loss == TruncatedPolicyLoss(0.1, 0.3, cap=5.0)
    with pytest.raises(ValueError, match="a policy term"):
        truncated(Objective((Term("kl", clipped(kl=0.1).terms[1].loss),)))


def test_several_updates_a_batch_are_refused() -> None:
    from dataclasses import replace

    from workbench import policy, recipes
    from workbench.envs import load
    from workbench.train.policy_gradient import Plan, train

    recipe = replace(recipes.grpo(), objective=truncated(clipped(0.2)))
    plan = Plan(steps=1, groups=1, size=2, epochs=2, max_new_tokens=4)
    with pytest.raises(ValueError, match="one update a batch, got epochs=2"):
        train(policy.load("tiny"), load("chain"), recipe, plan, progress=lambda *_: None)
