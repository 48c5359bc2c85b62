"""A training step on candidates: VPR's second variant, from the state groups to the weights."""

from __future__ import annotations

import pytest
import torch

from workbench import policy, recipes
from workbench.envs.tictactoe import TicTacToe
from workbench.evidence import MissingEvidence, Unreliable
from workbench.rollouts import Rollouts
from workbench.search.candidates import equal_share
from workbench.train.candidates import Candidates
from workbench.train.policy_gradient import Plan, one_step, start, train


def test_a_step_learns_from_candidates_and_is_the_same_again():
    env, plan = TicTacToe(), Plan(groups=3, size=4, max_new_tokens=8, rate=1e-3)
    recipe = recipes.vpr_states(oracle="oracle_value", kl=0.0)
    made = []
    for _ in range(2):
        player = policy.load("tiny@tictactoe", tools=env.tools)
        before = player.engine.model.lm_head.weight.detach().clone()
        learner = start(player, recipe, plan, ())
        done = one_step(learner, env, recipe, plan, 0, player=Candidates(4))
        after = player.engine.model.lm_head.weight.detach().clone()
        assert not torch.equal(before, after) and done.metrics["updates"] == 1
        made.append((after, done))
    assert torch.equal(made[0][0], made[1][0])
    played = made[0][1].played
    assert len({t.id for t in played if t.parent is None}) == 12 and any(t.parent for t in played)
    credit = made[0][1].credits["credit"]
    assert 0 < int(credit.known.sum()) < len(credit.known)  # states whose candidates are all alike are left out


def test_a_round_of_equal_candidates_is_not_trained_on():
    env, plan = TicTacToe(), Plan(groups=2, size=4, max_new_tokens=8)
    recipe = recipes.vpr_states(oracle="oracle_value", kl=0.0)
    player = policy.load("tiny@tictactoe", tools=env.tools)
    before = player.engine.model.lm_head.weight.detach().clone()
    done = one_step(start(player, recipe, plan, ()), env, recipe, plan, 0, player=Candidates(4, skip_at=0.0))
    assert done.metrics["updates"] == 0 and torch.equal(before, player.engine.model.lm_head.weight)
    assert "alike in" in done.played[0].turns[0].why_not
    by_state = {}
    for t in done.played:
        by_state.setdefault((t.group, t.turns[0].state_key), set()).add(t.turns[0].rewards["oracle_value"])
    share = sum(len(values) == 1 for values in by_state.values()) / len(by_state)
    assert equal_share(done.played) == share and 0 < share < 1 and equal_share(Rollouts(())) is None


def test_training_takes_an_unreliable_oracle_in_place_of_the_true_one():
    env, plan = TicTacToe(), Plan(steps=1, groups=3, size=4, max_new_tokens=8)
    recipe = recipes.vpr_turns(oracle="oracle_verdict", kl=0.0)
    norms = []
    for reliability in (1.0, 0.0):
        player = policy.load("tiny@tictactoe", tools=env.tools)
        _, metrics = train(player, env, recipe, plan, evidence=[Unreliable(reliability)])
        norms.append(metrics[0]["gradient_norm"])
    assert norms[0] > 0 and norms[0] == pytest.approx(norms[1], rel=1e-3)  # all credit is turned round
    with pytest.raises(MissingEvidence, match="oracle_verdict"):
        train(policy.load("tiny@tictactoe", tools=env.tools), env, recipe, plan)
