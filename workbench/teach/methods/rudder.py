"""RUDDER: from predictions of the outcome to the credit of every turn, and where what was missed goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import torch

from workbench.evidence.predicted import hashed_words
from workbench.recipes import rudder
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values, same, values
from workbench.teach.method_page import hand, turns
from workbench.teach.table import Table
from workbench.teach.turn_parts import (
    Rows,
    at_last,
    clear,
    each,
    either,
    everywhere,
    filled,
    hints,
    of_question,
    standard,
    to_go,
    turn_table,
)
from workbench.trajectory import Message, Part, Turn

Start = Sequence[float]
After = Sequence[Sequence[float]]
"""Predictions of the outcome: before the first turn, one a rollout; after each turn, a row a rollout."""


def truth(start: Start, after: After, outcome: Sequence[float], group: Sequence[str]) -> list[list[float | None]]:
    """Return the credit of every turn, by the library's recipe."""
    rollout = {"return_pred_start": list(start), "outcome": list(outcome)}
    return turns(rudder(), hand(list(group), {"return_pred": after}, rollout))


def seen_by_predictor(story: Sequence[tuple[str, str]], width: int = 16) -> torch.Tensor:
    """Return what the predictor is shown of a rollout.

    Args:
        story: what was done and what came back, turn by turn.
        width: places of the hashed words.

    Returns:
        features [turns, 2 * width].

    Example:
        >>> seen_by_predictor([("open the chest", "gold")]).shape
        torch.Size([1, 32])
    """
    turns = []
    for k, (action, result) in enumerate(story):
        back = (Message(f"r{k}", "tool", (Part("text", result),)),)
        turns.append(Turn(Message(f"a{k}", "assistant", (Part("text", action),)), back))
    return torch.stack([hashed_words(turn, width) for turn in turns])


# ------------------------------------------------------------------------------------------------------- the parts


def changes(start: Start, after: After) -> Rows:
    """g_t - g_{t-1}: what each turn did to the prediction."""
    return [[b - a for a, b in zip([g, *row], row, strict=False)] for g, row in zip(start, after, strict=True)]


def from_zero(start: Start, after: After) -> Rows:
    """Take the prediction before the first turn for 0."""
    return changes([0.0] * len(start), after)


def no_first(start: Start, after: After) -> Rows:
    """From turn to turn; the first turn has none."""
    return [[0.0, *row[1:]] for row in changes(start, after)]


def itself(start: Start, after: After) -> Rows:
    """The prediction, not its change."""
    return [list(row) for row in after]


def ahead(start: Start, after: After) -> Rows:
    """g_{t+1} - g_t: what the next turn will do."""
    return [[*row[1:], 0.0] for row in changes(start, after)]


def turned(start: Start, after: After) -> Rows:
    """Before, less after."""
    return [[-(x or 0.0) for x in row] for row in changes(start, after)]


def missed(after: After, outcome: Sequence[float]) -> list[float]:
    """R - g_T of each rollout."""
    return [r - row[-1] for r, row in zip(outcome, after, strict=True)]


def at_end(rows: Rows, start: Start, after: After, outcome: Sequence[float]) -> Rows:
    """Give what was missed to the last turn, beside its own change."""
    return either(rows, at_last(missed(after, outcome), rows))


def nowhere(rows: Rows, start: Start, after: After, outcome: Sequence[float]) -> Rows:
    """Give what was missed to nobody."""
    return rows


def in_parts(rows: Rows, start: Start, after: After, outcome: Sequence[float]) -> Rows:
    """Spread it over all turns in equal parts."""
    return [[(x or 0.0) + m / len(row) for x in row] for row, m in zip(rows, missed(after, outcome), strict=True)]


def to_all(rows: Rows, start: Start, after: After, outcome: Sequence[float]) -> Rows:
    """Give all of it to every turn."""
    return either(rows, everywhere(missed(after, outcome), rows))


def to_first(rows: Rows, start: Start, after: After, outcome: Sequence[float]) -> Rows:
    """Give it to the first turn."""
    return [[(row[0] or 0.0) + m, *row[1:]] for row, m in zip(rows, missed(after, outcome), strict=True)]


def in_its_place(rows: Rows, start: Start, after: After, outcome: Sequence[float]) -> Rows:
    """The last turn has that, and no change of its own."""
    return [[*row[:-1], m] for row, m in zip(rows, missed(after, outcome), strict=True)]


def outcome_too(rows: Rows, start: Start, after: After, outcome: Sequence[float]) -> Rows:
    """Pay the outcome itself at the end."""
    return either(rows, at_last(outcome, rows))


def from_the_start(rows: Rows, start: Start, after: After, outcome: Sequence[float]) -> Rows:
    """Pay the outcome less the first prediction at the end."""
    return either(rows, at_last([r - g for r, g in zip(outcome, start, strict=True)], rows))


def as_it_is(rows: Rows, outcome: Sequence[float], group: Sequence[str]) -> Rows:
    """Leave the credit alone."""
    return rows


def what_follows(rows: Rows, outcome: Sequence[float], group: Sequence[str]) -> Rows:
    """Sum from the end."""
    return to_go(rows, 1.0)


def compared(rows: Rows, outcome: Sequence[float], group: Sequence[str]) -> Rows:
    """Compare with all turns of the question."""
    return standard(rows, group, of_question)


def scaled(rows: Rows, outcome: Sequence[float], group: Sequence[str]) -> Rows:
    """Stretch the credit of a rollout until it sums to the outcome."""
    sums = [sum(row) for row in filled(rows)]
    return [
        [(x or 0.0) * r / s for x in row] if abs(s) > 1e-9 else row
        for row, r, s in zip(rows, outcome, sums, strict=True)
    ]


def sizes(rows: Rows, outcome: Sequence[float], group: Sequence[str]) -> Rows:
    """Size alone."""
    return each(abs, rows)


def no_blame(rows: Rows, outcome: Sequence[float], group: Sequence[str]) -> Rows:
    """Nothing below 0."""
    return each(lambda x: max(x, 0.0), rows)


def made(
    change: Callable[[Start, After], Rows] = changes,
    closing: Callable[[Rows, Start, After, Sequence[float]], Rows] = at_end,
    then: Callable[[Rows, Sequence[float], Sequence[str]], Rows] = as_it_is,
) -> Solution:
    """Return a solution made of these parts; the defaults are right."""

    def solution(start: list[float], after: list[list[float]], outcome: list[float], group: list[str]) -> Rows:
        return then(closing(change(start, after), start, after, outcome), outcome, group)

    return solution


right = made()


# -------------------------------------------------------------------------------------------------------- the cases


def cases(rng: Random) -> list[Args]:
    """A good rollout; a bad one; both; one turn; then ragged batches of two questions."""
    shapes: list[list[tuple[str, int, float]]] = [
        [("A", 2, 1.0)],
        [("A", 3, 0.0)],
        [("A", 2, 1.0), ("A", 3, 0.0)],
        [("A", 1, 1.0), ("A", 2, 0.0)],
    ]
    shapes += [
        [(q, rng.randint(1, 4), rng.choice((0.0, 1.0, 1.0, 0.5))) for q in "AAABB"[: rng.randint(2, 5)]]
        for _ in range(10)
    ]
    out: list[Args] = []
    for shape in shapes:
        start = [rng.choice((0.2, 0.3, 0.45)) for _ in shape]
        after = [[rng.choice((0.05, 0.15, 0.25, 0.4, 0.55, 0.7, 0.85, 0.95)) for _ in range(n)] for _, n, _ in shape]
        out.append((start, after, [r for _, _, r in shape], [q for q, _, _ in shape]))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: the prediction before and after each turn, the outcome at the last."""
    start, after, outcome, group = args
    before: Rows = [[g, *row[:-1]] for g, row in zip(start, after, strict=True)]
    columns = [("predicted before", before), ("after", after), ("outcome", at_last(outcome, after))]
    return turn_table("Predictions of the outcome, a line a turn. Wrong lines are marked.", columns, group, got, want)


def _conserved(args: Args, got: Values, solution: Solution) -> bool:
    start, _, outcome, _ = args
    return all(abs(sum(row) - (r - g)) < 1e-3 for row, r, g in zip(got, outcome, start, strict=True))


def _level_does_not_matter(args: Args, got: Values, solution: Solution) -> bool:
    start, after, outcome, group = args
    moved = values(solution([g + 0.5 for g in start], [[g + 0.5 for g in row] for row in after], outcome, group))
    return same(tuple(row[:-1] for row in got), tuple(row[:-1] for row in moved))


def _alone(args: Args, got: Values, solution: Solution) -> bool:
    return all(same(got[i : i + 1], values(solution(*[column[i : i + 1] for column in args]))) for i in range(len(got)))


ex = Exercise(
    "ex",
    "the credit of every turn, by a predictor of the outcome",
    clear(cases, truth),
    truth,
    (
        Misconception(
            "what was missed is lost",
            "You stop at the changes. They sum to g_T - g_0; the rest of the outcome, R - g_T, must not be lost, or "
            "the policy is trained on the predictor's opinion alone.",
            made(closing=nowhere),
        ),
        Misconception(
            "what was missed, in equal parts",
            "You spread R - g_T over all turns. Code that followed the paper does. Here the last turn has it: where "
            "the predictor knows nothing, all is left at the end, and not spread over turns that did nothing.",
            made(closing=in_parts),
        ),
        Misconception(
            "what was missed, to all",
            "You give R - g_T to every turn in full. Long rollouts would earn it many times.",
            made(closing=to_all),
        ),
        Misconception(
            "what was missed, to the first",
            "You give R - g_T to the first turn. What nobody foresaw came to light at the end.",
            made(closing=to_first),
        ),
        Misconception(
            "the last turn changed nothing",
            "You give the last turn R - g_T in the place of its change. It has both, and together they are "
            "R - g_{T-1}.",
            made(closing=in_its_place),
        ),
        Misconception(
            "the outcome, too",
            "You pay the outcome at the end beside the changes: what was foreseen is paid twice.",
            made(closing=outcome_too),
        ),
        Misconception(
            "missed since the start",
            "You pay R - g_0 at the end beside the changes. The changes have brought the prediction to g_T: what is "
            "still missing is R - g_T.",
            made(closing=from_the_start),
        ),
        Misconception(
            "0 before the first turn",
            "You take g_0 for 0. The authors' code does: the first turn is then praised for what the question alone "
            "let one expect.",
            made(from_zero),
        ),
        Misconception(
            "no first change",
            "You give the first turn no change. The prediction before any turn, g_0, is its baseline.",
            made(no_first),
        ),
        Misconception(
            "the prediction itself",
            "You take g_t for the credit. After one good turn all that follow would be paid for it again.",
            made(itself),
        ),
        Misconception(
            "one turn late",
            "You give a turn what the next one did: g_{t+1} - g_t. The prediction after a turn has seen it.",
            made(ahead),
        ),
        Misconception(
            "before, less after",
            "You subtract the wrong way round: a turn after which more is expected is blamed.",
            made(turned),
        ),
        Misconception(
            "summed to the end",
            "You sum what follows. The changes telescope: what comes out is R - g_{t-1}, an outcome with a baseline, "
            "and the turns are no longer told apart by what they did.",
            made(then=what_follows),
        ),
        Misconception(
            "compared with the question",
            "You compare with the other turns of the question. The prediction before the turn is what it is compared "
            "with already.",
            made(then=compared),
        ),
        Misconception(
            "stretched to the outcome",
            "You stretch the credit of a rollout until it sums to R. Then every turn of a failed rollout has 0, "
            "whatever it did; the sum is R - g_0.",
            made(then=scaled),
        ),
        Misconception(
            "sizes",
            "You take the size of the change. A turn after which less is expected is blamed for it.",
            made(then=sizes),
        ),
        Misconception("no blame", "You cut what is below 0. Then the credit sums to no outcome.", made(then=no_blame)),
    ),
    (
        Property("the credit of a rollout sums to R - g_0", _conserved),
        Property("adding a number to all predictions changes the last turn's credit alone", _level_does_not_matter),
        Property("other rollouts do not matter", _alone),
    ),
    shown,
    (
        "Put the prediction before the first turn in front of each row; the credit begins as the differences.",
        "Then the last turn: what the predictor still missed, R - g_T, is added to its own difference.",
    ),
)

hint = hints(ex)
