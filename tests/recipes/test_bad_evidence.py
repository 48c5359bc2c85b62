"""Every recipe on rollouts of a real policy, and on broken rollouts, columns and scorers. No method is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from recipe_columns import makers

from workbench import envs, recipes
from workbench.evidence import Cache, MissingEvidence, collect, for_recipe
from workbench.evidence.table import RECORDED, TABLE, Sources, source_of
from workbench.policy import Settings, load
from workbench.policy.base import Policy, Scores
from workbench.recipes import Recipe
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.trajectory import RecordError, Trajectory

NAMES = [name for name in recipes.__all__ if name != "Recipe"]
WORLDS: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny@facet": ("facet", {"items": 8, "clues": 2}),
    "tiny@chain": ("retry", {"world": "chain", "attempts": 3, "knobs": {"hops": 1}, "say": "{question}"}),
    "tiny@toolbox": ("toolbox", {"changes": 1}),
    "tiny@dialogue": ("dialogue", {}),
}
OURS = (ValueError, TypeError, LookupError)
"""What a reader gets: `RecordError` and `MissingEvidence` are among them."""
HEADS = ("value", "turn_value")  # of the learner; no provider gives them


@cache
def player(name: str, world: str) -> Policy:
    tools = getattr(world_of(name), "tools", None)
    return load(name, tools=tools) if tools else load(name)


@cache
def world_of(name: str) -> Any:
    kind, knobs = WORLDS[name]
    return envs.load(kind, **knobs)


@cache
def played(name: str) -> Rollouts:
    env = world_of(name)
    tasks, short = env.tasks("test", 2, seed=3), Settings(max_new_tokens=24)
    return play(player(name, name), env, tasks, size=3, settings=short, seed=3, gather_s=None)


def measured(recipe: Recipe, rollouts: Rollouts, name: str) -> Rollouts:
    """The rollouts with all that the credit reads, the values of a head drawn."""
    asked = player(name, name)
    for head in [column for column in recipe.chain.needs if column in HEADS]:
        level = "token" if head == "value" else "turn"
        rollouts = rollouts.with_column(head, level, torch.zeros(rollouts.batch().count(level), dtype=torch.float64))
    return collect(rollouts, for_recipe(recipe, rollouts, policy=asked, reference=asked), cache=Cache())


@cache
def at_home(name: str) -> tuple[str, Rollouts] | None:
    """The first world in which all that a recipe reads is recorded or measured, and its rollouts."""
    recipe = getattr(recipes, name)()
    for world in WORLDS:
        try:
            found = measured(recipe, played(world), world)
        except (MissingEvidence, RecordError, ValueError):
            continue
        if bool(recipe.credit(found.batch()).known.any()):
            return world, found
    return None


@pytest.mark.parametrize("name", NAMES)
def test_evidence_is_recorded_or_measured_on_rollouts_of_a_real_policy(name: str) -> None:
    recipe, home = getattr(recipes, name)(), at_home(name)
    if home is None:  # a column of one's own: no provider gives it, and asking for it names it
        with pytest.raises(MissingEvidence) as missing:
            for_recipe(recipe, played("tiny@facet"), policy=load("tiny"), reference=load("tiny"))
        assert {source_of(column) for column in missing.value.columns} == {None}
        return
    batch = home[1].batch()
    credit = recipe.credit(batch)
    assert bool(torch.isfinite(credit.values[credit.known]).all())
    for column in recipe.chain.needs:
        if column not in HEADS:
            made = makers().get(column, ("", "rollout"))[1]
            assert batch[column].provenance.provider in (made, "rollout")


# ---------------------------------------------------------------------------------------------------- broken rollouts


def nothing_happened(t: Trajectory) -> Trajectory:
    """It broke before its first turn."""
    return replace(t, id=f"{t.id}/empty", turns=(), sequences=(), outcome=None, rewards={}, extra={})


@pytest.mark.parametrize("name", NAMES)
def test_a_rollout_without_turns_or_outcome_among_real_ones(name: str) -> None:
    """Told from the others, or refused in our words; the credit of the others is a number or unknown."""
    recipe, home = getattr(recipes, name)(), at_home(name)
    if home is None:
        return
    world, _ = home
    real = played(world)
    broken = Rollouts((*real.trajectories, nothing_happened(real.trajectories[0])))
    try:
        batch = measured(recipe, broken, world).batch()
        credit = recipe.credit(batch)
    except OURS as error:
        assert type(error) not in (KeyError, IndexError), repr(error)
        return
    assert len(credit) == real.batch().count("token")
    assert bool(torch.isfinite(credit.values[credit.known]).all())


@pytest.mark.parametrize("name", NAMES)
def test_outcomes_that_nobody_knows_are_unknown(name: str) -> None:
    recipe, home = getattr(recipes, name)(), at_home(name)
    if home is None or "outcome" not in recipe.chain.needs:
        return
    real = home[1]
    bare = replace(real, trajectories=tuple(replace(t, outcome=None) for t in real))
    plain, credit = recipe.credit(real.batch()), recipe.credit(bare.batch())
    assert bool(torch.isfinite(credit.values[credit.known]).all())
    assert not bool((credit.known & ~plain.known).any()), "unknown outcomes make something known"


# ------------------------------------------------------------------------------------------------------ broken columns


@pytest.mark.parametrize("name", NAMES)
def test_each_column_missing_of_a_wrong_shape_or_no_number_is_named(name: str) -> None:
    recipe, home = getattr(recipes, name)(), at_home(name)
    if home is None:
        return
    batch = home[1].batch()
    for column in recipe.chain.needs:
        c = batch[column]
        without = replace(batch, columns={k: v for k, v in batch.columns.items() if k != column})
        with pytest.raises(ValueError, match=column) as error:
            recipe.credit(without)
        assert recipe.name in str(error.value) and "for_recipe" in str(error.value)
        if column not in RECORDED and source_of(column):  # the call that would make it is named, and what it lacks
            bare = Rollouts(home[1].trajectories, {k: v for k, v in home[1].columns.items() if k != column})
            with pytest.raises(MissingEvidence, match=column):
                for_recipe(recipe, bare)
        numbers = c.values.double()
        for wrong in (float("nan"), float("inf")):
            with pytest.raises(ValueError, match=f"'{column}'"):
                batch.with_column(column, c.level, torch.full_like(numbers, wrong))
        with pytest.raises(ValueError, match=f"'{column}'"):
            batch.with_column(column, c.level, numbers[:-1])
        pairs = batch.with_column(column, c.level, torch.stack([numbers, numbers], 1), c.known)
        with pytest.raises(ValueError, match=column):
            recipe.credit(pairs)


# ------------------------------------------------------------------------------------------------------ broken scorers


def raises(scores: list[Scores]) -> Any:
    raise ConnectionError("the scorer is gone")


def not_numbers(scores: list[Scores]) -> Any:
    return [replaced(one, float("nan")) for one in scores]


def above_one(scores: list[Scores]) -> Any:
    return [replaced(one, 3.0) for one in scores]


def replaced(one: Scores, value: float) -> Scores:
    entropy = None if one.entropy is None else torch.full_like(one.entropy, -value)
    return one._replace(logprobs=torch.full_like(one.logprobs, value), entropy=entropy)


NONSENSE: dict[str, Callable[[list[Scores]], Any]] = {
    "raises": raises,
    "None": lambda scores: None,
    "a text": lambda scores: "0.5",
    "texts": lambda scores: ["0.5"] * len(scores),
    "one too few": lambda scores: scores[:-1],
    "scores of None": lambda scores: [one._replace(logprobs=None) for one in scores],
    "fewer tokens": lambda scores: [one._replace(logprobs=one.logprobs[:-1]) for one in scores],
    "NaN": not_numbers,
    "more than certain": above_one,
}


@dataclass(eq=False)
class Nonsense:
    """An engine that plays as another does and answers nonsense when asked to score."""

    engine: Any
    answer: Callable[[list[Scores]], Any]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def score(
        self, sequences: Any, spans: Any, *, temperature: float = 1.0, top_k: int = 0, entropy: bool = False
    ) -> Any:
        return self.answer(self.engine.score(sequences, spans, temperature=temperature, top_k=top_k, entropy=entropy))


ASKING = [row for row in TABLE if row.takes]


@pytest.mark.parametrize("said", NONSENSE)
@pytest.mark.parametrize("row", ASKING, ids=[row.columns[0] for row in ASKING])
def test_a_scorer_that_answers_nonsense_is_an_error_of_ours(row: Any, said: str) -> None:
    name = "tiny@facet"
    asked = player(name, name)
    broken = replace(asked, engine=Nonsense(asked.engine, NONSENSE[said]))
    provider = row.make(Sources(policy=broken, reference=broken))
    answered = [t for t in played(name) if any(call.name == "answer" for turn in t.turns for call in turn.calls)]
    assert answered, "nobody answers: nothing would be asked"
    real = Rollouts(tuple(answered[:1]))
    with pytest.raises(ConnectionError if said == "raises" else (ValueError, FloatingPointError)):
        collect(real, [provider], cache=Cache())
