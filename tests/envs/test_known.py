"""The known world: one world for all tasks, belief against enumeration, splits, snapshots, demonstrations."""

from __future__ import annotations

import itertools
import json
import random

import pytest

from workbench.envs import Environment, load
from workbench.envs.known import Known, belief, world
from workbench.envs.splits import SPLITS
from workbench.envs.words import fact, query_for, words
from workbench.policy import tiny_tokenizer
from workbench.trajectory import Message, ToolCall


def respond(env, name, value):
    call = ToolCall("c", name, arguments={{"search": "query", "answer": "text"}[name]: value})
    return env.respond(Message("a", "assistant", calls=(call,)))


@pytest.mark.parametrize("number", range(12))
def test_belief_is_that_of_a_full_enumeration(number):
    """Every way the unknown facts could be, each with its chance; codes cut to three so that all can be listed."""
    rng = random.Random(number)
    things, relations = ["a", "b", "c"], ["twin", "owner", "code"]
    links = [(relation, thing) for relation in relations[:2] for thing in things]
    whole = {pair: rng.choice([t for t in things if t != pair[1]]) for pair in links}
    whole |= {("code", thing): f"{n} {n}" for n, thing in enumerate(things)}
    known = {pair: value for pair, value in whole.items() if pair[0] == "code" or rng.random() < 0.5}
    unknown = [pair for pair in links if pair not in known]
    counts: dict[str, int] = {}
    choices = [[t for t in things if t != thing] for _, thing in unknown]
    for values in itertools.product(*choices):
        full = {**known, **dict(zip(unknown, values, strict=True))}
        end = "a"
        for relation in relations:
            end = full[relation, end]
        counts[end] = counts.get(end, 0) + 1
    got = belief("a", relations, things, known)
    total = sum(counts.values())
    assert {code: p for code, p in got.items() if p > 0} == pytest.approx({c: n / total for c, n in counts.items()})


def test_an_unknown_code_is_uniform_over_all_hundred():
    got = belief("a", ["twin", "code"], ["a", "b", "c"], {("code", "b"): "4 7"})
    assert len(got) == 100 and sum(got.values()) == pytest.approx(1)
    assert got["4 7"] == pytest.approx(0.5 + 0.5 / 100) and got["0 0"] == pytest.approx(0.005)


def test_middle_hops_inform_about_the_answer_and_in_a_chain_of_fresh_facts_they_do_not():
    def moved(memory):
        env = Known(hops=3, memory=memory)
        gains = []
        for task in env.tasks("train", 60):
            env.reset(task)
            columns = [respond(env, c["name"], *c["arguments"].values()).columns for c in task.gold["calls"]]
            assert all(c["oracle_on_path"] for c in columns) and columns[-1]["oracle_posterior"] == 1.0
            assert [c["oracle_distance"] for c in columns] == [3, 2, 1, 0]
            gains.append([c["oracle_posterior"] - c["oracle_posterior_before"] for c in columns])
        return [sum(g[k] for g in gains) / len(gains) for k in range(4)]

    some, none, all_of_it = moved(0.5), moved(0.0), moved(1.0)
    assert min(some[:3]) > 0.05 and some[3] == 0
    assert none == pytest.approx([0, 0, 0.99, 0])
    assert all_of_it == [0, 0, 0, 0]


def test_all_tasks_share_one_world_and_each_fact_can_be_found():
    env = Known()
    assert isinstance(env, Environment)
    whole = world(20, 0)
    assert whole is env.index(env.tasks("test", 1)[0])
    for (relation, thing), value in whole.facts.items():
        for query in (query_for(relation, thing), f"the {relation} of {thing}", query_for(relation, thing).upper()):
            assert whole.search(query) == [fact(relation, thing, value)]
    assert whole.search("qqq") == [] and whole.search(whole.things[0]) != []
    assert world(20, 1).facts != whole.facts
    for task in env.tasks("train", 30):
        assert set(task.data["chain"]) <= set(whole.documents) and task.gold["answer"] == task.data["chain"][-1][-3:]


def test_a_larger_memory_knows_all_that_a_smaller_one_does():
    sizes = [Known(memory=m).remembered() for m in (0.0, 0.2, 0.5, 1.0)]
    assert all(a.items() <= b.items() for a, b in itertools.pairwise(sizes))
    assert len(sizes[0]) == 0 and len(sizes[3]) == 140 and 50 < len(sizes[2]) < 90


def test_splits_do_not_meet_tasks_are_seeded_and_the_words_are_known():
    env = Known()
    drawn = {split: env.tasks(split, 150, seed=5) for split in SPLITS}
    assert load("known").tasks("train", 5, seed=5) == drawn["train"][:5]
    asked = {split: {task.question for task in tasks} for split, tasks in drawn.items()}
    assert len(asked["train"]) < 150  # questions do come twice, so an overlap could show
    assert not asked["train"] & asked["test"] and not asked["shots"] & (asked["train"] | asked["test"])
    assert len({question for question, _, _ in env.shots}) == 3
    known, tokens = set(words()), set(tiny_tokenizer.load().get_vocab())
    said = {word for tasks in drawn.values() for task in tasks for word in task.question.split(" ")}
    said |= {word for document in world(20, 0).documents for word in document.split(" ")}
    assert said <= known and {f"Ġ{word}" for word in said} <= tokens


def test_a_snapshot_brings_the_episode_and_its_belief_back():
    env = Known()
    task = env.tasks("test", 1)[0]
    env.reset(task)
    respond(env, "search", task.gold["calls"][0]["arguments"]["query"])
    branch = load("known")
    branch.restore(json.loads(json.dumps(env.snapshot())))
    assert branch.state_key == env.state_key and branch.oracle() == env.oracle()
    assert sum(branch.oracle()["posterior"].values()) == pytest.approx(1)
    call = task.gold["calls"][1]["arguments"]["query"]
    assert respond(branch, "search", call) == respond(env, "search", call)


def test_demonstrations_make_mistakes_and_knobs_are_checked():
    env = Known()
    played = [env.imperfect_demonstration(t, random.Random(i), 0.3) for i, t in enumerate(env.tasks("train", 40))]
    assert 0.3 < sum(t.outcome for t in played) / 40 < 0.95
    assert {turn.extra["mistake"] for t in played for turn in t.turns} == {"", "relation", "thing", "repeat", "answer"}
    for knobs in ({"hops": 7}, {"things": 2}, {"memory": 1.5}):
        with pytest.raises(ValueError, match=next(iter(knobs))):
            load("known", **knobs)
    with pytest.raises(ValueError, match="no question of that split"):
        [Known(hops=1, things=3, world=w).tasks("shots", 1) for w in range(20)]
