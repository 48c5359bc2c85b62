"""Trees of tokens: the numbers and the gradient of sequences alone, for less."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_worlds import chain

from workbench import recipes
from workbench.losses import PolicyLoss, trajectory_mean
from workbench.objective import Objective, Term, clipped
from workbench.recipes import Recipe
from workbench.rollout import play
from workbench.train.learn import accumulate
from workbench.train.parts import cut, score
from workbench.train.plan import Plan
from workbench.train.trees import added, breadth, cut_trees, parts_of


@pytest.fixture(scope="module")
def batch():
    """A batch of the chain world whose outcomes differ, with the model that sampled it."""
    policy, env = chain()
    rollouts = play(policy, env, env.tasks("train", 3, 0), size=4, seed=3)
    return policy.engine.model, rollouts.batch(step=2)


def everything(batch):
    return torch.ones(batch.count("token"), dtype=torch.bool)


def gradient(model, recipe, batch, parts):
    credits = recipe.credits(batch)
    weights = recipe.objective.weights(batch, credits["credit"])
    model.zero_grad()
    passed = accumulate(model, recipe.objective, batch, credits, weights, parts, 1.0)
    found = torch.cat([p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    return found, passed


def test_what_is_shared_stands_once(batch):
    _, data = batch
    counted = everything(data)
    rows, trees = cut(data, counted, 10**9), cut_trees(data, counted, 10**9, 1e9)
    (tree,) = trees
    distinct = {tuple(s[: n + 1].tolist()) for s in data.sequences for n in range(len(s))}
    assert 0 <= len(distinct) - tree.ids.numel() <= len(data.sequences)  # last tokens are predicted, never read
    assert tree.ids.numel() < 0.7 * sum(part.real for part in rows)
    assert torch.equal(tree.targets, torch.tensor([int(data.sequences[s][p]) for s, p in _places(data)]))


def _places(data):
    return zip(data.token_sequence.tolist(), data.token_position.tolist(), strict=True)


@pytest.mark.parametrize("micro_tokens", [1, 150, 10**9])
def test_log_probs_are_those_of_rows(batch, micro_tokens):
    model, data = batch
    parts = cut_trees(data, everything(data), micro_tokens, breadth(model))
    assert len(parts) > 1 or micro_tokens == 10**9
    tokens = torch.cat([part.tokens for part in parts])
    assert sorted(tokens.tolist()) == list(range(data.count("token")))
    with torch.no_grad():
        found = torch.cat([score(model, part, 1.0, entropy=True)[0] for part in parts])
        entropy = torch.cat([score(model, part, 1.0, entropy=True)[1]["entropy"] for part in parts])
        (whole,) = cut(data, everything(data), 10**9)
        expected, more = score(model, whole, 1.0, entropy=True)
    assert torch.allclose(found, expected[tokens], atol=1e-5)
    assert torch.allclose(entropy, more["entropy"][tokens], atol=1e-5)


OBJECTIVES = {
    "tokens": clipped(),
    "sequence ratio": clipped(ratio="sequence", aggregate=trajectory_mean),
    "turn ratio": Objective((Term("policy", PolicyLoss(0.2, 0.2, "turn", through="unit")),)),
    "entropy": clipped(entropy=0.1),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_gradient_is_that_of_padded_rows_however_the_batch_is_cut(batch, name):
    model, data = batch
    recipe = Recipe("like", recipes.grpo(kl=0).chain, OBJECTIVES[name])
    known = recipe.credits(data)["credit"].known
    expected, one = gradient(model, recipe, data, cut(data, known, 10**9))
    assert expected.abs().max() > 1e-4
    for micro_tokens in (1, 150, 10**9):
        found, several = gradient(model, recipe, data, cut_trees(data, known, micro_tokens, 500.0))
        assert (found - expected).abs().max() < 2e-6 * max(1.0, float(expected.abs().max()))
        assert several.loss == pytest.approx(one.loss, abs=1e-6)


def test_trajectories_without_a_counted_token_are_left_out(batch):
    _, data = batch
    counted = data.up("token", "trajectory") == 2
    parts = cut_trees(data, counted, 10**9, 500.0)
    assert len(parts) == 1 and set(data.up("token", "trajectory")[parts[0].tokens].tolist()) == {2}


def test_how_many_tokens_join():
    assert added(((1, 2, 3),), (1, 2, 3)) == 0
    assert added(((1, 2), (1, 2, 3)), ()) == 3


def test_a_model_that_takes_no_tree_gets_rows(batch):
    model, data = batch
    before = model.config._attn_implementation
    try:
        model.config._attn_implementation = "flash_attention_2"
        assert all(part.end is None for part in parts_of(model, data, everything(data), 2048))
        with pytest.raises(ValueError, match="flash_attention_2"):
            parts_of(model, data, everything(data), 2048, "tree")
    finally:
        model.config._attn_implementation = before
    assert all(part.end is not None for part in parts_of(model, data, everything(data), 2048))
    assert all(part.end is None for part in parts_of(model, data, everything(data), 2048, "rows"))


def test_a_way_to_pack_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"Plan\.pack"):
        replace(Plan(), pack="bins")  # type: ignore[arg-type]
