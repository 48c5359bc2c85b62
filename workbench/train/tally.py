"""What a method says about going on and about stopping: credit of turns by kind and place. Pure functions.

Only worlds with an oracle (`oracle_distance` among the rewards of a turn) can be counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from workbench import recipes
from workbench.batch import Batch
from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.segments import seg_count, seg_mean
from workbench.trajectory import Trajectory, Turn

Kind = Literal["useful", "useless", "early", "due", "other"]
KINDS: tuple[Kind, ...] = ("useful", "useless", "early", "due", "other")
"""A search that brings the answer closer, one that does not; an answer before all was found, one after; anything else
(a line that is no call)."""


class Cell(NamedTuple):
    """Turns of one kind at one place.

    Args:
        place: turns taken before, 0 for the first.
        kind: see `KINDS`.
        turns: how many.
        credit: sum of their credit (each turn's is the mean over its tokens of known credit, 0 without any).
        size: sum of its absolute values.
        outcome: sum of what the outcome alone says of the same turns: the outcome minus the mean of the group's others.
        outcome_size: sum of its absolute values.
    """

    place: int
    kind: Kind
    turns: int
    credit: float
    size: float = 0.0
    outcome: float = 0.0
    outcome_size: float = 0.0


def kinds(trajectory: Trajectory) -> list[Kind]:
    """Return the kind of each turn.

    Raises:
        KeyError: the world has no oracle.
    """
    before = [None, *(turn.rewards["oracle_distance"] for turn in trajectory.turns)]
    return [_kind(turn, away) for turn, away in zip(trajectory.turns, before, strict=False)]


def _kind(turn: Turn, away: float | None) -> Kind:
    """`away`: the oracle's distance before the turn, None at the start (where the answer is never known)."""
    call = turn.action.calls[0] if turn.action.calls else None
    if call is None or call.error is not None or call.name not in ("search", "answer"):
        return "other"
    if call.name == "answer":
        return "due" if away == 1 else "early"
    return "useful" if turn.rewards["oracle_on_path"] else "useless"


def tally(rollouts: Rollouts, batch: Batch, credit: Credit) -> list[Cell]:
    """Count the turns of a batch by kind and place, and sum their credit and what the outcome says of them.

    Args:
        rollouts: with a batch of the same order.
        batch: of `rollouts`.
        credit: on its tokens.
    """
    named = [(place, kind) for t in rollouts for place, kind in enumerate(kinds(t))]
    outcome = recipes.rloo().credit(batch)
    cells = [
        Cell(*key, 1, value, abs(value), told, abs(told))
        for key, value, told in zip(named, _by_turn(batch, credit), _by_turn(batch, outcome), strict=True)
    ]
    return together([cells])


def _by_turn(batch: Batch, credit: Credit) -> list[float]:
    size = batch.count("turn")
    mean = seg_mean(credit.values, batch.token_turn, size, credit.known)
    there = seg_count(batch.token_turn, size, credit.known) > 0
    return [v if known else 0.0 for v, known in zip(mean.tolist(), there.tolist(), strict=True)]


def together(tallies: Iterable[Iterable[Cell]]) -> list[Cell]:
    """Add several tallies up.

    Example:
        >>> together([[Cell(0, "early", 2, 0.5)], [Cell(0, "early", 1, -1.0)]])[0][:4]
        (0, 'early', 3, -0.5)
    """
    sums: dict[tuple[int, Kind], Sequence[float]] = {}
    for cell in (cell for one in tallies for cell in one):
        before = sums.get((cell.place, cell.kind), (0, 0.0, 0.0, 0.0, 0.0))
        sums[cell.place, cell.kind] = [a + b for a, b in zip(before, cell[2:], strict=True)]
    return [Cell(place, kind, int(turns), *rest) for (place, kind), (turns, *rest) in sorted(sums.items())]


def habits(rollouts: Rollouts) -> Mapping[str, float]:
    """Return per rollout: searches made, and the share that answered before all was found.

    Returns:
        searches: mean number a rollout; early: share of rollouts with an early answer.
    """
    every = [kinds(t) for t in rollouts]
    searches = sum(kind in ("useful", "useless") for each in every for kind in each)
    return {"searches": searches / len(every), "early": sum("early" in each for each in every) / len(every)}
