"""What all methods say together, and how many seeds a difference needs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t

from workbench.train import across, compared, seeds


def line(method, seed, solved, useful=1.0, useless=0.0, world="w"):
    cells = [
        [0, "useful", 2, 2 * useful, 2 * abs(useful), 0.0, 0.0],
        [1, "useless", 1, useless, abs(useless), 0.0, 0.0],
    ]
    later = [[0, "useful", 1, -9.0, 9.0, 0.0, 0.0], [1, "useless", 1, 9.0, 9.0, 0.0, 0.0]]
    return {"world": world, "method": method, "seed": seed, "success": [solved, 10], "turns_seen": [cells, later]}


RUNS = [
    *(line("grpo", seed, s) for seed, s in ((1, 2), (2, 4), (3, 6))),
    *(line("a", seed, s) for seed, s in ((1, 4), (2, 6), (3, 8))),
    *(line("b", seed, s) for seed, s in ((1, 2), (2, 6), (3, 4))),
    line("c", 1, 9),
]


def test_differences_are_taken_seed_by_seed():
    assert across.paired(RUNS, "w", "b") == pytest.approx([0.0, 0.2, -0.2])
    assert across.spread(RUNS, "w") == pytest.approx(0.1)  # a: 0, b: 0.2; c has one seed only
    with pytest.raises(ValueError, match="on nowhere"):
        across.spread(RUNS, "nowhere")


def test_a_family_is_averaged_within_a_seed_and_compared_over_seeds():
    found = across.family(RUNS, "w", ["a", "b", "grpo", "not run"])
    assert found == pytest.approx(compared.over_seeds([0.1, 0.2, 0.0]))
    assert across.family(RUNS, "w", ["a", "c"]).seeds == 1, "seeds that not all have are left out"
    assert across.family(RUNS, "w", ["grpo"]) is None


def test_sharpness_is_read_in_the_first_block_in_units_of_the_method():
    assert across.told_turns(line("m", 1, 0, 1.0, -1.0)) == pytest.approx(2.0)
    assert across.told_turns(line("m", 1, 0, 100.0, -100.0)) == pytest.approx(2.0)
    assert across.told_turns(line("m", 1, 0, 0.0, 0.0)) is None, "no credit is not no difference"
    found = across.by_method(RUNS, "w", ["a", "none"], across.told_turns)
    assert found == pytest.approx({"a": 1.5}), "a method without runs has no number"


def test_paying_for_stopping_is_measured_against_the_outcome_on_the_same_turns():
    def run(early, search):
        turns = [[1, "early", 10, 10 * early, 10.0, 5.0, 10.0], [1, "useful", 10, 10 * search, 10.0, 5.0, 10.0]]
        return {"turns_seen": [turns]}

    assert across.stopping_bias(run(0.5, 0.5)) == pytest.approx(0.0)
    assert across.stopping_bias(run(1.0, -1.0)) == pytest.approx(2.0)
    few = {"turns_seen": [[[1, "early", 9, 9.0, 9.0, 1.0, 1.0], [1, "useful", 10, 1.0, 1.0, 1.0, 1.0]]]}
    assert across.stopping_bias(few) is None


def test_rank_correlation_needs_methods_and_spread():
    assert across.ranks([1, 2, 3], [1, 2, 3]) is None
    assert across.ranks([1, 2, 3, 4], [5, 5, 5, 5]) is None
    assert across.ranks([1, 2, 3, 4], [4, 3, 2, 1]).value == -1.0


def test_power_is_what_simulated_comparisons_find():
    rng = np.random.default_rng(0)
    x = rng.normal(0.07, 0.05, (40000, 5))
    found = np.abs(x.mean(1) / x.std(1, ddof=1) * math.sqrt(5)) > t.ppf(0.975, 4)
    assert seeds.power(0.07, 0.05, 5) == pytest.approx(found.mean(), abs=0.01)
    assert seeds.power(-0.07, 0.05, 5) == seeds.power(0.07, 0.05, 5)
    assert seeds.power(100.0, 1.0, 5) == pytest.approx(1.0)


def test_detectable_and_needed_are_the_inverse_of_power():
    least = seeds.detectable(0.05, 5, 0.95)
    assert seeds.power(least, 0.05, 5) == pytest.approx(0.8)
    count = seeds.needed(0.05, 0.06)
    assert seeds.power(0.05, 0.06, count) >= 0.8 > seeds.power(0.05, 0.06, count - 1)
    assert seeds.needed(1.0, 0.001) == 2 and seeds.needed(1e-9, 1.0) is None
    with pytest.raises(ValueError, match="spread > 0"):
        seeds.power(1.0, 0.0, 5)
