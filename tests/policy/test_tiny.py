"""The tiny policies: a frozen tokenizer, shipped weights, play."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import envs, policy
from workbench.envs import chain
from workbench.envs.chain import Chain
from workbench.envs.hop import FIXED_TEXTS
from workbench.policy import Settings, tiny, tiny_tokenizer
from workbench.policy.renderers import Codec
from workbench.rollout import play
from workbench.trajectory import Span

TOKENIZER_SHA256 = "f8695e1a53c47ff4649ed545639c0fcee94bc3c589a71b9fad7571a68bce079e"
SECOND_SHA256 = "4bc41a117f899edff95adcc7eff7d134bba9d670985a33323913735ba74b4c01"
FIRST_WORD = 263  # 3 control tokens, 256 bytes, 4 labels
CODEC = Codec(tiny_tokenizer.load())
WORDS = [CODEC.token_bytes(FIRST_WORD + n).decode().removeprefix(" ") for n in range(52)]
CARD = Path(__file__).parents[2] / "datasets" / "tiny" / "README.md"


# --------------------------------------------------------------------------------------------- the tokenizer


def test_the_tokenizer_is_frozen():
    """Every shipped model depends on these ids. A change is a new version beside this file, never a change of it."""
    assert hashlib.sha256(tiny_tokenizer.FILE.read_bytes()).hexdigest() == TOKENIZER_SHA256


def test_the_file_is_what_the_code_builds(tmp_path):
    """From the words in the order of their ids; a word of a later world goes behind them."""
    tiny_tokenizer.build(WORDS).save(str(tmp_path / "t.json"))
    built = json.loads((tmp_path / "t.json").read_text("utf-8"))  # parsed: a later library may lay the file out anew
    assert built == json.loads(tiny_tokenizer.FILE.read_text("utf-8"))


def test_the_second_version_is_frozen_and_keeps_every_id_of_the_first(tmp_path):
    file = tiny_tokenizer.file_of("dialogue")
    assert hashlib.sha256(file.read_bytes()).hexdigest() == SECOND_SHA256
    tiny_tokenizer.build([*WORDS, *tiny_tokenizer.LATER_WORDS], tiny_tokenizer.LATER_LABELS).save(
        str(tmp_path / "t.json")
    )
    assert json.loads((tmp_path / "t.json").read_text("utf-8")) == json.loads(file.read_text("utf-8"))
    first, second = (tiny_tokenizer.load(f).get_vocab() for f in (tiny_tokenizer.FILE, file))
    assert all(second[token] == n for token, n in first.items() if not token.startswith("<|reserved"))
    assert len(second) == tiny_tokenizer.SIZE


@pytest.mark.parametrize(("world", "argument"), [("dialogue", "text"), ("sudoku", "cell")])
def test_the_second_version_has_every_word_of_its_worlds(world, argument):
    env = envs.load(world)
    shown = policy.renderers.PlainText(tiny_tokenizer.load(tiny_tokenizer.file_of(world)), tools=env.tools)
    for task in env.tasks("train", 20):
        said = env.imperfect_demonstration(task, random.Random(0), 0.5)
        read = [*said.prompt, *(m for t in said.turns[:-1] for m in t.observations)]  # after the last one nobody speaks
        for text in (*(m.text for m in read), *(t.action.calls[0].arguments[argument] for t in said.turns)):
            assert len(shown.encode(f" {text}")) == len(text.split()), text


def test_every_word_of_the_chain_is_a_token():
    assert set(chain.words()) <= set(WORDS)


def test_ids():
    assert CODEC.tokenizer.convert_tokens_to_ids(["<|pad|>", "<|end|>", "<|start|>"]) == [0, 1, 2]
    assert [CODEC.token_bytes(3 + b) for b in range(256)] == [bytes([b]) for b in range(256)]
    assert (WORDS[0], WORDS[10], WORDS[-1]) == ("0", ":", "white")
    assert len(CODEC.tokenizer) == tiny_tokenizer.SIZE == 1024
    assert CODEC.token_bytes(1023) == b"<|reserved-1023|>"
    assert CODEC.newline_ids == (3 + ord("\n"),)


def test_later_words_leave_ids_as_they_are():
    now = tiny_tokenizer.vocabulary(WORDS)
    later = tiny_tokenizer.vocabulary([*WORDS, "filter", "size"])
    assert all(later[token] == number for token, number in now.items() if not token.startswith("<|reserved"))
    assert later["Ġfilter"] == now["<|reserved-315|>"]
    with pytest.raises(ValueError, match="do not fit"):
        tiny_tokenizer.vocabulary([f"w{n}" for n in range(2000)])


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text(alphabet=" \n\t\r09 Search:|<>endboxé\u2028\U0001f600"))
def test_any_text_comes_back(text):
    ids = CODEC.encode(text)
    assert CODEC.decode(ids) == text
    assert "".join(CODEC.pieces(ids)) == text
    assert not set(ids) & CODEC.control_ids, "text never becomes a control token"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 1023), max_size=30))
def test_pieces_of_any_ids_are_their_text(ids):
    assert "".join(CODEC.pieces(ids)) == CODEC.decode(ids)


@pytest.mark.parametrize("text", ["<|end|>", "<|pad|>", "<|reserved-400|>"])
def test_spelled_out_control_tokens_are_bytes(text):
    assert CODEC.encode(text) == [3 + b for b in text.encode()]


def test_a_chain_is_told_in_words():
    """No text of the world falls back to bytes, so a sequence is as short as its words."""
    env = Chain()
    shown = policy.renderers.PlainText(CODEC.tokenizer, tools=env.tools)
    for task in env.tasks("test", 20, seed=1):
        for text in (task.question, *task.data["facts"], *FIXED_TEXTS):
            assert len(shown.encode(f" {text}")) == len(text.split()), text


# ------------------------------------------------------------------------------------------------- the model


@pytest.fixture(scope="module")
def loaded():
    return tiny.load("chain")


def test_size_and_seed():
    one, two, other = tiny.model(0), tiny.model(0), tiny.model(1)
    assert sum(p.numel() for p in one.parameters()) == 869_504
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)


def test_the_shipped_weights(loaded):
    file = tiny.FOLDER / "chain" / tiny.WEIGHTS
    assert file.stat().st_size <= 4_000_000
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    assert tiny.SHA256["chain"] == checksum
    assert checksum in CARD.read_text("utf-8")
    model, tokenizer = loaded
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert not model.training and len(tokenizer) == model.config.vocab_size


def test_other_weights_are_refused(monkeypatch):
    monkeypatch.setitem(tiny.SHA256, "chain", "0" * 64)
    with pytest.raises(ValueError, match="expected sha256 0000"):
        tiny.load("chain")


@pytest.mark.parametrize("name", ["tiny@atlantis", "tiny@../tiny/chain"])
def test_an_unknown_world_names_those_there_are(name):
    with pytest.raises(ValueError, match="'chain'"):
        policy.load(name)


@pytest.fixture(scope="module")
def played():
    env = Chain()
    player = policy.load("tiny", shots=env.shots, tools=env.tools)
    return play(player, env, env.tasks("test", 16, seed=0), size=8, settings=Settings(max_new_tokens=24), seed=0)


def test_it_plays(played):
    """128 seeded episodes at temperature 1. The card has the share and its interval; here a wide margin around them."""
    right = sum(t.outcome == 1.0 for t in played)
    assert 6 <= right <= 50
    turns = [turn for t in played for turn in t.turns]
    assert sum(turn.rewards["malformed"] for turn in turns) < 0.05 * len(turns)
    assert any(0 < sum(t.outcome for t in group) < len(group) for group in played.groups)


def test_it_is_shown_no_worked_examples(played):
    assert played[0].sequences[0].spans[0].pieces[:2] == ("Question", ":")


def test_no_byte_is_needed_to_read_a_rollout(played):
    context: list[Span] = [s for t in played for q in t.sequences for s in q.spans if s.origin != "sampled"]
    newline, colon = 3 + ord("\n"), 3 + ord(":")
    assert all(i >= 259 or i in (newline, colon) for span in context for i in span.ids)


def test_at_is_the_same_policy(loaded):
    same = policy.load("tiny@chain")
    assert same.name == "tiny@chain"
    for a, b in zip(same.engine.model.parameters(), loaded[0].parameters(), strict=True):
        assert torch.equal(a, b)
