"""Every stage on numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from workbench.batch import Batch
from workbench.credit import (
    Credit,
    Node,
    above,
    add,
    average,
    batch_and_turn,
    by,
    center,
    chain,
    clip,
    column,
    constant,
    delta,
    difference,
    drop,
    equals,
    fewer_than,
    fill,
    first,
    forget,
    last,
    linear,
    minmax,
    place,
    read,
    role,
    same_state,
    scale,
    share,
    siblings,
    spread,
    task,
    task_and_turn,
    total,
    trajectory,
    zscore,
)
from workbench.credit import batch as everything

# trajectories 0, 1, 2 of task a (3, 2 and 1 turns), trajectory 3 alone with task b (2 turns)
MAPS = Batch.of_maps([0, 0, 0, 1, 1, 2, 3, 3], ["a", "a", "a", "b"], [0, 0, 1, 2, 3, 4, 4, 5, 6, 7])


def run(node: Node, batch: Batch = MAPS, /, **columns: Any) -> list[float | None]:
    """Run a chain on the batch with some columns, each on the level whose count it has."""
    level = {8: "turn", 4: "trajectory", 10: "token"}
    for name, values in columns.items():
        batch = batch.with_column(name, level.get(len(values), "turn"), values)
    return node(None, batch).tolist()


X = read("x")
TURNS = [1.0, 3.0, 8.0, 5.0, None, 3.0, 2.0, 2.0]


# ------------------------------------------------------------------------------------------------------- signal


def test_read_keeps_unknown_and_refuses_vectors_and_other_levels() -> None:
    assert run(X, x=TURNS) == TURNS
    with pytest.raises(ValueError, match=r"one number a unit.*\(8, 2\)"):
        run(X, x=torch.zeros(8, 2))
    with pytest.raises(ValueError, match="expected level 'token', the column is on 'turn'"):
        run(read("x", "token"), x=TURNS)


def test_difference_steps_over_unknown() -> None:
    x = [1.0, None, 8.0, 5.0, 5.0, 3.0, None, 2.0]
    assert run(delta("x"), x=x) == [None, None, 7.0, None, 0.0, None, None, None]
    assert run(delta("x", 1.0), x=x) == [0.0, None, 7.0, 4.0, 0.0, 2.0, None, 1.0]
    assert run(delta("x", "x0"), x=x, x0=[0.5, None, 3.0, 0.0]) == [0.5, None, 7.0, None, 0.0, 0.0, None, 2.0]


def test_difference_through_a_link_and_by_token() -> None:
    x = [math.log(v) for v in (0.1, 0.4, 0.5, 0.2, 0.2, 0.3, 0.1, 0.9)]
    start = [math.log(0.05)] * 4
    got = run(delta("x", "x0", torch.exp), x=x, x0=start)
    assert got == pytest.approx([0.05, 0.3, 0.1, 0.15, 0.0, 0.25, 0.05, 0.8])
    tokens = [1.0, 2.0, 4.0, 8.0, 1.0, None, 4.0, 1.0, 1.0, 3.0]
    assert run(chain(X, difference(0.0)), x=tokens) == [1.0, 1.0, 2.0, 4.0, 1.0, None, 3.0, 1.0, 1.0, 2.0]


def tree() -> Batch:
    """Root 0 - 1 - 2; a branch after turn 0 (turns 3, 4); a branch of that branch after turn 3 (turn 5)."""
    return Batch.of_maps(
        [0, 0, 0, 1, 1, 2],
        ["a"] * 3,
        range(6),
        turn_index=[0, 1, 2, 1, 2, 2],
        turn_parent=[-1, 0, 1, 0, 3, 3],
    )


def test_difference_of_a_branch_begins_where_it_branched() -> None:
    values = [1.0, 3.0, 6.0, 5.0, 4.0, 9.0]
    batch = tree().with_column("x", "turn", values).with_column("x0", "trajectory", [0.5, 0.5, 0.5])
    assert delta("x", "x0")(None, batch).tolist() == [0.5, 2.0, 3.0, 4.0, -1.0, 4.0]
    gap = tree().with_column("x", "turn", [1.0, 3.0, 6.0, None, 4.0, 9.0]).with_column("x0", "trajectory", [0.5] * 3)
    assert delta("x", "x0")(None, gap).tolist() == [0.5, 2.0, 3.0, None, 3.0, 8.0]
    alone = batch.select([2])  # what it branched from is not here
    assert delta("x", "x0")(None, alone).tolist() == [None]
    tokens = tree().with_column("x", "token", values).with_column("x0", "trajectory", [0.5] * 3)
    assert delta("x", "x0")(None, tokens).tolist() == [0.5, 2.0, 3.0, None, -1.0, None]


def test_share_splits_by_softmax_and_conserves() -> None:
    e = [0.0, math.log(3.0), None, 1.0, 1.0, 7.0, None, None]
    x = [8.0, 2.0, None, 4.0]
    assert run(chain(X, share("e")), x=x, e=e) == pytest.approx([2.0, 6.0, None, 1.0, 1.0, None, None, None])
    halved = run(chain(X, share("e", temperature=0.5)), x=x, e=e)
    assert halved[:2] == pytest.approx([0.8, 7.2])
    with pytest.raises(ValueError, match="temperature > 0"):
        share("e", 0.0)


# ---------------------------------------------------------------------------------------------------- normalise


def test_center_mean_leave_one_out_weights() -> None:
    x = [1.0, 0.0, None, 0.4]
    assert run(chain(X, center(task)), x=x) == [0.5, -0.5, None, 0.0]
    assert run(chain(X, center(task, leave_one_out=True)), x=x) == [1.0, -1.0, None, 0.0]
    w = [3.0, 1.0, 5.0, 1.0]
    assert run(chain(X, center(task, weights=column("w"))), x=x, w=w) == [0.25, -0.75, None, 0.0]
    loo = chain(X, center(task, leave_one_out=True, weights=column("w")))
    assert run(loo, x=[1.0, 0.0, 4.0, 0.4], w=[3.0, 1.0, 1.0, 1.0]) == pytest.approx([-1.0, -1.75, 3.25, 0.0])


@pytest.mark.parametrize(("singleton", "lone"), [("zero", 0.0), ("keep", 0.4), ("drop", None)])
def test_lone_members(singleton: Any, lone: float | None) -> None:
    x = [1.0, 0.0, 0.5, 0.4]
    assert run(chain(X, center(task, singleton=singleton)), x=x)[3] == lone
    assert run(chain(X, center(task, leave_one_out=True, singleton=singleton)), x=x)[3] == lone
    out = chain(X, zscore(task, singleton=singleton))(None, MAPS.with_column("x", "trajectory", x))
    assert out.tolist()[3] == (pytest.approx(0.4 / (1 + 1e-6), abs=1e-12) if singleton == "keep" else lone)
    assert out.counts().get("no peers", 0) == (1 if singleton == "drop" else 0)


def test_zscore_conventions() -> None:
    x = [1.0, 0.0, 0.5, 0.4]  # mean 0.5, sum of squares 0.5

    def first_of(**params: Any) -> float | None:
        return run(chain(X, zscore(task, **params)), x=x)[0]

    assert first_of(eps=0.0) == pytest.approx(0.5 / 0.5)
    assert first_of(eps=0.0, ddof=0) == pytest.approx(0.5 / math.sqrt(1 / 6))
    assert first_of(eps=0.5) == pytest.approx(0.5)
    assert first_of(eps=0.0, eps_root=0.75) == pytest.approx(0.5)
    assert first_of(eps=9.0, least=0.5) == 0.5  # a root not above `least` divides by 1
    assert first_of(eps=9.0, least=0.49) == pytest.approx(0.5 / 9.5)


@pytest.mark.parametrize("params", [{}, {"ddof": 0, "eps_root": 1e-8}, {"least": 1e-6}, {"eps": 0.0, "eps_root": 1e-8}])
def test_equal_peers_give_exactly_zero(params: Any) -> None:
    assert run(chain(X, zscore(task, **params)), x=[0.1, 0.1, 0.1, 0.1]) == [0.0] * 4
    assert run(chain(X, center(task)), x=[0.1, 0.1, 0.1, 0.1]) == [0.0] * 4
    assert run(chain(X, center(task, leave_one_out=True)), x=[0.1, 0.1, 0.1, 0.1]) == [0.0] * 4


def test_zscore_of_small_peer_sets_uses_the_wider_ones() -> None:
    x = [2.0, 0.0, 1.0, 0.0, 2.0, 4.0, 4.0, 3.0]  # turn 0: 2 0 4 4; turn 1: 0 2 3; turn 2: 1
    got = run(chain(X, zscore(batch_and_turn, ddof=0, eps=0.0, fewest=4)), x=x)
    mean, spread = 2.0, math.sqrt(sum((v - 2.0) ** 2 for v in x) / 8)
    of_turn_0 = math.sqrt((0.25 + 6.25 + 2.25 + 2.25) / 4)
    assert got[0] == pytest.approx((2.0 - 2.5) / of_turn_0)
    assert [got[1], got[2]] == pytest.approx([(0.0 - mean) / spread, (1.0 - mean) / spread])


def test_scale_by_spread_and_by_mean() -> None:
    x = [1.0, 3.0, 5.0, 4.0]
    assert run(chain(X, scale(task, eps=0.0)), x=x) == pytest.approx([0.5, 1.5, 2.5, 4.0])
    assert run(chain(X, scale(task, eps=0.0, by="mean")), x=x) == pytest.approx([1 / 3, 1.0, 5 / 3, 4.0])
    assert run(chain(X, scale(task, eps=1.0, by="mean", singleton="zero")), x=x) == pytest.approx([0.25, 0.75, 1.25, 0])
    assert run(chain(X, scale(task, by="mean", eps=9.0, least=3.0)), x=x)[:3] == x[:3]
    assert run(chain(X, scale(task, singleton="drop")), x=x)[3] is None
    assert run(chain(X, scale(task)), x=[2.0] * 4)[:3] == [2.0] * 3  # no spread divides by 1


def test_minmax_clip_add() -> None:
    x = [1.0, 3.0, 5.0, 4.0]
    assert run(chain(X, minmax(task)), x=x) == [0.0, 0.5, 1.0, 0.0]
    assert run(chain(X, minmax(task, eps=4.0)), x=x) == [0.0, 0.25, 0.5, 0.0]
    assert run(chain(X, minmax(task, least=4.0)), x=x) == [0.0] * 4
    assert run(chain(X, minmax(everything, least=3.9)), x=[None, *x[1:]]) == [None, 0.0, 0.0, 0.0]
    assert run(chain(X, clip(2.0, 4.5)), x=x) == [2.0, 3.0, 4.5, 4.0]
    assert run(chain(X, clip(high=column("top"))), x=x, top=[0.0, 9.0, 4.0, 9.0]) == [0.0, 3.0, 4.0, 4.0]
    assert run(chain(X, clip(linear(0.0, 4.0, 10))), MAPS.at_step(5), x=x) == [2.0, 3.0, 5.0, 4.0]
    assert run(chain(X, add("v", -1.0)), x=x, v=[1.0, None, 2.0, 0.0]) == [0.0, None, 3.0, 4.0]
    turn = run(chain(X, add("v", linear(0.0, 1.0, 2))), MAPS.at_step(1), x=TURNS, v=[2.0, 4.0, 6.0, 8.0])
    assert turn == [2.0, 4.0, 9.0, 7.0, None, 6.0, 6.0, 6.0]


# -------------------------------------------------------------------------------------------------------- peers


def test_with_whom_a_turn_is_compared() -> None:
    b = MAPS.with_column("state", "turn", [7, 8, 7, 7, None, 8, 7, 7]).with_column("agent", "turn", [0, 1] * 4)
    x = {"x": [1.0, 3.0, 8.0, 5.0, 6.0, 3.0, 2.0, 2.0]}

    def centred(peers: Any) -> list[float | None]:
        return [None if v is None else round(v, 6) for v in run(chain(X, center(peers)), b, **x)]

    assert centred(task) == pytest.approx([v - 26 / 6 for v in x["x"][:6]] + [0.0, 0.0], abs=1e-6)
    assert centred(task_and_turn) == [-2.0, -1.5, 0.0, 2.0, 1.5, 0.0, 0.0, 0.0]
    assert centred(same_state) == pytest.approx([-11 / 3, 0.0, 10 / 3, 1 / 3, 0.0, 0.0, 0.0, 0.0], abs=1e-6)
    assert centred(by("state")) == centred(same_state)
    assert centred(role) == pytest.approx([-4.0, -2 / 3, 3.0, 4 / 3, 1.0, -2 / 3, 0.0, 0.0], abs=1e-6)
    assert centred(batch_and_turn) == pytest.approx([-1.75, -2 / 3, 0.0, 2.25, 7 / 3, 0.25, -0.75, -5 / 3], abs=1e-6)
    assert centred(trajectory) == [-3.0, -1.0, 4.0, -0.5, 0.5, 0.0, 0.0, 0.0]
    assert centred(everything) == pytest.approx([v - 3.75 for v in x["x"]])


def test_siblings_are_the_continuations_of_one_turn() -> None:
    batch = tree().with_column("x", "turn", [1.0, 3.0, 6.0, 5.0, 4.0, 9.0])
    assert chain(X, center(siblings))(None, batch).tolist() == [0.0, -1.0, 0.0, 1.0, -2.5, 2.5]


# ------------------------------------------------------------------------------------------------------- levels

CALLS = [0, 1, 1, 2, -1, 3, 3, 4, 5, 6]  # a unit inside turns: two calls in turn 0's successor, none for token 4
PHASES = [0, 0, 1, 2, 2, -1, 3, 3]  # a unit over several turns


def test_spread_place_total_average_down_and_up() -> None:
    x = [1.0, 3.0, None, 4.0]
    assert run(chain(X, spread("turn")), x=x) == [1.0, 1.0, 1.0, 3.0, 3.0, None, 4.0, 4.0]
    assert run(chain(X, spread("token")), x=x) == [1.0] * 4 + [3.0] * 3 + [None] + [4.0] * 2
    assert run(chain(X, place("turn")), x=x) == [0.0, 0.0, 1.0, 0.0, 3.0, None, 0.0, 4.0]
    assert run(chain(X, place("turn", "unknown")), x=x) == [None, None, 1.0, None, 3.0, None, None, 4.0]
    assert run(chain(X, total("trajectory")), x=TURNS) == [12.0, 5.0, 3.0, 4.0]
    assert run(chain(X, average("trajectory")), x=TURNS) == [4.0, 5.0, 3.0, 2.0]
    assert run(chain(X, average("group")), x=TURNS) == [4.0, 2.0]
    assert run(chain(X, total("batch")), x=[None] * 8) == [None]
    assert run(chain(X, average("batch"), spread("trajectory")), x=x) == [pytest.approx(8 / 3)] * 4


def test_units_inside_a_turn() -> None:
    b = Batch.of_maps([0, 0, 1], ["a", "a"], [0, 0, 0, 0, 1, 2, 2]).with_unit("call", "token", [0, 0, 1, -1, 2, 3, 4])
    b = b.with_column("x", "turn", [1.0, None, 3.0]).with_column("c", "call", [1.0, 2.0, 4.0, 8.0, 16.0])
    down = chain(read("x", "turn"), spread("call"))(None, b)
    assert down.tolist() == [1.0, 1.0, None, 3.0, 3.0]
    assert chain(read("c", "call"), spread("token"))(None, b).tolist() == [1.0, 1.0, 2.0, None, 4.0, 8.0, 16.0]
    assert chain(read("c", "call"), place("token"))(None, b).tolist() == [0.0, 1.0, 2.0, None, 4.0, 8.0, 16.0]
    assert chain(read("x", "turn"), place("call"))(None, b).tolist() == [0.0, 1.0, None, 0.0, 3.0]
    assert chain(read("c", "call"), total("turn"))(None, b).tolist() == [3.0, 4.0, 24.0]
    assert chain(read("c", "call"), average("trajectory"))(None, b).tolist() == [pytest.approx(7 / 3), 12.0]


def test_units_over_several_turns() -> None:
    b = MAPS.with_unit("phase", "turn", PHASES).with_column("p", "phase", [1.0, 2.0, None, 8.0])
    assert chain(read("p", "phase"), spread("turn"))(None, b).tolist() == [1.0, 1.0, 2.0, None, None, None, 8.0, 8.0]
    assert chain(read("p", "phase"), place("turn"))(None, b).tolist() == [0.0, 1.0, 2.0, None, None, None, 0.0, 8.0]
    on_tokens = chain(read("p", "phase"), spread("token"))(None, b).tolist()
    assert on_tokens == [1.0, 1.0, 1.0, 2.0, None, None, None, None, 8.0, 8.0]
    assert run(chain(X, total("phase")), b, x=TURNS) == [4.0, 8.0, 5.0, 4.0]


# ------------------------------------------------------------------------------------------------------ unknown


def test_fill_forget_drop() -> None:
    x = [None, 3.0, None, 5.0, None, None, 2.0, 2.0]
    assert run(chain(X, fill(-1.0)), x=x) == [-1.0, 3.0, -1.0, 5.0, -1.0, -1.0, 2.0, 2.0]
    assert run(chain(X, fill("next")), x=x) == [3.0, 3.0, None, 5.0, None, None, 2.0, 2.0]
    assert run(chain(X, fill("previous")), x=x) == [None, 3.0, 3.0, 5.0, 5.0, None, 2.0, 2.0]
    assert run(chain(X, forget(equals(2.0))), x=x) == [None, 3.0, None, 5.0, None, None, None, None]
    dropped = chain(X, drop(above(2.5), "large"), fill(0.0))(None, MAPS.with_column("x", "turn", x))
    assert dropped.tolist() == [0.0, None, 0.0, None, 0.0, 0.0, 2.0, 2.0]
    assert dropped.counts() == {"known": 6, "zero": 4, "unknown": 0, "large": 2}
    with pytest.raises(ValueError, match="'next' or 'previous', got 'later'"):
        fill("later")  # type: ignore[arg-type]


def test_predicates() -> None:
    b = MAPS.with_column("flag", "trajectory", [True, False, None, True]).with_column("x", "turn", TURNS)
    credit = Credit(b["x"].values.double(), "turn", b["x"].known)

    def which(where: Any) -> list[int]:
        return torch.nonzero(where(credit, b)).flatten().tolist()

    assert which(column("flag")) == [0, 1, 2, 6, 7] and which(~column("flag")) == [3, 4, 5]
    assert which(constant(task)) == [6, 7] and which(constant(trajectory)) == [3, 4, 5, 6, 7]
    assert which(fewer_than(3, task)) == [6, 7] and which(fewer_than(2, task_and_turn)) == [1, 2, 4, 6, 7]
    assert which(last()) == [2, 4, 5, 7] and which(first()) == [0, 3, 5, 6]
    assert which(above(3.0)) == [2, 3] and which(~above(3.0)) == [0, 1, 4, 5, 6, 7]
    assert column("flag").needs == ("flag",) and (~column("flag")).needs == ("flag",)


def test_a_drop_travels_down_with_its_reason() -> None:
    out = chain(X, drop(constant(task), "equal"), spread("token"))
    credit = out(None, MAPS.with_column("x", "trajectory", [1.0, 0.0, None, 0.4]))
    assert credit.tolist() == [1.0] * 4 + [0.0] * 3 + [None] * 3
    assert credit.counts() == {"known": 7, "zero": 3, "unknown": 1, "equal": 2}
    assert credit.dropped is not None and credit.dropped.tolist() == [0] * 8 + [1, 1]
