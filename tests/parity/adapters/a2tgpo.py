"""A2TGPO: turn advantages, clip scales, the turn-clipped loss and its gradient, the released extraction of gains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from adapters.common import (
    Case,
    aggregate,
    choose,
    flat,
    given_credit,
    lengths,
    ragged,
    repeat,
    step_values,
    turns_of,
    unpick,
    with_log_ratio,
)
from adapters.igpo import potentials, token_batch

from workbench.batch import Batch
from workbench.credit import average, chain, delta, read, spread
from workbench.losses import PolicyLoss
from workbench.objective import Objective
from workbench.recipes import Recipe, a2tgpo, a2tgpo_released
from workbench.recipes._released import equal_runs


def _recipe(params: dict[str, Any]) -> Recipe:
    given = {name: params[name] for name in ("gamma", "beta", "alpha") if name in params}
    clip = {new: params[old] for new, old in (("low", "clip_low"), ("high", "clip_high")) if old in params}
    choose("norm_mode", {"v1d": 1}, params.get("norm_mode", "v1d"))  # the release has three older modes
    if params.get("variant", "paper") == "paper":
        choose("the paper's clip with adaptive", {True: 1}, params.get("adaptive", True))
        return a2tgpo(gain="logprob", **given, **clip)
    choose("variant", {"released": 1}, params["variant"])
    return a2tgpo_released(**given, **clip, adaptive=params.get("adaptive", True))


def turn_advantages(case: Case) -> dict[str, Any]:
    inputs = case["inputs"]
    gains, tokens = inputs["ig"], inputs.get("model_tokens_per_turn") or [[1] * (len(row) + 1) for row in inputs["ig"]]
    bare = potentials(gains, inputs["groups"], inputs["outcome"])
    turns = list(range(bare.count("turn")))
    batch = Batch.of_maps(bare.turn_trajectory, inputs["groups"], repeat(turns, flat(tokens)))
    for name, column in bare.columns.items():
        batch = batch.with_column(name, column.level, column.values, column.known)
    recipe = _recipe(case["params"])
    credits = recipe.credits(batch)
    sizes = [n + 1 for n in lengths(gains)]
    z = step_values(recipe, batch, "zscore")
    scored = torch.where(z.known, z.values, 0.0).tolist()  # the release keeps 0 where a turn vanished
    return {
        "ig_z": [row[:-1] for row in ragged(scored, sizes)],
        "turn_advantages": ragged(average("turn")(credits["credit"], batch).tolist(), sizes),
        "clip_scale": ragged(average("turn")(credits["clip_scale"], batch).tolist(), sizes),
    }


def token_advantages(case: Case) -> dict[str, Any]:
    mask = case["inputs"]["mask"]
    credits = _recipe(case["params"]).credits(token_batch(case))
    return {
        "token_advantages": unpick(credits["credit"].values.tolist(), mask, 0.0),
        "token_clip_scale": unpick(credits["clip_scale"].values.tolist(), mask, 1.0),
    }


def _loss_recipe(case: Case) -> Recipe:
    """The recipe's objective on given advantages and clip scales."""
    recipe = _recipe(case["params"])
    if "agg" in case["params"]:
        agg = aggregate(case["params"], max(lengths(case["inputs"]["log_ratio_model_tokens"])))
        recipe = replace(recipe, objective=Objective(tuple(replace(t, aggregate=agg) for t in recipe.objective.terms)))
    turn = chain(read("advantage", "turn"), spread("token"))
    streams = {"clip_scale": chain(read("clip", "turn"), spread("token")), "segment": chain(turn, equal_runs())}
    return given_credit(recipe, streams)


def turn_clip_loss(case: Case) -> dict[str, Any]:
    inputs = case["inputs"]
    advantage, tokens = inputs["advantages_per_turn"], inputs["model_tokens_per_turn"]
    sizes = lengths(advantage)
    batch = turns_of(sizes, inputs["groups"])
    batch = Batch.of_maps(batch.turn_trajectory, inputs["groups"], repeat(range(sum(sizes)), flat(tokens)))
    batch, new = with_log_ratio(batch, flat(inputs["log_ratio_model_tokens"]))
    batch = batch.with_column("advantage", "turn", flat(advantage))
    batch = batch.with_column("clip", "turn", flat(inputs["clip_scale_per_turn"]))
    recipe = _loss_recipe(case)
    credits = recipe.credits(batch)
    result = recipe.objective(new, batch, credits["credit"], credits)
    result.loss.backward()
    return {
        "loss": result.loss.item(),
        "clip_fraction_tokens": result.clip_share,
        "grad_wrt_token_logprob_per_turn": _per_turn(new.grad.tolist(), tokens),  # type: ignore[union-attr]
        **_segments(recipe, batch, new, credits),
    }


def _per_turn(values: list[float], tokens: list[list[int]]) -> list[list[list[float]]]:
    return ragged(ragged(values, flat(tokens)), lengths(tokens))


def _segments(recipe: Recipe, batch: Batch, new: torch.Tensor, credits: Any) -> dict[str, Any]:
    """Turn ranges and ratios of the units in which the loss averages its ratio."""
    loss = recipe.objective.terms[0].loss
    assert isinstance(loss, PolicyLoss)
    look, _ = recipe.objective.look(new.detach(), batch, credits["credit"], credits)
    unit, ratio = loss.units(look), loss.ratios(look)
    owner = batch.up("token", "trajectory")
    ranges: list[list[list[int]]] = [[] for _ in batch.trajectories]
    ratios: list[list[float]] = [[] for _ in batch.trajectories]
    for u in torch.unique(unit).tolist():
        at = torch.nonzero(unit == u).flatten()
        turns = batch.turn_index[batch.token_turn[at]]
        ranges[int(owner[at[0]])].append([int(turns.min()), int(turns.max())])
        ratios[int(owner[at[0]])].append(float(ratio[at[0]]))
    return {"ratio_segments_turn_index_ranges": ranges, "segment_ratio": ratios}


def released_info_gain(case: Case) -> dict[str, Any]:
    tau = case["inputs"]["mean_logp_gold_after_search_1_2_3"]
    batch = turns_of([len(tau)], ["q"]).with_column("gold_logprob", "turn", tau)
    return {"ig_by_search_turn": delta("gold_logprob")(None, batch).tolist()}
