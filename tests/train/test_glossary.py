"""The glossary: one definition for every metric, no definition without one, a page that is in step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_worlds import Bandit, chain, gambler

from workbench import recipes
from workbench.glossary import ENTRIES, defined, page
from workbench.glossary.updates import SCALED
from workbench.train import glossary
from workbench.train.plan import Plan, start
from workbench.train.policy_gradient import one_step

ROOT = Path(__file__).resolve().parents[2]
PLAN = Plan(steps=1, groups=2, size=3, max_new_tokens=1, seed=5, refills=0)


def rows():
    for name, (policy, env) in {"grpo": chain(), "igpo": chain(), "ppo": chain()}.items():
        recipe = getattr(recipes, name)()
        yield name, one_step(start(policy, recipe, PLAN), env, recipe, PLAN, 0).metrics
    recipe, policy = recipes.dapo(), gambler()
    yield "dead", one_step(start(policy, recipe, PLAN), Bandit(always=0.0), recipe, PLAN, 0).metrics


def test_every_metric_has_a_definition_and_every_definition_a_metric():
    found = dict(rows())
    for name, row in found.items():
        undefined, unused = defined(row)
        assert (name, undefined, unused) == (name, [], [*SCALED])
    assert "loss_value" in found["ppo"] and found["dead"]["updates"] == 0


def test_definitions_are_whole():
    for name, entry in ENTRIES.items():
        assert entry.name == name and entry.what.endswith("."), name
        assert entry.range and entry.good.endswith(".") and entry.bad.endswith("."), name
        assert 20 < len(entry.what) + len(entry.good) + len(entry.bad) < 1200, name


def test_a_definition_is_found_by_the_key_of_a_row():
    assert "no two different ones" in glossary("collapsed").what
    assert glossary("loss_anything") is glossary("loss_*") and glossary("loss") is not glossary("loss_*")
    assert repr(glossary("forecast")).startswith("forecast: Share of collapsed groups") and "p^G" in repr(
        glossary("forecast")
    )
    with pytest.raises(KeyError, match="no metric 'colapsed'; close are collapsed"):
        glossary("colapsed")
    with pytest.raises(KeyError, match="no metric"):
        glossary("loss_")
    assert list(glossary()) == list(ENTRIES) and glossary()["rate"] is ENTRIES["rate"]
    assert "Rollouts: step, rate" in repr(glossary()) and "# Glossary" in glossary()._repr_markdown_()


def test_the_page_is_current():
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "glossary.py"), "--check"])
    assert done.returncode == 0, "definitions changed: run `.venv/bin/python scripts/glossary.py`"
    assert all(f"**`{name}`**" in page() for name in ENTRIES)


def test_the_command_says_it_too(capsys):
    from workbench import cli

    assert cli.main(["glossary", "clip_share"]) == 0 and "gradient the clip removes" in capsys.readouterr().out
    assert cli.main(["glossary"]) == 0 and "Updates: updates, updates_skipped" in capsys.readouterr().out
    assert cli.main(["glossary", "clipshare"]) == 1 and "close are clip_share" in capsys.readouterr().err


def test_pages_point_to_it():
    assert "tutorials/glossary.md" in (ROOT / "README.md").read_text("utf-8")
