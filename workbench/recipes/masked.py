"""Mini-o3: rollouts that a limit cut off count in the statistics, and are not in the loss."""

from __future__ import annotations

from workbench.credit import Chain, chain, column, drop, read, spread, task, zscore
from workbench.losses import Aggregate, trajectory_mean
from workbench.objective import clipped
from workbench.recipes.base import Recipe


def _credit(over: str | None) -> Chain:
    """GRPO's z-score over all rollouts; those cut off are dropped after it."""
    mask = [] if over is None else [drop(column(over), "cut off by a limit")]
    return chain(read("outcome"), zscore(task, ddof=1, eps=1e-6, singleton="keep"), *mask, spread("token"))


def mini_o3(low: float = 0.2, high: float = 0.3, over: str | None = "truncated") -> Recipe:
    """GRPO that does not punish a rollout for running out of turns.

        A_i = M_i (R_i - mean_j R_j) / (std_j R_j + 1e-6),    M_i = 1 if the rollout ended by itself, else 0
        loss = sum_i M_i mean_t l_it / sum_i M_i

    Args:
        low, high: clip half-widths.
        over: trajectory column that says which rollouts were cut off; None masks nothing.

    Needs: outcome, truncated (every rollout carries it).
    Holds: rollouts cut off (outcome 0) stay in the mean and the spread: they raise the credit of wrong answers that
        were finished.
    Source: arXiv:2509.07969, over-turn masking, as detailed notes give it.
    Differs: see `mini_o3_released`.
    """
    return Recipe("mini_o3", _credit(over), clipped(low, high, aggregate=trajectory_mean))


def mini_o3_released(low: float = 0.2, high: float = 0.3, over: str | None = "truncated") -> Recipe:
    """Mini-o3 as released: the mean is over the tokens that are left, plus 1e-6.

    Args: as in `mini_o3`.

    Source: Mini-o3/Mini-o3, verl/trainer/ppo/core_algos.py and verl/workers/actor/dp_actor.py.
    Differs: token mean where the paper divides by the rollouts that ended. The release also rejects tasks whose
        finished rollouts have equal rewards: a matter of sampling, not of the credit.
    """
    return Recipe("mini_o3_released", _credit(over), clipped(low, high, aggregate=Aggregate("token_mean", size=1e-6)))
