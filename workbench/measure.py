"""What a step of training is measured by, and when it should make somebody look up. Pure functions of its data.

Every key of a row is defined in `workbench.glossary`. A share is in [0, 1]; None stands where a number would
say nothing (no known outcome, no credit).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.compare import collapse
from workbench.credit import Credit
from workbench.outcomes import causes, counted, ended_by_limit, outcome_and_reward, shaping_only
from workbench.rollouts import Rollouts
from workbench.segments import seg_count, seg_mean, seg_sum
from workbench.trajectory import Trajectory, Turn

# ------------------------------------------------------------------------------------------------- the numbers


def played(rollouts: Rollouts) -> dict[str, Any]:
    """Measure rollouts: outcome, collapse and its causes, length, what went wrong."""
    batch = rollouts.batch()
    groups, count = collapse(batch), max(len(rollouts), 1)
    old = batch["logprob_old"] if rollouts.has_tokens else None
    turns = [turn for t in rollouts for turn in t.turns]
    says = groups.share.share == groups.share.share  # not nan: some outcome is known
    return {
        **outcome_and_reward(batch),
        "groups": batch.count("group"),
        "collapsed": groups.share.share if says else None,
        "collapsed_low": groups.share.low if says else None,
        "collapsed_high": groups.share.high if says else None,
        "collapse_causes": counted(causes(rollouts)),
        "forecast": groups.forecast,
        "turns": len(turns) / count,
        "tokens": batch.count("token") / count if rollouts.has_tokens else None,
        "truncated": sum(map(ended_by_limit, rollouts)) / count,
        "malformed": sum(not _reads(turn) for turn in turns) / max(len(turns), 1),
        "failed": sum(t.stop_reason.startswith("error") for t in rollouts) / count,
        "surprise": -old.values[old.known].double().mean().item() if old and bool(old.known.any()) else None,
    }


def lag_of(rollouts: Rollouts, version: int) -> int:
    """Return how many versions of the weights the oldest sampled turn is behind one: 0 where it just played."""
    taken = [turn.policy_version[0] for t in rollouts for turn in t.turns if turn.policy_version]
    return max((version - sampled for sampled in taken), default=0)


def _reads(turn: Turn) -> bool:
    return bool(turn.action.calls) and all(call.error is None for call in turn.action.calls)


def credited(batch: Batch, credit: Credit) -> dict[str, Any]:
    """Measure the credit of the sampled tokens: what is known, dropped or dead; its size, sign, spread over turns."""
    counts = credit.counts()
    drops = {reason: counts[reason] for reason in credit.reasons}
    a = credit.values[credit.known]
    up, down = int((a > 0).sum()), int((a < 0).sum())
    lives = living(batch, credit)
    shaped = shaping_only(batch, lives)
    return {
        "tokens_known": counts["known"],
        "tokens_unknown": counts["unknown"],
        "tokens_dropped": sum(drops.values()),
        "drop_reasons": drops,
        "groups_dropped": int((~kept(batch, credit)).sum()),
        "dead_groups": 1 - lives.double().mean().item(),
        "shaping_only": sum(shaped.values()) / max(batch.count("group"), 1),
        "shaping_only_causes": shaped,
        "advantage_scale": a.abs().mean().item() if len(a) else None,
        "advantage_largest": a.abs().max().item() if len(a) else None,
        "sign_balance": (up - down) / (up + down) if up + down else None,
        "concentration": concentration(batch, credit),
    }


def living(batch: Batch, credit: Credit) -> Tensor:
    """Say which groups have a token (a turn, where credit is of turns) of known, non-zero credit: bool [G]."""
    speaks = credit.known & (credit.values != 0)
    return seg_count(batch.up(credit.level, "group"), batch.count("group"), speaks) > 0


def kept(batch: Batch, credit: Credit) -> Tensor:
    """Say which groups have a token of known credit, zero included: those that were not dropped whole; bool [G]."""
    return seg_count(batch.up(credit.level, "group"), batch.count("group"), credit.known) > 0


def concentration(batch: Batch, credit: Credit) -> float | None:
    """Return how much of the credit sits on few turns, in [0, 1]; None where no trajectory says.

    s_k = mean over the turn's tokens of |A| / sum over turns,    c = (K sum_k s_k^2 - 1) / (K - 1),    mean over K >= 2
    """
    size, owner, turn = batch.count("turn"), batch.turn_trajectory, batch.up(credit.level, "turn")
    on_turn = seg_mean(credit.values.abs(), turn, size, credit.known)
    there = seg_count(turn, size, credit.known) > 0
    total = seg_sum(on_turn, owner, batch.count("trajectory"), there)
    turns = seg_count(owner, batch.count("trajectory"), there)
    share = on_turn / total.clamp_min(1e-300)[owner]
    squares = seg_sum(share * share, owner, batch.count("trajectory"), there)
    says = (turns >= 2) & (total > 0)
    found = (turns * squares - 1)[says] / (turns - 1)[says]
    return found.mean().clamp(0.0, 1.0).item() if bool(says.any()) else None


# -------------------------------------------------------------------------------------------------- the alarms


class Bound(NamedTuple):
    """How far the learner's probabilities may be from the sampler's before an update.

    Args:
        gap: largest | ratio - 1 | of a token.
        mean: mean | log ratio |.
    """

    gap: float
    mean: float


BOUNDS = {
    torch.float64: Bound(1e-3, 1e-4),
    torch.float32: Bound(1e-3, 1e-4),
    torch.float16: Bound(0.2, 0.02),
    torch.bfloat16: Bound(1.0, 0.08),
}
"""By the dtype the model computes in. Sampling adds up in another order than learning, and rounding is all that may
differ: on 192 tokens of SmolLM2 the mean was 3e-6 in float32, 0.006 in float16 and 0.041 in bfloat16 (largest gap 2e-5,
0.03, 0.25), and 0.09 to 0.10 in each where the learner's temperature was wrong by a twentieth."""

MANY = 0.9
"""Share of truncated rollouts from which on a step without any reward is put down to them."""


def alarms(rollouts: Rollouts, row: Mapping[str, Any], dtype: torch.dtype, exhausted: bool = False) -> dict[str, str]:
    """Return what is wrong with a step, by kind, each with the likely fix.

    Args:
        rollouts: all that was played.
        row: the metrics of the step.
        dtype: the model computes in it; decides how far the ratio may be from 1.
        exhausted: had the world no task left to replace dropped groups by?
    """
    found = {
        "truncated": _truncated(rollouts, row),
        "failed": _failed(rollouts, row),
        "dead": f"no group has any credit: {_why_dead(rollouts, row)}" if row["dead_groups"] == 1.0 else None,
        "refill": _refill(row, exhausted),
        "skipped": _skipped(row),
        "ratio": None if row.get("lag") else _ratio(row, BOUNDS.get(dtype, BOUNDS[torch.bfloat16]), dtype),
    }
    return {kind: text for kind, text in found.items() if text is not None}


def _truncated(rollouts: Rollouts, row: Mapping[str, Any]) -> str | None:
    cut = row["truncated"]  # an answer cut short may end an episode, too
    if not all(t.truncated for t in rollouts) and (cut <= MANY or any(t.outcome for t in rollouts)):
        return None
    many = "every rollout was truncated" if cut == 1.0 else f"{cut:.0%} of the rollouts were truncated"
    many += "" if cut == 1.0 else " and none has any reward"
    return f"{many}: {why_truncated(rollouts.trajectories)}"


def _failed(rollouts: Rollouts, row: Mapping[str, Any]) -> str | None:
    if row["failed"] <= 0.5:
        return None
    many = "every rollout" if row["failed"] == 1.0 else f"{row['failed']:.0%} of the rollouts"
    reason = next(t.stop_reason for t in rollouts if t.stop_reason.startswith("error"))
    return f"{many} failed in the environment ({reason}); mend it and play one by hand first"


def _refill(row: Mapping[str, Any], exhausted: bool) -> str | None:
    if exhausted and row["groups_dropped"]:
        return (
            f"the world has no further task to replace {row['groups_dropped']} dropped groups by, and the update goes "
            "on without them; give it more tasks, or some that are sometimes solved"
        )
    if row["rounds"] <= 1 or not row["groups_dropped"]:
        return None
    return (
        f"after sampling {row['rounds']} times {row['groups_dropped']} groups are still dropped, and the update goes "
        "on without them; raise refills or size, or take tasks that are sometimes solved"
    )


def _skipped(row: Mapping[str, Any]) -> str | None:
    """Say that passes changed nothing although there is credit; without credit `dead` says it."""
    if not row.get("updates_skipped") or row["dead_groups"] == 1.0:
        return None
    return (
        f"{row['updates_skipped']} of {row['updates'] + row['updates_skipped']} passes changed nothing although there "
        "is credit: their gradient is exactly 0, most likely because every token is clipped; lower the rate or epochs, "
        "or widen the clip"
    )


def _ratio(row: Mapping[str, Any], bound: Bound, dtype: torch.dtype) -> str | None:
    gap, mean = row.get("ratio_gap") or 0.0, row.get("ratio_mean") or 0.0
    if gap <= bound.gap and mean <= bound.mean:
        return None
    kind = str(dtype).removeprefix("torch.")
    return (
        f"before the update the learner's probabilities differ from the sampler's (ratio up to {gap:.2g} away from 1, "
        f"{mean:.2g} on average in its logarithm; {kind} explains {bound.gap:g} and {bound.mean:g}): sampler and "
        "learner must have the same weights, temperature and tokens"
    )


def why_truncated(trajectories: Sequence[Trajectory]) -> str:
    """Say by which limit rollouts were mostly ended, and what to do about it."""
    cut = sum(turn.stop_reason == "length" for t in trajectories for turn in t.turns)
    if 2 * cut > sum(len(t.turns) for t in trajectories):
        return "most turns ran out of tokens; raise max_new_tokens, or see whether the policy ever stops"
    ended = [t.stop_reason for t in trajectories if t.truncated]
    if 2 * ended.count("max_tokens") > len(ended):
        return "episodes outgrew what the model can read; shorten observations or the prompt, or take fewer turns"
    return "episodes ran out of turns; raise max_turns of the world, or warm-start the policy on finished episodes"


FIXES = {
    "all solved": "all tasks are solved every time; take harder ones",
    "all failed": "every rollout of every task failed; take easier tasks (fewer hops), a better warm start, larger "
    "groups, or a recipe that credits turns before the outcome",
    "unparsable": "every rollout ended on calls that cannot be read; look at one, then mend prompt, template or "
    "parser, or warm-start the policy on well-formed calls",
    "unknown": "no outcome is known; look at `stop_reason` of the rollouts, or at what the world gives as outcome",
    "single survivor": "each group has a single rollout with a known outcome, which nothing can be compared with; "
    "raise size, or find out why the others have none (`stop_reason`)",
}
"""What to do where all groups are dead by one cause."""


def _why_dead(rollouts: Rollouts, row: Mapping[str, Any]) -> str:
    found = causes(rollouts)
    if set(found) == {"all truncated"}:
        return f"every rollout of every task was cut off; {why_truncated(rollouts.trajectories)}"
    if set(found) <= {"all failed", "all truncated", "unparsable"} and len(set(found)) > 1:
        return f"{FIXES['all failed']} ({_listed(counted(found))})"
    if len(set(found)) == 1 and found[0] in FIXES:
        return FIXES[found[0]]
    if "varied" in found:
        drops = row.get("drop_reasons") or {}
        dropped = f" ({_listed(drops)} tokens were dropped)" if drops else ""
        return f"outcomes differ, yet the recipe credits nothing{dropped}; look at recipe.trace(batch)"
    return f"outcomes never differ inside a group ({_listed(counted(found))}); raise size or the temperature"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {n}" for name, n in sorted(counts.items()))
