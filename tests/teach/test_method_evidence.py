"""A method's page shows it on rollouts that a real policy sampled, with evidence that somebody measured.

The notebook sources are read here, a row of the catalogue each. That the numbers are real is seen where they are made:
`page.cost` refuses others, and `make notebooks` runs every page.
"""

from __future__ import annotations

import ast
import random
from dataclasses import replace
from pathlib import Path

import pytest

from workbench import catalogue, evidence, policy
from workbench import notebook as nb
from workbench.envs.facet import Facet
from workbench.policy import Settings
from workbench.recipes import grpo, igpo
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.teach import method_page as page

ROOT = Path(__file__).resolve().parents[2]
ROWS = [row for row in catalogue.ALL if row.recipes]
PRETENDS = ("ScriptedEngine", "imperfect_demonstration", "mock", "monkeypatch")


def calls(cell: str, name: str) -> list[ast.Call]:
    """Calls of `name` in a cell's source, in order."""
    found = [node for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Call)]
    return [call for call in found if ast.unparse(call.func) == name]


def faults(cells: list[tuple[str, str]], recipes: tuple[str, ...]) -> list[str]:
    """Say what keeps a page from showing its method on a real policy's rollouts."""
    section = next((i for i, (kind, text) in enumerate(cells) if kind == "markdown" and "## 4. " in text), len(cells))
    ends = next((i for i, (kind, text) in enumerate(cells) if kind == "markdown" and "## 5. " in text), len(cells))
    code = ["" if kind != "code" else text for kind, text in cells]
    loaded = [ast.unparse(call.args[0]).strip("'") for cell in code[:ends] for call in calls(cell, "policy.load")]
    told = [call for cell in code[section:ends] for call in calls(cell, "page.cost")]
    made = {name for cell in code for name in recipes if calls(cell, name)}
    says = []
    if not [name for name in loaded if name.partition("@")[0] in ("tiny", "smollm2")]:
        says.append("loads no real policy before section 5")
    if not [cell for cell in code[:ends] if calls(cell, "play") or calls(cell, "workbench.read")]:
        says.append("has no rollouts before section 5")
    if not [call for call in told if ast.unparse(call.args[0]) == "rollouts"]:
        says.append("section 4 does not call page.cost(rollouts, ...), which refuses what nobody measured")
    if not made:
        says.append(f"never calls one of its recipes {recipes}")
    return says + [f"pretends: {word}" for word in PRETENDS if any(word in cell for cell in code)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_page_shows_its_method_on_rollouts_of_a_real_policy(row: catalogue.Method) -> None:
    assert row.notebook is not None
    read = nb.read_source(ROOT / row.notebook)
    assert faults([(cell.cell_type, cell.source) for cell in read.cells], row.recipes) == []


def test_a_page_that_pretends_is_seen() -> None:
    head, tail = ("markdown", "## 4. On real rollouts"), ("markdown", "## 5. Where it fails")
    good = [("code", "player = policy.load('tiny@facet')\npaper = grpo()"), head]
    good += [("code", "rollouts = play(player, env, tasks)\npage.cost(rollouts, paper)"), tail]
    assert faults(good, ("grpo",)) == []
    assert len(faults([good[0], head, tail, good[2]], ("grpo",))) == 2  # all of it after section 5 begins
    assert len(faults([("code", "batch = page.hand(['a'])"), head, tail], ("grpo",))) == 4
    assert faults([*good, ("code", "from workbench.policy.scripted import ScriptedEngine")], ("grpo",)) != []


@pytest.fixture(scope="module")
def played() -> Rollouts:
    env = Facet(items=8, clues=2)
    tasks, short = env.tasks("test", 1, seed=3), Settings(max_new_tokens=24)
    return play(policy.load("tiny@facet"), env, tasks, size=2, settings=short, seed=3, gather_s=None)


def test_what_a_policy_sampled_and_a_provider_measured_is_shown(played: Rollouts) -> None:
    assert "| `outcome` | rollout | 2 of 2 rollouts" in page.cost(played, grpo(kl=0.0)).data
    recipe = igpo()
    found = evidence.collect(played, evidence.for_recipe(recipe, played, policy=policy.load("tiny@facet")))
    assert "| `gold_logprob` | GoldProbe |" in page.cost(found, recipe).data


def test_what_nobody_sampled_or_measured_is_refused(played: Rollouts) -> None:
    env = Facet(items=8, clues=2)
    scripted = env.imperfect_demonstration(env.tasks("test", 1)[0], random.Random(0), 0.5)
    with pytest.raises(ValueError, match="expected rollouts that a policy sampled"):
        page.cost(Rollouts((scripted,)), grpo(kl=0.0))
    with pytest.raises(ValueError, match="expected rollouts that a policy sampled"):
        page.cost(Rollouts(()), grpo(kl=0.0))
    numbers = played.with_column("gold_logprob", "turn", [-1.0] * played.batch().count("turn"))
    with pytest.raises(ValueError, match="needs columns"):
        page.cost(numbers, igpo())
    numbers = numbers.with_column("gold_logprob_start", "trajectory", [-2.0] * len(played))
    with pytest.raises(ValueError, match="'gold_logprob' was written in by hand"):
        page.cost(numbers, igpo())
    nobody = Rollouts(tuple(replace(t, outcome=None) for t in played))
    with pytest.raises(ValueError, match="'outcome' is known for no trajectory"):
        page.cost(nobody, grpo(kl=0.0))
