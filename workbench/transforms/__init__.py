"""Transforms: trajectories to the `Example`s and `Pair`s that training eats, each with its reason."""

from workbench.transforms.imitate import imitate
from workbench.transforms.tokens import with_tokens

__all__ = ["imitate", "with_tokens"]
