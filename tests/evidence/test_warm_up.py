"""The gate of a warm-up: when it opens, that it stays open, and that a run remembers it."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from workbench import envs, policy, recipes
from workbench.evidence import MissingEvidence, WarmUp, collect
from workbench.evidence.warm_up import running_mean
from workbench.rollouts import Rollouts
from workbench.train import launch, worker
from workbench.train.policy_gradient import Plan, train
from workbench.trajectory import Trajectory


def step(*outcomes: float | None) -> Rollouts:
    return Rollouts(tuple(Trajectory(str(n), f"g{n % 2}", outcome=one) for n, one in enumerate(outcomes)))


def on(gate: WarmUp, *outcomes: float | None) -> bool:
    (said,) = set(collect(step(*outcomes), [gate]).columns["gains_on"].values.tolist())
    return bool(said)


def test_the_gate_opens_by_what_was_before_and_never_shuts_again():
    gate = WarmUp(threshold=0.4, rate=0.5)
    assert not on(gate, 0.0, 1.0)  # the first step has nothing before it; 0.5 from here on
    assert on(gate, 0.0, 0.0) and gate.mean == 0.25
    assert on(gate, 0.0, 0.0) and gate.mean == 0.125  # below the threshold, and open
    late = WarmUp(threshold=0.4, rate=0.5)
    means = [(on(late, *both), late.mean) for both in ((0.0, 0.0), (0.0, 1.0), (None, None), (1.0, None), (1.0, 1.0))]
    assert means == [(False, 0.0), (False, 0.25), (False, 0.25), (False, 0.625), (True, 0.8125)]
    assert running_mean(None, 0.5, 0.1) == 0.5 and running_mean(0.5, 1.0, 0.1) == pytest.approx(0.55)


def test_what_it_remembers_goes_with_a_checkpoint():
    gate, again = WarmUp(0.4, 0.5), WarmUp(0.4, 0.5)
    on(gate, 1.0)
    on(gate, 0.0)
    again.load(gate.state())
    assert again.state() == {"mean": 0.5, "on": True} and on(again, 0.0)
    for rate in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="rate"):
            WarmUp(0.4, rate)


PLAN = Plan(steps=2, groups=1, size=3, rate=0.0, max_new_tokens=6, seed=3)


def test_a_training_begins_with_outcomes_alone():
    """Shut in the first step, whatever its turns gained; open in the second. With a rate of 0 nobody learns."""
    env, recipe, player = envs.load("chain", hops=2), recipes.dr_venus(kl=0.0, warm_up=True), policy.load("tiny")
    _, rows = train(player, env, recipe, PLAN, evidence=[WarmUp(-1.0)])
    _, always = train(player, env, recipes.dr_venus(kl=0.0), PLAN)
    first, second = ([row["gradient_norm"] for row in pair] for pair in zip(rows, always, strict=True))
    assert first[0] != pytest.approx(first[1], rel=1e-3) and second[0] == pytest.approx(second[1], rel=1e-3)
    with pytest.raises(MissingEvidence, match=r"gains_on: train\(..., evidence=\[evidence.WarmUp"):
        train(player, env, recipe, PLAN)


def test_a_run_that_is_cut_goes_on_with_the_gate_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["workbench.train.launch"], "spawn", lambda run: run)
    recipe, env = recipes.dr_venus(kl=0.0, warm_up=True), envs.load("chain", hops=2)
    asked = dict(plan=replace(PLAN, save_every=1), folder=tmp_path / "run", evidence=[WarmUp(-1.0)])
    run = launch(recipe, env, policy.load("tiny"), **asked)
    assert worker.work(run.path) == 0
    whole = [row["gradient_norm"] for row in run.metrics()]
    (run.path / "checkpoints" / "step-00000002").rename(tmp_path / "elsewhere")
    assert worker.work(run.path) == 0  # the second step again, from the first checkpoint
    assert [row["gradient_norm"] for row in run.metrics()] == whole
