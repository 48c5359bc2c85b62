"""Evidence that is there already is not asked for again, and what was recorded is not replaced."""

from __future__ import annotations

from dataclasses import replace

import pytest

from workbench import recipes
from workbench.evidence import for_recipe
from workbench.evidence.informed import InformedLogprobs
from workbench.evidence.scoring import SampledLogprobs, TokenEntropy
from workbench.policy import load
from workbench.recipes import Recipe
from workbench.rollouts import Rollouts
from workbench.trajectory import Message, Trajectory, Turn


def _rollouts(outcomes: tuple[float | None, ...]) -> Rollouts:
    def turn(i: int, k: int) -> Turn:
        return Turn(Message(f"m{i}.{k}", "assistant", "Answer: x"))

    return Rollouts(
        tuple(Trajectory(f"t{i}", "g", turns=(turn(i, 0), turn(i, 1)), outcome=o) for i, o in enumerate(outcomes))
    )


def test_collected_columns_that_are_unknown_in_places_are_there() -> None:
    rollouts = _rollouts((1.0, 0.0))
    rollouts = rollouts.with_column("gold_logprob", "turn", [-1.0, None, -2.0, None])
    rollouts = rollouts.with_column("gold_logprob_start", "trajectory", [-3.0, -3.0])
    assert for_recipe(recipes.igpo(), rollouts) == []


def test_recorded_outcomes_are_never_replaced() -> None:
    assert for_recipe(recipes.reinforce(), _rollouts((1.0, None))) == []
    assert len(for_recipe(recipes.reinforce(), _rollouts((None, None)))) == 1


def _sampled_at(*temperatures: float) -> Rollouts:
    made = _rollouts(tuple(0.0 for _ in temperatures)).trajectories
    return Rollouts(
        tuple(
            replace(t, turns=tuple(replace(turn, sampling={"temperature": at}) for turn in t.turns))
            for t, at in zip(made, temperatures, strict=True)
        )
    )


@pytest.mark.parametrize("recipe", [recipes.aem(), recipes.pbsd()], ids=lambda recipe: recipe.name)
def test_sampled_tokens_are_scored_at_the_temperature_they_were_sampled_at(recipe: Recipe) -> None:
    asked = load("tiny")

    def at(rollouts: Rollouts | None, temperature: float | None = None) -> list[float]:
        found = for_recipe(recipe, rollouts, policy=asked, temperature=temperature)
        return [one.temperature for one in found if isinstance(one, (TokenEntropy, InformedLogprobs))]

    assert at(_sampled_at(0.5, 0.5)) == [0.5] and at(_sampled_at(0.5), 0.7) == [0.7]
    assert at(None) == at(_rollouts((0.0,))) == at(_sampled_at(0.0)) == [1.0]  # not said; the likeliest tokens
    assert at(_sampled_at(0.5, 1.0), 0.7) == [0.7]
    with pytest.raises(ValueError, match=r"several temperatures, \[0\.5, 1\.0\]"):
        at(_sampled_at(0.5, 1.0))


def test_the_reference_is_asked_at_that_temperature_and_what_scores_nothing_is_not_refused() -> None:
    asked = load("tiny")
    [reference] = for_recipe(recipes.grpo(kl=0.1), _sampled_at(0.5), reference=asked, training=True)
    assert isinstance(reference, SampledLogprobs) and reference.temperature == 0.5
    assert for_recipe(recipes.grpo(), _sampled_at(0.5, 1.0)) == []
