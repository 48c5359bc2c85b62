"""One episode of any world: before it begins, in copies that begin anew, from a snapshot, and once it is over."""

from __future__ import annotations

import asyncio
import json

import pytest

from workbench import envs
from workbench.envs.playing import Playing
from workbench.trajectory import Message, ToolCall

WORLDS = {"chain": {"hops": 1}, "facet": {}, "tictactoe": {}, "sudoku": {}, "toolbox": {"changes": 1}, "dialogue": {}}


def act(env, calls):
    made = tuple(ToolCall(f"c{n}", one["name"], arguments=one["arguments"]) for n, one in enumerate(calls))
    return asyncio.run(env.step(Message("m", "assistant", calls=made)))


def good(env):
    """A good call of a world: what its oracle plays, or the next one of the gold trace."""
    if hasattr(env, "best"):
        return env.best()
    return env.task.gold["calls"][env.progress.turn]


@pytest.mark.parametrize("name", WORLDS)
def test_an_episode_is_its_task_and_its_progress(name):
    env = envs.load(name, **WORLDS[name])
    assert isinstance(env, Playing) and isinstance(env, envs.Environment)
    unbegun = env.progress
    for asked in (lambda: env.task, env.snapshot):
        with pytest.raises(RuntimeError, match="no episode has begun"):
            asked()
    (task,) = env.tasks("train", 1)
    env.reset(task)
    began = json.loads(json.dumps(env.snapshot()))
    act(env, [good(env)])
    other = env.fresh()
    assert other.progress == unbegun != env.progress and other.state_key == ""
    with pytest.raises(RuntimeError, match="no episode has begun"):
        _ = other.task
    later = json.loads(json.dumps(env.snapshot()))
    other.restore(later)
    assert (other.progress, other.task, other.state_key) == (env.progress, env.task, env.state_key)
    env.restore(began)
    assert env.progress != other.progress and env.snapshot() == began


@pytest.mark.parametrize("name", WORLDS)
def test_nothing_is_played_once_it_is_over(name):
    env = envs.load(name, **WORLDS[name])
    (task,) = env.tasks("train", 1)
    env.reset(task)
    for _ in range(99):
        if act(env, [good(env)]).done:
            break
    assert env.progress.done
    with pytest.raises(RuntimeError, match=f"task '{task.id}': .*; call reset, or restore a snapshot"):
        act(env, [])
    env.reset(task)
    act(env, [good(env)])
