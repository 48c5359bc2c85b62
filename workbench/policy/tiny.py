"""The tiny policies: a Llama of 0.87M parameters made from nothing, one shipped warm start a world.

How the weights were made, what they can do and the command that makes them again: `datasets/tiny/README.md`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from workbench.policy import tiny_tokenizer

FOLDER = Path(__file__).parent / "assets" / "tiny"
WEIGHTS = "model.safetensors"
SHA256 = {
    "chain": "966c95dc91ddb91df437e1d30ec772db8575fed7899416d5c4f02e6e4ace21bf",
    "chain-misread": "31d44056e6543cd01afb29951f8b5bfc0d63574b5ee3969c49fdc388227ada7f",
    "dialogue": "117261c03e4e5f2767938e8a51bf0ff28a77bcf4da1e1036341552cbbd6f381a",
    "facet": "8a8764828ce865fc7c72a8590b89bb384ddf820e7acb6b883fb91b5a424c1434",
    "sudoku": "78c3a05ec1e363da256a6cd0b7b8b89d3ac7b6c7f85a55bf9beab5f4fac0045b",
    "tictactoe": "fbd5178525f5402aaace79dc7bcf8aae675e2f6948368ec84ffb385f38d1ef70",
    "toolbox": "4ec8d4282200a08e1c6fc6ec4454f2f6c3b06c5080a6427d356ab87ad52a8005",
}
"""Of the shipped weights, by world. The scripts of "chain-misread" and of "facet" misread some words, those of
"dialogue", "sudoku" and "toolbox" have a habit of their own; "toolbox" is meant for one change, "sudoku" for three free
cells (see the card)."""


def config() -> Any:
    """Return the architecture of every tiny policy: 4 layers, grouped-query attention, tied embeddings."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=tiny_tokenizer.SIZE,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )


def model(seed: int = 0) -> Any:
    """Return an untrained tiny policy in float32; the seed decides its weights and no other random number moves.

    Example:
        >>> sum(p.numel() for p in model().parameters())
        869504
    """
    from transformers import LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config()).eval()


def load(world: str = "chain") -> tuple[Any, Any]:
    """Return the warm start of a world and its tokenizer.

    Args:
        world: whose warm start; see `worlds()`.

    Returns:
        (model in float32, tokenizer).

    Raises:
        ValueError: no warm start of that world is shipped, or the file is not the one that was.
    """
    from safetensors.torch import load_model

    if world not in worlds():
        raise ValueError(
            f"tiny@{world}: warm starts are shipped for {list(worlds())}; make one with "
            f"`python -m workbench.train.sft --world {world} --out DIR` and load DIR by its path"
        )
    file = FOLDER / world / WEIGHTS
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != SHA256.get(world):
        raise ValueError(f"{file}: expected sha256 {SHA256.get(world)}, got {found}; reinstall the package")
    made = model()
    load_model(made, str(file))
    return made, tiny_tokenizer.load(tiny_tokenizer.file_of(world))


def worlds() -> tuple[str, ...]:
    """Return the worlds a warm start is shipped for."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob(f"*/{WEIGHTS}")))
