"""MatchTIR: matching of calls, answer reward, fused advantages."""

from __future__ import annotations

import json
from typing import Any

from adapters.common import Case, choose, flat, lengths, ragged, step_values, turns_of

from workbench.evidence.answers import set_f1
from workbench.evidence.matching import GoldCall, call_rewards, match_transport, similarity_matrix, turn_means
from workbench.recipes import matchtir, matchtir_released


def _arguments(call: dict[str, Any]) -> dict[str, Any]:
    given = call.get("arguments", call.get("parameters", {}))
    return json.loads(given) if isinstance(given, str) else given


def matching(case: Case) -> dict[str, Any]:
    inputs, params = case["inputs"], case["params"]
    called, gold = ([GoldCall(c["name"], _arguments(c)) for c in inputs[key]] for key in ("pred_calls", "gold_calls"))
    scores = similarity_matrix(called, gold)
    reg, unmatched = params.get("ot_reg", 0.1), params.get("unmatched_reward", 0.0)
    return {
        "similarity": scores.tolist(),
        "km_reward_official_greedy": call_rewards(scores, "greedy", unmatched=unmatched),
        "km_reward_true_hungarian": call_rewards(scores, "optimal", unmatched=unmatched),
        "ot_reward": call_rewards(scores, "transport", reg),
        "ot_plan": match_transport(scores, reg).tolist(),
    }


def turn_rewards(case: Case) -> dict[str, Any]:
    inputs = case["inputs"]
    return {
        "answer_reward": set_f1(inputs["pred_answer"], [inputs["gold_answer"]]),
        "turn_rewards": turn_means(inputs["turn_call_rewards"]),
    }


def turn_advantages(case: Case) -> dict[str, Any]:
    inputs, params = case["inputs"], case["params"]
    make = choose("variant", {"paper": matchtir, "released": matchtir_released}, params.get("variant", "paper"))
    recipe = make(gamma=params.get("turn_discount", 0.9))
    sizes = lengths(inputs["turn_rewards"])
    batch = turns_of(sizes, inputs["groups"])
    batch = batch.with_column("match_turn_reward", "turn", flat(inputs["turn_rewards"]))
    return {
        "traj_advantage": step_values(recipe, batch, "zscore", 0).tolist(),
        "discounted_return": ragged(step_values(recipe, batch, "reward_to_go").tolist(), sizes),
        "turn_advantage": ragged(step_values(recipe, batch, "zscore", 1).tolist(), sizes),
        "fused": ragged(recipe.credit(batch, to="turn").tolist(), sizes),
    }
