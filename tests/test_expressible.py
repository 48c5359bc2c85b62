"""The algebra is wide enough: further methods in a few lines each, on their worked examples (losses: the next file).

Each adapter takes one case (inputs and parameters) and returns what the product says, key by key. It turns the nested
lists of the case into a `Batch` and back; every formula is a chain, a recipe, or a named pure function beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import (
    Credit,
    Node,
    above,
    add,
    apply,
    average,
    center,
    chain,
    clip,
    column,
    count_before,
    delta,
    difference,
    fill,
    forget,
    minmax,
    mix,
    multiply,
    place,
    read,
    reward_to_go,
    scale,
    spread,
    task,
    task_and_turn,
    total,
    zscore,
)
from workbench.credit import batch as everything
from workbench.objective import clipped
from workbench.recipes.base import Recipe

CASES = json.loads((Path(__file__).parent / "parity" / "cases" / "worked_examples.json").read_text())
GRPO = zscore(task, ddof=1, eps=1e-6, singleton="keep")
ROOT = {"ddof": 0, "eps_root": 1e-8, "eps": 1e-6}  # the convention of IGPO and DR-Venus


# ------------------------------------------------------------------------------ nested lists to a batch and back


def flat(rows: Iterable[Any]) -> list[Any]:
    return [x for row in rows for x in row]


def batch_of(rows: list[list[Any]], groups: list[Any] | None = None, tokens: list[list[int]] | None = None) -> Batch:
    """One trajectory a row, one turn an entry; `tokens` says how many tokens each turn has."""
    owner = [i for i, row in enumerate(rows) for _ in row]
    sizes = flat(tokens) if tokens else [0] * len(owner)
    token_turn = [k for k, n in enumerate(sizes) for _ in range(n)]
    return Batch.of_maps(owner, groups or ["one"] * len(rows), token_turn)


def nested(credit: Credit, batch: Batch, missing: Any = None) -> list[list[Any]]:
    """Values of a level inside trajectories, one list a trajectory."""
    rows: list[list[Any]] = [[] for _ in range(batch.count("trajectory"))]
    for owner, value in zip(batch.up(credit.level, "trajectory").tolist(), credit.tolist(), strict=True):
        rows[owner].append(missing if value is None else value)
    return rows


def values_at(node: Node, batch: Batch) -> Any:
    return node(None, batch).tolist()


# ------------------------------------------------------------------------------------------------------- SPAE


def _exp(batch: Batch, x: Credit) -> Tensor:
    return torch.exp(x.values)


def _saturation(batch: Batch, count: Credit, alpha: float) -> Tensor:
    """f = 1 - alpha (1 - exp(-C))"""
    return 1 - alpha * (1 - torch.exp(-count.values))


def spae(alpha: float, xi: float, eps_sat: float) -> tuple[dict[str, Node], Recipe]:
    change = chain(delta("phi"), fill(0.0))
    count = chain(read("phi"), count_before(above(eps_sat)))
    outcome = chain(read("outcome"), center(task, singleton="keep"))
    f = apply(_saturation, count, alpha=alpha)
    g = chain(apply(_exp, chain(change, minmax(everything))), center(everything))
    raw = mix(multiply(chain(outcome, spread("step")), f), g, weights=(1.0, xi))
    final = chain(raw, spread("token"), zscore(everything, ddof=0, eps=1e-8))
    parts = {"delta": change, "sat_count": count, "f": f, "g": g, "raw": raw}
    return parts, Recipe("spae", final, clipped(0.2, 0.28))


def spae_advantage(inputs: Any, params: Any) -> Any:
    sizes = inputs["tokens_per_step"]
    batch = batch_of([[sum(row)] for row in sizes], inputs["groups"], [[sum(row)] for row in sizes])
    steps = [i for i, n in enumerate(flat(sizes)) for _ in range(n)]
    batch = batch.with_unit("step", "token", steps).with_column("phi", "step", flat(inputs["phi"]))
    batch = batch.with_column("outcome", "trajectory", inputs["outcome"])
    parts, recipe = spae(params["alpha"], params["xi"], params["eps_sat"])
    out = {name: nested(node(None, batch), batch) for name, node in parts.items()}
    out["final"] = nested(recipe.credit(batch, to="step"), batch)
    return {**out, "A_group": values_at(chain(read("outcome"), center(task)), batch)}


def potential(acc: Node, conf: Node) -> Node:
    return mix(multiply(acc, conf), acc, conf, weights=(1.5, 0.5, -1.0))


def spae_potential(inputs: Any, params: Any) -> Any:
    pairs = inputs["acc_conf"]
    batch = batch_of([[0] for _ in pairs]).with_column("acc", "turn", [a for a, _ in pairs])
    batch = batch.with_column("conf", "turn", [c for _, c in pairs])
    return {"phi": values_at(potential(read("acc"), read("conf")), batch)}


def spae_probe(inputs: Any, params: Any) -> Any:
    """One trajectory is one probed step, one turn a probe, its tokens those of the probe."""

    def probe(rows: list[list[float]], sign: float) -> Batch:
        batch = batch_of([rows], tokens=[[len(row) for row in rows]])
        length = [float(len(row)) for row in rows]
        return batch.with_column("x", "token", [sign * x for x in flat(rows)]).with_column("length", "turn", length)

    def per_length(batch: Batch, x: Credit, length: Credit) -> Tensor:
        return torch.exp(x.values) / length.values

    x, over = read("x"), average("trajectory")
    paper = (chain(apply(_exp, x), average("turn"), over), chain(apply(_exp, chain(x, average("turn"))), over))
    released = chain(apply(per_length, chain(x, total("turn")), read("length")), over)
    out = {}
    gold, entropy = probe(inputs["gold_token_logp_per_probe"], 1.0), probe(inputs["entropy_per_probe_token"], -1.0)
    for name, (acc, conf) in {"paper": paper, "released_script": (released, released)}.items():
        a, c = acc(None, gold), conf(None, entropy)
        both = batch_of([[0]]).with_column("a", "trajectory", a.values).with_column("c", "trajectory", c.values)
        phi = potential(read("a", "trajectory"), read("c", "trajectory"))(None, both)
        out[name] = {"acc": a.values.item(), "conf": c.values.item(), "phi": phi.values.item()}
    return out


# ------------------------------------------------------------------------------------------------- PBSD and AEM


def _tilt(batch: Batch, outcome: Credit, evidence: Credit, beta: float) -> Tensor:
    """exp(beta sign(A) e): what supports the answer counts more in a good rollout and less in a bad one."""
    return torch.exp(beta * outcome.values.sign() * evidence.values)


def pbsd(beta: float, width: float, lam: float, agg: str) -> dict[str, Node]:
    ratio = chain(read("logprob_teacher", "token"), add("logprob_student", -1.0))
    evidence = chain(ratio, {"mean": average, "sum": total}[agg]("turn"))
    outcome = chain(read("outcome"), GRPO)
    here = chain(outcome, spread("turn"))
    weight = chain(apply(_tilt, here, evidence, beta=beta), clip(1 - width, 1 + width))
    advantage = mix(here, multiply(here, weight), weights=(1 - lam, lam))
    log_ratio = chain(ratio, total("trajectory"))
    return {
        "evidence": evidence,
        "trajectory_log_evidence_ratio": log_ratio,
        "weight": weight,
        "traj_adv": outcome,
        "turn_advantage": advantage,
    }


def pbsd_reweight(inputs: Any, params: Any) -> Any:
    rows = inputs["teacher_logp"]
    batch = batch_of(rows, inputs["groups"], [[len(turn) for turn in row] for row in rows])
    batch = batch.with_column("outcome", "trajectory", inputs["outcome"])
    for name in ("teacher", "student"):
        batch = batch.with_column(f"logprob_{name}", "token", flat(flat(inputs[f"{name}_logp"])))
    nodes = pbsd(params["beta"], params["eps_w"], params["lambda"], params["agg"])
    credits = {name: node(None, batch) for name, node in nodes.items()}
    return {k: c.tolist() if c.level == "trajectory" else nested(c, batch) for k, c in credits.items()}


def _decay(batch: Batch, x: Credit, rate: float) -> Tensor:
    return torch.exp(-rate * x.values)


def aem(entropy: Node, base: Node, lam: float, min_range: float) -> dict[str, Node]:
    normalised = chain(entropy, minmax(task, least=min_range))
    alpha = chain(apply(_decay, normalised, rate=lam), scale(task, by="mean", eps=0.0))
    advantage = multiply(alpha, chain(base, spread("turn")))
    return {"normalised_entropy": normalised, "alpha": alpha, "advantage": advantage}


def aem_tokens(inputs: Any, params: Any) -> Any:
    rows = inputs["token_entropy"]
    batch = batch_of(rows, tokens=[[len(turn) for turn in row] for row in rows])
    batch = batch.with_column("entropy", "token", flat(flat(rows)))
    batch = batch.with_column("base", "trajectory", inputs["base_advantage_per_rollout"])
    entropy = chain(read("entropy", "token"), average("turn"))
    nodes = aem(entropy, read("base", "trajectory"), params["lam"], params["min_range"])
    out = {name: nested(node(None, batch), batch) for name, node in {"response_mean_entropy": entropy, **nodes}.items()}
    return {**out, "alpha_group_mean": values_at(chain(nodes["alpha"], average("group")), batch)[0]}


def aem_means(inputs: Any, params: Any) -> Any:
    rows = inputs["response_mean_entropy"]
    batch = batch_of(rows).with_column("entropy", "turn", flat(rows))
    batch = batch.with_column("base", "turn", flat(inputs["base_advantage"]))
    nodes = aem(read("entropy", "turn"), read("base", "turn"), params["lam"], params["min_range"])
    return {name: nested(nodes[name](None, batch), batch) for name in ("alpha", "advantage")}


# ---------------------------------------------------------------------------------------------------- DR-Venus


def _abs(batch: Batch, x: Credit) -> Tensor:
    return x.values.abs()


def _match_scale(batch: Batch, gain: Credit, outcome: Credit, floor: float, most: float) -> Tensor:
    """s = min(most, max(floor, mean|R|) / (mean|r| + 1e-6))"""
    return (outcome.values.clamp_min(floor) / (gain.values + 1e-6)).clamp_max(most)


def dr_venus(gamma: float, gain_weight: float = 1.0) -> tuple[dict[str, Node], Recipe]:
    gain, outcome = chain(read("ig", "turn"), zscore(task, **ROOT)), chain(read("outcome"), zscore(task, **ROOT))
    sizes = {
        "ig_abs_mean": chain(apply(_abs, gain), average("batch")),
        "outcome_abs_mean": chain(apply(_abs, outcome), average("batch")),
    }
    factor = apply(_match_scale, *sizes.values(), floor=0.3, most=10.0)
    scaled = multiply(gain, chain(factor, spread("turn")))
    answer = chain(outcome, place("turn", elsewhere="unknown"))
    merged = mix(scaled, answer, weights=(gain_weight, 1.0), unknown="skip")
    credit = chain(merged, reward_to_go(gamma), fill("next"), spread("token"))
    return {**sizes, "ig_scale": factor}, Recipe("dr_venus", credit, clipped(0.2))


def dr_venus_turns(inputs: Any, params: Any) -> Any:
    assert params["norm_mode"] == "scaled_separate"
    sizes = inputs["model_tokens_per_turn"]
    batch = batch_of(sizes, inputs["groups"], sizes)
    gains = [row + [None] * (len(n) - len(row)) for row, n in zip(inputs["ig"], sizes, strict=True)]
    batch = batch.with_column("ig", "turn", flat(gains)).with_column("outcome", "trajectory", inputs["outcome"])
    nodes, recipe = dr_venus(params["gamma"], params["ig_weight"])
    out: dict[str, Any] = {name: values_at(node, batch)[0] for name, node in nodes.items()}
    return {**out, "turn_advantages": nested(recipe.credit(batch, to="turn"), batch)}


def filtered_gain() -> Node:
    """Only turns that used the tool have a gain: against the last one that did."""
    return chain(read("gold_logprob"), forget(~column("used_tool")), difference("gold_logprob_start"))


def dr_venus_gain(inputs: Any, params: Any) -> Any:
    start, *after = inputs["tau_logp"]
    used = [tool == params["ig_tool_filter"] for tool in inputs["tool_per_turn"]]
    batch = batch_of([after]).with_column("gold_logprob", "turn", after).with_column("used_tool", "turn", used)
    return {"ig": values_at(filtered_gain(), batch.with_column("gold_logprob_start", "trajectory", [start]))}


# ---------------------------------------------------------------------------------------------------- GRPO-VPS


def entropy_segments(entropy: Tensor, least: float, count: int) -> Tensor:
    """Segment of each token: `count` segments with equally many high-entropy cuts -> int64 [T]."""
    cuts = torch.nonzero(entropy >= least).flatten()
    starts = cuts[torch.arange(1, count) * len(cuts) // count] if len(cuts) >= count else cuts
    return torch.bucketize(torch.arange(len(entropy)), starts, right=True)


def grpo_vps(alpha: float, pooled: bool) -> tuple[dict[str, Node], Recipe]:
    outcome, gain = chain(read("outcome"), GRPO), delta("p_gold", "p_gold_start")
    process = chain(gain, zscore(task)) if pooled else gain
    credit = mix(chain(outcome, spread("segment")), process, weights=(1.0, alpha))
    return {"delta": gain, "traj_adv": outcome}, Recipe("grpo_vps", chain(credit, spread("token")), clipped())


def vps_segments(inputs: Any, params: Any) -> Any:
    entropy = torch.tensor(inputs["token_entropy"])
    least = float(params["cutpoint_rule"].split(">=")[1])
    batch = batch_of([[0]], tokens=[[len(entropy)]])
    batch = batch.with_unit("segment", "token", entropy_segments(entropy, least, params["M"]))
    ends = (batch.last("token", "segment") + 1).tolist()
    cuts = torch.nonzero(entropy >= least).flatten().tolist()
    return {"cutpoints": cuts, "segments_half_open": [list(x) for x in zip([0, *ends[:-1]], ends, strict=True)]}


def vps_advantage(inputs: Any, params: Any) -> Any:
    rows = inputs["p_gold_at_boundaries"]
    sizes = [[2 * (len(row) - 1)] for row in rows]
    batch = batch_of([[0]] * len(rows), inputs["groups"], sizes)
    of = [s for s in range(sum(n for (n,) in sizes) // 2) for _ in range(2)]
    batch = batch.with_unit("segment", "token", of).with_column("p_gold", "segment", flat(row[1:] for row in rows))
    batch = batch.with_column("p_gold_start", "trajectory", [row[0] for row in rows])
    batch = batch.with_column("outcome", "trajectory", inputs["outcome"])
    parts, recipe = grpo_vps(params["alpha"], params["process_norm"] != "none")
    out = {"delta": nested(parts["delta"](None, batch), batch), "traj_adv": values_at(parts["traj_adv"], batch)}
    return {**out, "segment_advantage": nested(recipe.credit(batch, to="segment"), batch)}


# -------------------------------------------------------------------------------------------------------- MAPO


def mapo(reward: Node, gamma: float, alpha: float, beta: float, ddof: int, eps: float) -> dict[str, Node]:
    returns = chain(reward, reward_to_go(gamma))
    turn = chain(returns, zscore(task_and_turn, ddof=ddof, eps=eps))
    group = chain(reward, zscore(task, ddof=ddof, eps=eps))
    mixed = mix(turn, group, weights=(alpha, beta))
    return {"turn_reward": chain(reward), "mc_return": returns, "A_turn": turn, "A_group": group, "A_mixed": mixed}


def mapo_case(rows: list[list[float]], batch: Batch, reward: Node, params: Any) -> Any:
    names = ("gamma", "alpha", "beta", "std_ddof", "eps")
    nodes = mapo(reward, *(params[name] for name in names))
    return {name: nested(node(None, batch), batch) for name, node in nodes.items()}


def mapo_distances(inputs: Any, params: Any) -> Any:
    rows = inputs["state_distance_phi"]
    after = [row[1:] for row in rows]
    batch = batch_of(after).with_column("distance", "turn", flat(after))
    batch = batch.with_column("distance_start", "trajectory", [row[0] for row in rows])
    return mapo_case(after, batch, mix(delta("distance", "distance_start"), weights=(-1.0,)), params)


def mapo_rewards(inputs: Any, params: Any) -> Any:
    rows = inputs["turn_reward"]
    return mapo_case(rows, batch_of(rows).with_column("turn_reward", "turn", flat(rows)), read("turn_reward"), params)


# ----------------------------------------------------------------------------------------------------- the table

ADAPTERS: dict[tuple[str, str], Callable[[Any, Any], Any]] = {
    ("SPAE", "advantage"): spae_advantage,
    ("SPAE", "potential"): spae_potential,
    ("SPAE", "probe"): spae_probe,
    ("PBSD", "reweight"): pbsd_reweight,
    ("AEM", "from_tokens"): aem_tokens,
    ("AEM", "from_means"): aem_means,
    ("DR-Venus", "turn_advantages"): dr_venus_turns,
    ("DR-Venus", "filtered_info_gain"): dr_venus_gain,
    ("GRPO-VPS", "segments"): vps_segments,
    ("GRPO-VPS", "segment_advantage"): vps_advantage,
    ("MAPO", "from_distances"): mapo_distances,
    ("MAPO", "from_rewards"): mapo_rewards,
}


def differences(got: Any, expected: Any, path: str = "") -> Iterable[str]:
    """Name what differs: numbers by more than 1e-5, anything else at all."""
    if isinstance(expected, dict):
        for key in expected:
            yield from differences(got[key], expected[key], f"{path}.{key}")
    elif isinstance(expected, list):
        if not isinstance(got, list) or len(got) != len(expected):
            yield f"{path}: {got} is not {expected}"
        else:
            for i, (g, e) in enumerate(zip(got, expected, strict=True)):
                yield from differences(g, e, f"{path}[{i}]")
    elif isinstance(expected, float) and not isinstance(got, (bool, type(None))):
        if not abs(got - expected) <= 1e-5:
            yield f"{path}: {got} is not {expected}"
    elif got != expected:
        yield f"{path}: {got} is not {expected}"


ALL = [(m, case) for m, f in ADAPTERS for case in CASES[m] if case["function"] == f]


@pytest.mark.parametrize(("method", "case"), ALL, ids=[f"{m}-{case['name']}" for m, case in ALL])
def test_worked_example(method: str, case: Any) -> None:
    got = ADAPTERS[method, case["function"]](case["inputs"], case["params"])
    assert list(differences(got, case["expected"])) == []


def test_table_covers_every_case_of_these_methods() -> None:
    named = {method for method, _ in ADAPTERS}
    assert {(m, case["function"]) for m in named for case in CASES[m]} == set(ADAPTERS)
