"""The prefix tree against a plain list of what was added."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.policy.prefixes import KV, PrefixTree, join, stems

words = st.lists(st.integers(0, 2), min_size=1, max_size=12)


def kv_of(tokens: list[int]) -> KV:
    """Make keys that tell which tokens, in which places after which, they belong to."""
    codes = [float(hash(tuple(tokens[: n + 1])) % 2**20) for n in range(len(tokens))]
    keys = torch.tensor(codes)[None, None, :, None].repeat(2, 1, 1, 3)
    return KV(keys, keys + 1)


@given(st.lists(words, max_size=12), st.lists(words, max_size=5))
def test_finds_the_longest_prefix(added: list[list[int]], asked: list[list[int]]) -> None:
    tree = PrefixTree(1 << 20)
    for tokens in added:
        tree.add(tokens, lambda start, t=tokens: kv_of(t).part(start, len(t)))
    for tokens in [*asked, *added]:
        expected = max((n for n in range(len(tokens) + 1) if any(a[:n] == tokens[:n] for a in added)), default=0)
        length, parts = tree.find(tokens)
        assert length == expected == tree.known(tokens)
        if length:
            torch.testing.assert_close(join(parts).keys, kv_of(tokens).keys[:, :, :length])
            torch.testing.assert_close(join(parts).values, kv_of(tokens).values[:, :, :length])
    known = {tuple(a[:n]) for a in added for n in range(1, len(a) + 1)}
    assert tree.bytes == len(known) * 2 * 2 * 3 * 4


@given(st.lists(words, max_size=20), st.integers(0, 400))
def test_keeps_its_limit(added: list[list[int]], limit: int) -> None:
    tree = PrefixTree(limit)
    for tokens in added:
        tree.add(tokens, lambda start, t=tokens: kv_of(t).part(start, len(t)))
        assert tree.bytes <= limit
        length, parts = tree.find(tokens)
        assert sum(p.tokens for p in parts) == length


def test_the_least_recently_used_goes_first() -> None:
    one = 2 * 2 * 3 * 4
    tree = PrefixTree(2 * one)
    for token in (1, 2):
        tree.add([token], lambda start, t=token: kv_of([t]))
    assert tree.known([1]) == 1  # asking counts as use
    tree.add([3], lambda start: kv_of([3]))
    assert [tree.find([t])[0] for t in (1, 2, 3)] == [1, 0, 1]


def test_stems_by_hand() -> None:
    a, b = tuple(range(10)), tuple(range(20, 30))
    prompts = [(*a, 1, 1), (*a, 2, 2), (*b, 3), (*b, 4), (50, 51)]
    assert stems(prompts, [0] * 5, least=5) == [a, b]
    assert stems(prompts, [10, 10, 0, 0, 0], least=5) == [b]  # nothing to spare where it is known
    assert stems(prompts, [0] * 5, least=11) == []
    assert stems([(1, 2, 3)] * 3, [0] * 3, least=2) == [(1, 2)]  # the last token is left to give logits
    deep = [(*a, *b, 1), (*a, *b, 2), (*a, 9)]
    assert stems(deep, [10] * 3, least=5) == [(*a, *b)]  # below what is known
