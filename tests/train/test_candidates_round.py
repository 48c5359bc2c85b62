"""Training on candidates: VPR's second variant, from the state groups to the weights, by `train` and by `launch`."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from workbench import policy, recipes, store
from workbench.envs.tictactoe import TicTacToe
from workbench.evidence import MissingEvidence, Unreliable
from workbench.recipes.candidates import Candidates
from workbench.recipes.judged import verdict
from workbench.rollouts import Rollouts
from workbench.search.candidates import equal_share
from workbench.train import launch, worker
from workbench.train.policy_gradient import Plan, one_step, start, train
from workbench.train.rounds import player_of, round_of

RECIPE = recipes.vpr_states(oracle="oracle_value", kl=0.0)
PLAN = Plan(steps=2, groups=2, size=4, max_new_tokens=8, rate=1e-3)


def player():
    return policy.load("tiny@tictactoe", tools=TicTacToe().tools)


def head_of(one):
    return one.engine.model.lm_head.weight.detach().clone()


def numbers(rows):
    return [{k: v for k, v in row.items() if not k.startswith(("seconds", "tokens_per_second"))} for row in rows]


def test_a_training_plays_the_candidates_its_recipe_asks_for_and_is_the_same_again():
    one, other = player(), player()
    before = head_of(one)
    _, rows = train(one, TicTacToe(), RECIPE, PLAN)
    assert not torch.equal(before, head_of(one)) and [row["updates"] for row in rows] == [1, 1]
    assert {row["turns"] for row in rows} == {1.0}  # a candidate is one turn
    _, again = train(other, TicTacToe(), RECIPE, PLAN)
    assert numbers(rows) == numbers(again) and torch.equal(head_of(one), head_of(other))
    _, whole = train(player(), TicTacToe(), recipes.vpr_states(oracle="oracle_value", kl=0.0, candidates=0), PLAN)
    assert min(row["turns"] for row in whole) > 1.0  # episodes, as other recipes have them


def test_a_step_learns_from_candidates_that_differ():
    done = one_step(start(player(), RECIPE, PLAN, ()), TicTacToe(), RECIPE, replace(PLAN, groups=3), 0)
    roots = [t for t in done.played if t.parent is None]
    assert len({t.id for t in roots}) == 12 and any(t.parent for t in done.played)
    credit = done.credits["credit"]
    assert 0 < int(credit.known.sum()) < len(credit.known)  # states whose candidates are all alike are left out


def test_a_launched_run_plays_the_same_candidates(tmp_path, monkeypatch):
    """What the process of a run reads of its recipe; here this process works on it."""
    monkeypatch.setattr(sys.modules["workbench.train.launch"], "spawn", lambda run: run)
    plan = replace(PLAN, steps=1)
    _, rows = train(player(), TicTacToe(), RECIPE, plan)
    run = launch(RECIPE, TicTacToe(), player(), plan, tmp_path / "run", keep_every=1)
    assert worker.work(run.path) == 0
    assert numbers(run.metrics()) == numbers(rows)
    kept = store.read(run.trajectories[0])
    assert {len(t.turns) for t in kept} == {1} and any(t.parent for t in kept)
    assert run.config["recipe"]["parameters"]["candidates"]["parameters"]["oracle"] == "oracle_value"


def test_a_round_of_equal_candidates_is_not_trained_on():
    recipe = recipes.vpr_states(oracle="oracle_value", kl=0.0, skip_at=0.0)
    one = player()
    before = head_of(one)
    done = one_step(start(one, recipe, PLAN, ()), TicTacToe(), recipe, PLAN, 0)
    assert done.metrics["updates"] == 0 and torch.equal(before, head_of(one))
    assert "alike in" in done.played[0].turns[0].why_not
    by_state = {}
    for t in done.played:
        by_state.setdefault((t.group, t.turns[0].state_key), set()).add(t.turns[0].rewards["oracle_value"])
    share = sum(len(values) == 1 for values in by_state.values()) / len(by_state)
    assert equal_share(done.played) == share and 0 < share < 1 and equal_share(Rollouts(())) is None


class Onward(TicTacToe):
    """A world that cannot go back."""

    snapshot = None


def test_a_world_without_an_oracle_or_a_way_back_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"no turn has a number 'verdict'.*records .*'oracle_value'.*oracle="):
        train(player(), TicTacToe(), recipes.vpr_states(oracle="verdict", kl=0.0), PLAN)
    for begin in (
        lambda: train(player(), Onward(), RECIPE, PLAN),
        lambda: launch(RECIPE, Onward(), player(), PLAN, tmp_path / "run"),
    ):
        with pytest.raises(TypeError, match=r"tries 4 candidates .* Onward has no snapshot.*candidates=0"):
            begin()
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="count: expected at least 2"):
        Candidates(1)
    with pytest.raises(ValueError, match="ties"):
        Candidates(ties="last")


def test_any_recipe_may_ask_for_candidates_and_says_so():
    asked = replace(recipes.vpr_turns(oracle="oracle_value", kl=0.0), candidates=Candidates(3))
    assert player_of(asked).func.__name__ == "round_of_candidates" and player_of(recipes.grpo()) is round_of
    assert "rounds: Candidates(count=3" in repr(asked) and "rounds" not in repr(recipes.grpo())
    assert asked != replace(asked, candidates=None) and len({asked, replace(asked, candidates=None)}) == 2


def test_a_bonus_of_the_outcome_is_for_candidates_that_ended_the_game():
    done = one_step(start(player(), RECIPE, PLAN, ()), TicTacToe(), RECIPE, PLAN, 0)
    batch = done.played.batch()
    plain, paid = (verdict("oracle_value", bonus, goes_on=True).trace(batch)[-1].credit for bonus in (0.0, 1.0))
    assert torch.equal(paid.known, plain.known)
    ended = batch["outcome"].known[batch.turn_trajectory]
    assert 0 < int(ended.sum()) < len(ended)
    assert torch.equal(paid.values[~ended], plain.values[~ended])
    assert torch.equal(paid.values[ended] - plain.values[ended], batch["outcome"].values[batch.turn_trajectory][ended])


def test_training_takes_an_unreliable_oracle_in_place_of_the_true_one():
    plan = replace(PLAN, steps=1, groups=3)
    recipe = recipes.vpr_turns(oracle="oracle_verdict", kl=0.0)
    norms = []
    for reliability in (1.0, 0.0):
        _, metrics = train(player(), TicTacToe(), recipe, plan, evidence=[Unreliable(reliability)])
        norms.append(metrics[0]["gradient_norm"])
    assert norms[0] > 0 and norms[0] == pytest.approx(norms[1], rel=1e-3)  # all credit is turned round
    with pytest.raises(MissingEvidence, match="oracle_verdict"):
        train(player(), TicTacToe(), recipe, plan)
