"""Attention over a trunk that all rows of a batch share, and each row's own tokens behind it.

The trunk (the worked examples of a few-shot prompt, a common question) is stored once and read once a step,
however many rows there are; heads that share keys (grouped-query attention) read them once too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from workbench.policy.prefixes import KV

NAME = "workbench_trunk"
LARGEST = 1 << 26
"""Scores a layer may hold at once (256 MB in float32); beyond that the fused kernel runs on copied keys."""

_trunk: ContextVar[KV | None] = ContextVar("trunk", default=None)


def trunk_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend to the trunk (all of it) and to the row's own keys (as the mask says).

        out = softmax([q Kt', q K' + mask] * scaling) [Vt; V]

    Args:
        module: the attention layer; `layer_idx` says which one.
        query: [B, heads, n, dim].
        key, value: [B, key heads, columns, dim], own tokens with the new ones at the end.
        attention_mask: [B, 1, n, columns], 0 or -inf.
        scaling: factor on the scores; 1 / sqrt(dim) if None.

    Returns:
        [B, n, heads, dim], and None (no weights).

    Raises:
        RuntimeError: there is no mask: this is another caller's forward pass, while an engine uses the model.
    """
    if attention_mask is None:
        raise RuntimeError("an engine is sampling with this model in another thread; wait for it, or use a copy")
    trunk = _trunk.get()
    batch, heads, n, dim = query.shape
    groups = key.shape[1]
    scaling = dim**-0.5 if scaling is None else scaling
    mine = query.reshape(batch, groups, -1, dim)  # the heads of a group are further queries on the same keys
    layer = None if trunk is None else (trunk.keys[module.layer_idx], trunk.values[module.layer_idx])
    if mine.shape[:3].numel() * (key.shape[2] + (trunk.tokens if trunk else 0)) > LARGEST:
        out = _fused(mine, key, value, attention_mask.repeat(1, 1, heads // groups, 1), scaling, layer)
    else:
        out = _split(mine, key, value, attention_mask, scaling, layer)
    return out.reshape(batch, heads, n, -1).transpose(1, 2).contiguous(), None


def _split(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float, trunk: Any
) -> torch.Tensor:
    """Attend to trunk and own keys [B, groups, m, .] without copying the trunk to every row.

    The m queries of a key head are those of its heads in turn, so the mask [B, 1, n, columns] holds for each n of them.
    """
    own = (query @ key.transpose(-1, -2)).mul_(scaling)
    own.unflatten(2, (-1, mask.shape[2])).add_(mask[:, :, None])
    if trunk is None:
        return own.softmax(-1, dtype=torch.float32).to(value.dtype) @ value
    keys, values = trunk
    batch, groups, m, dim = query.shape
    flat = query.transpose(0, 1).reshape(groups, batch * m, dim)
    shared = (flat @ keys.transpose(-1, -2) * scaling).view(groups, batch, m, -1).transpose(0, 1)
    weights = torch.cat([shared, own], -1).softmax(-1, dtype=torch.float32).to(value.dtype)
    length = keys.shape[1]
    from_trunk = weights[..., :length].transpose(0, 1).reshape(groups, batch * m, length) @ values
    return from_trunk.view(groups, batch, m, -1).transpose(0, 1) + weights[..., length:] @ value


def _fused(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float, trunk: Any
) -> torch.Tensor:
    """Do the same with the fused kernel, which holds no scores but needs the trunk copied to every row."""
    if trunk is not None:
        keys, values = (t.expand(len(query), *t.shape) for t in trunk)
        key, value = torch.cat([keys, key], 2), torch.cat([values, value], 2)
        mask = torch.nn.functional.pad(mask, (keys.shape[2], 0))
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)


@contextmanager
def attend_with(model: Any, trunk: KV | None) -> Iterator[None]:
    """Let a model of transformers attend in this way; its own way comes back afterwards."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, trunk_attention)
    before = model.config._attn_implementation
    token = _trunk.set(trunk)
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before
        _trunk.reset(token)


def works_on(model: Any) -> bool:
    """Does the model give the same logits with this attention as with its own?

    False for a model that does not look its attention up, or whose attention does more (sinks, caps, biases).
    """
    if not getattr(model, "_supports_attention_backend", False):
        return False
    device = next(model.parameters()).device
    ids = torch.arange(6, device=device)[None] % model.config.get_text_config().vocab_size
    causal = torch.full((6, 6), -torch.inf, device=device, dtype=model.dtype).triu(1)[None, None]
    training = model.training
    model.eval()
    with torch.no_grad():
        expected = model(input_ids=ids, use_cache=False).logits.float()
        with attend_with(model, None):
            got = model(input_ids=ids, attention_mask=causal, use_cache=False).logits.float()
    model.train(training)
    close = 1e-3 if model.dtype == torch.float32 else 0.1
    return bool((got - expected).abs().max() <= close * (1 + expected.abs().max()))
