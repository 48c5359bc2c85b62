"""Evidence that is there already is not asked for again, and what was recorded is not replaced."""

from __future__ import annotations

from workbench import recipes
from workbench.evidence import for_recipe
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
