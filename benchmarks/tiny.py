"""How the shipped tiny policies play: `python benchmarks/tiny.py [tiny@chain or a folder] [--tasks 64] [--size 8]`;
in another world `python benchmarks/tiny.py tiny@facet --world facet --knobs items=8 clues=2`.

Prints success on test tasks with its 95 % Wilson interval, the share of groups whose outcomes are all equal (GRPO
learns nothing from those), malformed turns, and the seconds it took.
"""

from __future__ import annotations

import argparse
import time
from math import sqrt

import torch

from workbench import envs, policy
from workbench.policy.base import Settings
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.trajectory import Turn

Z_95 = 1.959964  # two-sided 95 % of the normal distribution


def wilson(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a share.

        (p + z^2 / 2n  +-  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    p, n = successes / trials, trials
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    middle, wide = p + z * z / (2 * n), 1 + z * z / n
    return max(0.0, (middle - half) / wide), min(1.0, (middle + half) / wide)


def on_path(turn: Turn) -> bool:
    """True if no other call would have been better; in the toolbox, if it was the next of the gold trace."""
    return bool(turn.rewards.get("oracle_on_path", turn.rewards.get("on_trace")) == 1.0)


def shares(played: Rollouts) -> dict[str, tuple[int, int]]:
    """Return (count, of how many) of right episodes, equal groups, truncated episodes and malformed turns."""
    turns = [turn for t in played for turn in t.turns]
    return {
        "right": (sum(t.outcome == 1.0 for t in played), len(played)),
        "groups all equal": (sum(len({t.outcome for t in g}) == 1 for g in played.groups), len(played.groups)),
        "groups all wrong": (sum(not any(t.outcome for t in g) for g in played.groups), len(played.groups)),
        "truncated": (sum(t.truncated for t in played), len(played)),
        "malformed turns": (sum(turn.rewards["malformed"] == 1.0 for turn in turns), len(turns)),
        "turns on a shortest path": (sum(on_path(turn) for turn in turns), len(turns)),
    }


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("policy", nargs="?", default="tiny@chain")
    parser.add_argument("--world", default="chain")
    parser.add_argument("--hops", type=int, help="of a chain (3)")
    parser.add_argument("--knobs", nargs="*", default=[], metavar="KEY=NUMBER", help="others of the world")
    parser.add_argument("--tasks", type=int, default=64)
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    knobs = {key: int(value) for key, value in (one.split("=") for one in asked.knobs)}
    world = envs.load(asked.world, **knobs, **({} if asked.hops is None else {"hops": asked.hops}))
    player = policy.load(asked.policy, tools=world.tools)
    settings = Settings(temperature=asked.temperature, max_new_tokens=24)
    play(player, world, world.tasks("train", 1), size=2, settings=settings)  # imports and first calls
    tasks = world.tasks("test", asked.tasks, asked.seed)
    began, worked = time.perf_counter(), time.process_time()
    played = play(player, world, tasks, size=asked.size, settings=settings, seed=asked.seed)
    wall, cpu = time.perf_counter() - began, time.process_time() - worked
    print(f"{asked.policy} on {world}, temperature {asked.temperature:g}, test tasks")
    for name, (count, total) in shares(played).items():
        low, high = wilson(count, total)
        print(f"  {name:<26}{count:>6} of {total:<6}{count / total:>7.1%}   [{low:.1%}, {high:.1%}]")
    turns = sum(len(t.turns) for t in played)
    print(f"  {len(played)} episodes, {turns} turns: {wall:.1f} s wall, {cpu:.1f} s of {asked.threads} thread(s)")


if __name__ == "__main__":
    main()
