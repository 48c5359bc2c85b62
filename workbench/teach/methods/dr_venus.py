"""DR-Venus: gains at scored turns, penalties for malformed ones, one scale for the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import torch

from workbench.recipes import dr_venus
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values
from workbench.teach.method_page import hand, turns
from workbench.teach.table import Table
from workbench.teach.turn_parts import (
    Rows,
    at_last,
    clear,
    either,
    filled,
    hints,
    outcomes,
    so_far,
    standard,
    to_go,
    turn_table,
    undiscounted,
)

Flags = Sequence[Sequence[int]]
FLOOR, MOST = 0.3, 10.0


def truth(gain: Rows, bad: Flags, outcome: Sequence[float], group: Sequence[str], gamma: float) -> Rows:
    """Return the credit of every turn, by the library's recipe."""
    beliefs: Rows = []
    for row in gain:
        now, told = 0.0, []
        for x in row:
            now += x or 0.0
            told.append(now)
        beliefs.append([*told, None])
    batch = hand(group, {"gold_logprob": beliefs}, {"gold_logprob_start": [0.0] * len(gain), "outcome": list(outcome)})
    called = torch.tensor([x is not None for row in gain for x in (*row, None)])
    broken = torch.tensor([float(b) for row in bad for b in row], dtype=torch.float64)
    batch = batch.with_column("called_visit", "turn", called).with_column("bad_format", "turn", broken)
    return turns(dr_venus(gamma=gamma, tool="visit", kl=0.0), batch)


# ------------------------------------------------------------------------------------------------------- the parts


def replaced(gain: Rows, bad: Flags, outcome: Sequence[float]) -> tuple[Rows, list[float]]:
    """Put -1 in the place of a malformed turn's gain and of a malformed answer's outcome."""
    gains: Rows = [
        [-1.0 if b else x for x, b in zip(row, flags, strict=False)] for row, flags in zip(gain, bad, strict=True)
    ]
    return gains, [-1.0 if flags[-1] else r for r, flags in zip(outcome, bad, strict=True)]


def added(gain: Rows, bad: Flags, outcome: Sequence[float]) -> tuple[Rows, list[float]]:
    """Take 1 off."""
    gains: Rows = [
        [-1.0 if b and x is None else x if x is None else x - b for x, b in zip(row, flags, strict=False)]
        for row, flags in zip(gain, bad, strict=True)
    ]
    return gains, [r - flags[-1] for r, flags in zip(outcome, bad, strict=True)]


def turns_only(gain: Rows, bad: Flags, outcome: Sequence[float]) -> tuple[Rows, list[float]]:
    """Leave malformed answers their outcome."""
    return replaced(gain, bad, outcome)[0], list(outcome)


def answers_only(gain: Rows, bad: Flags, outcome: Sequence[float]) -> tuple[Rows, list[float]]:
    """Leave malformed turns their gain."""
    return gain, replaced(gain, bad, outcome)[1]


def nothing(gain: Rows, bad: Flags, outcome: Sequence[float]) -> tuple[Rows, list[float]]:
    """Do not look at the format."""
    return gain, list(outcome)


def zeros(gain: Rows, bad: Flags, outcome: Sequence[float]) -> tuple[Rows, list[float]]:
    """Take an unscored turn for a gain of 0."""
    gains, ends = replaced(gain, bad, outcome)
    return [[0.0 if x is None else x for x in row] for row in gains], ends


def mean_size(rows: Rows) -> float:
    """Mean of the absolute values that are known."""
    every = [abs(x) for row in rows for x in row if x is not None]
    return sum(every) / len(every) if every else 0.0


def scale(z: Rows, ends: Sequence[float], floor: float = FLOOR) -> float:
    """Make gains as large as outcomes, in the whole batch."""
    return min(MOST, max(floor, sum(abs(x) for x in ends) / len(ends)) / (mean_size(z) + 1e-6))


def of_batch(z: Rows, ends: Sequence[float], group: Sequence[str]) -> Rows:
    """One scale for the batch."""
    s = scale(z, ends)
    return [[None if x is None else s * x for x in row] for row in z]


def of_question(z: Rows, ends: Sequence[float], group: Sequence[str]) -> Rows:
    """A scale for each question."""
    out = []
    for i, row in enumerate(z):
        mine = [k for k, g in enumerate(group) if g == group[i]]
        s = scale([z[k] for k in mine], [ends[k] for k in mine])
        out.append([None if x is None else s * x for x in row])
    return out


def no_scale(z: Rows, ends: Sequence[float], group: Sequence[str]) -> Rows:
    """Leave the gains as they are."""
    return z


def no_floor(z: Rows, ends: Sequence[float], group: Sequence[str]) -> Rows:
    """Forget the floor."""
    s = scale(z, ends, 0.0)
    return [[None if x is None else s * x for x in row] for row in z]


def upside_down(z: Rows, ends: Sequence[float], group: Sequence[str]) -> Rows:
    """Divide by the scale."""
    s = scale(z, ends)
    return [[None if x is None else x / s for x in row] for row in z]


def gap_counts(rows: Rows, gamma: float) -> Rows:
    """An unscored turn is a discount step of its own."""
    return to_go([[0.0 if x is None else x for x in row] for row in rows], gamma)


def backwards(rows: Rows, gamma: float) -> Rows:
    """Sum what came before."""
    return [list(row) for row in filled(so_far(rows, gamma))]


def made(
    broken: Callable[..., tuple[Rows, list[float]]] = replaced,
    scaled: Callable[..., Rows] = of_batch,
    summed: Callable[[Rows, float], Rows] = to_go,
    joint: bool = False,
    ddof: int = 0,
) -> Solution:
    """Return a solution made of these parts; the defaults are right."""

    def solution(gain: Rows, bad: Flags, outcome: list[float], group: list[str], gamma: float) -> Rows:
        gains, ends = broken(gain, bad, outcome)
        open_rows: Rows = [[*row, None] for row in gains]
        if joint:
            return summed(standard(either(open_rows, at_last(ends, open_rows)), group), gamma)
        z, end = standard(open_rows, group, ddof=ddof), outcomes(ends, group, ddof=ddof)
        return summed(either(scaled(z, end, group), at_last(end, open_rows)), gamma)

    return solution


right = made()


def late_penalty(gain: Rows, bad: Flags, outcome: list[float], group: list[str], gamma: float) -> Rows:
    """Put the penalty in after everything was normalised."""
    open_rows: Rows = [[*row, None] for row in gain]
    z, end = standard(open_rows, group), outcomes(outcome, group)
    rewards = either(of_batch(z, end, group), at_last(end, open_rows))
    punished: Rows = [
        [-1.0 if b else x for x, b in zip(row, flags, strict=True)] for row, flags in zip(rewards, bad, strict=True)
    ]
    return to_go(punished, gamma)


def cases(rng: Random) -> list[Args]:
    """All scored and well formed; a turn without a score; a malformed one; equal outcomes; two questions; then "
    "any."""
    shapes = [
        ([[0.8, 0.6], [0.1]], [[0, 0, 0], [0, 0]], [1.0, 0.0], "AA"),
        ([[0.8, None, 0.6], [0.1, 0.3]], [[0] * 4, [0] * 3], [1.0, 0.0], "AA"),
        ([[0.8, 0.6], [0.1, -0.4]], [[0, 1, 0], [0, 0, 1]], [1.0, 0.0], "AA"),
        ([[0.8, 0.6], [0.1, -0.4]], [[0] * 3, [0] * 3], [1.0, 1.0], "AA"),
        ([[0.8, 0.1], [0.3], [0.9, -0.2], [0.2]], [[0] * 3, [0, 0], [0] * 3, [0, 0]], [1.0, 0.0, 0.0, 0.0], "AABB"),
    ]
    out: list[Args] = [(g, b, r, list(q), 0.8) for g, b, r, q in shapes]
    for _ in range(9):
        group = rng.sample("AAABB", 5)
        gain: Rows = [[rng.choice((None, 0.1, 0.4, -0.3, 0.8, -0.7)) for _ in range(rng.randint(1, 3))] for _ in group]
        bad = [[int(rng.random() < 0.2) for _ in range(len(row) + 1)] for row in gain]
        out.append((gain, bad, [rng.choice((0.0, 1.0)) for _ in group], group, rng.choice((0.5, 0.8))))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: gain, format and outcome of each turn."""
    gain, bad, outcome, group, gamma = args
    open_rows: Rows = [[*row, None] for row in gain]
    marked: Rows = [[float(b) if b else None for b in row] for row in bad]
    columns = [("gain", open_rows), ("malformed", marked), ("outcome", at_last(outcome, open_rows))]
    return turn_table(f"Rollouts, a line a turn; gamma = {gamma:g}. Wrong lines are marked.", columns, group, got, want)


def _unscored_like_next(args: Args, got: Values, solution: Solution) -> bool:
    gain, bad, *_ = args
    return all(
        abs(row[t] - row[t + 1]) < 1e-3
        for row, g, b in zip(got, gain, bad, strict=True)
        for t, x in enumerate(g)
        if x is None and not b[t]
    )


ex = Exercise(
    "ex",
    "the credit of every turn",
    clear(cases, truth),
    truth,
    (
        Misconception(
            "no scale",
            "You leave the normalised gains as they are (norm = separate). DR-Venus makes them as large as the "
            "outcomes.",
            made(scaled=no_scale),
        ),
        Misconception(
            "scale of the question",
            "You take a scale for each question. It is one number for the whole batch: an easy question's gains are "
            "damped by the other questions.",
            made(scaled=of_question),
        ),
        Misconception(
            "no floor",
            "You let the scale go to 0 where all outcomes are equal. The floor of 0.3 keeps the gains alive there.",
            made(scaled=no_floor),
        ),
        Misconception(
            "scale upside down", "You divide by the scale; the gains are multiplied with it.", made(scaled=upside_down)
        ),
        Misconception(
            "format not looked at",
            "You do not look at the format. A malformed turn's gain, and a malformed answer's outcome, is -1.",
            made(nothing),
        ),
        Misconception(
            "penalty added",
            "You take 1 off the gain of a malformed turn. Its gain is replaced by -1: what it happened to find does "
            "not count.",
            made(added),
        ),
        Misconception(
            "malformed answer keeps its outcome",
            "You punish malformed turns and let a malformed answer keep its outcome.",
            made(turns_only),
        ),
        Misconception(
            "malformed turn keeps its gain",
            "You punish malformed answers and let malformed turns keep their gain.",
            made(answers_only),
        ),
        Misconception(
            "penalty after normalising",
            "You put the penalty in after the z-scores. It comes before them, and so moves mean and spread of the "
            "question: a -1 among tiny gains dominates them.",
            late_penalty,
        ),
        Misconception(
            "unscored counts as 0",
            "You take a turn without a score for a gain of 0. It has no score: it is in no statistics and takes the "
            "credit of the next scored turn.",
            made(zeros),
        ),
        Misconception(
            "unscored turn discounts",
            "You count an unscored turn as a discount step with reward 0. The discount is per scored turn.",
            made(summed=gap_counts),
        ),
        Misconception(
            "one pool",
            "You put gains and outcomes into one pool, as IGPO's paper does. Here each has its own, and then the "
            "scale.",
            made(joint=True),
        ),
        Misconception("no discount", "You ignore gamma; it is 0.95 in the script.", made(summed=undiscounted)),
        Misconception(
            "sums backwards", "You sum what came before a turn, not what follows it.", made(summed=backwards)
        ),
        Misconception(
            "sample spread",
            "You divide the squares by n - 1. The family of IGPO takes the population's spread.",
            made(ddof=1),
        ),
    ),
    (Property("a turn that was not scored has the credit of the next one", _unscored_like_next),),
    shown,
    (
        "First the penalties: which numbers are replaced by -1? Then two pools a question: gains, outcomes.",
        "One scale for the batch: min(10, max(0.3, mean |z(R)|) / mean |z(gain)|), on the gains alone.",
        "Then sum from the end over the turns that have a score; a turn without one takes the next one's credit.",
    ),
)

hint = hints(ex)
