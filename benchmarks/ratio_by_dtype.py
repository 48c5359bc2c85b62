"""How far the ratio is from 1 before an update, by dtype: what rounding explains, and what a wrong temperature adds.

Run: python benchmarks/ratio_by_dtype.py [--policy smollm2] [--size 4] [--tokens 48] [--dtypes float32 bfloat16]

The policy plays a few episodes in each dtype; the learner then scores the sampled tokens with the very same weights, at
the temperature they were sampled at and at one that is a twentieth lower. The bounds of the alarm
(`workbench.measure.BOUNDS`) lie between the two.
"""

from __future__ import annotations

import argparse

import torch

from workbench import envs, policy
from workbench.batch import Batch
from workbench.measure import BOUNDS
from workbench.policy.base import Settings
from workbench.rollout import play
from workbench.train.parts import cut, score
from workbench.train.seen import Ratio, ratio_of


def ratio_at(model: torch.nn.Module, batch: Batch, temperature: float, bound: float) -> Ratio:
    """Score all sampled tokens of a batch and compare with what the sampler said."""
    parts = cut(batch, torch.ones(batch.count("token"), dtype=torch.bool), 2048, next(model.parameters()).device)
    with torch.no_grad():
        found = [score(model, part, temperature)[0] for part in parts]
    tokens = torch.cat([part.tokens for part in parts])
    return ratio_of(torch.cat(found), batch["logprob_old"].values[tokens], bound)


def main() -> None:
    """Print a row a dtype and temperature."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--policy", default="smollm2")
    arguments.add_argument("--size", type=int, default=4)
    arguments.add_argument("--tokens", type=int, default=48)
    arguments.add_argument("--dtypes", nargs="+", default=["float32", "float16", "bfloat16"])
    options = arguments.parse_args()
    env = envs.load("chain", hops=2)
    print(f"{'dtype':10} {'temperature':>11} {'tokens':>7} {'largest gap':>12} {'mean |log|':>11} {'bounds':>16}")
    for dtype in options.dtypes:
        player = policy.load(options.policy, dtype=dtype)
        settings = Settings(temperature=1.0, max_new_tokens=options.tokens)
        batch = play(player, env, env.tasks("train", 1), size=options.size, settings=settings, seed=0).batch()
        bound = BOUNDS[getattr(torch, dtype)]
        for temperature in (1.0, 0.95):
            found = ratio_at(player.engine.model, batch, temperature, bound.gap)  # type: ignore[attr-defined]
            told = f"{temperature:11} {batch.count('token'):7} {found.gap:12.2g} {found.mean:11.2g}"
            print(f"{dtype:10} {told} {bound.gap:8g} {bound.mean:7g}", flush=True)


if __name__ == "__main__":
    main()
