"""The distribution a token is sampled from, and the draw. One file, so that engine and learner apply the same."""

from __future__ import annotations

import numpy as np
import torch


def log_distribution(logits: torch.Tensor, temperature: float = 1.0, top_p: float = 1.0) -> torch.Tensor:
    """Return log-probabilities after temperature and nucleus.

        log p = log_softmax(logits / temperature), renormalised over the smallest set of most likely tokens whose
        probability reaches top_p

    Args:
        logits: [..., V], any float type; computed in float32.
        temperature: > 0. At 0 the distribution is a point: 0 at the most likely token, -inf elsewhere.
        top_p: in (0, 1].

    Returns:
        [..., V] float32; -inf outside the nucleus.

    Example:
        >>> log_distribution(torch.tensor([2.0, 1.0, -9.0]), top_p=0.9).exp().tolist()
        [0.7310585975646973, 0.2689414322376251, 0.0]

    Source: Holtzman et al. 2020 (arXiv 1904.09751), section 3.1 (nucleus).
    """
    if temperature < 0 or not 0 < top_p <= 1:
        raise ValueError(f"expected temperature >= 0 and 0 < top_p <= 1, got {temperature} and {top_p}")
    logits = logits.float()
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.full_like(logits, -torch.inf).scatter(-1, best, 0.0)
    scaled = logits if temperature == 1 else logits / temperature
    if top_p < 1:
        scaled = scaled.masked_fill(~nucleus(scaled.softmax(-1), top_p), -torch.inf)
    return scaled.log_softmax(-1)


def nucleus(probs: torch.Tensor, top_p: float) -> torch.Tensor:
    """Return which tokens [..., V] are in the smallest set of most likely tokens that reaches `top_p`."""
    ordered, order = torch.sort(probs, dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered  # the first token always stays: nothing comes before it
    return torch.zeros_like(probs, dtype=torch.bool).scatter(-1, order, before < top_p)


def uniforms(seed: int, count: int) -> torch.Tensor:
    """Return the random numbers of one generation, one a position: [count] float64 in [0, 1).

    Position t has the same number whatever `count` is, whatever else is in the batch, on any machine (Philox-4x64 is
    counter-based and specified bit for bit; the upper 53 bits of each word are used).
    """
    if not 0 <= seed < 2**128:
        raise ValueError(f"expected a seed in [0, 2**128), got {seed}")
    words = np.random.Philox(key=seed).random_raw(count)
    return torch.from_numpy((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def draw(logprobs: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Sample one token a row by the inverse of the cumulative distribution, in float64.

    A row's token depends on its own distribution and number alone. Distributions that differ by rounding (another
    batch size makes another order of summation) give another token only if the number falls into that gap.

    Args:
        logprobs: [B, V].
        uniform: [B] in [0, 1).

    Returns:
        [B] int64; never a token of probability 0.
    """
    cumulative = logprobs.double().exp().cumsum_(-1)
    target = uniform.to(cumulative)[:, None] * cumulative[:, -1:]
    token = torch.searchsorted(cumulative, target, right=True)[:, 0]
    beyond = token >= logprobs.shape[-1]  # the product was rounded up to the total
    return torch.where(beyond, logprobs.argmax(-1), token)
