"""Rates of this machine for the planner: seconds of work of an engine and a learner, fitted to timed calls.

Seconds are those the process worked (`time.process_time`, one thread), so that other programs on the machine do not
enter them: what the planner is then asked to predict is work, too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch

from workbench import envs, policy, recipes
from workbench.policy.base import Settings
from workbench.rollouts import Rollouts
from workbench.scale.pipeline import local_step, tokens_once
from workbench.scale.rates import EngineRates, LearnerRates, Rates
from workbench.scale.simulate import Work, draw, of_rollouts, rounds
from workbench.train import policy_gradient
from workbench.train.parts import Part
from workbench.train.plan import Plan, start

RUNS = (
    (1, 4, 4),
    (2, 4, 8),
    (1, 8, 8),
    (3, 2, 8),
    (2, 8, 4),
    (3, 8, 8),
)  # hops, groups, size: what rates are fitted to
ASKED = ((2, 6, 8), (3, 4, 8), (1, 12, 8), (3, 12, 4), (2, 16, 8))  # what is predicted: none of those above
MICRO = 2048


class Made(NamedTuple):
    """A step that was made, and what it was made of."""

    hops: int
    groups: int
    size: int
    seconds: dict[str, float]
    played: Rollouts
    passes: int
    tokens: int
    scored: int


@contextmanager
def by_work() -> Iterator[None]:
    """Let the loop count seconds of work instead of those of the clock."""
    before = policy_gradient.time
    policy_gradient.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[assignment]
    try:
        yield
    finally:
        policy_gradient.time = before


@contextmanager
def counted() -> Iterator[list[Part]]:
    """Collect the parts the learner passes over."""
    seen: list[Part] = []
    cut = policy_gradient.parts_of if hasattr(policy_gradient, "parts_of") else None
    if cut is None:
        yield seen
        return

    def keep(*arguments: Any) -> list[Part]:
        parts = cut(*arguments)
        seen.extend(parts)
        return parts

    policy_gradient.parts_of = keep  # type: ignore[attr-defined]
    try:
        yield seen
    finally:
        policy_gradient.parts_of = cut  # type: ignore[attr-defined]


def steps(asked: Sequence[tuple[int, int, int]], repeats: int, seed: int = 0) -> list[Made]:
    """Make steps of GRPO with the tiny policy on chains; each after one that is not counted, weights never move."""
    made = []
    for hops, groups, size in asked:
        env = envs.load("chain", hops=hops)
        learner = start(policy.load("tiny", tools=env.tools), recipes.grpo(kl=0.0), plan_of(groups, size, seed))
        for step in range(repeats + 1):
            with by_work(), counted() as parts:
                done = policy_gradient.one_step(learner, env, recipes.grpo(kl=0.0), plan_of(groups, size, seed), step)
            if step == 0:
                continue
            row = done.metrics
            seconds = {name: row[f"seconds_{name}"] for name in ("rollout", "credit", "learn")}
            tokens, scored = sum(p.ids.numel() for p in parts), sum(len(p.tokens) for p in parts)
            made.append(Made(hops, groups, size, seconds, done.played, len(parts), tokens, scored))
    return made


def plan_of(groups: int, size: int, seed: int) -> Plan:
    """Return the plan of a step; the rate is 0, so that all steps are of the same policy."""
    return Plan(steps=1, groups=groups, size=size, rate=0.0, micro_tokens=MICRO, max_new_tokens=24, seed=seed)


def engine_timings(repeats: int, seed: int = 0) -> list[tuple[int, int, int, float]]:
    """Time calls of the tiny policy's engine: (rows, tokens of each prompt, sampled of each, seconds of work)."""
    env = envs.load("chain")
    engine: Any = policy.load("tiny", tools=env.tools).engine
    generator, found = torch.Generator().manual_seed(seed), []
    cells = [(rows, prompt, new) for rows in (1, 8, 32, 96) for prompt in (32, 160) for new in (1, 8, 24)]
    for repeat in range(repeats + 1):
        for rows, prompt, new in cells:
            ids = torch.randint(3, engine.model.config.vocab_size, (rows, prompt), generator=generator).tolist()
            engine.load(None)  # forget every prefix
            began = time.process_time()
            engine.sample(ids, Settings(max_new_tokens=new), list(range(rows)))
            if repeat:  # the first round warms up
                found.append((rows, prompt, new, time.process_time() - began))
    return found


def fitted(features: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Return rates of at least 0 that make the least relative squared error: min || (X r - t) / t ||."""
    from scipy.optimize import nnls

    return nnls(features / seconds[:, None], np.ones(len(seconds)))[0]


def engine_fit(timings: Sequence[tuple[int, int, int, float]]) -> tuple[EngineRates, float]:
    """Return the engine's rates and the mean relative error of the fit."""
    b, p, n, t = np.array(timings, dtype=float).T
    later = n - 1  # the first token comes out of reading the prompt
    x = np.stack([np.ones_like(b), b * p, later, b * later, b * later * (p + n / 2)], axis=1)
    call, read, step, row, token = fitted(x, t)
    error = float(np.mean(np.abs(x @ np.array([call, read, step, row, token]) - t) / t))
    return EngineRates(*map(float, (step, row, token, read, call))), error


def learner_fit(made: Sequence[Made]) -> tuple[LearnerRates, float]:
    """Return the learner's rates and the mean relative error of the fit."""
    worked = [one for one in made if one.passes]
    x = np.array([(1.0, one.passes, one.tokens, one.scored) for one in worked])
    t = np.array([one.seconds["learn"] for one in worked])
    rates = fitted(x, t)
    return LearnerRates(*map(float, rates)), float(np.mean(np.abs(x @ rates - t) / t))


def turn_fit(made: Sequence[Made], engine: EngineRates) -> tuple[float, float]:
    """Return the seconds a turn takes beside the engine, and the mean relative error of a rollout so predicted."""
    turns = np.array([sum(len(t.turns) for t in one.played) for one in made], dtype=float)
    told = np.array([rounds(of_rollouts(one.played), engine).seconds for one in made])
    true = np.array([one.seconds["rollout"] for one in made])
    turn = float(max(0.0, np.sum((true - told) * turns / true**2) / np.sum((turns / true) ** 2)))
    return turn, float(np.mean(np.abs(told + turn * turns - true) / true))


def merged_share(made: Sequence[Made]) -> float:
    """Return the tokens that went through the learner as a share of those of all episodes, prompts once."""
    return sum(one.tokens for one in made) / sum(tokens_once(of_rollouts(one.played)) for one in made)


def credit_rate(made: Sequence[Made]) -> float:
    """Return the seconds of credit for a sampled token."""
    sampled = sum(turn.sampled for one in made for e in of_rollouts(one.played) for turn in e.turns)
    return sum(one.seconds["credit"] for one in made) / sampled


def rates_of(timings: Sequence[tuple[int, int, int, float]], made: Sequence[Made]) -> tuple[Rates, dict[str, float]]:
    """Return all rates of this machine, and how well each part fits what it was fitted to."""
    engine, engine_error = engine_fit(timings)
    learner, learner_error = learner_fit(made)
    turn, turn_error = turn_fit(made, engine)
    errors = {"engine": engine_error, "learner": learner_error, "rollout": turn_error}
    found = Rates(engine, learner, 0.0, credit_rate(made), turn, merged_share(made))
    return found, {name: round(error, 3) for name, error in errors.items()}


def work_of(made: Sequence[Made], groups: int, size: int) -> Work:
    """Return the work of a step as means and spreads of what was seen on other steps of the same world."""
    episodes = [episode for one in made for episode in of_rollouts(one.played)]
    turns = np.array([len(e.turns) for e in episodes], dtype=float)
    sampled = np.array([t.sampled for e in episodes for t in e.turns], dtype=float)
    reads = [t.read for e in episodes for t in e.turns[1:]]
    return Work(
        groups,
        size,
        round(float(np.mean([e.prompt for e in episodes]))),
        float(turns.mean()),
        float(turns.std() / turns.mean()),
        float(sampled.mean()),
        float(sampled.std() / sampled.mean()),
        round(float(np.mean(reads))) if reads else 0,
        0.0,
        most_turns=int(turns.max()),
    )


def compared(made: Sequence[Made], rates: Rates, seen: Sequence[Made]) -> list[dict[str, Any]]:
    """Compare steps with two predictions: from the true lengths, and from lengths drawn like those of other steps."""
    rows = []
    for key in dict.fromkeys((one.hops, one.groups, one.size) for one in made):
        mine = [one for one in made if (one.hops, one.groups, one.size) == key]
        same = [one for one in seen if one.hops == key[0]]
        row: dict[str, Any] = {"hops": key[0], "groups": key[1], "size": key[2]}
        drawn = [local_step(draw(work_of(same, *key[1:]), seed), rates, MICRO) for seed in range(8)]
        known = [local_step(of_rollouts(one.played), rates, MICRO) for one in mine]
        for part in ("rollout", "learn", "step"):
            true = float(np.mean([one.seconds[part] if part != "step" else sum(one.seconds.values()) for one in mine]))
            row[part] = round(true, 4)
            for name, found in (("known", known), ("drawn", drawn)):
                told = float(np.mean([one[part] for one in found]))
                row[f"{part}_{name}"] = round(told, 4)
                row[f"{part}_{name}_error"] = round(told / true - 1, 3)
        rows.append(row)
    return rows
