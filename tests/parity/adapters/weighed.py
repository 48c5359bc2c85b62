"""PBSD and AEM: weights of turns on top of the outcome."""

from __future__ import annotations

from typing import Any

import torch
from adapters.common import Case, choose, flat, lengths, ragged, repeat

from workbench.batch import Batch
from workbench.credit import average, chain, minmax, multiply, read, spread, task, total
from workbench.recipes import aem, grpo_released, pbsd
from workbench.recipes.weighed import answer_log_ratio, entropy_weight, tilted_weight, turn_entropy, turn_evidence


def _of(rows: list[Any], groups: list[Any] | None = None) -> Batch:
    """One trajectory a row, one turn an entry, one token a number."""
    turns = lengths(rows)
    tokens = [len(turn) if isinstance(turn, list) else 1 for row in rows for turn in row]
    token_turn = repeat(range(sum(turns)), tokens)
    return Batch.of_maps(repeat(range(len(rows)), turns), groups or ["one"] * len(rows), token_turn)


def reweight(case: Case) -> dict[str, Any]:
    inputs, p = case["inputs"], case["params"]
    rows = inputs["teacher_logp"]
    batch = _of(rows, inputs["groups"]).with_column("outcome", "trajectory", torch.tensor(inputs["outcome"]).double())
    for column, name in (("logprob_informed", "teacher_logp"), ("logprob_plain", "student_logp")):
        batch = batch.with_column(column, "token", torch.tensor(flat(flat(inputs[name])), dtype=torch.float64))
    form = choose("agg", {"mean": "mean", "sum": "sum"}, p["agg"])
    recipe = pbsd(p["beta"], p["eps_w"], p["lambda"], form)
    turns = {
        "evidence": turn_evidence(form)(None, batch),
        "weight": tilted_weight(form, p["beta"], p["eps_w"])(None, batch),
        "turn_advantage": recipe.credit(batch, to="turn"),
    }
    return {
        **{name: ragged(credit.tolist(), lengths(rows)) for name, credit in turns.items()},
        "trajectory_log_evidence_ratio": chain(answer_log_ratio(), total("trajectory"))(None, batch).tolist(),
        "traj_adv": grpo_released().credit(batch, to="trajectory").tolist(),
    }


def from_tokens(case: Case) -> dict[str, Any]:
    inputs, p = case["inputs"], case["params"]
    rows = inputs["token_entropy"]
    batch = _of(rows, inputs.get("groups"))
    batch = batch.with_column("token_entropy", "token", torch.tensor(flat(flat(rows)), dtype=torch.float64))
    batch = batch.with_column("base", "trajectory", inputs["base_advantage_per_rollout"])
    alpha = entropy_weight(turn_entropy(), p["lam"], p["min_range"])
    turns = {
        "response_mean_entropy": turn_entropy(),
        "normalised_entropy": chain(turn_entropy(), minmax(task, least=p["min_range"])),
        "alpha": alpha,
        "advantage": multiply(alpha, chain(read("base"), spread("turn"))),
    }
    out: dict[str, Any] = {name: ragged(n(None, batch).tolist(), lengths(rows)) for name, n in turns.items()}
    if "outcome_reward" in inputs:  # the recipe itself, whose host is GRPO
        known = batch.with_column("outcome", "trajectory", inputs["outcome_reward"])
        values = aem(p["lam"], p["min_range"]).credit(known, to="turn").tolist()
        out["advantage"] = ragged(values, lengths(rows))
    return {**out, "alpha_group_mean": chain(alpha, average("group"))(None, batch).tolist()[0]}


def from_means(case: Case) -> dict[str, Any]:
    rows, base = case["inputs"]["response_mean_entropy"], case["inputs"]["base_advantage"]
    batch = _of(rows, case["inputs"].get("groups"))
    for column, given in (("token_entropy", rows), ("base", base)):
        batch = batch.with_column(column, "token", torch.tensor(flat(given), dtype=torch.float64))
    alpha = entropy_weight(turn_entropy(), case["params"]["lam"], case["params"]["min_range"])
    advantage = multiply(alpha, chain(read("base"), average("turn")))
    return {
        name: ragged(node(None, batch).tolist(), lengths(rows))
        for name, node in (("alpha", alpha), ("advantage", advantage))
    }
