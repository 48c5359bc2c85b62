"""Baselines: GRPO, Dr. GRPO, RLOO, GSPO, DAPO, the clipped losses and k3."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from adapters.common import (
    Case,
    aggregate,
    by_turn,
    choose,
    given_credit,
    one_turn_each,
    pick,
    rows_as_trajectories,
    unpick,
    with_log_ratio,
)

from workbench.batch import Batch
from workbench.losses import PolicyLoss, kl_k3
from workbench.objective import Objective, Term, clipped
from workbench.recipes import Recipe, dapo, dr_grpo, dr_grpo_released, grpo_released, gspo, rloo, rloo_released
from workbench.recipes import grpo as grpo_paper
from workbench.recipes.outcome import overlong_penalty


def _advantages(recipe: Recipe, case: Case) -> dict[str, Any]:
    return {"advantages": by_turn(recipe, one_turn_each(case["inputs"]["scores"], case["inputs"]["groups"]))}


def _variant(case: Case) -> str:
    return case["params"].get("variant", "paper")


def grpo(case: Case) -> dict[str, Any]:
    return _advantages(choose("variant", {"paper": grpo_paper, "released": grpo_released}, _variant(case))(), case)


def dr_grpo_(case: Case) -> dict[str, Any]:
    return _advantages(choose("variant", {"paper": dr_grpo, "released": dr_grpo_released}, _variant(case))(), case)


def rloo_(case: Case) -> dict[str, Any]:
    return _advantages(choose("variant", {"paper": rloo, "released": rloo_released}, _variant(case))(), case)


def _masked(case: Case) -> tuple[Batch, torch.Tensor]:
    """Rows of log-ratios with a mask (all ones by default), and the advantage per rollout or per token."""
    inputs = case["inputs"]
    mask = inputs.get("mask") or [[1] * len(row) for row in inputs["log_ratio"]]
    batch, new = with_log_ratio(rows_as_trajectories(mask), pick(inputs["log_ratio"], mask))
    if "advantage" in inputs:
        return batch.with_column("advantage", "token", pick(inputs["advantage"], mask)), new
    return batch.with_column("advantage", "turn", inputs["advantage_per_rollout"]), new


def _width(case: Case) -> int:
    return max(len(row) for row in case["inputs"]["log_ratio"])


def _clipped(case: Case) -> Objective:
    p = case["params"]
    return clipped(p["clip_low"], p["clip_high"], dual=p.get("dual_clip_c"), aggregate=aggregate(p, _width(case)))


def clip_loss(case: Case) -> dict[str, Any]:
    batch, new = _masked(case)
    recipe = replace(given_credit(grpo_released()), objective=_clipped(case))
    return {"loss": recipe.objective(new, batch, recipe.credit(batch)).loss.item()}


def token_clip_loss(case: Case) -> dict[str, Any]:
    batch, new = _masked(case)
    mask = case["inputs"].get("mask") or [[1] * len(row) for row in case["inputs"]["log_ratio"]]
    recipe = replace(given_credit(grpo_released()), objective=_clipped(case))
    look, _ = recipe.objective.look(new, batch, recipe.credit(batch))
    losses = recipe.objective.terms[0].loss(look).tolist()
    loss = recipe.objective(new, batch, recipe.credit(batch)).loss.item()
    return {"token_losses": unpick(losses, mask, 0.0), "loss": loss}


def gspo_loss(case: Case) -> dict[str, Any]:
    batch, new = _masked(case)
    p = case["params"]
    base = gspo(p["clip_low"], p["clip_high"])
    loss = base.objective.terms[0].loss
    assert isinstance(loss, PolicyLoss)
    objective = Objective((Term("policy", loss, 1.0, aggregate(p, _width(case))),))
    recipe = replace(given_credit(base), objective=objective)
    credit = recipe.credit(batch)
    look, _ = objective.look(new, batch, credit)
    ends = batch.last("token", "trajectory")
    return {
        "sequence_ratio": loss.ratios(look).detach()[ends].tolist(),
        "loss": objective(new, batch, credit).loss.item(),
    }


def kl_k3_(case: Case) -> dict[str, Any]:
    logprob, reference = (torch.tensor(case["inputs"][name]).double() for name in ("logp", "ref_logp"))
    return {"kl": kl_k3(logprob, reference).tolist()}


def dapo_sampling(case: Case) -> dict[str, Any]:
    inputs = case["inputs"]
    batch = one_turn_each(inputs["scores"], inputs["groups"])
    known = dapo().credit(batch, to="turn").known
    kept = dict.fromkeys(g for g, k in zip(inputs["groups"], known.tolist(), strict=True) if k)
    factor = case["params"].get("penalty_factor", 1.0)
    length = torch.tensor(inputs["lengths"]).double()
    penalty = overlong_penalty(length, inputs["max_len"], inputs["cache"], factor)
    return {"kept_groups": list(kept), "overlong_penalty": penalty.tolist()}
