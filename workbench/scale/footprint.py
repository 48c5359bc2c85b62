"""How much memory a learner and an engine need: one formula a function, in bytes on one device.

Counted, not guessed: parameters, gradients and moments; what the backward pass of a layer keeps (held in the tests
against what PyTorch saves for real layers); logits; what FSDP gathers. Guessed, and named so: `SLACK` and
`ENGINE_OVERHEAD`.
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.scale.shapes import (
    Shape,
    embedding_parameters,
    kv_bytes,
    layer_parameters,
    lora_parameters,
    parameters,
)

GIB = 2**30
SLACK = 0.10
"""Assumed, not measured: share on top for fragmentation, communication buffers and gradients of activations."""
ENGINE_OVERHEAD = 2 * GIB
"""Assumed, not measured: of an engine for its context, captured graphs and activations."""
ENGINE_SHARE = 0.9
"""Of a device that a vLLM engine takes by default (`gpu_memory_utilization`), weights and all."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one device, by what they are for.

    Args:
        weights, gradients, optimiser: what a device holds of them.
        reference: a second copy of the weights, for a KL term.
        gathered: whole layers that sharded weights are put together into while they are used.
        activations: what the backward pass needs of the layers.
        logits: of the tokens that are scored, with their gradient.
        cache: keys and values of an engine.
        overhead: assumed, on top.
    """

    weights: float = 0.0
    gradients: float = 0.0
    optimiser: float = 0.0
    reference: float = 0.0
    gathered: float = 0.0
    activations: float = 0.0
    logits: float = 0.0
    cache: float = 0.0
    overhead: float = 0.0

    @property
    def total(self) -> float:
        """All of it, in bytes."""
        return sum(getattr(self, name) for name in self.__dataclass_fields__)

    def __str__(self) -> str:
        parts = ((name, getattr(self, name)) for name in self.__dataclass_fields__)
        said = ", ".join(f"{name} {gib(size)}" for name, size in parts if size)
        return f"{gib(self.total)} GiB ({said})"


def gib(size: float) -> str:
    """Say bytes in GiB, with three digits.

    Example:
        >>> gib(3 * 2**30), gib(2**20), gib(123 * 2**30)
        ('3.00', '0.001', '123')
    """
    value = size / GIB
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.0f}"


# --------------------------------------------------------------------------------------------------- the learner


@dataclass(frozen=True)
class Training:
    """How a learner holds its model.

    Args:
        learners: processes that share the weights (FSDP); 1 holds all of them.
        weight_bytes: of a weight, its gradient and each of Adam's two moments: 4 is float32.
        compute_bytes: of a number in the forward pass: 2 is bfloat16.
        lora_rank: of adapters; 0 trains all weights.
        checkpointing: layers keep their input only, and compute the rest again.
        reference: is a second copy held for a KL term? Fresh adapters need none: they are switched off instead.
        micro_tokens: tokens of one forward and backward pass.
        scored: share of these whose logits are needed: sampled tokens of all tokens.
        masked: does attention get a mask of all pairs (trees of tokens and packed rows do)?
        autocast: are products 16-bit by autocast, instead of by weights that are gathered in 16 bits?
    """

    learners: int = 1
    weight_bytes: int = 4
    compute_bytes: int = 2
    lora_rank: int = 0
    checkpointing: bool = True
    reference: bool = False
    micro_tokens: int = 8192
    scored: float = 1.0
    masked: bool = True
    autocast: bool = False


def trained_parameters(shape: Shape, lora_rank: int) -> int:
    """Return how many parameters get a gradient: all, or those of the adapters."""
    return lora_parameters(shape, lora_rank) if lora_rank else parameters(shape)


def kept_activations(shape: Shape, compute_bytes: int = 2, lora_rank: int = 0, autocast: bool = False) -> int:
    """Return the bytes that one layer keeps of one token for its backward pass.

        2 (4 + 2b) h  [norms: float32 input, normalised, scaled]  +  2b (K + H) d  [keys, values; queries, output]
        +  4 H + 8  [float32 sums of attention and norms]  +  4 b i  [gate, its SiLU, up, their product]

    with attention that keeps no scores (PyTorch's fused ones). With adapters of rank r, which are float32 whatever the
    model is: frozen norms keep no normalised input, each of seven adapters keeps what it made of its input, and in a
    16-bit model a float32 copy of that input, for which the frozen layer keeps none.

        - 2b h  +  7 * 4 r        in 16 bits also  + 4 (5h + H d + i)  -  b (2h + i)

    Where autocast makes the products 16-bit, what runs along the layers stays float32, and is copied for each product:

        + 8 h  +  2 H d

    Example:
        >>> kept_activations(Shape("x", 1, 576, 9, 3, 64, 1536, 1000), 2)
        24620
    """
    s, b = shape, compute_bytes
    norms = 2 * (4 + 2 * b) * s.hidden + 8
    attention = 2 * b * (s.kv_heads + s.heads) * s.head_dim + 4 * s.heads
    kept = norms + attention + 4 * b * s.intermediate
    if lora_rank:
        kept += 7 * 4 * lora_rank - 2 * b * s.hidden
        inputs = 5 * s.hidden + s.heads * s.head_dim + s.intermediate
        kept += 0 if b == 4 else 4 * inputs - b * (2 * s.hidden + s.intermediate)
    return kept + (8 * s.hidden + 2 * s.heads * s.head_dim if autocast else 0)


def activation_bytes(shape: Shape, how: Training) -> float:
    """Return what the layers keep of one micro-batch.

    All layers keep all; or, with checkpointing, each its input (b h a token), and one of them all while it computes
    again.
    """
    kept = kept_activations(shape, how.compute_bytes, how.lora_rank, how.autocast)
    if how.checkpointing:
        kept += shape.layers * (4 if how.autocast else how.compute_bytes) * shape.hidden
    else:
        kept *= shape.layers
    mask = how.compute_bytes * float(how.micro_tokens) ** 2 if how.masked else 0.0
    return float(how.micro_tokens) * kept + mask


def logit_bytes(shape: Shape, scored_tokens: float, compute_bytes: int = 2) -> float:
    """Return the bytes of the logits of some tokens at the worst moment: V n (b + 3 * 4).

    As computed; in float32 over the temperature; as log-probs; and the gradient.
    """
    return float(shape.vocab) * scored_tokens * (compute_bytes + 12)


def gathered_bytes(shape: Shape, how: Training) -> float:
    """Return the bytes of weights that are held a second time while they are used.

    Several learners: FSDP's whole layers, the one in use and the next, embeddings and output layer, and one layer's
    gradient before it is cut up. One learner: nothing, or where it computes in a smaller dtype than it stores, a copy
    of all weights in that (autocast keeps it until the backward pass is done).
    """
    if how.learners == 1:
        return float(how.compute_bytes * parameters(shape)) if how.compute_bytes != how.weight_bytes else 0.0
    layer = layer_parameters(shape)
    gradient = 0 if how.lora_rank else layer
    return float(how.compute_bytes) * (2 * layer + gradient + embedding_parameters(shape))


def learner_memory(shape: Shape, how: Training) -> Memory:
    """Return the memory of one learner."""
    n, trained, b = parameters(shape), trained_parameters(shape, how.lora_rank), how.weight_bytes
    weights = b * (n + (trained if how.lora_rank else 0)) / how.learners
    found = Memory(
        weights=weights,
        gradients=b * trained / how.learners,
        optimiser=2 * b * trained / how.learners,
        reference=b * n / how.learners if how.reference else 0.0,
        gathered=gathered_bytes(shape, how),
        activations=activation_bytes(shape, how),
        logits=logit_bytes(shape, how.scored * how.micro_tokens, how.compute_bytes),
    )
    return Memory(**{**found.__dict__, "overhead": SLACK * found.total})


# ----------------------------------------------------------------------------------------------------- an engine


def engine_weights(shape: Shape, tensor_parallel: int, dtype_bytes: int = 2) -> float:
    """Return the bytes of an engine's weights on each of its devices."""
    return dtype_bytes * parameters(shape) / tensor_parallel


def cache_bytes(shape: Shape, tensor_parallel: int, dtype_bytes: int = 2) -> float:
    """Return the bytes of keys and values of one token on each device of an engine.

    Heads of keys are cut over the devices; where there are fewer heads than devices each holds a whole one.
    """
    return kv_bytes(shape, dtype_bytes) / min(tensor_parallel, shape.kv_heads)


def engine_memory(shape: Shape, tensor_parallel: int, context: int, concurrent: float, dtype_bytes: int = 2) -> Memory:
    """Return the memory of one device of an engine that holds `concurrent` sequences of `context` tokens."""
    return Memory(
        weights=engine_weights(shape, tensor_parallel, dtype_bytes),
        cache=cache_bytes(shape, tensor_parallel, dtype_bytes) * context * concurrent,
        overhead=ENGINE_OVERHEAD,
    )


def sequences_that_fit(
    shape: Shape,
    tensor_parallel: int,
    context: int,
    device_bytes: float,
    dtype_bytes: int = 2,
    share: float = ENGINE_SHARE,
) -> int:
    """Return how many sequences of `context` tokens an engine can hold at once; 0 if the weights leave no room for one.

    (share * memory - weights - overhead) / (bytes of keys and values a token * context), rounded down.
    """
    room = share * device_bytes - engine_weights(shape, tensor_parallel, dtype_bytes) - ENGINE_OVERHEAD
    return max(0, int(room // (cache_bytes(shape, tensor_parallel, dtype_bytes) * context)))
