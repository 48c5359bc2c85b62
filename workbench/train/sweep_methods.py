"""What is compared by training: the worlds with their starts, the methods, and which pairs are left out and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench import envs, policy, recipes
from workbench.envs.base import Environment
from workbench.evidence import Evidence
from workbench.policy.base import Policy
from workbench.recipes import Recipe

WORLDS: Mapping[str, Mapping[str, Any]] = {"chain": {"hops": 3}, "facet": {"items": 8, "clues": 2}}
"""The worlds of all methods and their knobs: belief moves at the last search in the one, at every turn in the other."""
STARTS = {"chain": "tiny@chain-misread", "facet": "tiny@facet"}
COMPARED = ("reinforce", "grpo", "rloo", "matchtir", "igpo", "a2tgpo", "gigpo", "igpo_separate")
"""Those of `notebooks/compare/training`; of them maps are kept, too. Each of the others is shown beside GRPO alone."""
METHODS: Mapping[str, Recipe] = {
    "reinforce": recipes.reinforce(),
    "grpo": recipes.grpo(kl=0.0),
    "rloo": recipes.rloo(),
    "matchtir": recipes.matchtir(),
    "igpo": recipes.igpo(),
    "a2tgpo": recipes.a2tgpo(),
    "gigpo": recipes.gigpo(reward=None),
    "igpo_separate": recipes.igpo(gain="logprob", norm="separate"),
    "mini_o3": recipes.mini_o3(),
    "dr_grpo": recipes.dr_grpo(),
    "gspo": recipes.gspo(),
    "dapo": recipes.dapo(),
    "vpr_turns": recipes.vpr_turns(kl=0.0),
    "mt_grpo": recipes.mt_grpo(reward="match_turn_reward"),
    "progress_share": recipes.progress_share(),
    "ppo_turn": recipes.ppo_turn(),
    "ppo": recipes.ppo(),
    "bilevel_gae": recipes.bilevel_gae(gamma_turn=0.95),
    "rudder": recipes.rudder(),
    "aem": recipes.aem(),
    "hindsight": recipes.hindsight(),
    "pbsd": recipes.pbsd(),
    "potential_shaping": recipes.potential_shaping(),
    "dr_venus": recipes.dr_venus(kl=0.0),
    "grpo_vps": recipes.grpo_vps(),
    "turn_ablation": recipes.turn_ablation(),
    "siop": recipes.siop(kl=0.0),
    "spae": recipes.spae(),
    "shapley": recipes.shapley(),
}
"""No KL term in any. GiGPO's turn reward is the outcome at the last turn: these worlds give no other; MT-GRPO's is how
well the turn's calls match the gold trace, as MatchTIR's. IGPO comes twice: the paper's joint pool, and separate pools
with gains of log-probability. Bi-level GAE discounts turns by 0.95, as RAGEN's runs do; with all its numbers 1 it is
PPO over tokens."""


@dataclass(frozen=True)
class Own:
    """A world for methods whose evidence the others do not have.

    Args:
        env, knobs: as `workbench.envs.load` takes them.
        start: the policy all begin with, as `workbench.policy.load` takes it.
        methods: by name, GRPO among them.
    """

    env: str
    knobs: Mapping[str, Any]
    start: str
    methods: Mapping[str, Recipe]


OWN: Mapping[str, Own] = {
    "tictactoe": Own(
        "tictactoe",
        {},
        "tiny@tictactoe",
        {"grpo": recipes.grpo(kl=0.0), "vpr_turns": recipes.vpr_turns(oracle="oracle_value", kl=0.0)},
    ),
    "retry": Own(
        "retry",
        {"world": "chain", "attempts": 4, "knobs": {"hops": 2}, "say": "{question}"},
        "tiny@chain-misread",
        {"grpo": recipes.grpo(kl=0.0), "ufo": recipes.ufo(host="grpo", entropy=0.0)},
    ),
    "dialogue": Own("dialogue", {}, "tiny@dialogue", {"grpo": recipes.grpo(kl=0.0), "mapo": recipes.mapo()}),
    "toolbox": Own(
        "toolbox",
        {"changes": 1},
        "tiny@toolbox",
        {
            "grpo": recipes.grpo(kl=0.0),
            "artist": recipes.artist(kl=0.0),
            "artist_calls": recipes.artist_calls(kl=0.0),
        },
    ),
    "sudoku": Own(
        "sudoku",
        {"empty": 3},
        "tiny@sudoku",
        {"grpo": recipes.grpo(kl=0.0), "vpr_turns": recipes.vpr_turns(oracle="oracle_value", kl=0.0)},
    ),
}
"""UFO is hosted by GRPO: what differs is the reward. Its start misreads words: one that errs only by chance is right at
its likeliest tokens before any training, and four tries then leave nothing to learn."""

LEFT_OUT: Mapping[tuple[str, str], str] = {
    ("chain", "igpo_separate"): "it is there for the question whether it stops early where belief moves at every turn",
}
"""Pairs of a world and a method that are not run unless asked for by name, and why."""


def places() -> tuple[str, ...]:
    """Return the names of all worlds."""
    return (*WORLDS, *OWN)


def recipes_of(world: str) -> Mapping[str, Recipe]:
    """Return the methods of a world, those left out among them."""
    return OWN[world].methods if world in OWN else METHODS


def pairs() -> Iterator[tuple[str, str]]:
    """Yield every (world, method) there is, left out or not: a method in all its worlds, then the next."""
    yield from ((world, name) for name in METHODS for world in WORLDS)
    yield from ((world, name) for world, own in OWN.items() for name in own.methods)


def wanted() -> list[tuple[str, str]]:
    """Return every (world, method) that is not left out."""
    return [pair for pair in pairs() if pair not in LEFT_OUT]


def world(name: str) -> Environment:
    """Return a world of the comparison."""
    return envs.load(OWN[name].env, **OWN[name].knobs) if name in OWN else envs.load(name, **WORLDS[name])


def start_of(name: str, env: Environment) -> Policy:
    """Return the policy that all methods of a world begin with, fresh."""
    return policy.load(OWN[name].start, tools=env.tools) if name in OWN else policy.load(STARTS[name])


def given(name: str, method: str, player: Policy, env: Environment) -> Sequence[Evidence]:
    """Return the providers a method is given where those it would have by default do not fit these small policies.

    SIOP's scorer is the start, kept as it is (by default it is the reference of a KL term, and there is none).
    GRPO-VPS cuts at 0.2 nats: at the default of 0.5 a rollout of these policies is one piece.
    """
    if method == "siop":
        from workbench.evidence.clusters import ReferenceProbe

        return (ReferenceProbe(start_of(name, env)),)
    if method == "grpo_vps":
        from workbench.evidence.segments import SegmentProbe

        return (SegmentProbe(player, cuts=1, least=0.2),)
    return ()
