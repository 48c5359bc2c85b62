"""Parts that solutions of exercises on turn credit are made of, in plain Python, independent of the library's stages.

A right solution and a misconception differ in one part: other peers, another spread, another order of the steps. Rows
hold one number a turn, one row a rollout; None is unknown. `group` names the question of each rollout.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from random import Random
from typing import Any

from workbench.teach.checking import Args, Exercise, Hint, Values, same, values
from workbench.teach.table import Table, number

Row = list[float | None]
Rows = list[Row]
Peers = Callable[[int, int, Sequence[str]], Hashable]
"""(rollout, turn, questions) -> who is compared: units of equal key."""

EPS = 1e-6


def of_question(i: int, t: int, group: Sequence[str]) -> Hashable:
    """Compare all turns of the question."""
    return group[i]


def of_turn(i: int, t: int, group: Sequence[str]) -> Hashable:
    """Compare the turns of the question at the same place."""
    return group[i], t


def of_place(i: int, t: int, group: Sequence[str]) -> Hashable:
    """Compare the turns of the batch at the same place, whatever the question."""
    return t


def of_batch(i: int, t: int, group: Sequence[str]) -> Hashable:
    """Compare everything with everything."""
    return 0


def of_rollout(i: int, t: int, group: Sequence[str]) -> Hashable:
    """Compare the turns of one rollout."""
    return i


def standard(
    rows: Rows,
    group: Sequence[str],
    peers: Peers = of_question,
    *,
    ddof: int = 0,
    lone: str = "zero",
    divide: bool = True,
    centre: bool = True,
    root: float = 0.0,
) -> Rows:
    """Subtract the mean of the peers and divide by their spread; unknown values stay unknown and count in neither.

    Args:
        rows: numbers a turn.
        group: question of each rollout.
        peers: who is compared.
        ddof: 0 for the spread of the population, 1 for that of a sample.
        lone: "zero" or "keep": what a value without peers becomes.
        divide, centre: take the spread, the mean at all.
        root: added inside the root.

    Example:
        >>> standard([[1.0, None], [3.0]], ["a", "a"])[1][0] > 0.99
        True
    """
    pools: dict[Hashable, list[float]] = defaultdict(list)
    for i, row in enumerate(rows):
        for t, x in enumerate(row):
            if x is not None:
                pools[peers(i, t, group)].append(x)

    def one(i: int, t: int, x: float | None) -> float | None:
        if x is None:
            return None
        pool = pools[peers(i, t, group)]
        if len(pool) == 1:
            return x if lone == "keep" else 0.0
        mean = sum(pool) / len(pool)
        square = 0.0 if max(pool) == min(pool) else sum((y - mean) ** 2 for y in pool) / (len(pool) - ddof)
        away = 0.0 if max(pool) == min(pool) and centre else x - mean * centre
        return away / ((square + root) ** 0.5 + EPS) if divide else away

    return [[one(i, t, x) for t, x in enumerate(row)] for i, row in enumerate(rows)]


def to_go(rows: Rows, gamma: float) -> Rows:
    """Sum what follows: A_t = r_t + gamma A_{t+1}. An unknown turn takes the next one's, without a discount step."""
    out = []
    for row in rows:
        later: float | None = None
        back: Row = []
        for x in reversed(row):
            later = later if x is None else x + gamma * (later or 0.0)
            back.append(later)
        out.append(back[::-1])
    return out


def so_far(rows: Rows, gamma: float) -> Rows:
    """Sum what came before: A_t = r_t + gamma A_{t-1}. The wrong way round."""
    return [row[::-1] for row in to_go([row[::-1] for row in rows], gamma)]


def undiscounted(rows: Rows, gamma: float) -> Rows:
    """Sum what follows, and forget gamma."""
    return to_go(rows, 1.0)


def unsummed(rows: Rows, gamma: float) -> Rows:
    """Sum nothing."""
    return rows


def each(f: Callable[..., float], *many: Rows) -> Rows:
    """Combine rows number by number; unknown in one is unknown.

    Example:
        >>> each(lambda a, b: a + b, [[1.0, None]], [[2.0, 2.0]])
        [[3.0, None]]
    """
    return [[None if None in xs else f(*xs) for xs in zip(*rows, strict=True)] for rows in zip(*many, strict=True)]


def filled(rows: Rows, value: float = 0.0) -> list[list[float]]:
    """Put a number in the place of what is unknown."""
    return [[value if x is None else x for x in row] for row in rows]


def at_last(values: Sequence[float], like: Sequence[Sequence[Any]]) -> Rows:
    """Put one number a rollout at its last turn, unknown elsewhere."""
    return [[None] * (len(row) - 1) + [v] for v, row in zip(values, like, strict=True)]


def everywhere(values: Sequence[float], like: Sequence[Sequence[Any]]) -> Rows:
    """Copy one number a rollout to all its turns."""
    return [[v] * len(row) for v, row in zip(values, like, strict=True)]


def either(a: Rows, b: Rows) -> Rows:
    """Take what is known of two rows, and their sum where both are."""

    def both(x: float | None, y: float | None) -> float | None:
        return y if x is None else x if y is None else x + y

    return [[both(x, y) for x, y in zip(p, q, strict=True)] for p, q in zip(a, b, strict=True)]


def outcomes(values: Sequence[float], group: Sequence[str], **how: Any) -> list[float]:
    """Standardise one number a rollout within its question; `how` as in `standard`."""
    return [row[0] for row in filled(standard([[v] for v in values], group, **how))]


# --------------------------------------------------------------------------------------------------- what is shown


def turn_table(
    caption: str, columns: Sequence[tuple[str, Rows]], group: Sequence[str], got: Values, want: Values
) -> Table:
    """Show a case, one line a turn; lines that go wrong are marked.

    Args:
        caption: what is seen.
        columns: title and numbers of what was given, a row a rollout.
        group: question of each rollout.
        got: what a solution returned; None if nothing of the right shape.
        want: what is right.
    """
    rows, bad = [], set()
    fits = isinstance(got, tuple) and len(got) == len(want)
    for i, line in enumerate(want):
        mine = got[i] if fits and isinstance(got[i], tuple) and len(got[i]) == len(line) else None
        for t, right in enumerate(line):
            given = [plain(values[i][t]) for _, values in columns]
            if mine is not None and not same(mine[t], right):
                bad.add(len(rows))
            rows.append((str(i), group[i], str(t), *given, "" if mine is None else number(mine[t]), number(right)))
    head = ("rollout", "question", "turn", *(name for name, _ in columns), "yours", "right")
    return Table(caption, head, tuple(rows), frozenset(bad))


def plain(value: float | None) -> str:
    """Write a given number; "-" where there is none."""
    return "-" if value is None else f"{value:.4g}"


def moved(change: Callable[[Args], Args]) -> Callable[[Args, Values, Callable[..., Any]], bool]:
    """Return a property: a change of the case leaves every value as it was."""

    def holds(args: Args, got: Values, solution: Callable[..., Any]) -> bool:
        return same(got, values(solution(*change(args))))

    return holds


def clear(cases: Callable[[Random], Sequence[Args]], truth: Callable[..., Any]) -> Callable[[Random], list[Args]]:
    """Leave out the cases in which a right value is nearly, but not exactly, 0.

    There two terms cancel but for the 1e-6 that the library adds to a spread; a solution without it is right, too.
    """

    def kept(rng: Random) -> list[Args]:
        found = []
        for args in cases(rng):
            flat = [x for row in values(truth(*args)) for x in row]
            if not any(1e-9 < abs(x) < 1e-3 for x in flat):
                found.append(args)
        return found

    return kept


def hints(*exercises: Exercise) -> Callable[[str, int], Hint]:
    """Return the function that a notebook asks for help: (name of the exercise, level) -> a hint."""

    def hint(name: str, level: int = 1) -> Hint:
        """Return a hint; each level says more."""
        known = {one.name: one for one in exercises}
        if name not in known:
            raise ValueError(f"expected one of {', '.join(known)}, got {name!r}")
        return known[name].hint(level)

    return hint
