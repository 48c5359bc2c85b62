from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.evidence import Cache, collect
from workbench.evidence.answers import set_f1
from workbench.evidence.matching import (
    GoldCall,
    ToolMatching,
    call_rewards,
    match_greedy,
    match_optimal,
    match_transport,
    similarity,
    similarity_matrix,
    turn_means,
)
from workbench.rollouts import Rollouts
from workbench.trajectory import Message, RecordError, ToolCall, Trajectory, Turn

CALLS = [
    GoldCall("search", {"x": 1, "y": 2}),
    GoldCall("search", {"y": 2}),
    GoldCall("Lookup", {"id": "7"}),
    GoldCall("other", {"k": 1}),
]
GOLD = [
    GoldCall("search", {"x": 1, "y": 2}),
    GoldCall("search", {"x": 1}),
    GoldCall("lookup", {"id": 7, "lang": "en"}),
]
SIMILARITIES = [[1.0, 0.833333, 0.0], [0.625, 0.333333, 0.0], [0.0, 0.0, 0.375], [0.0, 0.0, 0.0]]
# The plan and rewards are those of POT 0.9.7 `ot.sinkhorn(1/P, 1/G, -S, reg=0.1)`, which the release calls.
PLAN = [
    [0.11936, 0.13062, 2e-05],
    [0.18923, 0.05933, 0.00144],
    [0.00144, 0.00833, 0.24024],
    [0.02331, 0.13505, 0.09164],
]


def close(got: Any, expected: Any, tolerance: float = 1e-5) -> bool:
    wide = [torch.as_tensor(x, dtype=torch.float64) for x in (got, expected)]
    return torch.allclose(*wide, rtol=0, atol=tolerance)


def test_worked_example() -> None:
    matrix = similarity_matrix(CALLS, GOLD)
    assert close(matrix, SIMILARITIES)
    assert close(call_rewards(matrix, "greedy"), [1.0, 0.333333, 0.375, 0.0])
    assert close(call_rewards(matrix, "optimal"), [0.833333, 0.625, 0.375, 0.0])
    assert close(call_rewards(matrix, "transport"), [0.22821, 0.13805, 0.09009, 0.0])
    assert close(match_transport(matrix), PLAN)


@pytest.mark.parametrize(
    ("call", "gold", "expected"),
    [
        (GoldCall("f", {}), GoldCall("F", {}), 1.0),
        (GoldCall("f", {"a": 1}), GoldCall("f", {}), 0.5),
        (GoldCall("f", {}), GoldCall("f", {"a": 1}), 1 / 3),
        (GoldCall("f", {"a": [1, {"b": 2}]}), GoldCall("f", {"a": [1, {"b": 2}]}), 1.0),
        (GoldCall("f", {"a": "1"}), GoldCall("f", {"a": 1}), 2 / 3),
        (GoldCall("f", {"a": 1}), GoldCall("g", {"a": 1}), 0.0),
        (ToolCall("c", "f", raw="f(", error="no closing bracket"), GoldCall("f", {}), 0.0),
    ],
)
def test_similarity(call: Any, gold: GoldCall, expected: float) -> None:
    assert similarity(call, gold) == pytest.approx(expected)


def test_agreement_of_words_tells_queries_apart() -> None:
    gold = GoldCall("search", {"query": "currency of Finland", "top": 3})
    near, far = (GoldCall("search", {"query": text, "top": "3"}) for text in ("Finland currency?", "who was Sibelius"))
    assert similarity(near, gold) == similarity(far, gold) == pytest.approx(2 / 4)
    assert similarity(near, gold, "words") == pytest.approx((2 + 2 / 3) / 4)
    assert similarity(far, gold, "words") == pytest.approx(2 / 4)
    assert similarity(gold, gold, "words") == 1.0


def test_greedy_ties_go_to_the_earlier_call_and_gold_call() -> None:
    assert match_greedy(torch.tensor([[0.5, 0.5], [0.5, 0.5]])) == [0, 1]
    assert match_greedy(torch.tensor([[0.0, 0.0]])) == [None]


matrices = st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda shape: st.lists(
        st.sampled_from([0.0, 0.25, 0.5, 2 / 3, 0.9, 1.0]), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]
    ).map(lambda flat: torch.tensor(flat, dtype=torch.float64).reshape(shape))
)


def best_total(matrix: torch.Tensor) -> float:
    """The largest total of any assignment, by trying all."""
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    return max(
        sum(float(wide[i, j]) for i, j in enumerate(chosen))
        for chosen in itertools.permutations(range(wide.shape[1]), len(wide))
    )


@settings(max_examples=60, deadline=None)
@given(matrices)
def test_matchings(matrix: torch.Tensor) -> None:
    greedy, optimal = match_greedy(matrix), match_optimal(matrix)
    for matched in (greedy, optimal):
        used = [j for j in matched if j is not None]
        assert len(used) == len(set(used))
        assert all(j is None or matrix[i, j] > 0 for i, j in enumerate(matched))
    assert sum(call_rewards(matrix, "optimal")) == pytest.approx(best_total(matrix))
    assert sum(call_rewards(matrix, "greedy")) <= best_total(matrix) + 1e-12
    plan = match_transport(matrix)
    assert (plan >= 0).all()
    assert close(plan.sum(1), [1 / len(matrix)] * len(matrix), 1e-9)
    assert close(plan.sum(0), [1 / matrix.shape[1]] * matrix.shape[1], 1e-2)  # ties converge slowly


def test_transport_with_small_reg_is_a_permutation() -> None:
    plan = match_transport(torch.tensor([[1.0, 0.9], [0.8, 0.1]]), reg=1e-3)
    assert close(plan, [[0.0, 0.5], [0.5, 0.0]], 1e-3)


def test_nothing_to_match() -> None:
    for how in ("greedy", "optimal", "transport"):
        assert call_rewards(similarity_matrix([], GOLD), how) == []
        assert call_rewards(similarity_matrix(CALLS, []), how) == [0.0] * 4
    assert call_rewards(similarity_matrix(CALLS, []), "greedy", unmatched=-0.5) == [-0.5] * 4
    assert call_rewards(similarity_matrix(CALLS, GOLD), "optimal", unmatched=-0.5)[-1] == -0.5
    with pytest.raises(ValueError, match="reg > 0"):
        match_transport(torch.ones(1, 1), reg=0.0)
    with pytest.raises(ValueError, match="expected one of"):
        call_rewards(torch.ones(1, 1), "hungarian")  # type: ignore[arg-type]


def test_turn_means_and_answer() -> None:
    assert turn_means([[1.0, 0.25], [], [0.5]]) == [0.625, 0.0, 0.5]
    assert set_f1("The Eiffel Tower, Paris", ["Eiffel Tower (Paris) France"]) == pytest.approx(0.75)
    assert set_f1("", ["x"]) == 0.0
    assert set_f1("lyon", ["Paris", "Lyon, France"]) == pytest.approx(2 / 3)


# ------------------------------------------------------------------------------------------------ provider


def turn(name: str, *calls: tuple[str, dict[str, Any]], text: str = "") -> Turn:
    made = tuple(ToolCall(f"{name}c{n}", tool, arguments=arguments) for n, (tool, arguments) in enumerate(calls))
    return Turn(Message(name, "assistant", text or "...", calls=made))


GOLD_TRACE = {
    "answer": "Euro",
    "calls": [
        {"name": "search", "arguments": {"query": "capital Helsinki"}},
        {"name": "search", "parameters": {"query": "currency Finland"}},
        {"name": "answer", "arguments": {"text": "Euro"}},
    ],
}


def rollout(name: str, *turns: Turn, gold: dict[str, Any] = GOLD_TRACE, parent: Any = None) -> Trajectory:
    prompt = () if parent else (Message(f"{name}q", "user", "?"),)
    return Trajectory(name, "g", prompt=prompt, turns=turns, gold=gold, parent=parent)


def columns(*trajectories: Trajectory, how: Any = "greedy") -> dict[str, list[float | None]]:
    got = collect(Rollouts(trajectories), [ToolMatching(how)], cache=Cache())
    return {
        name: [v if k else None for v, k in zip(c.values.tolist(), c.known.tolist(), strict=True)]
        for name, c in got.columns.items()
    }


FIRST = ("search", {"query": "capital Helsinki"})
SECOND = ("search", {"query": "currency Finland"})


def test_provider_rewards_turns_and_answer() -> None:
    good = rollout("a", turn("a0", FIRST), turn("a1", SECOND, FIRST), turn("a2", ("answer", {"text": "the euro"})))
    tagged = rollout("b", turn("b0", ("lookup", {})), turn("b1", FIRST, text="<answer>Euro</answer>"))
    silent = rollout("c", turn("c0"))
    got = columns(good, tagged, silent)
    assert got["match_reward"] == [1.0, 0.5, 0.0, 0.0, 0.0, 0.0]
    assert got["match_turn_reward"] == pytest.approx([1.0, 0.5, 2 / 3, 0.0, 1.0, 0.0])


def test_the_gold_answer_takes_no_share_of_the_transport() -> None:
    got = columns(rollout("a", turn("a0", FIRST, SECOND)), how="transport")
    only = similarity_matrix([GoldCall(*FIRST), GoldCall(*SECOND)], [GoldCall(*FIRST), GoldCall(*SECOND)])
    assert got["match_reward"] == pytest.approx([sum(call_rewards(only, "transport")) / 2])


def test_early_turn_loses_its_gold_call_to_a_later_better_one() -> None:
    vague = turn("a0", ("search", {"query": "Finland"}))
    got = columns(rollout("a", vague, turn("a1", FIRST), turn("a2", SECOND)))
    assert got["match_reward"] == [0.0, 1.0, 1.0]
    assert columns(rollout("b", vague))["match_reward"] == pytest.approx([2 / 3])


def test_unknown_is_unknown() -> None:
    no_calls = rollout("a", turn("a0", FIRST), turn("a1", ("answer", {"text": "x"})), gold={"answer": "x"})
    no_answer = rollout("b", turn("b0", FIRST), turn("b1", ("answer", {"text": "x"})), gold={"calls": []})
    got = columns(no_calls, no_answer)
    assert got["match_reward"] == [None, None, 0.0, 0.0]
    assert got["match_turn_reward"] == [None, 1.0, 0.0, None]


def test_a_branch_competes_with_its_whole_path() -> None:
    root = rollout("a", turn("a0", FIRST), turn("a1", SECOND))
    branch = rollout("a.1", turn("b1", FIRST), parent=("a", 0))
    assert columns(root, branch)["match_reward"] == pytest.approx([1.0, 1.0, 2 / 3])


def test_a_bad_gold_trace_is_named() -> None:
    with pytest.raises(RecordError, match=r"'a'.*calls'\]\[0\]"):
        columns(rollout("a", turn("a0", FIRST), gold={"calls": [{"tool": "search"}]}))
    with pytest.raises(ValueError, match="how in"):
        ToolMatching("hungarian")  # type: ignore[arg-type]
