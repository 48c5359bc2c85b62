"""A training step on candidates: VPR's second variant, from the state groups to the weights."""

from __future__ import annotations

import torch

from workbench import policy, recipes
from workbench.envs.tictactoe import TicTacToe
from workbench.train.candidates import Candidates
from workbench.train.policy_gradient import Plan, one_step, start


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
