"""What UFO and ARTIST read: tries, calls, form and gold traces, by hand and on rollouts of the tiny policy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from workbench import recipes
from workbench.envs.base import Tool
from workbench.envs.chain import Chain
from workbench.envs.retry import Retry
from workbench.envs.toolbox import Toolbox
from workbench.evidence import Cache, ToolMatching, collect, for_recipe
from workbench.evidence.calls import CallMatch, FormatScore, LastRecorded, ToolSuccess
from workbench.evidence.retries import Tries, tries
from workbench.policy import load
from workbench.policy.base import Settings
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.trajectory import Message, Part, RecordError, ToolCall, Trajectory, Turn

ADD = Tool("add", "Add.", {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
GOLD = {"answer": "7", "calls": [{"name": "add", "arguments": {"n": 3}}, {"name": "add", "arguments": {"n": 4}}]}


def turn(name: str, call: ToolCall | None, extra: Mapping[str, Any] | None = None) -> Turn:
    said = Message(name, "assistant", (Part("text", "x"),), calls=() if call is None else (call,))
    return Turn(said, extra=extra or {})


def call(number: int, name: str, error: str | None = None, **arguments: Any) -> ToolCall:
    return ToolCall(f"c{number}", name, arguments=None if error else arguments, error=error)


def story(
    calls: Sequence[ToolCall | None], gold: Mapping[str, Any] = GOLD, extras: Sequence[Any] = (), name: str = "t"
) -> Trajectory:
    facts = [*extras, *[None] * (len(calls) - len(extras))]
    turns = [turn(f"{name}.{k}", one, fact) for k, (one, fact) in enumerate(zip(calls, facts, strict=True))]
    return Trajectory(name, "g", (Message(f"{name}.q", "user", (Part("text", "?"),)),), tuple(turns), gold=gold)


def column(trajectory: Trajectory, provider: Any) -> dict[str, list[float | None]]:
    found = collect(Rollouts((trajectory,)), [provider], cache=Cache()).columns
    return {
        name: [v if k else None for v, k in zip(c.values.tolist(), c.known.tolist(), strict=True)]
        for name, c in found.items()
    }


def test_tries_are_judged_in_order() -> None:
    found = tries(["3", None, " 3 ", "", "7", "7"], ["7", "seven"])
    assert [one.valid for one in found] == [True, False, True, False, True, True]
    assert [one.correct for one in found] == [False, False, False, False, True, True]
    assert [one.repeated for one in found] == [False, False, True, False, False, True]
    assert tries(["3"], None)[0].correct is None


def test_tries_of_a_rollout_and_without_a_gold_answer() -> None:
    bad = call(3, "add", error="no JSON")
    said = [call(0, "answer", text="3"), call(1, "add", n=1), bad, None, call(2, "answer", text="7")]
    assert column(story(said), Tries()) == {
        "try_valid": [1, 0, 0, 0, 1],
        "try_correct": [0, 0, 0, 0, 1],
        "try_repeated": [0, 0, 0, 0, 0],
        "try_broken": [0, 0, 1, 1, 0],  # to look something up is no try
    }
    assert column(story(said, gold={}), Tries())["try_correct"] == [None] * 5


def test_calls_that_worked() -> None:
    calls = [call(0, "add", n=1), call(1, "add", error="not JSON"), call(2, "add", n=2), call(3, "answer", text="7")]
    assert column(story(calls), ToolSuccess()) == {"tool_success": [2 / 3]}
    told = [{"columns": {"calls_ok": 0}}, None, {"columns": {"calls_ok": True}}]
    assert column(story(calls, extras=told), ToolSuccess()) == {"tool_success": [1 / 3]}
    assert column(story([calls[3]]), ToolSuccess()) == {"tool_success": [None]}
    with pytest.raises(RecordError, match=r"'calls_ok' between 0 and the turn's 1 calls, got 5"):
        column(story(calls, extras=[{"columns": {"calls_ok": 5}}]), ToolSuccess())
    for nonsense in ("two", [1], {"ok": 1}):
        with pytest.raises(RecordError, match="trajectory 't', turn 0.*expected a number or a boolean for 'calls_ok'"):
            column(story(calls, extras=[{"columns": {"calls_ok": nonsense}}]), ToolSuccess())


def test_form_is_strict_relaxed_or_broken() -> None:
    good, bad, end = call(0, "add", n=1), call(1, "add", error="no JSON"), call(2, "answer", text="7")
    scores = [column(story(calls), FormatScore())["format_score"] for calls in ([good, end], [bad, end], [good])]
    assert scores == [[1.0], [0.5], [0.0]]
    assert column(story([]), FormatScore()) == {"format_score": [None]}


def test_gold_calls_that_were_made() -> None:
    calls = [call(0, "add", n=4), call(1, "add", n=4), call(2, "answer", text="7")]
    assert column(story(calls), CallMatch()) == {"call_match": [0.5]}
    assert column(story(calls, gold={"answer": "7"}), CallMatch()) == {"call_match": [None]}
    twice = {"calls": [GOLD["calls"][1], GOLD["calls"][1]]}  # type: ignore[index]
    assert column(story(calls[1:], gold=twice), CallMatch()) == {"call_match": [0.5]}  # a call counts for one
    for nonsense in (5, "add", {"name": "add"}):
        with pytest.raises(RecordError, match=r"field \"gold\['calls'\]\": expected a list of calls, got"):
            column(story(calls, gold={"calls": nonsense}), CallMatch())


def test_a_call_beside_the_answer_was_made_and_one_behind_it_was_not() -> None:
    three, four, empty, end = (call(k, *how) for k, how in enumerate([("add",), ("add",), ("answer",), ("answer",)]))
    three, four = (replace(one, arguments={"n": n}) for one, n in ((three, 3), (four, 4)))
    empty, end = replace(empty, arguments={"text": " "}), replace(end, arguments={"text": "7"})
    for said, share in (((three, four, end), 1.0), ((three, end, four), 0.5), ((three, empty, four, end), 1.0)):
        whole = replace(story([None]), turns=(Turn(Message("m", "assistant", calls=said)),))
        assert column(whole, CallMatch()) == {"call_match": [share]}


@pytest.mark.parametrize(
    ("gold", "why"),
    [
        ({"name": "subtract", "arguments": {"n": 1}}, r"calls 'subtract'; the tools are \['add'\]"),
        ({"name": "add", "arguments": {"m": 1}}, r"the gold call has \['m'\], the tool \['n'\]"),
        ({"name": "add", "arguments": {}}, r"the gold call has \[\]"),
        ({"name": "add", "arguments": "n=1"}, "expected {'name'"),
    ],
)
def test_a_gold_trace_that_does_not_fit_the_tools_is_refused(gold: Any, why: str) -> None:
    for provider in (CallMatch((ADD,)), ToolMatching(tools=(ADD,))):
        with pytest.raises(RecordError, match=why) as error:
            column(story([call(0, "add", n=1)], gold={"calls": [gold]}), provider)
        assert "gold['calls'][0]" in str(error.value)


def test_the_last_record_is_read() -> None:
    calls = [call(0, "add", n=1), call(1, "answer", text="7")]
    told = [{"columns": {"state_share": 0.2}}, {"columns": {"state_share": 0.75}}]
    assert column(story(calls, extras=told), LastRecorded()) == {"state_match": [0.75]}
    both = collect(Rollouts((story(calls, extras=told), story(calls, name="u"))), [LastRecorded()], cache=Cache())
    assert both.columns["state_match"].known.tolist() == [True, False]
    with pytest.raises(RecordError, match="no rollout recorded 'state_share' at its last turn"):
        column(story(calls), LastRecorded())
    for nonsense in ("much", math.nan, math.inf):
        with pytest.raises(RecordError, match="trajectory 't', turn 1.*expected a number.* for 'state_share', got"):
            column(story(calls, extras=[None, {"columns": {"state_share": nonsense}}]), LastRecorded())


RUNS = [(recipes.artist(), Chain()), (recipes.artist_calls(), Toolbox(changes=1))]
RUNS += [(make(host="grpo"), Retry(attempts=3, say="{question}")) for make in (recipes.ufo, recipes.ufo_released)]  # type: ignore[list-item]


@pytest.mark.parametrize(("recipe", "env"), RUNS, ids=[recipe.name for recipe, _ in RUNS])
def test_it_runs_on_a_real_policy(recipe: recipes.Recipe, env: Any) -> None:
    player = load("tiny") if not isinstance(env, Toolbox) else load("tiny", tools=env.tools)
    played = play(player, env, env.tasks("train", 1), size=4, settings=Settings(max_new_tokens=32), gather_s=None)
    found = collect(played, for_recipe(recipe, played, policy=player), cache=Cache())
    credit = recipe.credit(found.batch(), to="trajectory")
    assert bool(credit.known.all()) and bool(torch.isfinite(credit.values).all())
    assert float(credit.values.abs().max()) > 0 or isinstance(env, Toolbox)  # tiny never saw such tools
