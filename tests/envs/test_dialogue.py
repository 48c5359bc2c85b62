"""The supportive dialogue: how a user is moved, how far they are, and MAPO on rollouts of it."""

from __future__ import annotations

import json
import math
import random
from collections import deque
from dataclasses import replace
from itertools import product

import pytest
import torch

from workbench import policy, recipes, rollout
from workbench.envs import Environment, load
from workbench.envs.comfort import KINDS, PHRASES, State, best_kind, distance, kind_of, line, moved, replies_needed
from workbench.envs.dialogue import Dialogue
from workbench.evidence import Cache, collect, for_recipe
from workbench.evidence.user_state import UserDistance
from workbench.policy import Policy, ScriptedEngine, Settings, tiny_tokenizer
from workbench.policy.renderers import PlainText
from workbench.recipes.judged import distance_drop
from workbench.search import branch
from workbench.trajectory import Message, RecordError, ToolCall

STATES = [State(*levels) for levels in product(range(6), repeat=3)]


def say(env, text):
    return env.respond(Message("a", "assistant", calls=(ToolCall("c", "say", arguments={"text": text}),)))


def at(*state, **knobs):
    env = Dialogue(**knobs)
    task = env.tasks("train", 1)[0]
    env.reset(replace(task, data={"state": list(state)}))
    return env


def test_replies_needed_is_what_a_search_finds_from_every_state():
    for start in STATES:
        far, todo = {start: 0}, deque([start])
        while todo:
            here = todo.popleft()
            for kind in (*KINDS, "none"):
                there = moved(here, kind)
                if there not in far:
                    far[there] = far[here] + 1
                    todo.append(there)
        assert replies_needed(start) == far[State(0, 0, 0)]
        assert (distance(start) == 0) == (start == State(0, 0, 0))
        if start != State(0, 0, 0):
            assert replies_needed(moved(start, best_kind(start))) == replies_needed(start) - 1


def test_what_comes_too_early_by_hand():
    assert moved(State(2, 2, 0), "explain") == State(3, 2, 0) and moved(State(1, 2, 0), "explain") == State(1, 0, 0)
    assert moved(State(5, 0, 2), "plan") == State(5, 0, 2) and moved(State(1, 1, 2), "plan") == State(1, 1, 0)
    assert moved(State(0, 2, 2), "plan") == State(0, 2, 2) and moved(State(1, 0, 0), "comfort") == State(0, 0, 0)


def test_every_scripted_phrase_is_heard_as_what_it_is_and_no_phrase_is_there_twice():
    for kind, phrases in PHRASES.items():
        assert {kind_of(phrase) for phrase in phrases} == {kind} and len(set(phrases)) == 4 >= 3
    assert kind_of("") == kind_of("123 %") == kind_of("what a day") == "none"
    assert line(State(0, 0, 0)) == "thank you" and line(State(2, 0, 1)) == "I feel bad , what can I do now"


def test_advice_too_early_hurts_and_the_right_order_helps():
    env = at(3, 2, 1)
    reply = say(env, "You could ask a friend")
    assert reply.messages[0].text.startswith("no : I feel awful") and env.progress.state == State(4, 2, 1)
    facts = reply.columns
    assert facts["state_distance_before"] == pytest.approx(math.sqrt(14)) and facts["heard_as"] == "plan"
    assert facts["state_distance"] == pytest.approx(math.sqrt(21)) and not facts["oracle_on_path"]
    for text in ("I am so sorry", "That is hard"):
        assert say(env, text).columns["oracle_on_path"]
    assert say(env, "THAT is  hard").messages[0].text.startswith("again ?")
    assert say(env, "It is no fault of yours").columns["oracle_distance"] == 1
    done = say(env, "Try tomorrow")
    assert (done.done, done.outcome, done.messages[0].text) == (True, 1.0, "yes : thank you")
    assert done.columns["state_distance"] == 0.0
    with pytest.raises(RuntimeError, match="satisfied"):
        say(env, "bye")


def test_text_without_a_call_counts_as_said_and_nothing_said_is_answered():
    env = at(3, 0, 0)
    reply = env.respond(Message("a", "assistant", "I am sorry to hear that"))
    assert reply.messages[0].role == "user" and reply.columns["state_distance"] == 1.0
    for empty in (Message("a", "assistant"), Message("a", "assistant", calls=(ToolCall("c", "say", error="no"),))):
        reply = env.respond(empty)
        assert reply.columns["malformed"] and "are you there ?" in reply.messages[0].text
    assert env.progress.state == State(1, 0, 0)
    assert not say(env, "<script>alert(1)</script> " + "x" * 9000).columns["oracle_on_path"]


def test_the_contract_seeds_splits_and_snapshots():
    env = load("dialogue")
    assert isinstance(env, Environment) and env.state_key == ""
    train, test = env.tasks("train", 60), env.tasks("test", 60)
    assert train[:4] == env.tasks("train", 4)
    assert not {(t.question, str(t.data["state"])) for t in train} & {(t.question, str(t.data["state"])) for t in test}
    env.reset(train[0])
    say(env, "I am sorry")
    other = env.fresh()
    other.restore(json.loads(json.dumps(env.snapshot())))
    assert other.state_key == env.state_key and say(other, "I hear you") == say(env, "I hear you")


def test_the_oracle_satisfies_everybody_in_as_few_replies_as_it_says():
    env = Dialogue(worst=5)
    for task in env.tasks("test", 30):
        env.reset(task)
        needed = env.oracle()["needed"]
        while not env.progress.done:
            say(env, env.best()["arguments"]["text"])
        assert env.progress.turn == needed <= env.max_turns


def test_the_users_mistakes():
    for state in ([0, 0, 0], [1, 2], [6, 0, 0], [-1, 0, 1], ["1", 0, 0], None, [1.0, 2, 3]):
        task = Dialogue().tasks("train", 1)[0]
        with pytest.raises(ValueError, match=r"data\['state'\]"):
            Dialogue().reset(replace(task, data={"state": state}))
    for worst in (0, 6):
        with pytest.raises(ValueError, match="worst"):
            Dialogue(worst=worst)


# --------------------------------------------------------------------------------------------- evidence, and MAPO


@pytest.fixture(scope="module")
def rolled():
    """A helper who says any scripted phrase."""
    env = Dialogue()
    renderer = PlainText(tiny_tokenizer.load(), tools=env.tools)
    phrases = [phrase for kind in KINDS for phrase in PHRASES[kind]]

    def chance(prompt, seed):
        return renderer.encode(f"Say: {random.Random(seed).choice(phrases)}\n")

    return rollout.play(Policy("chance", ScriptedEngine(chance), renderer), env, env.tasks("train", 4), size=6)


def test_mapo_on_rollouts_is_the_formula_by_hand(rolled):
    ready = collect(rolled, [UserDistance()], cache=Cache())
    batch = ready.batch()
    credit = recipes.mapo(gamma=1.0).credit(batch, to="turn").values
    at_turn, rewards, returns = {}, {}, {}
    for t in rolled:
        phi = [t.turns[0].rewards["state_distance_before"], *(u.rewards["state_distance"] for u in t.turns)]
        rewards[t.id] = [a - b for a, b in zip(phi, phi[1:], strict=False)]
        returns[t.id] = [a - phi[-1] for a in phi[:-1]]
        for k, value in enumerate(returns[t.id]):
            at_turn.setdefault((t.group, k), []).append(value)

    def z(value, pool):
        mean = sum(pool) / len(pool)
        spread = math.sqrt(sum((x - mean) ** 2 for x in pool) / len(pool))
        return (value - mean) / (spread + 1e-8) if len(pool) > 1 and spread > 1e-12 else 0.0

    expected = []
    for t in rolled:
        pool = [r for u in rolled if u.group == t.group for r in rewards[u.id]]
        for k, r in enumerate(rewards[t.id]):
            expected.append(0.5 * z(returns[t.id][k], at_turn[t.group, k]) + 0.5 * z(r, pool))
    torch.testing.assert_close(credit, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=1e-6)


def test_a_noisy_judge_errs_as_much_as_asked_and_the_same_each_time(rolled):
    truth = collect(rolled, [UserDistance()], cache=Cache()).columns
    noisy = collect(rolled, [UserDistance(noise=0.5)], cache=Cache()).columns
    again = collect(rolled, [UserDistance(noise=0.5)], cache=Cache()).columns
    assert torch.equal(noisy["state_distance"].values, again["state_distance"].values)
    far = truth["state_distance"].values > 2
    error = (noisy["state_distance"].values - truth["state_distance"].values)[far]
    assert len(error) > 50 and 0.35 < float(error.std()) < 0.65 and float(noisy["state_distance"].values.min()) >= 0
    assert truth["state_distance_start"].level == "trajectory"
    with pytest.raises(ValueError, match="noise"):
        UserDistance(noise=-1.0)


def test_what_was_not_recorded_is_unknown_and_nonsense_is_an_error(rolled):
    t = rolled.trajectories[0]
    bare = replace(t, turns=(replace(t.turns[0], rewards={}), *t.turns[1:]))
    got = collect(type(rolled)((bare,)), [UserDistance()], cache=Cache()).columns
    assert not bool(got["state_distance"].known[0]) and not bool(got["state_distance_start"].known[0])
    assert bool(got["state_distance"].known[1:].all())
    nothing = replace(t, turns=tuple(replace(turn, rewards={}) for turn in t.turns))
    with pytest.raises(ValueError, match="no turn has a recorded 'state_distance'"):
        collect(type(rolled)((nothing,)), [UserDistance()], cache=Cache())
    facts = [{"rewards": {"state_distance": -1.0}}]
    facts += [{"rewards": {}, "extra": {"state_distance": said}} for said in ("far", [2.0], {"d": 2.0}, True)]
    for fact in facts:
        bad = replace(t, turns=(t.turns[0], replace(t.turns[1], **fact), *t.turns[2:]))
        with pytest.raises(RecordError, match=f"trajectory '{t.id}', turn 1.*expected a distance of 0 or more"):
            collect(type(rolled)((bad,)), [UserDistance()], cache=Cache())


def test_a_turn_can_be_branched_and_the_branch_goes_on_from_its_parents_distance(rolled):
    env = Dialogue()
    renderer = PlainText(tiny_tokenizer.load(), tools=env.tools)
    wordy = Policy("calm", ScriptedEngine(lambda prompt, seed: renderer.encode("Say: I am sorry\n")), renderer)
    t = next(t for t in rolled if len(t.turns) > 3)
    grown = collect(branch(rolled, wordy, env, t, 2, 2, Settings()), [UserDistance()], cache=Cache())
    batch = grown.batch()
    first = [n for n, b in enumerate(grown) if b.parent]
    for n in first:
        row = int((batch.turn_trajectory == n).nonzero()[0])
        u = grown.trajectories[n].turns[0].rewards
        dropped = u["state_distance_before"] - u["state_distance"]
        assert float(distance_drop("state_distance")(None, batch).values[row]) == pytest.approx(dropped)


@pytest.mark.slow
def test_a_real_model_talks_to_the_user_and_is_credited():
    env = Dialogue()
    model = policy.load("smollm2", shots=env.shots, tools=env.tools)
    settings = Settings(max_new_tokens=10)
    played = rollout.play(model, env, env.tasks("test", 2), size=2, settings=settings, max_turns=4)
    ready = collect(played, [UserDistance()], cache=Cache())
    kinds = [turn.extra["heard_as"] for t in played for turn in t.turns]
    assert len(set(kinds)) > 1 and sum(kind != "none" for kind in kinds) > len(kinds) / 3
    credit = recipes.mapo().credit(ready.batch())
    assert bool(credit.known.all()) and float(credit.values.abs().max()) > 0


def test_the_table_makes_what_mapo_needs(rolled):
    recipe = recipes.mapo()
    providers = for_recipe(recipe, rolled)
    assert [type(one) for one in providers] == [UserDistance]
    assert bool(recipe.credit(collect(rolled, providers, cache=Cache()).batch()).known.all())
