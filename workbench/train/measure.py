"""What a step of training is measured by, and when it should make somebody look up. Pure functions of its data.

A share is in [0, 1]; None stands where a number would say nothing (no known outcome, no credit).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.compare import cause_of_collapse, collapse, wilson
from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.segments import seg_count, seg_mean, seg_sum
from workbench.trajectory import Trajectory

LARGEST_GAP = 1e-3  # of the ratio from 1 before an update, in float32

# ------------------------------------------------------------------------------------------------- the numbers


def played(rollouts: Rollouts) -> dict[str, Any]:
    """Measure rollouts: outcome, collapse, length, what went wrong.

    Returns:
        outcome: mean of the known outcomes, of `outcome_n`; low, high: Wilson's interval where all are 0 or 1.
        collapsed: share of groups whose outcomes are all equal; `collapse_causes` counts groups by cause, `forecast`
            is the share to be expected of independent draws.
        turns, tokens: sampled, a rollout.
        truncated: share of rollouts that a limit ended.
        malformed: share of turns without a readable call.
        failed: share of rollouts that the environment ended by an error.
        surprise: mean -log p of the sampled tokens, which estimates the entropy of the policy.
    """
    batch = rollouts.batch()
    groups, count = collapse(batch), max(len(rollouts), 1)
    old = batch["logprob_old"]
    turns = [turn for t in rollouts for turn in t.turns]
    return {
        **_outcome(batch),
        "groups": batch.count("group"),
        "collapsed": _known(groups.share.share),
        "collapse_causes": dict(groups.causes),
        "forecast": groups.forecast,
        "turns": len(turns) / count,
        "tokens": batch.count("token") / count,
        "truncated": sum(t.truncated for t in rollouts) / count,
        "malformed": sum(not _reads(turn) for turn in turns) / max(len(turns), 1),
        "failed": sum(t.stop_reason.startswith("error") for t in rollouts) / count,
        "surprise": -old.values[old.known].double().mean().item() if bool(old.known.any()) else None,
    }


def _outcome(batch: Batch) -> dict[str, Any]:
    column = batch["outcome"]
    x = column.values[column.known].double()
    if not len(x):
        return {"outcome": None, "outcome_low": None, "outcome_high": None, "outcome_n": 0}
    binary = bool(((x == 0) | (x == 1)).all())
    bounds = wilson(int(x.sum()), len(x)) if binary else (None, None, None)
    return {"outcome": x.mean().item(), "outcome_low": bounds[1], "outcome_high": bounds[2], "outcome_n": len(x)}


def _reads(turn: Any) -> bool:
    return bool(turn.action.calls) and all(call.error is None for call in turn.action.calls)


def _known(value: float) -> float | None:
    return None if value != value else value


def credited(batch: Batch, credit: Credit) -> dict[str, Any]:
    """Measure the credit of the sampled tokens.

    Returns:
        tokens_known, tokens_unknown, tokens_dropped: what became of them; `drop_reasons` counts the last by reason.
        groups_dropped: groups without a token of known credit.
        dead_groups: share of groups without a token of known, non-zero credit.
        advantage_scale: mean |A| over known tokens; advantage_largest: its maximum.
        sign_balance: (tokens with A > 0 - tokens with A < 0) / both, in [-1, 1].
        concentration: of |A| over the turns of a trajectory, 0: all turns alike, 1: all on one; mean over
            trajectories of two turns or more that have any.
    """
    counts = credit.counts()
    drops = {reason: counts[reason] for reason in credit.reasons}
    a = credit.values[credit.known]
    up, down = int((a > 0).sum()), int((a < 0).sum())
    return {
        "tokens_known": counts["known"],
        "tokens_unknown": counts["unknown"],
        "tokens_dropped": sum(drops.values()),
        "drop_reasons": drops,
        "groups_dropped": int((~kept(batch, credit)).sum()),
        "dead_groups": 1 - living(batch, credit).double().mean().item(),
        "advantage_scale": a.abs().mean().item() if len(a) else None,
        "advantage_largest": a.abs().max().item() if len(a) else None,
        "sign_balance": (up - down) / (up + down) if up + down else None,
        "concentration": concentration(batch, credit),
    }


def living(batch: Batch, credit: Credit) -> Tensor:
    """Say which groups have a token of known, non-zero credit: bool [G]."""
    speaks = credit.known & (credit.values != 0)
    return seg_count(batch.up("token", "group"), batch.count("group"), speaks) > 0


def kept(batch: Batch, credit: Credit) -> Tensor:
    """Say which groups have a token of known credit, zero included: those that were not dropped whole; bool [G]."""
    return seg_count(batch.up("token", "group"), batch.count("group"), credit.known) > 0


def concentration(batch: Batch, credit: Credit) -> float | None:
    """Return how much of the credit sits on few turns, in [0, 1]; None where no trajectory says.

    s_k = mean over the turn's tokens of |A| / sum over turns,    c = (K sum_k s_k^2 - 1) / (K - 1),    mean over K >= 2
    """
    size, owner = batch.count("turn"), batch.turn_trajectory
    on_turn = seg_mean(credit.values.abs(), batch.token_turn, size, credit.known)
    there = seg_count(batch.token_turn, size, credit.known) > 0
    total = seg_sum(on_turn, owner, batch.count("trajectory"), there)
    turns = seg_count(owner, batch.count("trajectory"), there)
    share = on_turn / total.clamp_min(1e-300)[owner]
    squares = seg_sum(share * share, owner, batch.count("trajectory"), there)
    says = (turns >= 2) & (total > 0)
    found = (turns * squares - 1)[says] / (turns - 1)[says]
    return found.mean().clamp(0.0, 1.0).item() if bool(says.any()) else None


# -------------------------------------------------------------------------------------------------- the alarms


def alarms(rollouts: Rollouts, row: Mapping[str, Any], dtype: torch.dtype) -> dict[str, str]:
    """Return what is wrong with a step, by kind, each with the likely fix."""
    out = {}
    if row["truncated"] == 1.0:
        out["truncated"] = f"every rollout was truncated: {_why_truncated(rollouts.trajectories)}"
    if row["failed"] == 1.0:
        reason = rollouts[0].stop_reason
        out["failed"] = f"every rollout failed in the environment ({reason}); mend it and play one by hand first"
    if row["dead_groups"] == 1.0:
        out["dead"] = f"no group has any credit: {_why_dead(rollouts)}"
    if row["rounds"] > 1 and row["groups_dropped"]:
        out["refill"] = (
            f"after sampling {row['rounds']} times {row['groups_dropped']} groups are still dropped, and the update "
            "goes on without them; raise refills or size, or take tasks that are sometimes solved"
        )
    if dtype == torch.float32 and (row.get("ratio_gap") or 0.0) > LARGEST_GAP:
        out["ratio"] = (
            f"before the update the learner's probabilities differ from the sampler's (ratio {row['ratio_gap']:.2g} "
            "away from 1): sampler and learner must have the same weights, temperature and tokens"
        )
    return out


def _why_truncated(trajectories: tuple[Trajectory, ...]) -> str:
    cut = sum(turn.stop_reason == "length" for t in trajectories for turn in t.turns)
    if 2 * cut > sum(len(t.turns) for t in trajectories):
        return "most turns ran out of tokens; raise max_new_tokens, or see whether the policy ever stops"
    if any(t.stop_reason == "max_tokens" for t in trajectories):
        return "episodes outgrew what the model can read; shorten observations or the prompt, or take fewer turns"
    return "episodes ran out of turns; raise max_turns of the world, or warm-start the policy on finished episodes"


def _why_dead(rollouts: Rollouts) -> str:
    causes = cause_of_collapse(rollouts.batch())
    if causes.count("unknown") == len(causes):
        return "no outcome is known; look at `stop_reason` of the rollouts, or at what the world gives as outcome"
    if causes.count("all solved") == len(causes):
        return "all tasks are solved every time; take harder ones"
    if causes.count("all failed") == len(causes):
        return (
            "every rollout of every task failed; take easier tasks (fewer hops), a better warm start, larger groups, "
            "or a recipe that credits turns before the outcome"
        )
    if causes.count("varied"):
        return "outcomes differ, yet the recipe credits nothing; look at recipe.trace(batch)"
    return f"outcomes never differ inside a group ({', '.join(sorted(set(causes)))}); raise size or the temperature"
