"""Agreement, disagreement, error against true credit, collapse: by hand and against a statistics library."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from workbench import compare, recipes
from workbench.batch import Batch
from workbench.credit import Credit

# trajectories of 3, 2 and 1 turns in one group; one of 2 turns alone
MAPS = Batch.of_maps([0, 0, 0, 1, 1, 2, 3, 3], ["a", "a", "a", "b"])


def credit(values: list[float | None], level: str = "turn") -> Credit:
    x = torch.tensor([0.0 if v is None else v for v in values], dtype=torch.float64)
    return Credit(x, level, torch.tensor([v is not None for v in values], dtype=torch.bool))


A = credit([1.0, 2.0, 3.0, 1.0, -1.0, None, 0.0, 0.0])
B = credit([2.0, 4.0, 6.0, -1.0, 1.0, 5.0, 1.0, None])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=3, max_size=12))
def test_correlations_agree_with_scipy(pairs: list[tuple[int, int]]) -> None:
    x, y = (torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True))
    assert compare.ranks(x).tolist() == stats.rankdata(x.numpy()).tolist()
    constant = len(set(x.tolist())) == 1 or len(set(y.tolist())) == 1
    for ours, theirs in ((compare.pearson, stats.pearsonr), (compare.spearman, stats.spearmanr)):
        got = ours(x, y)
        assert (got is None) == constant
        if got is not None:
            assert got == pytest.approx(theirs(x.numpy(), y.numpy()).statistic, abs=1e-9)


def test_agreement_over_units_known_in_both() -> None:
    assert compare.agreement(A, A) == 1.0 and compare.agreement(A, B, "sign") == 3 / 6
    assert compare.agreement(A, B, "pearson") == pytest.approx(
        stats.pearsonr([1, 2, 3, 1, -1, 0], [2, 4, 6, -1, 1, 1]).statistic
    )
    assert compare.agreement(credit([None] * 8), A) is None
    by_trajectory = compare.agreement_by_trajectory(A, B, MAPS)
    assert by_trajectory == [pytest.approx(1.0), pytest.approx(-1.0), None, None]
    assert compare.agreement_by_trajectory(A, B, MAPS, "sign") == [1.0, 0.0, None, 0.0]
    with pytest.raises(ValueError, match="8 turns and 4 trajectorys"):
        compare.agreement(A, credit([0.0] * 4, "trajectory"))
    with pytest.raises(ValueError, match=r"\['spearman', 'pearson', 'sign'\], got 'cosine'"):
        compare.agreement(A, B, "cosine")  # type: ignore[arg-type]


def test_matrix_of_recipes() -> None:
    batch = MAPS.with_column("outcome", "trajectory", [1.0, 0.0, 0.0, 1.0])
    batch = batch.with_column("turn_reward", "turn", [1.0, 0.0, 2.0, 1.0, 1.0, 0.0, 0.0, 3.0])
    batch = batch.with_column("state", "turn", [0, 1, 2, 0, 1, 0, 0, 1])
    credits = compare.credits_of([recipes.grpo(), recipes.rloo(), recipes.gigpo()], batch)
    frame = compare.agreement_matrix(credits)
    assert list(frame.columns) == list(frame.index) == ["grpo", "rloo", "gigpo"]
    assert frame.loc["grpo", "rloo"] == pytest.approx(1.0)
    assert frame.loc["grpo", "gigpo"] == frame.loc["gigpo", "grpo"] < 1.0
    assert frame.loc["gigpo", "gigpo"] == pytest.approx(1.0)
    nothing = compare.agreement_matrix({"a": credit([None] * 8), "b": A})
    assert math.isnan(nothing.loc["a", "b"])
    with pytest.raises(ValueError, match=r"different names, got \['grpo', 'grpo'\]"):
        compare.credits_of([recipes.grpo(), recipes.grpo()], batch)


def test_disagreement_ignores_scale_and_ranks_the_worst_first() -> None:
    got = compare.disagreement(A, B, MAPS)
    # 0: the same map at twice the size; 1: opposite; 2: no common unit; 3: one of them credits nothing
    assert [(d.trajectory, d.place, d.score, d.signs) for d in got] == [
        ("1", 1, 1.0, 1.0),
        ("3", 3, 0.5, 1.0),
        ("0", 0, 0.0, 0.0),
    ]


def test_error_against_true_credit() -> None:
    truth = [1.0, -1.0, 3.0, 0.0, 2.0, 9.0, None, 0.5]
    batch = MAPS.with_column("true", "turn", truth).with_column("se", "turn", [0.1] * 7 + [0.4])
    got = compare.error_against(credit([2.0, -2.0, 6.0, 1.0, 4.0, None, 7.0, -1.0]), batch, "true", "se")
    # six units known in both; the fourth is exactly 0 and the last within two standard errors: no sign
    assert got.units == 6 and got.signs == 1.0
    assert got.bias == pytest.approx((1.0 - 1.0 + 3.0 + 1.0 + 2.0 - 1.5) / 6)
    assert got.rank_correlation == pytest.approx(stats.spearmanr([2, -2, 6, 1, 4, -1], [1, -1, 3, 0, 2, 0.5]).statistic)
    assert compare.error_against(credit([2.0, -2.0, 6.0, 1.0, 4.0, None, 7.0, -1.0]), batch, "true").signs == 4 / 5
    double = compare.error_against(credit([2.0, -2.0, 6.0, 0.0, 4.0, 18.0, None, 1.0]), batch, "true")
    assert double.scaled_rmse == pytest.approx(0.0) and double.rank_correlation == pytest.approx(1.0)
    nothing = compare.error_against(credit([0.0] * 8), batch, "true")
    assert nothing.scaled_rmse == 1.0 and nothing.rank_correlation is None and nothing.signs == 0.0
    assert compare.error_against(credit([None] * 8), batch, "true") == (0, None, None, None, None)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (3, 8), (1, 100), (40, 64)])
def test_wilson_agrees_with_scipy(k: int, n: int) -> None:
    reference = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert compare.wilson(k, n) == pytest.approx((k / n, reference.low, reference.high), abs=1e-6)


def test_wilson_without_trials_and_with_nonsense() -> None:
    share, low, high = compare.wilson(0, 0)
    assert math.isnan(share) and (low, high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="0 <= k <= n, got k = 3, n = 2"):
        compare.wilson(3, 2)


def groups(*members: list[float | None]) -> Batch:
    maps = Batch.of_maps([], [i for i, row in enumerate(members) for _ in row])
    return maps.with_column("outcome", "trajectory", [v for row in members for v in row])


def test_causes_of_collapse() -> None:
    batch = groups([1.0, 0.0], [1.0, 1.0], [0.0, 0.0, 0.0], [0.5, 0.5], [1.0, None], [None, None], [1.0, None, 0.0])
    assert compare.cause_of_collapse(batch) == [
        "varied", "all solved", "all failed", "all equal", "single survivor", "unknown", "varied",
    ]  # fmt: skip
    got = compare.collapse(batch)
    assert got.share == compare.wilson(4, 6) and got.causes["varied"] == 2 and got.forecast is None
    failed = compare.cause_of_collapse(groups([-1.0, -1.0]), failed=-1.0)
    assert failed == ["all failed"]


def test_forecast_of_collapse() -> None:
    assert compare.forecast(0.0, 4) == compare.forecast(1.0, 4) == 1.0
    batch = groups([1.0, 0.0, 0.0, 0.0], [0.0, 0.0, None])
    got = compare.collapse(batch)
    p = 1 / 6
    assert got.forecast == pytest.approx((p**4 + (1 - p) ** 4 + p**2 + (1 - p) ** 2) / 2)
    assert compare.collapse(groups([None])).forecast is None
    with pytest.raises(ValueError, match=r"0 <= p <= 1 and members >= 1, got p = 1.5"):
        compare.forecast(1.5, 2)


def test_forecast_agrees_with_draws() -> None:
    draw = torch.Generator().manual_seed(0)
    outcomes = (torch.rand(4000, 4, generator=draw) < 0.3).double()
    batch = Batch.of_maps([], torch.arange(4000).repeat_interleave(4)).with_column(
        "outcome", "trajectory", outcomes.flatten()
    )
    got = compare.collapse(batch)
    assert got.forecast is not None and got.share.low < got.forecast < got.share.high
