"""Methods that know only the outcome: one number a trajectory, compared with its group, spread over its tokens."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import (
    Chain,
    Credit,
    Stage,
    center,
    chain,
    constant,
    drop,
    fewer_than,
    read,
    same_level,
    spread,
    stage,
    task,
    zscore,
)
from workbench.credit.normalise import Singleton
from workbench.losses import LogProbLoss, constant_length, token_mean, trajectory_mean, trajectory_sum
from workbench.objective import Objective, Term, clipped
from workbench.recipes.base import Recipe


def reinforce() -> Recipe:
    """Weigh every token by the outcome of its trajectory; nobody is compared with anybody.

        A_t = R_i,    loss = - mean_i sum_t A_t log p_t

    Needs: outcome.
    Holds: a failed trajectory (outcome 0) gets exactly 0, not blame.
    Source: Williams 1992, "Simple statistical gradient-following algorithms", Eq. 4, without baseline.
    """
    objective = Objective((Term("policy", LogProbLoss(), 1.0, trajectory_sum),))
    return Recipe("reinforce", chain(read("outcome"), spread("token")), objective)


def rloo(singleton: Singleton = "zero") -> Recipe:
    """Compare each outcome with the mean of the others of its group.

        A_i = R_i - mean_{j != i} R_j

    Args:
        singleton: what a lone trajectory gets: "zero", "keep" (its raw outcome) or "drop".

    Needs: outcome.
    Holds: sums to zero within a group; a group of equal outcomes gets 0.
    Source: Ahmadian et al. 2024, arXiv:2402.14740, Eq. 7.
    Differs: the paper has no lone samples; see `rloo_released`.
    """
    objective = Objective((Term("policy", LogProbLoss(), 1.0, trajectory_sum),))
    baseline = center(task, leave_one_out=True, singleton=singleton)
    return Recipe("rloo", chain(read("outcome"), baseline, spread("token")), objective)


def rloo_released(low: float = 0.2, high: float = 0.2) -> Recipe:
    """RLOO as verl runs it: a lone trajectory keeps its raw outcome, and the loss is clipped.

    Source: verl core_algos.py, the rloo estimator (its vectorised twin gives a lone member 0 instead).
    """
    out = rloo("keep")
    return replace(out, name="rloo_released", objective=clipped(low, high, dual=3.0))


def _group_z(ddof: int, eps: float, singleton: Singleton) -> Chain:
    return chain(read("outcome"), zscore(task, ddof=ddof, eps=eps, singleton=singleton))


def grpo(low: float = 0.2, high: float = 0.2, kl: float = 0.04, ddof: int = 1, eps: float = 1e-6) -> Recipe:
    """Compare each outcome with its group, in units of the group's spread.

        A_i = (R_i - mean_j R_j) / (std_j R_j + eps)

    Args:
        low, high: clip half-widths.
        kl: weight of the k3 KL to the reference policy; needs the column "logprob_ref" unless 0.
        ddof: 1 for the sample spread (verl, TRL), 0 for the population's (rllm).
        eps: added to the spread (verl 1e-6, TRL 1e-4).

    Needs: outcome; logprob_ref if kl is not 0.
    Holds: zero mean within a group; a group of equal outcomes gets 0 (collapse); a lone trajectory gets 0.
    Source: Shao et al. 2024, arXiv:2402.03300, Eqs. 3-4 and sec. 4.1.2; loss averaged per trajectory, then over them.
    Differs: the paper does not say which spread; see `grpo_released` for verl's choices.
    """
    credit = chain(_group_z(ddof, eps, "zero"), spread("token"))
    return Recipe("grpo", credit, clipped(low, high, aggregate=trajectory_mean, kl=kl))


def grpo_released(low: float = 0.2, high: float = 0.2, dual: float = 3.0, kl: float = 0.0) -> Recipe:
    """GRPO as verl runs it by default: sample spread, eps 1e-6, lone member keeps its outcome, dual clip, token mean.

    Needs: outcome; logprob_ref if kl is not 0.
    Source: verl core_algos.py, compute_grpo_outcome_advantage and compute_policy_loss.
    Differs: a lone trajectory has mean 0 and spread 1, so its raw outcome / (1 + 1e-6) passes through.
    """
    credit = chain(_group_z(1, 1e-6, "keep"), spread("token"))
    return Recipe("grpo_released", credit, clipped(low, high, dual=dual, aggregate=token_mean, kl=kl))


def dr_grpo(max_tokens: int = 1024, low: float = 0.2, high: float = 0.2, singleton: Singleton = "zero") -> Recipe:
    """GRPO without the two divisions that bias it: by the spread of the group, and by the length of the answer.

        A_i = R_i - mean_j R_j,    loss = sum_t l_t / (constant)

    Args:
        max_tokens: the constant: the sum over all tokens of the batch is divided by it. The paper's mean over G
            trajectories is max_tokens = G * longest answer.
        low, high: clip half-widths.
        singleton: what a lone trajectory gets.

    Needs: outcome.
    Holds: zero mean within a group.
    Source: Liu et al. 2025, arXiv:2503.20783, sec. 3.2.
    """
    credit = chain(read("outcome"), center(task, singleton=singleton), spread("token"))
    return Recipe("dr_grpo", credit, clipped(low, high, aggregate=constant_length(max_tokens)))


def dr_grpo_released(max_tokens: int = 1024) -> Recipe:
    """Dr. GRPO as verl runs it with norm_adv_by_std_in_grpo=False: a lone trajectory keeps its raw outcome.

    Source: verl core_algos.py; the constant defaults to the padded width there and must be set explicitly here.
    """
    return replace(dr_grpo(max_tokens, singleton="keep"), name="dr_grpo_released")


def overlong_penalty(length: Tensor, max_length: float, cache: float, factor: float = 1.0) -> Tensor:
    """Return DAPO's soft penalty of long answers.

        0 up to L_max - L_cache;   linear to -factor at L_max;   -factor beyond

    Args:
        length: tokens a trajectory [N].
        max_length, cache: L_max and L_cache, in tokens.
        factor: the largest penalty, > 0.

    Returns:
        [N], in [-factor, 0]; without a cache, 0 up to L_max and -factor beyond.

    Source: Yu et al. 2025, arXiv:2503.14476, Eq. 13.
    """
    over = length.to(torch.float64) - (max_length - cache)
    return -factor * ((over / cache).clamp(0.0, 1.0) if cache > 0 else (over > 0).to(torch.float64))


def _soft_overlong(credit: Credit, batch: Batch, max_length: float, cache: float) -> Credit:
    if not batch.has_tokens:
        raise ValueError("soft_overlong: the batch has no tokens, so lengths are unknown; give dapo max_length=None")
    length = torch.bincount(batch.up("token", "trajectory"), minlength=batch.count("trajectory"))
    return replace(credit, values=credit.values + overlong_penalty(length, max_length, cache))


def soft_overlong(max_length: float, cache: float) -> Stage:
    """Add DAPO's penalty for long answers to a trajectory-level credit; see `overlong_penalty`."""
    return stage(soft_overlong, _soft_overlong, same_level, {"max_length": max_length, "cache": cache})


def dapo(
    low: float = 0.2, high: float = 0.28, max_length: float | None = None, cache: float = 0.0, eps: float = 1e-6
) -> Recipe:
    """GRPO that leaves out groups of equal outcomes and samples again, clips higher above, and averages over tokens.

        A_i = (R_i - mean_j R_j) / (std_j R_j + eps)  if the group's outcomes are not all equal, else dropped

    A group with fewer than two known outcomes is dropped, too, for that reason.

    Args:
        low, high: clip half-widths (clip-higher).
        max_length, cache: of the soft overlong penalty in tokens; None for no penalty.
        eps: added to the sample spread.

    Needs: outcome.
    Holds: every credited group has a non-zero spread. The filter looks at the outcomes before the penalty.
    Source: Yu et al. 2025, arXiv:2503.14476, Eqs. 8-13.
    """
    unknown = drop(fewer_than(2, task), "fewer than two known outcomes in the group")
    signal = [read("outcome"), unknown, drop(constant(task), "all outcomes of the group equal")]
    penalty = [] if max_length is None else [soft_overlong(max_length, cache)]
    credit = chain(*signal, *penalty, zscore(task, eps=eps), spread("token"))
    return Recipe("dapo", credit, clipped(low, high, aggregate=token_mean), refill=True)


def gspo(low: float = 3e-4, high: float = 4e-4) -> Recipe:
    """GRPO's credit with one importance ratio a trajectory: the geometric mean of its token ratios.

        s_i = exp(mean_t (l_t - l_old,t)),    clipped to [1 - low, 1 + high]

    Args:
        low, high: clip half-widths; a thousand times narrower than a token ratio's.

    Needs: outcome.
    Holds: as `grpo_released`: a lone trajectory keeps its outcome.
    Source: Zheng et al. 2025, arXiv:2507.18071, Eqs. 5-7; token gradient of GSPO-token; log ratio capped at 10 (verl).
    """
    credit = chain(_group_z(1, 1e-6, "keep"), spread("token"))
    return Recipe("gspo", credit, clipped(low, high, ratio="sequence", aggregate=trajectory_mean))
