"""SPAE: a potential from probes; the outcome counts less once the answer stands, steps towards it are rewarded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

from workbench.recipes import spae
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values, same, values
from workbench.teach.method_page import hand, turns
from workbench.teach.table import Table
from workbench.teach.turn_parts import Rows, each, everywhere, hints, of_batch, outcomes, standard, turn_table

FULL, ALPHA, XI = 0.9, 0.5, 0.5


def truth(accuracy: Rows, confidence: Rows, outcome: Sequence[float], group: Sequence[str]) -> Rows:
    """Return the credit of every step, by the library's recipe (one token a step)."""
    columns = {"step_accuracy": accuracy, "step_confidence": confidence}
    batch = hand(list(group), columns, {"outcome": list(outcome)}, tokens=[[1] * len(row) for row in accuracy])
    return turns(spae(), batch)


# ------------------------------------------------------------------------------------------------------- the parts


def potential(a: float, c: float) -> float:
    """1.5 a c + 0.5 a - c"""
    return 1.5 * a * c + 0.5 * a - c


def accuracy_alone(a: float, c: float) -> float:
    """Forget the confidence."""
    return a


def product(a: float, c: float) -> float:
    """Accuracy times confidence."""
    return a * c


def steps_of(phi: Rows) -> Rows:
    """Change from step to step; 0 at the first."""
    return [[0.0, *((b or 0.0) - (a or 0.0) for a, b in zip(row, row[1:], strict=False))] for row in phi]


def first_too(phi: Rows) -> Rows:
    """Take the first step's potential for its change."""
    return [[(b or 0.0) - (a or 0.0) for a, b in zip([0.0, *row], row, strict=False)] for row in phi]


def levels(phi: Rows) -> Rows:
    """The potential itself."""
    return phi


def earlier(phi: Rows, full: float = FULL) -> Rows:
    """How many earlier steps had a full potential."""
    return [[float(sum((x or 0.0) > full for x in row[:t])) for t in range(len(row))] for row in phi]


def so_far(phi: Rows) -> Rows:
    """Count the step itself, too."""
    return [[float(sum((x or 0.0) > FULL for x in row[: t + 1])) for t in range(len(row))] for row in phi]


def anywhere(phi: Rows) -> Rows:
    """How many steps of the rollout had one."""
    return [[float(sum((x or 0.0) > FULL for x in row))] * len(row) for row in phi]


def none(phi: Rows) -> Rows:
    """Never count."""
    return [[0.0] * len(row) for row in phi]


def shaped(delta: Rows, exponent: bool = True, centred: bool = True, scaled: bool = True) -> Rows:
    """exp(minmax) minus its mean, over the batch."""
    every = [x or 0.0 for row in delta for x in row]
    low, wide = min(every), max(every) - min(every)
    mapped: Rows = [
        [((x or 0.0) - low) / wide if scaled and wide > 0 else 0.0 if scaled else x for x in row] for row in delta
    ]
    out = each(math.exp, mapped) if exponent else mapped
    mean = sum(x or 0.0 for row in out for x in row) / len(every) if centred else 0.0
    return each(lambda x: x - mean, out)


def made(
    phi_of: Callable[[float, float], float] = potential,
    change: Callable[[Rows], Rows] = steps_of,
    count: Callable[[Rows], Rows] = earlier,
    praise_only: bool = False,
    shaping: float = XI,
    alpha: float = ALPHA,
    outcome_divided: bool = False,
    final: bool = True,
    exponent: bool = True,
    scaled: bool = True,
) -> Solution:
    """Return a solution made of these parts; the defaults are right."""

    def solution(accuracy: Rows, confidence: Rows, outcome: list[float], group: list[str]) -> Rows:
        phi = each(phi_of, accuracy, confidence)
        f = each(lambda n: 1 - alpha * (1 - math.exp(-n)), count(phi))
        a = outcomes(outcome, group, divide=outcome_divided, ddof=1)
        g = shaped(change(phi), exponent=exponent, scaled=scaled)

        def one(x: float, y: float, z: float) -> float:
            return x * (1.0 if praise_only and x < 0 else y) + shaping * z

        raw = each(one, everywhere(a, phi), f, g)
        return standard(raw, group, of_batch) if final else raw

    return solution


right = made()


def cases(rng: Random) -> list[Args]:
    """An answer that stands early; a right one abandoned; equal outcomes; two questions; then any."""
    shapes = [
        ([[0.2, 0.98, 0.99], [0.2, 0.5, 0.3]], [[0.3, 0.98, 0.99], [0.4, 0.6, 0.5]], [1.0, 0.0], "AA"),
        ([[0.2, 0.99, 0.1], [0.3, 0.4]], [[0.3, 0.98, 0.9], [0.4, 0.6]], [0.0, 1.0], "AA"),
        ([[0.2, 0.99, 0.99], [0.3, 0.4, 0.2]], [[0.3, 0.98, 0.99], [0.4, 0.6, 0.9]], [1.0, 1.0], "AA"),
    ]
    out: list[Args] = [(a, c, r, list(q)) for a, c, r, q in shapes]
    for _ in range(9):
        group = rng.sample("AAABB", 5)
        sizes = [rng.randint(1, 4) for _ in group]
        accuracy = [[rng.choice((0.1, 0.4, 0.7, 0.98, 0.99)) for _ in range(n)] for n in sizes]
        confidence = [[rng.choice((0.2, 0.6, 0.97, 0.99)) for _ in range(n)] for n in sizes]
        out.append((accuracy, confidence, [rng.choice((0.0, 1.0)) for _ in group], group))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: accuracy, confidence and potential of each step, and the outcome."""
    accuracy, confidence, outcome, group = args
    phi = each(potential, accuracy, confidence)
    columns = [("Acc", accuracy), ("Conf", confidence), ("Phi", phi), ("outcome", everywhere(outcome, phi))]
    table = turn_table("Rollouts, a line a step. Wrong lines are marked.", columns, group, got, want)
    return Table(table.caption, (*table.header[:2], "step", *table.header[3:]), table.rows, table.bad)


def _order(args: Args, got: Values, solution: Solution) -> bool:
    back = values(solution(*(column[::-1] for column in args)))
    return same(tuple(got), back[::-1])


ex = Exercise(
    "ex",
    "the credit of every step",
    cases,
    truth,
    (
        Misconception(
            "accuracy alone",
            "You take accuracy for the potential. Sure and wrong (-1) must be worse than unsure and wrong (0).",
            made(accuracy_alone),
        ),
        Misconception(
            "accuracy times confidence",
            "You multiply accuracy and confidence. Then sure and wrong is as good as unsure and wrong.",
            made(product),
        ),
        Misconception(
            "first step has a change",
            "You take the first step's potential for its change. There is nothing before it: its change is 0.",
            made(change=first_too),
        ),
        Misconception(
            "potential, not change", "You shape with the potential itself, not with its change.", made(change=levels)
        ),
        Misconception(
            "the step itself counted",
            "You count the step itself among those after which the answer stood. Only earlier steps count: the step "
            "that found the answer keeps all of its credit.",
            made(count=so_far),
        ),
        Misconception(
            "all steps counted",
            "You count the full steps of the whole rollout: steps before the answer would be penalised for what came "
            "later.",
            made(count=anywhere),
        ),
        Misconception(
            "no penalty",
            "You do not let the outcome count less after the answer stood: checking it ten times is then rewarded "
            "ten times.",
            made(count=none),
        ),
        Misconception(
            "praise shrinks, blame does not",
            "You shrink praise only. f multiplies the outcome's advantage whatever its sign; so it also protects a "
            "step that abandons a right answer, which is a weakness.",
            made(praise_only=True),
        ),
        Misconception(
            "outcome divided by its spread",
            "You divide outcomes by their spread, as GRPO does. Here they are centred only; the batch is "
            "standardised at the end.",
            made(outcome_divided=True),
        ),
        Misconception(
            "not standardised",
            "You forgot the last step: the credit of the batch is standardised over its tokens.",
            made(final=False),
        ),
        Misconception(
            "no shaping",
            "You left out g, the reward for steps towards the answer: only the outcome is left.",
            made(shaping=0.0),
        ),
        Misconception(
            "no exponential",
            "You left out the exponential of g: large steps are meant to count more than in proportion.",
            made(exponent=False),
        ),
        Misconception(
            "not scaled to 0 .. 1",
            "You take the exponential of the raw change. It is scaled to 0 .. 1 over the batch first.",
            made(scaled=False),
        ),
        Misconception(
            "penalty in full", "You let the outcome vanish after the answer stood (alpha = 1).", made(alpha=1.0)
        ),
    ),
    (Property("the order of the rollouts does not matter", _order),),
    shown,
    (
        "Phi = 1.5 Acc Conf + 0.5 Acc - Conf for every step; its change (0 at the first); how many EARLIER steps had "
        "Phi > 0.9.",
        "f = 1 - 0.5 (1 - exp(-count)); g = exp(change scaled to 0 .. 1 over the batch) minus its batch mean.",
        "(R - mean of the question) f + 0.5 g, then over the whole batch: minus the mean, over the population's "
        "spread.",
    ),
)

hint = hints(ex)
