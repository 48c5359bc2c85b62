"""Segment operations: literal numbers, and slow loops over random ragged keys."""

from __future__ import annotations

import pytest
import torch

from workbench import segments as s

KEY = torch.tensor([0, 0, 1, -1, 3, 3, 3])
X = torch.tensor([1.0, 3.0, 5.0, 100.0, 2.0, 2.0, 8.0], dtype=torch.float64)
KNOWN = torch.tensor([True, True, True, True, True, False, True])


def test_sum_count_max_min_leave_out_key_minus_one_and_unknown() -> None:
    assert s.seg_sum(X, KEY, 4).tolist() == [4.0, 5.0, 0.0, 12.0]
    assert s.seg_sum(X, KEY, 4, KNOWN).tolist() == [4.0, 5.0, 0.0, 10.0]
    assert s.seg_count(KEY, 4).tolist() == [2, 1, 0, 3]
    assert s.seg_count(KEY, 4, KNOWN).tolist() == [2, 1, 0, 2]
    assert s.seg_max(X, KEY, 4, KNOWN).tolist() == [3.0, 5.0, 0.0, 8.0]
    assert s.seg_min(-X, KEY, 4).tolist() == [-3.0, -5.0, 0.0, -8.0]


def test_mean_weighted_mean_variance() -> None:
    assert s.seg_mean(X, KEY, 4, KNOWN).tolist() == [2.0, 5.0, 0.0, 5.0]
    weights = torch.tensor([3.0, 1.0, 2.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    assert s.seg_mean(X, KEY, 4, weights=weights).tolist() == [1.5, 5.0, 0.0, 2.0]
    assert s.seg_var(X, KEY, 4).tolist() == [1.0, 0.0, 0.0, 8.0]
    assert s.seg_var(X, KEY, 4, ddof=1).tolist() == [2.0, 0.0, 0.0, 12.0]
    assert s.seg_var(X, KEY, 4, KNOWN, ddof=2).tolist() == [0.0, 0.0, 0.0, 0.0]


def test_equal_values_have_exactly_their_mean_and_no_variance() -> None:
    x = torch.full((7,), 0.1, dtype=torch.float64)  # 7 * 0.1 / 7 is not 0.1 in floating point
    key = torch.zeros(7, dtype=torch.int64)
    assert float(x.sum() / 7) != 0.1
    assert s.seg_mean(x, key, 1).tolist() == [0.1]
    assert s.seg_var(x, key, 1).tolist() == [0.0]


def test_mean_carries_the_gradient_of_a_mean() -> None:
    x = X.clone().requires_grad_(True)
    s.seg_mean(x, KEY, 4)[3].backward()
    assert torch.allclose(x.grad, torch.tensor([0, 0, 0, 0, 1, 1, 1], dtype=torch.float64) / 3)


def test_last_runs_and_repeat() -> None:
    assert s.seg_last(KEY, 4).tolist() == [1, 2, -1, 6]
    assert s.run_starts(KEY).tolist() == [True, False, True, True, True, False, False]
    assert s.run_position(KEY).tolist() == [0, 1, 0, 0, 0, 1, 2]
    assert s.repeat(torch.tensor([True, False, True]), torch.tensor([2, 3, 0])).tolist() == [True, True] + [False] * 3


def test_number_keys_dense_and_sparse() -> None:
    a, b = torch.tensor([0, 1, 0, 1, -1]), torch.tensor([2, 0, 2, 0, 0])
    assert s.number_keys(a, b).tolist() == [0, 1, 0, 1, -1]
    huge = torch.tensor([10**9, 3, 10**9, -1])
    assert s.number_keys(huge).tolist() == [1, 0, 1, -1]
    empty = torch.empty(0, dtype=torch.int64)
    assert s.number_keys(empty, empty).tolist() == []


def test_backward_scan_restarts_at_every_segment() -> None:
    x = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    key = torch.tensor([0, 0, 0, 1, 1])
    factor = torch.tensor([0.5, 0.5, 9.0, 2.0, 9.0])
    assert s.backward_scan(x, key, factor).tolist() == [3.0, 4.0, 4.0, 40.0, 16.0]


def test_next_and_previous_known_stay_inside_their_segment() -> None:
    x, key = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), torch.tensor([0, 0, 0, 1, 1])
    known = torch.tensor([False, True, False, False, True])
    values, there = s.next_known(x, known, key)
    assert values.tolist() == [2.0, 2.0, 3.0, 5.0, 5.0] and there.tolist() == [True, True, False, True, True]
    values, there = s.previous_known(x, known, key)
    assert values.tolist() == [1.0, 2.0, 2.0, 4.0, 5.0] and there.tolist() == [False, True, True, False, True]


@pytest.mark.parametrize("seed", range(20))
def test_against_loops(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    n, size = int(torch.randint(0, 40, (1,), generator=draw)), 6
    x = torch.randn(n, generator=draw, dtype=torch.float64)
    key = torch.randint(-1, size, (n,), generator=draw)
    known = torch.rand(n, generator=draw) < 0.7
    runs, factor = key.sort().values, torch.rand(n, generator=draw, dtype=torch.float64)
    for k in range(size):
        members = [float(v) for v, i, there in zip(x, key, known, strict=True) if int(i) == k and bool(there)]
        mean = sum(members) / max(len(members), 1)
        spread = sum((m - mean) ** 2 for m in members) / max(len(members) - 1, 1) if len(members) > 1 else 0.0
        assert s.seg_mean(x, key, size, known)[k].item() == pytest.approx(mean, abs=1e-12)
        assert s.seg_var(x, key, size, known, 1)[k].item() == pytest.approx(spread, abs=1e-12)
        assert s.seg_max(x, key, size, known)[k].item() == max(members, default=0.0)
    expected, y = [0.0] * n, 0.0
    for i in reversed(range(n)):
        y = float(x[i]) + (float(factor[i]) * y if i + 1 < n and runs[i + 1] == runs[i] else 0.0)
        expected[i] = y
    assert s.backward_scan(x, runs, factor).tolist() == pytest.approx(expected)
