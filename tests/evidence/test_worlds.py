"""Evidence on episodes of a real world, up to the credit of recipes that read it."""

from __future__ import annotations

import asyncio

import pytest

from workbench import recipes
from workbench.envs.chain import Chain
from workbench.evidence import Cache, collect, for_recipe
from workbench.rollouts import Rollouts
from workbench.trajectory import Message, ToolCall, Trajectory, Turn


async def episode(world: Chain, task, name: str, script: list[tuple[str, dict[str, str]]]) -> Trajectory:
    env = world.fresh()
    prompt, turns, outcome = env.reset(task, 0), [], None
    for k, (tool, arguments) in enumerate(script):
        call = ToolCall(f"{name}.{k}", tool, arguments=arguments)
        action = Message(f"{name}.m{k}", "assistant", f"{tool} {arguments}", calls=(call,))
        state = env.state_key
        reply = await env.step(action)
        turns.append(Turn(action, reply.messages, state_key=state, reward=reply.reward))
        outcome = reply.outcome
    return Trajectory(name, task.id, prompt, tuple(turns), outcome=outcome, gold=task.gold)


@pytest.fixture(scope="module")
def rollouts() -> Rollouts:
    world = Chain()
    task = world.tasks("test", 1, 0)[0]
    gold = [(call["name"], dict(call["arguments"])) for call in task.gold["calls"]]
    detour = [gold[0], gold[0], *gold[1:]]
    wrong = [gold[0], ("answer", {"text": "nothing"})]

    async def play() -> list[Trajectory]:
        return [
            await episode(world, task, name, s) for name, s in (("gold", gold), ("detour", detour), ("wrong", wrong))
        ]

    return Rollouts(tuple(asyncio.run(play())))


def test_a_gold_trace_earns_everything_and_a_repeated_call_nothing(rollouts: Rollouts) -> None:
    got = collect(rollouts, for_recipe(recipes.matchtir()), cache=Cache()).columns["match_turn_reward"]
    hops = len(rollouts["gold"].turns) - 1
    assert bool(got.known.all())
    values = got.values.tolist()
    assert values[: hops + 1] == [1.0] * (hops + 1)
    assert values[hops + 1 : 2 * hops + 3] == [1.0, 0.0] + [1.0] * hops
    assert values[2 * hops + 3 :] == [1.0, 0.0]


def test_recipes_read_what_was_collected(rollouts: Rollouts) -> None:
    chosen = [recipes.matchtir(), recipes.gigpo(reward=None), recipes.grpo()]
    ready = collect(rollouts, for_recipe(chosen, rollouts), cache=Cache()).batch()
    last = [len(t.turns) for t in rollouts]
    for recipe in chosen:
        credit = recipe.credit(ready, to="turn")
        assert bool(credit.known.all()), recipe.name
    matched = recipes.matchtir().credit(ready, to="turn").values
    assert matched[last[0] - 1] > matched[sum(last) - 1], "the right answer ranks above the wrong one"
