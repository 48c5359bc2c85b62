"""Exercises of the tutorial 201: compare with the others, sum what follows, put a method together from stages.

What is right is computed by the library (`cases201`, and the recipe itself for the third).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from workbench.credit import Node
from workbench.teach import cases201 as cases
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values, Verdict, same, values
from workbench.teach.method_page import hand, rows_of
from workbench.teach.methods import gigpo as method
from workbench.teach.table import Table, number
from workbench.teach.turn_parts import hints, plain

# ------------------------------------------------------------------------------------- 1: compare with the others


def _outcome_rows(args: Args, got: Values, want: Values) -> Table:
    fits = isinstance(got, tuple) and len(got) == len(want)
    rows = tuple(
        (str(i), g, f"{r:g}", number(got[i]) if fits else "", number(want[i]))
        for i, (r, g) in enumerate(zip(*args, strict=True))
    )
    bad = frozenset(i for i in range(len(want)) if fits and not same(got[i], want[i]))
    return Table(
        "Rollouts; lines that go wrong are marked.", ("rollout", "question", "outcome", "yours", "right"), rows, bad
    )


def _shifts(args: Args, got: Values, solution: Solution) -> bool:
    lifted = [r + (0.5 if g == args[1][0] else 0.0) for r, g in zip(*args, strict=True)]
    return same(got, values(solution(lifted, args[1])))


ex1 = Exercise(
    "ex1",
    "each outcome against the others of its question",
    cases.others_cases,
    cases.against_others,
    (
        Misconception(
            "itself included",
            "You leave a rollout in its own mean. It then competes with itself, and its credit shrinks by 1 - 1/G: "
            "that is plain centring.",
            cases.itself_included,
        ),
        Misconception(
            "divided by all",
            "You sum the others and divide by G. There are G - 1 of them.",
            cases.divided_by_all,
        ),
        Misconception(
            "lone member keeps its outcome",
            "You take 0 for the mean of nobody, so a lone rollout keeps its raw outcome. Nobody was compared: 0 here.",
            cases.lone_keeps,
        ),
        Misconception(
            "other questions compared",
            "You compare with all rollouts of the batch. Those of easy questions are then praised for being easy.",
            cases.whole_batch,
        ),
        Misconception(
            "against the best",
            "You subtract the best of the others. Then hardly anybody is ever praised; it is the mean that counts.",
            cases.best_of_others,
        ),
    ),
    (Property("adding a number to all outcomes of a question changes nothing", _shifts),),
    _outcome_rows,
    (
        "Who are the others of a rollout? Those of the same question, without itself.",
        "One mean for each rollout, over G - 1 outcomes. If there is nobody, there is nothing to say: 0.",
    ),
)

# ------------------------------------------------------------------------------------- 2: what follows a turn


def _reward_rows(args: Args, got: Values, want: Values) -> Table:
    reward, gamma = args
    fits = isinstance(got, tuple) and len(got) == len(want)
    rows: list[tuple[str, ...]] = []
    bad: set[int] = set()
    for i, row in enumerate(reward):
        at = 0
        for t, x in enumerate(row):
            mine = right = ""
            if x is not None:
                right = number(want[i][at])
                if fits and isinstance(got[i], tuple) and len(got[i]) == len(want[i]):
                    mine = number(got[i][at])
                    bad |= set() if same(got[i][at], want[i][at]) else {len(rows)}
                at += 1
            rows.append((str(i), str(t), plain(x), mine, right))
    head = ("rollout", "turn", "reward", "yours", "right")
    return Table(f"Rewards by turn, gamma = {gamma:g}; '-' is unknown.", head, tuple(rows), frozenset(bad))


def _gaps_unseen(args: Args, got: Values, solution: Solution) -> bool:
    reward, gamma = args
    wider = [[y for x in row for y in (x, None)] for row in reward]
    return same(got, values(solution(wider, gamma)))


ex2 = Exercise(
    "ex2",
    "what follows each known turn",
    cases.reward_cases,
    cases.to_go,
    (
        Misconception(
            "unknown is zero",
            "You treat an unknown turn as a turn that earned 0: it costs a discount step. Not measured is not "
            "'measured, and nothing'.",
            cases.gap_discounts,
        ),
        Misconception("no discount", "You ignore gamma.", cases.undiscounted),
        Misconception(
            "sums backwards",
            "You sum what came before the turn. A turn can be credited only for what follows it.",
            cases.what_came_before,
        ),
        Misconception(
            "own reward left out",
            "You start with the next turn. A turn's own reward is the first thing that follows from it.",
            cases.own_left_out,
        ),
        Misconception(
            "discount from the start",
            "You discount by the place in the rollout. What counts is the distance from the turn to the reward; with "
            "yours, late turns count less and less.",
            cases.from_the_start,
        ),
        Misconception(
            "runs into the next rollout",
            "You go on over the end of a rollout. Rollouts lie one after another in memory, but nothing of one follows "
            "from another.",
            cases.into_the_next,
        ),
    ),
    (Property("more unknown turns in between change nothing", _gaps_unseen),),
    _reward_rows,
    (
        "Go through a rollout from its end to its beginning, and carry one number.",
        "At a known turn the number becomes its reward plus gamma times the number. At an unknown one it stays.",
    ),
)

# ------------------------------------------------------------------------------------- 3: a method of stages


def _ran(make: cases.Make) -> Solution:
    """Return what a chain of stages gives, as a solution of the exercise of GiGPO."""

    def solution(
        reward: list[list[float]], state: list[list[str]], outcome: list[float], group: list[str], gamma: float
    ) -> Values:
        node = make(gamma)
        if not isinstance(node, Node):
            raise TypeError(f"expected stages, such as chain(read('outcome'), spread('turn')), got {node!r}")
        batch = hand(group, {"turn_reward": reward}, {"outcome": outcome})
        names = [s for row in state for s in row]
        codes = torch.tensor([sorted(set(names)).index(s) for s in names])
        credit = node(None, batch.with_column("state", "turn", codes))  # type: ignore[arg-type]
        if credit.level != "turn":
            raise ValueError(f"expected credit of turns, your stages end on {credit.level!r}")
        return rows_of(credit, batch)

    return solution


def _few(rng: random.Random) -> Sequence[Args]:
    return method.ex.cases(rng)[:16]


def _wrong(name: str, says: str, **parts: object) -> Misconception:
    return Misconception(name, says, _ran(cases.composed(**parts)))  # type: ignore[arg-type]


stages = Exercise(
    "ex3",
    "GiGPO, put together from stages",
    _few,
    method.truth,
    (
        _wrong(
            "compare, then sum",
            "You compare rewards and sum what comes out. Order is meaning: GiGPO compares what follows a state, so it "
            "sums first.",
            first=True,
        ),
        _wrong(
            "same place, not same state",
            "You compare turns at the same place (that is MatchTIR). GiGPO compares visits of one state.",
            peers=cases.PLACE,
        ),
        _wrong(
            "lone turn keeps its return",
            "A state that was met once keeps its raw return with you. Nobody was compared: its turn term is 0.",
            lone="keep",
        ),
        _wrong(
            "lone rollout gets nothing",
            "A rollout that is alone with its question gets 0 from you. GiGPO, as verl, lets it keep its outcome.",
            lone_rollout="zero",
        ),
        _wrong(
            "spread, then compare",
            "You copy the outcome to turns and compare then: long rollouts count more often in the mean. So does the "
            "release; the paper's Eq. 3 counts each rollout once.",
            over_turns=True,
        ),
        _wrong("population spread", "You take ddof=0. GiGPO divides by the sample spread, ddof=1.", ddof=0),
        _wrong("no spread", "You only centre the turn term. The paper divides by the spread, too.", divide=False),
        _wrong("no discount", "You ignore gamma.", gamma=False),
        _wrong("terms averaged", "You average the two terms. GiGPO adds them.", weights=(0.5, 0.5)),
        _wrong("turn term alone", "You left out the rollout's term.", weights=(0.0, 1.0)),
        _wrong("rollout term alone", "You left out the turn's term: that is GRPO.", weights=(1.0, 0.0)),
    ),
    method.ex.properties,
    method.shown,
    (
        "Two chains of stages, mixed. Each begins with read and ends on turns.",
        "First: the outcome, its z-score in the task, spread. Second: the turn rewards, summed to go, then the z-score "
        "in the same state.",
        "Mind what lone members get: a rollout keeps its outcome, a turn gets zero. Both are the parameter singleton.",
    ),
)


def ex3(make: cases.Make, seed: int = 0) -> Verdict:
    """Check a function that returns stages: gamma -> a chain or a mix that ends on turns.

    Raises:
        NotImplementedError: it is a stub still.
    """
    return stages(_ran(make), seed)


EXERCISES = {"ex1": ex1, "ex2": ex2, "ex3": stages}
hint = hints(ex1, ex2, stages)


def everything(first: Solution, second: Solution, make: cases.Make, seed: int | None = None) -> Sequence[Verdict]:
    """Check all three solutions on fresh cases.

    Args:
        first, second, make: of exercises 1 to 3.
        seed: of the cases; None draws one.

    Raises:
        AssertionError: one is rejected; says why.
        NotImplementedError: one is a stub still.
    """
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    verdicts = (ex1(first, seed), ex2(second, seed), ex3(make, seed))
    wrong = [repr(v) for v in verdicts if not v]
    if wrong:
        raise AssertionError("\n\n".join([f"seed {seed}", *wrong]))
    return verdicts
