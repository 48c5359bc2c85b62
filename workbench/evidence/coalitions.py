"""What an agent would find having read only some turns: the turns of a rollout as players, and their Shapley values."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from workbench.evidence.base import Meter, Reads, Sees, Values
from workbench.evidence.contexts import Tokens
from workbench.evidence.gold import OnGoldProbe
from workbench.policy.token_tree import Range
from workbench.seeds import seed_for
from workbench.trajectory import Group, RecordError, Trajectory

Z95 = 1.959964


class Share(NamedTuple):
    """A player's Shapley value and the half-width of its 95 % interval (0 where it is exact)."""

    value: float
    error: float


def every_set(players: int) -> list[int]:
    """Return all coalitions as bit masks: bit i says whether player i is in."""
    return list(range(1 << players))


def some_orders(players: int, count: int, seed: int) -> list[tuple[int, ...]]:
    """Draw orders of the players, each followed by its reverse (which cancels much of the noise).

    Example:
        >>> orders = some_orders(4, 4, 0)
        >>> len(orders), orders[1] == orders[0][::-1]
        (4, True)
    """
    draw, orders = random.Random(seed), []
    for _ in range((count + 1) // 2):
        order = list(range(players))
        draw.shuffle(order)
        orders += [tuple(order), tuple(reversed(order))]
    return orders[: max(count, 2)]


def sets_of(order: Sequence[int]) -> list[int]:
    """Return the coalitions an order passes through, from nobody to everybody."""
    masks = [0]
    for player in order:
        masks.append(masks[-1] | 1 << player)
    return masks


def exact_shares(players: int, worth: Mapping[int, float]) -> list[Share]:
    """Return the Shapley values of a game of which every coalition's worth is known.

        phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! (v(S and i) - v(S))

    Args:
        players: n.
        worth: v of each bit mask.

    Source: Shapley 1953.

    Example:
        >>> gloves = {0: 0, 1: 0, 2: 0, 4: 0, 3: 0, 5: 1, 6: 1, 7: 1}  # two left ones and a right one
        >>> [round(share.value, 3) for share in exact_shares(3, gloves)]
        [0.167, 0.167, 0.667]
    """
    weight = [math.factorial(s) * math.factorial(players - s - 1) / math.factorial(players) for s in range(players)]
    found = []
    for i in range(players):
        without = [mask for mask in every_set(players) if not mask >> i & 1]
        found.append(sum(weight[mask.bit_count()] * (worth[mask | 1 << i] - worth[mask]) for mask in without))
    return [Share(value, 0.0) for value in found]


def sampled_shares(orders: Sequence[Sequence[int]], worth: Mapping[int, float]) -> list[Share]:
    """Estimate Shapley values from some orders: the mean of what each player added, with a 95 % interval.

    The values add up to v(all) - v(none), whatever the orders. An order and its reverse count as one draw.

    Args:
        orders: of all players; as `some_orders` gives them, each second one the reverse of the one before.
        worth: v of each bit mask the orders pass through.
    """
    added: list[list[float]] = [[] for _ in orders[0]]
    for order in orders:
        for player, before in zip(order, sets_of(order), strict=False):
            added[player].append(worth[before | 1 << player] - worth[before])
    pairs = [[(a + b) / 2 for a, b in zip(own[::2], own[1::2], strict=True)] for own in added]
    return [_mean(own) for own in pairs]


def _mean(draws: Sequence[float]) -> Share:
    n, mean = len(draws), sum(draws) / len(draws)
    if n < 2:
        return Share(mean, math.inf)
    return Share(mean, Z95 * math.sqrt(sum((x - mean) ** 2 for x in draws) / (n - 1) / n))


# ---------------------------------------------------------------------------------------------------------- players


def pieces(trajectory: Trajectory) -> tuple[Tokens, list[Tokens]] | None:
    """Return the tokens of the prompt and of each turn before the last (action and what came back), as they stand.

    They are those of the sequence the last turn was written in. None for a branch, or without tokens.
    """
    end = len(trajectory.turns) - 1
    for sequence in trajectory.sequences if trajectory.parent is None else ():
        if any(span.turn == end and span.origin == "sampled" for span in sequence.spans):
            own: list[list[int]] = [[] for _ in range(end + 1)]
            lead: list[int] = []
            for span in sequence.spans:
                (lead if span.turn < 0 else own[min(span.turn, end)]).extend(span.ids)
            return tuple(lead), [tuple(ids) for ids in own[:end]]
    return None


@dataclass(frozen=True)
class ShapleyTurns(OnGoldProbe):
    """Share what reading the turns did for the gold answer among them: `shapley`, `shapley_error`.

        v(S) = exp(mean log p(gold answer | prompt, the turns in S in their order)),   phi_t as in `exact_shares`

    All coalitions are scored where a rollout has at most `exact` turns before its last; else those that `orders`
    sampled orders pass through, and `shapley_error` is the half-width of the interval. The last turn answers: unknown.

    Args:
        policy: whose belief is asked.
        exact: up to so many turns every coalition is scored (2 to that power).
        orders: sampled beyond; even, each is followed by its reverse.
        seed: of the orders.

    Unknown without a gold answer or tokens, and for branches.

    Source: Shapley 1953; Castro, Gomez and Tejada 2009 for sampled orders.
    """

    exact: int = 5
    orders: int = 16
    seed: int = 0
    provides: ClassVar[Mapping[str, str]] = {"shapley": "turn", "shapley_error": "turn"}
    sees: ClassVar[tuple[Sees, ...]] = ("gold", "future")
    reads: ClassVar[tuple[Reads, ...]] = ("tokens", "gold")

    def __post_init__(self) -> None:
        if not 0 <= self.exact <= 12 or self.orders < 4 or self.orders % 2:
            raise ValueError(f"expected exact in 0 .. 12 and orders even, >= 4; got {self.exact}, {self.orders}")

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Score the coalitions of each rollout together."""
        found = [self._of(t, meter) for t in group]
        return {
            "shapley": Values.of(None if one is None else one.value for row in found for one in row),
            "shapley_error": Values.of(None if one is None else one.error for row in found for one in row),
        }

    def worths(
        self, trajectory: Trajectory, masks: Sequence[int] | None = None, meter: Meter | None = None
    ) -> dict[int, float]:
        """Return v of coalitions of the turns before a rollout's last.

        Args:
            trajectory: no branch; with tokens and a gold answer.
            masks: which coalitions, bit i says whether turn i is in; None is all, 2 to the number of these turns.
            meter: where the cost is counted.

        Raises:
            RecordError: it is a branch, or has no tokens or no gold answer.
        """
        parts, forced = pieces(trajectory), self.probe.answers(trajectory)
        if parts is None or not forced:
            problem = "no coalition of its turns can be scored: it is a branch, or has no tokens or no gold answer"
            raise RecordError(problem, trajectory=trajectory.id)
        lead, turns = parts
        wanted = every_set(len(turns)) if masks is None else list(masks)
        asked = [_joined(lead, turns, mask, *forced[0]) for mask in wanted]
        scores = self.probe.score([ids for ids, _ in asked], [span for _, span in asked], meter or Meter())
        return {mask: self._worth(s, trajectory) for mask, s in zip(wanted, scores, strict=True)}

    def _of(self, trajectory: Trajectory, meter: Meter) -> list[Share | None]:
        parts = pieces(trajectory)
        if parts is None or not self.probe.answers(trajectory):
            return [None] * len(trajectory.turns)
        lead, turns = parts
        n = len(turns)
        orders = some_orders(n, self.orders, seed_for("shapley", self.seed, *lead)) if n > self.exact else []
        masks = sorted({mask for order in orders for mask in sets_of(order)}) if orders else None
        worth = self.worths(trajectory, masks, meter)
        shares = sampled_shares(orders, worth) if orders else exact_shares(n, worth)
        return [*shares, None]

    def _worth(self, score: Any, trajectory: Trajectory) -> float:
        value = math.exp(float(score.double().mean()))
        if not 0.0 <= value <= 1.0 + 1e-4:
            problem = f"policy {self.policy.name!r} scored the answer {value}, which is no probability"
            raise RecordError(problem, trajectory=trajectory.id)
        return value


def _joined(lead: Tokens, turns: Sequence[Tokens], mask: int, ids: Sequence[int], span: Range) -> tuple[Tokens, Range]:
    """The prompt, the turns of a coalition, the forced answer, and where the answer stands."""
    seen = (*lead, *(token for k, turn in enumerate(turns) if mask >> k & 1 for token in turn))
    return (*seen, *ids), (len(seen) + span[0], len(seen) + span[1])
