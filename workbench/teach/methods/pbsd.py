"""PBSD: GRPO's advantage, weighed by how much likelier a turn is once the answer is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

import torch

from workbench.recipes import pbsd
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values
from workbench.teach.method_page import hand, turns
from workbench.teach.table import Table
from workbench.teach.turn_parts import Rows, each, everywhere, hints, outcomes, turn_table

Logs = Sequence[Sequence[Sequence[float]]]


def truth(
    plain: Logs, informed: Logs, outcome: Sequence[float], group: Sequence[str], beta: float, width: float
) -> Rows:
    """Return the credit of every turn, by the library's recipe."""
    sizes = [[len(turn) for turn in row] for row in plain]
    batch = hand(list(group), None, {"outcome": list(outcome)}, [len(row) for row in plain], sizes)
    for name, rows in (("logprob_plain", plain), ("logprob_informed", informed)):
        flat = torch.tensor([x for row in rows for turn in row for x in turn], dtype=torch.float64)
        batch = batch.with_column(name, "token", flat)
    return turns(pbsd(beta=beta, width=width), batch)


# ------------------------------------------------------------------------------------------------------- the parts


def mean_ratio(plain: Sequence[float], informed: Sequence[float]) -> float:
    """Mean over the tokens of log p(token | answer known) - log p(token)."""
    return sum(b - a for a, b in zip(plain, informed, strict=True)) / len(plain)


def sum_ratio(plain: Sequence[float], informed: Sequence[float]) -> float:
    """Their sum."""
    return mean_ratio(plain, informed) * len(plain)


def reversed_ratio(plain: Sequence[float], informed: Sequence[float]) -> float:
    """The wrong way round."""
    return -mean_ratio(plain, informed)


def probability_gap(plain: Sequence[float], informed: Sequence[float]) -> float:
    """Difference of probabilities."""
    return sum(math.exp(b) - math.exp(a) for a, b in zip(plain, informed, strict=True)) / len(plain)


def last_token(plain: Sequence[float], informed: Sequence[float]) -> float:
    """Of the last token alone."""
    return informed[-1] - plain[-1]


def sign(a: float) -> float:
    """-1, 0 or 1."""
    return (a > 0) - (a < 0)


def tilted(a: float, e: float, beta: float, width: float) -> float:
    """a times clip(exp(beta sign(a) e))."""
    return a * min(max(math.exp(beta * sign(a) * e), 1 - width), 1 + width)


def unsigned(a: float, e: float, beta: float, width: float) -> float:
    """Forget the sign of the outcome."""
    return a * min(max(math.exp(beta * e), 1 - width), 1 + width)


def unclipped(a: float, e: float, beta: float, width: float) -> float:
    """Forget the clip."""
    return a * math.exp(beta * sign(a) * e)


def clipped_evidence(a: float, e: float, beta: float, width: float) -> float:
    """Clip the evidence, not the weight."""
    return a * math.exp(beta * sign(a) * min(max(e, -width), width))


def added(a: float, e: float, beta: float, width: float) -> float:
    """Add the evidence."""
    return a + beta * min(max(e, -width), width)


def multiplied(a: float, e: float, beta: float, width: float) -> float:
    """Multiply with the evidence itself."""
    return a * beta * e


def evidence_alone(a: float, e: float, beta: float, width: float) -> float:
    """Leave out the outcome."""
    return min(max(math.exp(beta * e), 1 - width), 1 + width) - 1


def straight(a: float, e: float, beta: float, width: float) -> float:
    """1 + beta e in the place of its exponential."""
    return a * min(max(1 + beta * sign(a) * e, 1 - width), 1 + width)


def whole_rollout(rows: Rows, plain: Logs) -> Rows:
    """The evidence of the rollout on all of its turns."""
    out: Rows = []
    for row, turn in zip(rows, plain, strict=True):
        total = sum((x or 0.0) * len(t) for x, t in zip(row, turn, strict=True)) / sum(len(t) for t in turn)
        out.append([total] * len(row))
    return out


def own_turns(rows: Rows, plain: Logs) -> Rows:
    """Each turn has its own evidence."""
    return rows


def made(
    ratio: Callable[[Sequence[float], Sequence[float]], float] = mean_ratio,
    weigh: Callable[[float, float, float, float], float] = tilted,
    of: Callable[[Rows, Logs], Rows] = own_turns,
    **how: object,
) -> Solution:
    """Return a solution made of these parts; the defaults are right."""

    def solution(
        plain: Logs, informed: Logs, outcome: list[float], group: list[str], beta: float, width: float
    ) -> Rows:
        e: Rows = [[ratio(a, b) for a, b in zip(p, q, strict=True)] for p, q in zip(plain, informed, strict=True)]
        a = outcomes(outcome, group, **{"ddof": 1, "lone": "keep", **how})
        return each(lambda x, y: weigh(x, y, beta, width), everywhere(a, e), of(e, plain))

    return solution


right = made()


def cases(rng: Random) -> list[Args]:
    """One question; equal outcomes; two questions; a rollout alone; then any."""
    shapes = [[("A", 1.0, 2), ("A", 0.0, 2)], [("A", 1.0, 1), ("A", 0.0, 3)]]
    shapes += [
        [("A", 1.0, 2), ("A", 0.0, 1), ("B", 0.0, 2), ("B", 0.0, 2)],
        [("A", 1.0, 2), ("A", 0.0, 2), ("B", 1.0, 2)],
    ]
    for _ in range(9):
        shapes.append(
            [
                (q, r, rng.randint(1, 3))
                for q, r in zip("AAABB", (1.0, 0.0, rng.choice((0.0, 1.0)), 1.0, 0.0), strict=True)
            ]
        )
    out: list[Args] = []
    for shape in shapes:
        plain = [[[-rng.uniform(0.2, 2.0) for _ in range(rng.randint(2, 4))] for _ in range(n)] for _, _, n in shape]
        moves = [rng.choice((-0.6, -0.12, 0.1, 0.25, 0.5)) for _ in range(30)]
        informed = [[[x + rng.choice(moves) * rng.uniform(0.8, 1.2) for x in turn] for turn in row] for row in plain]
        informed = [[[min(x, -0.01) for x in turn] for turn in row] for row in informed]
        out.append((plain, informed, [r for _, r, _ in shape], [q for q, _, _ in shape], rng.choice((1.0, 0.5)), 0.2))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: tokens and mean log-ratio of each turn, and the outcome."""
    plain, informed, outcome, group, beta, width = args
    ratio: Rows = [[mean_ratio(a, b) for a, b in zip(p, q, strict=True)] for p, q in zip(plain, informed, strict=True)]
    sizes: Rows = [[float(len(turn)) for turn in row] for row in plain]
    columns = [("tokens", sizes), ("mean log-ratio", ratio), ("outcome", everywhere(outcome, plain))]
    caption = f"Rollouts, a line a turn; beta = {beta:g}, weights from {1 - width:g} to {1 + width:g}."
    return turn_table(caption, columns, group, got, want)


def _sign_kept(args: Args, got: Values, solution: Solution) -> bool:
    a = outcomes(args[2], args[3], ddof=1, lone="keep")
    return all(x * y >= -1e-6 and (x != 0 or abs(y) < 1e-6) for x, row in zip(a, got, strict=True) for y in row)


ex = Exercise(
    "ex",
    "the credit of every turn",
    cases,
    truth,
    (
        Misconception(
            "sum over tokens",
            "You add the log-ratios of a turn's tokens. The sum grows with the length of the turn, and the clip is "
            "reached by length alone; here it is their mean.",
            made(sum_ratio),
        ),
        Misconception(
            "ratio reversed",
            "You subtract the wrong way round: what knowing the answer makes likelier is what supports it.",
            made(reversed_ratio),
        ),
        Misconception(
            "probabilities",
            "You subtract probabilities. The evidence is a log-ratio: its parts add up to that of the rollout.",
            made(probability_gap),
        ),
        Misconception(
            "last token", "You look at the last token of a turn only; the evidence is of all of them.", made(last_token)
        ),
        Misconception(
            "sign forgotten",
            "You weigh by the evidence whatever the outcome. In a bad rollout it is what undermines the answer that "
            "is punished more, so the sign of the advantage goes into the exponent.",
            made(weigh=unsigned),
        ),
        Misconception(
            "no clip", "You do not clip the weight: one odd turn decides the rollout.", made(weigh=unclipped)
        ),
        Misconception(
            "evidence clipped",
            "You clip the evidence before the exponential. It is the weight that is clipped.",
            made(weigh=clipped_evidence),
        ),
        Misconception(
            "added",
            "You add the evidence to the advantage. Then a sign can flip, and a question of equal outcomes gets "
            "credit; it multiplies.",
            made(weigh=added),
        ),
        Misconception(
            "times the evidence",
            "You multiply with the evidence itself. Where it is 0 nothing is learned, and where it is negative "
            "praise becomes blame; the weight is its exponential, near 1.",
            made(weigh=multiplied),
        ),
        Misconception(
            "evidence alone",
            "You leave the outcome out. The evidence only weighs it; what it does to a policy by itself is another "
            "method.",
            made(weigh=evidence_alone),
        ),
        Misconception(
            "a line", "You weigh with 1 + beta e. It is the exponential, then the clip.", made(weigh=straight)
        ),
        Misconception(
            "evidence of the rollout",
            "You give all turns the evidence of the whole rollout. Each turn has its own; that is the point.",
            made(of=whole_rollout),
        ),
        Misconception(
            "no spread",
            "You do not divide the outcomes by their spread. The host is GRPO.",
            made(divide=False),
        ),
        Misconception(
            "population spread",
            "You divide the squares by n. The host, GRPO, takes the sample's spread, n - 1.",
            made(ddof=0),
        ),
    ),
    (Property("the sign of the outcome's advantage never flips, and 0 stays 0", _sign_kept),),
    shown,
    (
        "The evidence of a turn: log-probability with the answer known, minus without, averaged over its tokens.",
        "The weight: exp(beta times the sign of the advantage times the evidence), clipped to 1 - width .. 1 + width.",
    ),
)

hint = hints(ex)
