"""The methods as values: each function returns a `Recipe`; `NAME_released` reproduces released code that differs."""

from workbench.recipes._released import a2tgpo_released, igpo_released, igpo_released_2025
from workbench.recipes.base import Recipe
from workbench.recipes.critic import ppo, ppo_turn
from workbench.recipes.gold import a2tgpo, igpo
from workbench.recipes.outcome import (
    dapo,
    dr_grpo,
    dr_grpo_released,
    grpo,
    grpo_released,
    gspo,
    reinforce,
    rloo,
    rloo_released,
)
from workbench.recipes.turns import gigpo, gigpo_released, matchtir, matchtir_released

__all__ = [
    "Recipe",
    "a2tgpo",
    "a2tgpo_released",
    "dapo",
    "dr_grpo",
    "dr_grpo_released",
    "gigpo",
    "gigpo_released",
    "grpo",
    "grpo_released",
    "gspo",
    "igpo",
    "igpo_released",
    "igpo_released_2025",
    "matchtir",
    "matchtir_released",
    "ppo",
    "ppo_turn",
    "reinforce",
    "rloo",
    "rloo_released",
]
