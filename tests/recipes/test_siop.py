"""SIOP by hand: the target, what a turn and the end are paid, who is compared, the ablations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from workbench import recipes
from workbench.batch import Batch
from workbench.recipes.siop import in_largest, process_reward, read, target, turn_credit

OWNER = [0, 0, 1, 1, 2, 3, 3]  # the third rollout has one turn, the fourth gave no answer
CLUSTERS = [0, 0, 1, None]


def batch(**changes: Any) -> Batch:
    columns = {
        "answer_cluster": ("trajectory", CLUSTERS),
        "cluster_support": ("trajectory", [0.5, None, 0.8, 0.9]),
        "cluster_prob": ("turn", [0.5, 0.25, 0.5, 0.5, 0.9, None, None]),
        "cluster_prob_start": ("trajectory", [0.25, 0.25, 0.1, None]),
    } | changes
    made = Batch.of_maps(OWNER, ["g"] * 4)
    for name, (level, values) in columns.items():
        made = made.with_column(name, level, values)
    return made


def rewards(made: Batch, eta: float = 0.0) -> list[float | None]:
    return process_reward(target(eta), 0.5, 0.0)(None, made).tolist()


def test_the_target_is_the_share_of_the_answers_tilted_by_support() -> None:
    assert target(0.0)(None, batch()).tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 3, None])
    mass = [2 / 3 * math.exp(0.5), 1 / 3 * math.exp(0.8)]  # a rollout without support counts in no mean
    q = [one / sum(mass) for one in mass]
    assert target(1.0)(None, batch()).tolist() == pytest.approx([q[0], q[0], q[1], None])


def test_what_a_turn_is_paid() -> None:
    q, log2 = 2 / 3, math.log(2.0)
    expected = [q * log2, -q * log2 + q / 2, q * log2, q / 2, (1 / 3) / 2, None, None]  # one turn: the end alone
    assert rewards(batch()) == pytest.approx(expected)


def test_a_turn_that_was_not_scored_is_unknown_and_stepped_over() -> None:
    hidden = ("turn", [None, 0.25, 0.5, 0.5, 0.9, None, None])
    found = rewards(batch(cluster_prob=hidden))
    assert found[0] is None and found[1] == pytest.approx(1 / 3)  # 0.25 after as before
    nothing = rewards(batch(cluster_prob=("turn", [None] * 7)))
    assert nothing == pytest.approx([None, 1 / 3, None, 1 / 3, 1 / 6, None, None])  # the ends alone


def test_who_gave_no_answer_is_unknown_here_and_blamed_in_the_release() -> None:
    paper, released = (make(eta=0.0).credit(batch(), to="turn") for make in (recipes.siop, recipes.siop_released))
    assert paper.known.tolist() == [True] * 5 + [False] * 2 and bool(released.known.all())
    assert bool((released.values[5:] < 0).all())
    pool = torch.tensor([x or 0.0 for x in rewards(batch())])
    z = (pool - pool.mean()) / (pool.std() + 1e-6)
    z0, z1, z2, z3, z4, z5, z6 = z.tolist()
    assert released.values.tolist() == pytest.approx([z0 + z1, z1, z2 + z3, z3, z4, z5 + z6, z6], abs=1e-5)


def test_the_ablations() -> None:
    majority = recipes.siop(reward="majority").credit(batch(), to="trajectory").tolist()
    z = [1 / math.sqrt(3), 1 / math.sqrt(3), -2 / math.sqrt(3)]
    assert majority == pytest.approx([*z, None], abs=1e-5)
    frequency = recipes.siop(reward="frequency").credit(batch(), to="trajectory").tolist()
    assert frequency == pytest.approx([*z, None], abs=1e-5)  # z-scores do not tell 1, 0 from 2/3, 1/3
    summed = recipes.siop(eta=0.0, broadcast=True).credit(batch(), to="turn").tolist()
    assert summed[0] == summed[1] and summed[2] == summed[3] and summed[5] is None
    with pytest.raises(ValueError, match="expected reward='process'"):
        recipes.siop(reward="best")  # type: ignore[arg-type]


def test_the_share_of_a_cluster_is_a_reward_without_support() -> None:
    recipe = recipes.siop(reward="frequency")  # the release's cluster_frequency: m_c, not q
    assert recipe.chain.needs == ("answer_cluster",)
    owner = torch.arange(6)
    made = Batch.of_maps(owner, ["g"] * 6).with_column("answer_cluster", "trajectory", [0, 0, 0, 1, 1, 2])
    m = torch.tensor([3, 3, 3, 2, 2, 1]).double() / 6
    assert recipe.credit(made, to="turn").tolist() == pytest.approx(((m - m.mean()) / m.std()).tolist(), abs=1e-4)


@pytest.mark.parametrize("reward", ["process", "majority", "frequency"])
@pytest.mark.parametrize("wrong", [-1, 0.5])
def test_what_is_no_number_of_a_cluster_is_refused(reward: Any, wrong: float) -> None:
    made = batch(answer_cluster=("trajectory", [0, 0, wrong, None]))
    with pytest.raises(ValueError, match=r"answer_cluster: trajectory '2' has .*whole number"):
        recipes.siop(reward=reward).credit(made)


def test_a_spread_of_almost_nothing_divides_by_one() -> None:
    made = Batch.of_maps([0, 1], ["g", "g"], [0, 1]).with_column("reward", "turn", [0.0, 1e-7])
    assert float(turn_credit(read("reward", "turn"), 1.0)(None, made).values.abs().max()) < 1e-6


def test_of_equally_large_clusters_the_first_wins() -> None:
    made = Batch.of_maps(range(5), ["g"] * 5).with_column("answer_cluster", "trajectory", [1, 0, 0, 1, 2])
    assert in_largest(made, read("answer_cluster")(None, made)).tolist() == [1.0, 0.0, 0.0, 1.0, 0.0]


def test_the_gold_answer_as_the_only_target() -> None:
    made = batch().with_column("gold_prob", "turn", [0.5, 0.25, 0.5, 0.5, 0.9, 0.2, 0.4])
    made = made.with_column("gold_prob_start", "trajectory", [0.25, 0.25, 0.1, 0.4])
    credit = recipes.siop(reward="gold").credit(made, to="turn")
    assert bool(credit.known.all())  # who gave no answer is compared, too
