"""What a turn was worth: the mean outcome of fresh continuations before and after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from workbench.compare import Interval, wilson
from workbench.envs.base import Environment
from workbench.policy.base import Policy, Settings
from workbench.rollout.rounds import Report
from workbench.rollouts import Rollouts
from workbench.search.branching import branch_many
from workbench.trajectory import Trajectory


class Value(NamedTuple):
    """A mean outcome with Wilson's interval (95 %).

    Args:
        mean, low, high: (nan, 0, 1) where nothing is known; equal where the outcome is certain.
        known: continuations with a known outcome.
        unknown: continuations without.
    """

    mean: float
    low: float
    high: float
    known: int
    unknown: int = 0


class TurnValue(NamedTuple):
    """What a turn was worth: the value before it, after it, and their difference with Newcombe's interval."""

    before: Value
    after: Value
    gain: Interval


def branch_value(
    rollouts: Rollouts,
    policy: Policy,
    env: Environment,
    trajectory: str | Trajectory,
    turn: int,
    n: int,
    settings: Settings | None = None,
    seed: int = 0,
    *,
    max_turns: int | None = None,
    progress: Report | None = None,
) -> TurnValue:
    """Estimate what a turn was worth: the mean outcome of `n` fresh continuations before it, and of `n` after it.

        gain = V(after the turn and what came back) - V(before the turn)

    The trajectory's own outcome is in neither mean: which turn one looks at often depends on it. After a last turn the
    value is its outcome, known without sampling.

    Args: see `branch`.

    Raises:
        ValueError: an outcome is neither 0 nor 1; Wilson's interval is for successes.
    """
    return reroll(rollouts, policy, env, trajectory, turn, n, settings, seed, max_turns=max_turns, progress=progress)[0]


def reroll(
    rollouts: Rollouts,
    policy: Policy,
    env: Environment,
    trajectory: str | Trajectory,
    turn: int,
    n: int,
    settings: Settings | None = None,
    seed: int = 0,
    *,
    max_turns: int | None = None,
    progress: Report | None = None,
) -> tuple[TurnValue, Rollouts]:
    """Return what a turn was worth, as `branch_value`, and what was sampled for it, as `branch_many`.

    `functools.partial(reroll, policy=policy, env=env)` is what a live credit map takes.
    """
    name = trajectory if isinstance(trajectory, str) else trajectory.id
    last = turn == len(rollouts[name].turns) - 1
    places = [(name, turn)] if last else [(name, turn), (name, turn + 1)]
    grown = branch_many(rollouts, policy, env, places, n, settings, seed, max_turns=max_turns, progress=progress)
    before = _value([t.outcome for t in grown.trajectories[-n * len(places) :][:n]])
    after = certain(rollouts[name].outcome) if last else _value([t.outcome for t in grown.trajectories[-n:]])
    return TurnValue(before, after, newcombe(after, before)), grown


def certain(outcome: float | None) -> Value:
    """Return the value of an episode that is over."""
    return Value(math.nan, 0.0, 1.0, 0, 1) if outcome is None else Value(outcome, outcome, outcome, 1)


def _value(outcomes: Sequence[float | None]) -> Value:
    known = [outcome for outcome in outcomes if outcome is not None]
    odd = next((outcome for outcome in known if outcome not in (0.0, 1.0)), None)
    if odd is not None:
        raise ValueError(f"expected outcomes of 0 or 1 for an interval of a share, got {odd}")
    return Value(*wilson(int(sum(known)), len(known)), len(known), len(outcomes) - len(known))


def newcombe(a: Value, b: Value) -> Interval:
    """Return a - b with Newcombe's interval, made of the two values' own.

        low  = d - sqrt((a - a.low)^2 + (b.high - b)^2),    high = d + sqrt((a.high - a)^2 + (b - b.low)^2)

    Source: Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10.

    Example:
        >>> [round(x, 4) for x in newcombe(Value(*wilson(56, 70), 70), Value(*wilson(48, 80), 80))]
        [0.2, 0.0524, 0.3339]
    """
    if math.isnan(a.mean) or math.isnan(b.mean):
        return Interval(math.nan, -1.0, 1.0)
    d = a.mean - b.mean
    low = d - math.hypot(a.mean - a.low, b.high - b.mean)
    return Interval(d, low, d + math.hypot(a.high - a.mean, b.mean - b.low))
