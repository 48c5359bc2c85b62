"""A turn sampled anew from inside a credit map: its value before and after, and what the continuations did.

The views know no policy and no world: what samples is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from workbench.rollouts import Rollouts
from workbench.trajectory import Trajectory
from workbench.view.escape import one_line
from workbench.view.payload import position

Reroll = Callable[..., Any]
"""Called with rollouts, trajectory (id), turn (its own), n, seed, progress by name; returns (turn value, rollouts).

The turn value has `before`, `after` (each with mean, low, high, known, unknown) and `gain` (mean, low, high); the
rollouts hold what was sampled, branches named `<id>.<turn>.<k>`.
"""

MOST = 64  # continuations a click may ask for


def rerolled(
    rollouts: Rollouts, trajectory: int | str, sample: Reroll, args: Mapping[str, Any], call: Any
) -> dict[str, Any]:
    """Answer the page: sample `n` continuations before and after a turn.

    Args:
        args: `turn`, index among the trajectory's own turns; `n`, continuations at each place; `seed`.
        call: hears progress, and raises where the reader pressed stop.

    Raises:
        ValueError: a turn or a number that cannot be.
    """
    t = rollouts.trajectories[position(rollouts, trajectory)]
    turn, n, seed = int(args["turn"]), int(args["n"]), int(args.get("seed", 0))
    if not 0 <= turn < len(t.turns) or not 1 <= n <= MOST:
        raise ValueError(f"expected a turn below {len(t.turns)} and 1 to {MOST} continuations, got turn {turn}, n {n}")
    found = sample(rollouts=rollouts, trajectory=t.id, turn=turn, n=n, seed=seed, progress=call.progress)
    value, grown = found if isinstance(found, tuple) and len(found) == 2 else (found, Rollouts(()))
    return {
        "turn": turn,
        "n": n,
        "seed": seed,
        "before": _value(value.before),
        "after": _value(value.after),
        "gain": _interval(value.gain),
        "branches": [_branch(b, t.id, turn) for b in grown if b.id.startswith(f"{t.id}.{turn}.")],
    }


def _interval(value: Any) -> dict[str, Any]:
    mean, low, high = (float(x) for x in value[:3])
    return {"mean": None if math.isnan(mean) else mean, "low": low, "high": high}


def _value(value: Any) -> dict[str, Any]:
    return {**_interval(value), "known": int(value.known), "unknown": int(value.unknown)}


def _branch(t: Trajectory, parent: str, turn: int) -> dict[str, Any]:
    return {
        "id": t.id,
        "outcome": t.outcome,
        "turns": [one_line(x.action.text or " ".join(c.raw for c in x.action.calls), 160) for x in t.turns],
    }
