"""Parts of the exercises on estimates with a value head: one scan, and the ways to get it wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from workbench.teach.checking import Values, same
from workbench.teach.table import Table, number

Numbers = Sequence[float]
Scan = Callable[[Numbers, Numbers, float, float], list[float]]
"""(rewards, values, gamma, lam) of one rollout -> a number a step."""


def gae(reward: Numbers, value: Numbers, gamma: float, lam: float) -> list[float]:
    """Estimate the advantage of every step: d_k = r_k + gamma V_{k+1} - V_k, A_k = d_k + gamma lam A_{k+1}.

    Example:
        >>> gae([0.0, 1.0], [0.5, 0.75], 1.0, 0.5)
        [0.375, 0.25]
    """
    return scan(reward, [*value[1:], 0.0], value, gamma, gamma * lam)


def scan(reward: Numbers, later: Numbers, value: Numbers, gamma: float, decay: float) -> list[float]:
    """Sum the surprises that follow: d_k = r_k + gamma later_k - value_k, A_k = d_k + decay A_{k+1}."""
    follows, back = 0.0, []
    for r, after, now in reversed(list(zip(reward, later, value, strict=True))):
        follows = r + gamma * after - now + decay * follows
        back.append(follows)
    return back[::-1]


# --------------------------------------------------------------------------------------------------- the wrong ways


def past_the_end(reward: Numbers, value: Numbers, gamma: float, lam: float) -> list[float]:
    """Take the last value as that of the state after the end."""
    return scan(reward, [*value[1:], value[-1]], value, gamma, gamma * lam)


def returns(reward: Numbers, value: Numbers, gamma: float, lam: float) -> list[float]:
    """A + V, what the value head is taught."""
    return [a + v for a, v in zip(gae(reward, value, gamma, lam), value, strict=True)]


def no_lambda(reward: Numbers, value: Numbers, gamma: float, lam: float) -> list[float]:
    """All that follows, minus the value."""
    return gae(reward, value, gamma, 1.0)


def one_step(reward: Numbers, value: Numbers, gamma: float, lam: float) -> list[float]:
    """The surprise of the step alone."""
    return gae(reward, value, gamma, 0.0)


def lambda_alone(reward: Numbers, value: Numbers, gamma: float, lam: float) -> list[float]:
    """Later surprises fade by lambda only."""
    return scan(reward, [*value[1:], 0.0], value, gamma, lam)


def next_undiscounted(reward: Numbers, value: Numbers, gamma: float, lam: float) -> list[float]:
    """The next value counts in full."""
    return scan(reward, [*value[1:], 0.0], value, 1.0, gamma * lam)


def backwards(reward: Numbers, value: Numbers, gamma: float, lam: float) -> list[float]:
    """Sum the surprises so far."""
    before, out = 0.0, []
    for error in one_step(reward, value, gamma, lam):
        before = error + gamma * lam * before
        out.append(before)
    return out


def upside_down(reward: Numbers, value: Numbers, gamma: float, lam: float) -> list[float]:
    """The value now minus the next one."""
    return scan(reward, [-v for v in [*value[1:], 0.0]], [-v for v in value], gamma, gamma * lam)


def a_step_late(reward: Numbers, value: Numbers, gamma: float, lam: float) -> list[float]:
    """The value before the step before."""
    return scan(reward, value, [0.0, *value[:-1]], gamma, gamma * lam)


def valueless(reward: Numbers, value: Numbers, gamma: float, lam: float) -> list[float]:
    """Sum rewards, and leave the values out."""
    return gae(reward, [0.0] * len(value), gamma, lam)


def all_at_the_end(reward: Numbers, value: Numbers, gamma: float, lam: float) -> list[float]:
    """All rewards of the rollout at its last step."""
    return gae([0.0] * (len(reward) - 1) + [sum(reward)], value, gamma, lam)


def baseline_only(reward: Numbers, value: Numbers, gamma: float, lam: float) -> list[float]:
    """Sum rewards, fading by gamma lambda, and subtract the value."""
    summed = gae(reward, [0.0] * len(value), gamma, lam)
    return [g - v for g, v in zip(summed, value, strict=True)]


def whitened(rows: list[list[float]]) -> list[list[float]]:
    """Centre and scale over the batch."""
    flat = [x for row in rows for x in row]
    mean = sum(flat) / len(flat)
    spread = (sum((x - mean) ** 2 for x in flat) / max(len(flat) - 1, 1) + 1e-8) ** 0.5
    return [[(x - mean) / spread for x in row] for row in rows]


# ---------------------------------------------------------------------------------------------------- what is shown


def step_table(
    caption: str, step: str, columns: Sequence[tuple[str, Sequence[Sequence[object]]]], got: Values, want: Values
) -> Table:
    """Show a case, one line a step; lines that go wrong are marked.

    Args:
        caption: what is seen.
        step: what a step is called.
        columns: title and what was given, a row a rollout.
        got, want: what a solution returned (None if nothing of the right shape), and what is right.
    """
    rows: list[tuple[str, ...]] = []
    bad: set[int] = set()
    fits = isinstance(got, tuple) and len(got) == len(want)
    for i, line in enumerate(want):
        mine = got[i] if fits and isinstance(got[i], tuple) and len(got[i]) == len(line) else None
        for t, right in enumerate(line):
            if mine is not None and not same(mine[t], right):
                bad.add(len(rows))
            given = [_cell(values[i][t]) for _, values in columns]
            rows.append((str(i), str(t), *given, "" if mine is None else number(mine[t]), number(right)))
    head = ("rollout", step, *(name for name, _ in columns), "yours", "right")
    return Table(caption, head, tuple(rows), frozenset(bad))


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
