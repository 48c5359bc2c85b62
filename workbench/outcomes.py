"""What a step's rollouts achieved, with intervals, and why the outcomes of a group cannot be told apart.

An interval is at 95 %. Wilson's takes rollouts as independent; the t interval takes groups as independent and lets the
rollouts of a group resemble each other, so where tasks differ in difficulty it is the wider and the truer one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from workbench.batch import Batch
from workbench.compare import Cause, cause_of_collapse, wilson
from workbench.rollouts import Rollouts
from workbench.segments import seg_count, seg_sum
from workbench.trajectory import Trajectory, Turn

CONFIDENCE = 0.95
ROUNDING = 1e-12
"""A spread no larger than this share of the largest value is what rounding leaves of none."""


class Mean(NamedTuple):
    """A mean with its interval; None where it cannot be said (no value; one group; nothing varies)."""

    mean: float | None
    low: float | None
    high: float | None


def mean_over_groups(x: Tensor, group: Tensor) -> Mean:
    """Return the mean of all values, and a t interval that takes groups, not values, as the independent draws.

        m = sum_i x_i / n      s^2 = G / (G - 1) sum_g (sum_{i in g} (x_i - m))^2 / n^2      m -+ t_{G - 1} s

    Where groups do not differ s is 0, which says that it cannot be estimated, not that m is known exactly: no bounds.

    Args:
        x: values [n].
        group: of each value, int [n].

    Source: the cluster-robust variance of a mean, Liang and Zeger 1986, Biometrika 73(1).

    Example:
        >>> import torch
        >>> mean_over_groups(torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([0, 0, 1, 1])).mean
        1.5
    """
    if not len(x):
        return Mean(None, None, None)
    x = x.double()
    mean, size = x.mean(), int(group.max()) + 1
    here = int((seg_count(group, size) > 0).sum())
    if here < 2:
        return Mean(mean.item(), None, None)
    from scipy.special import stdtrit

    spread = math.sqrt(here / (here - 1) * float(seg_sum(x - mean, group, size).square().sum())) / len(x)
    if spread <= ROUNDING * float(x.abs().max()):
        return Mean(mean.item(), None, None)
    half = float(stdtrit(here - 1, 0.5 + CONFIDENCE / 2)) * spread
    return Mean(mean.item(), mean.item() - half, mean.item() + half)


def outcome_and_reward(batch: Batch) -> dict[str, Any]:
    """Measure outcome, success and reward of rollouts, each with an interval; the keys are in the glossary."""
    column = batch["outcome"]
    x, group = column.values[column.known].double(), batch.trajectory_group[column.known]
    binary = bool(((x == 0) | (x == 1)).all()) and len(x) > 0
    solved = _share(x == 1)
    outcome = solved if binary else mean_over_groups(x, group)
    turn = batch["turn_reward"]
    shaped = seg_sum(turn.values, batch.turn_trajectory, batch.count("trajectory"), turn.known)[column.known]
    return {
        **_named("outcome", outcome),
        "outcome_n": len(x),
        "outcome_interval": None if outcome.low is None else "wilson" if binary else "t over groups",
        **_named("success", solved),
        **_named("reward", mean_over_groups(x + shaped, group)),
    }


def _named(name: str, value: Mean) -> dict[str, float | None]:
    return {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}


def _share(yes: Tensor) -> Mean:
    return Mean(*wilson(int(yes.sum()), len(yes))) if len(yes) else Mean(None, None, None)


# ------------------------------------------------------------------------------------------------- why collapsed


def causes(rollouts: Rollouts) -> list[Cause]:
    """Say per group why its outcomes cannot be told apart, as `compare.cause_of_collapse`, and what it ended by.

    A group of equal outcomes that are not "all solved" is "unparsable" if each of its rollouts ended on a turn whose
    calls could all not be read, else "all truncated" if a limit ended each (of turns, of what the model can read, or of
    the tokens of its last turn). Rollouts without a known outcome have no say.
    """
    members = rollouts.groups
    found = cause_of_collapse(rollouts.batch())
    return [_cause(cause, group.trajectories) for cause, group in zip(found, members, strict=True)]


def _cause(cause: Cause, members: Sequence[Trajectory]) -> Cause:
    if cause not in ("all failed", "all equal"):
        return cause
    known = [t for t in members if t.outcome is not None]
    if all(ended_unreadable(t) for t in known):
        return "unparsable"
    return "all truncated" if all(ended_by_limit(t) for t in known) else cause


def ended_unreadable(t: Trajectory) -> bool:
    """Did a rollout end on calls that cannot be read, though its last turn was not cut short?"""
    return bool(t.turns) and not cut_short(t.turns[-1]) and unreadable(t.turns[-1])


def ended_by_limit(t: Trajectory) -> bool:
    """Did a limit end a rollout, or the generation of its last turn?"""
    return t.truncated or (bool(t.turns) and cut_short(t.turns[-1]))


def cut_short(turn: Turn) -> bool:
    """Did a turn run out of tokens?"""
    return turn.stop_reason == "length"


def unreadable(turn: Turn) -> bool:
    """Has a turn calls, none of which can be read? One without any is an answer in plain text."""
    return bool(turn.action.calls) and all(call.error is not None for call in turn.action.calls)


def counted(found: Sequence[Cause]) -> dict[str, int]:
    """Count groups by cause, in order of appearance."""
    return dict(Counter(found))


def shaping_only(batch: Batch, lives: Tensor) -> dict[str, int]:
    """Count, by cause, the groups that have credit although their known outcomes do not differ.

    What varies there is shaping alone: rewards of turns, penalties, a baseline of other groups, or rounding. It is the
    purpose of turn rewards, and a phantom advantage where only outcomes were meant to count.

    Args:
        batch: what was credited.
        lives: bool [G], groups with a token of known credit other than 0.
    """
    found = cause_of_collapse(batch)
    return counted([c for c, lit in zip(found, lives.tolist(), strict=True) if lit and c not in ("varied", "unknown")])
