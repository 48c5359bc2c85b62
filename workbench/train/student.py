"""Who learns, where that is more than a language model: a value head on it, or lower precision inside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

Trunk = Literal["shared", "detached"]


class ValueHead(torch.nn.Module):
    """Guess the return from the last hidden state: V = w . h + b, all 0 at first; float32 whatever the model is.

    Args:
        size: of the hidden state.
        trunk: "shared": the value loss also teaches the layers below; "detached": it reads them as they are.
    """

    def __init__(self, size: int, trunk: Trunk = "shared"):
        super().__init__()
        self.linear = torch.nn.Linear(size, 1, dtype=torch.float32)
        self.trunk = trunk
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return V [n] of hidden states [n, size]."""
        h = hidden.detach() if self.trunk == "detached" else hidden
        return self.linear(h.float())[:, 0]


class Student(torch.nn.Module):
    """A model with a value head, or one that computes in lower precision; its parameters are those of both.

    Args:
        model: of transformers or peft.
        head: None for none.
        autocast: dtype of matrix products; None for that of the weights.
    """

    def __init__(self, model: Any, head: ValueHead | None = None, autocast: torch.dtype | None = None):
        super().__init__()
        self.model, self.head, self.autocast = model, head, autocast


def head_for(model: Any, trunk: Trunk = "shared") -> ValueHead:
    """Return a fresh value head for a model, where the model is."""
    layer = model.get_output_embeddings()
    return ValueHead(layer.weight.shape[-1], trunk).to(layer.weight.device)


def taken_apart(student: Any) -> tuple[Any, ValueHead | None, torch.dtype | None]:
    """Return (model, head or None, dtype of autocast or None) of a student or of a bare model."""
    if isinstance(student, Student):
        return student.model, student.head, student.autocast
    return student, None, None


def computing(model: Any, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Compute matrix products in `dtype` where the model is; None changes nothing."""
    return nullcontext() if dtype is None else torch.autocast(next(model.parameters()).device.type, dtype)


@contextmanager
def hidden_states(model: Any) -> Iterator[list[Tensor]]:
    """Collect what the output layer is given [B, L, size], for the places whose logits are asked for, with gradient."""
    seen: list[Tensor] = []
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def recomputing(model: Any) -> Iterator[None]:
    """Let layers forget what they computed and compute it again in the backward pass, where this is switched on.

    Layers do so only while they are "training", and a learner's model never is (no dropout): the flag is set on the
    layers themselves, not on what is in them.
    """
    layers = [one for one in model.modules() if getattr(one, "gradient_checkpointing", False) and not one.training]
    for layer in layers if torch.is_grad_enabled() else ():
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
