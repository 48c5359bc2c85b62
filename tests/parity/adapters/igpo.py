"""IGPO: information gain, turn advantages of both papers' forms, token advantages of the first release."""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from typing import Any

import torch
from adapters.common import (
    Case,
    Unsupported,
    by_turn,
    choose,
    flat,
    lengths,
    pick,
    ragged,
    rows_as_trajectories,
    turns_of,
    unpick,
)

from workbench.batch import Batch
from workbench.credit import delta
from workbench.recipes import Recipe, igpo, igpo_released, igpo_released_2025


def potentials(gains: list[list[float | None]], groups: list[Any], outcome: list[float]) -> Batch:
    """A batch whose gold log-probs have these differences, with one more turn (the answer) each; start 0."""
    sums = [_running(row) for row in gains]
    batch = turns_of([len(row) + 1 for row in gains], groups)
    batch = batch.with_column("gold_logprob", "turn", flat([[*row, None] for row in sums]))
    batch = batch.with_column("gold_logprob_start", "trajectory", torch.zeros(len(gains), dtype=torch.float64))
    return batch.with_column("outcome", "trajectory", torch.tensor(outcome).double())


GRID = 2.0**40
"""Gains are put on multiples of 2^-40, so that sums and their differences are exact: equal gains stay equal."""


def _running(row: list[float | None]) -> list[float | None]:
    sums = list(accumulate(0.0 if g is None else round(g * GRID) / GRID for g in row))
    return [None if g is None else s for g, s in zip(row, sums, strict=True)]


def info_gain(case: Case) -> dict[str, Any]:
    tau = case["inputs"]["tau_logp"]
    batch = turns_of([len(row) - 1 for row in tau], list(range(len(tau))))
    batch = batch.with_column("gold_logprob", "turn", flat([row[1:] for row in tau]))
    batch = batch.with_column("gold_logprob_start", "trajectory", [row[0] for row in tau])
    sizes = [len(row) - 1 for row in tau]
    log = delta("gold_logprob", "gold_logprob_start")(None, batch).tolist()
    prob = delta("gold_logprob", "gold_logprob_start", torch.exp)(None, batch).tolist()
    return {"log_prob_diff": ragged(log, sizes), "prob_diff": ragged(prob, sizes)}


def _recipe(params: dict[str, Any]) -> Recipe:
    make = choose("variant", {"paper": igpo, "released": igpo_released}, params.get("variant", "paper"))
    if params.get("norm_adv_by_std", True) is not True:
        make = partial(choose("norm_adv_by_std=False with", {igpo_released: igpo_released}, make), by_std=False)
    return make(
        gamma=params.get("gamma", 1.0),
        gain="logprob",
        norm=choose("norm_mode", {"joint": "joint", "separate": "separate"}, params.get("norm_mode", "joint")),
        outcome_weight=params.get("curriculum_f1", 1.0),
        gain_weight=params.get("curriculum_ig", 1.0),
    )


def turn_advantages(case: Case) -> dict[str, Any]:
    inputs = case["inputs"]
    batch = potentials(inputs["ig"], inputs["groups"], inputs["outcome"])
    values = by_turn(_recipe(case["params"]), batch)
    return {"turn_advantages": ragged(values, [n + 1 for n in lengths(inputs["ig"])])}


def boundaries(rewards: list[float], mask: list[int]) -> tuple[list[float], float, list[int]]:
    """Read a row of token rewards as the releases do: gains at non-zero tokens, the outcome at the last valid one.

    Returns:
        gains, outcome, and for every valid token the turn it ends up in.
    """
    valid = [p for p, m in enumerate(mask) if m]
    if not valid:
        return [], 0.0, []
    gains: list[float] = []
    turn: list[int] = []
    for p in valid:
        turn.append(len(gains))
        if rewards[p] != 0 and p != valid[-1]:
            gains.append(rewards[p])
    return gains, rewards[valid[-1]], turn


def token_batch(case: Case) -> Batch:
    """Rows of token rewards as a batch with tokens."""
    inputs = case["inputs"]
    rows = [boundaries(r, m) for r, m in zip(inputs["token_rewards"], inputs["mask"], strict=True)]
    bare = potentials([gains for gains, _, _ in rows], inputs["groups"], [outcome for _, outcome, _ in rows])
    first = [0, *accumulate(len(gains) + 1 for gains, _, _ in rows)]
    token_turn = [first[i] + k for i, (_, _, turn) in enumerate(rows) for k in turn]
    batch = Batch.of_maps(bare.turn_trajectory, inputs["groups"], token_turn)
    for name, column in bare.columns.items():
        batch = batch.with_column(name, column.level, column.values, column.known)
    return batch


def token_advantages(case: Case) -> dict[str, Any]:
    inputs, params = case["inputs"], case["params"]
    if not str(params.get("release", "new")).startswith("old"):
        values = _recipe(params).credit(token_batch(case)).values.tolist()
        return {"token_advantages": unpick(values, inputs["mask"], 0.0)}
    if params.get("gamma", 1.0) != 1.0:
        raise Unsupported("the first release has gamma 1")
    batch = rows_as_trajectories(inputs["mask"], inputs["groups"])
    batch = batch.with_column("token_reward", "token", pick(inputs["token_rewards"], inputs["mask"]))
    values = igpo_released_2025().credit(batch).values.tolist()
    return {"token_advantages": unpick(values, inputs["mask"], 0.0)}
