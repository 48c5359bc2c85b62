"""GRPO-VPS: segments by entropy, and their advantages."""

from __future__ import annotations

from typing import Any

import torch
from adapters.common import Case, Unsupported, choose, flat, lengths, ragged

from workbench.batch import Batch
from workbench.recipes import grpo_vps
from workbench.recipes.steps import entropy_cuts, entropy_segments, segment_gain


def segments(case: Case) -> dict[str, Any]:
    entropy, (name, sign, least) = (
        torch.tensor(case["inputs"]["token_entropy"]),
        case["params"]["cutpoint_rule"].split(),
    )
    if (name, sign) != ("entropy", ">="):
        raise Unsupported(f"cutpoint_rule={case['params']['cutpoint_rule']!r}")
    of = entropy_segments(entropy, float(least), case["params"]["M"])
    ends = [t + 1 for t in range(len(of)) if t + 1 == len(of) or of[t + 1] != of[t]]
    return {
        "cutpoints": entropy_cuts(entropy, float(least)).tolist(),
        "segments_half_open": [list(pair) for pair in zip([0, *ends[:-1]], ends, strict=True)],
    }


def segment_advantage(case: Case) -> dict[str, Any]:
    """Two tokens a segment; the probe stands at the second."""
    inputs, params = case["inputs"], case["params"]
    rows = inputs["p_gold_at_boundaries"]
    sizes = [n - 1 for n in lengths(rows)]
    owner = [i for i, n in enumerate(sizes) for _ in range(2 * n)]
    batch = Batch.of_maps(range(len(rows)), inputs["groups"], owner)
    batch = batch.with_unit("segment", "token", [s for s in range(sum(sizes)) for _ in range(2)])
    after = torch.tensor(flat([row[1:] for row in rows]), dtype=torch.float64).log().tolist()
    batch = batch.with_column("segment_gold_logprob", "token", flat([[None, x] for x in after]))
    start = torch.tensor([row[0] for row in rows], dtype=torch.float64).log()
    batch = batch.with_column("segment_gold_logprob_start", "trajectory", start)
    batch = batch.with_column("outcome", "trajectory", torch.tensor(inputs["outcome"]).double())
    pools = {"none": "raw", "raw": "raw", "zscore": "pooled", "pooled": "pooled", "group": "pooled", "z": "pooled"}
    recipe = grpo_vps(params["alpha"], choose("process_norm", pools, params.get("process_norm", "none")))
    outcome = grpo_vps(0.0).chain.stages[0].branches[0](None, batch).tolist()
    ends = batch.last("token", "trajectory").tolist()
    return {
        "delta": ragged([x for x in segment_gain()(None, batch).tolist() if x is not None], sizes),
        "traj_adv": [outcome[end] for end in ends],
        "segment_advantage": ragged(recipe.credit(batch, to="segment").tolist(), sizes),
    }
