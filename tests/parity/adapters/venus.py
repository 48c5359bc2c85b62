"""DR-Venus: turn advantages in all modes, and the gain behind a tool filter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from adapters.common import Case, choose, flat, lengths, ragged, repeat
from adapters.igpo import potentials

from workbench.batch import Batch
from workbench.credit import Node, chain, task
from workbench.recipes import dr_venus
from workbench.recipes.gold import at_answer, igpo_z
from workbench.recipes.venus import gain_scale, mean_size, tool_gain

MODES = {name: name for name in ("joint", "separate", "scaled_separate", "raw_ig")}


def _batch(inputs: Any) -> tuple[Batch, list[int]]:
    """Gains as potentials, one more turn (the answer) each; a row may be short of its turns or too long for them."""
    sizes = inputs.get("model_tokens_per_turn") or [[1] * (len(row) + 1) for row in inputs["ig"]]
    count = lengths(sizes)
    gains = [(row + [None] * n)[: n - 1] for row, n in zip(inputs["ig"], count, strict=True)]
    batch = potentials(gains, inputs["groups"], inputs["outcome"])
    token_turn = repeat(range(len(flat(sizes))), flat(sizes))
    bare = Batch.of_maps(batch.turn_trajectory, inputs["groups"], token_turn)
    return replace(bare, columns=batch.columns), count


def turn_advantages(case: Case) -> dict[str, Any]:
    params = case["params"]
    batch, count = _batch(case["inputs"])
    of_outcome, of_gain = params.get("curriculum") or (1.0, 1.0)
    recipe = dr_venus(
        gamma=params.get("gamma", 0.95),
        norm=choose("norm_mode", MODES, params.get("norm_mode", "scaled_separate")),
        penalty=0.0,
        gain_weight=params.get("ig_weight", 1.0),
        outcome_curriculum=of_outcome,
        gain_curriculum=of_gain,
        least_weight=params.get("adaptive_gamma_min_weight") or 0.0,
    )
    gain, outcome = chain(tool_gain(None), igpo_z(task)), chain(at_answer(), igpo_z(task))
    sizes: dict[str, Node] = {
        "ig_abs_mean": mean_size(gain),
        "outcome_abs_mean": mean_size(outcome),
        "ig_scale": gain_scale(gain, outcome),
    }
    whole = {name: node(None, batch).tolist()[0] for name, node in sizes.items()}
    return {"turn_advantages": ragged(recipe.credit(batch, to="turn").tolist(), count), **whole}


def filtered_info_gain(case: Case) -> dict[str, Any]:
    start, *after = case["inputs"]["tau_logp"]
    wanted = case["params"].get("ig_tool_filter")
    names = [wanted] if isinstance(wanted, str) else wanted
    used = [names is None or tool in names for tool in case["inputs"]["tool_per_turn"]]
    batch = Batch.of_maps([0] * (len(after) + 1), ["one"]).with_column("gold_logprob", "turn", [*after, None])
    batch = batch.with_column("called_it", "turn", [*used, *[False] * (len(after) + 1 - len(used))])
    batch = batch.with_column("gold_logprob_start", "trajectory", [start])
    return {"ig": tool_gain("it")(None, batch).tolist()[: len(after)]}
