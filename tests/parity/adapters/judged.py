"""VPR and MAPO: turns judged one by one."""

from __future__ import annotations

from typing import Any

import torch
from adapters.common import Case, choose, flat, lengths, ragged, turns_of

from workbench.batch import Batch
from workbench.credit import Node, chain, read, reward_to_go
from workbench.recipes import Recipe, mapo, vpr_states, vpr_turns
from workbench.recipes.judged import committed, distance_drop, mapo_immediate, mapo_return


def _trained(recipe: Recipe, batch: Batch, at: list[int], count: int) -> dict[str, Any]:
    """Values and who is trained, back at the rows of the case; a row that is not in the batch has 0 and is not."""
    credit = recipe.credit(batch, to="turn").tolist()
    found = dict(zip(at, credit, strict=True))
    return {
        "advantage": [found.get(i) or 0.0 for i in range(count)],
        "train_mask": [found.get(i) is not None for i in range(count)],
    }


def _rows(inputs: Any, at: list[int]) -> Batch:
    """A trajectory of one turn for each row that is no padding; the outcome is that of a terminal row."""
    index = inputs.get("turn_index") or [0] * len(inputs["reward"])
    success = inputs.get("terminal_success") or [0] * len(index)
    ends = inputs.get("is_terminal") or [1] * len(index)
    batch = Batch.of_maps(range(len(at)), ["one"] * len(at), turn_index=[index[i] for i in at])
    reward = torch.tensor([inputs["reward"][i] for i in at], dtype=torch.float64)
    outcome = [float(success[i]) if ends[i] else 0.0 for i in at]
    return batch.with_column("oracle", "turn", reward).with_column("outcome", "trajectory", outcome)


def turn_norm(case: Case) -> dict[str, Any]:
    inputs, p = case["inputs"], case["params"]
    padding = inputs.get("is_padding") or [0] * len(inputs["reward"])
    at = [i for i, padded in enumerate(padding) if not padded]
    recipe = vpr_turns("oracle", p.get("min_group_size", 4), p.get("outcome_reward_scale", 0.0), p.get("eps", 1e-8))
    return _trained(recipe, _rows(inputs, at), at, len(padding))


def state_group(case: Case) -> dict[str, Any]:
    inputs, p = case["inputs"], case["params"]
    modes = {name: name for name in ("group_whiten", "mean_then_batch_whiten")}
    mode = choose("mode", modes, p.get("mode", "mean_then_batch_whiten"))
    padding = inputs.get("is_padding") or [0] * len(inputs["reward"])
    at = [i for i, padded in enumerate(padding) if not padded]
    names = list(dict.fromkeys(inputs["state_group"][i] for i in at))
    state = torch.tensor([names.index(inputs["state_group"][i]) for i in at])
    batch = _rows(inputs, at).with_column("state", "turn", state)
    recipe = vpr_states("oracle", mode, p.get("outcome_reward_scale", 0.0), p.get("eps", 1e-8))
    best = [inputs["reward"][at[k]] for k in committed(batch["oracle"].values, state).tolist()]
    # a case names a candidate by the first of all rows that has its reward
    played = {name: inputs["reward"].index(reward) for name, reward in zip(names, best, strict=True)}
    return {**_trained(recipe, batch, at, len(padding)), "committed_candidate": played}


def _mapo(case: Case, batch: Batch, sizes: list[int], distance: str | None) -> dict[str, Any]:
    p = case["params"]
    gamma, ddof, eps = p.get("gamma", 1.0), p.get("std_ddof", 0), p.get("eps", 1e-8)
    scope = choose("scope", {"group": "group", "batch": "batch"}, p.get("scope", "group"))
    source = choose(
        "source", {"reward": "reward", "immediate": "reward", "return": "return"}, p.get("source", "reward")
    )
    reward = chain(read("turn_reward")) if distance is None else distance_drop(distance)
    nodes: dict[str, Node] = {
        "turn_reward": reward,
        "mc_return": chain(reward, reward_to_go(gamma)),
        "A_turn": mapo_return(reward, gamma, ddof, eps),
        "A_group": mapo_immediate(reward, gamma, ddof, eps, scope, source),
    }
    recipe = mapo(gamma, p.get("alpha", 0.5), p.get("beta", 0.5), distance, scope, source, ddof, eps)
    out = {name: ragged(node(None, batch).tolist(), sizes) for name, node in nodes.items()}
    return {**out, "A_mixed": ragged(recipe.credit(batch, to="turn").tolist(), sizes)}


def from_distances(case: Case) -> dict[str, Any]:
    rows = case["inputs"]["state_distance_phi"]
    sizes = [n - 1 for n in lengths(rows)]
    batch = turns_of(sizes, case["inputs"].get("groups") or ["one"] * len(rows))
    after = torch.tensor(flat([row[1:] for row in rows]), dtype=torch.float64)
    start = torch.tensor([row[0] for row in rows], dtype=torch.float64)
    batch = batch.with_column("d", "turn", after).with_column("d_start", "trajectory", start)
    return _mapo(case, batch, sizes, "d")


def from_rewards(case: Case) -> dict[str, Any]:
    rows = case["inputs"]["turn_reward"]
    batch = turns_of(lengths(rows), case["inputs"].get("groups") or ["one"] * len(rows))
    batch = batch.with_column("turn_reward", "turn", torch.tensor(flat(rows), dtype=torch.float64))
    return _mapo(case, batch, lengths(rows), None)
