"""What a turn contributed to the end, four ways: without it, in hindsight, in every coalition, by prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import (
    Credit,
    Node,
    apply,
    chain,
    difference,
    forget,
    last,
    mix,
    read,
    spread,
    task,
    total,
    zscore,
)
from workbench.losses import trajectory_mean
from workbench.objective import clipped
from workbench.recipes.base import Recipe
from workbench.recipes.relatives import outcome_at_end
from workbench.recipes.weighed import answer_log_ratio


def turn_ablation(drop: str = "ablation_drop") -> Recipe:
    """Credit a turn with what is lost without it, compared with all turns of the task.

        A_t = z_task(v(all turns) - v(all turns but t))

    Args:
        drop: turn column of the loss. Evidence: the observation taken out of what the answer is scored behind, or the
            world played again without the turn.

    Needs: ablation_drop.
    Holds: a turn without which nothing changes is below the mean, not 0. Two turns that say the same both get nothing
        (each is spared by the other), which Shapley values do not do. The turn that answers has no drop of its own: it
        is unknown, and not in the loss.
    Source: none found for agents' turns; leave-one-out attribution, e.g. Li, Monroe and Jurafsky 2016,
        arXiv:1612.08220.
    """
    credit = chain(read(drop, "turn"), zscore(task), spread("token"))
    return Recipe("turn_ablation", credit, clipped(0.2, aggregate=trajectory_mean))


def hindsight_factor(batch: Batch, evidence: Credit, bound: float) -> Tensor:
    """1 - pi / h = 1 - exp(-l), l = log h - log pi kept in [-bound, bound]."""
    return 1.0 - torch.exp(-evidence.values.clamp(-bound, bound))


def _times(batch: Batch, outcome: Credit, factor: Credit) -> Tensor:
    return outcome.values * factor.values


def hindsight(bound: float = 1.0) -> Recipe:
    """Credit a turn by how much likelier it is once the end is known.

        A_t = (1 - pi(y_t | x_t) / h(y_t | x_t, Z)) R,    log h - log pi = sum over the turn's tokens, within the bound

    h is asked of the same policy, told the answer: the answer stands for "it ended well". For outcomes of 0 and 1 that
    is all the return there is to be told; for others it is not.

    Args:
        bound: of the log-ratio of a turn: without it one unlikely turn outweighs the batch.

    Needs: outcome, logprob_informed, logprob_plain (evidence: the policy scores its tokens twice, once told the
        answer).
    Holds: a turn as likely as before gets 0; a failed rollout (0) gets 0. Long turns reach the bound.
    Source: Harutyunyan et al. 2019, arXiv:1912.02503, return-conditional hindsight credit, Eq. 6.
    Differs: there h is learned; here the policy is told. The bound is ours.
    """
    evidence = chain(answer_log_ratio(), total("turn"))
    factor = chain(apply(hindsight_factor, evidence, bound=bound))
    credit = chain(apply(_times, chain(read("outcome"), spread("turn")), factor), spread("token"))
    return Recipe("hindsight", credit, clipped(0.2, aggregate=trajectory_mean))


def shapley(values: str = "shapley") -> Recipe:
    """Credit a turn with its mean contribution over all orders in which the turns could have been read.

        phi_t = mean over orders of v(turns before t and t) - v(turns before t),   A_t = phi_t

    Args:
        values: turn column of phi. Evidence: v of a set of turns is how likely the policy finds the gold answer having
            read only these; exact for few turns, sampled orders with intervals (shapley_error) for many.

    Needs: shapley.
    Holds: efficiency: the values of a rollout sum to v(all) - v(none); equal turns share equally; a turn that changes
        no set gets 0. The turn that answers has no value of its own and is unknown.
    Source: Shapley 1953, "A value for n-person games"; sampled orders: Castro, Gomez and Tejada 2009.
    Differs: nothing is compared with a group: credit is positive where reading helped, whatever the siblings did.
    """
    return Recipe("shapley", chain(read(values, "turn"), spread("token")), clipped(0.2, aggregate=trajectory_mean))


def prediction_change(residual: bool) -> Node:
    """g_t - g_{t-1}, and at the last turn what the prediction still missed: R - g_T."""
    change = chain(read("return_pred", "turn"), difference("return_pred_start"))
    if not residual:
        return change
    final = chain(read("return_pred", "turn"), forget(~last()))
    missed = mix(outcome_at_end(), final, weights=(1.0, -1.0))
    return mix(change, missed, unknown="skip")


def rudder(residual: bool = True) -> Recipe:
    """Move the outcome to the turns at which a learned predictor of it changed its mind.

        A_t = g_t - g_{t-1},   A_T = ... + (R - g_T),    g_t: the outcome predicted from the first t turns

    Args:
        residual: give the last turn what the predictor missed, so that nothing is lost.

    Needs: return_pred, return_pred_start (evidence: a small recurrent network fitted to the rollouts' outcomes);
        outcome, if residual.
    Holds: the credit of a rollout sums to R - g_0 (to g_T - g_0 without the residual). It is as good as the predictor:
        one that learned nothing leaves it all at the last turn.
    Source: Arjona-Medina et al. 2019, arXiv:1806.07857, secs. 2 and 3 (reward redistribution by return differences).
    Differs: an LSTM on states and actions there; here a GRU on hashed words, fitted to the rollouts it is used on, or
        to those of other questions: `evidence=[ReturnPredictor(folds=4)]`.
    """
    credit = chain(prediction_change(residual), spread("token"))
    return Recipe("rudder", credit, clipped(0.2, aggregate=trajectory_mean))
