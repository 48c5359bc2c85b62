"""The pipeline as events: against times worked by hand."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean, pstdev

import pytest

from workbench.scale.pipeline import drawn, learner_seconds, length, step_seconds
from workbench.scale.rates import EngineRates, LearnerRates
from workbench.scale.simulate import Episode, Turn, Work, continuous, draw, of_rollouts, rounds

START = Path(__file__).resolve().parents[2] / "datasets" / "start"
PLAIN = EngineRates(step=0.01, row=0.01, token=0.0, read=0.0)


def one(sampled, tool=0.0, group=0, read=1):
    return Episode(group, read, (Turn(read, sampled, tool),))


def test_two_sequences_share_an_engine_until_one_is_done():
    found = continuous([one(100), one(50)], 1, PLAIN)
    assert found.ends == pytest.approx((50 * 0.03 + 50 * 0.02, 50 * 0.03))
    assert found.busy == pytest.approx((2.5,)) and found.peak == 2 and found.sampled == 150


def test_what_has_no_room_waits():
    found = continuous([one(100), one(50)], 1, PLAIN, most=1)
    assert found.ends == pytest.approx((2.0, 3.0)) and found.peak == 1


def test_a_tool_frees_the_engine():
    first = Episode(0, 1, (Turn(1, 10, 5.0), Turn(1, 10, 1.0)))
    found = continuous([first], 1, PLAIN)
    assert found.seconds == pytest.approx(0.2 + 5 + 0.2 + 1)
    assert found.busy == pytest.approx((0.4,))


def test_reading_holds_up_everybody_on_the_engine():
    rates = EngineRates(step=0.01, row=0.0, token=0.0, read=0.001)
    found = continuous([one(100, read=200), one(100, read=300)], 1, rates)
    assert found.seconds == pytest.approx(0.2 + 0.3 + 1.0)


def test_keys_and_values_are_read_in_every_step():
    rates = EngineRates(step=0.0, row=0.0, token=1e-3, read=0.0)
    found = continuous([one(10, read=100)], 1, rates)
    assert found.seconds == pytest.approx(10 * (100 + 10 / 2) * 1e-3)


def test_the_context_grows_and_leaves_with_its_sequence():
    rates = EngineRates(step=0.0, row=0.0, token=1e-3, read=0.0)
    found = continuous([one(10, read=100), one(4, read=50)], 1, rates)
    both = 4 * (150 + 2 * 4 / 2) * 1e-3
    assert found.ends == pytest.approx((both + 6 * (104 + 6 / 2) * 1e-3, both))


def test_groups_are_dealt_to_engines():
    four = [one(100, group=g) for g in range(4)]
    assert continuous(four, 4, PLAIN).seconds == pytest.approx(2.0)
    assert continuous(four, 2, PLAIN).seconds == pytest.approx(3.0)
    assert len(continuous(four, 4, PLAIN).busy) == 4


def test_rounds_wait_for_the_longest_turn_and_the_slowest_tool():
    rates = EngineRates(step=0.01, row=0.001, token=0.0, read=0.001, call=0.1)
    slow = Episode(0, 50, (Turn(50, 20, 3.0), Turn(30, 10, 0.5)))
    quick = Episode(0, 50, (Turn(1, 10, 1.0),))
    first = 0.1 + 51 * 0.001 + 10 * 0.012 + 10 * 0.011 + 3.0
    found = rounds([slow, quick], rates)
    assert found.ends == pytest.approx((first + 0.1 + 30 * 0.001 + 10 * 0.011 + 0.5, first))


def test_rounds_of_more_than_a_call_holds_go_one_after_the_other():
    rates = EngineRates(step=0.01, row=0.0, token=0.0, read=0.0)
    assert rounds([one(10)] * 3, rates, most=2).seconds == pytest.approx(0.2)


def test_rounds_count_the_context_of_who_is_still_there():
    rates = EngineRates(step=0.0, row=0.0, token=1.0, read=0.0)
    found = rounds([one(2, read=10), one(4, read=20)], rates)
    assert found.seconds == pytest.approx(2 * (30 + 2) + 2 * (20 + 3))


def test_drawn_lengths_have_the_mean_and_spread_asked_for():
    work = Work(
        groups=200, size=10, turns=8, turns_spread=0.0, tokens=100, tokens_spread=0.5, tool=2.0, tool_spread=1.5
    )
    turns = [turn for episode in draw(work, 1) for turn in episode.turns]
    assert len(turns) == 16000
    assert fmean(t.sampled for t in turns) == pytest.approx(100, rel=0.03)
    assert pstdev([t.sampled for t in turns]) == pytest.approx(50, rel=0.05)
    assert fmean(t.tool for t in turns) == pytest.approx(2.0, rel=0.05)
    assert pstdev([t.tool for t in turns]) == pytest.approx(3.0, rel=0.15)


def test_the_same_seed_draws_the_same_and_another_does_not():
    work = Work(groups=2, size=4)
    assert draw(work, 3) == draw(work, 3) == list(drawn(work, 3)) and draw(work, 3) != draw(work, 4)


def test_a_prompt_is_read_once_a_group():
    episodes = draw(Work(groups=3, size=4, prompt=700), 0)
    assert [e.turns[0].read for e in episodes] == [700, 1, 1, 1] * 3


def test_episodes_of_real_rollouts_have_their_lengths():
    from workbench import store

    rollouts = store.read(START)
    episodes = of_rollouts(rollouts)
    assert len(episodes) == len(rollouts)
    sampled = sum(len(span.ids) for t in rollouts for s in t.sequences for span in s.spans if span.origin == "sampled")
    assert sum(turn.sampled for e in episodes for turn in e.turns) == sampled
    whole = [sum(len(span.ids) for span in t.sequences[0].spans) for t in rollouts]
    for episode, tokens in zip(episodes, whole, strict=True):
        assert length(episode) == pytest.approx(tokens, abs=len(episode.turns) + max(e.read for e in episode.turns[1:]))


def test_work_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="Work.turns: expected at least 1, got 0.5"):
        Work(turns=0.5)
    with pytest.raises(ValueError, match="Work.tool_spread: expected 0 or more"):
        Work(tool_spread=-1)


# ------------------------------------------------------------------------------------------------------ the pipeline


def test_a_synchronous_step_is_a_sum():
    assert step_seconds([10, 12], [6, 4], 1.5, 0) == 17.5


def test_one_step_off_the_longer_half_decides():
    assert step_seconds([10] * 9, [6] * 9, 1, 1) == pytest.approx(11)
    assert step_seconds([4] * 9, [6] * 9, 1, 1) == pytest.approx(7)


def test_two_learners_share_what_was_played():
    rates = LearnerRates(step=0.0, pass_=1.0, token=0.01, head=0.1)
    long, short = Episode(0, 100, (Turn(100, 100, 0),)), Episode(0, 50, (Turn(50, 50, 0),))
    # one learner: 600 tokens, 300 scored, 3 passes of 200; two: 300, 150, 2
    assert learner_seconds([long, long, short, short], 1, rates, 200) == pytest.approx(3 + 6 + 30)
    assert learner_seconds([long, long, short, short], 2, rates, 200) == pytest.approx(2 + 3 + 15)


def test_the_tail_is_what_comes_after_nine_in_ten():
    episodes = [one(10, group=n) for n in range(9)] + [one(40, group=9)]
    assert continuous(episodes, 10, PLAIN).tail == pytest.approx(0.75)


def test_longer_tails_and_slower_tools_take_longer():
    base = Work(groups=8, size=8, turns=4, tokens=50, tool=0.5)
    seconds = [
        fmean(continuous(draw(w, s), 2, PLAIN).seconds for s in range(4))
        for w in (
            base,
            Work(groups=8, size=8, turns=4, tokens=50, tool=0.5, turns_spread=1.5),
            Work(groups=8, size=8, turns=4, tokens=50, tool=30.0),
        )
    ]
    assert seconds[0] < seconds[1] and seconds[0] + 100 < seconds[2] < math.inf
