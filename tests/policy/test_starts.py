"""The shipped starts with a habit of their own: made as the card says, and as good as it says."""

from __future__ import annotations

import hashlib

import pytest

from workbench import envs, policy
from workbench.policy import Settings, tiny, tiny_tokenizer
from workbench.rollout import play
from workbench.train.warm_start import demonstrations

MADE_BY = {
    "dialogue": (0.35, (2, 3, 4), 0.8, "c8f78a03ec042741"),
    "sudoku": (0.2, (1, 2, 3, 4), 0.5, "b4027bc26f7c43fc"),
    "toolbox": (0.15, (1,), 0.5, "0725983d184a8c18"),
}
"""World -> error rate, lengths and habit of its command in `datasets/tiny/README.md`, and what twelve plays hash to."""

KNOBS = {"toolbox": {"changes": 1}, "sudoku": {"empty": 3}}
"""Of the world a start is meant for, where they are not the defaults."""


@pytest.mark.parametrize("world", MADE_BY)
def test_the_demonstrations_are_those_the_start_was_made_on(world):
    """If this changes, the command in `datasets/tiny/README.md` no longer makes the shipped weights: say so there."""
    error_rate, lengths, habit, pinned = MADE_BY[world]
    tokenizer = tiny_tokenizer.load(tiny_tokenizer.file_of(world))
    made = demonstrations(world, tokenizer, 12, error_rate, 0, lengths, habit)
    told = repr([(e.ids, [int(w) for w in e.weights]) for e in made])
    assert hashlib.sha256(told.encode()).hexdigest()[:16] == pinned


@pytest.mark.parametrize("world", MADE_BY)
def test_a_start_sometimes_succeeds_and_its_groups_are_mixed(world):
    """64 seeded episodes. The card has the shares and their intervals; here wide margins around them."""
    env = envs.load(world, **KNOBS.get(world, {}))
    player = policy.load(f"tiny@{world}", tools=env.tools)
    played = play(player, env, env.tasks("test", 8), size=8, settings=Settings(max_new_tokens=32))
    turns = [turn for t in played for turn in t.turns]
    assert 12 <= sum(t.outcome == 1.0 for t in played) <= 52
    assert sum(len({t.outcome for t in group}) > 1 for group in played.groups) >= 3
    assert sum(turn.rewards["malformed"] for turn in turns) < 0.05 * len(turns)
    assert (tiny.FOLDER / world / tiny.WEIGHTS).stat().st_size < 2_000_000
