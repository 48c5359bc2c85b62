"""The methods as values: each function returns a `Recipe`; `NAME_released` reproduces released code that differs."""

from workbench.recipes._released import a2tgpo_released, igpo_released, igpo_released_2025
from workbench.recipes.artist import artist, artist_calls
from workbench.recipes.base import Recipe
from workbench.recipes.contributions import hindsight, rudder, shapley, turn_ablation
from workbench.recipes.critic import ppo, ppo_turn
from workbench.recipes.gold import a2tgpo, igpo
from workbench.recipes.judged import mapo, vpr_states, vpr_turns
from workbench.recipes.masked import mini_o3, mini_o3_released
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
from workbench.recipes.relatives import (
    bilevel_gae,
    mt_grpo,
    mt_grpo_released,
    potential_shaping,
    progress_share,
)
from workbench.recipes.siop import siop, siop_released
from workbench.recipes.steps import grpo_vps, spae
from workbench.recipes.turns import gigpo, gigpo_released, matchtir, matchtir_released
from workbench.recipes.ufo import ufo, ufo_released
from workbench.recipes.venus import dr_venus
from workbench.recipes.weighed import aem, pbsd

__all__ = [
    "Recipe",
    "a2tgpo",
    "a2tgpo_released",
    "aem",
    "artist",
    "artist_calls",
    "bilevel_gae",
    "dapo",
    "dr_grpo",
    "dr_grpo_released",
    "dr_venus",
    "gigpo",
    "gigpo_released",
    "grpo",
    "grpo_released",
    "grpo_vps",
    "gspo",
    "hindsight",
    "igpo",
    "igpo_released",
    "igpo_released_2025",
    "mapo",
    "matchtir",
    "matchtir_released",
    "mini_o3",
    "mini_o3_released",
    "mt_grpo",
    "mt_grpo_released",
    "pbsd",
    "potential_shaping",
    "ppo",
    "ppo_turn",
    "progress_share",
    "reinforce",
    "rloo",
    "rloo_released",
    "rudder",
    "shapley",
    "siop",
    "siop_released",
    "spae",
    "turn_ablation",
    "ufo",
    "ufo_released",
    "vpr_states",
    "vpr_turns",
]
