"""The shape of a decoder, and what follows from it alone: parameters, bytes of keys and values, operations a token.

Shapes of Llama's kind: grouped queries, a gated MLP of three matrices, RMS norms, with or without tied embeddings.
Everything here is arithmetic on the shape; `tests/scale` holds it against models that were built.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder.

    Args:
        name: what it is called.
        layers: of attention and MLP.
        hidden: width of the residual stream.
        heads, kv_heads: of queries; of keys and values.
        head_dim: width of a head.
        intermediate: width of the MLP.
        vocab: rows of the embedding.
        tied: is the output layer the embedding?
        qkv_bias: do queries, keys and values have a bias (Qwen2)?
        qk_norm: are queries and keys normalised (Qwen3)?
        positions: longest sequence; None where it is not known.
        source: whose shape it is.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    positions: int | None = None
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab"):
            if getattr(self, name) < 1:
                raise ValueError(f"Shape.{name} of {self.name}: expected at least 1, got {getattr(self, name)!r}")


PRESETS: Mapping[str, Shape] = {
    "tiny": Shape("tiny", 4, 128, 4, 2, 32, 352, 1024, True, positions=1024, source="this package"),
    "smollm2": Shape("smollm2", 30, 576, 9, 3, 64, 1536, 49152, True, positions=8192, source="SmolLM2-135M"),
    "0.5b": Shape("0.5b", 24, 896, 14, 2, 64, 4864, 151936, True, True, positions=32768, source="Qwen2.5-0.5B"),
    "1.5b": Shape("1.5b", 28, 1536, 12, 2, 128, 8960, 151936, True, True, positions=32768, source="Qwen2.5-1.5B"),
    "7b": Shape("7b", 28, 3584, 28, 4, 128, 18944, 152064, False, True, positions=32768, source="Qwen2.5-7B"),
    "32b": Shape("32b", 64, 5120, 40, 8, 128, 27648, 152064, False, True, positions=32768, source="Qwen2.5-32B"),
    "70b": Shape("70b", 80, 8192, 64, 8, 128, 28672, 128256, False, positions=131072, source="Llama-3.1-70B"),
}
"""Sizes by name, in the public shapes of well-known open models."""


def preset(name: str) -> Shape:
    """Return a shape by its name, whatever its case.

    Raises:
        ValueError: no such name; lists them.

    Example:
        >>> preset("7B").layers
        28
    """
    found = PRESETS.get(name.lower())
    if found is None:
        raise ValueError(f"no shape is called {name!r}; known: {', '.join(PRESETS)}, or a folder with a config.json")
    return found


def of_config(config: Any, name: str = "") -> Shape:
    """Return the shape that a configuration of transformers describes.

    Args:
        config: a `PretrainedConfig`, or what its `config.json` holds.
        name: what to call it; "" takes the kind of model.

    Raises:
        ValueError: a size is missing, or the model is of another kind (experts: their parameters are not counted here).
    """
    c = config if isinstance(config, Mapping) else config.to_dict()
    kind = str(c.get("model_type", "")) or "model"
    if any(c.get(key) for key in ("num_experts", "num_local_experts", "n_routed_experts")):
        raise ValueError(f"{name or kind}: a mixture of experts; shapes here are of dense decoders only")
    asked = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")
    if missing := [key for key in asked if not c.get(key)]:
        raise ValueError(
            f"{name or kind}: its configuration lacks {', '.join(missing)}; is it a decoder of Llama's kind?"
        )
    heads = c["num_attention_heads"]
    return Shape(
        name or kind,
        c["num_hidden_layers"],
        c["hidden_size"],
        heads,
        c.get("num_key_value_heads") or heads,
        c.get("head_dim") or c["hidden_size"] // heads,
        c["intermediate_size"],
        c["vocab_size"],
        bool(c.get("tie_word_embeddings", False)),
        kind == "qwen2" or bool(c.get("attention_bias")),
        kind == "qwen3",
        c.get("max_position_embeddings"),
    )


def of_folder(folder: str | Path) -> Shape:
    """Return the shape of the model in a folder, from its `config.json` alone.

    Raises:
        FileNotFoundError: there is no `config.json`.
        ValueError: it is no JSON, or of another kind of model.
    """
    path = Path(folder)
    return replace(of_config(json.loads((path / "config.json").read_text("utf-8")), path.name), source=str(path.name))


# ------------------------------------------------------------------------------------------------- parameters


def layer_parameters(shape: Shape) -> int:
    """Return the parameters of one layer.

        h (H + 2K) d  +  (H + 2K) d [bias]  +  H d h  +  3 h i  +  2 h  +  2 d [norms of queries and keys]

    Example:
        >>> layer_parameters(preset("7b"))
        233057792
    """
    s, qkv = shape, (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    attention = s.hidden * qkv + (qkv if s.qkv_bias else 0) + s.heads * s.head_dim * s.hidden
    return attention + 3 * s.hidden * s.intermediate + 2 * s.hidden + (2 * s.head_dim if s.qk_norm else 0)


def embedding_parameters(shape: Shape) -> int:
    """Return the parameters of embedding and output layer together: V h, twice where they are not tied."""
    return shape.vocab * shape.hidden * (1 if shape.tied else 2)


def parameters(shape: Shape) -> int:
    """Return all parameters: L layers, embeddings, and the last norm.

    Example:
        >>> parameters(preset("7b")), parameters(preset("tiny"))
        (7615616512, 869504)
    """
    return shape.layers * layer_parameters(shape) + embedding_parameters(shape) + shape.hidden


def lora_parameters(shape: Shape, rank: int) -> int:
    """Return the parameters of adapters on every linear layer but the output: r (in + out) each, L layers.

    Example:
        >>> lora_parameters(preset("smollm2"), 8)
        2442240
    """
    s, qd, kd = shape, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    ends = (s.hidden + qd) + 2 * (s.hidden + kd) + (qd + s.hidden) + 3 * (s.hidden + s.intermediate)
    return s.layers * rank * ends


# ----------------------------------------------------------------------------------------- operations, and bytes


def body_flops(shape: Shape) -> float:
    """Return the operations (multiplications and additions) of the matrices of all layers for one token, forward.

    2 for each weight of a matrix; norms and biases are left out.

    Example:
        >>> round(body_flops(preset("7b")) / 1e9, 2)
        13.05
    """
    s, qkv = shape, (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    return 2.0 * s.layers * (s.hidden * qkv + s.heads * s.head_dim * s.hidden + 3 * s.hidden * s.intermediate)


def head_flops(shape: Shape) -> float:
    """Return the operations of the output layer for one token whose logits are asked for: 2 V h."""
    return 2.0 * shape.vocab * shape.hidden


def attention_flops(shape: Shape, context: float) -> float:
    """Return the operations of attention for one token that sees `context` tokens: 4 L H d c.

    2 H d a token seen for the scores, and as many for the values. Over a whole sequence the mean context is half
    its length.
    """
    return 4.0 * shape.layers * shape.heads * shape.head_dim * context


def kv_bytes(shape: Shape, dtype_bytes: int = 2) -> int:
    """Return the bytes of keys and values of one token: 2 L K d b.

    Example:
        >>> kv_bytes(preset("7b")), kv_bytes(preset("70b"))
        (57344, 327680)
    """
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * dtype_bytes
