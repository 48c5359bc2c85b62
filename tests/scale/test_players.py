"""Players are an engine: they say what one engine says, also when some of them die. No cluster is started."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest
import torch

from workbench import envs, policy, recipes
from workbench.evidence import collect, for_recipe
from workbench.policy.base import Policy, Settings
from workbench.rollout import play
from workbench.scale.players import DEATHS, Player, Players

ray = pytest.importorskip("ray")


class Ref:
    """What a call of an actor gives: the result, or the death of the actor."""

    def __init__(self, call):
        self.result = Future()
        try:
            self.result.set_result(call())
        except BaseException as error:
            self.result.set_exception(error)

    def future(self):
        return self.result


class Method:
    def __init__(self, call):
        self.remote = lambda *given: Ref(lambda: call(*given))


class Actor:
    """A player in this process that dies at its n-th call, and is dead from then on."""

    def __init__(self, dies_at=None):
        self.player = Player.__new__(Player)
        self.player.engine = policy.load("tiny").engine
        self.calls, self.dies_at = [], dies_at

    def __getattr__(self, name):
        def call(*given):
            self.calls.append(name)
            if self.dies_at is not None and len(self.calls) >= self.dies_at:
                raise ray.exceptions.RayActorError(error_msg="it was killed")
            return getattr(self.player, name)(*given)

        return Method(call)


@pytest.fixture
def players(monkeypatch):
    """Return a function that makes players which die at given calls, and the list of all actors made."""
    monkeypatch.setattr(ray, "get", lambda ref: ref.result.result())

    def make(*deaths):
        plans, made = list(deaths), []

        def start(folder, version):
            made.append(Actor(plans.pop(0) if plans else None))
            made[-1].player.engine._version = version
            return made[-1]

        return Players(start, len(deaths), "weights", 0), made

    return make


@pytest.fixture(scope="module")
def prompts():
    """Rollouts of a tiny policy: prompts as it sees them, and sequences to score."""
    player = policy.load("tiny")
    world = envs.load("chain")
    rollouts = play(player, world, world.tasks("train", 2), size=3, progress=lambda *_: None)
    ids = [[i for span in t.sequences[0].spans for i in span.ids] for t in rollouts]
    return rollouts, ids


@pytest.mark.parametrize("deaths", [(None,), (None, None, None), (1, None), (2, 1, None), (1, 2, 1)])
def test_samples_and_scores_are_those_of_one_engine(deaths, players, prompts):
    _, ids = prompts
    engine, (group, made) = policy.load("tiny").engine, players(*deaths)
    settings, seeds = Settings(max_new_tokens=6), list(range(len(ids)))
    for _ in range(3):
        ours = asyncio.run(group.generate(ids, settings, seeds))
        theirs = engine.sample(ids, settings, seeds)
        assert [one.token_ids for one in ours] == [one.token_ids for one in theirs]
        spans = [(3, len(one)) for one in ids]
        for one, other in zip(
            group.score(ids, spans, entropy=True), engine.score(ids, spans, entropy=True), strict=True
        ):
            assert torch.allclose(one.logprobs, other.logprobs, atol=1e-4)
            assert torch.allclose(one.entropy, other.entropy, atol=1e-4)
    died = sum(one is not None for one in deaths)
    assert group.restarts == died and len(made) == len(deaths) + died
    assert group.deaths == [0] * len(deaths)


def test_new_weights_reach_all_and_who_dies_meanwhile_begins_with_them(players, tmp_path):
    from safetensors.torch import save_file

    model = policy.load("tiny").engine.model
    weights = {name: (w + 0.01).contiguous() for name, w in model.state_dict().items() if "lm_head" not in name}
    save_file(weights, tmp_path / "model.safetensors")
    group, made = players(None, 1)
    assert group.load(tmp_path) == group.version == 1
    assert made[0].player.engine.version == 1 and made[2].player.engine.version == 1
    assert group.folder == str(tmp_path) and made[2].calls == ["load"]  # it has them, and does not take them twice
    with pytest.raises(RuntimeError, match=r"versions \[2, 5\] of the weights, expected 2"):
        made[2].player.engine._version = 5
        made[2].player.load = lambda folder, version: 5
        group.load(tmp_path)


def test_one_that_always_dies_is_given_up(players):
    group, _ = players(*[1] * 1)
    group.make = lambda folder, version: Actor(1)
    with pytest.raises(RuntimeError, match=f"player 0 died {DEATHS + 1} times in a row.*it was killed"):
        group.probe([1, 2, 3] * 10)


def test_one_that_cannot_begin_is_given_up_at_once(players):
    class CannotBegin(ray.exceptions.RayActorError):
        actor_init_failed = True

    group, _ = players(1)
    with pytest.raises(RuntimeError, match="player 0 cannot begin: no vllm here"):
        group._replace(0, group.actors[0], CannotBegin(error_msg="no vllm here"))
    assert group.restarts == 0


def test_an_error_of_the_engine_is_no_death(players):
    group, _ = players(None)
    with pytest.raises(ValueError, match="is empty"):
        asyncio.run(group.generate([[]], Settings(), [0]))
    assert group.restarts == 0


def test_evidence_through_players_is_that_of_the_policy(players, prompts):
    """The gold probe asks engines that are not in this process by `score`."""
    rollouts, _ = prompts
    player, (group, _) = policy.load("tiny"), players(None, 3)
    recipe = recipes.igpo()
    here = collect(rollouts, for_recipe(recipe, rollouts, policy=player, training=True))
    there = Policy("tiny elsewhere", group, player.renderer)
    far = collect(rollouts, for_recipe(recipe, rollouts, policy=there, training=True))
    one, other = (each.columns["gold_logprob"] for each in (here, far))
    assert torch.equal(one.known, other.known) and bool(one.known.any())
    assert torch.allclose(one.values[one.known].double(), other.values[one.known].double(), atol=1e-4)
