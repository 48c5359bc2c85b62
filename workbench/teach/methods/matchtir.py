"""MatchTIR: rollouts of a question compared, and turns of a question at the same place, added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from workbench.recipes import matchtir
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values, same, values
from workbench.teach.method_page import hand, turns
from workbench.teach.table import Table
from workbench.teach.turn_parts import (
    Peers,
    Rows,
    clear,
    each,
    everywhere,
    filled,
    hints,
    of_place,
    of_question,
    of_rollout,
    of_turn,
    outcomes,
    so_far,
    standard,
    to_go,
    turn_table,
    undiscounted,
    unsummed,
)


def truth(reward: Sequence[Sequence[float]], group: Sequence[str], gamma: float) -> Rows:
    """Return the credit of every turn, by the library's recipe."""
    batch = hand(group, {"match_turn_reward": [list(row) for row in reward]})
    return turns(matchtir(gamma=gamma), batch)


def made(
    peers: Peers = of_turn,
    summed: Callable[[Rows, float], Rows] = to_go,
    whole: Callable[[Sequence[float]], float] = sum,
    weights: tuple[float, float] = (1.0, 1.0),
    first: bool = False,
    **how: object,
) -> Solution:
    """Return a solution made of these parts; the defaults are right. `first`: normalise before summing."""
    norm = partial(standard, **{"ddof": 1, "lone": "keep", **how})  # type: ignore[arg-type]
    rollout = {"ddof": 1, "lone": "keep", **how}

    def solution(reward: Rows, group: list[str], gamma: float) -> Rows:
        z = outcomes([whole([x or 0.0 for x in row]) for row in reward], group, **rollout)
        turn = summed(norm(reward, group, peers), gamma) if first else norm(summed(reward, gamma), group, peers)
        return each(lambda a, b: weights[0] * a + weights[1] * b, everywhere(z, reward), filled(turn))  # type: ignore[arg-type]

    return solution


right = made()


def cases(rng: Random) -> list[Args]:
    """Two rollouts; unlike lengths, so that the last turn has no peer; another question; one alone; then any."""
    shapes = [
        [("A", 2), ("A", 2)],
        [("A", 3), ("A", 2)],
        [("A", 2), ("A", 2), ("B", 2), ("B", 3)],
        [("A", 2), ("A", 2), ("B", 2)],
    ]
    shapes += [[(q, rng.randint(1, 4)) for q in "AAABB"] for _ in range(9)]
    out: list[Args] = []
    for number, shape in enumerate(shapes):
        reward = [[rng.choice((0.0, 1 / 3, 0.5, 1.0, 0.625)) for _ in range(n)] for _, n in shape]
        out.append((reward, [q for q, _ in shape], 0.9 if number % 2 else 0.5))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: the reward of each turn."""
    reward, group, gamma = args
    return turn_table(f"Rollouts, a line a turn; gamma = {gamma:g}.", [("reward", reward)], group, got, want)


def _order(args: Args, got: Values, solution: Solution) -> bool:
    reward, group, gamma = args
    back = values(solution(reward[::-1], group[::-1], gamma))
    return same(tuple(got), back[::-1])


ex = Exercise(
    "ex",
    "the credit of every turn",
    clear(cases, truth),
    truth,
    (
        Misconception(
            "averaged",
            "You average the two terms. So does the release, (z + z) / 2; the paper's figure shows a plain sum.",
            made(weights=(0.5, 0.5)),
        ),
        Misconception(
            "turn without peers gets nothing",
            "You give a turn (or rollout) that nobody is compared with 0. MatchTIR's code lets it keep its raw return, "
            "which is on another scale than a z-score: deep turns get odd credit.",
            made(lone="zero"),
        ),
        Misconception(
            "statistics before sums",
            "You normalise rewards and sum what comes out, as IGPO does. MatchTIR sums first.",
            made(first=True),
        ),
        Misconception(
            "all turns of the question",
            "You compare a turn with all turns of the question. An early turn has more to come, and would be praised "
            "for it; MatchTIR compares turns at the same place.",
            made(peers=of_question),
        ),
        Misconception(
            "other questions",
            "You compare turns at the same place across questions; only the same question is comparable.",
            made(peers=of_place),
        ),
        Misconception(
            "own rollout",
            "You compare a turn with the other turns of its own rollout. Then only who comes first decides.",
            made(peers=of_rollout),
        ),
        Misconception(
            "no discount",
            "You ignore gamma: every call that follows counts in full.",
            made(summed=undiscounted),
        ),
        Misconception(
            "sums backwards",
            "You sum what came before a turn. Its return is what follows it, its own reward included.",
            made(summed=so_far),
        ),
        Misconception(
            "reward, not return",
            "You compare rewards of single turns and forget what they led to.",
            made(summed=unsummed),
        ),
        Misconception(
            "mean of the rollout",
            "You compare the mean reward of rollouts. The rollout's score is the sum of its turn rewards.",
            made(whole=lambda row: sum(row) / len(row)),
        ),
        Misconception(
            "last reward of the rollout",
            "You compare rollouts by the reward of their last turn, the answer. The rollout's score is the sum over "
            "turns.",
            made(whole=lambda row: row[-1]),
        ),
        Misconception(
            "population spread",
            "You divide the squares by n. The code takes the sample's spread, n - 1; with two rollouts they differ by "
            "41 %.",
            made(ddof=0),
        ),
        Misconception("no spread", "You subtract the means and do not divide by the spreads.", made(divide=False)),
        Misconception(
            "turn term alone",
            "You left out the comparison of rollouts: what a rollout did as a whole does not count.",
            made(weights=(0.0, 1.0)),
        ),
        Misconception(
            "rollout term alone",
            "You left out the comparison of turns: all turns of a rollout get one number.",
            made(weights=(1.0, 0.0)),
        ),
    ),
    (Property("the order of the rollouts does not matter", _order),),
    shown,
    (
        "Two numbers a turn, added. One compares the sums of rollouts; the other compares turns.",
        "Turns: discounted return from the turn on, z-score among the same place of the question, sample spread.",
        "What has no peer keeps its raw number in both.",
    ),
)

hint = hints(ex)
