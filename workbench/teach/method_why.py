"""What a method changes in GRPO's credit: the first place to look when it learns like GRPO, or worse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from workbench.recipes import Recipe, grpo
from workbench.rollouts import Rollouts
from workbench.teach.method_page import NOISE, markdown, table, turns
from workbench.train.tally import kinds
from workbench.trajectory import Trajectory

Row = Sequence[float | None]


class Reach(NamedTuple):
    """What credit says of the turns of some rollouts.

    Args:
        turns: with credit other than 0.
        varied: rollouts in which not all turns have the same.
        won: pairs of a turn that helped and one of the same rollout that did not, in which the first has more (equal
            credit counts half); a pair with an unknown one is left out.
        pairs: how many there are; 0 where the world does not say what helped.
    """

    turns: int
    varied: int
    won: float
    pairs: int


def seen_from_grpo(rollouts: Rollouts, recipe: Recipe) -> Any:
    """Lay a method's credit beside GRPO's: whom it reaches, whose sign it turns, whether it tells turns apart.

    Args:
        rollouts: with the columns that the recipe reads.
        recipe: the method.

    Returns:
        a table, and in words what follows from it.
    """
    batch = rollouts.batch()
    base, mine = (turns(one, batch) for one in (grpo(kl=0.0), recipe))
    first, other = (reach(rollouts, rows) for rows in (base, mine))
    both = [(a, b) for p, q in zip(base, mine, strict=True) for a, b in zip(p, q, strict=True) if _says(a) and _says(b)]
    turned = sum((a > 0) != (b > 0) for a, b in both)  # type: ignore[operator]
    gap = max(
        (abs((a or 0.0) - (b or 0.0)) for p, q in zip(base, mine, strict=True) for a, b in zip(p, q, strict=True))
    )
    size, total = len(rollouts), sum(map(len, base))
    lines = [
        [f"turns with credit, of {total}", first.turns, other.turns],
        ["of those with credit from both, with the other sign", "", f"{turned} of {len(both)}"],
        [f"rollouts whose turns differ in credit, of {size}", first.varied, other.varied],
    ]
    if first.pairs and other.pairs:
        head = "a turn that helped has more than one of its rollout that did not"
        lines.append([head, *(f"{one.won / one.pairs:.0%} of {one.pairs} pairs" for one in (first, other))])
    shown = table(["on these rollouts", "`grpo`", f"`{recipe.name}`"], lines)
    return markdown(f"{shown.data}\n\n{words(first, other, turned, gap)}")


def words(first: Reach, other: Reach, turned: int, gap: float) -> str:
    """Say what follows.

    Args:
        first, other: GRPO's and the method's.
        turned: turns on which their signs differ.
        gap: the largest difference of their credit.

    Example:
        >>> words(Reach(4, 0, 1.0, 2), Reach(4, 0, 1.0, 2), 0, 0.0)
        "Credit is GRPO's wherever there is any: what differs can only be the loss, or what is sampled."
        >>> words(Reach(4, 0, 1.0, 2), Reach(6, 3, 2.0, 2), 0, 0.4)[:45]
        'It speaks on 2 turns on which GRPO is silent.'
    """
    if gap <= NOISE:
        return "Credit is GRPO's wherever there is any: what differs can only be the loss, or what is sampled."
    said = []
    if other.turns != first.turns:
        more, fewer = other.turns - first.turns, first.turns - other.turns
        said.append(
            f"It speaks on {more} turns on which GRPO is silent."
            if more > 0
            else f"It is silent on {fewer} more turns."
        )
    elif not turned and not other.varied:
        said.append("It praises and blames the turns that GRPO does; only by how much differs.")
    said.append(_inside(other))
    return " ".join(said)


def _inside(found: Reach) -> str:
    """Say what credit tells inside a rollout."""
    if not found.varied:
        return (
            "All turns of a rollout have one credit, as in GRPO: which of them mattered can only come out over many "
            "rollouts."
        )
    if not found.pairs:
        return "Inside a rollout turns differ; this world does not say which of them helped."
    share = found.won / found.pairs
    # two standard errors of a coin's share; pairs of one rollout hang together, so this is the least
    if abs(share - 0.5) <= found.pairs**-0.5:
        said = f"Inside a rollout it prefers the turn that helped in {share:.0%} of {found.pairs} pairs"
        return f"{said}: so few do not tell that from a coin."
    if share > 0.5:
        return f"Inside a rollout it prefers the turn that helped in {share:.0%} of pairs, where GRPO says nothing."
    return (
        f"Inside a rollout it prefers the turn that helped in {share:.0%} of pairs, **less often than a coin**: what "
        "follows a turn, or what else the method looks at, outweighs what the turn did."
    )


def reach(rollouts: Rollouts, rows: Sequence[Row]) -> Reach:
    """Count what credit says of the turns of rollouts.

    Args:
        rollouts: whose turns.
        rows: credit of turns, a row a rollout; None is unknown.
    """
    won, pairs = 0.0, 0
    for one, row in zip(rollouts, rows, strict=True):
        judged = [(h, c) for h, c in zip(helped(one), row, strict=True) if h is not None and c is not None]
        for good in (c for h, c in judged if h):
            for bad in (c for h, c in judged if not h):
                won, pairs = won + (0.5 if abs(good - bad) <= NOISE else float(good > bad)), pairs + 1
    known = [[c for c in row if c is not None] for row in rows]
    varied = sum(bool(row) and max(row) - min(row) > NOISE for row in known)
    return Reach(sum(_says(c) for row in rows for c in row), varied, won, pairs)


def helped(trajectory: Trajectory) -> list[bool | None]:
    """Say of each turn whether it brought the answer closer, where the world knows; None elsewhere and for answers."""
    known = [turn.rewards for turn in trajectory.turns]
    if known and all("oracle_distance" in rewards for rewards in known):
        return [{"useful": True, "useless": False}.get(kind) for kind in kinds(trajectory)]
    calls = [any(call.name == "answer" for call in turn.action.calls) for turn in trajectory.turns]
    return [
        None if last or "on_trace" not in rewards else rewards["on_trace"] > 0
        for rewards, last in zip(known, calls, strict=True)
    ]


def _says(credit: float | None) -> bool:
    return credit is not None and abs(credit) > NOISE
