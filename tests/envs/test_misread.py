"""The habit of misreading: where it applies it is followed, elsewhere the script is as good as its error rate."""

from __future__ import annotations

import random

import pytest

from workbench import envs
from workbench.envs import dialogue, sudoku, toolbox
from workbench.envs.demonstrate import imperfect_demonstration, spoiled_lookup
from workbench.envs.facet import spoiled
from workbench.envs.games import any_move
from workbench.envs.misread import MISREAD, misread, misread_search, with_misreading


def played(world, spoil, error_rate, rate, count=60, habit=misread_search):
    env = envs.load(world)
    choose = with_misreading(spoil, error_rate, rate, habit)
    tasks = env.tasks("train", count)
    return [imperfect_demonstration(env, task, random.Random(n), 1.0, choose) for n, task in enumerate(tasks)]


def asks_for(trajectory):
    words = [word for word in trajectory.prompt[0].parts[0].text.split() if word in MISREAD]
    return len(words)


def test_the_words_it_takes_others_for_are_read_rightly():
    assert not set(MISREAD) & set(MISREAD.values())


@pytest.mark.parametrize(("world", "spoil"), [("chain", spoiled_lookup), ("facet", spoiled)])
def test_without_any_share_it_plays_perfectly(world, spoil):
    every = played(world, spoil, 0.0, 0.0, 20)
    assert all(t.outcome == 1.0 for t in every)
    assert {turn.extra["mistake"] for t in every for turn in t.turns} == {""}


def test_a_constant_habit_fails_where_a_word_is_misread_and_nowhere_else():
    """Nearly: where the world says nothing of the word, its search finds the nearest fact, perhaps the right one."""
    every = played("chain", spoiled_lookup, 0.0, 1.0)
    free, hit = [t for t in every if asks_for(t) == 0], [t for t in every if asks_for(t) > 0]
    assert free and all(t.outcome == 1.0 for t in free)
    assert sum(t.outcome for t in hit) < 0.3 * len(hit)


def test_the_share_of_misread_searches_is_the_rate():
    turns = [turn for t in played("chain", spoiled_lookup, 0.0, 0.7, 200) for turn in t.turns]
    could = [t for t in turns if t.extra["mistake"] == "misread" or misread_now(t)]
    wrong = sum(t.extra["mistake"] == "misread" for t in could)
    assert 0.6 < wrong / len(could) < 0.8


def misread_now(turn):
    call = turn.action.calls[0]
    return misread({"name": call.name, "arguments": call.arguments}) is not None


def test_random_mistakes_stay_beside_the_habit():
    every = {turn.extra["mistake"] for t in played("facet", spoiled, 0.3, 0.5) for turn in t.turns}
    assert {"", "misread", "attribute", "value", "repeat", "answer"} == every


@pytest.mark.parametrize(("error_rate", "rate"), [(1.2, 0.0), (0.0, -0.1)])
def test_shares_are_checked(error_rate, rate):
    with pytest.raises(ValueError, match="shares in"):
        with_misreading(spoiled_lookup, error_rate, rate)


def test_an_answer_is_never_misread():
    assert misread({"name": "answer", "arguments": {"text": "guard"}}) is None


def test_who_puts_in_what_should_be_taken_out_fails_where_something_should_and_nowhere_else():
    every = played("toolbox", toolbox.spoiled, 0.0, 1.0, habit=toolbox.add_for_take)
    asked = {t.id: any(call["name"] == "take" for call in t.gold["calls"]) for t in every}
    assert {t.outcome == 1.0 for t in every if not asked[t.id]} == {True}
    hit = [t for t in every if asked[t.id]]
    assert sum(t.outcome for t in hit) < 0.2 * len(hit)
    assert {turn.action.calls[0].name for t in hit for turn in t.turns} <= {"count", "add", "answer"}


def test_the_hasty_make_a_user_who_feels_bad_feel_worse():
    every = played("dialogue", dialogue.any_reply, 0.0, 1.0, habit=dialogue.hasty)
    turns = [turn for t in every for turn in t.turns if turn.extra["mistake"] == "misread"]
    new = [turn for turn in turns if turn.extra["heard_as"] != "none"]  # words said before are not heard again
    assert {turn.extra["heard_as"] for turn in new} == {"explain", "plan"}
    worse = [turn.rewards["state_distance"] - turn.rewards["state_distance_before"] for turn in new]
    assert min(worse) >= 0.0  # 0: who feels worst cannot feel worse
    first = [turn for turn in new if turn.action.id == "turn0"]  # nobody begins there
    assert first and all(turn.rewards["state_distance"] > turn.rewards["state_distance_before"] for turn in first)
    assert 0.2 < sum(t.outcome for t in every) / len(every) < 0.8


def test_who_looks_at_the_row_alone_writes_what_the_row_lacks_and_is_wrong():
    every = played("sudoku", any_move, 0.0, 0.7, habit=sudoku.row_only)
    wrong = [turn for t in every for turn in t.turns if turn.extra["mistake"] == "misread"]
    grids = [turn.state_key.split("|")[1] for turn in wrong]
    places = [[int(n) for n in turn.action.calls[0].arguments["cell"].split()] for turn in wrong]
    rows = [grid[4 * (row - 1) : 4 * row] for grid, (row, _, _) in zip(grids, places, strict=True)]
    assert len(wrong) > 20 and {turn.rewards["oracle_value"] for turn in wrong} == {-1.0}
    assert all(row[column - 1] == "." for row, (_, column, _) in zip(rows, places, strict=True))
    lowest = [min({1, 2, 3, 4} - {int(sign) for sign in row if sign != "."}) for row in rows]
    assert [digit for _, _, digit in places] == lowest
    assert 0.3 < sum(t.outcome for t in every) / len(every) < 0.95


def test_a_strange_thing_is_a_call_that_fails():
    every = played("toolbox", toolbox.spoiled, 0.4, 0.0)
    replies = [
        turn.observations[0].text for t in every for turn in t.turns if turn.extra["mistake"] and turn.observations
    ]
    failed = sum(text.startswith("error : there is no such thing") for text in replies)
    assert 0.1 < failed / len(replies) < 0.6
