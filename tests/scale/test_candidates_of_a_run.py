"""The driver of a scaled run plays the candidates its recipe asks for, and finds them again after a death."""

from __future__ import annotations

from types import SimpleNamespace

from workbench import policy, recipes
from workbench.envs.tictactoe import TicTacToe
from workbench.runs import Scale
from workbench.scale.crew import ScaledCrew
from workbench.train.plan import Plan


def test_a_round_of_candidates_is_played_once_and_kept(tmp_path):
    world, plan = TicTacToe(), Plan(groups=1, size=4, max_new_tokens=8)
    player = policy.load("tiny@tictactoe", tools=world.tools)
    crew = ScaledCrew.__new__(ScaledCrew)
    recipe = recipes.vpr_states(oracle="oracle_value", kl=0.0)
    crew.job, crew.scale, crew.ahead = SimpleNamespace(path=tmp_path, recipe=recipe), Scale(), None
    played = crew.round_of(player, world, plan, 0, 0, 1, set())
    assert {len(t.turns) for t in played} == {1} and any(t.parent for t in played)
    again = crew.round_of(player, None, plan, 0, 0, 1, set())  # no world: nothing is played
    assert [t.id for t in again] == [t.id for t in played] and again[-1].turns == played[-1].turns
    assert recipe.credit(again.batch()).tolist() == recipe.credit(played.batch()).tolist()
