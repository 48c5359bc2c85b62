"""The command `python -m workbench.train.policy_gradient`."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from workbench import envs, policy, recipes
from workbench.compare import wilson
from workbench.envs.base import Environment
from workbench.policy.base import Policy, Settings
from workbench.recipes import Recipe
from workbench.rollout import play
from workbench.train.lora import Lora
from workbench.train.plan import Plan
from workbench.train.policy_gradient import train

FROM_PLAN = ("steps", "groups", "size", "rate", "epochs", "micro_tokens", "clip", "temperature", "max_new_tokens")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a policy in a world by a recipe."""
    asked = _parser().parse_args(arguments)
    torch.set_num_threads(asked.threads)
    env = envs.load(asked.env, **({} if asked.hops is None else {"hops": asked.hops}))
    shots = () if asked.no_shots else getattr(env, "shots", ())
    player = policy.load(asked.policy, shots=shots, tools=env.tools, device=asked.device, dtype=asked.dtype)
    recipe = recipe_of(asked.recipe, asked.param)
    lora = Lora(asked.lora_rank) if asked.lora_rank else None
    plan = Plan(**{name: getattr(asked, name) for name in (*FROM_PLAN, "seed", "refills", "save_every")}, lora=lora)
    out = Path(asked.out)
    out.mkdir(parents=True, exist_ok=True)
    told = {"arguments": vars(asked), "recipe": repr(recipe), "env": repr(env), "plan": dataclasses.asdict(plan)}
    (out / "command.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    if asked.evaluate:
        _say("before", success(player, env, plan, asked.evaluate))
    train(player, env, recipe, plan, out)
    tokenizer: Any = getattr(getattr(player.renderer, "codec", None), "tokenizer", None)
    if tokenizer is not None:
        tokenizer.save_pretrained(str(out))
    if asked.evaluate:
        _say("after", success(player, env, plan, asked.evaluate))
    return 0


def recipe_of(name: str, settings: Sequence[str] = ()) -> Recipe:
    """Make a recipe of `workbench.recipes` from its name and `key=value` settings (values as JSON).

    Raises:
        ValueError: there is no such recipe or parameter.
    """
    make = getattr(recipes, name, None)
    if name not in recipes.__all__ or not inspect.isfunction(make):
        known = [one for one in recipes.__all__ if inspect.isfunction(getattr(recipes, one))]
        raise ValueError(f"no recipe {name!r}; there are {known}")
    given: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or key not in inspect.signature(make).parameters:
            raise ValueError(
                f"{setting!r}: expected key=value with a key of {list(inspect.signature(make).parameters)}"
            )
        try:
            given[key] = json.loads(text)
        except ValueError:
            given[key] = text
    return make(**given)


def success(player: Policy, env: Environment, plan: Plan, count: int) -> tuple[int, int]:
    """Play `count` tasks of the split "test" once each, as training samples; return (solved, outcome known)."""
    settings = Settings(temperature=plan.temperature, max_new_tokens=plan.max_new_tokens)
    played = play(
        player, env, env.tasks("test", count, plan.seed), size=1, settings=settings, seed=plan.seed, gather_s=None
    )
    known = [t.outcome for t in played if t.outcome is not None]
    return sum(outcome == 1.0 for outcome in known), len(known)


def _say(when: str, found: tuple[int, int]) -> None:
    share, low, high = wilson(*found)
    text = f"{when}: {found[0]} of {found[1]} test tasks solved, {share:.1%} (95 %: {low:.1%} to {high:.1%})"
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m workbench.train.policy_gradient", description=main.__doc__)
    parser.add_argument("--recipe", default="grpo", help="a function of workbench.recipes (grpo)")
    parser.add_argument("--param", action="append", default=[], metavar="KEY=VALUE", help="a parameter of the recipe")
    parser.add_argument("--policy", default="tiny", help="tiny, smollm2, or a Hugging Face id or folder (tiny)")
    parser.add_argument("--no-shots", action="store_true", help="no worked examples in the prompt (a tiny policy)")
    parser.add_argument("--env", default="chain", help="the world (chain)")
    parser.add_argument("--hops", type=int, help="searches a question takes (the world's default)")
    parser.add_argument("--out", required=True, help="folder for the metrics and the weights")
    for name in FROM_PLAN:
        default = getattr(Plan, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"({default})")
    parser.add_argument("--refills", type=int, default=Plan.refills, help="of dropped groups (%(default)s)")
    parser.add_argument(
        "--save-every", type=int, default=Plan.save_every, help="steps between checkpoints (at the end)"
    )
    parser.add_argument("--lora-rank", type=int, default=0, help="train adapters of this rank instead of all weights")
    parser.add_argument("--evaluate", type=int, default=0, help="test tasks played before and after (none)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, cuda ...")
    parser.add_argument("--dtype", default="float32", help="of the weights")
    parser.add_argument("--threads", type=int, default=1, help="of torch; part of what decides the last bits")
    return parser
