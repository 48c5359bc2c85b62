"""What the distribution behind each sampled token looks like, beside its log-prob; nothing here carries a gradient."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from workbench.policy.sampling import log_distribution

AT_ONCE = 2**22
"""Numbers of a slice: over a large vocabulary a whole distribution a token is most of the memory of a pass."""


class Glance(NamedTuple):
    """Two numbers a token.

    Args:
        entropy: [n], of the distribution the token was drawn from, in nats.
        slope: [n], norm of the gradient of the token's log-prob by the logits, in [0, sqrt(2) / temperature).
    """

    entropy: Tensor
    slope: Tensor


def glance(logits: Tensor, ids: Tensor, temperature: float = 1.0) -> Glance:
    """Return entropy and slope of tokens, exact, a slice of the vocabulary's numbers at a time.

        p = softmax(z / T)      H = -sum_v p_v log p_v
        |d log p_y / d z| = sqrt((1 - p_y)^2 + sum_{v != y} p_v^2) / T

    Args:
        logits: z [n, V], those before each token.
        ids: y int [n].
        temperature: T.

    Example:
        >>> two = glance(torch.zeros(1, 2), torch.tensor([0]))
        >>> [round(x.item(), 4) for x in two]
        [0.6931, 0.7071]
    """
    found = []
    with torch.no_grad():
        size = max(1, AT_ONCE // max(logits.shape[-1], 1))
        for z, y in zip(logits.detach().split(size), ids[:, None].split(size), strict=True):
            logp = log_distribution(z, temperature)
            p = logp.exp()
            entropy = -(p * logp).sum(-1)
            others = p.scatter_(1, y, 0.0)
            missing = others.sum(-1)  # 1 - p_y, exact where p_y is near 1
            found.append((entropy, torch.sqrt(missing.square() + others.square().sum(-1)) / temperature))
    return Glance(*(torch.cat(x).float().cpu() for x in zip(*found, strict=True)))
