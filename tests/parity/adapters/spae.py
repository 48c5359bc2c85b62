"""SPAE: the potential, how probes become it, and the whole advantage."""

from __future__ import annotations

from typing import Any

import torch
from adapters.common import Case, flat, lengths, ragged, repeat

from workbench.batch import Batch
from workbench.credit import above, apply, center, chain, count_before, mix, multiply, read, spread, task
from workbench.recipes import spae
from workbench.recipes.steps import penalty, potential_change, probe_scores, shaping, step_potential


def _phi(pairs: list[Any]) -> list[float]:
    batch = Batch.of_maps(range(len(pairs)), ["one"] * len(pairs))
    for name, values in zip(("acc", "conf"), zip(*pairs, strict=True), strict=True):
        batch = batch.with_column(name, "turn", torch.tensor(values, dtype=torch.float64))
    return apply(step_potential, read("acc"), read("conf"))(None, batch).tolist()


def potential(case: Case) -> dict[str, Any]:
    return {"phi": _phi(case["inputs"]["acc_conf"])}


def probe(case: Case) -> dict[str, Any]:
    rows = [
        [torch.tensor(row, dtype=torch.float64) for row in case["inputs"][name]]
        for name in ("gold_token_logp_per_probe", "entropy_per_probe_token")
    ]
    out = {}
    for name, variant in (("paper", "paper"), ("released_script", "released")):
        acc, conf = probe_scores(*rows, variant)  # type: ignore[arg-type]
        out[name] = {"acc": acc, "conf": conf, "phi": _phi([(acc, conf)])[0]}
    return out


def advantage(case: Case) -> dict[str, Any]:
    inputs, p = case["inputs"], case["params"]
    sizes = inputs["tokens_per_step"]
    batch = Batch.of_maps(range(len(sizes)), inputs["groups"], repeat(range(len(sizes)), [sum(row) for row in sizes]))
    batch = batch.with_unit("step", "token", repeat(range(len(flat(sizes))), flat(sizes)))
    batch = batch.with_column("phi", "step", torch.tensor(flat(inputs["phi"]), dtype=torch.float64))
    batch = batch.with_column("outcome", "trajectory", torch.tensor(inputs["outcome"]).double())
    phi, group = chain(read("phi", "step")), chain(read("outcome"), center(task))
    f, g = penalty(phi, p["alpha"], p["eps_sat"]), shaping(phi)
    parts = {
        "delta": potential_change(phi),
        "sat_count": chain(phi, count_before(above(p["eps_sat"]))),
        "f": f,
        "g": g,
        "raw": mix(multiply(chain(group, spread("step")), f), g, weights=(1.0, p["xi"])),
    }
    recipe = spae(p["alpha"], p["xi"], p["eps_sat"], potential="phi", step="step")
    steps = {name: node(None, batch).tolist() for name, node in parts.items()}
    steps["final"] = recipe.credit(batch, to="step").tolist()
    steps["sat_count"] = [int(count) for count in steps["sat_count"]]
    nested = {name: ragged(values, lengths(sizes)) for name, values in steps.items()}
    return {**nested, "A_group": group(None, batch).tolist()}
