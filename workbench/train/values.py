"""Values of a value head as evidence: what it guesses of every state before the update, as columns of the batch.

value [T]         V(s_t): the state before sampled token t, that is, the prompt and all that stands before it
turn_value [K]    V of the state before the turn's first sampled token; unknown for a turn without one
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from workbench.batch import Batch, Provenance
from workbench.recipes import Recipe
from workbench.rollouts import Rollouts
from workbench.segments import run_starts
from workbench.train.parts import Part, score
from workbench.train.plan import Learner, Plan
from workbench.train.trees import parts_of

COLUMNS = {"value": "token", "turn_value": "turn"}
"""What a value head can give, and the level of each."""

Guess = Callable[[Learner, Batch, Plan], Tensor]
"""Who says the values of states; arguments and answer as of `values_of`."""


def values_of(learner: Learner, batch: Batch, plan: Plan) -> Tensor:
    """Return the value of the state before each sampled token: [T] float64, no gradient.

    Processes that learn together call it together: each goes through its share, all return all of them.

    Args:
        learner: with a value head.
        batch: with tokens and their sequences.
        plan: how many tokens a pass may have, and how they are packed.

    Raises:
        ValueError: the learner has no value head.
    """
    if learner.head is None:
        raise ValueError("the learner has no value head; its recipe asks for no value")
    student, ranks = learner.student, learner.ranks
    out = torch.zeros(batch.count("token"), dtype=torch.float64)
    everything = torch.ones(batch.count("token"), dtype=torch.bool)
    parts = parts_of(learner.model, batch, everything, plan.micro_tokens, plan.pack)

    def said(part: Part) -> tuple[Tensor, Tensor]:
        return part.tokens, score(student, part, plan.temperature)[1]["value"].double()

    with torch.no_grad():
        found = [said(part) for part in ranks.share(parts)]
        ranks.keep_pace(parts, said)
    for tokens, value in ranks.gather(found):
        out[tokens] = value
    return out


def with_values(
    rollouts: Rollouts, learner: Learner, recipe: Recipe, plan: Plan, guess: Guess | None = None
) -> Rollouts:
    """Add the columns of values that a recipe reads and nobody gave, from the learner's head as it is now.

    Args:
        rollouts: without them, or with those that somebody gave.
        learner, recipe, plan: of the run.
        guess: who says the values; None is this process (`values_of`).
    """
    wanted = [name for name in COLUMNS if name in recipe.needs and name not in rollouts.columns]
    if learner.head is None or not wanted:
        return rollouts
    batch = rollouts.batch()
    value = (guess or values_of)(learner, batch, plan)
    source = Provenance("ValueHead", policy_version=learner.policy.engine.version, tokens=len(value))
    if "value" in wanted:
        rollouts = rollouts.with_column("value", "token", value, provenance=source)
    if "turn_value" in wanted:
        at_turn, known = at_starts(value, batch)
        rollouts = rollouts.with_column("turn_value", "turn", at_turn, known, source)
    return rollouts


def at_starts(value: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the values [K] at the first sampled token of each turn, and which turns have one."""
    first = torch.nonzero(run_starts(batch.token_turn)).flatten()
    out, known = torch.zeros(batch.count("turn"), dtype=value.dtype), torch.zeros(batch.count("turn"), dtype=torch.bool)
    out[batch.token_turn[first]], known[batch.token_turn[first]] = value[first], True
    return out, known
