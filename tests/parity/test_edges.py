"""Edges of the cases' encodings: equal gains, no calls, other aggregations, integers among floats, centring only."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import run as parity


def verdict(method: str, function: str, inputs: Any, params: Any, expected: Any) -> parity.Verdict:
    case = {"name": "edge", "function": function, "inputs": inputs, "params": params, "expected": expected}
    return parity.run_case(method, case)


@pytest.mark.parametrize("gain", [0.1, 0.3, 0.7])
def test_equal_gains_are_equal_after_the_sums(gain: float) -> None:
    """All gains equal: every z is exactly 0, so no turn is a boundary and nothing is discounted."""
    inputs = {"ig": [[gain] * 5, [gain]], "outcome": [0.0, 1.0], "groups": ["q", "q"]}
    params = {"variant": "released", "norm_mode": "separate", "gamma": 0.5}
    one = 0.5 / (math.sqrt(0.25 + 1e-8) + 1e-6)
    found = verdict("IGPO", "turn_advantages", inputs, params, {"turn_advantages": [[-one] * 6, [one] * 2]})
    assert found.status == "ok", found


def test_the_release_can_be_asked_not_to_divide() -> None:
    inputs = {"ig": [[0.5, 0.25], [1.0]], "outcome": [1.0, 0.0], "groups": ["q", "q"]}
    params = {"variant": "released", "norm_mode": "separate", "gamma": 1.0, "norm_adv_by_std": False}
    mean = 1.75 / 3
    first, second, third = 0.5 - mean, 0.25 - mean, 1.0 - mean
    expected = {"turn_advantages": [[first + second + 0.5, second + 0.5, 0.5], [third - 0.5, -0.5]]}
    assert verdict("IGPO", "turn_advantages", inputs, params, expected).status == "ok"
    assert verdict("IGPO", "turn_advantages", inputs, {**params, "variant": "paper"}, expected).status == "unsupported"


def test_a_rollout_without_calls() -> None:
    inputs = {"pred_calls": [], "gold_calls": [{"name": "search", "parameters": {"q": "x"}}]}
    keys = ("similarity", "km_reward_official_greedy", "km_reward_true_hungarian", "ot_reward", "ot_plan")
    found = verdict("MatchTIR", "matching", inputs, {"variant": "released"}, {key: [] for key in keys})
    assert found.status == "ok", found


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("agg", ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"])
def test_turn_clip_loss(variant: str, agg: str) -> None:
    for seed in range(30):
        rng = random.Random(seed)
        tokens = [[rng.randint(1, 3) for _ in range(rng.randint(1, 4))] for _ in range(rng.randint(1, 3))]
        advantage = [[rng.choice([0.5, 1.0, -1.0, 0.0]) for _ in row] for row in tokens]
        widen = [[rng.choice([1.0, 0.8, 1.2]) for _ in row] for row in tokens]
        ratio = [[rng.uniform(-0.02, 0.02) for _ in range(sum(row))] for row in tokens]
        rows = list(zip(tokens, advantage, widen, ratio, strict=True))
        losses = [_row_losses(*row, merge=variant == "released") for row in rows]
        n, sums = len(rows), [sum(row) for row in losses]
        loss = {
            "token-mean": sum(sums) / sum(map(len, losses)),
            "seq-mean-token-mean": sum(s / len(row) for s, row in zip(sums, losses, strict=True)) / n,
            "seq-mean-token-sum": sum(sums) / n,
            "seq-mean-token-sum-norm": sum(sums) / max(map(len, losses)),
        }[agg]
        inputs = {"groups": ["q"] * n, "model_tokens_per_turn": tokens, "log_ratio_model_tokens": ratio}
        inputs |= {"advantages_per_turn": advantage, "clip_scale_per_turn": widen}
        params = {"variant": variant, "clip_low": 3e-3, "clip_high": 4e-3, "adaptive": True, "agg": agg}
        found = verdict("A2TGPO", "turn_clip_loss", inputs, params, {"loss": loss})
        assert found.status == "ok", (seed, found)


def _row_losses(
    tokens: list[int], advantage: list[float], widen: list[float], ratio: list[float], *, merge: bool
) -> list[float]:
    """Token losses of one rollout; the release takes neighbours of equal advantage for one turn."""
    out: list[float] = []
    turn = 0
    while turn < len(tokens):
        end = turn + 1
        while merge and end < len(tokens) and advantage[end] == advantage[turn]:
            end += 1
        at = sum(tokens[:turn])
        inside = ratio[at : at + sum(tokens[turn:end])]
        s = math.exp(sum(inside) / len(inside))
        for k in range(turn, end):
            a, bounds = advantage[k], (1 - 3e-3 * widen[k], 1 + 4e-3 * widen[k])
            out += [max(-a * s, -a * min(max(s, bounds[0]), bounds[1]))] * tokens[k]
        turn = end
    return out


def test_an_integer_in_a_list_of_numbers_is_a_number() -> None:
    assert max(gap for gap, _ in parity.differences([0, 1], [1e-9, 1.0])) < 1e-5
    assert max(gap for gap, _ in parity.differences([0], [0.1])) == pytest.approx(0.1)
    assert max(gap for gap, _ in parity.differences([1], [True])) == math.inf
    assert max(gap for gap, _ in parity.differences([1], [2])) == math.inf
