"""What both worlds of the family promise: the contract, malformed calls, snapshots, state keys, splits, answers."""

from __future__ import annotations

import asyncio
import json

import pytest

from workbench.envs import Environment, load
from workbench.envs.hop import FIXED_TEXTS, cut
from workbench.envs.splits import SPLITS, draw, split_of
from workbench.trajectory import Message, ToolCall

WORLDS = [
    ("gazetteer", {"hops": hops, "distractors": distractors}) for hops in (1, 2, 3, 4) for distractors in (None, 6)
] + [("chain", {"hops": hops}) for hops in (1, 3, 5)]


@pytest.fixture(params=WORLDS, ids=lambda p: f"{p[0]}-{p[1]}")
def world(request):
    name, params = request.param
    return load(name, **params)


def act(number: int, *calls: tuple[str, dict | None]) -> Message:
    made = tuple(
        ToolCall(f"c{number}.{i}", name, arguments=arguments, error=None if arguments is not None else "unreadable")
        for i, (name, arguments) in enumerate(calls)
    )
    return Message(f"a{number}", "assistant", calls=made)


def step(env, number, *calls):
    return asyncio.run(env.step(act(number, *calls)))


def gold_calls(task):
    return [(call["name"], call["arguments"]) for call in task.gold["calls"]]


def test_the_gold_trace_finds_every_gold_document_and_wins(world):
    assert isinstance(world, Environment)
    for task in world.tasks("test", 8, seed=3):
        env = world.fresh()
        assert [m.text for m in env.reset(task, 0)] == [task.question]
        *searches, answer = gold_calls(task)
        assert len(searches) == world.hops and len(searches) < world.max_turns
        for number, call in enumerate(searches):
            got = step(env, number, call)
            assert [m.text for m in got.messages] == [task.gold["documents"][number]]
            assert got.messages[0].answers == f"c{number}.0" and not got.done
            assert got.columns["malformed"] is False
        got = step(env, 99, answer)
        assert (got.done, got.outcome, got.messages) == (True, 1.0, ())


def test_a_wrong_answer_ends_the_episode_with_zero(world):
    env = world.fresh()
    env.reset(world.tasks("train", 1)[0], 0)
    got = step(env, 0, ("answer", {"text": "certainly not"}))
    assert (got.done, got.outcome) == (True, 0.0)
    with pytest.raises(RuntimeError, match="over"):
        step(env, 1, ("answer", {"text": "again"}))


@pytest.mark.parametrize(
    "calls",
    [
        (),
        (("search", None),),
        (("", None),),
        (("fly", {"to": "moon"}),),
        (("search", {}),),
        (("search", {"query": " "}),),
        (("search", {"query": 7}),),
        (("answer", {"query": "x"}),),
        (("answer", {"text": ""}),),
    ],
)
def test_a_malformed_call_gets_an_error_text(world, calls):
    env = world.fresh()
    env.reset(world.tasks("train", 1)[0], 0)
    state = env.state_key
    got = step(env, 0, *calls)
    assert [m.text for m in got.messages][0] in FIXED_TEXTS and got.messages[0].text.startswith("error")
    assert got.columns["malformed"] is True and not got.done and got.outcome is None
    assert env.state_key == state


def test_several_calls_are_made_in_order_up_to_the_answer(world):
    env = world.fresh()
    task = world.tasks("train", 1)[0]
    env.reset(task, 0)
    first, *_, answer = gold_calls(task)
    got = step(env, 0, ("fly", {}), first, answer, first)
    assert [m.answers for m in got.messages] == ["c0.0", "c0.1"]
    assert got.messages[1].text == task.gold["documents"][0]
    assert (got.outcome, got.columns["malformed"]) == (1.0, True)


def test_a_branch_from_a_snapshot_sees_what_the_first_run_saw(world):
    task = world.tasks("test", 1, seed=1)[0]
    env = world.fresh()
    env.reset(task, 0)
    calls = [("search", {"query": "the"}), *gold_calls(task)]
    kept, seen = [], []
    for number, call in enumerate(calls[: world.max_turns]):
        kept.append(json.loads(json.dumps(env.snapshot())))
        seen.append((env.state_key, step(env, number, call)))
    for number, snapshot in enumerate(kept):
        branch = load(type(world).__name__.lower(), hops=world.hops, distractors=world.distractors)
        branch.restore(snapshot)
        for later in range(number, len(seen)):
            assert (branch.state_key, step(branch, later, calls[later])) == seen[later]


def test_the_state_is_the_set_of_what_was_found(world):
    task = world.tasks("test", 1)[0]
    one, two = world.fresh(), world.fresh()
    one.reset(task, 0)
    two.reset(task, 1)
    assert one.state_key == two.state_key and one.state_key.startswith(task.id)
    searches = gold_calls(task)[:-1]
    for number, call in enumerate(searches):
        step(one, number, call)
    for number, call in enumerate([*reversed(searches), searches[0], ("search", {"query": "qqq"})]):
        step(two, number, call)
    assert one.state_key == two.state_key
    two.reset(task, 0)
    assert one.state_key != two.state_key


def test_the_same_seed_gives_the_same_tasks_and_splits_do_not_meet(world):
    drawn = {split: world.tasks(split, 6, seed=5) for split in SPLITS}
    again = load(type(world).__name__.lower(), hops=world.hops, distractors=world.distractors)
    assert {split: again.tasks(split, 6, seed=5) for split in SPLITS} == drawn
    assert world.tasks("train", 6, seed=6) != drawn["train"]
    train, test, shots = ({task.question for task in tasks} for tasks in drawn.values())
    assert not train & test and not shots & (train | test)
    assert json.loads(json.dumps([t.data for t in drawn["test"]])) == [dict(t.data) for t in drawn["test"]]
    with pytest.raises(ValueError, match="split"):
        world.tasks("dev", 1)


def test_worked_examples_are_true_and_in_no_other_split(world):
    shots = world.shots
    assert len({question for question, _, _ in shots}) == 3
    for question, searches, answer in shots:
        assert len(searches) == world.hops
        assert answer in searches[-1][1] and question.endswith("?")


def test_a_long_observation_is_cut_and_says_how_much():
    env = load("gazetteer", hops=1, results=50, limit=100)
    env.reset(env.tasks("train", 1)[0], 0)
    text = step(env, 0, ("search", {"query": "the capital of"})).messages[0].text
    assert text.endswith("more characters cut]") and len(text) < 140
    assert cut("x" * 50_000_000, 3) == "xxx [49999997 more characters cut]"


def test_a_huge_or_strange_query_is_answered():
    for name in ("gazetteer", "chain"):
        env = load(name)
        env.reset(env.tasks("train", 1)[0], 0)
        for number, query in enumerate(("x " * 100_000, "<script>", "\u0000\ud800"[0], "日本")):
            assert step(env, number, ("search", {"query": query})).messages[0].text == "nothing found"


def test_an_unknown_world_or_knob_is_refused():
    with pytest.raises(ValueError, match="chain"):
        load("chess")
    for name, knobs in (
        ("gazetteer", {"hops": 5}),
        ("gazetteer", {"asks": ("king",)}),
        ("gazetteer", {"distractors": -1}),
        ("chain", {"hops": 0}),
        ("chain", {"distractors": 1000}),
    ):
        with pytest.raises(ValueError, match=next(iter(knobs))):
            load(name, **knobs)


def test_splits_have_their_shares_and_drawing_too_many_is_refused():
    names = [split_of("w", str(n)) for n in range(4000)]
    assert abs(names.count("train") / 4000 - 0.6) < 0.03 and abs(names.count("shots") / 4000 - 0.1) < 0.03
    with pytest.raises(ValueError, match="this split has 3"):
        draw([1, 2, 3], 4, "k")
    assert sorted(draw(range(9), 9, "k")) == list(range(9))
