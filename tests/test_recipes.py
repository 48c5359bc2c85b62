"""Recipes: what the published settings are, and what a recipe refuses."""

from __future__ import annotations

import pytest
import torch

from workbench import recipes
from workbench.batch import Batch
from workbench.objective import Objective
from workbench.recipes.outcome import overlong_penalty


def weights(objective: Objective) -> dict[str, float]:
    return {term.name: term.weight_at(0) for term in objective.terms}


@pytest.mark.parametrize(
    ("recipe", "terms", "dual"),
    [
        (recipes.igpo_released(), {"policy": 1.0, "kl": 0.001, "entropy": 0.001}, 3.0),
        (recipes.matchtir_released(), {"policy": 1.0, "kl": 0.001, "entropy": 0.001}, 3.0),
        (recipes.gigpo_released(), {"policy": 1.0, "kl": 0.01}, None),
        (recipes.a2tgpo_released(), {"policy": 1.0}, None),
        (recipes.gspo(), {"policy": 1.0}, None),
    ],
)
def test_released_objectives(recipe: recipes.Recipe, terms: dict[str, float], dual: float | None) -> None:
    assert weights(recipe.objective) == terms
    assert recipe.objective.terms[0].loss.dual == dual  # type: ignore[attr-defined]


@pytest.mark.parametrize("make", [lambda: recipes.igpo(norm="both"), lambda: recipes.igpo_released(gain="odds")])
def test_an_option_that_is_not_there_is_refused(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="expected"):
        make()


def test_gigpo_refuses_another_norm() -> None:
    with pytest.raises(ValueError, match="expected norm='mean' or 'mean_std'"):
        recipes.gigpo(norm="std")  # type: ignore[arg-type]


def test_the_overlong_penalty_without_a_cache_is_a_step() -> None:
    assert overlong_penalty(torch.tensor([9, 10, 11]), 10, 0).tolist() == [0.0, 0.0, -1.0]


def test_the_overlong_penalty_needs_lengths() -> None:
    batch = Batch.of_maps([0, 1], ["a", "a"]).with_column("outcome", "trajectory", [1.0, 0.0])
    with pytest.raises(ValueError, match="lengths are unknown"):
        recipes.dapo(max_length=100, cache=10).credit(batch)


def test_the_trace_ends_with_the_turns_that_are_not_trained() -> None:
    batch = Batch.of_maps([0, 0, 1], ["a", "a"], [0, 1, 1, 2]).with_column("outcome", "trajectory", [1.0, 0.0])
    plain = recipes.grpo().trace(batch)
    batch = batch.with_column("trainable", "turn", torch.tensor([True, False, True]))
    steps = recipes.grpo().trace(batch)
    assert len(steps) == len(plain) + 1 and steps[-1].credit.counts()["not trainable"] == 2
    assert steps[-1].credit.tolist() == recipes.grpo().credit(batch).tolist()
