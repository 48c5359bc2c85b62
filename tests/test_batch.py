"""Index maps, units and columns: what they refuse, how levels compose, and that selecting changes nothing else."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.batch import Batch, codes, make_column

LEVELS = ("token", "turn", "trajectory", "group", "batch")
HOLDERS = {level: LEVELS[i + 1 :] for i, level in enumerate(LEVELS)} | {"phase": LEVELS[2:4], "piece": LEVELS[1:4]}


def small() -> Batch:
    """Three trajectories of two groups; the second has no turns; turn 1 has no tokens."""
    return Batch.of_maps([0, 0, 2, 2], ["x", "y", "x"], [0, 0, 2, 3, 3, 3])


@st.composite
def batches(draw) -> Batch:
    """Ragged batches: no trajectories, no turns, turns without tokens, lone members; units over tokens and turns."""
    turns = draw(st.lists(st.integers(0, 3), max_size=5))
    tokens = draw(st.lists(st.integers(0, 3), min_size=sum(turns), max_size=sum(turns)))
    groups = draw(st.lists(st.integers(0, 2), min_size=len(turns), max_size=len(turns)))
    turn_trajectory = [n for n, k in enumerate(turns) for _ in range(k)]
    token_turn = [k for k, t in enumerate(tokens) for _ in range(t)]
    batch = Batch.of_maps(turn_trajectory, groups, token_turn)
    for name, base, holder in (("phase", "turn", turn_trajectory), ("piece", "token", token_turn)):
        batch = batch.with_unit(name, base, draw(units(holder)))
    for level in (*LEVELS, "phase", "piece"):
        n = batch.count(level)
        known = draw(st.lists(st.booleans(), min_size=n, max_size=n))
        batch = batch.with_column(f"number of {level}", level, torch.arange(n))
        batch = batch.with_column(f"value of {level}", level, torch.randn(n, 2).double(), known)
    return batch


@st.composite
def units(draw, holder: list[int]) -> list[int]:
    """A unit map in order: each entry opens a unit, goes on with the last one of its holder, or is in none."""
    out: list[int] = []
    last, count = {}, 0
    for at in holder:
        what = draw(st.sampled_from(["open", "on", "none"]))
        if what == "open" or (what == "on" and at not in last):
            last[at], count = count, count + 1
        out.append(-1 if what == "none" else last[at])
    return out


# ---------------------------------------------------------------------------------------------------- selecting


@settings(deadline=None, max_examples=50)
@given(batches(), st.data())
def test_selecting_then_reading_is_reading_then_selecting(batch, data):
    n = batch.count("trajectory")
    chosen = data.draw(st.permutations(range(n)).map(lambda p: p[: data.draw(st.integers(0, n))]))
    part = batch.select(chosen)
    assert part.trajectories == tuple(batch.trajectories[i] for i in chosen)
    for level in (*LEVELS, "phase", "piece"):
        old = part[f"number of {level}"].values  # where each kept unit stood before
        assert part.count(level) == len(old)
        before, after = batch[f"value of {level}"], part[f"value of {level}"]
        assert torch.equal(after.values, before.values[old])
        assert torch.equal(after.known, before.known[old])
        for high in HOLDERS[level]:
            new_up, old_up = part.up(level, high), batch.up(level, high)[old]
            assert torch.equal(part[f"number of {high}"].values[new_up], old_up)


@settings(deadline=None, max_examples=30)
@given(batches(), st.data())
def test_selecting_twice_is_selecting_once(batch, data):
    n = batch.count("trajectory")
    first = data.draw(st.permutations(range(n)).map(lambda p: p[: data.draw(st.integers(0, n))]))
    second = data.draw(st.permutations(range(len(first))).map(lambda p: p[: data.draw(st.integers(0, len(first)))]))
    twice, once = batch.select(first).select(second), batch.select([first[i] for i in second])
    for name in ("turn_trajectory", "token_turn", "turn_index", "turn_parent", "token_position", "token_sequence"):
        assert torch.equal(getattr(twice, name), getattr(once, name)), name
    assert twice.trajectories == once.trajectories and twice.groups == once.groups
    for name, column in once.columns.items():
        assert torch.equal(twice[name].values, column.values) and torch.equal(twice[name].known, column.known)
    for name, unit in once.units.items():
        assert torch.equal(twice.units[name].of, unit.of)


def test_selecting_refuses_what_is_not_there():
    with pytest.raises(ValueError, match=r"indices in \[0, 3\)"):
        small().select([3])
    with pytest.raises(ValueError, match="named twice"):
        small().select([0, 0])


# ------------------------------------------------------------------------------------------------------- levels


@settings(deadline=None, max_examples=40)
@given(batches())
def test_going_up_in_steps_is_going_up_at_once(batch):
    for i, low in enumerate(LEVELS):
        assert torch.equal(batch.up(low, low), torch.arange(batch.count(low)))
        for j, middle in enumerate(LEVELS[i:], i):
            for high in LEVELS[j:]:
                at_once = batch.up(low, high)
                assert torch.equal(batch.up(middle, high)[batch.up(low, middle)], at_once)
                assert len(at_once) == batch.count(low)
    assert torch.equal(batch.up("token", "phase"), batch.units["phase"].of[batch.token_turn])


def test_last_of_each_and_minus_one_for_none():
    assert small().last("turn", "trajectory").tolist() == [1, -1, 3]
    assert small().last("token", "turn").tolist() == [1, -1, 2, 5]


def test_levels_do_not_go_down():
    with pytest.raises(ValueError, match="does not hold"):
        small().up("trajectory", "turn")
    with pytest.raises(ValueError, match="no level or unit 'word'"):
        small().count("word")


# -------------------------------------------------------------------------------------------------------- units


def test_a_unit_inside_a_turn_and_one_over_several():
    batch = small().with_unit("segment", "token", [0, 1, 2, 3, 3, 4]).with_unit("phase", "turn", [0, 0, 1, 1])
    assert batch.up("segment", "turn").tolist() == [0, 0, 2, 3, 3]
    assert batch.up("segment", "group").tolist() == [0, 0, 0, 0, 0]
    assert batch.up("phase", "trajectory").tolist() == [0, 2]
    assert batch.up("token", "phase").tolist() == [0, 0, 1, 1, 1, 1]
    with pytest.raises(ValueError, match="crosses turns"):
        batch.up("phase", "turn")


def test_a_unit_of_tokens_may_cross_turns_but_not_trajectories():
    crossing = small().with_unit("span", "token", [0, 0, 1, 1, 1, 1])
    assert crossing.up("span", "trajectory").tolist() == [0, 2]
    with pytest.raises(ValueError, match="crosses turns"):
        crossing.up("span", "turn")
    with pytest.raises(ValueError, match="crosses trajectories"):
        small().with_unit("span", "token", [0, 0, 0, 1, 1, 1])


def test_units_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="6 tokens, got 2 entries"):
        small().with_unit("span", "token", [0, 0])
    with pytest.raises(ValueError, match="expected base 'token' or 'turn'"):
        small().with_unit("span", "group", [0, 0])
    with pytest.raises(ValueError, match="new name"):
        small().with_unit("turn", "token", [0] * 6)


# ------------------------------------------------------------------------------------------------------ columns


def test_columns_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"'reward': level 'turn' has 4 units, got values of shape \(3,\)"):
        small().with_column("reward", "turn", [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"`known` has shape \(2,\)"):
        small().with_column("reward", "turn", [1.0] * 4, [True, False])
    for nonsense in (["good", "bad", "good", "good"], [[1.0], [1.0, 2.0], [], [1.0]], [{}] * 4):
        with pytest.raises(ValueError, match="column 'reward': expected numbers, or None where unknown"):
            small().with_column("reward", "turn", nonsense)
    with pytest.raises(ValueError, match="turn 2 is nan; give known=False"):
        small().with_column("reward", "turn", [1.0, 2.0, float("nan"), 0.0])
    with pytest.raises(ValueError, match="not both"):
        small().with_column("reward", "turn", [1.0, None, 2.0, 3.0], [True] * 4)
    with pytest.raises(ValueError, match="no column 'reward'; there are"):
        small()["reward"]


def test_unknown_values_need_not_be_finite_and_none_is_unknown():
    column = make_column("x", "turn", [float("nan"), 1.0], [False, True], 2)
    assert column.known.tolist() == [False, True]
    column = make_column("x", "turn", [None, 1.0], None, 2)
    assert column.known.tolist() == [False, True] and column.values.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("shape", [(0,), (0, 3), (0, 3, 2)])
def test_columns_of_nothing(shape):
    empty = Batch.of_maps([], [])
    assert empty.with_column("x", "turn", torch.zeros(shape)).count("turn") == 0


def test_columns_have_trailing_axes_and_any_dtype():
    batch = small().with_column("flag", "turn", [True, False, True, True])
    batch = batch.with_column("topk", "token", torch.zeros(6, 2, 3, dtype=torch.int32))
    part = batch.select([2])
    assert part["flag"].values.tolist() == [True, True]
    assert part["topk"].values.shape == (4, 2, 3) and part["topk"].values.dtype == torch.int32


def test_adding_to_a_batch_leaves_the_old_one_as_it_was():
    batch = small()
    more = batch.with_column("x", "turn", [0.0] * 4).with_unit("u", "turn", [0, 1, 2, 3]).at_step(5)
    assert "x" not in batch.columns and not batch.units and batch.step == 0
    assert more.step == 5


# --------------------------------------------------------------------------------------------------------- maps


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"token_turn: expected values in \[0, 2\)"):
        Batch.of_maps([0, 0], ["g"], [0, 2])
    with pytest.raises(ValueError, match="turn_trajectory: expected values"):
        Batch.of_maps([0, 1], ["g"])
    with pytest.raises(ValueError, match="entry 1 does"):
        Batch.of_maps([1, 0], ["g", "g"])
    with pytest.raises(ValueError, match="one-dimensional"):
        Batch.of_maps([[0]], ["g"])


def test_turns_are_counted_and_linked_within_their_trajectory():
    batch = small()
    assert batch.turn_index.tolist() == [0, 1, 0, 1]
    assert batch.turn_parent.tolist() == [-1, 0, -1, 2]
    assert batch.groups == ("x", "y") and batch.trajectory_group.tolist() == [0, 1, 0]


def test_codes_number_in_order_of_appearance():
    coded, known, names = codes(["b", None, "a", "b"])
    assert coded.tolist() == [0, 0, 1, 0] and known.tolist() == [True, False, True, True] and names == ("b", "a")


def test_a_batch_travels_between_processes():
    batch = small().with_column("x", "turn", [0.0, None, 1.0, 2.0]).with_unit("u", "turn", [0, 0, 1, -1])
    again = pickle.loads(pickle.dumps(batch))
    assert again["x"].known.tolist() == [True, False, True, True]
    assert again.units["u"].of.tolist() == [0, 0, 1, -1]
