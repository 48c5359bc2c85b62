"""A hash of a model's weights: cheap enough to be taken after every update."""

from __future__ import annotations

import hashlib

import torch

_PART = 1 << 24  # elements summed at a time: bounds the int64 copies
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def weights_hash(model: torch.nn.Module, samples: int = 64) -> str:
    """Hash names, shapes, types and content of all parameters and persistent buffers.

    Of each tensor's content go in: evenly spaced values, and the sum of all values read as whole numbers. The sum is
    exact, so it does not depend on threads or devices, and any single changed bit changes it.

    Args:
        model: whose weights.
        samples: values taken of each tensor.

    Returns:
        32 hex digits. Equal weights have equal hashes; unequal ones differ except by accident or on purpose (values
        swapped between samples are not seen): an identity for caches, no proof of origin.

    Example:
        >>> layer = torch.nn.Linear(2, 2)
        >>> before = weights_hash(layer)
        >>> with torch.no_grad():
        ...     _ = layer.bias.add_(1)
        >>> before == weights_hash(layer)
        False
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        bits = _bits(tensor)
        step = max(1, -(-len(bits) // samples))
        total = sum(int(part.sum(dtype=torch.int64)) for part in bits.split(_PART))
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {total} {bits[::step].tolist()}\n".encode())
    return digest.hexdigest()[:32]


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return the content as a flat tensor of whole numbers (of an int64 buffer's bits, too)."""
    flat = tensor.detach().contiguous().flatten()
    return flat.view(torch.uint8) if flat.dtype == torch.bool else flat.view(_BITS[flat.element_size()])
