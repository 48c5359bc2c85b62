"""Hindsight credit: how much likelier a turn is once the end is known, times how it ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

import torch

from workbench.recipes import hindsight
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values
from workbench.teach.method_page import hand, turns
from workbench.teach.table import Table
from workbench.teach.turn_parts import Row, Rows, clear, each, everywhere, hints, outcomes, turn_table

Logs = Sequence[Sequence[Sequence[float]]]
"""Log-probability of each token, by rollout and turn."""


def truth(
    plain: Logs, told: Logs, outcome: Sequence[float], group: Sequence[str], bound: float
) -> list[list[float | None]]:
    """Return the credit of every turn, by the library's recipe."""
    sizes = [[len(turn) for turn in row] for row in plain]
    batch = hand(list(group), None, {"outcome": list(outcome)}, [len(row) for row in plain], sizes)
    for name, rows in (("logprob_plain", plain), ("logprob_informed", told)):
        flat = torch.tensor([x for row in rows for turn in row for x in turn], dtype=torch.float64)
        batch = batch.with_column(name, "token", flat)
    return turns(hindsight(bound=bound), batch)


# ------------------------------------------------------------------------------------------------------- the parts


def kept(x: float, bound: float) -> float:
    """Keep a number in [-bound, bound]."""
    return min(max(x, -bound), bound)


def of_turns(ratio: Callable[[Sequence[float], Sequence[float], float], float]) -> Callable[[Logs, Logs, float], Rows]:
    """Return l of every turn, from its tokens alone."""

    def ratios(plain: Logs, told: Logs, bound: float) -> Rows:
        return [[ratio(p, q, bound) for p, q in zip(a, b, strict=True)] for a, b in zip(plain, told, strict=True)]

    return ratios


def total(plain: Sequence[float], told: Sequence[float], bound: float) -> float:
    """log h - log pi of a turn, within the bound."""
    return kept(sum(told) - sum(plain), bound)


def unbounded(plain: Sequence[float], told: Sequence[float], bound: float) -> float:
    """Without the bound."""
    return sum(told) - sum(plain)


def mean(plain: Sequence[float], told: Sequence[float], bound: float) -> float:
    """Mean over the tokens."""
    return kept((sum(told) - sum(plain)) / len(plain), bound)


def token_by_token(plain: Sequence[float], told: Sequence[float], bound: float) -> float:
    """The bound for each token, then the sum."""
    return sum(kept(q - p, bound) for p, q in zip(plain, told, strict=True))


def last_token(plain: Sequence[float], told: Sequence[float], bound: float) -> float:
    """Of the last token alone."""
    return kept(told[-1] - plain[-1], bound)


def mean_probability(plain: Sequence[float], told: Sequence[float], bound: float) -> float:
    """Ratio of mean probabilities of a token."""
    return kept(math.log(sum(map(math.exp, told)) / sum(map(math.exp, plain))), bound)


def of_rollout(plain: Logs, told: Logs, bound: float) -> Rows:
    """One ratio for all turns of a rollout: that of the whole."""
    sums = [sum(map(sum, b)) - sum(map(sum, a)) for a, b in zip(plain, told, strict=True)]
    return everywhere([kept(s, bound) for s in sums], plain)


def factor(x: float, bound: float) -> float:
    """1 - pi / h."""
    return 1 - math.exp(-x)


def upside_down(x: float, bound: float) -> float:
    """1 - h / pi."""
    return 1 - math.exp(x)


def minus_one(x: float, bound: float) -> float:
    """h / pi - 1."""
    return math.exp(x) - 1


def ratio_alone(x: float, bound: float) -> float:
    """h / pi."""
    return math.exp(x)


def logarithm(x: float, bound: float) -> float:
    """log h - log pi."""
    return x


def bound_late(x: float, bound: float) -> float:
    """The bound on the factor."""
    return kept(factor(x, bound), bound)


def praise_alone(x: float, bound: float) -> float:
    """Nothing below 0."""
    return max(factor(x, bound), 0.0)


def raw(outcome: Sequence[float], group: Sequence[str]) -> list[float]:
    """R as it is."""
    return list(outcome)


def compared(outcome: Sequence[float], group: Sequence[str]) -> list[float]:
    """R, compared within the question."""
    return outcomes(outcome, group, ddof=1, lone="keep")


def centred(outcome: Sequence[float], group: Sequence[str]) -> list[float]:
    """R, less its mean in the question."""
    return outcomes(outcome, group, divide=False)


def both_signs(outcome: Sequence[float], group: Sequence[str]) -> list[float]:
    """-1 for a failure."""
    return [2 * r - 1 for r in outcome]


def no_outcome(outcome: Sequence[float], group: Sequence[str]) -> list[float]:
    """Leave R out."""
    return [1.0] * len(outcome)


SUMMED = of_turns(total)


def made(
    evidence: Callable[[Logs, Logs, float], Rows] = SUMMED,
    weigh: Callable[[float, float], float] = factor,
    worth: Callable[[Sequence[float], Sequence[str]], list[float]] = raw,
) -> Solution:
    """Return a solution made of these parts; the defaults are right."""

    def solution(plain: Logs, told: Logs, outcome: list[float], group: list[str], bound: float) -> Rows:
        rows = each(lambda x: weigh(x, bound), evidence(plain, told, bound))
        return each(lambda r, f: r * f, everywhere(worth(outcome, group), rows), rows)

    return solution


right = made()


# -------------------------------------------------------------------------------------------------------- the cases


def cases(rng: Random) -> list[Args]:
    """One turn of two tokens; a failure beside it; a turn that is as likely as before; then any, many at the bound."""
    shapes: list[list[tuple[str, float, int]]] = [
        [("A", 1.0, 1)],
        [("A", 1.0, 2), ("A", 0.0, 1)],
        [("A", 1.0, 3), ("A", 0.0, 2)],
        [("A", 1.0, 2), ("A", 0.0, 2), ("B", 1.0, 2)],
    ]
    for _ in range(10):
        shapes.append([(q, rng.choice((0.0, 1.0, 1.0, 0.5)), rng.randint(1, 3)) for q in "AAABB"[: rng.randint(2, 5)]])
    out: list[Args] = []
    for number, shape in enumerate(shapes):
        plain = [[[-rng.uniform(0.4, 2.0) for _ in range(rng.randint(2, 4))] for _ in range(n)] for _, _, n in shape]
        told = [[_told(rng, turn, number == 2 and k == 1) for k, turn in enumerate(row)] for row in plain]
        group, outcome = [q for q, _, _ in shape], [r for _, r, _ in shape]
        out.append((plain, told, outcome, group, rng.choice((1.0, 0.6))))
    return out


def _told(rng: Random, turn: Sequence[float], same: bool) -> list[float]:
    lean = rng.choice((-1.0, 1.0, 1.0))
    moves: Row = [0.0 if same else lean * rng.choice((0.1, 0.25, 0.5)) + rng.choice((-0.15, 0.15)) for _ in turn]
    return [min(x + (m or 0.0), -0.01) for x, m in zip(turn, moves, strict=True)]


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: tokens and summed log-ratio of each turn, and the outcome."""
    plain, told, outcome, group, bound = args
    sums = of_turns(unbounded)(plain, told, bound)
    sizes: Rows = [[float(len(turn)) for turn in row] for row in plain]
    columns = [("tokens", sizes), ("log h - log pi", sums), ("outcome", everywhere(outcome, plain))]
    return turn_table(f"A line a turn; bound = {bound:g}. Wrong lines are marked.", columns, group, got, want)


def _failures_are_zero(args: Args, got: Values, solution: Solution) -> bool:
    return all(r != 0 or all(abs(x) < 1e-6 for x in row) for r, row in zip(args[2], got, strict=True))


def _sign_of_ratio(args: Args, got: Values, solution: Solution) -> bool:
    plain, told, _, _, bound = args
    sums = of_turns(unbounded)(plain, told, bound)
    pairs = [(s or 0.0, x) for a, b in zip(sums, got, strict=True) for s, x in zip(a, b, strict=True)]
    return all(s * x >= -1e-6 and (abs(s) > 1e-9 or abs(x) < 1e-6) for s, x in pairs)


def _least(args: Args, got: Values, solution: Solution) -> bool:
    bound = args[4]
    return all(1 - math.exp(bound) - 1e-3 <= x <= 1 - math.exp(-bound) + 1e-3 for row in got for x in row)


ex = Exercise(
    "ex",
    "the credit of every turn, in hindsight",
    clear(cases, truth),
    truth,
    (
        Misconception(
            "upside down",
            "You take 1 - h / pi. It is 1 - pi / h: a turn that is likelier in hindsight is praised.",
            made(weigh=upside_down),
        ),
        Misconception(
            "h over pi, less one",
            "You take h / pi - 1. That weighs an action which is drawn from nowhere; for one that was sampled and led "
            "to this end, the factor is 1 - pi / h, which is never above 1.",
            made(weigh=minus_one),
        ),
        Misconception(
            "the ratio alone",
            "You take h / pi. A turn as likely as before would get all of the outcome; it has earned none.",
            made(weigh=ratio_alone),
        ),
        Misconception(
            "the logarithm",
            "You take log h - log pi. Near 0 it is close to 1 - pi / h; far from it praise has no end and blame is "
            "too small.",
            made(weigh=logarithm),
        ),
        Misconception(
            "no bound",
            "You do not keep the log-ratio within the bound: one turn that is unlikely in hindsight outweighs the "
            "batch.",
            made(of_turns(unbounded)),
        ),
        Misconception(
            "bound on the factor",
            "You keep the factor within the bound. It is the log-ratio that is kept; the factor then lies between "
            "1 - exp(bound) and 1 - exp(-bound).",
            made(of_turns(unbounded), bound_late),
        ),
        Misconception(
            "bound for each token",
            "You keep each token within the bound and sum. A long turn then goes far beyond it.",
            made(of_turns(token_by_token)),
        ),
        Misconception(
            "mean over tokens",
            "You take the mean over the tokens. The probability of a turn is a product, its logarithm a sum; PBSD "
            "takes the mean, and pays for it with another meaning.",
            made(of_turns(mean)),
        ),
        Misconception(
            "last token",
            "You look at the last token alone. All tokens of the turn were chosen.",
            made(of_turns(last_token)),
        ),
        Misconception(
            "mean probability",
            "You compare mean probabilities of tokens. Those of a turn are multiplied.",
            made(of_turns(mean_probability)),
        ),
        Misconception(
            "the whole rollout",
            "You give all turns the ratio of the whole rollout. Each turn has its own.",
            made(of_rollout),
        ),
        Misconception(
            "no outcome",
            "You leave the outcome out. What ended in failure is then praised for being what a good end makes "
            "likelier.",
            made(worth=no_outcome),
        ),
        Misconception(
            "failure is -1",
            "You count a failure as -1. Its return is 0, and so is its credit: with 0 nothing is said of how it came "
            "about.",
            made(worth=both_signs),
        ),
        Misconception(
            "compared with the question",
            "You compare the outcome within the question first. The factor is the comparison: with the true h it "
            "makes an advantage of the return.",
            made(worth=compared),
        ),
        Misconception(
            "mean of the question taken off",
            "You subtract the mean of the question from the outcome. The factor has its baseline inside: 1 - pi / h.",
            made(worth=centred),
        ),
        Misconception(
            "praise alone",
            "You cut what is below 0. A turn that is less likely in hindsight is blamed even where it ended well.",
            made(weigh=praise_alone),
        ),
    ),
    (
        Property("a failed rollout (outcome 0) gets 0", _failures_are_zero),
        Property("credit has the sign of log h - log pi, and is 0 where that is", _sign_of_ratio),
        Property("credit stays between 1 - exp(bound) and 1 - exp(-bound)", _least),
    ),
    shown,
    (
        "One number a turn first: the log-probabilities of its tokens when told, summed, minus those when not.",
        "Keep it within -bound .. bound; call it l.",
        "The credit is the outcome times 1 - exp(-l).",
    ),
)

hint = hints(ex)
