"""The adapters against slow references that walk lists, on random ragged cases: zeros, ties, lone members, short rows.

Each reference is written from the method's description, number by number, without the package.
"""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import run as parity

Rows = list[list[float]]


def z_values(values: list[float], ddof: int, inside: float, eps: float, lone: str) -> list[float]:
    """z-scores of one pool."""
    if len(values) == 1:
        return [0.0] if lone == "zero" else [values[0] / (1.0 + eps)]
    mean = sum(values) / len(values)
    var = sum((v - mean) ** 2 for v in values) / (len(values) - ddof)
    if max(values) == min(values):
        return [0.0] * len(values)
    return [(v - mean) / (math.sqrt(var + inside) + eps) for v in values]


def z_by(values: dict[Any, float], keys: dict[Any, Any], **how: Any) -> dict[Any, float]:
    """z-scores within equal keys."""
    out = {}
    for key in dict.fromkeys(keys.values()):
        members = [unit for unit in values if keys[unit] == key]
        out.update(zip(members, z_values([values[u] for u in members], **how), strict=True))
    return out


IGPO_Z = {"ddof": 0, "inside": 1e-8, "eps": 1e-6, "lone": "zero"}
VERL_Z = {"ddof": 1, "inside": 0.0, "eps": 1e-6, "lone": "keep"}


def igpo_reference(case: dict[str, Any]) -> Rows:
    """Boundaries are turns with a non-zero gain; a normalised zero is no boundary either."""
    inputs, p = case["inputs"], case["params"]
    released = p["variant"] == "released"
    raw = {}
    for i, row in enumerate(inputs["ig"]):
        for t, gain in enumerate(row):
            if not released or gain != 0:
                raw[i, t] = gain * p["curriculum_ig"]
    last = {i: len(row) for i, row in enumerate(inputs["ig"])}
    ends = {(i, last[i]): r * p["curriculum_f1"] for i, r in enumerate(inputs["outcome"])}
    group = {unit: inputs["groups"][unit[0]] for unit in (*raw, *ends)}
    if p["norm_mode"] == "joint":
        z = z_by({**raw, **ends}, group, **IGPO_Z)
    else:
        z = {**z_by(raw, {u: group[u] for u in raw}, **IGPO_Z), **z_by(ends, {u: group[u] for u in ends}, **IGPO_Z)}
    out = []
    for i, row in enumerate(inputs["ig"]):
        values, running = [0.0] * (len(row) + 1), 0.0
        for t in range(len(row), -1, -1):
            boundary = t == len(row) or ((i, t) in z and not (released and z[i, t] == 0))
            running = z[i, t] + p["gamma"] * running if boundary else running
            values[t] = running
        out.append(values)
    return out


def a2tgpo_reference(case: dict[str, Any]) -> tuple[Rows, Rows]:
    """Turns are counted by their non-zero gains; a vanished turn takes the value of the next."""
    inputs, p = case["inputs"], case["params"]
    gains, at = {}, {}
    for i, row in enumerate(inputs["ig"]):
        scored = [t for t, g in enumerate(row) if g != 0]
        for k, t in enumerate(scored):
            gains[i, t], at[i, t] = row[t], (inputs["groups"][i], k)
    z = z_by(gains, at, **IGPO_Z)
    outcome = dict(enumerate(inputs["outcome"]))
    r = z_by(outcome, dict(enumerate(inputs["groups"])), **IGPO_Z)
    advantages, scales = [], []
    for i, row in enumerate(inputs["ig"]):
        value, scale = [r[i]] * (len(row) + 1), [1.0] * (len(row) + 1)
        total, terms = 0.0, 0
        for t in range(len(row) - 1, -1, -1):
            if (i, t) in z:
                total, terms = z[i, t] + p["gamma"] * total, terms + 1
                value[t] = p["alpha"] * total / math.sqrt(terms) + r[i]
                scale[t] = 1 + p["beta"] * (2 / (1 + math.exp(-z[i, t])) - 1)
            else:
                value[t], scale[t] = value[t + 1], scale[t + 1]
        advantages.append(value)
        scales.append(scale)
    return advantages, scales


def matchtir_reference(case: dict[str, Any]) -> dict[str, Any]:
    inputs, gamma = case["inputs"], case["params"]["turn_discount"]
    groups = inputs["groups"]
    returns: Rows = []
    for row in inputs["turn_rewards"]:
        out, running = [], 0.0
        for reward in reversed(row):
            running = reward + gamma * running
            out.insert(0, running)
        returns.append(out)
    whole = {i: sum(row) for i, row in enumerate(inputs["turn_rewards"])}
    u = z_by(whole, dict(enumerate(groups)), **VERL_Z)
    flat = {(i, t): v for i, row in enumerate(returns) for t, v in enumerate(row)}
    d = z_by(flat, {unit: (groups[unit[0]], unit[1]) for unit in flat}, **VERL_Z)
    half = 0.5 if case["params"]["variant"] == "released" else 1.0
    return {
        "traj_advantage": [u[i] for i in range(len(groups))],
        "discounted_return": returns,
        "turn_advantage": [[d[i, t] for t in range(len(row))] for i, row in enumerate(returns)],
        "fused": [[half * (u[i] + d[i, t]) for t in range(len(row))] for i, row in enumerate(returns)],
    }


def gigpo_reference(case: dict[str, Any]) -> dict[str, list[float]]:
    rows, p = case["inputs"]["rows"], case["params"]
    n = len(rows)
    returns = [0.0] * n
    running: dict[str, float] = {}
    for k in range(n - 1, -1, -1):
        name = rows[k]["traj"]
        running[name] = rows[k]["step_reward"] + p["gamma"] * running.get(name, 0.0)
        returns[k] = running[name]

    def normed(values: dict[Any, float], keys: dict[Any, Any], lone: str) -> dict[Any, float]:
        if p["mode"] == "mean_std_norm":
            return z_by(values, keys, ddof=1, inside=0.0, eps=1e-6, lone=lone)
        out = {}
        for key in set(keys.values()):
            members = [unit for unit in values if keys[unit] == key]
            mean = sum(values[unit] for unit in members) / len(members)
            mean = 0.0 if len(members) == 1 and lone == "keep" else mean
            out.update({unit: values[unit] - mean for unit in members})
        return out

    step = normed(dict(enumerate(returns)), {k: rows[k]["anchor"] for k in range(n)}, "zero")
    if p["cross_steps"]:
        scores, keys = {k: rows[k]["episode_score"] for k in range(n)}, dict.fromkeys(range(n), "q")
        episode = normed(scores, keys, "keep")
    else:
        scores = {row["traj"]: row["episode_score"] for row in rows}
        per = normed(scores, dict.fromkeys(scores, "q"), "keep")
        episode = {k: per[rows[k]["traj"]] for k in range(n)}
    return {
        "step_return": returns,
        "episode_adv": [episode[k] for k in range(n)],
        "step_adv": [step[k] for k in range(n)],
        "advantage": [episode[k] + p["omega"] * step[k] for k in range(n)],
    }


def some(rng: random.Random) -> float:
    """A number that is often 0 or equal to others."""
    return rng.choice([0.0, 0.0, 0.5, -0.5, 1.0, round(rng.uniform(-2, 2), 3)])


def ragged_case(rng: random.Random, rows: int) -> tuple[Rows, list[float], list[str]]:
    gains = [[some(rng) for _ in range(rng.randint(0, 4))] for _ in range(rows)]
    return gains, [rng.choice([0.0, 1.0, 0.5]) for _ in range(rows)], sorted(rng.choice("ABCD") for _ in range(rows))


def agrees(method: str, function: str, inputs: dict[str, Any], params: dict[str, Any], expected: Any) -> None:
    case = {"name": "random", "function": function, "inputs": inputs, "params": params, "expected": expected}
    verdict = parity.run_case(method, case)
    assert verdict.status == "ok", (verdict, case)


SEEDS = range(60)


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("mode", ["joint", "separate"])
def test_igpo(variant: str, mode: str) -> None:
    for seed in SEEDS:
        rng = random.Random(seed)
        gains, outcome, groups = ragged_case(rng, rng.randint(1, 7))
        inputs = {"ig": gains, "outcome": outcome, "groups": groups}
        params = {"variant": variant, "norm_mode": mode, "gamma": rng.choice([1.0, 0.9, 0.0])}
        params |= {"curriculum_ig": rng.choice([1.0, 0.7]), "curriculum_f1": rng.choice([1.0, 0.5])}
        expected = {"turn_advantages": igpo_reference({"inputs": inputs, "params": params})}
        agrees("IGPO", "turn_advantages", inputs, params, expected)


def test_a2tgpo_released() -> None:
    for seed in SEEDS:
        rng = random.Random(seed)
        gains, outcome, groups = ragged_case(rng, rng.randint(1, 7))
        tokens = [[rng.randint(1, 3) for _ in range(len(row) + 1)] for row in gains]
        inputs = {"ig": gains, "outcome": outcome, "groups": groups, "model_tokens_per_turn": tokens}
        params = {"variant": "released", "gamma": rng.choice([1.0, 0.8]), "alpha": rng.choice([0.3, 1.0]), "beta": 0.2}
        advantages, scales = a2tgpo_reference({"inputs": inputs, "params": params})
        expected = {"turn_advantages": advantages, "clip_scale": scales}
        agrees("A2TGPO", "turn_advantages", inputs, params, expected)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_matchtir(variant: str) -> None:
    for seed in SEEDS:
        rng = random.Random(seed)
        gains, _, groups = ragged_case(rng, rng.randint(1, 7))
        inputs = {"turn_rewards": [[*row, some(rng)] for row in gains], "groups": groups}
        params = {"variant": variant, "turn_discount": rng.choice([0.9, 1.0, 0.5])}
        expected = matchtir_reference({"inputs": inputs, "params": params})
        agrees("MatchTIR", "turn_advantages", inputs, params, expected)


@pytest.mark.parametrize("mode", ["mean_norm", "mean_std_norm"])
@pytest.mark.parametrize("cross", [True, False])
def test_gigpo_released(mode: str, cross: bool) -> None:
    for seed in SEEDS:
        rng = random.Random(seed)
        score = {name: rng.choice([0.0, 1.0]) for name in "abcd"}
        names = [rng.choice("abcd") for _ in range(rng.randint(1, 12))]
        rows = [
            {"traj": n, "anchor": rng.choice(["s0", "s1", "s2"]), "step_reward": some(rng), "episode_score": score[n]}
            for n in names
        ]
        params = {"variant": "released", "gamma": 0.95, "omega": rng.choice([1.0, 0.4]), "mode": mode}
        params["cross_steps"] = cross
        inputs = {"rows": rows}
        agrees("GiGPO", "advantage", inputs, params, gigpo_reference({"inputs": inputs, "params": params}))


def test_group_baselines() -> None:
    for seed in SEEDS:
        rng = random.Random(seed)
        n = rng.randint(1, 9)
        scores = [rng.choice([0.0, 1.0, 0.5, rng.uniform(-1, 1)]) for _ in range(n)]
        groups = [rng.choice("ABC") for _ in range(n)]
        pool = {g: [s for s, h in zip(scores, groups, strict=True) if h == g] for g in set(groups)}
        z = z_by(dict(enumerate(scores)), dict(enumerate(groups)), **VERL_Z)
        rows = list(zip(scores, groups, strict=True))
        loo = [s - (sum(pool[g]) - s) / (len(pool[g]) - 1) if len(pool[g]) > 1 else s for s, g in rows]
        centred = [s - sum(pool[g]) / len(pool[g]) if len(pool[g]) > 1 else s for s, g in rows]
        inputs = {"scores": scores, "groups": groups}
        expected = {"grpo": [z[i] for i in range(n)], "rloo": loo, "dr_grpo": centred}
        for function, values in expected.items():
            agrees("baselines", function, inputs, {"variant": "released"}, {"advantages": values})


AGGREGATES = ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"]


@pytest.mark.parametrize("agg", AGGREGATES)
def test_clipped_losses(agg: str) -> None:
    for seed in SEEDS:
        rng = random.Random(seed)
        rows, width = rng.randint(1, 4), rng.randint(1, 6)
        mask = [[1] * (k := rng.randint(0, width)) + [0] * (width - k) for _ in range(rows)]
        if not any(map(any, mask)):
            continue
        ratio = [[rng.uniform(-1.5, 1.5) for _ in range(width)] for _ in range(rows)]
        advantage = [some(rng) for _ in range(rows)]
        p = {"variant": "released", "clip_low": 0.2, "clip_high": 0.28, "dual_clip_c": rng.choice([3.0, None])}
        p |= {"agg": agg, "norm_length": rng.choice([None, 50])}

        def token(a: float, log: float, p: dict[str, Any] = p) -> float:
            r = math.exp(log)
            loss = max(-a * r, -a * min(max(r, 1 - p["clip_low"]), 1 + p["clip_high"]))
            return min(loss, -a * p["dual_clip_c"]) if p["dual_clip_c"] and a < 0 else loss

        triples = zip(advantage, ratio, mask, strict=True)
        losses = [[token(a, x) for x, m in zip(row, keep, strict=True) if m] for a, row, keep in triples]
        full = [row for row in losses if row]
        loss = {
            "token-mean": sum(map(sum, full)) / sum(map(len, full)),
            "seq-mean-token-mean": sum(sum(row) / len(row) for row in full) / len(full),
            "seq-mean-token-sum": sum(map(sum, full)) / len(full),
            "seq-mean-token-sum-norm": sum(map(sum, full)) / (p["norm_length"] or width),
        }[agg]
        inputs = {"log_ratio": ratio, "advantage_per_rollout": advantage, "mask": mask}
        agrees("baselines", "clip_loss", inputs, p, {"loss": loss})
