"""The policy a KL term holds on to: the adapters switched off, or else a frozen copy."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from workbench.policy.base import Generation, Policy, Scores, Settings
from workbench.policy.hf import HFEngine

KEPT = 1 << 26  # bytes of keys and values a reference keeps between calls; its prompts are new at every step


class BaseEngine:
    """Score with a peft model's adapters switched off: the weights training began with, without a second copy.

    Args:
        model: a peft model; while this engine scores, nobody else may use it.
    """

    def __init__(self, model: Any):
        self._adapted, self._lock = model, threading.Lock()
        with _switched_off(model):
            self._engine = HFEngine(model.get_base_model(), cache_bytes=KEPT)

    @property
    def model(self) -> Any:
        """The model beneath the adapters."""
        return self._engine.model

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """What its scores come from, by the names of the model without adapters: their hash names the reference."""
        whole = self.model.state_dict()
        return {name.replace(".base_layer.", "."): w for name, w in whole.items() if ".lora_" not in name}

    @property
    def version(self) -> int:
        """Always 0: the frozen weights do not change."""
        return 0

    async def generate(
        self, prompts: Sequence[Sequence[int]], settings: Settings, seeds: Sequence[int]
    ) -> list[Generation]:
        """Refuse: a reference only scores."""
        raise NotImplementedError("a reference policy scores tokens, it does not sample them")

    def score(
        self,
        sequences: Sequence[Sequence[int]],
        spans: Sequence[tuple[int, int]],
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        entropy: bool = False,
    ) -> list[Scores]:
        """Score tokens as `HFEngine.score` does, without the adapters."""
        with self._lock, _switched_off(self._adapted):
            return self._engine.score(sequences, spans, temperature=temperature, top_k=top_k, entropy=entropy)

    def load(self, weights: Any) -> int:
        """Refuse: a reference stays what it is."""
        raise NotImplementedError("a reference policy keeps its weights")


@contextmanager
def _switched_off(model: Any) -> Iterator[None]:
    """Switch adapters off, and back on with what was frozen still frozen: peft alone would thaw all of them."""
    trained = [(p, p.requires_grad) for p in model.parameters()]
    try:
        with model.disable_adapter():
            yield
    finally:
        for p, was in trained:
            p.requires_grad_(was)


def reference_of(policy: Policy, model: Any) -> Policy:
    """Return the policy as it is now, to be held on to while `model` learns.

    Args:
        policy: who learns.
        model: its model; where its adapters (peft) change nothing yet no weights are copied, any other model is copied
            once, trained adapters included: switched off they would give another policy.
    """
    if hasattr(model, "disable_adapter") and _change_nothing(model):
        return Policy(f"{policy.name} without adapters", BaseEngine(model), policy.renderer)
    frozen = copy.deepcopy(model).requires_grad_(False).eval()
    return Policy(f"{policy.name} at the start", HFEngine(frozen, cache_bytes=KEPT), policy.renderer)


def _change_nothing(model: Any) -> bool:
    """True for adapters as they begin: B is zero, so B A x is."""
    begun = [p for name, p in model.named_parameters() if "lora_B" in name]
    return bool(begun) and not any(bool(p.any()) for p in begun)


def forget(reference: Policy) -> None:
    """Drop the keys and values a reference kept: with them scores may differ in the last bits, and a resumed run has
    not got them."""
    engine: Any = reference.engine
    engine = engine._engine if isinstance(engine, BaseEngine) else engine
    if hasattr(engine, "tree"):  # not in other processes, whose bits nobody compares
        engine.tree.clear()
