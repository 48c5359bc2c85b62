"""The algebra is wide enough for methods that bring their own loss and are not recipes of the package yet.

An adapter turns a worked case (inputs and parameters) into a `Batch` and back; every formula is a chain, an objective,
or a named pure function beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import (
    Credit,
    Node,
    apply,
    average,
    chain,
    mix,
    read,
    reward_to_go,
    spread,
    task,
    total,
    zscore,
)
from workbench.losses import (
    ClippedAway,
    LogProbLoss,
    PolicyLoss,
    ValueLoss,
    constant_length,
    trajectory_sum,
)
from workbench.objective import DivideByNorm, Objective, Term
from workbench.recipes.base import Recipe

CASES = json.loads((Path(__file__).parent / "parity" / "cases" / "worked_examples.json").read_text())
GRPO = zscore(task, ddof=1, eps=1e-6, singleton="keep")


def flat(rows: Iterable[Any]) -> list[Any]:
    return [x for row in rows for x in row]


def unpadded(rows: list[list[float]], lengths: list[int]) -> Tensor:
    return torch.tensor(flat(row[:n] for row, n in zip(rows, lengths, strict=True)), dtype=torch.float64)


def one_turn_each(lengths: list[int], groups: list[Any] | None = None) -> Batch:
    """One trajectory of one turn per length; one group unless named."""
    tokens = [i for i, n in enumerate(lengths) for _ in range(n)]
    return Batch.of_maps(range(len(lengths)), groups or ["one"] * len(lengths), tokens)


# ------------------------------------------------------------------------------------------------------- ArCHer


def _double_advantage(batch: Batch, q1: Credit, q2: Credit, v1: Credit, v2: Credit) -> Tensor:
    """min(Q1, Q2) - min(V1, V2)"""
    return torch.minimum(q1.values, q2.values) - torch.minimum(v1.values, v2.values)


CRITICS = tuple(read(name, "turn") for name in ("q1", "q2", "v1", "v2"))
UTTERANCE = apply(_double_advantage, *CRITICS)
SCORE = Term("policy", LogProbLoss(), aggregate=trajectory_sum)


def archer() -> Recipe:
    return Recipe("archer", chain(UTTERANCE, spread("token")), Objective((SCORE,)))


def archer_with_baseline(width: int) -> Recipe:
    """The utterance's advantage minus a token baseline, which is fitted to it (over padded positions, as released)."""
    utterance = chain(read("advantage", "turn"), spread("token"))
    credit = chain(mix(utterance, read("token_value", "token"), weights=(1.0, -1.0)))
    value = Term("value", ValueLoss("utterance"), aggregate=constant_length(width))
    return Recipe("archer_with_baseline", credit, Objective((SCORE, value)), {"utterance": utterance})


def archer_actor(inputs: Any, params: Any) -> Any:
    batch = one_turn_each([1] * len(inputs["q1"]))  # an utterance's log-prob is given whole: one token each
    for name in ("q1", "q2", "v1", "v2"):
        batch = batch.with_column(name, "turn", inputs[name])
    logprob = torch.tensor(inputs["logp_sum"], dtype=torch.float64, requires_grad=True)
    recipe = archer()
    loss = recipe.objective(logprob, batch, recipe.credit(batch)).loss
    (gradient,) = torch.autograd.grad(loss, logprob)
    advantage = recipe.credit(batch, to="turn").tolist()
    return {"advantage": advantage, "pg_loss": loss.item(), "grad_logp": gradient.tolist()}


def archer_baseline(inputs: Any, params: Any) -> Any:
    lengths = [int(sum(row)) for row in inputs["mask"]]
    batch = one_turn_each(lengths).with_column("advantage", "turn", inputs["advantage"])
    value = unpadded(inputs["token_value"], lengths)
    batch = batch.with_column("token_value", "token", value)
    recipe = archer_with_baseline(len(flat(inputs["mask"])))
    credits = recipe.credits(batch)
    logprob = unpadded(inputs["token_logp"], lengths)
    terms = recipe.objective(logprob, batch, credits["credit"], credits, outputs={"value": value}).terms
    return {"pg_loss": terms["policy"].item(), "value_loss": terms["value"].item()}


def archer_return(inputs: Any, params: Any) -> Any:
    batch = Batch.of_maps([0] * len(inputs["reward"]), ["one"]).with_column("turn_reward", "turn", inputs["reward"])
    return {"mc_return": chain(read("turn_reward"), reward_to_go(params["gamma"]))(None, batch).tolist()}


# ------------------------------------------------------------------------------------------------------- ST-PPO


def st_ppo(eps: float, ratio: str, least: float = 0.0, turn_mean: bool = False) -> Recipe:
    """The clipped surrogate's gradient, divided by the norm of what its clip removed."""
    advantage = chain(read("advantage", "token"))
    credit = chain(advantage, average("turn"), spread("token")) if turn_mean else advantage
    policy = PolicyLoss(eps, eps, ratio=ratio, through="unit")
    terms = (Term("policy", policy), Term("bias", ClippedAway(policy), weight=0.0))
    return Recipe("st_ppo", credit, Objective(terms, rule=DivideByNorm("policy", "bias", least)))


def st_ppo_gradients(inputs: Any, params: Any) -> Any:
    assert params["agg"] == "mean over response tokens"
    turns = inputs["turn_id"]
    batch = Batch.of_maps([0] * (max(turns) + 1), ["one"], turns)
    batch = batch.with_column("advantage", "token", inputs["advantage"])
    batch = batch.with_column("logprob_old", "token", torch.tensor(inputs["logprob_old"], dtype=torch.float64))
    theta = torch.tensor(inputs["theta"], dtype=torch.float64, requires_grad=True)
    names = {
        "S_PPO_token": ("token", False),
        "ST_PPO_turn": ("turn", False),
        "ST_PPO_turn_with_turn_mean_advantage": ("turn", True),
    }
    out: dict[str, Any] = {
        name: _one_ratio(theta, torch.tensor(inputs["tokens"]), batch, params["eps"], *how)
        for name, how in names.items()
    }
    mean = chain(read("advantage", "token"), average("turn"), spread("token"))(None, batch).tolist()
    ratio = out["ST_PPO_turn"]["ratio_per_token"]
    return {**out, "turn_mean_advantage": mean, "turn_ratio": [ratio[turns.index(k)] for k in sorted(set(turns))]}


def _one_ratio(theta: Tensor, tokens: Tensor, batch: Batch, eps: float, ratio: str, turn_mean: bool) -> Any:
    logprob = torch.log_softmax(theta, 0)[tokens]

    def run(recipe: Recipe) -> tuple[Any, dict[str, Tensor]]:
        result = recipe.objective(logprob, batch, recipe.credit(batch))
        return result, {n: torch.autograd.grad(x, theta, retain_graph=True)[0] for n, x in result.terms.items()}

    recipe = st_ppo(eps, ratio, turn_mean=turn_mean)
    objective, policy = recipe.objective, recipe.objective.terms[0].loss
    result, gradients = run(recipe)
    _, unclipped = run(st_ppo(math.inf, ratio, turn_mean=turn_mean))
    look, _ = objective.look(logprob, batch, recipe.credit(batch))
    by_norm = objective.gradient(gradients, torch.linalg.vector_norm)
    by_max = st_ppo(eps, ratio, 1.0, turn_mean).objective.gradient(gradients, torch.linalg.vector_norm)
    gap = gradients["policy"] + gradients["bias"] - unclipped["policy"]
    return {  # the case is about what is maximised, a loss is minimised: signs turn
        "ratio_per_token": policy.ratios(look).tolist(),
        "clipped": policy.is_clipped(look).tolist(),
        "objective": -result.loss.item(),
        "grad_clipped_objective": (-gradients["policy"]).tolist(),
        "clip_bias_C": (-gradients["bias"]).tolist(),
        "unclipped_grad": (-unclipped["policy"]).tolist(),
        "identity_check_grad_plus_C_minus_unclipped": gap.abs().max().item(),
        "C_norm": gradients["bias"].norm().item(),
        "corrected_grad_div_norm": (-by_norm).tolist(),
        "corrected_grad_div_max_norm_1": (-by_max).tolist(),
    }


def _exp(batch: Batch, x: Credit) -> Tensor:
    return torch.exp(x.values)


def st_ppo_ratio(inputs: Any, params: Any) -> Any:
    rows = inputs["log_ratio_by_turn"]
    batch = Batch.of_maps([0] * len(rows), ["one"], [k for k, row in enumerate(rows) for _ in row])
    gap = torch.tensor(flat(rows), dtype=torch.float64)
    batch = batch.with_column("gap", "token", gap).with_column("logprob_old", "token", torch.zeros_like(gap))
    recipe = Recipe("ratio", chain(read("gap", "token")), Objective((Term("policy", PolicyLoss(0.2, 0.2, "turn")),)))
    look, _ = recipe.objective.look(gap, batch, recipe.credit(batch))
    ratio = recipe.objective.terms[0].loss.ratios(look)[batch.last("token", "turn")]
    arithmetic: Node = chain(apply(_exp, read("gap", "token")), average("turn"))
    product: Node = apply(_exp, chain(read("gap", "token"), total("turn")))
    variants = {"arithmetic_mean_variant": arithmetic, "product_variant": product}
    return {"turn_ratio": ratio.tolist(), **{name: node(None, batch).tolist() for name, node in variants.items()}}


# ----------------------------------------------------------------------------------------------------- the table

ADAPTERS: dict[tuple[str, str], Callable[[Any, Any], Any]] = {
    ("ArCHer", "actor_no_baseline"): archer_actor,
    ("ArCHer", "actor_token_baseline"): archer_baseline,
    ("ArCHer", "mc_return"): archer_return,
    ("ST-PPO", "gradients"): st_ppo_gradients,
    ("ST-PPO", "turn_ratio"): st_ppo_ratio,
}


def differences(got: Any, expected: Any, path: str = "") -> Iterable[str]:
    """Name what differs: numbers by more than 1e-5, anything else at all."""
    if isinstance(expected, dict):
        for key in expected:
            yield from differences(got[key], expected[key], f"{path}.{key}")
    elif isinstance(expected, list):
        if not isinstance(got, list) or len(got) != len(expected):
            yield f"{path}: {got} is not {expected}"
        else:
            for i, (g, e) in enumerate(zip(got, expected, strict=True)):
                yield from differences(g, e, f"{path}[{i}]")
    elif isinstance(expected, float) and not isinstance(got, (bool, type(None))):
        if not abs(got - expected) <= 1e-5:
            yield f"{path}: {got} is not {expected}"
    elif got != expected:
        yield f"{path}: {got} is not {expected}"


ALL = [(m, case) for m, f in ADAPTERS for case in CASES[m] if case["function"] == f]


@pytest.mark.parametrize(("method", "case"), ALL, ids=[f"{m}-{case['name']}" for m, case in ALL])
def test_worked_example(method: str, case: Any) -> None:
    got = ADAPTERS[method, case["function"]](case["inputs"], case["params"])
    assert list(differences(got, case["expected"])) == []


def test_comparison_can_fail() -> None:
    assert list(differences({"a": [1.0, 2.0]}, {"a": [1.0, 2.00002]})) == [".a[1]: 2.0 is not 2.00002"]
    assert list(differences([None], [0.0])) and list(differences([1.0], [1.0, 2.0]))
