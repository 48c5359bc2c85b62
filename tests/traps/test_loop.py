"""Traps of the loop: nothing ends silently, nothing is swallowed, and a run goes on from where it was, to the bit."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import inspect
import json
import random
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_worlds import Bandit, gambler
from trap_worlds import quiet

from workbench import credit, envs, losses, objective, recipes
from workbench.envs.base import Step
from workbench.evidence import MissingEvidence, Provider, Values
from workbench.rollout import play
from workbench.runs import Run
from workbench.train import launch, policy_gradient, worker
from workbench.train.command import recipe_of
from workbench.train.plan import Plan, start
from workbench.train.policy_gradient import one_step, train

PLAN = Plan(steps=6, groups=2, size=4, rate=1e-2, max_new_tokens=1, seed=1, save_every=2)

# ------------------------------------------------------------------------------------------ silence and swallowing


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_all_groups_dropped() -> None:
    """Sampling again is bounded; a step without any credit leaves the weights alone, and says so with a reason."""
    policy, plan = gambler(), replace(PLAN, steps=1, refills=2)
    before = [p.detach().clone() for p in policy.engine.model.parameters()]  # type: ignore[attr-defined]
    with pytest.warns(RuntimeWarning, match="every rollout of every task failed; take easier tasks"):
        (row,) = train(policy, Bandit(always=0.0), recipes.dapo(), plan, progress=quiet)[1]
    assert (row["rounds"], row["updates"], row["groups"]) == (3, 0, 6)
    assert set(row["alarms"]) == {"dead", "refill"}
    after = policy.engine.model.parameters()  # type: ignore[attr-defined]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(gambler(), Bandit(), recipes.reinforce(), replace(plan, size=16), progress=quiet)


def test_dropped_groups_are_replaced_not_kept() -> None:
    """What a refill keeps is what teaches, and no task is played twice in a step."""
    plan = replace(PLAN, groups=4, size=2, refills=8, seed=3)
    done = one_step(start(gambler(), recipes.dapo(), plan), Bandit(), recipes.dapo(), plan, 0)
    assert done.metrics["rounds"] > 1 and len(done.used.groups) == 4
    assert all(len({t.outcome for t in group}) == 2 for group in done.used.groups)
    assert len({g.id for g in done.played.groups}) * 2 == len(done.played)


def test_no_rollout_took_a_turn() -> None:
    """A world that cannot begin ends the run with what it said; it is no step without credit."""

    class Closed(Bandit):
        def fresh(self) -> Closed:
            return Closed()

        def reset(self, task: Any, seed: int) -> Any:
            raise OSError("the world is closed")

    with pytest.raises(RuntimeError, match="step 0: .* the world is closed"):
        train(gambler(), Closed(), recipes.reinforce(), replace(PLAN, steps=1), progress=quiet)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_everything_is_truncated() -> None:
    """It is said at once, with the likely fix."""
    plan = replace(PLAN, steps=1)
    with pytest.warns(RuntimeWarning, match="every rollout was truncated: episodes ran out of turns; raise max_turns"):
        (row,) = train(gambler(), Bandit(2, never_ends=True), recipes.reinforce(), plan, progress=quiet)[1]
    assert row["truncated"] == 1.0 and row["outcome"] == 0.0 and "truncated" in row["alarms"]


def test_short_episodes_do_not_fill_the_batch() -> None:
    """A batch is what was begun, not what was finished first: slow episodes are waited for, in their place."""

    class Slow(Bandit):
        def fresh(self) -> Slow:
            return Slow(self.pulls)

        async def step(self, message: Any) -> Step:
            await asyncio.sleep(0.05 if message.text == "0" else 0.0)  # the wrong arm is slow
            return await super().step(message)

    env = Slow(2)
    found = play(gambler(), env, env.tasks("train", 2), size=6, seed=3, progress=quiet, gather_s=0.0)
    fast = play(gambler(), Bandit(2), env.tasks("train", 2), size=6, seed=3, progress=quiet)
    assert [t.id for t in found] == [t.id for t in fast] and len({t.outcome for t in found}) == 2
    assert [t.outcome for t in found] == [t.outcome for t in fast] and all(len(t) == 2 for t in found)


def factories() -> Iterator[Any]:
    for module in (recipes, credit, losses, objective):
        for name, thing in vars(module).items():
            made_here = getattr(thing, "__module__", "").startswith("workbench")
            if not name.startswith("_") and made_here and (inspect.isfunction(thing) or inspect.isclass(thing)):
                yield pytest.param(thing, id=f"{module.__name__.split('.')[-1]}.{name}")
    for thing in (Plan, launch, train, one_step, play, policy_gradient.learn, Bandit):
        yield pytest.param(thing, id=thing.__name__)


TAKES_PARAMETERS_OF_A_FUNCTION = {"apply"}  # `apply(fn, ..., **params)`: `fn` itself refuses what it does not take


@pytest.mark.parametrize("thing", factories())
def test_signature_swallows_nothing(thing: Any) -> None:
    """A misspelt or outdated argument is an error where it is written, never a default that is silently used."""
    try:
        parameters = inspect.signature(thing).parameters.values()
    except ValueError:  # a typing alias
        return
    loose = [p.name for p in parameters if p.kind is p.VAR_KEYWORD]
    assert not loose or thing.__name__ in TAKES_PARAMETERS_OF_A_FUNCTION


def test_misspelt_argument() -> None:
    """The same by trying: of a recipe, of a recipe by name, of a plan, of a world by name, of a column nobody makes."""
    with pytest.raises(TypeError, match="gama"):
        recipes.gigpo(gama=0.9)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="expected key=value with a key of"):
        recipe_of("gigpo", ["gama=0.9"])
    with pytest.raises(TypeError, match="epoch"):
        Plan(epoch=2)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="no knob 'hop'"):
        envs.load("chain", hop=3)
    with pytest.raises(MissingEvidence, match="token_reward"):
        train(gambler(), Bandit(), recipes.igpo_released_2025(), replace(PLAN, steps=1), progress=quiet)


# ------------------------------------------------------------------------------------------------------- resume


class Restless(Bandit):
    """A world that draws from generators of the process, as what is written in a notebook may."""

    def fresh(self) -> Restless:
        return Restless(self.pulls)

    async def step(self, message: Any) -> Step:
        reply = await super().step(message)
        return replace(reply, columns={"a": random.random(), "b": torch.rand(()).item()})


@dataclasses.dataclass
class Counts(Provider):
    """Evidence with a memory: how many groups it has seen."""

    seen: int = 0
    provides = {"count": "trajectory"}

    @property
    def parameters(self) -> dict[str, Any]:
        return {"seen": self.seen}

    async def compute(self, group: Any, meter: Any) -> dict[str, Values]:
        self.seen += 1
        return {"count": Values.of([float(self.seen) + (t.outcome or 0.0) for t in group])}

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load(self, state: Any) -> None:
        self.seen = state["seen"]


def counted() -> Any:
    """REINFORCE with what the provider counts: its memory reaches the weights."""
    made = recipes.reinforce()
    return replace(made, name="counted", chain=credit.chain(credit.read("count"), credit.spread("token")))


def run_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that is worked on in this process."""
    monkeypatch.setattr(sys.modules["workbench.train.launch"], "spawn", lambda run: run)
    return launch(counted(), Restless(2), gambler(), PLAN, path, keep_every=1, evidence=[Counts()])


def contents(run: Run) -> dict[str, Any]:
    """All that must be the same, to the bit."""
    last = run.checkpoints[-1]
    rows = [
        {k: v for k, v in row.items() if not k.startswith(("seconds", "tokens_per_second"))} for row in run.metrics()
    ]
    files = {
        n: hashlib.sha256((last / n).read_bytes()).hexdigest() for n in ("weights.safetensors", "optimiser.safetensors")
    }
    state = json.loads((last / "state.json").read_text())
    kept = {p.name: (p / "trajectories-00000.jsonl").read_bytes() for p in run.trajectories}
    return {"rows": rows, "files": files, "state": (state["step"], state["version"], state["evidence"]), "kept": kept}


def test_resume_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed inside step 3, after the checkpoint of step 2: generators, evidence, optimiser, versions and rollouts."""
    whole, broken = (run_of(tmp_path / name, monkeypatch) for name in ("whole", "broken"))
    assert worker.work(whole.path) == 0
    random.random(), torch.rand(3)  # another process has other generators

    class Killed(BaseException):
        pass

    real, calls = policy_gradient.with_evidence, []

    def killing(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        found = real(*arguments, **named)
        if len(calls) == 4:
            raise Killed
        return found

    with monkeypatch.context() as patch:
        patch.setattr(policy_gradient, "with_evidence", killing)
        assert worker.work(broken.path) == 1
    assert [p.name for p in broken.checkpoints] == ["step-00000002"] and len(broken.metrics()) == 3
    time.sleep(0.01)
    torch.rand(7)
    assert worker.work(broken.path) == 0
    one, other = contents(whole), contents(broken)
    for name in one:
        assert one[name] == other[name], name
    assert len(one["rows"]) == 6 and one["state"][:2] == (6, 6) and len(one["kept"]) == 6


def test_a_step_is_a_function_of_its_number() -> None:
    """Other steps have other tasks and other samples; the same step has the same, whatever was drawn in between."""
    recipe, plan = recipes.reinforce(), replace(PLAN, rate=0.0, size=8)
    learner, env = start(gambler(), recipe, plan), Bandit(pulls=3)
    first, again, other = (one_step(learner, env, recipe, plan, step) for step in (1, 1, 2))
    said = [[s.ids for t in done.played for s in t.sequences] for done in (first, again, other)]
    assert said[0] == said[1] != said[2]
    assert not {g.id for g in first.played.groups} & {g.id for g in other.played.groups}
    assert len({tuple(ids) for ids in said[0]}) > 2  # samples of a task have seeds of their own
