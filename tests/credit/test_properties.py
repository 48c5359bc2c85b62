"""What must hold on any ragged batch: lone members, one-turn rollouts, no turns, no tokens, unknown evidence, ties."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import (
    Credit,
    Node,
    above,
    average,
    backup,
    batch_and_turn,
    center,
    chain,
    clip,
    constant,
    count_before,
    difference,
    drop,
    equals,
    fewer_than,
    fill,
    forget,
    gae,
    last,
    minmax,
    mix,
    multiply,
    place,
    read,
    reward_to_go,
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

VALUES = st.one_of(st.none(), st.sampled_from([0.0, 1.0, -1.0, 0.1]), st.floats(-4, 4, width=32))
KNOWN_VALUES = st.one_of(st.sampled_from([0.0, 1.0, 0.1]), st.floats(-4, 4, width=32))


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Any small batch: some trajectories without turns, some turns without tokens, some batches without either."""
    turns = draw(st.lists(st.integers(0, 4), min_size=1, max_size=7))
    groups = [draw(st.integers(0, 2)) for _ in turns]
    tokens = [draw(st.integers(0, 3)) for _ in range(sum(turns))] if draw(st.booleans()) else [0] * sum(turns)
    owner = [i for i, n in enumerate(turns) for _ in range(n)]
    batch = Batch.of_maps(owner, groups, [k for k, n in enumerate(tokens) for _ in range(n)])
    for name, level, values in (
        ("outcome", "trajectory", VALUES),
        ("turn_reward", "turn", VALUES),
        ("logprob_old", "token", VALUES),
        ("value", "turn", VALUES),
        ("evidence", "turn", VALUES),
        ("start", "trajectory", VALUES),
        ("known_outcome", "trajectory", KNOWN_VALUES),
    ):
        n = batch.count(level)
        drawn = [draw(values) for _ in range(n)]
        x = torch.tensor([0.0 if v is None else v for v in drawn], dtype=torch.float64)
        batch = batch.with_column(name, level, x, torch.tensor([v is not None for v in drawn], dtype=torch.bool))
    states = torch.tensor([draw(st.integers(0, 2)) for _ in owner], dtype=torch.int64)
    return batch.with_column("state", "turn", states)


R, T = read("outcome"), read("turn_reward")
PEERS = [task, everything, trajectory]
TURN_PEERS = [*PEERS, task_and_turn, same_state, siblings, batch_and_turn]
KEEPING: list[Node] = [  # stages that keep the level and must keep unknown unknown
    *(center(p, singleton=s, leave_one_out=loo) for p in TURN_PEERS for s in ("zero", "keep") for loo in (True, False)),  # type: ignore[arg-type]
    *(zscore(p, ddof=d, eps_root=r) for p in TURN_PEERS for d, r in ((0, 1e-8), (1, 0.0))),
    *(scale(p, by=by) for p in PEERS for by in ("std", "mean")),  # type: ignore[arg-type]
    *(minmax(p) for p in TURN_PEERS),
    zscore(task_and_turn, fewest=3),
    zscore(task, singleton="drop"),
    clip(-1.0, 1.0),
    reward_to_go(0.9),
    reward_to_go(0.9, gap="zero"),
    reward_to_go(rescale="sqrt_terms"),
    gae(0.9, 0.5),
    count_before(above(0.0)),
    difference(),
    difference("start"),
    forget(equals(0.0)),
    drop(constant(task), "equal"),
    drop(fewer_than(2, task_and_turn), "few"),
    chain(mix(clip(), reward_to_go())),
    chain(multiply(clip(), reward_to_go())),
]
MOVING: list[Node] = [
    chain(R, spread("token")),
    chain(R, place("turn")),
    chain(R, place("turn", "unknown"), fill("previous")),
    chain(T, total("trajectory"), zscore(task), spread("turn")),
    chain(T, average("group"), spread("token")),
    chain(T, fill("next"), fill(0.0)),
    chain(T, backup("mean")),
    chain(T, backup("visits")),
    chain(R, share("evidence")),
    mix(chain(R, spread("turn")), T, unknown="skip"),
]
ANY_CHAIN = [chain(T, node) for node in KEEPING] + MOVING


def value_of(credit: Credit) -> Tensor:
    return torch.where(credit.known, credit.values, torch.nan)


def same(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> bool:
    return a.shape == b.shape and bool(torch.allclose(a, b, rtol=1e-7, atol=tolerance, equal_nan=True))


@settings(max_examples=40, deadline=None)
@given(batches())
def test_finite_and_of_the_right_length(batch: Batch) -> None:
    for node in ANY_CHAIN:
        for step in node.trace(batch):
            credit = step.credit
            assert len(credit) == len(credit.known) == batch.count(credit.level), step.label
            assert credit.values.dtype == torch.float64 and bool(torch.isfinite(credit.values[credit.known]).all())
            assert credit.dropped is None or not bool((credit.known & (credit.dropped > 0)).any())
            assert sum(v for k, v in credit.counts().items() if k != "zero") == len(credit)


@settings(max_examples=40, deadline=None)
@given(batches())
def test_unknown_stays_unknown(batch: Batch) -> None:
    before = T(None, batch)
    for node in KEEPING:
        after = node(before, batch)
        assert not bool((after.known & ~before.known).any()), repr(node)


@settings(max_examples=40, deadline=None)
@given(batches())
def test_what_unknown_units_hold_changes_nothing(batch: Batch) -> None:
    other = batch
    for name, c in batch.columns.items():
        if c.values.is_floating_point():
            filler = torch.where(c.known, c.values, torch.full_like(c.values, 1e6))
            other = other.with_column(name, c.level, filler, c.known)
    for node in ANY_CHAIN:
        one, two = node(None, batch), node(None, other)
        assert torch.equal(one.known, two.known) and same(value_of(one), value_of(two)), repr(node)


@settings(max_examples=40, deadline=None)
@given(batches(), st.randoms(use_true_random=False))
def test_trajectories_may_come_in_any_order(batch: Batch, random: Any) -> None:
    order = list(range(batch.count("trajectory")))
    random.shuffle(order)
    name = {"turn": torch.arange(batch.count("turn")), "token": torch.arange(batch.count("token"))}
    tagged = batch.with_column("id_turn", "turn", name["turn"]).with_column("id_token", "token", name["token"])
    moved = tagged.select(order)
    back = {"turn": moved["id_turn"].values, "token": moved["id_token"].values, "trajectory": torch.tensor(order)}
    for node in ANY_CHAIN:
        here, there = node(None, batch), node(None, moved)
        assert same(value_of(here)[back[here.level]], value_of(there)), repr(node)


@settings(max_examples=40, deadline=None)
@given(batches())
def test_equal_rewards_give_no_relative_credit(batch: Batch) -> None:
    known = batch["outcome"].known
    equal = batch.with_column("outcome", "trajectory", torch.full((len(known),), 0.1, dtype=torch.float64), known)
    for peers in PEERS:
        for node in (center(peers), center(peers, leave_one_out=True), zscore(peers), zscore(peers, ddof=0, eps=0.0)):
            credit = chain(R, node, spread("turn"))(None, equal)
            assert bool((credit.values[credit.known] == 0).all()), repr(node)
    left = chain(R, drop(constant(task), "equal"), spread("turn"))(None, equal)
    assert not bool(left.known.any())


@settings(max_examples=40, deadline=None)
@given(batches())
def test_centred_sums_to_zero_within_peers(batch: Batch) -> None:
    for peers in TURN_PEERS:
        key = peers(batch, "turn")
        credit = chain(T, center(peers))(None, batch)
        for k in set(key.tolist()):
            mine = credit.values[(key == k) & credit.known]
            assert float(mine.sum()) == pytest.approx(0.0, abs=1e-9), repr(peers)


@settings(max_examples=40, deadline=None)
@given(batches())
def test_placed_credit_sums_to_the_level_above(batch: Batch) -> None:
    for level, node in (("trajectory", R), ("turn", T)):
        for to in ("turn", "token") if level == "trajectory" else ("token",):
            down = chain(node, place(to), total(level))(None, batch)
            up = node(None, batch)
            reached = torch.zeros(len(up), dtype=torch.bool)
            reached[batch.up(to, level)] = True
            assert torch.equal(down.known, up.known & reached)
            assert same(value_of(down)[down.known], value_of(up)[down.known])


@settings(max_examples=30, deadline=None)
@given(batches())
def test_dropping_everything_leaves_nothing_and_breaks_nothing(batch: Batch) -> None:
    gone = chain(R, drop(~equals(1e9), "all"))
    tail = (zscore(task), spread("turn"), reward_to_go(), fill("next"), fill(0.0), spread("token"))
    assert not bool(chain(gone, *tail)(None, batch).known.any())


# ------------------------------------------------------------------------- the same in loops, one stage at a time

Row = list[list[float | None]]


def rows_of(credit: Credit, batch: Batch) -> Row:
    """Turn-level credit as one list a trajectory."""
    out: Row = [[] for _ in range(batch.count("trajectory"))]
    for owner, value in zip(batch.turn_trajectory.tolist(), credit.tolist(), strict=True):
        out[owner].append(value)
    return out


def each_row(fn: Callable[[list[float | None]], list[float | None]]) -> Callable[[Row, Batch], Row]:
    return lambda rows, batch: [fn(row) for row in rows]


def slow_reward_to_go(gamma: float, gap: str, rescale: bool) -> Callable[[Row, Batch], Row]:
    def row(values: list[float | None]) -> list[float | None]:
        out: list[float | None] = []
        total, terms = 0.0, 0
        for v in reversed(values):
            if v is None:
                out.insert(0, None)
                total = total * gamma if gap == "zero" else total
                continue
            total, terms = v + gamma * total, terms + 1
            out.insert(0, total / math.sqrt(terms) if rescale else total)
        return out

    return each_row(row)


def slow_gae(gamma: float, lam: float) -> Callable[[Row, Batch], Row]:
    def run(rows: Row, batch: Batch) -> Row:
        out: Row = []
        for row, values in zip(rows, rows_of(read("value")(None, batch), batch), strict=True):
            now: list[float | None] = [None] * len(row)
            later, ahead = 0.0, 0.0
            for k in reversed(range(len(row))):
                x, v = row[k], values[k]
                if x is not None and v is not None:
                    later = x + gamma * ahead - v + gamma * lam * later
                    now[k], ahead = later, v
            out.append(now)
        return out

    return run


def slow_peers(key: Any, statistic: Callable[[float, list[float]], float]) -> Callable[[Row, Batch], Row]:
    """`key(batch, i, k)` says with whom turn k of trajectory i is compared."""

    def run(rows: Row, batch: Batch) -> Row:
        sets: dict[Any, list[float]] = {}
        for i, row in enumerate(rows):
            for k, v in enumerate(row):
                if v is not None:
                    sets.setdefault(key(batch, i, k), []).append(v)
        return [
            [None if v is None else statistic(v, sets[key(batch, i, k)]) for k, v in enumerate(row)]
            for i, row in enumerate(rows)
        ]

    return run


def z(v: float, peers: list[float], ddof: int = 1, eps: float = 1e-6) -> float:
    mean = math.fsum(peers) / len(peers)
    if len(peers) < 2 or max(peers) == min(peers):
        return 0.0
    return (v - mean) / (math.sqrt(math.fsum((p - mean) ** 2 for p in peers) / (len(peers) - ddof)) + eps)


def without(v: float, peers: list[float]) -> float:
    return 0.0 if len(peers) == 1 else v - (math.fsum(peers) - v) / (len(peers) - 1)


def in_task(batch: Batch, i: int, k: int) -> Any:
    return int(batch.trajectory_group[i])


def in_task_and_turn(batch: Batch, i: int, k: int) -> Any:
    return int(batch.trajectory_group[i]), k


def slow_count(row: list[float | None]) -> list[float | None]:
    return [None if v is None else float(sum(w is not None and w > 0 for w in row[:k])) for k, v in enumerate(row)]


def slow_difference(row: list[float | None]) -> list[float | None]:
    out: list[float | None] = []
    before = 0.25
    for v in row:
        out.append(None if v is None else v - before)
        before = before if v is None else v
    return out


LOOPS: list[tuple[Node, Callable[[Row, Batch], Row]]] = [
    (reward_to_go(0.9), slow_reward_to_go(0.9, "skip", False)),
    (reward_to_go(0.9, gap="zero"), slow_reward_to_go(0.9, "zero", False)),
    (reward_to_go(0.5, rescale="sqrt_terms"), slow_reward_to_go(0.5, "skip", True)),
    (gae(0.9, 0.7), slow_gae(0.9, 0.7)),
    (zscore(task), slow_peers(in_task, z)),
    (zscore(task_and_turn, ddof=0, eps=0.5), slow_peers(in_task_and_turn, lambda v, p: z(v, p, 0, 0.5))),
    (center(task, leave_one_out=True), slow_peers(in_task, without)),
    (minmax(task, eps=1.0), slow_peers(in_task, lambda v, p: (v - min(p)) / (max(p) - min(p) + 1.0))),
    (count_before(above(0.0)), each_row(slow_count)),
    (difference(0.25), each_row(slow_difference)),
    (forget(last()), each_row(lambda row: [*row[:-1], *([None] if row else [])])),
]


@pytest.mark.parametrize(("node", "slow"), LOOPS, ids=[repr(node) for node, _ in LOOPS])
@settings(max_examples=40, deadline=None)
@given(batch=batches())
def test_against_loops(node: Node, slow: Callable[[Row, Batch], Row], batch: Batch) -> None:
    start = T(None, batch)
    got, expected = rows_of(node(start, batch), batch), slow(rows_of(start, batch), batch)
    for one, other in zip(got, expected, strict=True):
        assert [v is None for v in one] == [v is None for v in other]
        assert [v for v in one if v is not None] == pytest.approx([v for v in other if v is not None], abs=1e-8)
