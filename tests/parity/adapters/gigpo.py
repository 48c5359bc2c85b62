"""GiGPO: rows of one environment step each."""

from __future__ import annotations

from typing import Any

from adapters.common import Case, choose, step_values, turns_of

from workbench.batch import Batch, codes
from workbench.recipes import Recipe, gigpo, gigpo_released


def _batch(rows: list[dict[str, Any]]) -> tuple[Batch, list[int]]:
    """A batch of the rows sorted by trajectory, and where each row went."""
    names = list(dict.fromkeys(row["traj"] for row in rows))
    order = [i for name in names for i, row in enumerate(rows) if row["traj"] == name]
    first = {name: next(row for row in rows if row["traj"] == name) for name in names}
    sizes = [sum(row["traj"] == name for row in rows) for name in names]
    batch = turns_of(sizes, [first[name].get("group", first[name].get("prompt", "q")) for name in names])
    state, known, _ = codes(rows[i].get("anchor") for i in order)
    batch = batch.with_column("state", "turn", state, known)
    batch = batch.with_column("turn_reward", "turn", [rows[i]["step_reward"] for i in order])
    batch = batch.with_column("outcome", "trajectory", [first[name]["episode_score"] for name in names])
    back = [order.index(i) for i in range(len(rows))]
    return batch, back


def _recipe(params: dict[str, Any]) -> Recipe:
    norm = choose("mode", {"mean_norm": "mean", "mean_std_norm": "mean_std"}, params.get("mode", "mean_norm"))
    given = {"gamma": params.get("gamma", 0.95), "turn_weight": params.get("omega", 1.0), "norm": norm}
    if params.get("variant", "paper") == "paper":
        return gigpo(**given)
    choose("variant", {"released": 1}, params["variant"])
    return gigpo_released(**given, over_turns=params.get("cross_steps", True))


def advantage(case: Case) -> dict[str, Any]:
    batch, back = _batch(case["inputs"]["rows"])
    recipe = _recipe(case["params"])
    mixed = [step for step in recipe.trace(batch) if step.depth == 1]
    cut = next(i for i, step in enumerate(mixed) if step.label.startswith("read('turn_reward'"))
    found = {
        "step_return": step_values(recipe, batch, "reward_to_go"),
        "episode_adv": mixed[cut - 1].credit,
        "step_adv": mixed[-1].credit,
        "advantage": recipe.credit(batch, to="turn"),
    }
    return {name: [credit.tolist()[i] for i in back] for name, credit in found.items()}


def episode_advantage(case: Case) -> dict[str, Any]:
    return {"episode_adv": advantage(case)["episode_adv"]}
