"""A tokenizer and a random Llama, both made here: no file, no network."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # `import conformance`, whatever the import mode

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXT = (
    "Question: What is the currency of the country whose capital is Paris?\nSearch: capital Paris\nResult: Paris is "
    "the capital of France.\nAnswer: Euro\n\n" * 4
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small are faster on one thread, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Byte-level BPE with a few merges, ChatML control tokens, and pieces that hold newlines."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([TEXT, "\n\n \n\n\t\n" * 9], trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    made.chat_template = CHATML
    return made


def make_model(seed: int = 0, vocab: int = 400, **settings: Any) -> Any:
    """Return a small random Llama (grouped-query attention, tied embeddings) with a peaked distribution."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3}
    heads: dict[str, Any] = {"num_attention_heads": 6, "num_key_value_heads": 2, "tie_word_embeddings": True}
    rest: dict[str, Any] = {"max_position_embeddings": 512, "initializer_range": 0.25}
    config = LlamaConfig(**{"vocab_size": vocab, **sizes, **heads, **rest, **settings})
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def model() -> Any:
    """A small random Llama of its own for each test."""
    return make_model()
