"""Methods that weigh GRPO's credit turn by turn: how sure a turn was, or what knowing the answer says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import (
    Chain,
    Credit,
    Node,
    add,
    apply,
    average,
    chain,
    clip,
    forget,
    last,
    minmax,
    mix,
    multiply,
    place,
    read,
    scale,
    spread,
    task,
    total,
    zscore,
)
from workbench.credit.rules import in_range, one_of
from workbench.losses import token_mean
from workbench.objective import clipped
from workbench.recipes.base import Recipe
from workbench.segments import seg_mean

Evidence = Literal["mean", "sum"]


def _outcome() -> Chain:
    return chain(read("outcome"), zscore(task, ddof=1, eps=1e-6, singleton="keep"))


def decay(batch: Batch, x: Credit, rate: float) -> Tensor:
    """exp(-rate x)"""
    return torch.exp(-rate * x.values)


def turn_entropy() -> Chain:
    """Mean entropy of a turn's tokens."""
    return chain(read("token_entropy", "token"), average("turn"))


def entropy_weight(entropy: Node, rate: float, least_range: float) -> Chain:
    """The weight of each turn by its entropy: sure turns count more, the mean over the turns of a task is 1.

    h = (H - min) / (max - min),    alpha = exp(-rate h) / mean(exp(-rate h));    1 where max - min < least_range
    """
    normalised = chain(entropy, minmax(task, least=least_range))
    return chain(apply(decay, normalised, rate=rate), scale(task, by="mean", eps=0.0))


def weighed(base: Node, weight: Node) -> Chain:
    """The credit of a recipe, turn by turn times a weight; at the tokens, where the base differs inside a turn.

    A[u] = alpha_{i,t} A_base[i, u]    for the tokens u of turn t

    Args:
        base: a chain that ends on tokens.
        weight: ends on turns.
    """
    whole = base.stages[:-1] if isinstance(base, Chain) and base.stages[-1] == spread("token") else ()
    level = chain(*whole).level_out(None) if whole else "token"
    if level == "trajectory":
        whole = (*whole, spread("turn"))
    if level in ("trajectory", "turn"):
        return chain(multiply(weight, chain(*whole)), spread("token"))
    return chain(multiply(chain(weight, spread("token")), base))


def aem(
    rate: float = 1.0,
    least_range: float = 0.1,
    low: float = 0.2,
    high: float = 0.2,
    kl: float = 0.0,
    host: Recipe | None = None,
) -> Recipe:
    """GRPO, or another recipe, whose confident turns take larger steps, up or down.

        A_{i,t} = alpha_{i,t} (R_i - mean) / (std + 1e-6),    alpha = exp(-rate h_{i,t}) / mean over the task's turns

    Args:
        rate: lambda, how much entropy counts.
        least_range: a task whose turns differ by less (nats) is left as it is.
        low, high: clip half-widths, of GRPO.
        kl: of GRPO: weight of the k3 KL to the reference policy; needs the column "logprob_ref" unless 0.
        host: another recipe, whose credit is weighed the same way (`aem(host=recipes.dapo())`). It keeps its objective,
            with its own clip and KL, its streams and its way of sampling; None is GRPO.

    Needs: outcome (or what the host reads), token_entropy (evidence: entropies of a forward pass over the sampled
        tokens).
    Holds: the mean weight of a task's turns is 1 (of its tokens not); where the host gives 0, this gives 0: with GRPO,
        equal outcomes.
    Source: arXiv:2605.00425, by two reading notes that agree; no official code was found. Published hosts: GRPO, DAPO,
        GSPO and GRPO++.
    Differs: any recipe is taken for a host; those that credit tokens or turns apart (GiGPO, PPO) were not published.
    """
    if host is not None and not isinstance(host, Recipe):
        raise TypeError(f"aem: expected a recipe such as recipes.dapo() for `host`, got {host!r}")
    if host is not None and (low, high, kl) != (0.2, 0.2, 0.0):
        raise ValueError(f"aem: low, high and kl are GRPO's; give them to the host, as in {host.name}(...)")
    name = "aem" if host is None else f"aem_{host.name}"
    objective = clipped(low, high, aggregate=token_mean, kl=kl)
    base = host or Recipe(name, chain(_outcome(), spread("token")), objective)
    credit = weighed(base.chain, entropy_weight(turn_entropy(), rate, least_range))
    return replace(base, name=name, chain=credit)


def answer_log_ratio() -> Chain:
    """log p(token | the answer is known) - log p(token), of every sampled token."""
    return chain(read("logprob_informed", "token"), add("logprob_plain", -1.0))


def tilt(batch: Batch, outcome: Credit, evidence: Credit, beta: float) -> Tensor:
    """exp(beta sign(A) e): what supports the answer counts more in a good rollout and less in a bad one."""
    return torch.exp(beta * outcome.values.sign() * evidence.values)


def turn_evidence(form: Evidence) -> Chain:
    """Log-ratio of a turn: the mean over its tokens, or their sum (which adds up to that of the trajectory)."""
    return chain(answer_log_ratio(), (average if form == "mean" else total)("turn"))


def _one(batch: Batch, x: Credit) -> Tensor:
    return torch.ones_like(x.values)


def over_mean(batch: Batch, weight: Credit) -> Tensor:
    """w / (mean w of the known turns of the rollout); that of an only turn is 1."""
    owner = batch.up(weight.level, "trajectory")
    mean = seg_mean(weight.values, owner, batch.count("trajectory"), weight.known)[owner]
    return weight.values / torch.where(mean == 0, 1.0, mean)


def tilted_weight(form: Evidence, beta: float, width: float, answer: bool = True, balanced: bool = False) -> Node:
    """Weight of a turn: clip(exp(beta sign(A) e), 1 - width, 1 + width).

    Args:
        form, beta, width: as in `pbsd`.
        answer: False gives the last turn the weight 1.
        balanced: then divided by their mean over the rollout.
    """
    here = chain(_outcome(), spread("turn"))
    weight: Node = chain(apply(tilt, here, turn_evidence(form), beta=beta), clip(1 - width, 1 + width))
    if not answer:
        end = chain(apply(_one, _outcome()), place("turn", "unknown"))
        weight = mix(chain(weight, forget(last())), end, unknown="skip")
    return apply(over_mean, weight) if balanced else weight


def pbsd(
    beta: float = 1.0,
    width: float = 0.2,
    mixed: float = 1.0,
    evidence: Evidence = "mean",
    low: float = 0.2,
    answer: bool = True,
    balanced: bool = False,
) -> Recipe:
    """Weigh the turns of a rollout by how much likelier the policy finds them when it is told the answer.

        e_t = mean_j (log p(y_j | q, answer, ctx) - log p(y_j | q, ctx)),    w_t = clip(exp(beta sign(A) e_t))
        A_{i,t} = A_i ((1 - mixed) + mixed w_{i,t}),    A_i = (R_i - mean) / (std + 1e-6)

    Args:
        beta: how much the evidence counts.
        width: the weight stays in [1 - width, 1 + width], width in [0, 1]; 0.5 goes with evidence="sum".
        mixed: lambda, share of the weight, in [0, 1]; 0 is GRPO.
        evidence: "mean" over the tokens of a turn or their "sum", which grows with its length.
        low: clip half-width of the loss.
        answer: does the evidence weigh the last turn, too? It quotes the answer, so who knows the answer likes it.
        balanced: divide the weights of a rollout by their mean (then they may leave the clip).

    Needs: outcome, logprob_informed, logprob_plain (evidence: the same policy scores the tokens twice, once told the
        answer).
    Holds: the sign of the outcome's credit never flips; equal outcomes give 0. The answer turn quotes the answer, so it
        is always supported, unless `answer=False`.
    Source: arXiv:2606.09348, abstract. Reconstruction: that evidence of turns reweighs the outcome is the paper's; the
        map from evidence to weight, its width, the mean and both switches are ours. No code is public.
    """
    one_of("pbsd", "evidence", evidence, Evidence)
    in_range("pbsd", "width", width, 0.0, 1.0)
    in_range("pbsd", "mixed", mixed, 0.0, 1.0)
    here = chain(_outcome(), spread("turn"))
    weighed = multiply(here, tilted_weight(evidence, beta, width, answer, balanced))
    credit = chain(mix(here, weighed, weights=(1 - mixed, mixed)), spread("token"))
    return Recipe("pbsd", credit, clipped(low, aggregate=token_mean))
