"""Transforms: trajectories to the `Example`s and `Pair`s that training eats, each with its reason."""

from workbench.transforms.clean import Cleaned, clean, copies, long_horizon
from workbench.transforms.imitate import imitate
from workbench.transforms.tokens import with_tokens

__all__ = ["Cleaned", "clean", "copies", "imitate", "long_horizon", "with_tokens"]
