"""PPO over tokens: a surprise a token the policy wrote, and none for what the tool wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random

import torch

from workbench.recipes import ppo
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values, same, values
from workbench.teach.method_page import hand
from workbench.teach.methods import _gae as g
from workbench.teach.table import Table
from workbench.teach.turn_parts import hints

Ours = Sequence[bool]
Row = list[float]


def truth(
    value: Sequence[Row], ours: Sequence[Ours], outcome: Sequence[float], gamma: float, lam: float
) -> list[list[float]]:
    """Return the advantage of every token, by the library's recipe, before it is whitened; 0 for the tool's."""
    sampled = [[v for v, mine in zip(row, who, strict=True) if mine] for row, who in zip(value, ours, strict=True)]
    names = [f"q{i}" for i in range(len(value))]
    batch = hand(names, None, {"outcome": list(outcome)}, [1] * len(value), [[len(row)] for row in sampled])
    batch = batch.with_column("value", "token", torch.tensor([v for row in sampled for v in row], dtype=torch.float64))
    told = iter(ppo(gamma=gamma, lam=lam, whiten=False).credit(batch).values.tolist())
    return [[next(told) if mine else 0.0 for mine in who] for who in ours]


# ------------------------------------------------------------------------------------------------------- the parts

Rollout = Callable[[Row, Ours, float, float, float], list[float]]
"""(values, is it ours?, outcome, gamma, lam) of one rollout -> a number a token."""


def spread_out(found: Sequence[float], ours: Ours) -> list[float]:
    """Put numbers of sampled tokens where they stand, 0 at the tool's."""
    left = iter(found)
    return [next(left) if mine else 0.0 for mine in ours]


def joined(value: Row, ours: Ours, outcome: float, gamma: float, lam: float, scan: g.Scan = g.gae) -> list[float]:
    """Scan the sampled tokens, one behind the other; the outcome is earned at the last of them."""
    mine = [v for v, who in zip(value, ours, strict=True) if who]
    return spread_out(scan([0.0] * (len(mine) - 1) + [outcome], mine, gamma, lam), ours)


def made(
    one: Rollout = joined, after: Callable[[list[list[float]]], list[list[float]]] = lambda rows: rows
) -> Solution:
    """Return a solution made of what is done with a rollout and what is done with all; the defaults are right."""

    def solution(value: list[Row], ours: list[list[bool]], outcome: Row, gamma: float, lam: float) -> list[list[float]]:
        return after([one(v, who, r, gamma, lam) for v, who, r in zip(value, ours, outcome, strict=True)])

    return solution


def by(scan: g.Scan) -> Solution:
    """Return a solution with another scan over the sampled tokens."""
    return made(partial(joined, scan=scan))


right = made()


def _last(ours: Ours) -> int:
    return max(k for k, mine in enumerate(ours) if mine)


def all_tokens(value: Row, ours: Ours, outcome: float, gamma: float, lam: float) -> list[float]:
    """Scan every token, the tool's with its values."""
    reward = [outcome * (k == _last(ours)) for k in range(len(ours))]
    return [a if mine else 0.0 for a, mine in zip(g.gae(reward, value, gamma, lam), ours, strict=True)]


def tool_too(value: Row, ours: Ours, outcome: float, gamma: float, lam: float) -> list[float]:
    """Scan every token, and credit the tool's."""
    reward = [outcome * (k == _last(ours)) for k in range(len(ours))]
    return g.gae(reward, value, gamma, lam)


def time_passes(value: Row, ours: Ours, outcome: float, gamma: float, lam: float) -> list[float]:
    """Let the tool's tokens take time, though they have no surprise."""
    follows, out, after = 0.0, [0.0] * len(ours), 0.0
    for k in range(len(ours) - 1, -1, -1):
        if ours[k]:
            follows = outcome * (k == _last(ours)) + gamma * after - value[k] + gamma * lam * follows
            out[k], after = follows, value[k]
        else:
            follows, after = gamma * lam * follows, gamma * after
    return out


def cut_at_the_tool(value: Row, ours: Ours, outcome: float, gamma: float, lam: float) -> list[float]:
    """End the scan where the tool speaks."""
    follows, out, after = 0.0, [0.0] * len(ours), 0.0
    for k in range(len(ours) - 1, -1, -1):
        if not ours[k]:
            follows, after = 0.0, 0.0
            continue
        follows = outcome * (k == _last(ours)) + gamma * after - value[k] + gamma * lam * follows
        out[k], after = follows, value[k]
    return out


def next_in_text(value: Row, ours: Ours, outcome: float, gamma: float, lam: float) -> list[float]:
    """Take the next value in the text, the tool's first token's too."""
    follows, out = 0.0, [0.0] * len(ours)
    for k in range(len(ours) - 1, -1, -1):
        if ours[k]:
            after = 0.0 if k == _last(ours) else value[k + 1]
            follows = outcome * (k == _last(ours)) + gamma * after - value[k] + gamma * lam * follows
            out[k] = follows
    return out


def lost(value: Row, ours: Ours, outcome: float, gamma: float, lam: float) -> list[float]:
    """Put the outcome on the last token of the text, whoever wrote it."""
    return joined(value, ours, outcome if ours[-1] else 0.0, gamma, lam)


def at_every_token(value: Row, ours: Ours, outcome: float, gamma: float, lam: float) -> list[float]:
    """Earn the outcome at every token."""
    mine = [v for v, who in zip(value, ours, strict=True) if who]
    return spread_out(g.gae([outcome] * len(mine), mine, gamma, lam), ours)


# -------------------------------------------------------------------------------------------------------- the cases


def cases(rng: Random) -> list[Args]:
    """One turn; two with a reply between; one that ends with a reply; then any."""
    shapes = [["11"], ["101", "11"], ["1001", "110"]]
    shapes += [
        ["".join(rng.choice(("1", "11")) + rng.choice(("", "0", "00")) for _ in range(3)) for _ in range(2)]
        for _ in range(11)
    ]
    out: list[Args] = []
    for number, shape in enumerate(shapes):
        ours = [[c == "1" for c in row] for row in shape]
        value = [[rng.choice((0.125, 0.25, 0.5, 0.75, 0.875)) for _ in row] for row in shape]
        outcome = [1.0 if (i + number) % 2 == 0 else rng.choice((0.0, 1.0)) for i in range(len(shape))]
        out.append((value, ours, outcome, rng.choice((0.9, 0.8)), rng.choice((0.5, 0.25))))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: who wrote each token, and the value before it."""
    value, ours, outcome, gamma, lam = args
    who = [["policy" if mine else "tool" for mine in row] for row in ours]
    ends = [[end] * len(row) for end, row in zip(outcome, ours, strict=True)]
    caption = f"Rollouts, a line a token; gamma = {gamma:g}, lambda = {lam:g} a token."
    return g.step_table(caption, "token", [("written by", who), ("value before", value), ("outcome", ends)], got, want)


def _tool_does_not_matter(args: Args, got: Values, solution: Solution) -> bool:
    value, ours, outcome, gamma, lam = args
    other = [
        [v if mine else v + 3.0 for v, mine in zip(row, who, strict=True)] for row, who in zip(value, ours, strict=True)
    ]
    return same(got, values(solution(other, ours, outcome, gamma, lam)))


def _length_does_not_matter(args: Args, got: Values, solution: Solution) -> bool:
    value, ours, outcome, gamma, lam = args
    keep = [[v for v, mine in zip(row, who, strict=True) if mine] for row, who in zip(value, ours, strict=True)]
    alone = solution(keep, [[True] * len(row) for row in keep], outcome, gamma, lam)
    mine = [[x for x, who in zip(row, them, strict=True) if who] for row, them in zip(got, ours, strict=True)]
    return all(
        abs(float(a) - float(b)) < 1e-3 for p, q in zip(alone, mine, strict=True) for a, b in zip(p, q, strict=True)
    )


ex = Exercise(
    "ex",
    "the advantage of every token",
    cases,
    truth,
    (
        Misconception(
            "tool tokens are steps",
            "You scan all tokens and only then leave the tool's out. Each of them is then a step of time with a value "
            "of its own: a long reply makes the turn before it deaf to the outcome. Several trainers did so.",
            made(all_tokens),
        ),
        Misconception(
            "tool tokens take time",
            "You skip the values of tool tokens but let them fade what comes later. Only the policy's are steps.",
            made(time_passes),
        ),
        Misconception(
            "tool tokens are credited",
            "You give credit to what the tool wrote. The policy did not sample it: it has no gradient to give.",
            made(tool_too),
        ),
        Misconception(
            "cut at the tool",
            "You end the scan where the tool speaks, as if the episode were over there. An outcome then reaches the "
            "last turn alone; a released estimator did this (verl's issue 7278, on returns).",
            made(cut_at_the_tool),
        ),
        Misconception(
            "next value in the text",
            "You take the value before the tool's first token for the next one. Nobody acts there; the next state is "
            "where the policy writes again, and has read the reply.",
            made(next_in_text),
        ),
        Misconception(
            "outcome on a tool token",
            "You put the outcome on the last token of the text. Where the tool has the last word, nobody earns it.",
            made(lost),
        ),
        Misconception(
            "outcome everywhere",
            "You let every token earn the outcome: early tokens are then paid once for each token that follows.",
            made(at_every_token),
        ),
        Misconception(
            "a value after the end",
            "You take the last value for that of the state after the end. Nothing is to come there: V is 0.",
            by(g.past_the_end),
        ),
        Misconception("returns", "You return A + V, which is what the value head is taught.", by(g.returns)),
        Misconception(
            "no lambda",
            "You sum all that follows in full, as with lambda = 1: the values are a baseline and nothing more.",
            by(g.no_lambda),
        ),
        Misconception(
            "one step only",
            "You stop after the next value, as with lambda = 0: nothing but the last token hears of the outcome.",
            by(g.one_step),
        ),
        Misconception(
            "lambda without gamma",
            "You let later surprises fade by lambda alone; they fade by gamma times lambda.",
            by(g.lambda_alone),
        ),
        Misconception(
            "next value in full",
            "You forget gamma on the next value: what is worth v one token on is worth gamma v now.",
            by(g.next_undiscounted),
        ),
        Misconception("sums backwards", "You sum the surprises that came before a token.", by(g.backwards)),
        Misconception(
            "no values",
            "You leave the values out: a sum that fades, the same for a token that helped and one that did not.",
            by(g.valueless),
        ),
        Misconception(
            "value as a baseline only",
            "You let the outcome fade by gamma lambda and subtract the value. What lambda takes from it, the next "
            "values must give back.",
            by(g.baseline_only),
        ),
    ),
    (
        Property("the values at the tool's tokens do not matter", _tool_does_not_matter),
        Property("how long the tool's replies are does not matter", _length_does_not_matter),
    ),
    shown,
    (
        "Leave the tool's tokens out first. What is left is one sequence of steps; where is the outcome earned?",
        "d_t = r_t + gamma V(next sampled token) - V_t; behind the last sampled token V is 0.",
        "A_t = d_t + gamma lambda A of the next sampled token; put the numbers back where the tokens stand.",
    ),
)

hint = hints(ex)
