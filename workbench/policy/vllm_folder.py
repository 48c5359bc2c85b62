"""What a Hugging Face folder says of its model before it is loaded: sizes, names of weights, memory a token takes."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Folder:
    """A model on disk.

    Args:
        path: the folder.
        vocabulary: token ids are below it.
        positions: most tokens of a sequence; None where the config names no limit.
        tied: is the output layer the embeddings?
        kv_values: numbers kept for a token, keys and values of all layers; None where the config does not tell.
        weights: shape by name.
    """

    path: Path
    vocabulary: int
    positions: int | None
    tied: bool
    kv_values: int | None
    weights: dict[str, tuple[int, ...]]


def read_folder(path: str | Path) -> Folder:
    """Read config and names of weights of a Hugging Face folder.

    Raises:
        FileNotFoundError: it has no config or no safetensors.
    """
    folder = Path(path).expanduser()
    file = folder / "config.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder}: expected a Hugging Face folder with config.json and safetensors; a model is written as one by "
            "`model.save_pretrained(folder)`, and `policy.load(name, engine='vllm')` finds the folder of a known name"
        )
    config = json.loads(file.read_text(encoding="utf-8"))
    text = {**config, **config.get("text_config", {})}
    return Folder(
        folder,
        int(text["vocab_size"]),
        text.get("max_position_embeddings"),
        bool(text.get("tie_word_embeddings", False)),
        _kv_values(text),
        weights_in(folder),
    )


def folder_of(name: str) -> Path:
    """Return the Hugging Face folder of a policy by name: what an engine in another process is started from.

    Args:
        name: "smollm2", "tiny", "tiny@<world>" (both are put into the user's cache once), a folder, or a Hugging Face
            id (downloaded).
    """
    from workbench.policy import smollm2

    kind, *world = name.split("@")
    if kind == "tiny":
        return _tiny_folder(*world or ["chain"])
    if name == "smollm2":
        return smollm2.fetch()
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name))
    except (OSError, ValueError) as error:
        raise OSError(
            f"no model under {name!r}: expected 'smollm2', 'tiny', 'tiny@<world>', a folder, or a Hugging Face id that "
            f"can be reached from here ({error})"
        ) from error


def _tiny_folder(world: str) -> Path:
    """Write a shipped warm start as a folder, unless it is there."""
    from workbench.policy import smollm2, tiny

    model, tokenizer = tiny.load(world)  # also checks the name and the weights
    target = smollm2.cache_root() / "tiny" / f"{world}-{tiny.SHA256[world][:16]}"
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            made = Path(work) / "made"
            model.save_pretrained(made)
            tokenizer.save_pretrained(made)
            with suppress(OSError):  # another process was faster
                made.rename(target)
    return target


def weights_in(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a folder's weights by name, without reading them."""
    from safetensors import safe_open

    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder}: expected weights as *.safetensors, found none")
    shapes = {}
    for file in files:
        with safe_open(str(file), "pt") as opened:
            names = opened.keys()
            shapes.update({name: tuple(opened.get_slice(name).get_shape()) for name in names})
    return shapes


def ends_in(folder: Path) -> tuple[int, ...]:
    """Return the tokens a model ends a turn with, as its generation config lists them: none, one or several."""
    file = folder / "generation_config.json"
    found = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
    return () if found is None else tuple(found) if isinstance(found, list) else (found,)


def kv_bytes(folder: Folder, dtype: torch.dtype, tokens: int) -> int | None:
    """Return the memory of keys and values of `tokens` tokens: 2 x layers x key heads x head size x bytes a number.

    None where the config does not tell.
    """
    return None if folder.kv_values is None else folder.kv_values * dtype.itemsize * tokens


def check_memory(folder: Folder, dtype: torch.dtype, length: int, memory: int | None, block: int) -> None:
    """Refuse a memory for keys and values in which not even one sequence of `length` tokens fits.

    Args:
        folder: the model.
        dtype: of keys and values.
        length: most tokens of a sequence.
        memory: bytes; None is not checked.
        block: tokens of a block.
    """
    one = kv_bytes(folder, dtype, block)
    if memory is None or one is None:
        return
    # vLLM keeps one block for itself
    needed, fits = (-(-length // block) + 1) * one, max(memory // one - 1, 0) * block
    if memory < needed:
        raise ValueError(
            f"memory_gb={memory / 1e9:g} holds keys and values of {fits:,} tokens ({one // block:,} bytes each in "
            f"{str(dtype).removeprefix('torch.')}), but one sequence of max_length={length:,} needs "
            f"{needed / 1e9:.3g} GB; pass memory_gb={needed / 1e9 * 1.01:.3g} or more, or max_length={fits:,} or less"
        )


def _kv_values(text: dict[str, Any]) -> int | None:
    try:
        heads = text["num_attention_heads"]
        size = text.get("head_dim") or text["hidden_size"] // heads
        return 2 * text["num_hidden_layers"] * (text.get("num_key_value_heads") or heads) * size
    except KeyError:
        return None
