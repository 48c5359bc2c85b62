"""Log-probs of many token sequences that share prefixes: every shared prefix goes through the model once.

    sequences  ->  token tree (`workbench.policy.token_tree`)  ->  a few forward passes  ->  log-probs

A small tree is one forward under a 4-D mask. Of a large one the first chain (the whole first trajectory, as a rule) is
an ordinary causal forward without a mask; what follows runs in passes of at most `limit` tokens under a mask, against
the cached keys of the path that leads to the pass. Keys that nothing later can see are dropped, so memory grows with
depth + limit, not with the tree.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from workbench.policy.token_tree import LIMIT, Ids, Pack, Range, check_spans, cut, first_chain, pack, tree_mask


def score_pack(model: torch.nn.Module, tree: Pack, *, limit: int = LIMIT) -> list[torch.Tensor]:
    """Score a pack: log p(target | its path), each packed token through the model once.

        log p_q = log_softmax(logits[row_q])[target_q]

    Logits are computed on the needed rows only. The model's state is left as it was; dropout is off meanwhile.

    Args:
        model: a Hugging Face causal LM (also wrapped by peft), full attention, "sdpa" or "eager", rotary or learned
            positions given by `position_ids`.
        tree: made by `pack`.
        limit: most tokens of one masked pass.

    Returns:
        per sequence [its scored tokens] float32 on the CPU.

    Raises:
        ValueError: a model this cannot be right for (says which and what to use), or a token id out of range.
        FloatingPointError: a log-prob is NaN or infinite (names sequence and token).
    """
    base = supported(model, int(tree.depth.max()) + 1 if len(tree) else 0)
    _check_ids(base, tree)
    values = torch.zeros(len(tree.row))
    with torch.inference_mode(), _evaluating(model):
        for asked, found in _run(model, base, tree, limit):
            values[asked] = found
    return check_finite(values.clone().split(tree.counts))


def _run(model: Any, base: Any, tree: Pack, limit: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Run the passes; yield (which of the Q, their log-probs) a pass."""
    from transformers import DynamicCache

    device, dtype = base.get_input_embeddings().weight.device, base.dtype
    end, chain = tree.end.to(device), first_chain(tree)
    cache, kept = DynamicCache(), torch.arange(0, device=device)
    for start, stop in cut(tree, limit):
        asked = ((tree.row >= start) & (tree.row < stop)).nonzero()[:, 0]
        rows, back = torch.unique(tree.row[asked] - start, return_inverse=True)
        kept = _drop_unseen(cache, kept, end, start)
        mask = None if stop <= chain else tree_mask(end, kept, start, stop, dtype)
        logits = _logits(
            model,
            base,
            rows.to(device),
            input_ids=tree.tokens[start:stop].to(device)[None],
            position_ids=tree.depth[start:stop].to(device)[None],
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
        )
        kept = torch.cat([kept, torch.arange(start, stop, device=device)])
        yield asked, torch.log_softmax(logits.float(), -1).cpu()[back, tree.target[asked]]


def _drop_unseen(cache: Any, kept: torch.Tensor, end: torch.Tensor, start: int) -> torch.Tensor:
    """Keep only the keys that node `start` sees: in preorder nothing later can see any of the others."""
    if start >= len(end) or not len(kept):
        return kept
    stay = end[kept] > start
    if not bool(stay.all()):
        index = stay.nonzero()[:, 0]
        for layer in cache.layers:
            layer.keys, layer.values = layer.keys.index_select(2, index), layer.values.index_select(2, index)
    return kept[stay]


def _logits(model: Any, base: Any, rows: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """Return the logits [rows, V] of a batch of one; the model computes no other row if it can be told so."""
    if "logits_to_keep" in inspect.signature(base.forward).parameters:
        return model(**inputs, logits_to_keep=rows).logits[0]
    return model(**inputs).logits[0, rows]


def packed_logprobs(
    model: torch.nn.Module, sequences: Sequence[Ids], spans: Sequence[Range], *, limit: int = LIMIT
) -> list[torch.Tensor]:
    """Score tokens [start, stop) of each sequence given all before each; shared prefixes are computed once.

    Args, Returns, Raises: as `pack` and `score_pack`. Equal to `reforward_logprobs` up to rounding (float32: 1e-4).
    """
    return score_pack(model, pack(sequences, spans), limit=limit)


def branch_logprobs(
    model: torch.nn.Module, trunk: Ids, branches: Sequence[tuple[int, Ids, Range]], *, limit: int = LIMIT
) -> list[torch.Tensor]:
    """Score continuations that leave a trunk at given positions, all in one go.

    Args:
        model: as in `score_pack`.
        trunk: token ids.
        branches: (position, ids, (start, stop)): `ids` stand behind trunk[:position] in place of what follows there;
            tokens [start, stop) of `ids` are scored.

    Returns:
        per branch [stop - start] float32 on the CPU.
    """
    for number, (position, _, (start, _)) in enumerate(branches):
        if not 0 <= position <= len(trunk) or start < 0:
            raise ValueError(f"branch {number}: position {position}, start {start} outside a trunk of {len(trunk)}")
    sequences = [[*trunk[:position], *ids] for position, ids, _ in branches]
    spans = [(position + start, position + stop) for position, _, (start, stop) in branches]
    return packed_logprobs(model, sequences, spans, limit=limit)


def reforward_logprobs(model: torch.nn.Module, sequences: Sequence[Ids], spans: Sequence[Range]) -> list[torch.Tensor]:
    """Score the same by one ordinary causal forward a sequence: what `packed_logprobs` is checked against."""
    check_spans(sequences, spans)
    base = _base(model)
    device = base.get_input_embeddings().weight.device
    scores = []
    with torch.inference_mode(), _evaluating(model):
        for ids, (start, stop) in zip(sequences, spans, strict=True):
            rows = torch.arange(start - 1, stop - 1, device=device)
            inputs = torch.tensor([list(ids[: max(stop - 1, 1)])], device=device)
            logits = _logits(model, base, rows, input_ids=inputs, use_cache=False)
            target = torch.tensor(list(ids[start:stop]), dtype=torch.long)
            scores.append(torch.log_softmax(logits.float(), -1).cpu()[torch.arange(len(target)), target])
    return check_finite([score.clone() for score in scores])


def check_packing(model: torch.nn.Module) -> float:
    """Pack a small tree and compare with plain forwards: a model whose positions or masks work otherwise shows here.

    Returns:
        the largest difference.

    Raises:
        ValueError: it is beyond rounding.
    """
    sequences, spans = [[1, 2, 3, 4, 5, 6], [1, 2, 7, 8, 9]], [(4, 6), (3, 5)]
    plain = torch.cat(reforward_logprobs(model, sequences, spans))
    ours = torch.cat(packed_logprobs(model, sequences, spans, limit=3))  # two passes, keys dropped between them
    gap = float((ours - plain).abs().max())
    close = (1e-3 if _base(model).dtype == torch.float32 else 0.1) * (1 + float(plain.abs().max()))
    if gap > close:
        raise ValueError(
            f"{type(_base(model)).__name__} gives other log-probs in a packed pass (difference {gap:.3g}, expected at "
            f"most {close:.3g}); use reforward_logprobs instead"
        )
    return gap


def check_finite(scores: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the scores as a list, or raise FloatingPointError at the first NaN or infinity."""
    for number, score in enumerate(scores):
        bad = (~torch.isfinite(score)).nonzero()
        if len(bad):
            at = int(bad[0])
            raise FloatingPointError(
                f"sequence {number}: the log-prob of scored token {at} is {float(score[at])}; the model's weights or "
                "logits are not finite (try float32, and check the last update)"
            )
    return list(scores)


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Switch dropout off, and back on exactly where it was on."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _base(model: Any) -> Any:
    """Return the causal LM inside a peft wrapper; the model itself if it is not wrapped."""
    return model.get_base_model() if "peft_config" in vars(model) else model


def supported(model: Any, length: int) -> Any:
    """Refuse models for which a tree mask over a plain cache would give wrong numbers; return the bare causal LM."""
    base = _base(model)
    config = base.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"]) - {"full_attention"}
    window = getattr(config, "sliding_window", None)
    if kinds == {"sliding_attention"} and window and window >= length:
        kinds = set()  # nothing is out of any window
    implementation = config._attn_implementation
    problem = None
    if kinds:
        problem = f"layers of kind {sorted(kinds)} (window {window}, longest path {length})"
    elif implementation not in ("sdpa", "eager"):
        problem = f"attention implementation {implementation!r}, which takes no 4-D mask (load with 'sdpa')"
    elif model is not base and model.active_peft_config.is_prompt_learning:
        problem = "a peft adapter that puts virtual tokens before the input"
    if problem is not None:
        raise ValueError(f"cannot pack for {type(base).__name__} with {problem}; use reforward_logprobs instead")
    return base


def _check_ids(base: Any, tree: Pack) -> None:
    size = base.get_input_embeddings().weight.shape[0]
    ids = torch.cat([tree.tokens, tree.target])
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < size:
        raise ValueError(f"expected token ids in [0, {size}), got {int(ids.min())} to {int(ids.max())}")
