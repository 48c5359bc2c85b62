"""Values as readable JSON, and what a notebook cell defines by value: in processes that never saw the cell."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from small_worlds import Bandit, gambler

from workbench import envs, policy, recipes, runs
from workbench.credit import linear
from workbench.runs import Run
from workbench.train import launch, resume
from workbench.train.lora import Lora
from workbench.train.plan import Plan
from workbench.train.shipping import CannotShip, Packer, call, unpack

WAIT_S = 120.0


@pytest.fixture(autouse=True)
def nobody_trains_on(tmp_path):
    """End what a test that failed left running."""
    yield
    for run in runs.list(tmp_path):
        run.kill()


def until(run: Run, step: int) -> None:
    end = time.monotonic() + WAIT_S
    while run.status.step < step and run.alive:
        assert time.monotonic() < end, run.log()
        time.sleep(0.005)


CELL = """
import sys
from dataclasses import dataclass
import torch
from workbench import recipes
from workbench.credit import apply, chain, read, spread, center, task
from workbench.evidence import Values
from workbench.recipes import Recipe
from workbench.train import launch
sys.path.insert(0, {tests!r})
from small_worlds import Bandit, gambler
from workbench.train.plan import Plan

BONUS = 0.5

class Mine(Bandit):
    def fresh(self):
        return Mine(self.pulls)
    async def step(self, message):
        reply = await super().step(message)
        return type(reply)(reply.messages, BONUS * (message.text == "1"), reply.done, outcome=reply.outcome)

def doubled(batch, credit):
    return credit.values * 2

class Reward:
    name, sees, reads, parameters, model = "Reward", (), ("results",), {{}}, ""
    provides = {{"mine": "trajectory"}}
    def __init__(self):
        self.seen = 0
    async def compute(self, group, meter):
        self.seen += len(group)
        return {{"mine": Values.of([t.outcome + BONUS for t in group])}}
    def state(self):
        return {{"seen": self.seen}}
    def load(self, state):
        self.seen = state["seen"]

recipe = Recipe("mine", chain(apply(doubled, chain(read("mine", level="trajectory"), center(task))), spread("token")),
                recipes.reinforce().objective)
plan = Plan(steps=12, groups=2, size=4, rate=1e-2, max_new_tokens=1, save_every=4)
run = launch(recipe, Mine(2), gambler(), plan, sys.argv[1], evidence=[Reward()])
print(run.path)
"""


def test_what_a_notebook_cell_defines_is_shipped_and_outlives_it(tmp_path):
    """World, private stage and reward of `__main__`: the process that defined them is gone while they train."""
    cell = tmp_path / "cell.py"
    cell.write_text(textwrap.dedent(CELL).format(tests=str(Path(__file__).parent)))
    subprocess.run([sys.executable, str(cell), str(tmp_path / "run")], check=True, timeout=WAIT_S)
    run = Run(tmp_path / "run")
    assert run.alive
    cell.unlink()
    until(run, 5)
    run.kill()
    assert resume(run.path).wait(WAIT_S).state == "finished", run.log()
    assert json.loads((run.checkpoints[-1] / "state.json").read_text())["evidence"][0]["state"] == {"seen": 12 * 8}
    assert run.config["env"]["type"] == "__main__.Mine"
    assert "class Mine(Bandit)" in (run.path / "code" / run.config["env"]["source"]).read_text()
    assert "doubled" in json.dumps(run.config["recipe"]) and "workbench.credit" in json.dumps(run.config["recipe"])


@pytest.mark.slow
def test_a_run_outlives_the_kernel_of_a_notebook(tmp_path):
    """The same in a real kernel, which is shut down right after: its classes have their source beside them."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    code = (
        textwrap.dedent(CELL)
        .format(tests=str(Path(__file__).parent))
        .replace("sys.argv[1]", repr(str(tmp_path / "run")))
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(book, timeout=WAIT_S, kernel_name="python3").execute()
    run = Run(tmp_path / "run")
    assert run.alive
    until(run, 5)
    run.kill()
    assert resume(run.path).wait(WAIT_S).state == "finished", run.log()
    sources = [path.read_text() for path in (run.path / "code").glob("*.py")]
    assert any("class Mine(Bandit)" in text for text in sources) and any("class Reward" in text for text in sources)


NAMES = [name for name in recipes.__all__ if inspect.isfunction(getattr(recipes, name))]


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_readable_json_and_comes_back(name, tmp_path):
    packer, recipe = Packer(), getattr(recipes, name)()
    packed = json.loads(json.dumps(packer.pack(recipe, "recipe")))
    assert packer.files == {}
    assert unpack(packed, tmp_path) == recipe and repr(unpack(packed, tmp_path)) == repr(recipe)


@pytest.mark.parametrize("name", ["chain", "facet", "known", "gazetteer"])
def test_worlds_and_plans_come_back(name, tmp_path):
    packer, env = Packer(), envs.load(name)
    plan = Plan(rate=linear(1e-3, 0.0, 10), lora=Lora(4), clip=float("inf"))
    for value in (env, plan):
        assert unpack(json.loads(json.dumps(packer.pack(value, "x"))), tmp_path) == value
    assert packer.files == {}
    assert packer.pack(call(policy.load, name="tiny"), "policy")["name"] == "workbench.policy.loading:load"


def test_what_cannot_be_shipped_is_an_error_before_there_is_a_folder(tmp_path):
    env = Bandit()
    env.always = (n for n in range(3))
    with pytest.raises(CannotShip, match="env: generator cannot be taken to another process"):
        launch(recipes.grpo(), env, gambler(), Plan(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
