"""`workbench rollout`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from workbench.cli.crediting import make_recipe, with_evidence
from workbench.cli.looking import describe
from workbench.cli.saying import Problem, print_summary


def arguments(one: argparse.ArgumentParser) -> None:
    """Add the arguments of `rollout`."""
    one.add_argument("--policy", default="smollm2", help="smollm2, tiny, scripted, or a Hugging Face id or path")
    one.add_argument("--env", help="the world: gazetteer (the default), or another (tiny plays its own)")
    one.add_argument("--split", default="train", choices=("train", "test"))
    one.add_argument("--hops", type=int, help="searches a question takes (the world's default)")
    one.add_argument("--groups", type=int, default=8, help="tasks")
    one.add_argument("--size", type=int, default=4, help="rollouts of each task")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--temperature", type=float, default=0.7)
    one.add_argument("--max-new-tokens", type=int, default=32)
    one.add_argument("--max-turns", type=int)
    one.add_argument("--evidence", default="", metavar="RECIPES", help="also fill what these need, e.g. igpo,matchtir")
    one.add_argument("--out", required=True, help="folder to write")


def world_of(policy: str) -> str:
    """Return the world a policy plays where none is named: a tiny one the world it was started in.

    Example:
        >>> world_of("tiny@tictactoe"), world_of("tiny@chain-misread"), world_of("tiny"), world_of("smollm2")
        ('tictactoe', 'chain', 'chain', 'gazetteer')
    """
    kind, _, start = policy.partition("@")
    return (start.partition("-")[0] or "chain") if kind == "tiny" else "gazetteer"


def rollout(options: argparse.Namespace) -> int:
    """Let a policy play tasks of a world; write the rollouts to a folder."""
    import workbench.store
    from workbench import envs, policy
    from workbench.policy.base import Settings
    from workbench.rollout import play

    if Path(options.out).exists():
        raise Problem(f"{options.out} is there already; name another folder with --out")
    recipes = [make_recipe(name, ()) for name in filter(None, options.evidence.split(","))]
    knobs = {} if options.hops is None else {"hops": options.hops}
    world = envs.load(options.env or world_of(options.policy), **knobs)
    player = policy.load(options.policy, shots=getattr(world, "shots", ()), tools=world.tools)
    played = play(
        player,
        world,
        world.tasks(options.split, options.groups, options.seed),
        size=options.size,
        settings=Settings(temperature=options.temperature, max_new_tokens=options.max_new_tokens),
        seed=options.seed,
        max_turns=options.max_turns,
        progress=lambda done, total, text: print(f"  {done}/{total} episodes over, {text}", file=sys.stderr),
    )
    workbench.store.write(options.out, played)  # first: evidence that cannot be had must not cost the rollouts
    if recipes:
        played = with_evidence(played, recipes, player)
        workbench.store.write_column(options.out, played)
    print_summary({**describe(played), "written to": options.out})
    return 0
