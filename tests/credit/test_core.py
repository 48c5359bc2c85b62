"""Chains as values: what they refuse, how they read, that equal work is done once, what a trace shows."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import (
    Credit,
    Work,
    add,
    apply,
    average,
    backup,
    by,
    center,
    chain,
    column,
    constant,
    delta,
    drop,
    fewer_than,
    fill,
    gae,
    linear,
    mix,
    multiply,
    place,
    read,
    reward_to_go,
    share,
    spread,
    task,
    task_and_turn,
    total,
    zscore,
)
from workbench.credit.core import _Arrived
from workbench.losses import constant_length, token_mean
from workbench.objective import Objective, Term, clipped
from workbench.recipes.base import Recipe

MAPS = Batch.of_maps([0, 0, 1], ["a", "a"], [0, 0, 1, 2, 2])
OUTCOME = MAPS.with_column("outcome", "trajectory", [1.0, 0.0])


# -------------------------------------------------------------------------------------- refused at construction


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: chain(), "a chain needs at least one stage"),
        (lambda: chain(read("outcome"), reward_to_go()), r"reward_to_go\(\): needs units in order inside a trajectory"),
        (lambda: chain(read("outcome"), gae(1.0, 1.0)), "got one value a trajectory; spread or place it first"),
        (lambda: chain(read("outcome"), backup()), "needs units in order"),
        (
            lambda: chain(read("turn_reward"), spread("trajectory")),
            "the credit is on 'turn' already; use total or avera",
        ),
        (lambda: chain(read("outcome"), total("turn")), "it is above it on 'trajectory'|above it on 'trajectory'"),
        (lambda: chain(read("outcome"), average("token")), "use spread or place to go down"),
        (lambda: chain(read("turn_reward"), share("turn_reward")), "splits one value a trajectory, got level 'turn'"),
        (
            lambda: mix(read("outcome"), read("turn_reward")),
            r"branches end on different levels \['trajectory', 'turn'\]",
        ),
        (lambda: mix(read("outcome"), weights=(1.0, 2.0)), "1 branches need as many weights, got 2"),
        (lambda: mix(), "needs at least one branch"),
        (lambda: multiply(chain(read("outcome"), spread("turn")), read("outcome")), "different levels"),
        (lambda: place("turn", "nothing"), "expected elsewhere='zero' or 'unknown', got 'nothing'"),
        (lambda: backup("sum"), "expected 'mean', 'max' or 'visits', got 'sum'"),
        (lambda: reward_to_go([0.5]), "parameters must be hashable"),
        (lambda: drop(constant(task), "unknown"), "say why instead"),
        (
            lambda: Recipe("r", chain(read("outcome")), clipped()),
            "ends on 'trajectory'; a recipe ends on tokens, add sp",
        ),
        (lambda: Recipe("r", chain(spread("token")), clipped()), "must begin with a signal such as read"),
        (lambda: Recipe("r", chain(read("logprob_old")), clipped(clip_scale="c")), r"names streams \['c'\]"),
        (lambda: Objective((Term("a", clipped().terms[0].loss),) * 2), r"must be unique, got \['a', 'a'\]"),
        (lambda: constant_length(0), "positive divisor"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_built(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_what_only_the_batch_knows_is_refused_on_the_batch() -> None:
    batch = OUTCOME.with_column("x", "trajectory", [1.0, 2.0])
    with pytest.raises(ValueError, match=r"reward_to_go\(\): needs units in order inside a trajectory"):
        chain(read("x"), reward_to_go())(None, batch)
    crossing = batch.with_unit("half", "token", [0, 1, 1, 2, 2]).with_column("h", "half", [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="unit 'half' crosses turns, so none of them holds it"):
        chain(read("h", "half"), total("turn"))(None, crossing)
    with pytest.raises(ValueError, match="task_and_turn compares turns"):
        chain(read("x"), zscore(task_and_turn))(None, batch)
    with pytest.raises(ValueError, match="no column 'gold_logprob'; there are"):
        delta("gold_logprob")(None, batch)
    with pytest.raises(ValueError, match="no level or unit 'step'"):
        chain(read("x"), spread("step"))(None, batch)

    def short(batch: Batch, level: str) -> Tensor:
        return torch.zeros(1, dtype=torch.int64)

    with pytest.raises(ValueError, match="gave 1 keys for 2 trajectorys"):
        chain(read("x"), center(short))(None, batch)


# ----------------------------------------------------------------------------------------------------- how it reads


def test_repr_is_the_formula() -> None:
    node = chain(
        mix(
            chain(read("outcome"), zscore(task), spread("turn")),
            chain(read("turn_reward"), reward_to_go(0.9), center(by("tool"))),
            weights=(1.0, linear(0, 0.1, 200)),
        ),
        drop(~column("over_turn"), "short"),
        fill("next"),
        spread("token"),
    )
    assert repr(node) == (
        "mix([read('outcome') > zscore(task) > spread('turn')], "
        "[read('turn_reward') > reward_to_go(0.9) > center(by('tool'))], weights=(1.0, linear(0, 0.1, 200))) > "
        "drop(~column('over_turn'), reason='short') > fill('next') > spread('token')"
    )
    assert node.needs == ("outcome", "turn_reward", "tool", "over_turn")
    assert repr(zscore(task, ddof=0, eps=1e-8)) == "zscore(task, ddof=0, eps=1e-08)"
    assert repr(fewer_than(2, task)) == "fewer_than(2, task)"


def _double(batch: Batch, x: Credit) -> Tensor:
    return 2 * x.values


def test_chains_are_values() -> None:
    def make() -> Any:
        return chain(apply(_double, read("outcome")), add("value", -1.0), zscore(task), spread("token"))

    assert make() == make() and hash(make()) == hash(make())
    assert make() != chain(apply(_double, read("outcome")), add("value", -1.0), zscore(task, ddof=0), spread("token"))
    assert pickle.loads(pickle.dumps(chain(read("outcome"), zscore(task), spread("token")))) == chain(
        read("outcome"), zscore(task), spread("token")
    )
    recipe = Recipe("r", chain(read("outcome"), spread("token")), clipped(aggregate=token_mean))
    assert pickle.loads(pickle.dumps(recipe)) == recipe and hash(recipe) == hash(pickle.loads(pickle.dumps(recipe)))


# --------------------------------------------------------------------------------------------------- done only once

CALLS: list[str] = []


def _counted(batch: Batch, x: Credit, name: str) -> Tensor:
    CALLS.append(name)
    return x.values


def test_equal_chains_are_computed_once_and_shown_wherever_they_stand() -> None:
    CALLS.clear()
    shared = chain(apply(_counted, read("outcome"), name="shared"), zscore(task))
    other = chain(apply(_counted, read("outcome"), name="other"), zscore(task))
    node = mix(shared, shared, other, weights=(1.0, 2.0, 4.0))
    steps = node.trace(OUTCOME)
    assert CALLS == ["shared", "other"]
    assert sum(step.label.startswith("zscore") for step in steps) == 3
    CALLS.clear()
    node.trace(OUTCOME)
    assert CALLS == ["shared", "other"]  # nothing is kept from one evaluation to the next


def test_streams_share_work_with_the_credit() -> None:
    CALLS.clear()
    shared = chain(apply(_counted, read("outcome"), name="shared"), spread("token"))
    recipe = Recipe("r", shared, clipped(clip_scale="scale"), {"scale": shared})
    both = recipe.credits(OUTCOME)
    assert CALLS == ["shared"] and both["credit"].tolist() == both["scale"].tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_a_stage_after_another_past_is_another_computation() -> None:
    node = mix(chain(read("outcome"), spread("turn")), chain(read("outcome"), zscore(task), spread("turn")))
    got = node(None, OUTCOME).tolist()
    z = 0.5 / (0.5**0.5 + 1e-6)
    assert got == pytest.approx([1 + z, 1 + z, -z])


def test_a_recipe_is_computed_anew_for_another_batch_or_step() -> None:
    recipe = Recipe("r", chain(mix(read("outcome"), weights=(linear(0.0, 1.0, 10),)), spread("token")), clipped())
    assert recipe.credit(OUTCOME.at_step(5)).tolist() == [0.5, 0.5, 0.5, 0.0, 0.0]
    assert recipe.credit(OUTCOME.at_step(10)).tolist()[0] == 1.0


# ------------------------------------------------------------------------------------------------------------ trace


def test_trace_is_in_order_with_depths() -> None:
    node = chain(mix(chain(read("outcome"), spread("turn")), read("turn_reward")), spread("token"))
    recipe = Recipe("r", node, clipped())
    batch = OUTCOME.with_column("turn_reward", "turn", [1.0, None, 2.0])
    steps = [(step.depth, step.label, step.credit.tolist()) for step in recipe.trace(batch)]
    assert steps == [
        (1, "read('outcome')", [1.0, 0.0]),
        (1, "spread('turn')", [1.0, 1.0, 0.0]),
        (1, "read('turn_reward')", [1.0, None, 2.0]),
        (0, "mix(weights=(1.0, 1.0))", [2.0, None, 2.0]),
        (0, "spread('token')", [2.0, 2.0, None, 2.0, 2.0]),
    ]


def test_levels_asked_of_a_recipe() -> None:
    recipe = Recipe("r", chain(read("outcome"), spread("token")), clipped())
    assert recipe.credit(OUTCOME, to="turn").tolist() == [1.0, 1.0, 0.0]
    assert recipe.credit(OUTCOME, to="group").tolist() == [0.5]
    unit = OUTCOME.with_unit("call", "token", [0, 1, 2, 3, -1])
    assert recipe.credit(unit, to="call").tolist() == [1.0, 1.0, 1.0, 0.0]
    whole = Recipe("w", chain(read("outcome"), spread("token"), zscore(task)), clipped())
    assert whole.credit(unit, to="call").level == "call"
    bare = Batch.of_maps([0, 0, 1], ["a", "a"]).with_column("outcome", "trajectory", [1.0, 0.0])
    assert recipe.credit(bare).tolist() == [1.0, 1.0, 0.0] and len(recipe.trace(bare)) == 1
    with pytest.raises(ValueError, match="token credit needs token ids"):
        recipe.credit(bare, to="token")


def test_all_missing_columns_are_named_at_once() -> None:
    node = chain(mix(read("turn_reward"), delta("gold_logprob", "gold_logprob_start")), spread("token"))
    with pytest.raises(ValueError, match=r"\['turn_reward', 'gold_logprob', 'gold_logprob_start'\].*evidence"):
        Recipe("r", node, clipped()).credit(OUTCOME)


def test_turns_that_must_not_be_trained_are_dropped() -> None:
    recipe = Recipe("r", chain(read("outcome"), spread("token")), clipped())
    batch = OUTCOME.with_column("trainable", "turn", [True, False, True])
    credit = recipe.credit(batch)
    assert credit.tolist() == [1.0, 1.0, None, 0.0, 0.0] and credit.counts()["not trainable"] == 1


def test_inputs_are_not_changed() -> None:
    batch = OUTCOME.with_column("x", "turn", [3.0, None, 1.0])
    before = {name: (c.values.clone(), c.known.clone()) for name, c in batch.columns.items()}
    node = chain(read("x"), reward_to_go(0.5), drop(constant(task), "equal"), fill(1.0), zscore(task), spread("token"))
    node.run(_Arrived(None, ()), Work(batch), 0)
    for name, (values, known) in before.items():
        assert torch.equal(batch[name].values, values) and torch.equal(batch[name].known, known)
