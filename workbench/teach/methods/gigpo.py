"""GiGPO: the episode against its question, and each turn against the other visits of its state."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from random import Random

import torch

from workbench.recipes import gigpo
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values
from workbench.teach.method_page import hand, turns
from workbench.teach.table import Table
from workbench.teach.turn_parts import (
    Rows,
    clear,
    each,
    everywhere,
    filled,
    hints,
    outcomes,
    so_far,
    standard,
    to_go,
    turn_table,
    undiscounted,
    unsummed,
)

States = Sequence[Sequence[str]]


def truth(
    reward: Sequence[Sequence[float]], state: States, outcome: Sequence[float], group: Sequence[str], gamma: float
) -> Rows:
    """Return the credit of every turn, by the library's recipe."""
    batch = hand(group, {"turn_reward": [list(row) for row in reward]}, {"outcome": list(outcome)})
    names = [s for row in state for s in row]
    codes = torch.tensor([sorted(set(names)).index(s) for s in names])
    return turns(gigpo(gamma=gamma), batch.with_column("state", "turn", codes))


# ------------------------------------------------------------------------------------------------------- the parts


def same_state(state: States) -> Callable[[int, int, Sequence[str]], Hashable]:
    """Compare turns of a question that were taken in one state."""
    return lambda i, t, group: (group[i], state[i][t])


def of_state_anywhere(state: States) -> Callable[[int, int, Sequence[str]], Hashable]:
    """Compare turns of one state, whatever the question."""
    return lambda i, t, group: state[i][t]


def of_place(state: States) -> Callable[[int, int, Sequence[str]], Hashable]:
    """Compare turns of a question at the same place."""
    return lambda i, t, group: (group[i], t)


def episode_z(outcome: Sequence[float], group: Sequence[str], lengths: Sequence[int], **how: object) -> list[float]:
    """The z-score of each rollout's outcome; a lone one keeps it."""
    return outcomes(outcome, group, **{"ddof": 1, "lone": "keep", **how})  # type: ignore[arg-type]


def over_steps(outcome: Sequence[float], group: Sequence[str], lengths: Sequence[int]) -> list[float]:
    """The z-score with mean and spread over turns: long rollouts count more."""
    rows = standard(everywhere(outcome, [[0] * n for n in lengths]), group, ddof=1, lone="keep")
    return [row[0] or 0.0 for row in rows]


def returns(reward: Rows, gamma: float) -> Rows:
    """Sum what follows each turn."""
    return to_go(reward, gamma)


def made(
    peers: Callable[[States], Callable[[int, int, Sequence[str]], Hashable]] = same_state,
    episode: Callable[..., list[float]] = episode_z,
    summed: Callable[[Rows, float], Rows] = returns,
    weights: tuple[float, float] = (1.0, 1.0),
    first: bool = False,
    **how: object,
) -> Solution:
    """Return a solution made of these parts; the defaults are right. `first`: normalise before summing."""
    norm = partial(standard, **{"ddof": 1, **how})  # type: ignore[arg-type]

    def solution(reward: Rows, state: States, outcome: list[float], group: list[str], gamma: float) -> Rows:
        whole = everywhere(episode(outcome, group, [len(row) for row in reward]), reward)
        same = peers(state)
        turn = summed(norm(reward, group, same), gamma) if first else norm(summed(reward, gamma), group, same)
        return each(lambda a, b: weights[0] * a + weights[1] * b, whole, filled(turn))  # type: ignore[arg-type]

    return solution


right = made()


# -------------------------------------------------------------------------------------------------------- the cases


def cases(rng: Random) -> list[Args]:
    """One question; a state met twice in a rollout; a state of another question; a rollout alone; then any."""
    shapes = [
        [("A", 2), ("A", 2)],
        [("A", 3), ("A", 2)],
        [("A", 2), ("A", 1), ("B", 2), ("B", 2)],
        [("A", 2), ("A", 3), ("B", 2)],
    ]
    shapes += [[(q, rng.randint(1, 4)) for q in rng.choice(("AAABB", "AABBC"))] for _ in range(30)]
    out: list[Args] = []
    for shape in shapes:  # with gamma 0.5 returns that differ differ by so much that no eps is seen
        group = [q for q, _ in shape]
        drawn = [10.0, 0.0] + [rng.choice((0.0, 10.0, 5.0)) for _ in shape[2:]]
        outcome = [10.0 if group.count(q) == 1 else r for q, r in zip(group, drawn, strict=True)]
        state = [["start", *(rng.choice("xyz") for _ in range(n - 1))] for _, n in shape]
        steps = [[rng.choice((0.0, 0.0, 10.0, -10.0, 20.0)) for _ in range(n - 1)] for _, n in shape]
        reward = [[*row, r] for row, r in zip(steps, outcome, strict=True)]
        out.append((reward, state, outcome, group, 0.5))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: state, reward and outcome of each turn."""
    reward, state, outcome, group, gamma = args
    table = turn_table(f"Rollouts, a line a turn; gamma = {gamma:g}.", [("reward", reward)], group, got, want)
    names = [s for row in state for s in row]
    ends = [r for r, row in zip(outcome, reward, strict=True) for _ in row]
    rows = tuple((*row[:3], s, f"{end:g}", *row[3:]) for row, s, end in zip(table.rows, names, ends, strict=True))
    return Table(table.caption, (*table.header[:3], "state", "outcome", *table.header[3:]), rows, table.bad)


def _same_state_same_episode(args: Args, got: Values, solution: Solution) -> bool:
    reward, state, outcome, group, gamma = args
    other = [[s + "'" for s in row] for row in state]  # other names for the same states
    again = solution(reward, other, outcome, group, gamma)
    return all(abs(a - b) < 1e-3 for p, q in zip(got, again, strict=True) for a, b in zip(p, q, strict=True))


ex = Exercise(
    "ex",
    "the credit of every turn",
    clear(cases, truth),
    truth,
    (
        Misconception(
            "episode over steps",
            "You take mean and spread of the episode term over turns, so that long rollouts count more. So does the "
            "release (its rows are steps); the paper's Eq. 3 counts each rollout once.",
            made(episode=over_steps),
        ),
        Misconception(
            "statistics before sums",
            "You normalise the rewards and sum what comes out. GiGPO sums first: what is compared is the return from a "
            "state.",
            made(first=True),
        ),
        Misconception(
            "states of other questions",
            "You compare equal states of different questions. What a state is worth depends on what was asked.",
            made(peers=of_state_anywhere),
        ),
        Misconception(
            "same place, not same state",
            "You compare turns at the same place. That is MatchTIR's comparison; turns at one place may stand in quite "
            "different states.",
            made(peers=of_place),
        ),
        Misconception(
            "lone state keeps its return",
            "You give a state that was met once its raw return. Nobody was compared there: its turn term is 0.",
            made(lone="keep"),
        ),
        Misconception(
            "lone rollout gets nothing",
            "You give a rollout that is alone with its question an episode term of 0. Here, as in verl, it keeps its "
            "outcome (mean 0, spread 1): a choice to know about.",
            made(episode=partial(episode_z, lone="zero")),
        ),
        Misconception(
            "no discount",
            "You ignore gamma. Without it, a state near the end and one at the beginning have the same return where "
            "reward comes at the end alone.",
            made(summed=undiscounted),
        ),
        Misconception(
            "sums backwards",
            "You sum what came before the turn. The return of a turn is what follows it, its own reward included.",
            made(summed=so_far),
        ),
        Misconception(
            "reward, not return",
            "You compare the rewards of single turns. A search that pays later would never be praised.",
            made(summed=unsummed),
        ),
        Misconception(
            "no spread",
            "You only subtract the means in the turn term: the default of the release (mean_norm). The paper divides.",
            made(divide=False),
        ),
        Misconception(
            "population spread",
            "You divide the squares by n. GiGPO's code takes the sample's spread, n - 1; with two visits they differ "
            "by 41 %.",
            made(ddof=0, episode=partial(episode_z, ddof=0)),
        ),
        Misconception(
            "turn term alone",
            "You left out the episode term. Where no state repeats there would be no credit at all.",
            made(weights=(0.0, 1.0)),
        ),
        Misconception(
            "episode term alone",
            "You left out the turn term: that is GRPO.",
            made(weights=(1.0, 0.0)),
        ),
        Misconception(
            "averaged",
            "You average the two terms, as MatchTIR's release does. GiGPO adds them, the turn term weighed with omega "
            "= 1.",
            made(weights=(0.5, 0.5)),
        ),
    ),
    (Property("other names for the same states change nothing", _same_state_same_episode),),
    shown,
    (
        "Two numbers a turn, added. The first is GRPO's. For the second: what is the return from this turn on?",
        "Group the returns by (question, state): mean and sample spread there; a state that was met once adds 0.",
    ),
)

hint = hints(ex)
