"""A small random Llama and examples for it."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.trajectory import Example

sys.path.insert(0, str(Path(__file__).parent))  # `import small_worlds`, whatever the import mode

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
VOCABULARY = 50


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Equal bits need an equal number of threads; one is also the fastest for models this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make() -> Callable[[], Any]:
    """Return a function that makes the same small Llama each time."""

    def made(**settings: Any) -> Any:
        from transformers import LlamaConfig, LlamaForCausalLM

        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        torch.manual_seed(0)
        config = LlamaConfig(
            **{"vocab_size": VOCABULARY, "num_key_value_heads": 2, "max_position_embeddings": 64, **sizes, **settings}
        )
        return LlamaForCausalLM(config)

    return made


@pytest.fixture
def examples() -> list[Example]:
    """Ragged: 5 to 20 tokens, weights 0, 1 and 0.5; each from a trajectory of its own."""
    rng = random.Random(0)
    made = []
    for number in range(12):
        ids = [rng.randrange(VOCABULARY) for _ in range(rng.randint(5, 20))]
        weights = [0.0, 0.0, 1.0, *(rng.choice((0.0, 1.0, 0.5)) for _ in ids[3:])]
        made.append(Example(tuple(ids), tuple(weights), source=(f"t{number}", 0), reason="a test"))
    return made
