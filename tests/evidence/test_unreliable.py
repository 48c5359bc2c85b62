"""An oracle with errors: as many as asked, the same for equal rollouts, none out of nothing."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from workbench import recipes
from workbench.envs.tictactoe import TicTacToe
from workbench.evidence import Cache, collect
from workbench.evidence.unreliable import Unreliable, unreliable
from workbench.rollouts import Rollouts
from workbench.trajectory import RecordError


@pytest.fixture(scope="module")
def rollouts() -> Rollouts:
    env, made = TicTacToe(), []
    for task in env.tasks("train", 40):
        for k in range(8):
            t = env.imperfect_demonstration(task, random.Random(f"{task.id}{k}"), 0.7)
            made.append(replace(t, id=f"{t.id}/{k}"))
    return Rollouts(tuple(made))


def verdicts(rollouts, **knobs):
    one = Unreliable(**knobs)
    return collect(rollouts, [one], cache=Cache()).columns[one.column]


@pytest.mark.parametrize("reliability", [0.0, 0.6, 0.9, 1.0])
def test_a_verdict_is_right_as_often_as_asked(rollouts, reliability):
    truth = rollouts.batch()["oracle_on_path"].values
    got = verdicts(rollouts, reliability=reliability)
    assert bool(got.known.all()) and len(truth) > 600
    share = float((got.values == truth).double().mean())
    assert abs(share - reliability) < 4 * (reliability * (1 - reliability) / len(truth)) ** 0.5 + 1e-12
    assert set(got.values.tolist()) <= {0.0, 1.0}


def test_wrong_grades_are_the_others_alike():
    rng, counts = random.Random(0), {-1.0: 0, 0.0: 0, 1.0: 0}
    for _ in range(6000):
        counts[unreliable(0.0, (-1.0, 0.0, 1.0), 0.4, rng)] += 1
    assert counts[0.0] == pytest.approx(2400, abs=160) and counts[1.0] == pytest.approx(counts[-1.0], abs=200)


def test_errors_are_the_seeds_and_the_contents_not_the_ids(rollouts):
    one, two = verdicts(rollouts, reliability=0.7), verdicts(rollouts, reliability=0.7)
    assert torch.equal(one.values, two.values)
    assert not torch.equal(one.values, verdicts(rollouts, reliability=0.7, seed=1).values)
    renamed = Rollouts(tuple(replace(t, id=f"other/{n}") for n, t in enumerate(rollouts)))
    assert torch.equal(one.values, verdicts(renamed, reliability=0.7).values)


def test_credit_follows_the_verdicts_and_a_perfect_oracle_changes_nothing(rollouts):
    ready = collect(rollouts, [Unreliable(1.0), Unreliable(0.5, column="coin")], cache=Cache()).batch()
    plain = recipes.vpr_turns(kl=0.0).credit(ready, to="turn").values
    assert torch.equal(plain, recipes.vpr_turns(oracle="oracle_verdict", kl=0.0).credit(ready, to="turn").values)
    worse = recipes.vpr_turns(oracle="coin", kl=0.0).credit(ready, to="turn").values
    assert float((plain * worse).mean()) < 0.5 * float((plain * plain).mean())


def test_graded_values_and_what_is_no_grade(rollouts):
    got = verdicts(rollouts, reliability=0.8, fact="oracle_value", column="value", grades=(-2.0, -1.0, 0.0, 1.0))
    assert set(got.values.tolist()) <= {-2.0, -1.0, 0.0, 1.0}
    with pytest.raises(RecordError, match="none of the grades"):
        verdicts(rollouts, fact="oracle_value")


def test_a_turn_without_a_verdict_stays_unknown(rollouts):
    t = rollouts.trajectories[0]
    bare = replace(t, turns=(replace(t.turns[0], rewards={}), *t.turns[1:]))
    got = verdicts(Rollouts((bare,)), reliability=0.5)
    assert got.known.tolist() == [False, *[True] * (len(t.turns) - 1)]


def test_bad_knobs():
    for knobs in ({"reliability": 1.5}, {"reliability": -0.1}, {"grades": (1.0,)}, {"grades": (1.0, 1.0)}):
        with pytest.raises(ValueError, match=next(iter(knobs))):
            Unreliable(**knobs)
