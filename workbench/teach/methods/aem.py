"""AEM: GRPO's advantage, weighed turn by turn by how sure the policy was."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

import torch

from workbench.recipes import aem
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values
from workbench.teach.method_page import hand, turns
from workbench.teach.table import Table
from workbench.teach.turn_parts import Rows, each, everywhere, hints, outcomes, turn_table

Entropies = Sequence[Sequence[Sequence[float]]]
LEAST = 0.1


def truth(entropy: Entropies, outcome: Sequence[float], group: Sequence[str], rate: float) -> Rows:
    """Return the credit of every turn, by the library's recipe."""
    sizes = [[len(turn) for turn in row] for row in entropy]
    batch = hand(list(group), None, {"outcome": list(outcome)}, [len(row) for row in entropy], sizes)
    flat = torch.tensor([x for row in entropy for turn in row for x in turn], dtype=torch.float64)
    return turns(aem(rate=rate), batch.with_column("token_entropy", "token", flat))


# ------------------------------------------------------------------------------------------------------- the parts

Pool = Callable[[int, Sequence[str]], object]


def of_question(i: int, group: Sequence[str]) -> object:
    """Weigh among all turns of the question."""
    return group[i]


def of_rollout(i: int, group: Sequence[str]) -> object:
    """Weigh among the turns of the rollout."""
    return i


def of_batch(i: int, group: Sequence[str]) -> object:
    """Weigh among all turns of the batch."""
    return 0


def mean_entropy(entropy: Entropies) -> Rows:
    """Mean over the tokens of each turn."""
    return [[sum(turn) / len(turn) for turn in row] for row in entropy]


def total_entropy(entropy: Entropies) -> Rows:
    """Sum over the tokens of each turn."""
    return [[sum(turn) for turn in row] for row in entropy]


def last_entropy(entropy: Entropies) -> Rows:
    """Entropy of the last token of each turn."""
    return [[turn[-1] for turn in row] for row in entropy]


def falling(h: float, rate: float) -> float:
    """exp(-rate h)"""
    return math.exp(-rate * h)


def rising(h: float, rate: float) -> float:
    """exp(rate h), the wrong way round."""
    return math.exp(rate * h)


def straight(h: float, rate: float) -> float:
    """1 - rate h / 2, a line."""
    return 1 - rate * h / 2


def weights(
    entropy: Entropies,
    group: Sequence[str],
    rate: float,
    of: Callable[[Entropies], Rows] = mean_entropy,
    pool: Pool = of_question,
    curve: Callable[[float, float], float] = falling,
    scaled: bool = True,
    least: float = LEAST,
    centre: str = "turns",
) -> Rows:
    """The weight of each turn; `centre` says whose mean is 1: "turns", "tokens", "" (nobody's), "sum" (the sum is)."""
    rows = of(entropy)
    out: Rows = [[0.0] * len(row) for row in rows]
    for key in {pool(i, group) for i in range(len(rows))}:
        mine = [i for i in range(len(rows)) if pool(i, group) == key]
        values = [x or 0.0 for i in mine for x in rows[i]]
        low, wide = min(values), max(values) - min(values)
        flat = wide < least or wide == 0

        def one(x: float, low: float = low, wide: float = wide, flat: bool = flat) -> float:
            return 1.0 if flat else curve((x - low) / wide if scaled else x, rate)

        raw = [[one(x or 0.0) for x in rows[i]] for i in mine]
        by = [[len(turn) if centre == "tokens" else 1 for turn in entropy[i]] for i in mine]
        mass = sum(n for row in by for n in row)
        total = sum(w * n for ws, ns in zip(raw, by, strict=True) for w, n in zip(ws, ns, strict=True))
        divisor = {"": 1.0, "sum": total}.get(centre, total / mass)
        for i, row in zip(mine, raw, strict=True):
            out[i] = [w / divisor for w in row]
    return out


def made(praise_only: bool = False, added: bool = False, ddof: int = 1, **how: object) -> Solution:
    """Return a solution made of these parts; the defaults are right."""

    def solution(entropy: Entropies, outcome: list[float], group: list[str], rate: float) -> Rows:
        a = outcomes(outcome, group, ddof=ddof, lone="keep")
        w = weights(entropy, group, rate, **how)  # type: ignore[arg-type]

        def one(advantage: float, weight: float) -> float:
            if added:
                return advantage + weight - 1
            return advantage if praise_only and advantage < 0 else advantage * weight

        return each(one, everywhere(a, w), w)

    return solution


right = made()


def cases(rng: Random) -> list[Args]:
    """One question; turns of unlike lengths; entropies that hardly differ; two questions; then any."""

    def turn(level: float) -> list[float]:
        return [max(0.0, level + rng.uniform(-0.05, 0.05)) for _ in range(rng.randint(1, 6))]

    levels = (0.05, 0.3, 0.7, 1.2, 1.8)
    shapes: list[list[tuple[str, list[float], float]]] = [
        [("A", [0.1, 1.2], 1.0), ("A", [0.9], 0.0)],
        [("A", [0.4, 1.2], 1.0), ("A", [0.1, 0.9, 0.6], 0.0)],
        [("A", [0.5, 0.52], 1.0), ("A", [0.51, 0.5], 0.0)],
        [("A", [0.1, 1.2], 1.0), ("A", [0.9], 0.0), ("B", [1.9, 0.6], 0.0), ("B", [1.2], 1.0)],
    ]
    for _ in range(9):
        group = "AAABB"
        ends = rng.sample([1.0, 0.0, 0.0], 3) + [1.0, 0.0]
        drawn = [[rng.choice(levels) for _ in range(rng.randint(1, 3))] for _ in group]
        shapes.append(list(zip(group, drawn, ends, strict=True)))
    out: list[Args] = []
    for number, shape in enumerate(shapes):
        narrow = number == 2
        rows = [[[x] * rng.randint(1, 6) if narrow else turn(x) for x in levels_of] for _, levels_of, _ in shape]
        out.append((rows, [r for _, _, r in shape], [q for q, _, _ in shape], rng.choice((1.0, 2.0))))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: tokens and mean entropy of each turn, and the outcome."""
    entropy, outcome, group, rate = args
    sizes: Rows = [[float(len(turn)) for turn in row] for row in entropy]
    columns = [("tokens", sizes), ("mean entropy", mean_entropy(entropy)), ("outcome", everywhere(outcome, entropy))]
    return turn_table(f"Rollouts, a line a turn; lambda = {rate:g}. Wrong lines are marked.", columns, group, got, want)


def _sign_kept(args: Args, got: Values, solution: Solution) -> bool:
    a = outcomes(args[1], args[2], ddof=1, lone="keep")
    return all(x * y >= -1e-6 for x, row in zip(a, got, strict=True) for y in row)


ex = Exercise(
    "ex",
    "the credit of every turn",
    cases,
    truth,
    (
        Misconception(
            "unsure turns count more",
            "You weigh unsure turns more. AEM weighs sure ones more, for praise and for blame; with the sign flipped "
            "the gain is lost (the authors' ablation).",
            made(curve=rising),
        ),
        Misconception(
            "mean over tokens",
            "You make the mean weight 1 over tokens. Long turns then move everybody's weight; the mean is over turns.",
            made(centre="tokens"),
        ),
        Misconception(
            "weights sum to one",
            "You make the weights of a question sum to 1. Their mean is 1, so that the size of the update stays.",
            made(centre="sum"),
        ),
        Misconception(
            "weights not centred",
            "You forgot to divide by the mean weight: every step gets smaller.",
            made(centre=""),
        ),
        Misconception(
            "inside the rollout",
            "You compare entropies inside one rollout. The pool is all turns of all rollouts of the question; the "
            "narrower pool does worse (the authors' ablation).",
            made(pool=of_rollout),
        ),
        Misconception(
            "whole batch",
            "You compare entropies across questions: a hard question would weigh less for being hard.",
            made(pool=of_batch),
        ),
        Misconception(
            "entropy not scaled",
            "You use the entropy in nats. It is first scaled to 0 .. 1 between the least and the most of the question.",
            made(scaled=False),
        ),
        Misconception(
            "no threshold",
            "You scale entropies that hardly differ. Where they are less than 0.1 apart every weight is 1; else "
            "noise is blown up to the full range.",
            made(least=0.0),
        ),
        Misconception(
            "sum of entropies",
            "You add the entropies of a turn's tokens. A long turn would look unsure for being long; it is their mean.",
            made(of=total_entropy),
        ),
        Misconception(
            "last token", "You take the entropy of the last token of a turn; it is their mean.", made(of=last_entropy)
        ),
        Misconception(
            "a line",
            "You weigh along a straight line. The weight is the exponential exp(-lambda h).",
            made(curve=straight),
        ),
        Misconception(
            "praise only",
            "You weigh praise and leave blame as it is. Sure turns are also blamed more: that is what makes the "
            "policy explore where it was sure and wrong.",
            made(praise_only=True),
        ),
        Misconception(
            "added",
            "You add the weight to the advantage. It multiplies: an advantage of 0 stays 0, and no sign flips.",
            made(added=True),
        ),
        Misconception(
            "population spread",
            "You divide the squares of the outcomes by n. The host, GRPO, takes the sample's spread.",
            made(ddof=0),
        ),
    ),
    (Property("the sign of the outcome's advantage never flips", _sign_kept),),
    shown,
    (
        "One entropy a turn first: the mean of its tokens. Then the least and the most of the whole question.",
        "h = (H - least) / (most - least); e = exp(-lambda h); the weight is e over the mean of e, over the "
        "question's turns.",
        "Multiply GRPO's advantage of the rollout with the weight of the turn; less than 0.1 apart: every weight is 1.",
    ),
)

hint = hints(ex)
