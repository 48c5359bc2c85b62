"""Rows of keys and values: copies, gaps, who stays in a batch after its end, and what is remembered of a call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from conftest import make_model
from test_engines import STOPS, all_nodes, plain_of, prompts_for

from workbench.policy import Generation, Settings, hf
from workbench.policy.hf import HFEngine
from workbench.policy.kv import Rows, Shape
from workbench.policy.prefixes import KV
from workbench.policy.renderers.codec import Codec

SHAPE = Shape(2, 3, 4, 5, torch.float32, torch.device("cpu"))


def some_rows(lengths: list[int], room: int = 0, spare: int = 0) -> tuple[Rows, list[KV]]:
    """Return rows of random numbers that end in the same column, and what each of them holds."""
    made = torch.Generator().manual_seed(0)
    own = [KV(*(torch.randn(2, 3, n, dim, generator=made) for dim in (4, 5))) for n in lengths]
    return Rows.gather([[kv] for kv in own], SHAPE, room, spare=spare), own


@pytest.mark.parametrize(("spare", "room"), [(2, 6), (0, 6), (2, 0)])
def test_copies_are_those_of_take(spare: int, room: int) -> None:
    rows, own = some_rows([3, 7, 5], room, spare)
    first = rows.buffer.keys.data_ptr()
    found = rows.with_copies([2, 0], 6)
    assert (found.buffer.keys.data_ptr() == first) == (spare == 2 and room == 6)  # what was made for it stays in place
    assert found.buffer.keys.shape[3] >= found.filled + 6
    for row, source in enumerate([0, 1, 2, 2, 0]):
        for got, expected in zip(found.read(row, 0, own[source].tokens), own[source], strict=True):
            assert torch.equal(got, expected)


def test_a_row_is_read_without_its_gaps() -> None:
    rows, own = some_rows([3, 7], room=4)
    rows.extend(torch.tensor([[True, False, False, True], [False, True, True, True]]))
    new = torch.arange(4.0)
    for buffer in rows.buffer:
        buffer[:, :, :, 7:11] = new[:, None]
    rows.filled = 11
    assert rows.read(0, 0, 5).keys[0, 0, 3:, 0].tolist() == [0.0, 3.0]
    assert torch.equal(rows.read(0, 2, 5).keys[:, :, :1], own[0].keys[:, :, 2:])
    assert rows.read(1, 7, 10).keys[0, 0, :, 0].tolist() == [1.0, 2.0, 3.0]
    assert torch.equal(rows.read(1, 0, 10).values[:, :, :7], own[1].values)


def test_what_was_read_is_a_copy() -> None:
    rows, _ = some_rows([4])
    kept = rows.read(0, 0, 4)
    before = kept.keys.clone()
    rows.buffer.keys.zero_()
    assert torch.equal(kept.keys, before)


def sampled(engine: HFEngine, prompts: list[list[int]], seeds: Any = None, **changes: Any) -> list[Generation]:
    settings = Settings(**{"temperature": 0.8, "max_new_tokens": 12, "stop_ids": STOPS, **changes})
    return asyncio.run(engine.generate(prompts, settings, range(len(prompts)) if seeds is None else seeds))


@pytest.mark.parametrize("crowded", [0.0, 0.5, 1.0])
def test_rows_that_stay_after_their_end_change_nothing(crowded: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 0 nobody leaves, at 1 everybody at once; the second turn goes on from what the first one left."""
    prompts = [p for p in prompts_for(400) for _ in range(3)]
    made = []
    for share in (1.0, crowded):
        monkeypatch.setattr(hf, "CROWDED", share)
        engine = HFEngine(make_model())
        first = sampled(engine, prompts)
        grown = [[*p, *g.token_ids, 5, 6, 7] for p, g in zip(prompts, first, strict=True)]
        made.append([*first, *sampled(engine, grown)])
    assert len({len(g.token_ids) for g in made[0]}) > 3  # they end at different times
    for a, b in zip(*made, strict=True):
        assert a.token_ids == b.token_ids and a.stop_reason == b.stop_reason
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


def test_equal_prompts_among_others_keep_their_places() -> None:
    a, b, c = prompts_for(400)[3], prompts_for(400)[6], prompts_for(400)[7]
    mixed, seeds = [a, b, a, c, b, a], [4, 9, 1, 4, 2, 7]
    together = sampled(HFEngine(make_model()), mixed, seeds)
    for prompt, seed, found in zip(mixed, seeds, together, strict=True):
        (alone,) = sampled(HFEngine(make_model()), [prompt], [seed])
        assert found.token_ids == alone.token_ids


def test_prompt_and_sample_are_remembered_as_one() -> None:
    """A prompt that nobody shares is stored once, with its sample; scoring afterwards is that of a plain pass."""
    model = make_model()
    engine = HFEngine(model)
    prompts = [[n, *range(30 + n, 60)] for n in range(4)]
    made = sampled(engine, prompts)
    assert len(all_nodes(engine.tree)) == 4
    for prompt, one in zip(prompts, made, strict=True):
        whole = [*prompt, *one.token_ids]
        assert engine.tree.known(whole) == len(whole) - 1
        logp = plain_of(model)(whole).log_softmax(-1)[len(prompt) - 1 : -1]
        expected = logp[torch.arange(len(one.token_ids)), torch.tensor(one.token_ids)]
        (found,) = engine.score([whole], [(len(prompt), len(whole))])
        torch.testing.assert_close(found.logprobs, expected, atol=1e-4, rtol=0)


class Counting:
    """A tokenizer of letters that counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __call__(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool) -> dict[str, list[int]]:
        self.asked.append((text, split_special_tokens))
        return {"input_ids": [ord(c) + (0 if split_special_tokens else 1000) for c in text]}

    def decode(self, ids: list[int], **_: Any) -> str:
        self.asked.append(tuple(ids))
        return "".join(chr(i) for i in ids)


def test_a_codec_answers_the_same_again_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Counting()
    codec = Codec(tokenizer)
    first = codec.encode("ab")
    first.append(7)  # whoever asks may change what it got
    assert codec.encode("ab") == [97, 98] and codec.encode("ab", special=True) == [1097, 1098]
    assert tokenizer.asked == [("ab", True), ("ab", False)]
    assert codec.decode([97, 98]) == codec.decode((97, 98)) == "ab"
    assert codec.pieces([97, 98]) == codec.pieces((97, 98)) == ("a", "b")
    count = len(tokenizer.asked)
    codec.pieces([97, 98])
    assert len(tokenizer.asked) == count
    monkeypatch.setattr("workbench.policy.renderers.codec.REMEMBERED", 3)
    for text in "cdefgh":
        assert codec.encode(text) == [ord(text)]
    assert len(codec._seen) <= 3
