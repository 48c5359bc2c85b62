"""GRPO-VPS: GRPO's advantage plus, piece by piece, the change of the right answer's probability."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

import torch

from workbench.recipes import grpo_vps
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values
from workbench.teach.method_page import hand, rows_of
from workbench.teach.table import Table
from workbench.teach.turn_parts import Rows, each, everywhere, hints, outcomes, standard, to_go, turn_table

Beliefs = Sequence[Sequence[float]]


def truth(belief: Beliefs, outcome: Sequence[float], group: Sequence[str], alpha: float) -> Rows:
    """Return the credit of every piece, by the library's recipe (one token a piece)."""
    pieces = [[len(row) - 1] for row in belief]
    start = [math.log(row[0]) for row in belief]
    rollout = {"outcome": list(outcome), "segment_gold_logprob_start": start}
    batch = hand(list(group), None, rollout, [1] * len(belief), pieces)
    after = torch.tensor([math.log(p) for row in belief for p in row[1:]], dtype=torch.float64)
    batch = batch.with_column("segment_gold_logprob", "token", after)
    return rows_of(grpo_vps(alpha=alpha).credit(batch, to="token"), batch)


# ------------------------------------------------------------------------------------------------------- the parts


def changes(belief: Beliefs) -> Rows:
    """What each piece added."""
    return [[b - a for a, b in zip(row, row[1:], strict=False)] for row in belief]


def log_changes(belief: Beliefs) -> Rows:
    """In logarithms."""
    return changes([[math.log(p) for p in row] for row in belief])


def levels(belief: Beliefs) -> Rows:
    """The belief after each piece."""
    return [list(row[1:]) for row in belief]


def before(belief: Beliefs) -> Rows:
    """The belief before each piece."""
    return [list(row[:-1]) for row in belief]


def from_start(belief: Beliefs) -> Rows:
    """What was added since the beginning."""
    return [[p - row[0] for p in row[1:]] for row in belief]


def whole(belief: Beliefs) -> Rows:
    """What the whole rollout added, on every piece."""
    return [[row[-1] - row[0]] * (len(row) - 1) for row in belief]


def gains_only(belief: Beliefs) -> Rows:
    """Only what went up."""
    return [[max(x or 0.0, 0.0) for x in row] for row in changes(belief)]


def later(belief: Beliefs) -> Rows:
    """Sum what follows."""
    return to_go(changes(belief), 1.0)


def shifted(belief: Beliefs) -> Rows:
    """Give each piece the change of the one before."""
    return [[0.0, *row[:-1]] for row in changes(belief)]


def made(
    signal: Callable[[Beliefs], Rows] = changes,
    scored: bool = False,
    only_varied: bool = False,
    multiply: bool = False,
    weighed: bool = True,
    outcome_in: bool = True,
    **how: object,
) -> Solution:
    """Return a solution made of these parts; the defaults are right."""

    def solution(belief: Beliefs, outcome: list[float], group: list[str], alpha: float) -> Rows:
        a = outcomes(outcome, group, **{"ddof": 1, "lone": "keep", **how})
        found = signal(belief)
        if scored:
            found = standard(found, group, ddof=1)

        def one(x: float, y: float) -> float:
            if only_varied and x == 0:
                return 0.0
            y *= alpha if weighed else 1.0
            return x * (1 + y) if multiply else (x if outcome_in else 0.0) + y

        return each(one, everywhere(a, found), found)

    return solution


right = made()


def cases(rng: Random) -> list[Args]:
    """One question; a piece that lowers the belief; equal outcomes; two questions; a rollout alone; then any."""
    shapes = [
        ([[0.1, 0.25, 0.6], [0.1, 0.3, 0.05]], [1.0, 0.0], "AA"),
        ([[0.1, 0.25, 0.6], [0.2, 0.3, 0.05]], [0.0, 0.0], "AA"),
        ([[0.1, 0.25, 0.6], [0.2, 0.3], [0.1, 0.2, 0.9], [0.3, 0.1]], [1.0, 0.0, 0.0, 1.0], "AABB"),
        ([[0.1, 0.25, 0.6], [0.2, 0.3], [0.1, 0.2, 0.9]], [1.0, 0.0, 1.0], "AAB"),
    ]
    out: list[Args] = [(b, r, list(q), 0.5) for b, r, q in shapes]
    for _ in range(9):
        group = rng.sample("AAABB", 5)
        belief = [[rng.choice((0.05, 0.1, 0.3, 0.5, 0.8)) for _ in range(rng.randint(2, 5))] for _ in group]
        out.append((belief, [rng.choice((0.0, 1.0)) for _ in group], group, rng.choice((0.5, 2.0))))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: belief before and after each piece, and the outcome."""
    belief, outcome, group, alpha = args
    columns = [
        ("belief before", before(belief)),
        ("after", levels(belief)),
        ("outcome", everywhere(outcome, changes(belief))),
    ]
    table = turn_table(
        f"Rollouts, a line a piece; alpha = {alpha:g}. Wrong lines are marked.", columns, group, got, want
    )
    return Table(table.caption, (*table.header[:2], "piece", *table.header[3:]), table.rows, table.bad)


def _telescopes(args: Args, got: Values, solution: Solution) -> bool:
    belief, outcome, group, alpha = args
    a = outcomes(outcome, group, ddof=1, lone="keep")
    return all(
        abs(sum(row) - len(row) * x - alpha * (b[-1] - b[0])) < 1e-3 for row, x, b in zip(got, a, belief, strict=True)
    )


ex = Exercise(
    "ex",
    "the credit of every piece",
    cases,
    truth,
    (
        Misconception(
            "belief, not change",
            "You add the belief after the piece. A piece that restates a known answer would be praised most.",
            made(levels),
        ),
        Misconception("belief before", "You add the belief before the piece: what earlier pieces did.", made(before)),
        Misconception(
            "since the beginning",
            "You add what was gained since the beginning. Each piece has its own change; together they make that up.",
            made(from_start),
        ),
        Misconception(
            "change of the whole",
            "You give every piece the change of the whole rollout. That tells rollouts apart, not pieces.",
            made(whole),
        ),
        Misconception(
            "log-probabilities",
            "You subtract logarithms, as IGPO's script does. Here it is the change of the probability.",
            made(log_changes),
        ),
        Misconception(
            "only what goes up",
            "You leave out what lowers the belief. A piece that leads away from the answer is blamed.",
            made(gains_only),
        ),
        Misconception(
            "sum of what follows",
            "You sum the changes that follow a piece. There is no sum and no discount: a piece is credited with its "
            "own.",
            made(later),
        ),
        Misconception(
            "one piece late",
            "You give each piece the change of the one before. The probe stands at the end of the piece.",
            made(shifted),
        ),
        Misconception(
            "changes standardised",
            "You take z-scores of the changes (process = pooled). As we read it, the raw change is added.",
            made(scored=True),
        ),
        Misconception(
            "nothing where all are equal",
            "You give nothing where the outcomes are all equal. The changes are added there, too: a question that "
            "nobody solved still teaches.",
            made(only_varied=True),
        ),
        Misconception(
            "multiplied",
            "You multiply the advantage with the change. It is added: praise for a good piece of a bad rollout must "
            "be possible.",
            made(multiply=True),
        ),
        Misconception("weight forgotten", "You forgot alpha, the weight of the changes.", made(weighed=False)),
        Misconception(
            "outcome forgotten", "You left out GRPO's advantage; the changes complement it.", made(outcome_in=False)
        ),
        Misconception(
            "population spread",
            "You divide the squares of the outcomes by n. GRPO takes the sample's spread.",
            made(ddof=0),
        ),
    ),
    (
        Property(
            "the pieces of a rollout add up to its advantage on each, plus alpha (belief at the end - at the start)",
            _telescopes,
        ),
    ),
    shown,
    (
        "Two numbers a piece, added. One is GRPO's, the same for all pieces of the rollout.",
        "The other: belief at the end of the piece minus belief at its beginning, times alpha.",
    ),
)

hint = hints(ex)
