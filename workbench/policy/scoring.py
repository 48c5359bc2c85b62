"""Log-probs of tokens that are there already: as an engine reports them, and as a learner differentiates them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from workbench.policy.base import Scores
from workbench.policy.sampling import log_distribution


def scores_of(logits: torch.Tensor, ids: torch.Tensor, temperature: float, top_k: int, entropy: bool) -> Scores:
    """Return the scores of tokens [n] from the logits before each [n, V]."""
    logp = log_distribution(logits, temperature)
    top = logp.topk(top_k, dim=-1) if top_k else None
    return Scores(
        logprobs=logp.gather(1, ids[:, None])[:, 0],
        entropy=-(logp.exp() * logp).sum(-1) if entropy else None,
        top_ids=None if top is None else top.indices,
        top_logprobs=None if top is None else top.values,
    )


def token_logprobs(
    model: Any,
    ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> torch.Tensor:
    """Return the log-prob of every token given those before it; gradients flow.

        out[b, t] = log_softmax(logits[b, t] / temperature)[ids[b, t + 1]]

    Args:
        model: causal model of transformers.
        ids: [B, T] token ids, padded on the right.
        attention_mask: [B, T], 0 at padding; None if there is none.
        temperature, top_p: those it was sampled with. A token outside the nucleus of these weights gets -inf.

    Returns:
        [B, T - 1] float32; entry t belongs to token t + 1. What stands at padding means nothing.
    """
    logits = model(input_ids=ids, attention_mask=attention_mask, use_cache=False).logits[:, :-1]
    return log_distribution(logits, temperature, top_p).gather(-1, ids[:, 1:, None])[..., 0]


def check_spans(sequences: Sequence[Sequence[int]], spans: Sequence[tuple[int, int]]) -> None:
    """Refuse spans that are not [start, stop) of their sequence, with a token before the first."""
    if len(sequences) != len(spans):
        raise ValueError(f"expected one span a sequence: {len(sequences)} sequences, {len(spans)} spans")
    for n, (ids, (start, stop)) in enumerate(zip(sequences, spans, strict=True)):
        if not 1 <= start <= stop <= len(ids):
            raise ValueError(f"sequence {n}: expected 1 <= start <= stop <= {len(ids)}, got ({start}, {stop})")


ROUNDING = 1e-4
"""A log-probability may exceed 0, and an entropy fall below it, by so much."""


def check_scores(
    name: str, scores: Any, spans: Sequence[tuple[int, int]], *, entropy: bool = False, numbers: bool = True
) -> list[Scores]:
    """Return what an engine answered as a list, or refuse what cannot be the scores of these spans.

    Args:
        name: of the policy, for the message.
        scores: what `Engine.score` returned.
        spans: [start, stop) that it was asked for.
        entropy: are entropies read too, where there are some?
        numbers: also look at the numbers; a caller that knows whose turn each is for says more about a wrong one.

    Raises:
        ValueError: not one `Scores` a span, or not one finite log-probability (entropy) a token of it; names the first.
    """
    if not isinstance(scores, (list, tuple)) or len(scores) != len(spans):
        got = f"{len(scores)}" if isinstance(scores, (list, tuple)) else type(scores).__name__
        raise ValueError(f"policy {name!r}: asked for {len(spans)} scores, one a sequence, got {got}")
    for n, (one, (start, stop)) in enumerate(zip(scores, spans, strict=True)):
        read = {"log-probabilities": getattr(one, "logprobs", None)}
        if entropy and getattr(one, "entropy", None) is not None:
            read["entropies"] = one.entropy
        for what, given in read.items():
            values = given if isinstance(given, torch.Tensor) else None
            if values is None or values.shape != (stop - start,) or not values.is_floating_point():
                got = type(given).__name__ if values is None else f"shape {tuple(values.shape)}, {values.dtype}"
                raise ValueError(f"policy {name!r}, sequence {n}: expected {stop - start} {what}, got {got}")
            bad = ~torch.isfinite(values) | ((values if what == "log-probabilities" else -values) > ROUNDING)
            if numbers and bool(bad.any()):
                at = int(torch.nonzero(bad)[0])
                raise ValueError(
                    f"policy {name!r}, sequence {n}: {float(values[at])} for token {at} is none of {what}; "
                    "check its weights"
                )
    return list(scores)
