"""Sets of trajectories: how they become index maps, and that columns follow wherever the trajectories go."""

from __future__ import annotations

import pickle

import pytest
import torch

from workbench.batch import Batch
from workbench.rollouts import Rollouts, full_ids
from workbench.trajectory import Message, Prefix, RecordError, Sequence, Span, ToolCall, Trajectory, Turn


def turn(name: str, text: str = "", **more) -> Turn:
    return Turn(Message(name, "assistant", text or f"says {name}"), **more)


def sampled(k: int, *ids: int, logprob: float | None = -1.0) -> Span:
    return Span(ids, "sampled", k, logprobs=None if logprob is None else (logprob,) * len(ids))


def tree() -> Rollouts:
    """A root of three turns, a branch after its first, a branch after the first of that, and a stranger without turns.

    Every id of a sampled token is there once: 10, 11, 12 (root), 20, 21 (branch), 30 (twig).
    """
    root = Trajectory(
        *("r", "g"),
        prompt=(Message("p", "user", "Question?"),),
        turns=(turn("r0", reward=0.5), turn("r1"), turn("r2")),
        sequences=(Sequence((Span((1, 2), "prompt"), sampled(0, 10), sampled(1, 11), sampled(2, 12))),),
        outcome=1.0,
    )
    branch = Trajectory(
        *("b", "g"),
        turns=(turn("b0"), turn("b1")),
        sequences=(Sequence((sampled(0, 20), sampled(1, 21)), Prefix("r", 0, 3)),),
        parent=("r", 0),
        outcome=0.0,
    )
    twig = Trajectory(
        *("t", "g"),
        turns=(turn("t0"),),
        sequences=(Sequence((Span((7,), "observation", -1), sampled(0, 30)), Prefix("b", 0, 4)),),
        parent=("b", 0),
    )
    return Rollouts((root, branch, twig, Trajectory("s", "h")))


# --------------------------------------------------------------------------------------------------- index maps


def test_a_branch_of_a_branch_has_each_sampled_token_once_and_its_credit_where_it_was_sampled():
    rollouts = tree()
    batch = rollouts.batch()
    assert batch.up("token", "trajectory").tolist() == [0, 0, 0, 1, 1, 2]
    ids = [int(batch.sequences[s][p]) for s, p in zip(batch.token_sequence, batch.token_position, strict=True)]
    assert ids == [10, 11, 12, 20, 21, 30]  # each once, at its place in its own forward pass
    assert batch.token_position.tolist() == [2, 3, 4, 3, 4, 5]
    assert full_ids(rollouts, rollouts["t"], 0) == (1, 2, 10, 20, 7, 30)
    assert batch.turn_index.tolist() == [0, 1, 2, 1, 2, 2]  # a branch goes on counting
    assert batch.turn_parent.tolist() == [-1, 0, 1, 0, 3, 3]


def test_a_branch_at_the_prompt_has_no_turn_before_it():
    branch = Trajectory("q", "g", turns=(turn("q0"),), parent=("r", -1))
    batch = Rollouts((tree()["r"], branch)).batch()
    assert batch.turn_index.tolist() == [0, 1, 2, 0] and batch.turn_parent.tolist() == [-1, 0, 1, -1]


def test_a_branch_without_its_parent_keeps_its_maps_and_says_what_is_missing():
    alone = Rollouts((tree()["b"],))
    batch = alone.batch()
    assert batch.turn_parent.tolist() == [-1, 0] and batch.turn_index.tolist() == [1, 2]
    assert batch.sequences == (None,) and batch.token_position.tolist() == [3, 4]
    with pytest.raises(RecordError, match="'r', which is not here; read both together"):
        full_ids(alone, alone[0], 0)
    bad = Trajectory("q", "g", turns=(turn("q0"),), parent=("r", 9))
    with pytest.raises(RecordError, match="branches after turn 9 of 'r', which has no such turn") as caught:
        Rollouts((tree()["r"], bad)).batch()
    assert caught.value.trajectory == "q"


def test_dropped_thinking_is_two_sequences_and_each_token_stands_in_the_one_it_was_sampled_in():
    first = Sequence((Span((1, 2), "prompt"), sampled(0, 90, 91, 5)))
    second = Sequence((Span((1, 2, 5, 6), "prompt"), sampled(1, 92, 7)))
    t = Trajectory("t", "g", turns=(turn("a"), turn("b")), sequences=(first, second))
    batch = Rollouts((t,)).batch()
    assert batch.token_turn.tolist() == [0, 0, 0, 1, 1]
    assert batch.token_sequence.tolist() == [0, 0, 0, 1, 1]
    assert batch.token_position.tolist() == [2, 3, 4, 4, 5]
    assert batch.count("trajectory") == 1 and len(batch.sequences) == 2


def test_two_agents_two_calls_and_states_become_columns():
    calls = (ToolCall("c1", "f", "", {}), ToolCall("c2", "g", "", {}))
    two_calls = Turn(Message("a0", "assistant", calls=calls), agent="planner", state_key="home")
    t = Trajectory(
        "t", "g", turns=(two_calls, turn("a1", agent="worker"), turn("a2", agent="planner", state_key="home"))
    )
    batch = Rollouts((t,)).batch()
    assert [batch.labels["agent"][i] for i in batch["agent"].values] == ["planner", "worker", "planner"]
    assert batch["state"].known.tolist() == [True, False, True]
    assert batch["state"].values[0] == batch["state"].values[2]
    per_call = Rollouts((t,)).with_unit("work", "turn", [0, 0, 1]).batch()
    assert per_call.up("work", "trajectory").tolist() == [0, 0]


def test_unknown_stays_unknown_and_only_sampled_tokens_are_there():
    spans = (Span((1,), "prompt"), sampled(0, 5, 6, logprob=None), Span((7,), "forced", 0), sampled(0, 8))
    t = Trajectory("t", "g", turns=(turn("a", rewards={"format": None}),), sequences=(Sequence(spans),))
    u = Trajectory("u", "g", rewards={"f1": 0.25})
    batch = Rollouts((t, u)).batch()
    assert batch["logprob_old"].known.tolist() == [False, False, True]
    assert batch.token_position.tolist() == [1, 2, 4]  # the forced token is context
    assert batch["outcome"].known.tolist() == [False, False]
    assert batch["f1"].known.tolist() == [False, True]
    assert batch["turn_reward"].known.tolist() == [False] and batch["format"].known.tolist() == [False]


def test_without_tokens_turn_level_columns_work():
    rollouts = Rollouts((Trajectory("t", "g", turns=(turn("a", reward=1.0), turn("b"))),))
    assert not rollouts.has_tokens and not rollouts.batch().has_tokens
    assert rollouts.batch()["turn_reward"].known.tolist() == [True, False]


@pytest.mark.parametrize("trajectories", [(), (Trajectory("s", "h"),)])
def test_nothing_at_all(trajectories):
    rollouts = Rollouts(trajectories)
    assert rollouts.batch().count("turn") == 0 and len(rollouts.to_frame()) == 0
    assert len(rollouts[:]) == len(trajectories) and rollouts.search("x") == []


# ------------------------------------------------------------------------------------------------- a collection


def with_columns() -> Rollouts:
    rollouts = tree().with_unit("phase", "turn", [0, 0, 1, 2, 3, 4])
    rollouts = rollouts.with_column("gain", "turn", [0.0, 1.0, 2.0, 3.0, None, 5.0])
    rollouts = rollouts.with_column("entropy", "token", torch.arange(6.0))
    rollouts = rollouts.with_column("size", "phase", [10, 11, 12, 13, 14])
    return rollouts.with_column("hard", "group", [True, False])


@pytest.mark.parametrize("key", [slice(1, 3), [1, 2], ["b", "t"], (i for i in (1, 2))])
def test_slicing_takes_the_columns_along(key):
    part = with_columns()[key]
    assert [t.id for t in part] == ["b", "t"]
    assert part.columns["gain"].values.tolist() == [3.0, 0.0, 5.0]
    assert part.columns["gain"].known.tolist() == [True, False, True]
    assert part.columns["entropy"].values.tolist() == [3.0, 4.0, 5.0]
    assert part.columns["size"].values.tolist() == [12, 13, 14]
    assert part.columns["hard"].values.tolist() == [True]
    assert part.units["phase"].of.tolist() == [0, 1, 2]
    assert part.batch()["gain"].values.tolist() == [3.0, 0.0, 5.0]


def test_order_may_change_and_reversing_twice_is_nothing():
    rollouts = with_columns()
    back = rollouts[::-1]
    assert [t.id for t in back] == ["s", "t", "b", "r"]
    assert back.columns["gain"].values.tolist() == [5.0, 3.0, 0.0, 0.0, 1.0, 2.0]
    again = back[::-1]
    for name, column in rollouts.columns.items():
        assert torch.equal(again.columns[name].values, column.values), name


def test_one_is_found_by_position_and_by_id():
    rollouts = tree()
    assert rollouts[1].id == rollouts["b"].id == rollouts[-3].id == "b"
    with pytest.raises(KeyError, match="no trajectory 'zz'; there are 4, the first"):
        rollouts["zz"]
    with pytest.raises(KeyError, match="no trajectory 'zz'"):
        rollouts[["r", "zz"]]


def test_ids_are_unique():
    with pytest.raises(RecordError, match="used twice") as caught:
        Rollouts((tree()["r"], tree()["r"]))
    assert caught.value.trajectory == "r"


def test_groups_in_order_of_appearance():
    assert [(g.id, len(g)) for g in tree().groups] == [("g", 3), ("h", 1)]


def test_frame_has_turns_with_their_columns_and_the_outcome():
    frame = with_columns().to_frame()
    assert frame["trajectory"].tolist() == ["r", "r", "r", "b", "b", "t"]
    assert frame["gain"].isna().tolist() == [False] * 4 + [True, False]
    assert frame["outcome"].tolist()[:4] == [1.0, 1.0, 1.0, 0.0]
    assert frame["tokens"].tolist() == [1] * 6


def test_search_goes_through_all():
    assert [(hit.trajectory, hit.turn) for hit in tree().search("SAYS b")] == [("b", 0), ("b", 1)]


def test_pickle_round_trip_keeps_columns_units_and_notes():
    rollouts = with_columns().with_notes("no log-probs")
    rollouts.batch()
    again = pickle.loads(pickle.dumps(rollouts))
    assert again.trajectories == rollouts.trajectories and again.notes == ("no log-probs",)
    assert torch.equal(again.batch()["gain"].values, rollouts.batch()["gain"].values)
    assert torch.equal(again.units["phase"].of, rollouts.units["phase"].of)


def test_columns_that_do_not_fit_are_refused_when_they_are_given():
    with pytest.raises(ValueError, match="level 'turn' has 6 units"):
        tree().with_column("gain", "turn", [0.0])
    assert isinstance(tree().batch(step=3), Batch) and tree().batch(step=3).step == 3
