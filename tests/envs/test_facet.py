"""The world of clues: belief against enumeration, the oracle's plan, splits, snapshots, demonstrations."""

from __future__ import annotations

import itertools
import json
import math
import random

import pytest

from workbench.envs import Environment, load, narrowing
from workbench.envs.facet import AGAIN, Facet, name_of, search_for
from workbench.envs.splits import SPLITS
from workbench.envs.words import words
from workbench.policy import tiny_tokenizer
from workbench.trajectory import Message, ToolCall


def respond(env, name, value):
    call = ToolCall("c", name, arguments={{"search": "query", "answer": "text"}[name]: value})
    return env.respond(Message("a", "assistant", calls=(call,)))


def shown(items, searches):
    """What an agent reads, worked out on its own: the listed items after each search."""
    listed, seen = set(range(len(items))), []
    for search in searches:
        before = range(len(items)) if search is None else listed
        listed = {i for i in before if search is None or items[i][search[0]] == search[1]}
        seen.append(tuple(sorted(listed)))
    return tuple(seen)


def enumerated(items, attributes, values, clues):
    """Every (answer, table) of a small world; all are drawn with equal chance."""
    every = list(itertools.product(range(values), repeat=attributes))
    fit = [row for row in every if all(row[a] == v for a, v in clues.items())]
    rest = [row for row in every if row not in fit]
    for answer in range(items):
        for rows in itertools.product(*(fit if i == answer else rest for i in range(items))):
            yield answer, rows


@pytest.mark.parametrize(
    ("items", "attributes", "values", "clues"),
    [
        (3, 2, 2, {0: 0}),
        (4, 2, 2, {0: 1, 1: 0}),
        (3, 3, 2, {2: 1, 0: 0}),
        (3, 2, 3, {0: 2, 1: 1}),
    ],
)
def test_the_posterior_is_that_of_a_full_enumeration(items, attributes, values, clues):
    worlds = list(enumerated(items, attributes, values, clues))
    calls = [None, *itertools.product(range(attributes), range(values))]
    compared, spread = 0, set()
    for searches in itertools.product(calls, repeat=3):
        weight: dict[tuple, list[float]] = {}
        tables = {}
        for answer, table in worlds:
            seen = shown(table, searches)
            weight.setdefault(seen, [0.0] * items)[answer] += 1
            tables[seen] = table
        for seen, counts in weight.items():
            got = narrowing.posterior(narrowing.replay(tables[seen], values, searches), clues, values)
            assert got == pytest.approx([c / sum(counts) for c in counts], abs=1e-12)
            compared += 1
            spread.add(round(max(got), 3))
    assert compared > 100 and len(spread) >= 3


def test_belief_moves_at_every_turn_of_the_gold_trace_and_the_columns_say_so():
    env = Facet()
    for task in env.tasks("train", 20):
        env.reset(task)
        assert env.oracle()["entropy"] == pytest.approx(math.log(32)) and not env.oracle()["determined"]
        held = 1 / 32
        for call, document in zip(task.gold["calls"], [*task.gold["documents"], None], strict=True):
            assert env.oracle()["best"] == call
            got = respond(env, call["name"], *call["arguments"].values())
            c = got.columns
            assert [m.text for m in got.messages] == ([document] if document else [])
            assert c["oracle_posterior_before"] == pytest.approx(held) and c["oracle_on_path"]
            assert c["oracle_posterior"] > held or call["name"] == "answer"
            held = c["oracle_posterior"]
            assert held == pytest.approx(env.posterior()[task.gold["answer"]])
        assert (got.outcome, held, c["oracle_entropy"], c["oracle_distance"]) == (1.0, 1.0, 0.0, 0)


def test_an_attribute_no_clue_speaks_of_tells_nothing_and_another_value_rules_out():
    env = Facet()
    task = env.tasks("train", 1)[0]
    clues = dict(task.data["clues"])
    free = next(a for a in range(5) if a not in clues)
    env.reset(task)
    got = respond(env, "search", search_for(free, 0)).columns
    assert got["oracle_posterior"] == pytest.approx(1 / 32) and not got["oracle_on_path"]
    env.reset(task)
    attribute, value = next(iter(clues.items()))
    text = respond(env, "search", search_for(attribute, (value + 1) % 3)).messages[0].text
    gone = text.split(" or ")
    assert env.posterior()[gone[0]] == 0.0
    assert env.posterior()[task.gold["answer"]] == pytest.approx(1 / (32 - len(gone)))
    assert env.oracle()["best"] == {"name": "search", "arguments": {"query": AGAIN}}
    assert respond(env, "search", AGAIN).messages[0].text == "3 2 found"


def test_the_plan_of_the_oracle_ends_in_time_from_any_state_and_no_plan_is_much_shorter():
    env, rng = Facet(items=8, attributes=3, values=2, clues=2, max_turns=30), random.Random(0)
    searches = [AGAIN, *(search_for(a, v) for a in range(3) for v in range(2))]
    lengths = set()
    for number, task in enumerate(env.tasks("train", 12)):
        env.reset(task)
        for query in rng.choices(searches, k=number % 5):
            respond(env, "search", query)
        away = env.oracle()["distance"]
        shortest = _shortest(env, searches)
        assert shortest <= away
        steps = 0
        while not env.progress.done:
            call = env.best()
            got = respond(env, call["name"], *call["arguments"].values())
            assert got.columns["oracle_on_path"]
            steps += 1
        assert got.outcome == 1.0 and steps <= away
        lengths.add((away, shortest))
    assert any(a == b for a, b in lengths) and len({a for a, _ in lengths}) >= 3


def _shortest(env, searches) -> int:
    """By brute force: calls until one answer is certain, and the answer."""
    for length in range(6):
        for plan in itertools.product(searches, repeat=length):
            if sum(p > 0 for p in env.posterior([*env.progress.found, *plan]).values()) == 1:
                return length + 1
    raise AssertionError("no plan")


def test_what_is_malformed_or_no_search_changes_nothing():
    env = Facet()
    assert isinstance(env, Environment)
    env.reset(env.tasks("train", 1)[0])
    state = env.state_key
    for query in ("owner", "owner is purple", "keeper is red", "red is owner", "x " * 10_000, "<b>"):
        assert respond(env, "search", query).messages[0].text == "nothing found"
        assert env.state_key == state
    got = env.respond(Message("a", "assistant", calls=(ToolCall("c", "search", arguments={}),)))
    assert got.columns["malformed"] and got.columns["oracle_posterior"] == pytest.approx(1 / 32)


def test_the_state_is_the_list_and_a_snapshot_brings_it_back():
    env = Facet()
    task = env.tasks("test", 1)[0]
    one, two = env.fresh(), env.fresh()
    first, second = (search_for(*clue) for clue in task.data["clues"][:2])
    one.reset(task), two.reset(task)
    respond(one, "search", first), respond(one, "search", second)
    respond(two, "search", second), respond(two, "search", f"the {first}"), respond(two, "search", first)
    assert one.state_key == two.state_key
    kept = json.loads(json.dumps(one.snapshot()))
    branch = load("facet")
    branch.restore(kept)
    assert branch.state_key == one.state_key and branch.oracle() == one.oracle()
    assert respond(branch, "search", AGAIN) == respond(one, "search", AGAIN)
    assert branch.state_key == one.state_key != two.state_key


def test_splits_do_not_meet_tasks_are_seeded_and_the_words_are_known():
    env = Facet()
    drawn = {split: env.tasks(split, 150, seed=5) for split in SPLITS}
    assert load("facet").tasks("train", 5, seed=5) == drawn["train"][:5]
    asked = {
        split: {frozenset(t.question.replace(" ? ", " the ").split(" the ")) for t in ts} for split, ts in drawn.items()
    }
    assert not asked["train"] & asked["test"] and not asked["shots"] & (asked["train"] | asked["test"])
    assert len({question for question, _, _ in env.shots}) == 3
    known, tokens = set(words()), tiny_tokenizer.load().get_vocab()
    for task in drawn["train"][:30]:
        assert json.loads(json.dumps(task.data)) == dict(task.data)
        texts = [task.question, task.gold["answer"], *task.gold["documents"], AGAIN]
        said = {word for text in texts for word in text.split(" ")}
        assert said <= known and {f"Ġ{word}" for word in said} <= set(tokens)
        fits = [i for i, row in enumerate(task.data["items"]) if all(row[a] == v for a, v in task.data["clues"])]
        assert fits == [task.data["answer"]] and task.gold["answer"] == name_of(fits[0])


def test_demonstrations_make_mistakes_and_are_true_plays():
    env = Facet()
    tasks = env.tasks("train", 40)
    wins, kinds = {}, set()
    for rate in (0.0, 0.3, 1.0):
        played = [env.imperfect_demonstration(task, random.Random(i), rate) for i, task in enumerate(tasks)]
        wins[rate] = sum(t.outcome for t in played) / len(played)
        kinds |= {turn.extra["mistake"] for t in played for turn in t.turns}
    for task, t in zip(tasks, played, strict=True):
        world = env.fresh()
        world.reset(task, 0)
        for turn in t.turns:
            assert world.state_key == turn.state_key
            assert world.respond(turn.action).messages == turn.observations
    assert wins[0.0] == 1.0 and wins[1.0] < 0.2 and wins[1.0] < wins[0.3] < 0.9
    assert kinds == {"", "attribute", "value", "repeat", "answer"}


def test_knobs_out_of_range_are_refused():
    for knobs in ({"items": 1}, {"attributes": 7}, {"values": 1}, {"clues": 6}, {"clues": 0}):
        with pytest.raises(ValueError, match=next(iter(knobs))):
            load("facet", **knobs)
    with pytest.raises(ValueError, match="no knob 'hops'.*clues"):
        load("facet", hops=2)
