"""UFO and ARTIST: rewards of whole rollouts by rules."""

from __future__ import annotations

from typing import Any

import torch
from adapters.common import Case, choose, turns_of

from workbench.evidence.calls import part
from workbench.evidence.retries import tries
from workbench.recipes import artist
from workbench.recipes.artist import answer_reward, calling_reward
from workbench.recipes.ufo import MOST, at_end, feedback, repetition, retry_reward


def reward(case: Case) -> dict[str, Any]:
    """UFO: what the user says and what is paid at each answer of one episode, up to its end."""
    inputs, p = case["inputs"], case["params"]
    most = p.get("max_turns", MOST)
    judged = tries(inputs["answers"], [inputs["gold"]])
    replies = [feedback(bool(one.correct), sum(t.valid for t in judged[: k + 1]), most) for k, one in enumerate(judged)]
    end = next((k + 1 for k, (_, over) in enumerate(replies) if over), len(judged))
    batch = turns_of([end], ["q"])
    for name in ("valid", "correct", "repeated", "broken"):
        values = torch.tensor([float(getattr(one, name)) for one in judged[:end]], dtype=torch.float64)
        batch = batch.with_column(f"try_{name}", "turn", values)
    count = choose("variant", {"paper": "turns", "released": "answers"}, p.get("variant", "paper"))
    repeat = p.get("repetition_lambda", 0.5)
    node = retry_reward(p.get("gamma", 0.5), repeat, p.get("invalid_penalty", 0.0), count)
    over = replies[end - 1][1]
    whole, charge = (one(None, batch).tolist()[0] for one in (node, repetition()))
    paid = at_end(node)(None, batch).tolist() if over else [0.0] * end
    turns = [{"obs": said, "reward": r, "done": ends} for (said, ends), r in zip(replies[:end], paid, strict=True)]
    penalty = repeat * charge if over else 0.0  # type: ignore[operator]
    return {"per_turn": turns, "episode_return": whole if over else 0.0, "penalty": penalty}


def math(case: Case) -> dict[str, Any]:
    """ARTIST for questions: one group of rollouts."""
    rows, p = case["inputs"]["rollouts"], case["params"]
    batch = turns_of([1] * len(rows), case["inputs"].get("groups") or ["q"] * len(rows))
    columns = {
        "outcome": [float(row["correct"]) for row in rows],
        "format_score": [float(row["format"]) for row in rows],
        "tool_success": [part(row["ok"], row["calls"]) for row in rows],
    }
    for name, values in columns.items():
        batch = batch.with_column(name, "trajectory", values)
    weight = p.get("answer_weight", 2.0)
    recipe = artist(weight, p.get("std_ddof", 0), p.get("eps", 1e-8))
    return {
        "reward": answer_reward(weight)(None, batch).tolist(),
        "advantage": recipe.credit(batch, to="trajectory").tolist(),
    }


def function_calling(case: Case) -> dict[str, Any]:
    """ARTIST for function calling: one rollout."""
    inputs, p = case["inputs"], case["params"]
    batch = turns_of([1], ["q"]).with_column("format_score", "trajectory", [float(inputs["format"])])
    for column, name in (("state_match", "state"), ("call_match", "func")):
        batch = batch.with_column(column, "trajectory", [part(inputs[f"{name}_matched"], inputs[f"{name}_total"])])
    node = calling_reward(p.get("SR_max", 0.5), p.get("FR_max", 0.5), 1.0)  # a case says what its form is worth
    return {"reward": node(None, batch).tolist()[0]}
