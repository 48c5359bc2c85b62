"""Invariants that a recipe may claim, and their checkers: what holds is checked on a batch, not believed.

    Axiom = (name, what it says, check)          check: (Recipe, Batch) -> Verdict

Some hold for every recipe (`COMMON`); what else one declares stands by name in its catalogue row and is found by
`named`. A checker changes the batch in one respect (order of trajectories, other tasks, a constant added to a column),
computes the credit again and compares. A verdict is about that batch: a claim is trusted after many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from workbench.batch import Batch, Column, Level
from workbench.credit import Chain, Combine, Credit, Node, Stage
from workbench.credit.peers import Peers, task
from workbench.recipes.base import Recipe, _above_tokens
from workbench.recipes.outcome import grpo_released
from workbench.segments import next_known, seg_count, seg_sum

TOLERANCE = 1e-9


class Verdict(NamedTuple):
    """What a checker found.

    Args:
        holds: does the axiom hold on this batch?
        why: the first counterexample in words; "" if it holds.
        gap: the largest deviation that was measured.
    """

    holds: bool
    why: str = ""
    gap: float = 0.0


@dataclass(frozen=True)
class Axiom:
    """A named invariant.

    Args:
        name: as a catalogue row names it.
        says: one sentence.
        check: (recipe, batch) -> verdict.
    """

    name: str
    says: str
    check: Callable[[Recipe, Batch], Verdict]

    def __repr__(self) -> str:
        return self.name


# --------------------------------------------------------------------------------------------- comparing credit


def _lowest(batch: Batch) -> Level:
    return "token" if batch.has_tokens else "turn"


def _where(batch: Batch, level: Level, unit: int) -> str:
    owner = int(batch.up(level, "trajectory")[unit]) if level not in ("group", "batch") else -1
    return f"{level} {unit}" + (f" of trajectory {batch.trajectories[owner]!r}" if owner >= 0 else "")


def _same(got: Credit, expected: Credit, batch: Batch, tolerance: float = TOLERANCE) -> Verdict:
    """Equal up to a tolerance, and known for the same units."""
    differ = got.known != expected.known
    if bool(differ.any()):
        unit = int(torch.nonzero(differ)[0])
        return Verdict(False, f"{_where(batch, got.level, unit)}: known is {bool(got.known[unit])}, not before")
    gap = torch.where(got.known, (got.values - expected.values).abs(), torch.zeros_like(got.values))
    return _small(gap, batch, got.level, tolerance, "changes by")


def _small(gap: Tensor, batch: Batch, level: Level, tolerance: float, verb: str) -> Verdict:
    largest = float(gap.max()) if len(gap) else 0.0
    if largest <= tolerance:
        return Verdict(True, gap=largest)
    unit = int(gap.argmax())
    return Verdict(False, f"{_where(batch, level, unit)} {verb} {float(gap[unit]):.3g}", largest)


def _with(batch: Batch, name: str, values: Tensor, known: Tensor | None = None) -> Batch:
    """The batch with other values of a column it has."""
    c: Column = batch[name]
    return batch.with_column(name, c.level, values, c.known if known is None else known, c.provenance)


# --------------------------------------------------------------------------------------------------- of every recipe


def _finite(recipe: Recipe, batch: Batch) -> Verdict:
    for step in recipe.trace(batch):
        c = step.credit
        if len(c) != batch.count(c.level):
            return Verdict(False, f"{step.label}: {len(c)} values for {batch.count(c.level)} {c.level}s")
        bad = c.known & ~torch.isfinite(c.values)
        if bool(bad.any()):
            unit = int(torch.nonzero(bad)[0])
            return Verdict(False, f"{step.label}: {_where(batch, c.level, unit)} is {float(c.values[unit])}")
    return Verdict(True)


def _permutation_equivariant(recipe: Recipe, batch: Batch) -> Verdict:
    n, level = batch.count("trajectory"), _lowest(batch)
    tagged = batch.with_column("_unit", level, torch.arange(batch.count(level)))
    before = recipe.credit(batch)
    verdict = Verdict(True)
    for order in (list(range(n))[::-1], [*range(1, n, 2), *range(0, n, 2)]):
        moved = tagged.select(order)
        at = moved["_unit"].values
        expected = Credit(before.values[at], level, before.known[at])
        verdict = _same(recipe.credit(moved), expected, moved)
        if not verdict.holds:
            break
    return verdict


def _steps(node: Node, credit: Credit | None, batch: Batch) -> Iterator[tuple[Node, Credit | None, Credit]]:
    """Every stage with what came in and what came out; combinations with what came into the combination."""
    if isinstance(node, Chain):
        for stage in node.stages:
            before = None if stage.is_signal else credit
            yield from _steps(stage, before, batch)
            credit = stage(before, batch)
    elif isinstance(node, Combine):
        for branch in node.branches:
            yield from _steps(branch, None if branch.is_signal else credit, batch)
        parts = [branch(None if branch.is_signal else credit, batch) for branch in node.branches]
        out = node(credit, batch)
        may = torch.stack([part.known for part in parts])
        known = may.any(0) if node.unknown == "skip" else may.all(0)
        yield node, Credit(out.values, out.level, known), out
    elif isinstance(node, Stage):
        yield node, credit, node(credit, batch)


MAKES_KNOWN = ("fill", "backup")
"""Stages whose purpose is to make unknown units known; `mix(unknown="skip")` is the third way."""


def _unknown_stays_unknown(recipe: Recipe, batch: Batch) -> Verdict:
    node = recipe.chain if batch.has_tokens else _above_tokens(recipe.chain)
    for stage, before, after in _steps(node, None, batch):
        if before is None or getattr(stage, "name", "") in MAKES_KNOWN:
            continue
        if batch.holds(after.level, before.level):
            inside = batch.up(before.level, after.level)
            may = seg_count(inside, len(after), before.known) > 0
        else:
            may = batch.down(before.known, before.level, after.level)
        wrong = after.known & ~may
        if bool(wrong.any()):
            unit = int(torch.nonzero(wrong)[0])
            return Verdict(False, f"{stage!r} makes {_where(batch, after.level, unit)} known, which was unknown")
    return Verdict(True)


def _ignores_unknown_values(recipe: Recipe, batch: Batch) -> Verdict:
    other = batch
    for name, c in batch.columns.items():
        if c.values.is_floating_point():
            other = _with(other, name, torch.where(c.known, c.values, torch.full_like(c.values, 1e6)))
    return _same(recipe.credit(other), recipe.credit(batch), batch)


# -------------------------------------------------------------------------------------------- what some recipes claim


def _independent_of_other_tasks(recipe: Recipe, batch: Batch) -> Verdict:
    level, before = _lowest(batch), recipe.credit(batch)
    tagged = batch.with_column("_unit", level, torch.arange(batch.count(level)))
    for group in range(batch.count("group")):
        alone = tagged.select(torch.nonzero(batch.trajectory_group == group).flatten().tolist())
        at = alone["_unit"].values
        verdict = _same(recipe.credit(alone), Credit(before.values[at], level, before.known[at]), alone)
        if not verdict.holds:
            return verdict
    return Verdict(True)


def _zero_on_constant_outcome(recipe: Recipe, batch: Batch) -> Verdict:
    equal = torch.full((batch.count("trajectory"),), 0.1, dtype=torch.float64)
    credit = recipe.credit(_with(batch, "outcome", equal))
    gap = torch.where(credit.known, credit.values.abs(), torch.zeros_like(credit.values))
    return _small(gap, batch, credit.level, TOLERANCE, "has")


def zero_mean(peers: Peers = task, level: Level = "trajectory") -> Axiom:
    """Claim that credit sums to zero within every peer set of two or more units of a level."""

    def check(recipe: Recipe, batch: Batch) -> Verdict:
        credit = recipe.credit(batch, to=level)
        key = peers(batch, level)
        size = int(key.max()) + 1 if len(key) else 0
        count = seg_count(key, size, credit.known)
        mean = seg_sum(credit.values, key, size, credit.known).abs() / count.clamp_min(1)
        gap = torch.where(count > 1, mean, torch.zeros_like(mean))
        largest = float(gap.max()) if size else 0.0
        bad = f"peer set {int(gap.argmax())} has mean {largest:.3g}" if largest > TOLERANCE else ""
        return Verdict(not bad, bad, largest)

    units = "trajectories" if level == "trajectory" else f"{level}s"
    return Axiom(f"zero_mean({peers!r})", f"Credit of {units} has mean zero within {peers!r}.", check)


def translation_invariant(*columns: str) -> Axiom:
    """Claim that adding one constant a group to columns (together) changes nothing."""

    def check(recipe: Recipe, batch: Batch) -> Verdict:
        other = batch
        for name in columns:
            group = batch.up(batch[name].level, "group").to(torch.float64)
            other = _with(other, name, batch[name].values.to(torch.float64) + 0.7 + 0.3 * group)
        return _same(recipe.credit(other), recipe.credit(batch), batch, 1e-6)

    said = f"Adding a constant to {' and '.join(columns)} within a group changes nothing."
    return Axiom(f"translation_invariant({', '.join(columns)})", said, check)


def scale_invariant(column: str, tolerance: float = 1e-4) -> Axiom:
    """Claim that multiplying a column by a positive number changes nothing (up to the eps of a spread)."""

    def check(recipe: Recipe, batch: Batch) -> Verdict:
        other = _with(batch, column, 3.0 * batch[column].values.to(torch.float64))
        return _same(recipe.credit(other), recipe.credit(batch), batch, tolerance)

    return Axiom(f"scale_invariant({column})", f"Only the order and ratios of {column} matter, not its unit.", check)


def conserves(column: str) -> Axiom:
    """Claim that the credit of a trajectory's turns sums to a trajectory-level column."""

    def check(recipe: Recipe, batch: Batch) -> Verdict:
        credit = recipe.credit(batch, to="turn")
        owner, n = batch.turn_trajectory, batch.count("trajectory")
        complete = (seg_count(owner, n, ~credit.known) == 0) & (seg_count(owner, n) > 0) & batch[column].known
        gap = (seg_sum(credit.values, owner, n, credit.known) - batch[column].values.to(torch.float64)).abs()
        return _small(torch.where(complete, gap, torch.zeros_like(gap)), batch, "trajectory", 1e-6, "misses its sum by")

    return Axiom(
        f"conserves({column})", f"The turns of a trajectory share its {column}: nothing is lost or made.", check
    )


def causal(reward: str) -> Axiom:
    """Claim that no turn is credited for what its trajectory earned before it."""

    def check(recipe: Recipe, batch: Batch) -> Verdict:
        before, verdict = recipe.credit(batch, to="turn"), Verdict(True)
        for n in range(batch.count("trajectory")):
            mine = torch.nonzero(batch.turn_trajectory == n).flatten()
            if len(mine) < 2 or not bool(batch[reward].known[mine[0]]):
                continue
            values = batch[reward].values.to(torch.float64).clone()
            values[mine[0]] += 1.0
            after = recipe.credit(_with(batch, reward, values), to="turn")
            later = torch.zeros(len(after), dtype=torch.bool)
            later[mine[1:]] = True
            now, then = (Credit(torch.where(later, c.values, 0.0), "turn", c.known & later) for c in (after, before))
            verdict = _same(now, then, batch)
            if not verdict.holds:
                break
        return verdict

    return Axiom(f"causal({reward})", f"A turn's credit does not depend on the {reward} of earlier turns.", check)


Becomes = Literal["unknown", "next", "known"]


def unknown_policy(column: str, becomes: Becomes) -> Axiom:
    """Claim what a turn gets whose evidence is unknown.

    Args:
        column: the evidence; of a trajectory, it concerns all its turns.
        becomes: "unknown" (no credit, not in the loss), "next" (the credit of the next turn that has some, as long as
            there is one) or "known" (credit from what else is known).
    """

    def check(recipe: Recipe, batch: Batch) -> Verdict:
        c = batch[column]
        hidden = c.known & (torch.arange(len(c.known)) % 3 == 1)
        level = "token" if c.level == "token" else "turn"
        credit = recipe.credit(_with(batch, column, c.values, c.known & ~hidden), to=level)
        at = batch.down(hidden, c.level, level)
        if becomes == "next":
            values, there = next_known(credit.values, credit.known & ~at, batch.up(level, "trajectory"))
            wrong = at & there & ~(credit.known & (credit.values == values))
        else:
            wrong = at & (credit.known if becomes == "unknown" else ~credit.known)
        if not bool(wrong.any()):
            return Verdict(True)
        unit = int(torch.nonzero(wrong)[0])
        return Verdict(False, f"{_where(batch, level, unit)} without {column} got {credit.tolist()[unit]}")

    ways = {"unknown": "gets no credit", "next": "takes the credit of the next one", "known": "is credited still"}
    return Axiom(f"unknown_policy({column}, {becomes})", f"Where {column} is unknown, one {ways[becomes]}.", check)


def reduces_to(other: Recipe, when: Callable[[Batch], Batch], tolerance: float = 1e-6) -> Axiom:
    """Claim that a recipe is another one in a special case.

    Args:
        other: the simpler recipe.
        when: makes a batch of the special case; its `__name__` is how the axiom reads.
    """

    def check(recipe: Recipe, batch: Batch) -> Verdict:
        special = when(batch)
        return _same(recipe.credit(special), other.credit(special), special, tolerance)

    case = when.__name__.strip("_").replace("_", " ")
    return Axiom(f"reduces_to({other.name}, {when.__name__.strip('_')})", f"It is {other.name} with {case}.", check)


def states_met_once(batch: Batch) -> Batch:
    """Return the batch with a state of its own for every turn, every turn's reward known."""
    reward = batch["turn_reward"]
    known = _with(batch, "turn_reward", torch.where(reward.known, reward.values, 0.0), torch.ones_like(reward.known))
    return known.with_column("state", "turn", torch.arange(batch.count("turn")))


def _named(says: str, check: Callable[[Recipe, Batch], Verdict]) -> Axiom:
    return Axiom(check.__name__.strip("_"), says, check)


finite = _named("Every stage gives finite numbers, one a unit.", _finite)
permutation_equivariant = _named("The order of the trajectories changes nothing.", _permutation_equivariant)
unknown_stays_unknown = _named(
    "No stage but fill, backup and mix(unknown='skip') makes known what was not.", _unknown_stays_unknown
)
ignores_unknown_values = _named("What stands in an unknown unit changes nothing.", _ignores_unknown_values)
independent_of_other_tasks = _named("Other tasks in the batch change nothing.", _independent_of_other_tasks)
zero_on_constant_outcome = _named("Where all outcomes are equal there is no credit.", _zero_on_constant_outcome)

COMMON = (finite, permutation_equivariant, unknown_stays_unknown, ignores_unknown_values)
"""What every recipe must satisfy."""

_FIXED = (*COMMON, independent_of_other_tasks, zero_on_constant_outcome, zero_mean(task))
NAMED: Mapping[str, Axiom] = {a.name: a for a in (*_FIXED, reduces_to(grpo_released(), states_met_once))}
"""Axioms that catalogue rows name, and that are of no column."""
OF_COLUMNS: Mapping[str, Callable[..., Axiom]] = {
    made.__name__: made for made in (translation_invariant, scale_invariant, conserves, causal, unknown_policy)
}
"""Axioms of columns: a row names one as it is called, `unknown_policy(outcome, unknown)`."""


def named(name: str) -> Axiom:
    """Return the axiom that a catalogue row names; ValueError if there is none.

    Example:
        >>> named("unknown_policy(shapley, unknown)").says
        'Where shapley is unknown, one gets no credit.'
    """
    kind, _, inside = name.removesuffix(")").partition("(")
    try:
        found = NAMED.get(name) or OF_COLUMNS[kind](*inside.split(", "))
    except (KeyError, TypeError):
        found = None
    if found is None or found.name != name:
        raise ValueError(f"no axiom {name!r}; there are {[*NAMED]} and, of columns, {[*OF_COLUMNS]}")
    return found


def claimed(names: tuple[str, ...], recipe: str) -> tuple[str, ...]:
    """Return those of a row's names that concern a recipe: "AXIOM" concerns all of its recipes, "RECIPE: AXIOM" one.

    Example:
        >>> claimed(("finite", "grpo: zero_mean(task)", "rloo: finite"), "grpo")
        ('finite', 'zero_mean(task)')
    """
    split = [name.rpartition(": ") for name in names]
    return tuple(axiom for head, _, axiom in split if head in ("", recipe))


def check(recipe: Recipe, batch: Batch, names: tuple[str, ...] = ()) -> dict[str, Verdict]:
    """Check the common axioms and those named.

    Args:
        names: of further axioms, as `named` takes them.

    Raises:
        ValueError: a name that is not there.
    """
    axioms = {axiom.name: axiom for axiom in (*COMMON, *map(named, names))}
    first = finite.check(recipe, batch)
    if not first.holds:  # such a credit is refused, so nothing else can be asked of it
        return {name: first if name == finite.name else Verdict(False, "not asked") for name in axioms}
    return {finite.name: first} | {n: a.check(recipe, batch) for n, a in axioms.items() if n != finite.name}
