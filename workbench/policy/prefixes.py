"""Keys and values of token prefixes, shared in a tree and bounded in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch


class KV(NamedTuple):
    """Keys and values of consecutive tokens: keys [layers, heads, n, key dim], values [layers, heads, n, value dim]."""

    keys: torch.Tensor
    values: torch.Tensor

    @property
    def tokens(self) -> int:
        """How many tokens."""
        return self.keys.shape[2]

    def part(self, start: int, stop: int) -> KV:
        """Return tokens [start, stop), without copying."""
        if start == 0 and stop == self.tokens:
            return self
        return KV(self.keys[:, :, start:stop], self.values[:, :, start:stop])

    def clone(self) -> KV:
        """Return a copy that owns its memory (a part keeps the whole alive)."""
        return KV(self.keys.clone(), self.values.clone())

    @property
    def bytes(self) -> int:
        """Memory of these tokens."""
        return self.keys.numel() * self.keys.element_size() + self.values.numel() * self.values.element_size()


def join(parts: Sequence[KV]) -> KV:
    """Return consecutive parts as one copy."""
    return KV(torch.cat([p.keys for p in parts], 2), torch.cat([p.values for p in parts], 2))


@dataclass(eq=False)
class _Node:
    tokens: tuple[int, ...]
    kv: KV | None  # None only at the root
    parent: _Node | None = None
    children: dict[int, _Node] = field(default_factory=dict)
    used: int = 0


class PrefixTree:
    """A radix tree from token prefixes to their keys and values; what was used longest ago goes first.

    Args:
        limit: bytes it may hold; 0 keeps nothing.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.bytes = 0
        self._clock = 0
        self._root = _Node((), None)

    def clear(self) -> None:
        """Forget everything."""
        self._root, self.bytes = _Node((), None), 0

    def find(self, tokens: Sequence[int]) -> tuple[int, list[KV]]:
        """Return the length of the longest known prefix and its parts, in order."""
        parts = [node.kv.part(0, shared) for node, shared in self._touched(tokens) if node.kv is not None]
        return sum(part.tokens for part in parts), parts

    def known(self, tokens: Sequence[int]) -> int:
        """Return the length of the longest known prefix."""
        return sum(shared for _, shared in self._touched(tokens))

    def _touched(self, tokens: Sequence[int]) -> Iterator[tuple[_Node, int]]:
        """Walk along `tokens`; these nodes were used last."""
        self._clock += 1
        for node, shared in self._walk(tokens):
            node.used = self._clock
            yield node, shared

    def _walk(self, tokens: Sequence[int]) -> Iterator[tuple[_Node, int]]:
        """Yield the nodes along `tokens` with the number of their tokens that agree."""
        node, at = self._root, 0
        while at < len(tokens) and (child := node.children.get(tokens[at])) is not None:
            shared = common(child.tokens, tokens[at:])
            yield child, shared
            if shared < len(child.tokens):
                return
            node, at = child, at + shared

    def add(self, tokens: Sequence[int], read: Callable[[int], KV]) -> None:
        """Remember a prefix.

        Args:
            tokens: all its tokens.
            read: from the number of tokens known already to the keys and values of the rest (a fresh copy).
        """
        if self.limit <= 0:
            return
        self._clock += 1
        tokens, at, node = tuple(tokens), 0, self._root
        for child, shared in list(self._walk(tokens)):
            node = child if shared == len(child.tokens) else self._split(child, shared)
            node.used = self._clock
            at += shared
        if at < len(tokens):
            kv = read(at)
            assert kv.tokens == len(tokens) - at, (kv.tokens, len(tokens), at)
            node.children[tokens[at]] = _Node(tokens[at:], kv, parent=node, used=self._clock)
            self.bytes += kv.bytes
            self._shrink()

    def _split(self, node: _Node, at: int) -> _Node:
        """Cut a node in two and return the first half."""
        assert node.kv is not None and node.parent is not None
        head = _Node(node.tokens[:at], node.kv.part(0, at).clone(), parent=node.parent, used=node.used)
        node.parent.children[node.tokens[0]] = head
        node.tokens, node.kv, node.parent = node.tokens[at:], node.kv.part(at, node.kv.tokens).clone(), head
        head.children[node.tokens[0]] = node
        return head

    def _shrink(self) -> None:
        """Drop leaves, the one used longest ago first, until the limit holds."""
        if self.bytes <= self.limit:
            return
        for leaf in sorted(self._leaves(), key=lambda n: n.used):
            if self.bytes <= self.limit:
                return
            assert leaf.kv is not None and leaf.parent is not None
            del leaf.parent.children[leaf.tokens[0]]
            self.bytes -= leaf.kv.bytes
        self._shrink()

    def _leaves(self) -> list[_Node]:
        found, open_nodes = [], list(self._root.children.values())
        while open_nodes:
            node = open_nodes.pop()
            open_nodes.extend(node.children.values())
            if not node.children:
                found.append(node)
        return found


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens two sequences share at their start."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:  # the rule: a node is passed through whole
        return n
    return next((i for i in range(n) if a[i] != b[i]), n)


def stems(prompts: Sequence[tuple[int, ...]], known: Sequence[int], least: int) -> list[tuple[int, ...]]:
    """Return the prefixes worth computing once before the prompts that share them.

    Args:
        prompts: different token sequences.
        known: how many tokens of each need no computing.
        least: a prefix is worth it if computing it once spares at least this many tokens.

    Returns:
        prefixes, none of which begins with another; each ends before the last token of its prompts.

    Example:
        >>> stems([(1, 2, 3, 4), (1, 2, 3, 5), (9, 9)], [0, 0, 0], least=2)
        [(1, 2, 3)]
    """
    families: dict[int, list[int]] = {}
    for n, prompt in enumerate(prompts):
        families.setdefault(prompt[0], []).append(n)
    return [stem for family in families.values() for stem in _stems(prompts, known, family, least)]


def _stems(
    prompts: Sequence[tuple[int, ...]], known: Sequence[int], family: list[int], least: int
) -> list[tuple[int, ...]]:
    if len(family) < 2:
        return []
    first = prompts[family[0]]
    shared = min(min(common(first, prompts[n]), len(prompts[n]) - 1) for n in family)
    spared = sum(max(0, shared - known[n]) for n in family) - max(0, shared - min(known[n] for n in family))
    if spared >= least:
        return [first[:shared]]
    branches: dict[int, list[int]] = {}
    for n in family:
        if len(prompts[n]) > shared + 1:
            branches.setdefault(prompts[n][shared], []).append(n)
    if len(branches) == 1 and len(next(iter(branches.values()))) == len(family):
        return []
    return [stem for branch in branches.values() for stem in _stems(prompts, known, branch, least)]
