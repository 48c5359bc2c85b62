"""What the passes of an update saw of the policy: ratio, KL, entropy, clip, and which turns pulled at the weights.

Everything comes from numbers that the forward and backward passes made anyway; nothing here carries a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.losses import LOG_RATIO_BOUND, kl_k3
from workbench.segments import seg_sum

# ------------------------------------------------------------------------------------------- what one pass saw


class Seen(NamedTuple):
    """The tokens of a pass that count, one number each.

    Args:
        tokens: int [t], which of the batch.
        logprob: under the learning policy, before the update of this pass.
        entropy: exact, of the distribution each was drawn from under that policy, in nats; None if not looked at.
        pull: |d loss / d log p| |d log p / d logits|; None where a gradient rule puts gradients together.
    """

    tokens: Tensor
    logprob: Tensor
    entropy: Tensor | None
    pull: Tensor | None

    def only(self, where: Tensor) -> Seen:
        """Return the tokens where a mask [t] holds."""
        return Seen(*(None if x is None else x[where] for x in self))  # type: ignore[arg-type]


def together(parts: Sequence[Seen]) -> Seen:
    """Put the parts of a batch together; what one part lacks, all lack."""
    columns = zip(*parts, strict=True)
    return Seen(*(None if any(x is None for x in xs) else torch.cat(xs) for xs in columns))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- the equations


class Ratio(NamedTuple):
    """How far the learner's probabilities are from the sampler's; None where no log-probs were kept.

    Args:
        gap: largest | ratio - 1 | of a token.
        mean: mean | log ratio |.
        off: share of tokens whose ratio is further from 1 than a bound.
        quantiles: of | log ratio |, those of `QUANTILES`.
    """

    gap: float | None
    mean: float | None
    off: float | None
    quantiles: tuple[float, ...] | None


QUANTILES = (0.5, 0.9, 0.99)
"""Of `ratio_spread`."""


def ratio_of(logprob: Tensor, old: Tensor, bound: float) -> Ratio:
    """Measure exp(l - l_old) against 1.

    Example:
        >>> found = ratio_of(torch.tensor([-1.0, -2.0]), torch.tensor([-1.0, -2.1]), 0.01)
        >>> [round(x, 4) for x in found[:3]], [round(x, 4) for x in found.quantiles]
        ([0.1052, 0.05, 0.5], [0.05, 0.09, 0.099])
    """
    if not len(logprob):
        return Ratio(None, None, None, None)
    log = _log_ratio(logprob, old)
    gap, size = torch.expm1(log).abs(), log.abs()
    spread = np.quantile(size.numpy(), QUANTILES).tolist()  # torch has a limit of 2^24 numbers
    return Ratio(gap.max().item(), size.mean().item(), (gap > bound).double().mean().item(), tuple(spread))


def corrected(logprob: Tensor, old: Tensor, cap: float) -> float | None:
    """Return the share of tokens whose ratio a truncated correction cuts: exp(l - l_old) > cap; None without tokens.

    Example:
        >>> corrected(torch.tensor([-1.0, -2.0]), torch.tensor([-1.0, -3.0]), cap=2.0)
        0.5
    """
    return (torch.exp(_log_ratio(logprob, old)) > cap).double().mean().item() if len(logprob) else None


def kl_of_update(logprob: Tensor, old: Tensor) -> tuple[float, float] | None:
    """Estimate KL(sampling policy || policy now) from the tokens that were sampled: (k1, k3); None without tokens.

        k1 = mean(l_old - l)      k3 = mean(exp(l - l_old) - 1 - (l - l_old))

    Both are unbiased; k1 may be negative, k3 is not and varies less.

    Source: Schulman 2020, "Approximating KL divergence".
    """
    if not len(logprob):
        return None
    log = _log_ratio(logprob, old)
    return (-log).mean().item(), (torch.expm1(log) - log).mean().item()


def _log_ratio(logprob: Tensor, old: Tensor) -> Tensor:
    return (logprob.double() - old.double()).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)


def pull_by_turn(pull: Tensor, turn_index: Tensor) -> list[float] | None:
    """Return the share of each place in the trajectory in the gradient by logits; None where there is none.

        share_k = sum_{t in turn k} |g_t| / sum_t |g_t|        g_t = dL/dz_t = dL/dl_t (e_y - p) / T

    The exact gradient by the logits z of each token, its norm summed over tokens: what reaches the weights from there
    may cancel or add up, which `workbench.train.turn_gradients` says exactly.

    Args:
        pull: |g_t| [t].
        turn_index: place of each token's turn, int [t].

    Example:
        >>> pull_by_turn(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([0, 1, 1]))
        [0.25, 0.75]
    """
    whole = pull.double().sum()
    if not len(pull) or not bool(whole > 0):
        return None
    return (seg_sum(pull.double(), turn_index, int(turn_index.max()) + 1) / whole).tolist()


# ------------------------------------------------------------------------------------------------------ the row


def measure(passes: Sequence[Seen], batch: Batch, bound: float, cap: float | None = None) -> dict[str, Any]:
    """Measure the passes of a step; the keys are in the glossary.

    Args:
        passes: one an epoch, in order; none if the batch had no token that counts.
        batch: what was passed over.
        bound: of | ratio - 1 | for `ratio_off`.
        cap: of the weights of a truncated correction; None where the objective has none.
    """
    first, last = (passes[0], passes[-1]) if passes else (None, None)
    before = kl_of_update(*_against(first, batch, "logprob_old"))
    moved = kl_of_update(*_against(last, batch, "logprob_old")) if len(passes) > 1 else None
    now, held = _against(first, batch, "logprob_ref")
    ratio = ratio_of(*_against(first, batch, "logprob_old"), bound)
    turns = None if first is None or first.pull is None else batch.turn_index[batch.token_turn[first.tokens]]
    return {
        "ratio_gap": ratio.gap,
        "ratio_mean": ratio.mean,
        "ratio_off": ratio.off,
        "ratio_spread": list(ratio.quantiles) if ratio.quantiles else None,
        "corrected": None if cap is None else corrected(*_against(first, batch, "logprob_old"), cap),
        "kl_before": before[1] if before else None,
        "kl_update_k1": moved[0] if moved else None,
        "kl_update_k3": moved[1] if moved else None,
        "kl_reference": kl_k3(now, held).mean().item() if len(now) else None,
        "entropy": first.entropy.double().mean().item() if first and first.entropy is not None else None,
        "gradient_by_turn": pull_by_turn(first.pull, turns) if first and turns is not None else None,
    }


def _against(seen: Seen | None, batch: Batch, name: str) -> tuple[Tensor, Tensor]:
    """Log-probs of the tokens seen, and the same tokens in a column; only those the column knows."""
    column = batch.columns.get(name)
    if seen is None or column is None:
        return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    known = column.known[seen.tokens]
    return seen.logprob[known].double(), column.values[seen.tokens][known].double()


def mean_of(values: Sequence[float]) -> float | None:
    """Return the mean; None of nothing."""
    return sum(values) / len(values) if values else None


def timed(seconds: Mapping[str, float], tokens: Mapping[str, int]) -> dict[str, float | None]:
    """Return what a step took: `seconds_NAME`, `seconds` in all, and `tokens_per_second_NAME`.

    Args:
        seconds: of each part of a step.
        tokens: sampled tokens it worked on, by the same names.

    Example:
        >>> timed({"learn": 0.5}, {"learn": 100})
        {'seconds_learn': 0.5, 'seconds': 0.5, 'tokens_per_second_learn': 200.0}
    """
    spent = {f"seconds_{name}": round(s, 4) for name, s in seconds.items()}
    speed = {f"tokens_per_second_{n}": round(tokens[n] / s, 1) if s > 0 else None for n, s in seconds.items()}
    return {**spent, "seconds": round(sum(seconds.values()), 4), **speed}


TIMES = ("seconds", "tokens_per_second")
"""How the keys begin whose values depend on the machine and its load; all others are equal for equal seeds."""


def timeless(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without what depends on the machine's speed."""
    return {name: value for name, value in row.items() if not name.startswith(TIMES)}
