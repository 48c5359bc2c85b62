"""The relatives on numbers by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from workbench import recipes
from workbench.batch import Batch

# two rollouts of one task: three turns and two; a third of one turn, alone in its task
OWNER = [0, 0, 0, 1, 1, 2]


def batch(tokens: list[int] | None = None, **columns: tuple[str, list[Any]]) -> Batch:
    made = Batch.of_maps(OWNER, ["g", "g", "alone"], tokens)
    for name, (level, values) in columns.items():
        made = made.with_column(name, level, values)
    return made


OUTCOME = ("trajectory", [1.0, 0.0, 1.0])


def turns(recipe: recipes.Recipe, made: Batch) -> list[float | None]:
    return recipe.credit(made, to="turn").tolist()


def test_mt_grpo_adds_the_turn_and_the_outcome() -> None:
    made = batch(outcome=OUTCOME, turn_reward=("turn", [2.0, 0.0, 5.0, 0.0, 1.0, 9.0]))
    half = math.sqrt(0.5)  # z of two values is +-1/sqrt(2)
    # turn 0: 2 beats 0; turn 1: 0 loses to 1; turn 2 and the lone rollout have no peers
    assert turns(recipes.mt_grpo(), made) == pytest.approx([2 * half, 0.0, half, -2 * half, 0.0, 0.0], abs=1e-5)
    assert turns(recipes.mt_grpo(weight=0.0), made) == pytest.approx([half] * 3 + [-half] * 2 + [0.0], abs=1e-5)


def test_an_answer_without_a_reward_of_its_own_has_the_outcomes_term_alone() -> None:
    half = math.sqrt(0.5)
    made = batch(outcome=OUTCOME, turn_reward=("turn", [2.0, None, None, 0.0, None, None]))
    found = turns(recipes.mt_grpo(), made)
    assert [found[0], found[2], found[3], found[4]] == pytest.approx([2 * half, half, -2 * half, -half], abs=1e-5)
    assert found[1] is None  # a call whose reward nobody knows


def test_mt_grpo_as_released_pays_the_call_alone() -> None:
    """Three rollouts of a task: call and answer, call and answer, answer at once."""
    made = Batch.of_maps([0, 0, 1, 1, 2], ["g"] * 3).with_column("outcome", "trajectory", [1.0, 0.0, 1.0])
    made = made.with_column("turn_reward", "turn", torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]).double())
    third, sixth = math.sqrt(1 / 3), math.sqrt(4 / 3)  # z of (a, b, a): +-1/sqrt(3) twice, twice as far once
    # outcome (1, 0, 1); reward (0, 1, 0); both together (1, 1, 1)
    additive = turns(recipes.mt_grpo_released(), made)
    assert additive == pytest.approx([third - third, third, sixth - sixth, -sixth, 0.0], abs=1e-3)
    twice = turns(recipes.mt_grpo_released(weight=2.0), made)
    assert twice == pytest.approx([-third, third, sixth, -sixth, 0.0], abs=1e-3)
    # r + gamma R with gamma 2: (2, 1, 2)
    cumulative = turns(recipes.mt_grpo_released(estimate="cumulative", gamma=2.0), made)
    assert cumulative == pytest.approx([third, third, -sixth, -sixth, third], abs=1e-3)


def test_bilevel_gae_by_hand() -> None:
    made = batch(
        [0, 0, 1, 2, 3, 4, 5],
        outcome=OUTCOME,
        turn_value=("turn", [0.5, 0.25, 0.75, 0.5, 0.5, 1.0]),
        value=("token", [0.5, 0.4, 0.25, 0.75, 0.5, 0.5, 1.0]),
    )
    raw = recipes.bilevel_gae(gamma_turn=1.0, lam_turn=0.5, whiten=False).credit(made).tolist()
    # rollout 0: d = (0.25 - 0.5, 0.75 - 0.25, 1 - 0.75); A_2 = 0.25, A_1 = 0.5 + 0.125, A_0 = -0.25 + 0.3125
    # turn 0 has two tokens: target A_0 + V_0 = 0.5625 at the second; lam = 1: target - V at both
    assert raw[:4] == pytest.approx([0.5625 - 0.5, 0.5625 - 0.4, 0.625, 0.25])
    # rollout 1: d = (0.5 - 0.5, 0 - 0.5); A_1 = -0.5, A_0 = -0.25
    assert raw[4:] == pytest.approx([-0.25, -0.5, 0.0])


def test_a_turn_reward_of_zero_is_a_turn() -> None:
    """The release finds turns by rewards that are not 0; here 0 and almost 0 differ by almost nothing."""
    values = {"turn_value": ("turn", [0.1] * 6), "value": ("token", [0.1] * 6)}
    found = []
    for first in (0.0, 1e-9):
        made = batch(list(range(6)), turn_reward=("turn", [first, 0.0, 1.0, 0.0, 0.0, 0.0]), **values)
        recipe = recipes.bilevel_gae(gamma=0.9, reward="turn_reward", whiten=False)
        found.append(recipe.credit(made).values)
    assert torch.allclose(*found, atol=1e-6)


GOLD = {
    "gold_logprob": ("turn", [-1.0, -0.5, None, -3.0, None, None]),
    "gold_logprob_start": ("trajectory", [-2.0, -2.0, -1.0]),
}


def test_potential_shaping_by_hand() -> None:
    made = batch(outcome=OUTCOME, **GOLD)
    # F = (1, 0.5, 0.5) and (-1, 3): each sums to 2 = -Phi_0; r' = (1, 0.5, 1.5), (-1, 3)
    # G' = (3, 2, 1.5), (2, 3)
    assert turns(recipes.potential_shaping(), made) == pytest.approx([0.5, -0.5, 0.0, -0.5, 0.5, 0.0])


def test_shaping_leaves_the_first_turn_as_it_was() -> None:
    made = batch(outcome=OUTCOME, **GOLD)
    flat = batch(
        outcome=OUTCOME,
        gold_logprob=("turn", [-2.0, -2.0, None, -2.0, None, None]),
        gold_logprob_start=GOLD["gold_logprob_start"],
    )
    shaped, plain = (turns(recipes.potential_shaping(), one) for one in (made, flat))
    assert shaped[0] == plain[0] == 0.5 and shaped[3] == plain[3] == -0.5
    assert shaped[1] != plain[1]


def test_a_discounted_potential() -> None:
    made = batch(outcome=OUTCOME, **GOLD)
    steps = {step.label: step.credit for step in recipes.potential_shaping(gamma=0.5).trace(made) if step.depth == 0}
    rewards = next(credit for label, credit in steps.items() if label.startswith("mix"))
    # F_1 = 0.5 * -1 + 2, F_2 = 0.5 * -0.5 + 1, F_3 = 0 + 0.5, and the outcome at the end
    assert rewards.tolist()[:3] == pytest.approx([1.5, 0.75, 1.5])


def test_progress_share_by_hand() -> None:
    made = batch(outcome=OUTCOME, match_reward=("turn", [math.log(2), 0.0, 0.0, 0.5, None, 0.0]))
    # shares 2:1:1 of 1; the failed rollout has nothing, its unknown turn is unknown
    assert turns(recipes.progress_share(), made) == pytest.approx([0.5, 0.0, 0.0, -0.5, None, 0.0])


def test_turn_ablation_by_hand() -> None:
    made = batch(ablation_drop=("turn", [3.0, 0.0, None, 0.0, None, None]))
    spread = math.sqrt(3.0)
    assert turns(recipes.turn_ablation(), made) == pytest.approx(
        [2 / spread, -1 / spread, None, -1 / spread, None, None], abs=1e-5
    )


def test_hindsight_by_hand() -> None:
    made = batch(
        [0, 0, 1, 2, 3, 4, 5],
        outcome=OUTCOME,
        logprob_informed=("token", [-1.0, -1.0, -1.0, -9.0, -0.1, -0.1, -1.0]),
        logprob_plain=("token", [-1.25, -1.25, -1.0, -1.0, -1.0, -1.0, -9.0]),
    )
    expected = [1 - math.exp(-0.5), 0.0, 1 - math.exp(1.0), 0.0, 0.0, 1 - math.exp(-1.0)]
    assert turns(recipes.hindsight(), made) == pytest.approx(expected)
    assert turns(recipes.hindsight(bound=0.25), made)[0] == pytest.approx(1 - math.exp(-0.25))


def test_shapley_is_what_was_found() -> None:
    made = batch(shapley=("turn", [0.25, -0.5, None, 0.0, None, None]))
    assert turns(recipes.shapley(), made) == [0.25, -0.5, None, 0.0, None, None]


def test_rudder_conserves_the_outcome() -> None:
    made = batch(
        outcome=OUTCOME,
        return_pred=("turn", [0.5, 0.75, 0.5, 0.25, 0.5, 1.0]),
        return_pred_start=("trajectory", [0.25] * 3),
    )
    assert turns(recipes.rudder(residual=False), made) == [0.25, 0.25, -0.25, 0.0, 0.25, 0.75]
    found = turns(recipes.rudder(), made)
    assert found == [0.25, 0.25, 0.25, 0.0, -0.25, 0.75]
    sums = [sum(found[:3]), sum(found[3:5]), found[5]]  # type: ignore[arg-type]
    assert sums == pytest.approx([1.0 - 0.25, 0.0 - 0.25, 1.0 - 0.25])
