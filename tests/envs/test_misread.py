"""The habit of misreading: where it applies it is followed, elsewhere the script is as good as its error rate."""

from __future__ import annotations

import random

import pytest

from workbench import envs
from workbench.envs.demonstrate import imperfect_demonstration, spoiled_lookup
from workbench.envs.facet import spoiled
from workbench.envs.misread import MISREAD, misread, with_misreading


def played(world, spoil, error_rate, rate, count=60):
    env = envs.load(world)
    choose = with_misreading(spoil, error_rate, rate)
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
