"""Low-rank adapters: train a few matrices beside frozen weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Lora:
    """What adapters to add: W x becomes W x + (alpha / rank) B A x, with W frozen, A random, B zero at first.

    Args:
        rank: rows of A.
        alpha: see above.
        targets: names of the linear layers; "all-linear" is every one but the output layer.
        dropout: on x before A; in supervised training only, a policy-gradient plan refuses it.

    Source: Hu et al. 2021, arXiv:2106.09685, Eq. 3.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: str | Sequence[str] = "all-linear"
    dropout: float = 0.0


def add_lora(model: Any, lora: Lora, seed: int = 0) -> Any:
    """Return the model with adapters in it, all else frozen. The model itself is changed (peft puts its layers in).

    Args:
        model: of transformers.
        lora: which adapters.
        seed: of the random matrices A.
    """
    from peft import LoraConfig, get_peft_model

    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        target_modules=targets,
        lora_dropout=lora.dropout,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def check_lora(model: Any, lora: Lora) -> None:
    """Refuse adapters other than those a model has already: they would be ignored, and nobody would know.

    Dropout that the adapters were made with is no difference: a policy that is trained by its own rollouts has none.

    Raises:
        ValueError: rank or alpha differ; says which.
    """
    config = model.peft_config[model.active_adapter]
    there = {"rank": config.r, "alpha": config.lora_alpha}
    other = {name: have for name, have in there.items() if have != getattr(lora, name)}
    if other:
        asked = {name: getattr(lora, name) for name in other}
        raise ValueError(
            f"Plan.lora: the policy has adapters already, with {other}; asked were {asked}. Train those (lora=None or "
            "the same settings), or merge them first (model.merge_and_unload())"
        )
