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


def adamw(
    model: Any,
    betas: tuple[float, float],
    weight_decay: float,
    head: torch.nn.Module | None = None,
    head_rate: float = 1.0,
) -> torch.optim.AdamW:
    """Return AdamW over what is trainable; matrices decay, gains and biases do not; fused on a GPU.

    Args:
        model: its parameters that require a gradient.
        betas, weight_decay: of AdamW.
        head: trained wholly beside the model.
        head_rate: the head's learning rate as a multiple of the model's (`scale` of its groups, see `set_rate`).

    Raises:
        ValueError: nothing is trainable.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise ValueError("no parameter of the model requires a gradient; unfreeze it or add an adapter")
    groups = []
    parts = [(trainable, 1.0)] + ([] if head is None else [(list(head.parameters()), head_rate)])
    for parameters, scale in parts:
        wide, flat = [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]
        for some, decay in ((wide, weight_decay), (flat, 0.0)):
            groups.append({"params": some, "weight_decay": decay, "scale": scale})
    how = {"fused": True} if all(p.device.type == "cuda" for p in trainable) else {"foreach": False}
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, **how)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group: `rate` times the group's scale."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)
