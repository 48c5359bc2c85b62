"""What a method changes in GRPO's credit: counted right, and said in the words that the counts ask for."""

from __future__ import annotations

import pytest

from workbench.recipes import dr_grpo, grpo, gspo
from workbench.rollouts import Rollouts
from workbench.teach.method_why import Reach, helped, reach, seen_from_grpo, words
from workbench.trajectory import Message, ToolCall, Trajectory, Turn


def rollout(name, kinds, outcome):
    """Searches that help ("+") or do not ("-"), then an answer ("a")."""
    made, away = [], float(kinds.count("+") + 1)
    for kind in kinds:
        away -= kind == "+"
        call = ToolCall(f"c{name}{len(made)}", "answer" if kind == "a" else "search", arguments={"query": "x"})
        rewards = {"oracle_distance": away, "oracle_on_path": float(kind == "+")}
        made.append(Turn(Message(f"{name}{len(made)}", "assistant", kind, calls=(call,)), rewards=rewards))
    asked = (Message("q", "user", "which?"),)
    return Trajectory(name, "which", prompt=asked, turns=tuple(made), outcome=outcome)


@pytest.fixture
def played():
    return Rollouts((rollout("0", "+-a", 1.0), rollout("1", "--a", 0.0), rollout("2", "+a", 0.0)))


def test_answers_are_no_turn_that_helped_or_not(played):
    assert [helped(t) for t in played] == [[True, False, None], [False, False, None], [True, None]]


def test_pairs_are_of_one_rollout_equal_ones_count_half_and_unknown_ones_not_at_all(played):
    rows = [[0.5, 0.1, 0.0], [1.0, None, 0.0], [None, 9.0]]
    assert reach(played, rows) == Reach(turns=4, varied=2, won=1.0, pairs=1)
    assert reach(played, [[0.2, 0.2, 0.0], [0, 0, 0], [0, 0]])[2:] == (0.5, 1)
    assert reach(played, [[None, 0.2, 0.0], [0, 0, 0], [0, 0]])[2:] == (0.0, 0)


def test_a_method_with_another_loss_alone_has_grpos_credit(played):
    assert "Credit is GRPO's wherever" in seen_from_grpo(played, gspo()).data
    assert "Credit is GRPO's wherever" in seen_from_grpo(played, grpo(kl=0.0)).data


def test_another_size_is_told_from_another_sign(played):
    said = seen_from_grpo(played, dr_grpo(max_tokens=8)).data
    assert "only by how much differs" in said and "0 of 8" in said and "50% of 1 pairs" in said


@pytest.mark.parametrize(
    ("won", "said"), [(9.0, "90% of pairs, where"), (1.0, "less often than a coin"), (5.5, "55% of 10 pairs: so few")]
)
def test_inside_a_rollout_the_words_follow_the_share(won, said):
    assert said in words(Reach(8, 0, 5.0, 10), Reach(8, 3, won, 10), 1, 0.5)


def test_where_the_world_does_not_say_what_helped_nothing_is_claimed():
    assert "does not say" in words(Reach(8, 0, 0.0, 0), Reach(9, 3, 0.0, 0), 0, 0.5)
