"""Accumulating and combining stages on numbers worked out by hand, and what they reduce to."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import (
    Credit,
    Node,
    above,
    apply,
    backup,
    center,
    chain,
    clip,
    column,
    count_before,
    delta,
    difference,
    drop,
    equals,
    fill,
    gae,
    linear,
    mix,
    multiply,
    place,
    read,
    reward_to_go,
    scale,
    spread,
    task,
    total,
    zscore,
)

MAPS = Batch.of_maps([0, 0, 0, 1, 1, 2, 3, 3], ["a", "a", "a", "b"], [0, 0, 1, 2, 3, 4, 4, 5, 6, 7])
X, Y = read("x"), read("y")


def run(node: Node, batch: Batch = MAPS, /, **columns: Any) -> list[float | None]:
    level = {8: "turn", 4: "trajectory", 10: "token"}
    for name, values in columns.items():
        batch = batch.with_column(name, level[len(values)], values)
    return node(None, batch).tolist()


# --------------------------------------------------------------------------------------------------- reward to go


def test_reward_to_go_and_its_gaps() -> None:
    x = [1.0, None, 4.0, 2.0, None, 3.0, None, 8.0]
    assert run(chain(X, reward_to_go(0.5)), x=x) == [3.0, None, 4.0, 2.0, None, 3.0, None, 8.0]
    assert run(chain(X, reward_to_go(0.5, gap="zero")), x=x) == [2.0, None, 4.0, 2.0, None, 3.0, None, 8.0]
    assert run(chain(X, reward_to_go()), x=x)[0] == 5.0
    assert run(chain(X, reward_to_go(0.0)), x=x) == x


def test_reward_to_go_rescaled_by_its_known_terms() -> None:
    x = [1.0, None, 4.0, 2.0, 2.0, 3.0, 1.0, 1.0]
    got = run(chain(X, reward_to_go(1.0, rescale="sqrt_terms")), x=x)
    assert got == pytest.approx([5 / math.sqrt(2), None, 4.0, 4 / math.sqrt(2), 2.0, 3.0, math.sqrt(2), 1.0])


def test_gamma_as_column_and_schedule() -> None:
    x = [1.0, 2.0, 4.0, 2.0, 2.0, 3.0, 1.0, 1.0]
    by_trajectory = chain(X, reward_to_go(column("g")))
    assert run(by_trajectory, x=x, g=[0.5, 1.0, 9.0, 0.0]) == [3.0, 4.0, 4.0, 4.0, 2.0, 3.0, 1.0, 1.0]
    scheduled = chain(X, reward_to_go(linear(0.0, 1.0, 4)))
    assert run(scheduled, MAPS.at_step(2), x=x)[:3] == [3.0, 4.0, 4.0]
    with pytest.raises(ValueError, match=r"parameter column\('g'\): unknown for 3 of 8 turns"):
        run(by_trajectory, x=x, g=[None, 1.0, 1.0, 1.0])


# ------------------------------------------------------------------------------------------------------------ gae


def test_gae_over_turns_by_hand() -> None:
    x, v = [1.0, 0.0, 2.0, 1.0, 1.0, 1.0, 0.0, 0.0], [0.5, 1.0, 1.0, 2.0, 0.0, 1.0, 0.0, 1.0]
    got = run(chain(X, gae(0.5, 0.5)), x=x, value=v)
    # last turn 2 - 1 = 1; before it 0 + 0.5 - 1 + 0.25 = -0.25; first 1 + 0.5 - 0.5 - 0.0625 = 0.9375
    assert got == pytest.approx([0.9375, -0.25, 1.0, -0.75, 1.0, 0.0, 0.25, -1.0])


def test_gae_within_turns_restarts_at_every_turn() -> None:
    x, v = [1.0] * 10, [0.5] * 10
    whole = run(chain(X, gae(1.0, 1.0)), x=x, value=v)
    inner = run(chain(X, gae(1.0, 1.0, within="turn")), x=x, value=v)
    assert whole == [3.5, 2.5, 1.5, 0.5, 2.5, 1.5, 0.5, 0.5, 1.5, 0.5]
    assert inner == [1.5, 0.5, 0.5, 0.5, 0.5, 1.5, 0.5, 0.5, 0.5, 0.5]


def test_gae_steps_over_unknown_and_checks_levels() -> None:
    got = run(chain(X, gae(1.0, 0.5)), x=[1.0, None, 2.0] + [0.0] * 5, value=[0.0, 7.0, 1.0] + [0.0] * 5)
    assert got[:3] == [1.0 + 1.0 - 0.0 + 0.5 * (2.0 - 1.0), None, 1.0]
    hidden = run(chain(X, gae(1.0, 0.5)), x=[1.0, 5.0, 2.0] + [0.0] * 5, value=[0.0, None, 1.0] + [0.0] * 5)
    assert hidden == got
    with pytest.raises(ValueError, match="'value' is on 'trajectory', the credit on 'turn'"):
        run(chain(X, gae(1.0, 1.0)), x=[0.0] * 8, value=[0.0] * 4)


def test_gae_without_values_is_reward_to_go() -> None:
    x = [1.0, 2.0, None, 2.0, 5.0, 3.0, 1.0, -1.0]
    reference = run(chain(X, reward_to_go(0.9)), x=x)
    assert run(chain(X, gae(0.9, 1.0)), x=x, value=[0.0] * 8) == pytest.approx(reference)


def test_gae_with_lam_zero_is_the_error_of_one_step() -> None:
    x, v = [1.0, 0.0, 2.0] + [0.0] * 5, [0.5, 1.0, 1.0] + [0.0] * 5
    assert run(chain(X, gae(0.5, 0.0)), x=x, value=v)[:3] == [1.0, -0.5, 1.0]


# ---------------------------------------------------------------------------------------------- counting, trees


def test_count_before() -> None:
    x = [1.0, 0.0, 1.0, None, 1.0, 1.0, 1.0, 0.0]
    assert run(chain(X, count_before(equals(1.0))), x=x) == [0.0, 1.0, 1.0, None, 0.0, 0.0, 0.0, 1.0]
    assert run(chain(X, count_before(above(-1.0))), x=x) == [0.0, 1.0, 2.0, None, 0.0, 0.0, 0.0, 1.0]


def tree() -> Batch:
    """Root 0 - 1 - 2; a branch after turn 0 (turns 3, 4); a branch of that branch after turn 3 (turn 5)."""
    return Batch.of_maps(
        [0, 0, 0, 1, 1, 2], ["a"] * 3, range(6), turn_index=[0, 1, 2, 1, 2, 2], turn_parent=[-1, 0, 1, 0, 3, 3]
    )


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("mean", [(1.0 + 7.5) / 2, 1.0, 1.0, 7.5, 5.0, 10.0]),
        ("max", [10.0, 1.0, 1.0, 10.0, 5.0, 10.0]),
        ("visits", [(1.0 + 5.0 + 10.0) / 3, 1.0, 1.0, 7.5, 5.0, 10.0]),
    ],
)
def test_backup_through_a_branch_of_a_branch(how: Any, expected: list[float]) -> None:
    batch = tree().with_column("x", "turn", [99.0, 99.0, 1.0, 99.0, 5.0, 10.0])
    assert chain(X, backup(how))(None, batch).tolist() == pytest.approx(expected)


def test_backup_leaves_unknown_leaves_out() -> None:
    batch = tree().with_column("x", "turn", [None, None, 1.0, None, None, 10.0])
    assert chain(X, backup("mean"))(None, batch).tolist() == [5.5, 1.0, 1.0, 10.0, None, 10.0]
    batch = tree().with_column("x", "turn", [2.0, None, None, None, None, None])
    assert chain(X, backup("visits"))(None, batch).tolist() == [2.0, None, None, None, None, None]


def test_reward_to_go_of_a_branch_is_its_own_and_backup_carries_it_up() -> None:
    batch = tree().with_column("x", "turn", [0.0, 0.0, 1.0, 0.0, 0.0, 5.0])
    own = chain(X, reward_to_go())
    assert own(None, batch).tolist() == [1.0, 1.0, 1.0, 0.0, 0.0, 5.0]
    assert chain(own, backup("mean"))(None, batch).tolist() == [1.75, 1.0, 1.0, 2.5, 0.0, 5.0]


# ------------------------------------------------------------------------------------------------------ combine


def test_mix_and_multiply_say_what_unknown_does() -> None:
    x, y = [1.0, None, 3.0, None], [2.0, 5.0, None, None]
    both = {"x": x, "y": y}
    assert run(mix(X, Y), **both) == [3.0, None, None, None]
    assert run(mix(X, Y, unknown="skip"), **both) == [3.0, 5.0, 3.0, None]
    assert run(mix(X, Y, weights=(2.0, -1.0), unknown="skip"), **both) == [0.0, -5.0, 6.0, None]
    assert run(multiply(X, Y), **both) == [2.0, None, None, None]
    assert run(multiply(X, Y, unknown="skip"), **both) == [2.0, 5.0, 3.0, None]


def test_weights_as_schedule_and_column() -> None:
    node = mix(X, Y, weights=(linear(1.0, 0.0, 4), column("w")))
    got = run(node, MAPS.at_step(1), x=[4.0] * 4, y=[1.0, 2.0, 3.0, 4.0], w=[0.0, 1.0, 2.0, 3.0])
    assert got == [3.0, 5.0, 9.0, 15.0]
    assert node.needs == ("x", "y", "w")


def _bigger(batch: Batch, a: Credit, b: Credit, times: float) -> Tensor:
    return times * torch.maximum(a.values, b.values)


def test_apply_calls_the_function_by_name_with_its_parameters() -> None:
    node = apply(_bigger, X, Y, times=2.0)
    assert run(node, x=[1.0, 5.0, 0.0, None], y=[2.0, 3.0, 0.0, 1.0]) == [4.0, 10.0, 0.0, None]
    assert repr(node) == "bigger([read('x')], [read('y')], times=2.0)"


def test_a_drop_in_one_branch_drops_the_sum() -> None:
    left = chain(X, drop(equals(0.0), "nothing"))
    out = mix(left, Y, unknown="skip")(
        None, MAPS.with_column("x", "trajectory", [0.0, 1.0, None, 2.0]).with_column("y", "trajectory", [1.0] * 4)
    )
    assert out.tolist() == [None, 2.0, 1.0, 3.0]  # an unknown unit does not equal 0: only the first is dropped
    assert out.counts() == {"known": 3, "zero": 0, "unknown": 0, "nothing": 1}


def test_branches_that_do_not_begin_with_a_signal_work_on_what_came() -> None:
    node = chain(X, mix(chain(clip(0.0, 1.0)), chain(reward_to_go()), weights=(10.0, 1.0)))
    assert run(node, x=[1.0, 2.0, -4.0] + [0.0] * 5)[:3] == [10.0 - 1.0, 10.0 - 2.0, 0.0 - 4.0]


# --------------------------------------------------------------------------------------------------- reductions

RAGGED = {"x": [1.0, 2.5, None, 2.0, 5.0, 3.0, 1.0, -1.0]}


def test_center_then_scale_is_zscore() -> None:
    two = chain(X, center(task), scale(task))
    assert run(two, **RAGGED) == pytest.approx(run(chain(X, zscore(task)), **RAGGED))


def test_leave_one_out_is_centre_times_n_over_n_minus_one() -> None:
    loo = run(chain(X, center(task, leave_one_out=True)), x=[1.0, 0.0, 4.0, 0.4])
    plain = run(chain(X, center(task)), x=[1.0, 0.0, 4.0, 0.4])
    assert loo[:3] == pytest.approx([1.5 * v for v in plain[:3]])


def test_differences_accumulate_back_to_the_potential() -> None:
    x = [1.0, 2.5, 3.0, 2.0, 5.0, 3.0, 1.0, -1.0]
    summed = run(chain(delta("x", 0.5), total("trajectory")), x=x)
    assert summed == pytest.approx([2.5, 4.5, 2.5, -1.5])
    assert run(chain(X, reward_to_go(), difference(), fill(0.0)), x=x)[1:3] == [-1.0, -2.5]


def test_an_outcome_placed_and_accumulated_is_the_outcome_spread() -> None:
    x = [1.0, 0.5, None, 2.0]
    assert run(chain(X, place("turn"), reward_to_go()), x=x) == run(chain(X, spread("turn")), x=x)


def test_mix_with_weights_one_and_zero_is_the_first_branch() -> None:
    assert run(mix(X, Y, weights=(1.0, 0.0)), x=[1.0, 2.0, 3.0, 4.0], y=[9.0] * 4) == [1.0, 2.0, 3.0, 4.0]
