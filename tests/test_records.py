"""Records of the wrong kind are refused with the field, and rollouts are picked as one expects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from workbench.rollouts import Rollouts
from workbench.trajectory import Example, Group, Message, RecordError, Sequence, Trajectory, Turn

ACTION = Message("a", "assistant", "x")
TURN = Turn(ACTION)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Message("m", "user", None), "'parts'.*expected Part objects, got None"),
        (lambda: Message("m", "assistant", "x", calls=("search",)), "'calls'.*expected ToolCall"),
        (lambda: Turn("hello"), "'action'.*assistant"),
        (lambda: Turn(ACTION, observations=("text",)), "'observations'.*expected Message objects, got 'text'"),
        (lambda: Turn(ACTION, policy_version=3), "'policy_version'.*expected .first, last., got 3"),
        (lambda: Sequence(((1, 2),)), "'spans'.*expected Span"),
        (
            lambda: Trajectory("t", "g", prompt="hello"),
            "trajectory 't'.*'prompt'.*expected Message objects, got 'hello'",
        ),
        (lambda: Trajectory("t", "g", turns=(ACTION,)), "trajectory 't'.*'turns'.*expected Turn"),
        (lambda: Trajectory("t", "g", sequences=((1,),)), "trajectory 't'.*'sequences'.*expected Sequence"),
        (lambda: Group("g", ("t",)), "'trajectories'.*expected Trajectory"),
        (lambda: Rollouts((1,)), "'trajectories'.*expected Trajectory"),
        (lambda: Example((1.5,), (1.0,)), "'ids'.*expected integers"),
        (lambda: Example((1,), (None,)), "'weights'.*0 for context"),
        (lambda: Example((1,), (1.0,), (float("nan"),)), "'logprobs_old'.*finite"),
    ],
)
def test_a_record_of_another_kind_is_refused(build: Callable[[], Any], says: str) -> None:
    with pytest.raises(RecordError, match=says):
        build()


def test_nobody_is_his_own_ancestor() -> None:
    one = Trajectory("one", "g", turns=(TURN,), parent=("two", -1))
    two = Trajectory("two", "g", turns=(TURN,), parent=("one", -1))
    with pytest.raises(RecordError, match="'parent'.*circle"):
        Rollouts((one, two))


def test_rollouts_are_picked_by_what_numpy_and_pandas_give() -> None:
    rollouts = Rollouts(tuple(Trajectory(name, "g", turns=(TURN,)) for name in "abc"))

    def ids(picked: Rollouts) -> list[str]:
        return [t.id for t in picked]

    assert rollouts[np.int64(1)].id == "b" and rollouts[-1].id == "c"
    assert ids(rollouts[np.array([2, 0])]) == ["c", "a"] and ids(rollouts[[-1]]) == ["c"]
    assert ids(rollouts[np.array([True, False, True])]) == ["a", "c"] and ids(rollouts[[]]) == []
    with pytest.raises(IndexError, match="one flag a trajectory"):
        rollouts[[True]]
    with pytest.raises(IndexError):
        rollouts[[3]]


def test_unknown_numbers_of_a_frame_are_missing_values() -> None:
    frame = Trajectory("t", "g", turns=(TURN, Turn(Message("b", "assistant", "y"), reward=1.0))).to_frame()
    assert frame["reward"].dtype == "float64" and frame["reward"].isna().tolist() == [True, False]
    assert frame["tokens"].isna().all() and len(Group("g", ()).to_frame()) == 0
