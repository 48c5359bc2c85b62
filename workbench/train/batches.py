"""Examples to padded batches. Which examples an update sees is a function of (seed, step), not of what went before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workbench.seeds import seed_for
from workbench.trajectory import Example, RecordError


class Padded(NamedTuple):
    """Examples side by side.

    Args:
        ids: int64 [B, L]; what stands behind an example is 0.
        weights: float32 [B, L]; loss weight of each token, 0 behind an example.
    """

    ids: Tensor
    weights: Tensor


def pad(examples: Sequence[Example], device: torch.device | str = "cpu") -> Padded:
    """Pad on the right. A causal model never looks to the right, so no token sees padding and no mask is needed.

    Example:
        >>> pad([Example((5, 6), (0.0, 1.0)), Example((7,), (0.0,))]).ids.tolist()
        [[5, 6], [7, 0]]
    """
    width = max(len(example.ids) for example in examples)
    ids = torch.zeros(len(examples), width, dtype=torch.int64)
    weights = torch.zeros(len(examples), width, dtype=torch.float32)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids, dtype=torch.int64)
        weights[row, : len(example.ids)] = torch.tensor(example.weights, dtype=torch.float32)
    return Padded(ids.to(device), weights.to(device))


def chosen(count: int, size: int, step: int, seed: int) -> list[int]:
    """Return which examples update `step` sees: every epoch is a permutation, cut into `size`, the last part too short
    for a batch goes on in the next epoch.

    Args:
        count: examples there are.
        size: examples of an update.
        step: from 0.
        seed: of the permutations; epoch `e` is shuffled by `seed_for("examples", seed, e)`.

    Example:
        >>> sorted(chosen(4, 2, 0, seed=1) + chosen(4, 2, 1, seed=1))
        [0, 1, 2, 3]
    """
    places = range(step * size, (step + 1) * size)
    epochs = {epoch: _permutation(count, epoch, seed) for epoch in {place // count for place in places}}
    return [epochs[place // count][place % count] for place in places]


def _permutation(count: int, epoch: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed_for("examples", seed, epoch))
    return torch.randperm(count, generator=generator).tolist()


def learned(examples: Sequence[Example]) -> int:
    """Return how many tokens have a weight: what the loss of these examples is divided by."""
    return sum(weight != 0 for example in examples for weight in example.weights)


def check(examples: Sequence[Example], config: Any) -> None:
    """Refuse what cannot be trained on.

    Args:
        examples: at least one.
        config: of the model: `vocab_size`, and `max_position_embeddings` where it has such a limit.

    Raises:
        ValueError: there are no examples.
        RecordError: names the example: too long, an id outside the vocabulary, no token with a weight, or a weight on
            the first token, which nothing comes before.
    """
    if not examples:
        raise ValueError("expected at least one example to train on, got none")
    longest = getattr(config, "max_position_embeddings", None)
    for number, example in enumerate(examples):
        problem = _problem(example, config.vocab_size, longest)
        if problem:
            raise RecordError(f"example {number}, {named(example)} {problem[1]}", field=problem[0])


def _problem(example: Example, vocabulary: int, longest: int | None) -> tuple[str, str] | None:
    if not any(example.weights):
        return "weights", "no token has a weight; leave the example out"
    if example.weights[0]:
        return "weights", "the first token has a weight, but nothing before it predicts it; begin with context"
    if longest and len(example.ids) > longest:
        return "ids", f"{len(example.ids)} tokens, the model has {longest} positions; cut the trajectory"
    wrong = next((i for i in example.ids if not 0 <= i < vocabulary), None)
    if wrong is not None:
        return "ids", f"token id {wrong}, the model knows {vocabulary}; was it made with another tokenizer?"
    return None


def named(example: Example) -> str:
    """Return how an error names an example: by the trajectory and turn it was made from."""
    if example.source is None:
        return f"an example without a source that begins with the tokens {list(example.ids[:8])}"
    return f"made from trajectory {example.source[0]!r}, turn {example.source[1]},"
