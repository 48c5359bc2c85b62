"""What the trap tests share: small worlds, a tokenizer with a chat template, a table instead of a model."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

for folder in (Path(__file__).parent, Path(__file__).parents[1] / "train"):
    sys.path.insert(0, str(folder))  # `import trap_worlds`, `import small_worlds`, whatever the import mode

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Equal bits need an equal number of threads; one is also the fastest for models this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tokenizer() -> Any:
    """The closed tokenizer with a chat template: `<|start|>role`, the content, `<|end|>` and a newline."""
    from trap_worlds import CHATML

    from workbench.policy import tiny_tokenizer

    made = tiny_tokenizer.load()
    made.chat_template = CHATML
    return made
