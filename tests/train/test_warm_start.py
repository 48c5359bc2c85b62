"""Warm starts with a habit: what they are made on, and that the shipped ones are those of the card."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from workbench import policy
from workbench.envs.misread import MISREAD
from workbench.policy import tiny, tiny_tokenizer
from workbench.policy.base import Settings
from workbench.rollout import play
from workbench.train import sweep
from workbench.train.sft import main
from workbench.train.warm_start import demonstrations, start

CARD = Path(__file__).resolve().parents[2] / "datasets" / "tiny" / "README.md"


def told(examples):
    return hashlib.sha256(repr([(e.ids, [int(w) for w in e.weights]) for e in examples]).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("world", "misread", "knobs", "pinned"),
    [("chain", 0.8, {}, "691085e66111d06e"), ("facet", 0.6, {"items": 16}, "27b1f594b7106b73")],
)
def test_the_demonstrations_are_those_the_shipped_starts_were_made_on(world, misread, knobs, pinned):
    """If this changes, the commands in `datasets/tiny/README.md` no longer make the shipped weights: say so there."""
    made = demonstrations(world, tiny_tokenizer.load(), 12, 0.25, 0, (1, 2, 3), misread, knobs)
    assert told(made) == pinned


def test_without_a_habit_nothing_changes():
    tokenizer = tiny_tokenizer.load()
    plain = demonstrations("chain", tokenizer, 6, 0.4, 0, (2,))
    assert told(plain) == told(demonstrations("chain", tokenizer, 6, 0.4, 0, (2,), 0.0))
    assert told(plain) != told(demonstrations("chain", tokenizer, 6, 0.4, 0, (2,), 1.0))


@pytest.mark.parametrize("world", tiny.worlds())
def test_the_card_has_the_checksum_of_every_start(world):
    assert tiny.SHA256[world] in CARD.read_text("utf-8")
    assert tiny.load(world)[0].config.vocab_size == tiny_tokenizer.SIZE


@pytest.mark.parametrize("world", list(sweep.WORLDS))
def test_the_starts_of_the_comparison_err_by_habit(world):
    """By likeliest tokens they are right far more often where no word is misread: chance would not care."""
    env, player = sweep.world(world), policy.load(sweep.STARTS[world])
    tasks, greedy = env.tasks("test", 64, 5), Settings(temperature=0.0, max_new_tokens=32)
    right = {t.group: t.outcome == 1.0 for t in play(player, env, tasks, size=1, settings=greedy, gather_s=None)}
    hit = [right[task.id] for task in tasks if set(MISREAD) & set(task.question.split())]
    free = [right[task.id] for task in tasks if not set(MISREAD) & set(task.question.split())]
    assert len(free) >= 3 and sum(free) / len(free) > 0.3 + sum(hit) / len(hit)


def test_a_world_without_a_habit_is_refused(monkeypatch):
    from workbench.train import warm_start

    monkeypatch.delitem(warm_start.SPOIL, "known")
    with pytest.raises(ValueError, match="misreading is known for"):
        demonstrations("known", tiny_tokenizer.load(), 2, 0.1, 0, (1,), 0.5)


def test_the_command_makes_a_facet_start(tmp_path):
    words = ["--world", "facet", "--items", "8", "--misread", "0.5", "--hops", "1", "--out", str(tmp_path)]
    assert main([*words, "--demonstrations", "4", "--steps", "1", "--batch", "2"]) == 0
    assert policy.load(tmp_path).renderer.encode("Search: owner is red\n")[0] == 260


def test_a_start_can_go_on_from_a_shipped_one():
    here, there = start("tiny@chain", 0)[0].state_dict(), tiny.load("chain")[0].state_dict()
    assert all(torch.equal(here[name], there[name]) for name in there)
    assert not torch.equal(start("tiny", 0)[0].lm_head.weight, there["lm_head.weight"])
