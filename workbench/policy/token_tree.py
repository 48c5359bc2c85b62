"""Token sequences that share prefixes as one tree, in preorder, cut into forward passes.

    sequences  ->  token tree  ->  preorder, heaviest child first  ->  passes

Two sequences that begin alike share the nodes of their common beginning, whether it is the prompt of a group, the turns
of a branch's parent or a whole trajectory behind which an answer is forced. In preorder the descendants of node i are
the run i .. end[i] - 1, so "j sees i" is the one line i <= j < end[i]; the position of a token is its depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

Ids = Sequence[int]
Range = tuple[int, int]  # [start, stop)

LIMIT = 768
"""Tokens of one masked pass (benchmarks/probe.py, two cores): a tree up to this size is fastest in one pass; above it
512 to 1,024 lie within 4 % of each other. The mask of a pass is limit x (depth + limit)."""


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
    check_spans(sequences, spans)
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


def check_spans(sequences: Sequence[Ids], spans: Sequence[Range]) -> None:
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
    chain = first_chain(tree)
    count = -(-(len(tree) - chain) // limit)
    bounds = [chain + -(-(len(tree) - chain) * i // max(count, 1)) for i in range(count + 1)]
    return [(0, chain), *zip(bounds[:-1], bounds[1:], strict=True)]


def first_chain(tree: Pack) -> int:
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
