"""Cleaning and resampling for fine-tuning: by hand, and on rollouts of the tiny policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from workbench.envs.chain import Chain
from workbench.policy import load
from workbench.policy.base import Settings
from workbench.rollout import play
from workbench.trajectory import Message, Part, RecordError, ToolCall, Trajectory, Turn
from workbench.transforms import clean, copies, long_horizon, with_tokens
from workbench.transforms.clean import superfluous

QUESTION = (Message("q", "user", (Part("text", "Where?"),)),)


def turn(number: int, name: str | None, seen: str | None = "found", error: str | None = None, **arguments: Any) -> Turn:
    calls = () if name is None else (ToolCall(f"c{number}", name, arguments=None if error else arguments, error=error),)
    said = Message(f"a{number}", "assistant", (Part("text", name or "hm"),), calls=calls)
    back = () if seen is None else (Message(f"o{number}", "tool", (Part("text", seen),)),)
    return Turn(said, back)


def story(turns: Sequence[Turn], name: str = "t", **settings: Any) -> Trajectory:
    return Trajectory(name, "g", settings.pop("prompt", QUESTION), tuple(turns), **settings)


ANSWER = turn(9, "answer", None, text="Paris")


def test_repeated_calls_and_tools_that_are_not_allowed_are_taken_out() -> None:
    turns = [
        turn(0, "search", q=["a", "b"]),
        turn(1, "python", code="1"),
        turn(2, "Search", q=["b ", "a"]),
        turn(3, "search", q=["a"]),
        ANSWER,
    ]
    found = superfluous(turns, ["search"])
    assert [(one.turn, one.why) for one in found] == [(1, "tool not allowed"), (2, "repeated call")]
    assert [one.turn for one in superfluous(turns, None)] == [2]
    cleaned = clean([story(turns)], tools=["search"])
    assert [t.action.id for t in cleaned.kept[0].turns] == ["a0", "a3", "a9"]
    assert cleaned.counts() == {
        "kept": 1,
        "dropped": 0,
        "turns removed: tool not allowed": 1,
        "turns removed: repeated call": 1,
    }


def test_a_call_that_was_taken_out_was_not_made() -> None:
    """A call of a tool that is not allowed does not make the next one a repetition."""
    turns = [turn(0, "python", code="1"), turn(1, "python", code="1"), ANSWER]
    assert [one.why for one in superfluous(turns, ["search"])] == ["tool not allowed"] * 2


def test_a_turn_with_one_new_call_stays() -> None:
    both = tuple(ToolCall(f"b{i}", "search", arguments={"q": q}) for i, q in enumerate(("a", "b")))
    two = Turn(Message("two", "assistant", (Part("text", "x"),), calls=both), turn(1, "x").observations)
    assert superfluous([turn(0, "search", q="a"), two, ANSWER], None) == []


@pytest.mark.parametrize(
    ("trajectory", "why"),
    [
        (story([turn(0, "search", q="a"), ANSWER], prompt=()), "no question"),
        (story([ANSWER]), "no turn before the answer"),
        (story([]), "no turn before the answer"),
        (story([turn(0, "answer", text="x"), ANSWER]), "an answer before the last turn"),
        (story([turn(0, None), ANSWER]), "a turn without a call that can be read"),
        (story([turn(0, "search", error="no JSON"), ANSWER]), "a turn without a call that can be read"),
        (story([turn(0, "search", None, q="a"), ANSWER]), "nothing came back from a turn"),
        (story([turn(0, "search", q="a"), turn(1, "search", q="b")]), "no answer in the last turn"),
        (story([turn(0, "search", q="a"), turn(1, "answer", None, text=" ")]), "no answer in the last turn"),
    ],
)
def test_what_is_no_story_is_dropped_with_its_reason(trajectory: Trajectory, why: str) -> None:
    cleaned = clean([trajectory])
    assert cleaned.kept == () and cleaned.dropped == {"t": why}


def test_only_right_ones_where_asked() -> None:
    told = [replace(story([turn(0, "search", q="a"), ANSWER], name=str(r)), outcome=r) for r in (1.0, 0.0, None)]
    assert len(clean(told).kept) == 3
    cleaned = clean(told, right=True)
    assert [t.id for t in cleaned.kept] == ["1.0"]
    assert cleaned.dropped == {"0.0": "a wrong answer", "None": "outcome unknown"}


def test_copies_and_brackets_that_make_no_sense() -> None:
    assert [copies(n, ((2, 0), (4, 3)), 7) for n in (2, 3, 4, 5)] == [0, 3, 3, 7]
    for wrong in (((4, 1), (2, 2)), ((2, 1), (2, 2)), ((2, -1),)):
        with pytest.raises(ValueError, match="expected brackets"):
            copies(1, wrong)


def test_real_rollouts_become_examples_with_reasons() -> None:
    player, env = load("tiny"), Chain()
    played = play(player, env, env.tasks("train", 4), size=4, settings=Settings(max_new_tokens=32), gather_s=None)
    cleaned = clean(played)
    assert cleaned.kept and len(cleaned.kept) + len(cleaned.dropped) == len(played)
    shortened = [t for t in cleaned.kept if t.id in cleaned.removed]
    if shortened:
        with pytest.raises(RecordError, match="it lost a turn and has no tokens"):
            long_horizon(cleaned)
    again = tuple(t if t.has_tokens else with_tokens(t, player.renderer, env.tools) for t in cleaned.kept)
    examples = long_horizon(replace(cleaned, kept=again), ((3, 1), (4, 2)), 5)
    expected = sum(copies(len(t.turns), ((3, 1), (4, 2)), 5) for t in again)
    assert len(examples) == expected > len(again)
    assert all(one.reason.startswith("long horizon: ") for one in examples)
    assert {one.reason.rpartition(", ")[2] for one in examples} >= {"copy 1 of 1"}
    assert all(any(one.weights) for one in examples)
