"""What a scaled run is made of, without Ray: the post between driver and learners, one step ahead, refusals."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from workbench import envs, recipes
from workbench.objective import DivideByNorm, Term
from workbench.runs import Scale
from workbench.scale.ahead import Ahead
from workbench.scale.cluster import sweep
from workbench.scale.crew import check_recipe, signals_kept
from workbench.scale.learners import Learners, why_over
from workbench.scale.players import _even
from workbench.scale.post import Answer, Post
from workbench.train import launch, resume
from workbench.train.plan import Plan


def test_work_is_answered_once_and_in_order():
    async def story():
        post = Post()
        era = await post.begin(step=4)
        assert await post.begun(after=0) == (1, 4)
        waiting = asyncio.create_task(post.take(era, 1))
        assert [await post.give(era, name) for name in "ab"] == [0, 1]
        assert await post.take(era, 0) == "a" and await waiting == "b"
        answer = asyncio.create_task(post.answer_of(era, 1))
        await post.answer(era, 1, Answer("done", 7))
        assert await answer == ("done", 7)

    asyncio.run(story())


def test_who_waits_is_told_when_learners_are_made_anew():
    """Nothing of an era that is over is done or answered: not what was asked before, not what comes late."""

    async def story():
        post = Post()
        old = await post.begin(0)
        number = await post.give(old, "learn")
        waiting = asyncio.create_task(post.answer_of(old, number))
        await asyncio.sleep(0)
        new = await post.begin(2)
        assert (await waiting).state == "over"
        await post.answer(old, number, Answer("done", "late"))
        await post.give(old, "of the old era")
        assert (await post.answer_of(old, 0)).state == "over"
        assert await post.give(new, "learn again") == 0
        assert await post.take(new, 0) == "learn again" and post.answers == {}

    asyncio.run(story())


class Dying(Learners):
    """Learners whose group dies at given pieces of work; keeps what each group was asked."""

    def __init__(self, deaths):
        self.deaths, self.asked, self.since, self.count = set(deaths), [[]], [], 0

    def _once(self, name, *given):
        self.count += 1
        self.asked[-1].append((name, *given))
        return Answer("over") if self.count in self.deaths else Answer("done", len(self.asked[-1]))

    def begun(self):
        self.asked.append([])
        return 0


def test_after_a_death_the_batches_since_the_checkpoint_are_learned_again():
    """Also when the new group dies while it catches up; then what was asked is asked again."""
    learners = Dying(deaths={4, 6})
    for batch in ("one", "two", "three"):
        learners.ask("learn", batch)
        learners.since.append(batch)
    learners.ask("weights", "folder")
    one, two, three = (("learn", batch) for batch in ("one", "two", "three"))
    assert learners.asked == [
        [one, two, three, ("weights", "folder")],
        [one, two],
        [one, two, three, ("weights", "folder")],
    ]
    learners.saved()
    learners.deaths = {learners.count + 1}
    learners.ask("probe")
    assert learners.asked[-1] == [("probe",)]  # the checkpoint has all of it


def test_all_refuse_alike():
    learners = Dying(())
    learners._once = lambda *given: Answer("failed", "the term 'policy' is nan")
    with pytest.raises(FloatingPointError, match="'policy' is nan"):
        learners.ask("learn", "one")
    assert learners.since == []


def test_a_reason_is_the_learners_own():
    class Failed(RuntimeError):
        worker_failures = {1: MemoryError("no room")}

    assert "MemoryError: no room" in why_over(Failed("a group of workers failed"))
    assert "by themselves" in why_over(None)


def test_prompts_are_spread_evenly_and_neighbours_stay_together():
    assert _even(7, 3) == [(0, 3), (3, 5), (5, 7)] and _even(1, 2) == [(0, 1), (1, 1)]


def test_one_step_is_played_ahead_and_only_for_its_own_step():
    ahead, go = Ahead(), threading.Event()
    ahead.begin(1, lambda: go.wait() and "rollouts of step 1")
    go.set()
    assert ahead.taken(2) is None or pytest.fail("rollouts of another step")
    assert ahead.taken(1) == "rollouts of step 1" and ahead.taken(1) is None

    def fail():
        raise ValueError("the world is broken")

    ahead.begin(2, fail)
    with pytest.raises(ValueError, match="world is broken"):
        ahead.taken(2)


def test_only_what_dead_drivers_left_is_swept(tmp_path, monkeypatch):
    import os
    import tempfile

    dead = tempfile.mkdtemp(prefix="workbench-999999999-", dir="/tmp")
    ours = tempfile.mkdtemp(prefix=f"workbench-{os.getpid()}-", dir="/tmp")
    sweep()
    assert not os.path.exists(dead) and os.path.exists(ours)
    os.rmdir(ours)


BY_NORM = replace(recipes.rloo(), objective=replace(recipes.rloo().objective, rule=DivideByNorm("policy", "policy")))


class Margin:
    """A loss that asks the model for what none gives."""

    needs, streams, outputs = (), (), ("margin",)


UNHEARD = replace(recipes.rloo(), objective=replace(recipes.rloo().objective, terms=(Term("margin", Margin()),)))
REFUSED = {
    "a gradient rule": (BY_NORM, r"rule DivideByNorm .* leave `scale` out.* rule=None"),
    "an output nobody gives": (UNHEARD, r"no model here gives \['margin'\]"),
}


@pytest.mark.parametrize(("recipe", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_shared_out_is_refused_before_there_is_a_folder(recipe, said, tmp_path):
    with pytest.raises(NotImplementedError, match=said):
        launch(recipe, envs.load("chain"), "tiny", Plan(steps=1), tmp_path / "run", scale=Scale(learners=2, rollouts=1))
    assert not (tmp_path / "run").exists()


def test_what_the_refusal_of_a_rule_advises_is_taken():
    scale = Scale(learners=2, rollouts=1)
    check_recipe(replace(BY_NORM, objective=replace(BY_NORM.objective, rule=None)), (), scale)
    for recipe in (recipes.ppo(), recipes.ppo_turn(kl_reward=0.1)):
        check_recipe(recipe, (), scale)


def test_a_run_is_still_told_of_sigterm_when_ray_has_begun():
    """`ray.init` takes the signal and would end the run in the middle of a step, as failed."""

    def theirs(number, frame):
        raise SystemExit(number)

    before = signal.signal(signal.SIGTERM, mine := lambda number, frame: None)
    try:
        with signals_kept():
            signal.signal(signal.SIGTERM, theirs)
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_values_come_from_whoever_learns():
    """Asked once a round, for all tokens, by the weights the learners have; not by the idle head of the driver."""
    from workbench import policy
    from workbench.train.plan import start
    from workbench.train.policy_gradient import round_of, with_evidence
    from workbench.train.values import at_starts

    player, plan, asked = policy.load("tiny"), Plan(steps=1, groups=1, size=2, max_new_tokens=4), []

    def guess(learner, batch, plan):
        asked.append(batch.count("token"))
        return torch.arange(asked[-1], dtype=torch.float64)

    rollouts = round_of(player, envs.load("chain"), plan, 0, 0, 1, set())
    for recipe, name in ((recipes.ppo(), "value"), (recipes.ppo_turn(), "turn_value")):
        learner = start(player, recipe, plan)
        column = with_evidence(rollouts, learner, recipe, plan, guess=guess).columns[name]
        batch = rollouts.batch()
        everything = torch.arange(batch.count("token"), dtype=torch.float64)
        assert torch.equal(column.values, everything if name == "value" else at_starts(everything, batch)[0])
        assert column.provenance.provider == "ValueHead"
    assert asked == [batch.count("token")] * 2


def test_more_than_one_step_ahead_is_refused(tmp_path):
    scale = replace(Scale(learners=2, rollouts=1), asynchronous=2)
    with pytest.raises((NotImplementedError, ValueError), match="asynchronous"):
        launch(recipes.rloo(), envs.load("chain"), "tiny", Plan(steps=1), tmp_path / "run", scale=scale)


class Saying:
    """Learners, or players, that say given things of the probe one after the other."""

    version = 3

    def __init__(self, *said):
        self.said = list(said)

    def ask(self, name, probe):
        return self.said.pop(0)

    def probe(self, probe):
        return {"player 0": self.said.pop(0)}


def test_a_run_stops_where_a_player_did_not_take_the_weights():
    from workbench import policy
    from workbench.policy.agreement import Disagreement
    from workbench.scale.crew import ScaledCrew

    crew = ScaledCrew.__new__(ScaledCrew)
    player = policy.load("tiny")
    crew.learner, crew.probe, crew.heard = SimpleNamespace(model=player.engine.model), [1, 2], {}
    crew.learners, crew.players = Saying([-1.0], [-2.0]), Saying([-1.00001], [-1.00001])
    crew._agree()
    with pytest.raises(Disagreement, match="version 3: player 0 is off by 1 .*nothing of it arrived"):
        crew._agree()


def test_a_finished_round_is_played_once_unless_it_has_grown_too_old(tmp_path, monkeypatch):
    """What a dead driver had played is taken; what is older than the run allows is played anew."""
    from workbench import policy
    from workbench.policy.base import Settings
    from workbench.rollout import play
    from workbench.scale import crew as module

    player, world, played = policy.load("tiny"), envs.load("chain"), []

    def now(policy, env, plan, step, rounds, groups, seen):
        played.append((step, rounds))
        settings = Settings(max_new_tokens=4)
        return play(policy, env, env.tasks("train", 1), size=2, step=step, settings=settings, progress=lambda *_: None)

    monkeypatch.setattr(module, "player_of", lambda recipe: now)
    crew = module.ScaledCrew.__new__(module.ScaledCrew)
    crew.job, crew.scale, crew.ahead = SimpleNamespace(path=tmp_path, recipe=recipes.rloo()), Scale(), None
    first, again = (crew.round_of(player, world, Plan(), 0, 0, 1, set()) for _ in range(2))
    assert played == [(0, 0)] and [t.id for t in first] == [t.id for t in again]
    assert first[0].sequences == again[0].sequences and first[0].turns == again[0].turns
    crew.round_of(player, world, Plan(), 0, 1, 1, set())
    player.engine.load(None)
    crew.round_of(player, world, Plan(), 0, 0, 1, set())
    assert played == [(0, 0), (0, 1), (0, 0)]


def test_a_run_goes_on_where_it_may(tmp_path, monkeypatch):
    """The driver is chosen by what was asked; another number of learners is written down, a local run stays local."""
    module = sys.modules["workbench.train.launch"]
    monkeypatch.setattr(module, "spawn", lambda run: run)
    plan, two = Plan(steps=1), Scale(learners=2, rollouts=1)
    local, scaled = (
        launch(recipes.rloo(), envs.load("chain"), "tiny", plan, tmp_path / name, scale=scale)
        for name, scale in (("local", None), ("scaled", two))
    )
    assert module._command(local) == module.WORKER and module._command(scaled) == module.SCALED
    for run, scale in ((local, two), (scaled, Scale())):
        with pytest.raises(ValueError, match="checkpoints of a local run and of a scaled one differ"):
            resume(run.path, scale=scale)
    resume(scaled.path, scale=replace(two, learners=3))
    (change,) = scaled.config["changes"]
    assert change["scale"]["before"]["parameters"]["learners"] == 2
    assert scaled.config["scale"]["parameters"]["learners"] == 3


def test_a_python_in_a_folder_with_spaces_is_spelled_for_the_shell():
    """Ray writes the name into a line of bash; taken apart, no worker would ever start."""
    from workbench.scale.cluster import _spelled

    assert _spelled("/usr/bin/python3") is None
    assert _spelled("/home/a b/.venv/bin/python") == {"py_executable": "'/home/a b/.venv/bin/python'"}
