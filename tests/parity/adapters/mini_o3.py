"""Mini-o3: losses with over-turn masking, and the advantage before it."""

from __future__ import annotations

from typing import Any

import torch
from adapters.common import Case, flat, lengths, ragged, repeat, turns_of

from workbench.batch import Batch
from workbench.recipes import Recipe, mini_o3, mini_o3_released


def _batch(inputs: Any) -> tuple[Batch, torch.Tensor]:
    """Padded rows of one turn; all rollouts share a prompt unless groups are named."""

    def unpadded(name: str) -> torch.Tensor:
        rows = zip(inputs[name], inputs["length"], strict=True)
        return torch.tensor(flat([row[:n] for row, n in rows]), dtype=torch.float64)

    count = len(inputs["length"])
    groups = inputs.get("groups") or ["one"] * count
    batch = Batch.of_maps(range(count), groups, repeat(range(count), inputs["length"]))
    batch = batch.with_column("outcome", "trajectory", torch.tensor(inputs["reward"]).double())
    batch = batch.with_column("truncated", "trajectory", torch.tensor(inputs["over_turn"], dtype=torch.bool))
    return batch.with_column("logprob_old", "token", unpadded("old_logp")), unpadded("new_logp")


def _loss(recipe: Recipe, batch: Batch, new: torch.Tensor) -> Any:
    return recipe.objective(new, batch, recipe.credit(batch))


def masked_loss(case: Case) -> dict[str, Any]:
    low, high = case["params"]["clip_low"], case["params"]["clip_high"]
    batch, new = _batch(case["inputs"])
    masked, plain = (mini_o3_released(low, high, over) for over in ("truncated", None))
    found = _loss(masked, batch, new)
    return {
        "advantage_per_rollout": plain.credit(batch, to="trajectory").tolist(),
        "loss_masked": found.loss.item(),
        "loss_without_mask": _loss(plain, batch, new).loss.item(),
        "clipfrac": found.clip_share,
    }


def paper_loss(case: Case) -> dict[str, Any]:
    batch, new = _batch(case["inputs"])
    recipe = mini_o3(case["params"]["clip_low"], case["params"]["clip_high"])
    completed = int(recipe.credit(batch, to="trajectory").known.sum())
    return {"loss": _loss(recipe, batch, new).loss.item(), "completed": completed}


def advantage(case: Case) -> dict[str, Any]:
    rows = case["inputs"]["rewards"]
    batch = turns_of([1] * len(flat(rows)), repeat(range(len(rows)), lengths(rows)))
    batch = batch.with_column("outcome", "trajectory", torch.tensor(flat(rows)).double())
    return {"advantage": ragged(mini_o3(over=None).credit(batch, to="turn").tolist(), lengths(rows))}
