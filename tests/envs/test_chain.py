"""The chain world: a closed list of words, an exact oracle, demonstrations with mistakes."""

from __future__ import annotations

import random
from collections import deque

import pytest

from workbench.envs.chain import COLOURS, RELATIONS, THINGS, Chain, query_for, words
from workbench.envs.oracle import best_call, distance, labels
from workbench.trajectory import Message, ToolCall


def respond(env, name, value):
    argument = {"search": "query", "answer": "text"}[name]
    call = ToolCall("c", name, arguments={argument: value})
    return env.respond(Message("a", "assistant", calls=(call,)))


def test_every_text_is_made_of_the_closed_list_of_words():
    known = set(words())
    assert len(words()) == len(known) <= 75
    for hops in (1, 3, 6):
        env = Chain(hops=hops, distractors=30)
        for task in env.tasks("train", 20):
            texts = [task.question, task.gold["answer"], *task.data["facts"]]
            texts += [value for call in task.gold["calls"] for value in call["arguments"].values()]
            assert {word for text in texts for word in text.split(" ")} <= known


def test_facts_are_fresh_and_tell_one_value_of_a_thing():
    tasks = Chain(hops=3, distractors=40).tasks("train", 30)
    for task in tasks:
        told = [fact.split(" is ")[0] for fact in task.data["facts"]]
        assert len(told) == len(set(told)) == 43
    assert len({task.gold["answer"] for task in tasks}) > 15
    assert len({tuple(task.data["facts"]) for task in tasks}) == 30


def test_splits_share_no_question():
    env = Chain(hops=2)
    asked = {split: {task.question for task in env.tasks(split, 150)} for split in ("train", "test")}
    asked["shots"] = {question for seed in range(20) for question, _, _ in Chain(hops=2, seed=seed).shots}
    assert len(asked["train"]) < 150  # questions do come twice, so an overlap could show
    assert not asked["train"] & asked["test"] and not asked["shots"] & (asked["train"] | asked["test"])


@pytest.mark.parametrize("hops", [1, 2])
def test_the_distance_is_that_of_a_brute_force_search(hops):
    """From every state that searches can lead to: the shortest way to have all the facts, plus the answer."""
    env = Chain(hops=hops, distractors=4)
    queries = [query_for(r, f"{c} {t}") for r in (*RELATIONS, "code") for c in COLOURS[:4] for t in THINGS]
    for task in env.tasks("train", 2):
        index, chain = env.index(task), set(task.data["chain"])
        gold = [call["arguments"]["query"] for call in task.gold["calls"][:-1]]
        results = {tuple(index.search(query)) for query in [*queries, *gold]}
        for start in [(), *results]:
            assert distance(task.data["chain"], start) == _shortest(frozenset(start), chain, results) + 1


def _shortest(start, chain, results):
    queue, seen = deque([(start, 0)]), {start}
    while queue:
        found, calls = queue.popleft()
        if chain <= found:
            return calls
        for result in results:
            after = found | set(result)
            if after not in seen:
                seen.add(after)
                queue.append((after, calls + 1))
    raise AssertionError("out of reach")


def test_labels_by_hand():
    chain = ["a", "b"]
    good = labels(chain, [], ["a"], 2, None)
    assert (good.on_path, good.reachable, good.distance) == (True, True, 2)
    late = labels(chain, ["a"], ["a", "x"], 1, None)
    assert (late.on_path, late.reachable, late.distance) == (False, False, 2)
    right = labels(chain, ["a", "b"], ["a", "b"], 0, 1.0)
    assert (right.on_path, right.reachable, right.distance) == (True, True, 0)
    guess = labels(chain, ["a"], ["a"], 1, 1.0)
    assert (guess.on_path, guess.reachable, guess.distance) == (False, True, 0)
    wrong = labels(chain, ["a", "b"], ["a", "b"], 5, 0.0)
    assert (wrong.on_path, wrong.reachable, wrong.distance) == (False, False, -1)


def test_the_best_call_is_the_first_missing_fact_even_out_of_order():
    calls = [{"name": "search", "arguments": {"query": q}} for q in "ab"] + [{"name": "answer", "arguments": {}}]
    assert best_call(calls, ["a", "b"], ["b"]) == calls[0]
    assert best_call(calls, ["a", "b"], ["b", "a"]) == calls[2]


def test_the_oracle_follows_an_episode_and_judging_changes_nothing():
    env = Chain(hops=3, max_turns=5)
    task = env.tasks("test", 1)[0]
    env.reset(task)
    assert env.oracle() == {"distance": 4, "reachable": True, "best": task.gold["calls"][0]}
    before = env.snapshot()
    assert env.judge(env.best()).on_path and not env.judge(task.gold["calls"][-1]).on_path
    assert not env.judge({"name": "answer", "arguments": {"text": "no"}}).reachable
    assert env.snapshot() == before
    lost = [respond(env, "search", "nothing here").columns for _ in range(2)]
    assert [(c["oracle_reachable"], c["oracle_distance"]) for c in lost] == [(True, 4), (False, 4)]
    for number in range(3):
        got = respond(env, "search", env.best()["arguments"]["query"]).columns
        assert (got["oracle_on_path"], got["oracle_distance"]) == (True, 3 - number)
    assert not env.oracle()["reachable"]


def test_demonstrations_are_true_plays_with_mistakes():
    env = Chain()
    tasks = env.tasks("train", 60)
    wins = {}
    for rate in (0.0, 0.3, 1.0):
        played = [env.imperfect_demonstration(task, random.Random(i), rate) for i, task in enumerate(tasks)]
        wins[rate] = sum(t.outcome for t in played) / len(played)
        for task, t in zip(tasks[:10], played, strict=False):
            world = env.fresh()
            world.reset(task, 0)
            for turn in t.turns:
                assert world.state_key == turn.state_key
                assert world.respond(turn.action).messages == turn.observations
            assert world.progress.outcome == (None if t.truncated else t.outcome)
    assert wins[0.0] == 1.0 and wins[1.0] < 0.1 and 0.1 < wins[0.3] < 0.9
    kinds = {turn.extra["mistake"] for t in played for turn in t.turns}
    assert kinds == {"relation", "thing", "repeat", "answer"}
    again = env.imperfect_demonstration(tasks[0], random.Random(0), 0.3)
    assert again == env.imperfect_demonstration(tasks[0], random.Random(0), 0.3)
    with pytest.raises(ValueError, match="probability"):
        env.imperfect_demonstration(tasks[0], random.Random(0), 2)


def test_a_task_is_indexed_once_and_each_task_for_itself():
    env = Chain()
    one, other = env.tasks("train", 2)
    assert env.index(one) is env.fresh().index(one)
    assert env.index(one).documents == tuple(one.data["facts"]) != env.index(other).documents
