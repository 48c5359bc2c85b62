"""Shapley over turns: from what every set of turns is worth to each turn's share of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from random import Random

from workbench.evidence.coalitions import exact_shares
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values
from workbench.teach.table import Table
from workbench.teach.turn_parts import Rows, hints, moved, of_question, standard, to_go, turn_table

Worth = Sequence[float]
"""v of every set of turns of a rollout: the place is a bit mask, so that v[0b101] is that of turns 0 and 2."""
Share = Callable[[Worth], list[float]]


def truth(worth: Sequence[Worth], group: Sequence[str]) -> list[list[float]]:
    """Return the Shapley value of every turn, by the library's weights."""
    return [[one.value for one in exact_shares(players(v), dict(enumerate(v)))] for v in worth]


# ------------------------------------------------------------------------------------------------------- the parts


def players(v: Worth) -> int:
    """How many turns have these sets?

    Example:
        >>> players([0.1, 0.2, 0.2, 0.5])
        2
    """
    return len(v).bit_length() - 1


def added(v: Worth, turn: int) -> Iterator[tuple[int, float]]:
    """Each set without a turn, and what the turn adds to it."""
    for mask in range(len(v)):
        if not mask >> turn & 1:
            yield mask, v[mask | 1 << turn] - v[mask]


def over_orders(v: Worth, orders: Sequence[Sequence[int]]) -> list[float]:
    """Mean of what each turn adds over some orders."""
    out = [0.0] * players(v)
    for order in orders:
        seen = 0
        for turn in order:
            out[turn] += (v[seen | 1 << turn] - v[seen]) / len(orders)
            seen |= 1 << turn
    return out


def all_orders(v: Worth) -> list[float]:
    """Over all orders: the Shapley values."""
    return over_orders(v, list(permutations(range(players(v)))))


def as_played(v: Worth) -> list[float]:
    """In the order in which the turns were played alone."""
    return over_orders(v, [range(players(v))])


def backwards(v: Worth) -> list[float]:
    """In the reverse of that order alone."""
    return over_orders(v, [range(players(v))[::-1]])


def both_ways(v: Worth) -> list[float]:
    """In the order of play and its reverse."""
    n = range(players(v))
    return over_orders(v, [n, n[::-1]])


def alone(v: Worth) -> list[float]:
    """v of the turn alone, less v of nobody."""
    return [v[1 << turn] - v[0] for turn in range(players(v))]


def left_out(v: Worth) -> list[float]:
    """v of all, less v of all but it."""
    return [v[-1] - v[(len(v) - 1) ^ 1 << turn] for turn in range(players(v))]


def two_ends(v: Worth) -> list[float]:
    """The mean of being first and being last."""
    return [(a + b) / 2 for a, b in zip(alone(v), left_out(v), strict=True)]


def every_set_alike(v: Worth) -> list[float]:
    """Mean over the sets without it, each counted once: Banzhaf's value."""
    n = players(v)
    return [sum(x for _, x in added(v, turn)) / 2 ** (n - 1) for turn in range(n)]


def never_first(v: Worth) -> list[float]:
    """Leave out the set of nobody."""
    n = players(v)
    fact = math.factorial
    return [
        sum(fact(m.bit_count()) * fact(n - m.bit_count() - 1) / fact(n) * x for m, x in added(v, turn) if m)
        for turn in range(n)
    ]


def magnitudes(v: Worth) -> list[float]:
    """Mean over orders of the size of what it adds."""
    n = players(v)
    fact = math.factorial
    return [
        sum(fact(m.bit_count()) * fact(n - m.bit_count() - 1) / fact(n) * abs(x) for m, x in added(v, turn))
        for turn in range(n)
    ]


def orders_summed(v: Worth) -> list[float]:
    """Sum over orders, not their mean."""
    return [x * math.factorial(players(v)) for x in all_orders(v)]


def equal_parts(v: Worth) -> list[float]:
    """What all are worth, in equal parts."""
    n = players(v)
    return [(v[-1] - v[0]) / n] * n


def nobody_is_zero(v: Worth) -> list[float]:
    """Take the worth of nobody for 0: the first of each order is paid for the prompt, too."""
    return all_orders([0.0, *v[1:]])


def to_one(v: Worth) -> list[float]:
    """Divided by their sum."""
    shares = all_orders(v)
    return [x / sum(shares) if abs(sum(shares)) > 1e-9 else x for x in shares]


def no_blame(v: Worth) -> list[float]:
    """Nothing below 0."""
    return [max(x, 0.0) for x in all_orders(v)]


def other_end(v: Worth) -> list[float]:
    """Read the mask from the other end: turn 0 is its highest bit."""
    return all_orders(v)[::-1]


def as_it_is(rows: Rows, group: Sequence[str]) -> Rows:
    """Leave the values alone."""
    return rows


def compared(rows: Rows, group: Sequence[str]) -> Rows:
    """Compare with all turns of the question."""
    return standard(rows, group, of_question)


def summed(rows: Rows, group: Sequence[str]) -> Rows:
    """Add the values of the turns that follow."""
    return to_go(rows, 1.0)


def made(share: Share = all_orders, after: Callable[[Rows, Sequence[str]], Rows] = as_it_is) -> Solution:
    """Return a solution made of these parts; the defaults are right."""

    def solution(worth: list[list[float]], group: list[str]) -> Rows:
        return after([list(share(v)) if len(v) > 1 else [] for v in worth], group)

    return solution


right = made()


# -------------------------------------------------------------------------------------------------------- the cases

ITEMS = 8
KINDS = ("clue", "clue", "clue", "same", "idle", "harm")
"""What a search may do: narrow the list, narrow it as the one before did, nothing, or bring in doubt."""


def game(rng: Random, kinds: Sequence[str]) -> list[float]:
    """Return v of every set of searches: what a reader believes who keeps the items that fit all clues it saw.

    Args:
        rng: draws what each clue leaves.
        kinds: of the searches, of `KINDS`.
    """
    clues, last = [], set(range(ITEMS))
    for kind in kinds:
        if kind == "clue":
            last = {0, *rng.sample(range(1, ITEMS), rng.randint(1, 4))}
        clues.append(last if kind in ("clue", "same") else set(range(ITEMS)))
    worth = []
    for mask in range(1 << len(kinds)):
        inside = [i for i in range(len(kinds)) if mask >> i & 1]
        left = set(range(ITEMS)).intersection(*(clues[i] for i in inside))
        worth.append(round(0.9 / len(left) * 0.6 ** sum(kinds[i] == "harm" for i in inside), 4))
    return worth


def cases(rng: Random) -> list[Args]:
    """Two clues; one twice; one that harms; three; an idle one; then rollouts of two questions, some without any."""
    shapes: list[list[Sequence[str]]] = [
        [("clue", "clue")],
        [("clue", "same")],
        [("clue", "harm")],
        [("clue", "clue", "clue")],
        [("clue", "idle", "clue")],
        [("clue", "harm", "same"), ()],
    ]
    shapes += [
        [[rng.choice(KINDS) for _ in range(rng.randint(0, 4))] for _ in range(rng.randint(2, 4))] for _ in range(10)
    ]
    group = "AABB"
    return [([game(rng, kinds) for kinds in shape], list(group[: len(shape)])) for shape in shapes]


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: what each turn is worth alone and what all are without it; below, every set of small rollouts."""
    worth, group = args
    only = [[v[1 << t] for t in range(players(v))] for v in worth]
    without = [[v[(len(v) - 1) ^ 1 << t] for t in range(players(v))] for v in worth]
    table = turn_table(
        "A line a turn. Wrong lines are marked.", [("v(it)", only), ("v(others)", without)], group, got, want
    )
    said = [f"v in rollout {i}: {_sets(v)}" for i, v in enumerate(worth) if 2 <= len(v) <= 8]
    return replace(table, note="; ".join(said))


def _sets(v: Worth) -> str:
    """Write every set with its worth, as in "{} 0.1, {0} 0.4"."""
    names = ["{" + " ".join(str(t) for t in range(players(v)) if mask >> t & 1) + "}" for mask in range(len(v))]
    return ", ".join(f"{name} {x:.3g}" for name, x in zip(names, v, strict=True))


def _efficient(args: Args, got: Values, solution: Solution) -> bool:
    return all(abs(sum(row) - (v[-1] - v[0])) < 1e-3 for v, row in zip(args[0], got, strict=True) if row)


def _idle_is_zero(args: Args, got: Values, solution: Solution) -> bool:
    return all(
        abs(row[t]) < 1e-3
        for v, row in zip(args[0], got, strict=True)
        for t in range(players(v))
        if all(abs(x) < 1e-9 for _, x in added(v, t))
    )


def _alike_is_equal(args: Args, got: Values, solution: Solution) -> bool:
    return all(
        abs(row[i] - row[j]) < 1e-3
        for v, row in zip(args[0], got, strict=True)
        for i in range(players(v))
        for j in range(i)
        if all(abs(v[m | 1 << i] - v[m | 1 << j]) < 1e-9 for m in range(len(v)) if not (m >> i | m >> j) & 1)
    )


def _one_question(args: Args) -> Args:
    worth, group = args
    return worth, [group[0]] * len(group)


ex = Exercise(
    "ex",
    "the Shapley value of every turn",
    cases,
    truth,
    (
        Misconception(
            "what is lost without it",
            "You take v(all) - v(all but it). Two turns that found the same are then both worth 0: each is spared by "
            "the other. That is turn ablation, one order's last place out of many.",
            made(left_out),
        ),
        Misconception(
            "what it brings alone",
            "You take v(only it) - v(nobody). Two turns that found the same are then both paid in full: the sum is "
            "more than there is.",
            made(alone),
        ),
        Misconception(
            "the order of play",
            "You add turns in the order in which they were played, and in no other. These are the gains of IGPO: of "
            "two turns that found the same, the first gets all.",
            made(as_played),
        ),
        Misconception(
            "the reverse order",
            "You add turns from the last one back, and in no other order: of two that found the same the last has all.",
            made(backwards),
        ),
        Misconception(
            "two orders",
            "You take the order of play and its reverse. They are one pair of the n! orders: enough for two turns, a "
            "sample for more.",
            made(both_ways),
        ),
        Misconception(
            "first and last",
            "You take the mean of being first and being last. From three turns on there are places between.",
            made(two_ends),
        ),
        Misconception(
            "every set alike",
            "You give every set the same weight. That is Banzhaf's value: sets of middling size are many, so they "
            "drown the rest, and the values do not sum to v(all) - v(nobody).",
            made(every_set_alike),
        ),
        Misconception(
            "nobody left out",
            "You start with sets of at least one other turn. A turn may also come first: what it adds to nobody "
            "counts like any other place.",
            made(never_first),
        ),
        Misconception(
            "nobody is worth 0",
            "You take v(nobody) for 0. Something is believed before the first turn, and no turn earned it.",
            made(nobody_is_zero),
        ),
        Misconception(
            "a sum over orders",
            "You sum over orders and do not divide by their number, n!. Long rollouts would earn most.",
            made(orders_summed),
        ),
        Misconception(
            "sizes",
            "You take the size of what a turn adds. A turn that brought in doubt has earned less than nothing.",
            made(magnitudes),
        ),
        Misconception(
            "no blame",
            "You cut what is below 0. A turn that made the answer less likely is blamed, and the others' values only "
            "sum up with it.",
            made(no_blame),
        ),
        Misconception(
            "shares of one",
            "You divide by the sum, so that every rollout earns 1. One that hardly helped is then paid like one that "
            "found it all.",
            made(to_one),
        ),
        Misconception(
            "equal parts",
            "You split v(all) - v(nobody) into equal parts. It sums up, and says nothing of who did it.",
            made(equal_parts),
        ),
        Misconception(
            "the mask from the other end",
            "You take turn 0 for the highest bit of the mask. Here it is the lowest: v[1] is turn 0 alone.",
            made(other_end),
        ),
        Misconception(
            "compared with the question",
            "You compare with the other turns of the question. These are no rewards to be ranked but parts of a sum; "
            "compared, they do not add up.",
            made(after=compared),
        ),
        Misconception(
            "what follows, too",
            "You add the values of the turns that follow. Each order has already paid a turn for what it makes "
            "possible; summed, it is paid twice.",
            made(after=summed),
        ),
    ),
    (
        Property("efficiency: the values of a rollout sum to v(all) - v(nobody)", _efficient),
        Property("dummy: a turn that changes no set gets 0", _idle_is_zero),
        Property("symmetry: two turns that add the same to every set get the same", _alike_is_equal),
        Property("which question a rollout answers does not matter", moved(_one_question)),
    ),
    shown,
    (
        "How many turns? A list of 2 to the n numbers has n of them: len(v).bit_length() - 1.",
        "Walk every order (itertools.permutations). Begin with the mask 0; each turn adds v[mask with it] - v[mask].",
        "Divide by the number of orders, n!. A rollout without turns has no values: [].",
    ),
)

hint = hints(ex)
