"""What a run keeps of a step: everything that was played, what of it taught, and with which credit."""

from __future__ import annotations

import pytest
import torch
from small_worlds import Bandit, gambler

from workbench import recipes, store, view
from workbench.rollouts import Rollouts
from workbench.train.keep import CREDIT, DROPPED, TAUGHT, joined, to_keep, widened
from workbench.train.plan import Plan, start
from workbench.train.policy_gradient import one_step

PLAN = Plan(groups=4, size=2, max_new_tokens=1, refills=3, seed=2)


@pytest.fixture(scope="module")
def done():
    """A step that sampled again: groups whose outcomes were equal are gone from what was used."""
    recipe = recipes.dapo()
    return one_step(start(gambler(), recipe, PLAN), Bandit(pulls=2), recipe, PLAN, 0)


def test_what_was_sampled_and_dropped_is_kept_and_marked(done):
    assert len(done.used) < len(done.played), "the seed no longer makes a group whose outcomes are equal"
    kept = to_keep(done.played, done.used, done.credits, "dapo")
    assert kept.trajectories == done.played.trajectories
    taught = kept.batch()[TAUGHT]
    used = [t.id in done.used.by_id for t in kept]
    assert bool(taught.known.all()) and taught.values.tolist() == [float(one) for one in used]


def test_credit_stands_on_the_tokens_it_taught_with(done):
    kept = to_keep(done.played, done.used, done.credits, "dapo")
    small, large = done.used.batch(), kept.batch()
    column = large[CREDIT]
    for n, identity in enumerate(large.trajectories):
        mine = large.up("token", "trajectory") == n
        if identity not in small.trajectories:
            assert not bool(column.known[mine].any())
            continue
        theirs = small.up("token", "trajectory") == small.trajectories.index(identity)
        assert torch.equal(column.values[mine], done.credits["credit"].values[theirs])
        assert bool(column.known[mine].all())


def test_evidence_of_what_was_used_comes_along(done):
    used = done.used.with_column("e", "turn", torch.arange(done.used.batch().count("turn")).double())
    used = used.with_column("g", "group", torch.arange(len(used.groups)).double()).with_unit(
        "step", "turn", torch.arange(used.batch().count("turn"))
    )
    wide = widened(used, done.played).batch()
    known = wide["e"].known
    inside = torch.tensor([t in used.by_id for t in wide.trajectories])
    assert torch.equal(known, inside[wide.turn_trajectory])
    assert wide["e"].values[known].tolist() == list(range(int(known.sum())))
    assert wide["g"].values[wide["g"].known].tolist() == list(range(len(used.groups)))
    assert (wide.units["step"].of >= 0).tolist() == known.tolist()


def test_rollouts_that_are_joined_keep_what_each_says(done):
    """A column one side lacks is unknown there, or what was recorded; whole numbers stay whole."""
    cut = [group.id == done.used.groups[0].id for group in done.used.groups]
    first = [t.group == done.used.groups[0].id for t in done.used]
    one, other = done.used[first], done.used[[not here for here in first]]
    codes = torch.arange(other.batch().count("turn")) + 2**40
    one = one.with_column("g", "group", [5.0]).with_column("outcome", "trajectory", [0.5] * len(one))
    found = joined(one, other.with_column("code", "turn", codes))
    assert found.trajectories == (*one, *other)
    batch = found.batch()
    assert batch["g"].known.tolist() == cut and batch["g"].values[0] == 5.0
    assert batch["code"].values[batch["code"].known].tolist() == codes.tolist()
    assert batch["code"].known.tolist() == [not first[n] for n in batch.turn_trajectory.tolist()]
    assert batch["outcome"].values.tolist() == [0.5] * len(one) + [t.outcome for t in other]
    assert joined(Rollouts(()), other) is other


def test_why_tokens_were_dropped_survives_the_disk(tmp_path):
    recipe = recipes.grpo()
    step = one_step(start(gambler(), recipe, PLAN), Bandit(pulls=2), recipe, PLAN, 0)
    credit = step.credits["credit"]
    out = torch.zeros(len(credit), dtype=torch.bool)
    out[:2] = True
    kept = to_keep(step.played, step.used, {"credit": credit.drop(out, "because")}, "mine")
    store.write(tmp_path / "kept", kept)
    back = view.payload.training_credit(store.read(tmp_path / "kept"))
    assert list(back) == ["mine"] and back["mine"].counts() == credit.drop(out, "because").counts()
    assert DROPPED not in to_keep(step.played, step.used, step.credits, "mine").columns


def test_rollouts_without_kept_credit_have_none():
    assert view.payload.training_credit(Rollouts(())) == {}
