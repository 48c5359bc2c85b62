"""Cases of the exercises of 201, what is right by the library's stages, and wrong solutions that people write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from workbench.credit import (
    Node,
    center,
    chain,
    mix,
    read,
    reward_to_go,
    same_state,
    spread,
    task,
    task_and_turn,
    zscore,
)
from workbench.credit.peers import PeersLike
from workbench.teach.checking import Args
from workbench.teach.method_page import hand, rows_of
from workbench.teach.turn_parts import Row, Rows

Numbers = Sequence[float]
Names = Sequence[str]
Make = Callable[[float], Node]

# ------------------------------------------------------------------------------------- 1: compare with the others


def against_others(outcome: Numbers, group: Names) -> list[float]:
    """Return each outcome minus the mean of the others of its question, by the library's stage."""
    batch = hand(group, rollout={"outcome": list(outcome)}, turns=[1] * len(outcome))
    return [float(x) for x in chain(read("outcome"), center(task, leave_one_out=True))(None, batch).values]


def others_cases(rng: Random) -> list[Args]:
    """A pair; a group; two groups; a lone rollout; then any, in any order."""
    shapes = ["AA", "AAA", "AAABB", "AAAB", "AAAABBC"] + ["".join(rng.choices("ABC", k=7)) for _ in range(10)]
    out: list[Args] = []
    for shape in shapes:
        names = rng.sample(shape, len(shape))
        values = rng.sample([k / 10 for k in range(1, 11)], len(shape))
        out.append((values, names))
    return out


def _others(outcome: Numbers, group: Names, i: int) -> list[float]:
    return [r for j, (r, g) in enumerate(zip(outcome, group, strict=True)) if g == group[i] and j != i]


def _mean(values: Numbers) -> float:
    return sum(values) / len(values) if values else 0.0


def itself_included(outcome: Numbers, group: Names) -> list[float]:
    """Leave nobody out of the mean."""
    return [r - _mean([*_others(outcome, group, i), r]) for i, r in enumerate(outcome)]


def divided_by_all(outcome: Numbers, group: Names) -> list[float]:
    """Sum the others, and divide by G."""
    others = [_others(outcome, group, i) for i in range(len(outcome))]
    return [r - sum(o) / (len(o) + 1) if o else 0.0 for r, o in zip(outcome, others, strict=True)]


def lone_keeps(outcome: Numbers, group: Names) -> list[float]:
    """Take 0 for the mean of nobody."""
    return [r - _mean(_others(outcome, group, i)) for i, r in enumerate(outcome)]


def whole_batch(outcome: Numbers, group: Names) -> list[float]:
    """Compare with all others of the batch."""
    return [r - _mean([x for j, x in enumerate(outcome) if j != i]) for i, r in enumerate(outcome)]


def best_of_others(outcome: Numbers, group: Names) -> list[float]:
    """Compare with the best of the others."""
    others = [_others(outcome, group, i) for i in range(len(outcome))]
    return [r - max(o) if o else 0.0 for r, o in zip(outcome, others, strict=True)]


# ------------------------------------------------------------------------------------- 2: what follows a turn


def known_only(rows: Sequence[Row]) -> list[list[float]]:
    """Leave out what is unknown."""
    return [[x for x in row if x is not None] for row in rows]


def to_go(reward: Rows, gamma: float) -> list[list[float]]:
    """Return what follows each known turn, by the library's stage."""
    batch = hand(["q"] * len(reward), {"turn_reward": [list(row) for row in reward]})
    return known_only(rows_of(chain(read("turn_reward"), reward_to_go(gamma))(None, batch), batch))


def reward_cases(rng: Random) -> list[Args]:
    """Two turns; three; two rollouts; a gap in the middle; then any gaps."""
    shapes = ["xx", "xxx", "xx xx", "x-x", "xx-x x-", "x--x -xx"]
    shapes += [" ".join("".join(rng.choice("xxx-") for _ in range(rng.randint(2, 5))) for _ in "ab") for _ in range(10)]
    return [
        (
            [[None if c == "-" else float(rng.randint(1, 9)) for c in row] for row in shape.split()],
            rng.choice((0.5, 0.8)),
        )
        for shape in shapes
    ]


def _back(row: Sequence[float], gamma: float, later: float = 0.0) -> list[float]:
    out: list[float] = []
    for x in reversed(row):
        later = x + gamma * later
        out.append(later)
    return out[::-1]


def gap_discounts(reward: Rows, gamma: float) -> list[list[float]]:
    """Put 0 where nothing is known, and discount once more there."""
    full = [_back([x or 0.0 for x in row], gamma) for row in reward]
    return [
        [y for x, y in zip(row, back, strict=True) if x is not None] for row, back in zip(reward, full, strict=True)
    ]


def undiscounted(reward: Rows, gamma: float) -> list[list[float]]:
    """Forget gamma."""
    return [_back(row, 1.0) for row in known_only(reward)]


def what_came_before(reward: Rows, gamma: float) -> list[list[float]]:
    """Sum the past."""
    return [_back(row[::-1], gamma)[::-1] for row in known_only(reward)]


def own_left_out(reward: Rows, gamma: float) -> list[list[float]]:
    """Sum only what comes after the turn."""
    return [[y - x for x, y in zip(row, _back(row, gamma), strict=True)] for row in known_only(reward)]


def from_the_start(reward: Rows, gamma: float) -> list[list[float]]:
    """Discount by the place in the rollout, not by the distance."""
    return [[y * gamma**k for k, y in enumerate(_back(row, gamma))] for row in known_only(reward)]


def into_the_next(reward: Rows, gamma: float) -> list[list[float]]:
    """Run on over the end of a rollout."""
    later, out = 0.0, []
    for row in reversed(known_only(reward)):
        back = _back(row, gamma, later)
        later = back[0] if back else later
        out.append(back)
    return out[::-1]


# ------------------------------------------------------------------------------------- 3: a method of stages


def composed(
    gamma: bool = True,
    peers: PeersLike = same_state,
    lone: str = "zero",
    lone_rollout: str = "keep",
    ddof: int = 1,
    over_turns: bool = False,
    first: bool = False,
    weights: tuple[float, float] = (1.0, 1.0),
    divide: bool = True,
) -> Make:
    """Return what makes a GiGPO of these parts; the defaults are right.

    Args:
        gamma: discount at all?
        peers: who is compared turn by turn.
        lone, lone_rollout: what a turn, a rollout without peers gets.
        ddof: of both spreads.
        over_turns: copy the outcome to turns before it is compared.
        first: compare rewards, then sum.
        weights: of the rollout's term and the turn's.
        divide: by the spread of the turn's peers?
    """

    def make(discount: float) -> Node:
        z = zscore(task, ddof=ddof, singleton=lone_rollout)  # type: ignore[arg-type]
        whole = chain(read("outcome"), *((spread("turn"), z) if over_turns else (z, spread("turn"))))
        normed = (
            zscore(peers, ddof=ddof, singleton=lone)  # type: ignore[arg-type]
            if divide
            else center(peers, singleton=lone)  # type: ignore[arg-type]
        )
        sums = reward_to_go(discount if gamma else 1.0)
        turn = chain(read("turn_reward", "turn"), *((normed, sums) if first else (sums, normed)))
        return mix(whole, turn, weights=weights)

    return make


PLACE = task_and_turn
"""Peers of a misconception: turns at the same place."""
