"""SIOP: without a right answer to look at, a turn moves towards the answer its own rollout gave, if many agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from workbench.recipes import siop
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values, same, values
from workbench.teach.method_page import hand, turns
from workbench.teach.table import Table
from workbench.teach.turn_parts import (
    Rows,
    clear,
    filled,
    hints,
    of_batch,
    of_rollout,
    of_turn,
    so_far,
    standard,
    to_go,
    turn_table,
    undiscounted,
    unsummed,
)

Maybe = Sequence[float | None]
After = Sequence[Sequence[float | None]]
Target = Callable[[Sequence[int | None], Maybe, Sequence[str]], list[float | None]]
LAMBDA = 0.5


def truth(
    cluster: Sequence[int | None], support: Maybe, start: Maybe, after: After, group: Sequence[str], gamma: float
) -> Rows:
    """Return the credit of every turn, by the library's recipe; 0 where it has none."""
    rollout: dict[str, Maybe] = {
        "answer_cluster": list(cluster),
        "cluster_support": list(support),
        "cluster_prob_start": list(start),
    }
    batch = hand(list(group), {"cluster_prob": after}, rollout)
    return filled(turns(siop(gamma=gamma, kl=0.0), batch))  # type: ignore[return-value]


# ------------------------------------------------------------------------------------------------------- the parts


def tilted(
    cluster: Sequence[int | None],
    support: Maybe,
    group: Sequence[str],
    *,
    eta: float = 1.0,
    per: str = "cluster",
    absent: float | None = None,
    merged: bool = False,
) -> list[float | None]:
    """q of each rollout: shares of the clusters, tilted by support, summing to 1 in a question.

    Args:
        cluster, support, group: as in the exercise.
        eta: how much support counts.
        per: whose support: the "cluster"'s mean, or the "rollout"'s own.
        absent: support of a rollout that saw nothing; None leaves it out of the mean.
        merged: are clusters of equal number one, whatever the question?
    """
    home = [None if c is None else ("" if merged else g, c) for c, g in zip(cluster, group, strict=True)]
    seen = [absent if s is None else s for s in support]
    mass = {}
    for key in {k for k in home if k is not None}:
        mine = [s for s, k in zip(seen, home, strict=True) if k == key and s is not None]
        rho = sum(mine) / len(mine) if mine else 0.0
        among = sum(k is not None and k[0] == key[0] for k in home)
        mass[key] = home.count(key) / among * math.exp(eta * rho * (per == "cluster"))
    whole = {g: sum(m for k, m in mass.items() if k[0] == g) for g, _ in mass}
    own = [math.exp(eta * (s or 0.0)) if per == "rollout" else 1.0 for s in seen]
    return [None if k is None else mass[k] / whole[k[0]] * w for k, w in zip(home, own, strict=True)]


def winner(cluster: Sequence[int | None], support: Maybe, group: Sequence[str]) -> list[float | None]:
    """1 in the question's likeliest cluster, 0 elsewhere."""
    q = tilted(cluster, support, group)
    best = {g: max((x for x, h in zip(q, group, strict=True) if h == g and x is not None), default=0.0) for g in group}
    return [None if x is None else float(x == best[g]) for x, g in zip(q, group, strict=True)]


def equal(cluster: Sequence[int | None], support: Maybe, group: Sequence[str]) -> list[float | None]:
    """1 for everybody who answered."""
    return [None if c is None else 1.0 for c in cluster]


def rewards(
    q: Maybe,
    start: Maybe,
    after: After,
    of: Callable[[float], float] = math.log,
    bonus: float = 1 - LAMBDA,
    everywhere: bool = False,
    lone: bool = False,
    weighed: bool = True,
    moves: bool = True,
    closing: bool = True,
    opening: bool = True,
) -> Rows:
    """What each turn earns; a rollout without an answer has None throughout.

    Args:
        q, start, after: target, beliefs.
        of: of a belief, before the difference.
        bonus: share of q at the end.
        everywhere: is that paid at every turn?
        lone: has a single turn its difference, too?
        weighed: is the difference multiplied with q?
        moves: is there a difference at all?
        closing, opening: has the last turn one, has the first?
    """
    out: Rows = []
    for x, before, row in zip(q, start, after, strict=True):
        if x is None:
            out.append([None] * len(row))
            continue
        chain = [of(p or 0.0) for p in (before, *row)]
        rises = [(b - a) * (x if weighed else 1.0) * moves for a, b in zip(chain, chain[1:], strict=False)]
        rises[0] *= opening
        rises[-1] *= closing
        if len(rises) == 1 and not lone:
            rises = [0.0]
        last = len(rises) - 1
        out.append([r + bonus * x * (everywhere or t == last) for t, r in enumerate(rises)])
    return out


SAMPLE = partial(standard, ddof=1)


def made(
    target: Target = tilted,
    normed: Callable[..., Rows] = SAMPLE,
    summed: Callable[[Rows, float], Rows] = to_go,
    blamed: bool = False,
    reverse: bool = False,
    **how: object,
) -> Solution:
    """Return a solution made of these parts; the defaults are right."""

    def solution(
        cluster: list[int | None],
        support: list[float | None],
        start: list[float | None],
        after: list[list[float | None]],
        group: list[str],
        gamma: float,
    ) -> Rows:
        earned = rewards(target(cluster, support, group), start, after, **how)  # type: ignore[arg-type]
        if blamed:
            earned = filled(earned)  # type: ignore[assignment]
        credit = normed(summed(earned, gamma), group) if reverse else summed(normed(earned, group), gamma)
        return filled(credit)  # type: ignore[return-value]

    return solution


right = made()


# -------------------------------------------------------------------------------------------------------- the cases


def cases(rng: Random) -> list[Args]:
    """Two clusters; one; a rollout without an answer; a single turn; two questions; then ragged batches."""
    shapes: list[list[tuple[str, int | None, int]]] = [
        [("A", 0, 2), ("A", 1, 2)],
        [("A", 0, 2), ("A", 0, 2), ("A", 1, 2)],
        [("A", 0, 2), ("A", 0, 1), ("A", 1, 2)],
        [("A", 0, 2), ("A", None, 2), ("A", 1, 2)],
        [("A", 0, 2), ("A", 0, 2), ("A", 1, 2), ("B", 0, 2), ("B", 1, 3)],
    ]
    for _ in range(11):
        drawn = [(q, rng.choice((0, 0, 1, None)), rng.randint(1, 4)) for q in "AAABB"]
        shapes.append([("A", 0, 2), ("A", 1, 3), ("B", 0, 2), *drawn])
    out: list[Args] = []
    for number, shape in enumerate(shapes):
        group, cluster = [g for g, _, _ in shape], [c for _, c, _ in shape]
        support = [None if rng.random() < 0.25 else rng.choice((0.1, 0.4, 0.6, 0.9)) for _ in shape]
        start = [None if c is None else rng.choice((0.05, 0.1, 0.2)) for c in cluster]
        after = [
            [None if c is None else rng.choice((0.05, 0.15, 0.3, 0.45, 0.6, 0.8, 0.9)) for _ in range(n)]
            for _, c, n in shape
        ]
        out.append((cluster, support, start, after, group, 1.0 if number % 3 == 0 else rng.choice((0.5, 0.8))))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: cluster and support of the rollout, belief in its answer before and after each turn."""
    cluster, support, start, after, group, gamma = args
    columns = [
        ("cluster", [[None if c is None else float(c)] * len(row) for c, row in zip(cluster, after, strict=True)]),
        ("support", [[s] * len(row) for s, row in zip(support, after, strict=True)]),
        ("belief before", [[s, *row][:-1] for s, row in zip(start, after, strict=True)]),
        ("after", after),
    ]
    caption = f"Rollouts, a line a turn; gamma = {gamma:g}; no cluster: no answer. Wrong lines are marked."
    return turn_table(caption, columns, group, got, want)


def _other_questions_unseen(args: Args, got: Values, solution: Solution) -> bool:
    *columns, gamma = args
    group = columns[-1]
    keep = [i for i, g in enumerate(group) if g == group[0]]
    return same(tuple(got[i] for i in keep), values(solution(*[[c[i] for i in keep] for c in columns], gamma)))


def _names_do_not_matter(args: Args, got: Values, solution: Solution) -> bool:
    cluster, *rest = args
    return same(got, values(solution([None if c is None else 7 - c for c in cluster], *rest)))


ex = Exercise(
    "ex",
    "the credit of every turn, without a right answer",
    clear(cases, truth),
    truth,
    (
        Misconception(
            "no answer is 0",
            "You give a rollout without an answer the reward 0 at each turn and compare it. So does the release: once "
            "the mean is subtracted, 0 is blame. Nothing is known of it here.",
            made(blamed=True),
        ),
        Misconception(
            "majority alone",
            "You leave support out (eta = 0): the share of the votes alone is the target, and a popular guess that "
            "nothing supports is worth as much as an answer that was looked up.",
            made(partial(tilted, eta=0.0)),
        ),
        Misconception(
            "winner takes all",
            "You pay only the likeliest cluster. That is a majority vote; here each cluster is a target of its own, "
            "weighed by q.",
            made(winner),
        ),
        Misconception(
            "all answers are equal",
            "You put q = 1 for everybody: a rollout is paid for growing sure of its own answer, whatever the others "
            "say. That is confidence, not agreement.",
            made(equal),
        ),
        Misconception(
            "own support",
            "You tilt by the rollout's own support. q belongs to the cluster: its support is the mean over its "
            "rollouts.",
            made(partial(tilted, per="rollout")),
        ),
        Misconception(
            "unseen is unsupported",
            "You count a rollout that saw no tool response with support 0. Its support is unknown; it is in no mean.",
            made(partial(tilted, absent=0.0)),
        ),
        Misconception(
            "clusters of all questions",
            "You take cluster 0 of one question for cluster 0 of the next. Their numbers mean nothing outside.",
            made(partial(tilted, merged=True)),
        ),
        Misconception(
            "probabilities",
            "You subtract probabilities. The potential is a logarithm: from 0.01 to 0.1 counts as much as 0.1 to 1.",
            made(of=float),
        ),
        Misconception(
            "the end alone",
            "You pay nothing but (1 - lambda) q at the end. That is what the release is left with when its scorer "
            "cannot be reached: every difference is 0 and nobody is told.",
            made(moves=False),
        ),
        Misconception(
            "no pay at the end",
            "You pay the differences alone. They sum to how sure the scorer grew; that many agreed is paid at the "
            "end, with (1 - lambda) q.",
            made(bonus=0.0),
        ),
        Misconception(
            "all of q at the end",
            "You pay q in full at the end. With lambda = 0.5 it is half of it.",
            made(bonus=1.0),
        ),
        Misconception(
            "q at every turn",
            "You pay (1 - lambda) q at every turn. Long rollouts would earn it many times.",
            made(everywhere=True),
        ),
        Misconception(
            "difference not weighed",
            "You pay the raw difference of logarithms. It is multiplied with q: a step towards an answer nobody "
            "shares is worth little.",
            made(weighed=False),
        ),
        Misconception(
            "a single turn moves, too",
            "You pay a rollout of one turn its difference. As released, it has the end alone.",
            made(lone=True),
        ),
        Misconception(
            "the answer moves nothing",
            "You give the last turn no difference. IGPO's last turn has none; here it has both.",
            made(closing=False),
        ),
        Misconception(
            "no belief before the first turn",
            "You give the first turn no difference. The belief after the prompt alone is its baseline.",
            made(opening=False),
        ),
        Misconception(
            "same turn only",
            "You compare a turn with the same turn of the other rollouts. All turns of the question are one pool.",
            made(normed=partial(standard, ddof=1, peers=of_turn)),
        ),
        Misconception(
            "whole batch",
            "You compare across questions. Where all agree, q is large: easy questions would be praised for that.",
            made(normed=partial(standard, ddof=1, peers=of_batch)),
        ),
        Misconception(
            "own rollout",
            "You compare a turn with the other turns of its own rollout. What the others agree on would drop out.",
            made(normed=partial(standard, ddof=1, peers=of_rollout)),
        ),
        Misconception(
            "population spread",
            "You divide the squares by n. IGPO's code does; SIOP's takes the spread of a sample, n - 1.",
            made(normed=standard),
        ),
        Misconception(
            "sums before statistics",
            "You sum the rewards and normalise the sums. The other order: normalise, then sum.",
            made(reverse=True),
        ),
        Misconception(
            "sums backwards",
            "You sum what came before a turn. A turn is responsible for what follows it.",
            made(summed=so_far),
        ),
        Misconception(
            "no sum",
            "You stop at each turn's own normalised reward. What follows belongs to it, too.",
            made(summed=unsummed),
        ),
        Misconception(
            "no discount",
            "You ignore gamma. It is 1 in the authors' script, and a number in the formula.",
            made(summed=undiscounted),
        ),
    ),
    (
        Property("other questions of the batch do not matter", _other_questions_unseen),
        Property("which number a cluster has does not matter", _names_do_not_matter),
    ),
    shown,
    (
        "First q, one number a cluster: its share of the answers given, times e to its mean support, divided so that "
        "the clusters of the question sum to 1. Who gave no answer counts in no share.",
        "Then rewards: q times the rise of log belief at each turn (none where there is one turn only), and half of q "
        "more at the last.",
        "Normalise over all turns of the question (spread of a sample; 0 for a value alone), then walk each row from "
        "its end: A_t = r_t + gamma A_{t+1}.",
    ),
)

hint = hints(ex)
