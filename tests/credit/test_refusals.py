"""What a stage refuses when it is built, and what stays dropped: nothing falls back silently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from workbench.batch import Batch
from workbench.credit import (
    apply,
    average,
    by,
    center,
    chain,
    clip,
    column,
    drop,
    fill,
    mix,
    read,
    reward_to_go,
    scale,
    share,
    siblings,
    spread,
    task,
    total,
    zscore,
)

X = read("turn_reward")
BATCH = (
    Batch.of_maps([0, 0, 1], ["a", "a"], [0, 1, 2])
    .with_column("turn_reward", "turn", [0.5, 1.0, 0.0])
    .with_column("over_turn", "trajectory", [0.0, 1.0])
)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: center(task, singleton="none"), "expected singleton='zero' or 'keep' or 'drop', got 'none'"),
        (lambda: zscore(task, singleton="none"), "expected singleton="),
        (lambda: scale(task, singleton="none"), "expected singleton="),
        (lambda: scale(task, by="median"), "expected by='std' or 'mean', got 'median'"),
        (lambda: reward_to_go(gap="jump"), "expected gap='skip' or 'zero', got 'jump'"),
        (lambda: reward_to_go(rescale="sqrt"), "expected rescale='sqrt_terms', got 'sqrt'"),
        (lambda: mix(X, unknown="some"), "expected unknown='any' or 'skip', got 'some'"),
        (lambda: apply(torch.relu, X, unknown="all"), "expected unknown="),
        (lambda: center("task"), "peers is a value such as task"),
        (lambda: drop(None, "why"), "where is a value such as"),
        (lambda: chain(X, "spread"), "expected stages .* got 'spread'"),
        (lambda: mix(X, "turn_reward"), "expected stages .* got 'turn_reward'"),
    ],
)
def test_an_option_that_is_not_there_is_refused(build: Callable[[], Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        build()


def test_a_stage_without_anything_to_work_on_says_so() -> None:
    with pytest.raises(ValueError, match=r"share\('turn_reward'\) needs something to work on"):
        share("turn_reward")(None, BATCH)


def test_bounds_are_float64() -> None:
    assert chain(X, clip(0.2, 0.7))(None, BATCH).tolist() == [0.5, 0.7, 0.2]


@pytest.mark.parametrize("up", [total, average])
def test_what_is_dropped_stays_dropped_on_the_way_up(up: Callable[[str], Any]) -> None:
    dropped = chain(X, drop(column("over_turn"), "too long"), up("trajectory"))
    credit = chain(dropped, fill(0.0), spread("token"))(None, BATCH)
    assert credit.known.tolist() == [True, True, False]
    assert credit.counts()["too long"] == 1


def test_a_parent_with_one_child_left_is_not_dropped() -> None:
    flags = BATCH.with_column("late", "turn", [0.0, 1.0, 0.0])
    assert chain(X, drop(column("late"), "late"), total("trajectory"))(None, flags).tolist() == [0.5, 0.0]


def test_a_branch_whose_parent_is_not_here_is_no_sibling_of_the_first_turns() -> None:
    batch = Batch.of_maps([0, 1, 2], ["a"] * 3, turn_index=[0, 0, 2], turn_parent=[-1, -1, -1])
    batch = batch.with_column("turn_reward", "turn", [1.0, 0.0, 8.0])
    assert chain(X, center(siblings))(None, batch).tolist() == [0.5, -0.5, 0.0]


@pytest.mark.parametrize(
    ("level", "values", "said"),
    [
        ("turn", [0, -1, 1], r"column 'state': turn 1 is -1; .*at least 0"),
        ("turn", [0.0, 1.0, 0.5], r"column 'state': turn 2 is 0.5; .*whole"),
        ("trajectory", [0, 1], r"column 'state': peers need one number a turn, it is on 'trajectory'"),
    ],
)
def test_who_is_compared_with_whom_is_a_whole_number_a_turn(level: Any, values: list[float], said: str) -> None:
    """A number cut to a whole one would make two states the same, a negative one would be nobody's."""
    with pytest.raises(ValueError, match=said):
        chain(X, center(by("state")))(None, BATCH.with_column("state", level, values))
    floats = BATCH.with_column("state", "turn", [2.0, None, 2.0])  # whole all the same
    assert chain(X, center(by("state")))(None, floats).tolist() == pytest.approx([0.25, 0.0, -0.25])
