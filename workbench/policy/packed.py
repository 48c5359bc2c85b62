"""Log-probs of many token sequences that share prefixes: every shared prefix goes through the model once.

    sequences  ->  token tree  ->  preorder, heaviest child first  ->  a few forward passes  ->  log-probs

Two sequences that begin alike share the nodes of their common beginning, whether it is the prompt of a group, the turns
of a branch's parent or a whole trajectory behind which an answer is forced. In preorder the descendants of node i are
the run (i, end[i]), so "j sees i" is the one line i <= j < end[i]; the position of a token is its depth.

Passes: a small tree is one forward under a 4-D mask. Of a large one the first chain (the whole first trajectory, as a
rule) is an ordinary causal forward without a mask; what follows runs in passes of at most `limit` tokens under a mask,
against the cached keys of the path that leads to the pass. Keys that nothing later can see are dropped, so memory grows
with depth + limit, not with the tree.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

Ids = Sequence[int]
Range = tuple[int, int]  # [start, stop)

# Tokens of one masked pass. benchmarks/probe.py on two cores: 128 to 1,024 lie within a few per cent of each other and
# of one single pass; the mask of a pass is limit x (depth + limit).
LIMIT = 512


@dataclass(frozen=True)
class Pack:
    """A forest of tokens in preorder, and what is asked of it.

    Args:
        tokens: [S] token ids.
        depth: [S] position of each token in its sequences.
        end: [S] one past the last descendant; the nodes that token i is seen by are i .. end[i] - 1.
        row: [Q] per scored token, the packed index of the token before it (whose logits predict it).
        target: [Q] the scored token ids.
        counts: per sequence, how many of the Q are its own, in order.
    """

    tokens: torch.Tensor
    depth: torch.Tensor
    end: torch.Tensor
    row: torch.Tensor
    target: torch.Tensor
    counts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.tokens)


def pack(sequences: Sequence[Ids], spans: Sequence[Range]) -> Pack:
    """Merge sequences into one token tree in which every shared prefix stands once.

    Args:
        sequences: token ids, any lengths.
        spans: per sequence the [start, stop) of the tokens to score, 1 <= start <= stop <= length. The last scored
            token and what follows it need no forward pass and are left out.

    Returns:
        the tree in preorder, a node's heaviest child first (so that the first chain is long and needs no mask).

    Raises:
        ValueError: a span does not fit its sequence (names the sequence), or the two lists differ in length.

    Example:
        >>> tree = pack([[5, 6, 7], [5, 6, 8, 9]], [(2, 3), (3, 4)])  # 5 6 once, then 8; 7 and 9 are only predicted
        >>> tree.tokens.tolist(), tree.depth.tolist(), tree.end.tolist(), tree.row.tolist()
        ([5, 6, 8], [0, 1, 2], [3, 3, 3], [1, 2])
    """
    _check_spans(sequences, spans)
    children: list[dict[int, int]] = [{}]  # node 0 is the empty sequence
    parent, rows = [-1], []
    for ids, (start, stop) in zip(sequences, spans, strict=True):
        node, path = 0, []
        for position in range(stop - 1 if stop > start else 0):
            token = int(ids[position])
            child = children[node].get(token)
            if child is None:
                child = children[node][token] = len(children)
                children.append({})
                parent.append(node)
            node = child
            if position >= start - 1:
                path.append(node)
        rows.append(path)
    order, end = _preorder(children, parent)
    place = {node: i for i, node in enumerate(order)}
    depth = _depths(order, parent, place)
    token_of = {child: token for sub in children for token, child in sub.items()}
    targets = [int(t) for ids, (start, stop) in zip(sequences, spans, strict=True) for t in ids[start:stop]]
    return Pack(
        tokens=torch.tensor([token_of[node] for node in order], dtype=torch.long),
        depth=torch.tensor(depth, dtype=torch.long),
        end=torch.tensor(end, dtype=torch.long),
        row=torch.tensor([place[node] for path in rows for node in path], dtype=torch.long),
        target=torch.tensor(targets, dtype=torch.long),
        counts=tuple(len(path) for path in rows),
    )


def _check_spans(sequences: Sequence[Ids], spans: Sequence[Range]) -> None:
    if len(sequences) != len(spans):
        raise ValueError(f"expected one span a sequence, got {len(sequences)} sequences and {len(spans)} spans")
    for number, (ids, (start, stop)) in enumerate(zip(sequences, spans, strict=True)):
        if not 1 <= start <= stop <= len(ids):
            raise ValueError(
                f"sequence {number}: expected 1 <= start <= stop <= {len(ids)} (its length), got ({start}, {stop}); "
                "the first token of a sequence has nothing before it and no log-prob"
            )


def _preorder(children: list[dict[int, int]], parent: list[int]) -> tuple[list[int], list[int]]:
    """Return the nodes (without the root) in preorder, heaviest child first, and the end of each one's descendants."""
    size = [1] * len(children)
    for node in range(len(children) - 1, 0, -1):  # a child is always made after its parent
        size[parent[node]] += size[node]
    order: list[int] = []
    stack = [0]
    while stack:
        node = stack.pop()
        order.append(node)
        stack.extend(sorted(children[node].values(), key=size.__getitem__))
    order = order[1:]
    return order, [i + size[node] for i, node in enumerate(order)]


def _depths(order: list[int], parent: list[int], place: dict[int, int]) -> list[int]:
    depth: list[int] = []
    for node in order:
        depth.append(depth[place[parent[node]]] + 1 if parent[node] else 0)
    return depth


def cut(tree: Pack, limit: int = LIMIT) -> list[Range]:
    """Cut the preorder into passes.

    One pass if the tree has at most `limit` tokens; else the first chain whole (it needs no mask) and the rest evenly
    into passes of at most `limit` tokens.

    Example:
        >>> tree = pack([[1, 2, 3, 4, 0], [1, 7, 8, 0], [1, 9, 0]], [(4, 5), (3, 4), (2, 3)])
        >>> cut(tree, limit=2), cut(tree, limit=7)
        ([(0, 4), (4, 6), (6, 7)], [(0, 7)])
    """
    if limit < 1:
        raise ValueError(f"expected at least 1 token a pass, got limit={limit}")
    if len(tree) <= limit:
        return [(0, len(tree))] if len(tree) else []
    chain = _chain(tree)
    count = -(-(len(tree) - chain) // limit)
    bounds = [chain + -(-(len(tree) - chain) * i // max(count, 1)) for i in range(count + 1)]
    return [(0, chain), *zip(bounds[:-1], bounds[1:], strict=True)]


def _chain(tree: Pack) -> int:
    """Length of the first chain: so many tokens form an ordinary causal sequence."""
    off = (tree.depth != torch.arange(len(tree))).nonzero()
    return int(off[0]) if len(off) else len(tree)


def tree_mask(end: torch.Tensor, kept: torch.Tensor, start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
    """Build the additive mask of one pass: token j sees token i if and only if i <= j < end[i].

    Args:
        end: [S] of the pack.
        kept: [P] packed indices whose keys are cached.
        start, stop: the pass; its own keys follow the cached ones.
        dtype: of the model.

    Returns:
        [1, 1, stop - start, P + stop - start], 0 where seen, the most negative number elsewhere.
    """
    query = torch.arange(start, stop, device=end.device)[:, None]
    key = torch.cat([kept, query[:, 0]])
    seen = (key <= query) & (query < end[key])
    mask = torch.zeros(seen.shape, dtype=dtype, device=end.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[None, None]


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
    base = _supported(model, int(tree.depth.max()) + 1 if len(tree) else 0)
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
    end, chain = tree.end.to(device), _chain(tree)
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
    _check_spans(sequences, spans)
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


def _supported(model: Any, length: int) -> Any:
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
