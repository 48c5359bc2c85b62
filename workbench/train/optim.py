"""AdamW and its learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch


def rate_at(step: int, steps: int, rate: float, warmup: int, floor: float = 0.1) -> float:
    """Return the learning rate of a step: a linear warm-up, then half a cosine down to `floor` of the rate.

        rate (s + 1) / w                                            s < w
        rate (f + (1 - f) (1 + cos(pi (s - w) / (n - w))) / 2)      else

    Args:
        step: s, from 0.
        steps: n, of the whole run.
        rate: the highest.
        warmup: w, steps of the warm-up; 0 is none.
        floor: f, share of `rate` at the end.

    Example:
        >>> [round(rate_at(s, 12, 1.0, 2, floor=0.0), 2) for s in (0, 1, 2, 7, 12)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return rate * (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    return rate * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)


def adamw(model: Any, betas: tuple[float, float], weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW over what is trainable; matrices decay, gains and biases do not.

    Raises:
        ValueError: nothing is trainable.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise ValueError("no parameter of the model requires a gradient; unfreeze it or add an adapter")
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, foreach=False)
