"""Bi-level GAE: over the turns of a rollout for a target a turn, then over the tokens inside each turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import torch

from workbench.recipes import bilevel_gae
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values
from workbench.teach.method_page import hand
from workbench.teach.methods import _gae as g
from workbench.teach.table import Table
from workbench.teach.turn_parts import Rows, hints

Turns = Sequence[Sequence[float]]
Clock = tuple[float, float, float, float]
"""gamma and lambda of turns, gamma and lambda of tokens."""


def truth(
    reward: Sequence[list[float]], value: Sequence[Turns], gamma_turn: float, lam_turn: float, gamma: float, lam: float
) -> list[list[float]]:
    """Return the advantage of every token, by the library's recipe, before it is whitened."""
    names = [f"q{i}" for i in range(len(reward))]
    starts = [[tokens[0] for tokens in row] for row in value]
    sizes = [[len(tokens) for tokens in row] for row in value]
    columns: dict[str, Rows] = {"turn_reward": [[*row] for row in reward], "turn_value": [[*row] for row in starts]}
    batch = hand(names, columns, tokens=sizes)
    flat = torch.tensor([v for row in value for tokens in row for v in tokens], dtype=torch.float64)
    recipe = bilevel_gae(gamma_turn, lam_turn, gamma, lam, "turn_reward", whiten=False)
    told = iter(recipe.credit(batch.with_column("value", "token", flat)).values.tolist())
    return [[next(told) for tokens in row for _ in tokens] for row in value]


# ------------------------------------------------------------------------------------------------------- the parts

Inner = Callable[[Sequence[float], Turns, Sequence[float], Sequence[float], Clock], list[float]]
"""(rewards, values by turn, values of turns, advantages of turns, clock) -> a number a token."""


def inside(
    reward: Sequence[float], value: Turns, at: Sequence[float], outer: Sequence[float], clock: Clock
) -> list[float]:
    """Scan each turn by itself towards its target, A + V."""
    return within(value, [a + v for a, v in zip(outer, at, strict=True)], clock)


def within(value: Turns, target: Sequence[float], clock: Clock) -> list[float]:
    """Scan each turn by itself towards a target."""
    return [
        x
        for tokens, aim in zip(value, target, strict=True)
        for x in g.gae([0.0] * (len(tokens) - 1) + [aim], tokens, clock[2], clock[3])
    ]


def made(
    anchor: int = 0, outer: g.Scan = g.gae, inner: Inner = inside, clock: Callable[[Clock], Clock] = lambda c: c
) -> Solution:
    """Return a solution made of these parts; the defaults are right.

    Args:
        anchor: which token's value is the turn's.
        outer: the scan over turns.
        inner: what tokens get of it.
        clock: what is made of the four numbers.
    """

    def one(reward: Sequence[float], value: Turns, c: Clock) -> list[float]:
        at = [tokens[anchor] for tokens in value]
        return inner(reward, value, at, outer(reward, at, c[0], c[1]), c)

    def solution(reward: list[list[float]], value: list[Turns], *given: float) -> list[list[float]]:
        c = clock((given[0], given[1], given[2], given[3]))
        return [one(r, v, c) for r, v in zip(reward, value, strict=True)]

    return solution


right = made()


def merged(reward: Sequence[float], value: Turns) -> tuple[list[float], list[list[float]]]:
    """Take a turn for over only where its reward is not 0; what is left at the end is one, too.

    Example:
        >>> merged([0.0, 1.0], [[0.5], [0.25, 0.5]])
        ([1.0], [[0.5, 0.25, 0.5]])
    """
    ends: list[float] = []
    turns: list[list[float]] = [[]]
    for r, tokens in zip(reward, value, strict=True):
        turns[-1] += tokens
        if r != 0:
            ends.append(r)
            turns.append([])
    return (ends, turns[:-1]) if not turns[-1] else ([*ends, 0.0], turns)


def vanishing(anchor: int) -> Solution:
    """A turn that earned exactly 0 is none."""
    whole = made(anchor)

    def solution(reward: list[list[float]], value: list[Turns], *clock: float) -> list[list[float]]:
        found = [merged(r, v) for r, v in zip(reward, value, strict=True)]
        return whole([r for r, _ in found], [v for _, v in found], *clock)

    return solution


released = vanishing(-1)
"""As RAGEN's code has it: turns end where a reward is not 0, and the value of a turn is that before its last token."""


def one_clock(
    reward: Sequence[float], value: Turns, at: Sequence[float], outer: Sequence[float], clock: Clock
) -> list[float]:
    """One scan over all tokens; rewards at the last token of their turn."""
    rewards = [r * (k == len(tokens) - 1) for r, tokens in zip(reward, value, strict=True) for k in range(len(tokens))]
    return g.gae(rewards, [v for tokens in value for v in tokens], clock[2], clock[3])


def copied(
    reward: Sequence[float], value: Turns, at: Sequence[float], outer: Sequence[float], clock: Clock
) -> list[float]:
    """Give all tokens of a turn its advantage."""
    return [a for a, tokens in zip(outer, value, strict=True) for _ in tokens]


def advantage_as_target(
    reward: Sequence[float], value: Turns, at: Sequence[float], outer: Sequence[float], clock: Clock
) -> list[float]:
    """Aim at the turn's advantage."""
    return within(value, outer, clock)


def reward_as_target(
    reward: Sequence[float], value: Turns, at: Sequence[float], outer: Sequence[float], clock: Clock
) -> list[float]:
    """Aim at the turn's reward."""
    return within(value, reward, clock)


def runs_on(
    reward: Sequence[float], value: Turns, at: Sequence[float], outer: Sequence[float], clock: Clock
) -> list[float]:
    """Put targets at the ends of turns, and scan all tokens in one go."""
    target = [a + v for a, v in zip(outer, at, strict=True)]
    rewards = [x * (k == len(tokens) - 1) for x, tokens in zip(target, value, strict=True) for k in range(len(tokens))]
    return g.gae(rewards, [v for tokens in value for v in tokens], clock[2], clock[3])


def looks_on(
    reward: Sequence[float], value: Turns, at: Sequence[float], outer: Sequence[float], clock: Clock
) -> list[float]:
    """Let the last token of a turn look at the value of the next one, too."""
    after = [*at[1:], 0.0]
    target = [a + v + clock[2] * n for a, v, n in zip(outer, at, after, strict=True)]
    return within(value, target, clock)


def everywhere(
    reward: Sequence[float], value: Turns, at: Sequence[float], outer: Sequence[float], clock: Clock
) -> list[float]:
    """Earn the target at every token."""
    aims = [a + v for a, v in zip(outer, at, strict=True)]
    return [
        x
        for tokens, aim in zip(value, aims, strict=True)
        for x in g.gae([aim] * len(tokens), tokens, clock[2], clock[3])
    ]


def added(
    reward: Sequence[float], value: Turns, at: Sequence[float], outer: Sequence[float], clock: Clock
) -> list[float]:
    """Add the advantages of both levels."""
    tokens = one_clock(reward, value, at, outer, clock)
    return [a + b for a, b in zip(copied(reward, value, at, outer, clock), tokens, strict=True)]


def returned(
    reward: Sequence[float], value: Turns, at: Sequence[float], outer: Sequence[float], clock: Clock
) -> list[float]:
    """A + V of every token."""
    flat = [v for tokens in value for v in tokens]
    return [a + v for a, v in zip(inside(reward, value, at, outer, clock), flat, strict=True)]


# -------------------------------------------------------------------------------------------------------- the cases


def cases(rng: Random) -> list[Args]:
    """One turn; two; a turn that earned nothing in between; then any."""
    shapes = [[[2], [2]], [[2, 2], [1, 2]], [[2, 3, 2], [2, 2]]]
    shapes += [[[rng.randint(1, 3) for _ in range(rng.randint(1, 3))] for _ in range(2)] for _ in range(11)]
    out: list[Args] = []
    for shape in shapes:
        reward = [[*(rng.choice((0.0, 0.0, 0.5)) for _ in row[1:]), rng.choice((1.0, -0.5))] for row in shape]
        value = [[[rng.choice((0.125, 0.25, 0.5, 0.75, 0.875)) for _ in range(n)] for n in row] for row in shape]
        clock = (rng.choice((0.9, 0.7)), rng.choice((0.5, 0.25)), rng.choice((1.0, 0.8)), rng.choice((0.6, 0.4)))
        out.append((reward, value, *clock))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: turn, value and, at its turn's last token, reward."""
    reward, value, gamma_turn, lam_turn, gamma, lam = args
    number = [[t for t, tokens in enumerate(row) for _ in tokens] for row in value]
    earned = [
        [
            "-" if k < len(tokens) - 1 else f"{r:g}"
            for r, tokens in zip(rs, row, strict=True)
            for k in range(len(tokens))
        ]
        for rs, row in zip(reward, value, strict=True)
    ]
    flat = [[v for tokens in row for v in tokens] for row in value]
    caption = (
        f"A line a token; turns: gamma {gamma_turn:g}, lambda {lam_turn:g}; tokens: gamma {gamma:g}, lambda {lam:g}."
    )
    columns = [("turn", number), ("value before", flat), ("reward of the turn", earned)]
    return g.step_table(caption, "token", columns, got, want)


def _plain_when_one(args: Args, got: Values, solution: Solution) -> bool:
    reward, value = args[:2]
    both = solution(reward, value, 1.0, 1.0, 1.0, 1.0)
    rows = [one_clock(r, v, (), (), (1.0, 1.0, 1.0, 1.0)) for r, v in zip(reward, value, strict=True)]
    return all(abs(float(a) - b) < 1e-3 for p, q in zip(both, rows, strict=True) for a, b in zip(p, q, strict=True))


def _almost_zero(args: Args, got: Values, solution: Solution) -> bool:
    reward, value, *clock = args
    near = [[r + 1e-9 for r in row] for row in reward]
    again = solution(near, value, *clock)
    return all(
        abs(float(a) - float(b)) < 1e-3 for p, q in zip(again, got, strict=True) for a, b in zip(p, q, strict=True)
    )


ex = Exercise(
    "ex",
    "the advantage of every token",
    cases,
    truth,
    (
        Misconception(
            "as released",
            "You end turns where a reward is not 0, and take the value before a turn's last token for the turn's. So "
            "does RAGEN's code: a turn that earned nothing is none, and a turn is judged when its action is taken.",
            released,
        ),
        Misconception(
            "turns of 0 vanish",
            "You end turns where a reward is not 0. A turn that earned exactly 0 is a turn; one that earned 1e-9 would "
            "be one.",
            vanishing(0),
        ),
        Misconception(
            "value at the turn's last token",
            "You take the value before the last token for the turn's. By then the action is taken, and the value has "
            "seen it; the turn begins before its first token.",
            made(anchor=-1),
        ),
        Misconception(
            "one clock",
            "You scan all tokens in one go, rewards at the ends of turns. That is PPO over tokens.",
            made(inner=one_clock),
        ),
        Misconception(
            "turns alone",
            "You copy the advantage of a turn to its tokens. That is PPO over turns; the inner scan is missing.",
            made(inner=copied),
        ),
        Misconception(
            "advantage as the target",
            "You aim the inner scan at the turn's advantage. Token values are of the whole return, so the target is "
            "A + V.",
            made(inner=advantage_as_target),
        ),
        Misconception(
            "reward as the target",
            "You aim the inner scan at the turn's own reward: nothing that comes later reaches the tokens.",
            made(inner=reward_as_target),
        ),
        Misconception(
            "inner scan runs on",
            "You put the targets at the ends of turns and scan all tokens in one go. The targets hold the future "
            "already; it is counted again with every turn.",
            made(inner=runs_on),
        ),
        Misconception(
            "looks on into the next turn",
            "You add the value of the next turn behind a turn's last token. The target holds it already.",
            made(inner=looks_on),
        ),
        Misconception(
            "target at every token",
            "You let every token of a turn earn the target. It is earned once, at the last.",
            made(inner=everywhere),
        ),
        Misconception(
            "levels added",
            "You add the advantages of turns and of tokens. The one is the target of the other.",
            made(inner=added),
        ),
        Misconception(
            "clocks swapped",
            "You use the gamma and lambda of tokens between turns, and those of turns between tokens.",
            made(clock=lambda c: (c[2], c[3], c[0], c[1])),
        ),
        Misconception(
            "one pair for both",
            "You use the gamma and lambda of turns between tokens, too.",
            made(clock=lambda c: (c[0], c[1], c[0], c[1])),
        ),
        Misconception(
            "a value after the end",
            "You take the last turn's value for that of the state after the end, where nothing is to come.",
            made(outer=g.past_the_end),
        ),
        Misconception(
            "no lambda between turns",
            "You sum all turns that follow in full, as with a lambda of 1 between turns.",
            made(outer=g.no_lambda),
        ),
        Misconception("returns", "You return A + V, which is what the value head is taught.", made(inner=returned)),
    ),
    (
        Property("with all four numbers 1 it is PPO over tokens", _plain_when_one),
        Property("a reward of 0 and one of 0.000000001 differ by almost nothing", _almost_zero),
    ),
    shown,
    (
        "First turns only: the value of a turn is that before its first token. One scan over turns gives A of each.",
        "The target of a turn is A + V. It is the reward of the turn's last token; all others have 0.",
        "Scan each turn by itself; behind its last token the value is 0, for the target holds what comes later.",
    ),
)

hint = hints(ex)
__all__ = ["ex", "hint", "made", "merged", "released", "right", "vanishing"]
