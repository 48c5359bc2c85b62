"""Whatever a policy says, a world answers: lines made of its own labels and random tokens, played through rollouts."""

from __future__ import annotations

import random

import pytest

from workbench import rollout
from workbench.envs import load
from workbench.policy import Policy, ScriptedEngine, Settings, tiny_tokenizer
from workbench.policy.renderers import PlainText
from workbench.policy.renderers.plain import label

WORLDS = [
    ("tictactoe", {}),
    ("sudoku", {}),
    ("minesweeper", {}),
    ("retry", {"world": "chain"}),
    ("retry", {"world": "tictactoe"}),
    ("toolbox", {}),
    ("dialogue", {}),
]


@pytest.mark.parametrize(("name", "knobs"), WORLDS, ids=str)
def test_no_words_of_a_policy_break_a_world(name, knobs):
    env = load(name, **knobs)
    renderer = PlainText(tiny_tokenizer.load(), tools=env.tools)
    labels = [renderer.encode(f"{label(tool)}:") for tool in env.tools]

    def say(prompt, seed):
        rng = random.Random(seed)
        start = rng.choice([*labels, []])
        numbers = renderer.encode(" " + " ".join(str(rng.randint(0, 11)) for _ in range(rng.randint(1, 4))))
        noise = [rng.randrange(1024) for _ in range(rng.randint(0, 12))]
        return [*start, *rng.choice([numbers, noise, []]), *renderer.encode("\n")]

    played = rollout.play(
        Policy("noise", ScriptedEngine(say), renderer),
        env,
        env.tasks("train", 6),
        size=6,
        settings=Settings(max_new_tokens=24),
    )
    assert {t.stop_reason for t in played} <= {"done", "max_turns"}, [t.stop_reason for t in played]
    assert all(turn.trainable and turn.observations or turn is t.turns[-1] for t in played for turn in t.turns)
    assert bool(played.batch()["malformed"].known.all()) and float(played.batch()["malformed"].values.sum()) > 0
