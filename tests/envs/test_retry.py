""" "Try again": a wrong end is taken back, nothing else is told, and what UFO pays for it on real rollouts."""

from __future__ import annotations

import asyncio
import json

import pytest
import torch

from workbench import policy, recipes, rollout
from workbench.envs import Environment, load
from workbench.envs.base import Step
from workbench.envs.retry import Retry
from workbench.evidence import Cache, collect, for_recipe
from workbench.policy import Settings
from workbench.recipes.ufo import TRY_AGAIN, retry_reward
from workbench.search import branch
from workbench.trajectory import Message, ToolCall


def said(env, name, value):
    argument = {"search": "query", "answer": "text"}[name]
    return env.respond(Message("a", "assistant", calls=(ToolCall("c", name, arguments={argument: value}),)))


def test_a_wrong_answer_is_met_with_the_same_words_and_the_agent_stands_where_it_stood():
    env = load("retry", world="chain", knobs={"hops": 2}, attempts=3)
    task = env.tasks("train", 1)[0]
    assert isinstance(env, Environment) and env.reset(task)[0].text == task.question
    first, second, answer = task.gold["calls"]
    said(env, "search", first["arguments"]["query"])
    for tried in (1, 2):
        reply = said(env, "answer", "never")
        assert [m.text for m in reply.messages] == [TRY_AGAIN] and reply.messages[0].role == "user"
        assert (reply.done, reply.outcome, reply.columns["attempts"]) == (False, None, tried)
        assert env.inner.progress.found == (task.gold["documents"][0],)
    reply = said(env, "search", second["arguments"]["query"])
    assert reply.columns["oracle_on_path"] and reply.columns["attempts"] == 2
    reply = said(env, "answer", answer["arguments"]["text"])
    assert (reply.done, reply.outcome, reply.messages) == (True, 1.0, ())


def test_the_last_attempt_is_final():
    env = Retry("chain", attempts=2, knobs={"hops": 1})
    env.reset(env.tasks("train", 1)[0])
    assert not said(env, "answer", "0 0 0").done
    reply = said(env, "answer", "0 0 0")
    assert (reply.done, reply.outcome, reply.columns["attempts"], reply.messages) == (True, 0.0, 2, ())
    with pytest.raises(RuntimeError, match="over"):
        said(env, "answer", "1")


def test_a_wrong_answer_costs_its_turn_in_the_eyes_of_the_oracle():
    env = Retry("chain", attempts=5, knobs={"hops": 2})
    assert env.max_turns == 5 + 4
    env.reset(env.tasks("train", 1)[0])
    for _ in range(4):
        said(env, "answer", "never")
    assert env.inner.progress.turn == 4 and env.oracle()["reachable"]
    for _ in range(3):
        said(env, "search", "zzz")
    assert not env.oracle()["reachable"]  # three calls are needed, two turns are left


def test_snapshots_are_json_and_keep_the_attempts():
    env = Retry("facet", knobs={"items": 8, "clues": 2})
    env.reset(env.tasks("train", 1)[0])
    said(env, "answer", "9 9")
    kept = json.loads(json.dumps(env.snapshot()))
    other = env.fresh()
    assert other.state_key == "" and other.tried == 0
    other.restore(kept)
    assert other.state_key == env.state_key and other.state_key.endswith("tried 1")
    assert asyncio.run(other.step(Message("b", "assistant", "hm"))) == env.respond(Message("b", "assistant", "hm"))


def test_a_game_is_taken_back_by_a_move():
    env = Retry("tictactoe", attempts=2)
    task = env.tasks("train", 1)[0]
    env.reset(type(task)(task.id, "", {}, {"board": "xx.oo....", "rival": 0}))

    def play(cell):
        return env.respond(Message("a", "assistant", calls=(ToolCall("c", "play", arguments={"cell": cell}),)))

    env.inner.skill = 1.0
    while (reply := play(str(env.inner.progress.position.rindex(".") + 1))).messages[-1].role != "user":
        assert not reply.done
    assert "you lose" in reply.messages[0].text and reply.messages[-1].text == TRY_AGAIN
    assert not env.inner.progress.done


@pytest.mark.parametrize("done", [True, False])
def test_a_limit_of_the_worlds_own_is_the_end(done):
    """A world that says its limit is reached is not told to try again, nor is that kept from the rollout."""
    env = Retry("chain", attempts=3, knobs={"hops": 1})
    env.reset(env.tasks("train", 1)[0])
    env.inner.respond = lambda message: Step(truncated=True, done=done, outcome=0.0)
    reply = said(env, "answer", "never")
    assert (reply.done, reply.truncated, reply.outcome, reply.messages) == (done, True, 0.0, ())


def test_the_users_mistakes():
    for knobs, named in (
        ({"world": "retry"}, "retry"),
        ({"world": "atlantis"}, "atlantis"),
        ({"attempts": 0}, "attempts"),
        ({"attempts": 2.5}, "attempts"),
        ({"max_turns": -3}, "max_turns"),
        ({"say": " "}, "say"),
        ({"knobs": {"hop": 1}}, "hop"),
    ):
        with pytest.raises(ValueError, match=named):
            Retry(**knobs)


@pytest.fixture(scope="module")
def played():
    env = Retry("chain", attempts=4, knobs={"hops": 1}, say="{question}")
    tiny = policy.load("tiny@chain", tools=env.tools)
    return rollout.play(tiny, env, env.tasks("test", 8), size=6, settings=Settings(max_new_tokens=24))


def test_a_real_policy_tries_again_and_ufo_pays_what_the_formula_says(played):
    recipe = recipes.ufo_released(host="grpo", kl=0.0, entropy=0.0, share=1.0)
    ready = collect(played, for_recipe(recipe, played), cache=Cache())
    batch = ready.batch()
    again = [t for t in played if any(m.text == t.prompt[0].text for turn in t.turns for m in turn.observations)]
    assert len(again) > 10 and any(t.outcome == 1.0 for t in again)
    rewards = []
    for t in played:
        said = [c.arguments["text"] for turn in t.turns for c in turn.calls if c.name == "answer" and c.arguments]
        said = ["".join(one.split()).lower() for one in said]
        gold = "".join(t.gold["answer"].split()).lower()
        decay = 0.5 ** said.index(gold) if gold in said else 0.0
        repeat = 1 - len(set(said)) / len(said) if said else 0.0
        rewards.append(decay - 0.5 * repeat - 0.1 * sum(turn.rewards["malformed"] for turn in t.turns))
        assert (t.outcome == 1.0) == (gold in said)
    got = retry_reward(0.5, 0.5, 0.1, "answers")(None, batch)
    torch.testing.assert_close(got.values, torch.tensor(rewards, dtype=torch.float64))
    credit = recipe.credit(batch)
    assert bool(credit.known.all()) and float(credit.values.abs().max()) > 0.5


def test_a_turn_after_try_again_can_be_branched(played):
    env = Retry("chain", attempts=4, knobs={"hops": 1}, say="{question}")
    tiny = policy.load("tiny@chain", tools=env.tools)
    t = next(t for t in played if len(t.turns) > 3 and t.turns[1].rewards["attempts"] >= 1)
    grown = branch(played, tiny, env, t, 2, 2, Settings(max_new_tokens=24))
    assert all(b.turns[0].state_key == t.turns[2].state_key for b in grown.trajectories[-2:])
