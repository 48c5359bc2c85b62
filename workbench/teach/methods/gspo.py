"""GSPO: one importance ratio a rollout, clipped; the loss of every token before it is averaged."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

import torch

from workbench.losses import clipped_surrogate, importance_ratio
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values, same, values
from workbench.teach.table import Table
from workbench.teach.turn_parts import Rows, everywhere, hints, turn_table

Logs = Sequence[Sequence[float]]


def truth(new: Logs, old: Logs, advantage: Sequence[float], low: float, high: float) -> list[list[float]]:
    """Return the clipped loss of every token, by the library's equations."""
    out = []
    for a, b, credit in zip(new, old, advantage, strict=True):
        rollout = torch.zeros(len(a), dtype=torch.int64)
        ratio = importance_ratio(torch.tensor(a).double(), torch.tensor(b).double(), rollout)
        edges = torch.tensor(low).double(), torch.tensor(high).double()
        out.append(clipped_surrogate(ratio, torch.full_like(ratio, credit), *edges, None).tolist())
    return out


# ------------------------------------------------------------------------------------------------------- the parts

Ratios = Callable[[Sequence[float], Sequence[float]], list[float]]


def geometric(new: Sequence[float], old: Sequence[float]) -> list[float]:
    """exp of the mean log-ratio, for every token."""
    return [math.exp((sum(new) - sum(old)) / len(new))] * len(new)


def product(new: Sequence[float], old: Sequence[float]) -> list[float]:
    """The product of all token ratios."""
    return [math.exp(sum(new) - sum(old))] * len(new)


def arithmetic(new: Sequence[float], old: Sequence[float]) -> list[float]:
    """The mean of the token ratios."""
    return [sum(math.exp(a - b) for a, b in zip(new, old, strict=True)) / len(new)] * len(new)


def by_token(new: Sequence[float], old: Sequence[float]) -> list[float]:
    """Each token's own."""
    return [math.exp(a - b) for a, b in zip(new, old, strict=True)]


def upside_down(new: Sequence[float], old: Sequence[float]) -> list[float]:
    """Old over new."""
    return [1 / r for r in geometric(new, old)]


def of_sums(new: Sequence[float], old: Sequence[float]) -> list[float]:
    """Sum of new probabilities over sum of old ones."""
    return [sum(map(math.exp, new)) / sum(map(math.exp, old))] * len(new)


def last_token(new: Sequence[float], old: Sequence[float]) -> list[float]:
    """The last token's, for all."""
    return [math.exp(new[-1] - old[-1])] * len(new)


def log_ratio(new: Sequence[float], old: Sequence[float]) -> list[float]:
    """Forget the exponential."""
    return [1 + (sum(new) - sum(old)) / len(new)] * len(new)


def pessimistic(a: float, r: float, low: float, high: float) -> float:
    """The larger of both losses."""
    return max(-a * r, -a * min(max(r, 1 - low), 1 + high))


def optimistic(a: float, r: float, low: float, high: float) -> float:
    """The smaller of both losses."""
    return min(-a * r, -a * min(max(r, 1 - low), 1 + high))


def clip_alone(a: float, r: float, low: float, high: float) -> float:
    """The clipped ratio always."""
    return -a * min(max(r, 1 - low), 1 + high)


def no_clip(a: float, r: float, low: float, high: float) -> float:
    """No clip."""
    return -a * r


def wide_clip(a: float, r: float, low: float, high: float) -> float:
    """GRPO's clip."""
    return pessimistic(a, r, 0.2, 0.2)


def sides_swapped(a: float, r: float, low: float, high: float) -> float:
    """The widths of both sides exchanged."""
    return pessimistic(a, r, high, low)


def sign_lost(a: float, r: float, low: float, high: float) -> float:
    """The objective in the place of the loss."""
    return -pessimistic(a, r, low, high)


def made(
    ratios: Ratios = geometric,
    loss: Callable[[float, float, float, float], float] = pessimistic,
    over: Callable[[list[float]], list[float]] = list,
) -> Solution:
    """Return a solution made of these parts; the defaults are right."""

    def solution(new: Logs, old: Logs, advantage: list[float], low: float, high: float) -> Rows:
        rows = zip(new, old, advantage, strict=True)
        return [over([loss(x, r, low, high) for r in ratios(a, b)]) for a, b, x in rows]  # type: ignore[misc]

    return solution


def shared(row: list[float]) -> list[float]:
    """Divide by the length, which comes in again with the average."""
    return [x / len(row) for x in row]


right = made()


def cases(rng: Random) -> list[Args]:
    """Rollouts that moved a little and a lot, up and down, praised and blamed; wide clips, so that numbers are "
    "seen."""
    out: list[Args] = []
    for number in range(14):
        size = 1 if number < 4 else rng.randint(2, 4)
        moves = [
            (0.6, -0.6, 0.05, -0.05)[number % 4] if number < 4 else rng.choice((0.6, -0.6, 0.05)) for _ in range(size)
        ]
        old = [[-rng.uniform(0.5, 2.5) for _ in range(rng.randint(2, 5))] for _ in moves]
        new = [[x + m + rng.uniform(-0.3, 0.3) for x in row] for row, m in zip(old, moves, strict=True)]
        signs = [(-1) ** (number // 2) if number < 4 else rng.choice((-1, 1)) for _ in moves]
        out.append((new, old, [s * round(rng.uniform(0.5, 1.5), 2) for s in signs], 0.1, 0.3))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case, one line a token."""
    new, old, advantage, low, high = args
    columns = [("log p old", old), ("log p new", new), ("advantage", everywhere(advantage, new))]
    caption = f"Tokens of rollouts; the clip is from {1 - low:g} to {1 + high:g}. Wrong lines are marked."
    table = turn_table(caption, columns, [""] * len(new), got, want)
    rows = tuple((row[0], *row[2:]) for row in table.rows)
    return Table(table.caption, (table.header[0], "token", *table.header[3:]), rows, table.bad)


def _at_one(args: Args, got: Values, solution: Solution) -> bool:
    _, old, advantage, low, high = args
    still = values(solution(old, old, advantage, low, high))
    return same(still, tuple(tuple(-a for _ in row) for a, row in zip(advantage, old, strict=True)))


ex = Exercise(
    "ex",
    "the loss of every token",
    cases,
    truth,
    (
        Misconception(
            "product of the ratios",
            "You multiply the token ratios. The product leaves any clip within a few tokens; GSPO takes their "
            "geometric mean.",
            made(product),
        ),
        Misconception(
            "mean of the ratios",
            "You average the token ratios. It is the mean of their logarithms: the geometric mean.",
            made(arithmetic),
        ),
        Misconception(
            "a ratio for each token",
            "You give each token its own ratio: that is GRPO. What is rewarded is the rollout, so that is what has a "
            "ratio.",
            made(by_token),
        ),
        Misconception(
            "ratio upside down", "You divide old by new; the ratio says how much likelier it is now.", made(upside_down)
        ),
        Misconception(
            "probabilities summed",
            "You divide sums of probabilities. The sum of the probabilities of successive tokens is the probability of "
            "nothing.",
            made(of_sums),
        ),
        Misconception(
            "last token", "You take the ratio of the last token for all; all tokens are in it.", made(last_token)
        ),
        Misconception("no exponential", "You forgot the exponential of the mean log-ratio.", made(log_ratio)),
        Misconception(
            "clip alone",
            "You use the clipped ratio always. What moved the wrong way then never comes back.",
            made(loss=clip_alone),
        ),
        Misconception("no clip", "You do not clip the ratio of the rollout.", made(loss=no_clip)),
        Misconception(
            "min for max",
            "You take the smaller loss. Papers write a minimum of objectives; a loss is minus that, so it is the "
            "maximum.",
            made(loss=optimistic),
        ),
        Misconception(
            "GRPO's clip",
            "You clip to 0.8 and 1.2 whatever is given. A mean over many tokens moves far less than one of them: "
            "in GRPO's clip hardly any rollout is ever stopped.",
            made(loss=wide_clip),
        ),
        Misconception(
            "sides exchanged", "You exchange the two widths of the clip: `low` is below 1.", made(loss=sides_swapped)
        ),
        Misconception(
            "sign lost",
            "You return the objective, which is to be maximised; a loss is minus that.",
            made(loss=sign_lost),
        ),
        Misconception(
            "length twice",
            "You divide by the length of the rollout. The mean over its tokens is taken later; it would come in twice.",
            made(over=shared),
        ),
    ),
    (Property("where nothing moved (new = old), the loss of a token is minus its advantage", _at_one),),
    shown,
    (
        "One number a rollout first: the mean over its tokens of log p new - log p old; then its exponential.",
        "Then PPO's loss with that ratio for every token: the larger of the plain and the clipped one.",
    ),
)

hint = hints(ex)
