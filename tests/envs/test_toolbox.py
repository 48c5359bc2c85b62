"""The tool-API world: calls that fail, gold traces that fit and that do not, and ARTIST's rewards on its rollouts."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import torch

from workbench import policy, recipes, rollout
from workbench.envs import Environment, load
from workbench.envs.store_api import MOST, TOOLS, played, run_call, share, trace_problem
from workbench.envs.toolbox import Toolbox
from workbench.evidence import Cache, collect, for_recipe
from workbench.evidence.calls import CallMatch, FormatScore, ToolSuccess
from workbench.policy import Policy, ScriptedEngine, Settings, tiny_tokenizer
from workbench.policy.renderers import PlainText
from workbench.rollouts import Rollouts
from workbench.seeds import seed_for
from workbench.trajectory import Message, ToolCall

ARGUMENT = {"count": "thing", "add": "what", "take": "what", "answer": "text"}


def said(env, *calls, **raw):
    made = [ToolCall(f"c{n}", name, arguments={ARGUMENT.get(name, "x"): text}) for n, (name, text) in enumerate(calls)]
    return env.respond(Message("a", "assistant", calls=tuple(made), **raw))


def test_calls_do_what_they_say_or_say_why_not():
    store = {"red box": 4, "blue cat": 0}
    assert run_call(store, "count", "RED  box").said == "red box holds 4"
    assert run_call(store, "take", "4 red box").store == {"red box": 0, "blue cat": 0}
    for name, text, part in (
        ("take", "1 blue cat", "not so many"),
        ("add", f"{MOST} red box", f"holds {MOST}"),
        ("add", "three red box", "needs a number and a thing"),
        ("add", "-3 red box", "needs a number"),
        ("add", "٣ red box", "needs a number"),
        ("count", "green door", "no such thing"),
        ("take", "2", "no such thing"),
        ("add", "", "needs a number"),
        ("count", "<b>red box</b>", "no such thing"),
    ):
        done = run_call(store, name, text)
        assert part in done.said and not done.worked and done.store is store, text


def test_tasks_are_drawn_by_seed_their_traces_play_and_end_at_the_goal():
    for knobs in ({}, {"changes": 6, "things": 2}, {"changes": 1, "things": 8}):
        env = Toolbox(**knobs)
        assert isinstance(env, Environment)
        train = env.tasks("train", 40)
        assert train[:3] == env.tasks("train", 3) and not {t.question for t in train} & {
            t.question for t in env.tasks("test", 40)
        }
        for task in train:
            env.reset(task)
            assert len(task.gold["calls"]) <= env.max_turns - 1
            for call in task.gold["calls"]:
                reply = said(env, (call["name"], call["arguments"][ARGUMENT[call["name"]]]))
                assert reply.columns["on_trace"] and not reply.columns["malformed"]
                assert reply.columns["calls_ok"] == (call["name"] != "answer")
            assert (reply.outcome, reply.columns["state_share"]) == (1.0, 1.0)


def test_a_right_answer_with_a_wrong_store_is_not_done():
    env = Toolbox()
    task = next(t for t in env.tasks("train", 20) if share(t.data["store"], t.gold["store"]) < 1)
    env.reset(task)
    reply = said(env, ("answer", task.gold["answer"]))
    assert reply.done and reply.outcome == 0.0 and reply.columns["state_share"] < 1.0


def test_what_is_wrong_is_an_observation():
    env = Toolbox()
    task = env.tasks("train", 1)[0]
    env.reset(task)
    before = dict(env.progress.store)
    for name, text, part in (("dance", "x", "use count"), ("add", " ", "add needs"), ("count", "no thing", "no such")):
        reply = said(env, (name, text))
        assert part in reply.messages[0].text and not reply.done and reply.columns["calls_ok"] == 0
    reply = env.respond(Message("a", "assistant", "hello"))
    assert reply.columns["malformed"] and reply.messages[0].role == "user"
    error = ToolCall("c", "add", raw="{", error="no JSON")
    assert env.respond(Message("b", "assistant", calls=(error,))).columns["malformed"]
    assert env.progress.store == before
    thing = next(iter(before))
    two = said(env, ("count", thing), ("add", f"1 {thing}"), ("take", "99 " + thing))
    assert two.columns["calls_ok"] == 2 and [m.answers for m in two.messages] == ["c0", "c1", "c2"]


def test_snapshots_are_json_and_bring_the_same_future():
    env = Toolbox()
    env.reset(env.tasks("train", 1)[0])
    said(env, ("count", next(iter(env.progress.store))))
    other = env.fresh()
    assert other.state_key == ""
    other.restore(json.loads(json.dumps(env.snapshot())))
    best = env.best()
    call = (best["name"], best["arguments"][ARGUMENT[best["name"]]])
    assert other.state_key == env.state_key and said(other, call) == said(env, call)


@pytest.mark.parametrize("aliases", [None, "7", [], ["no number"], [7]])
def test_answers_that_the_gold_trace_does_not_give_are_refused(aliases):
    """They would fail everybody in the end: a gold trace played to the letter would be wrong."""
    env, task = Toolbox(), Toolbox().tasks("train", 1)[0]
    with pytest.raises(ValueError, match=rf"task '{task.id}': the gold trace does not fit the answers"):
        env.reset(replace(task, gold={**task.gold, "aliases": aliases}))


@pytest.mark.parametrize("held", ["3", 2.5, -1, 100, True, None])
def test_a_store_that_holds_nonsense_is_refused(held):
    env, task = Toolbox(), Toolbox().tasks("train", 1)[0]
    thing = next(iter(task.data["store"]))
    both = {"data": {**task.data, "store": {**task.data["store"], thing: held}}}
    both["gold"] = {**task.gold, "store": {**task.gold["store"], thing: held}}
    with pytest.raises(ValueError, match=rf"data\['store'\] of '{thing}': expected 0 to 99, got {held!r}"):
        env.reset(replace(task, **both))


def trace(task, change):
    """A task whose gold trace was changed by a function of the list of calls."""
    calls = json.loads(json.dumps(task.gold["calls"]))
    return replace(task, gold={**task.gold, "calls": change(calls)})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda calls: [{"name": "drop", "arguments": {"what": "1 red box"}}, *calls],
            "call 0 is of 'drop', the tools",
        ),
        (lambda calls: [{"name": "count", "arguments": {"item": "red box"}}, *calls], r"\['item'\], the tool takes"),
        (lambda calls: [{"name": "add", "arguments": {}}, *calls], r"arguments \[\], the tool takes \['what'\]"),
        (lambda calls: [{"name": "add", "arguments": {"what": 3}}, *calls], "'what' is 3, the tool takes a text"),
        (lambda calls: [["add", "3 red box"], *calls], "call 0: expected"),
        (lambda calls: "add 3 red box", "expected a list of calls, got str"),
        (lambda calls: None, "expected a list of calls, got NoneType"),
        (lambda calls: calls[:-1], "one answer, as its last call"),
        (lambda calls: [], "one answer, as its last call"),
        (
            lambda calls: [{"name": "add", "arguments": {"what": "3 no thing"}}, *calls],
            "call 0 .* fails: .*no such thing",
        ),
        (lambda calls: calls[-1:], "it leads to"),
    ],
)
def test_a_gold_trace_that_does_not_fit_is_a_clear_error(change, named):
    env = Toolbox()
    task = next(t for t in env.tasks("train", 20) if share(t.data["store"], t.gold["store"]) < 1)
    with pytest.raises(ValueError, match=rf"(?s){task.id}.*{named}"):
        env.reset(trace(task, change))
    with pytest.raises(ValueError, match=r"data\['store'\]"):
        env.reset(replace(task, data={}))


def test_trace_problem_and_played_by_hand():
    good = [{"name": "add", "arguments": {"what": "2 red box"}}, {"name": "answer", "arguments": {"text": "6"}}]
    assert trace_problem(good, TOOLS) == "" and played({"red box": 4}, good) == {"red box": 6}
    assert share({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 0, "c": 3}) == pytest.approx(2 / 3)
    for knobs in ({"changes": 0}, {"things": 9}):
        with pytest.raises(ValueError, match=next(iter(knobs))):
            load("toolbox", **knobs)


def artist_columns(rollouts, env):
    ready = collect(rollouts, [ToolSuccess(), FormatScore(), CallMatch(env.tools)], cache=Cache())
    return ready, {name: column.values.tolist() for name, column in ready.columns.items()}


def test_artists_rewards_of_scripted_rollouts_by_hand():
    """Sample 0 plays the gold trace, sample 1 makes a call that fails before it, sample 2 answers at once."""
    env = Toolbox()
    task = next(t for t in env.tasks("train", 20) if len(t.gold["calls"]) == 4)
    lines = [f"{c['name'].capitalize()}: {c['arguments'][ARGUMENT[c['name']]]}" for c in task.gold["calls"]]
    scripts = [lines, ["Take: 99 nothing", *lines], [lines[-1]]]
    renderer = PlainText(tiny_tokenizer.load(), tools=env.tools)
    lines_of = {seed_for(0, 0, task.id, n, k): line for n in range(3) for k, line in enumerate(scripts[n])}

    def say(prompt, seed):
        return renderer.encode(lines_of[seed] + "\n")

    rolled = rollout.play(Policy("script", ScriptedEngine(say), renderer), env, [task], size=3)
    assert [t.outcome for t in rolled] == [1.0, 1.0, 0.0]
    ready, got = artist_columns(rolled, env)
    assert got["tool_success"][:2] == [1.0, 0.75] and not bool(ready.columns["tool_success"].known[2])
    assert got["format_score"] == [1.0, 1.0, 1.0] and got["call_match"] == [1.0, 1.0, 0.0]
    credit = recipes.artist(kl=0.0).credit(ready.batch(), to="turn").values
    reward = torch.tensor([2 + 1 + 1, 2 + 1 + 0.75, 0 + 1 + 0], dtype=torch.float64)
    z = (reward - reward.mean()) / (reward.std(correction=0) + 1e-8)
    owner = ready.batch().turn_trajectory
    torch.testing.assert_close(credit, z[owner])
    calls = recipes.artist_calls(kl=0.0)
    batch = collect(rolled, for_recipe(calls, rolled), cache=Cache()).batch()
    assert batch["state_match"].values.tolist() == [t.turns[-1].rewards["state_share"] for t in rolled]
    held, made = batch["state_match"].values, torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    reward = 0.5 * held + 0.5 * made + 0.1 * batch["format_score"].values
    z = (reward - reward.mean()) / (reward.std(correction=0) + 1e-8)
    torch.testing.assert_close(calls.credit(batch, to="turn").values, z[owner])


def test_demonstrations_with_mistakes_and_a_check_of_imported_traces():
    env = Toolbox()
    rng = random.Random(0)
    made = [env.imperfect_demonstration(t, rng, rate) for t in env.tasks("train", 20) for rate in (0.0, 0.5)]
    assert all(t.outcome == 1.0 for t in made[::2]) and 0 < sum(t.outcome for t in made[1::2]) < 20
    broken = replace(made[0], gold={**made[0].gold, "calls": [{"name": "drop", "arguments": {}}]})
    with pytest.raises(ValueError, match=r"drop.*tools are"):
        artist_columns(Rollouts((broken,)), env)


@pytest.mark.slow
def test_a_real_model_uses_the_tools_and_is_credited():
    env = Toolbox(changes=1, things=2)
    model = policy.load("smollm2", shots=env.shots, tools=env.tools)
    settings = Settings(max_new_tokens=12)
    rolled = rollout.play(model, env, env.tasks("test", 2), size=2, settings=settings, max_turns=4)
    ready, _ = artist_columns(rolled, env)
    worked = ready.columns["tool_success"]
    assert bool(worked.known.any()) and float(worked.values[worked.known].max()) > 0
    credit = recipes.artist(kl=0.0).credit(ready.batch())
    assert bool(credit.known.all()) and len(credit.values) == ready.batch().count("token")
    assert bool(ready.batch()["state_share"].known.all())
