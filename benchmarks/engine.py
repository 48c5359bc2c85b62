"""What shared prefixes save: SmolLM2 plays 8 gazetteer questions x 4 rollouts x 3 turns, with and without reuse.

Run: python benchmarks/engine.py [--repeats 2] [--dtype float32] [--questions 8] [--size 4]

Both ways run in this process, in turn, on the same tasks and seeds, so that the ratio holds on a busy machine too. A
row says how long the engine took, how many token places its forward passes computed, and whether the sampled
tokens were the same.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

from workbench import policy
from workbench.envs.gazetteer import Gazetteer
from workbench.policy import Policy, Settings
from workbench.policy.hf import HFEngine
from workbench.rollout import play


class Meter:
    """Count seconds and token places of an engine's forward passes."""

    def __init__(self, model: Any):
        self.places = 0
        self.passes = 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model: Any, args: Any, kwargs: Any) -> None:
        self.passes += 1
        self.places += kwargs["input_ids"].numel()


def measure(base: Policy, env: Gazetteer, tasks: Any, size: int, reuse: bool, meter: Meter) -> dict[str, Any]:
    """Play all rollouts once with a fresh engine; return what it cost and what was sampled."""
    engine = HFEngine(base.engine.model, reuse=reuse)  # type: ignore[attr-defined]
    player = Policy(base.name, engine, base.renderer)
    settings = Settings(temperature=0.7, max_new_tokens=24)
    places, passes, start = meter.places, meter.passes, time.perf_counter()
    played = play(player, env, tasks, size=size, settings=settings, seed=0, max_turns=3, progress=lambda *_: None)
    seconds = time.perf_counter() - start
    spans = [s for t in played for q in t.sequences for s in q.spans if s.origin == "sampled"]
    return {
        "seconds": seconds,
        "places": meter.places - places,
        "passes": meter.passes - passes,
        "rollouts": len(played),
        "turns": sum(len(t) for t in played),
        "success": sum(t.outcome or 0 for t in played) / len(played),
        "ids": [s.ids for s in spans],
        "logprobs": [p for s in spans for p in s.logprobs or ()],
        "kept": engine.tree.bytes,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--size", type=int, default=4)
    options = parser.parse_args()
    env = Gazetteer()
    tasks = env.tasks("test", options.questions, 0)
    base = policy.load("smollm2", shots=env.shots, tools=env.tools, dtype=options.dtype)
    meter = Meter(base.engine.model)  # type: ignore[attr-defined]
    measure(base, env, tasks[:1], 1, True, meter)  # reads the weights into memory
    rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for _ in range(options.repeats):
        for reuse in (True, False):
            rows[reuse].append(measure(base, env, tasks, options.size, reuse, meter))
    report(rows, options.dtype)


def report(rows: dict[bool, list[dict[str, Any]]], dtype: str) -> None:
    """Print one line a way, and the ratios of their fastest runs."""
    best = {reuse: min(found, key=lambda r: r["seconds"]) for reuse, found in rows.items()}
    first = best[True]
    print(
        f"SmolLM2 {dtype}, {torch.get_num_threads()} threads: {first['rollouts']} rollouts, {first['turns']} turns, "
        f"{sum(map(len, first['ids']))} tokens sampled, success {first['success']:.0%}"
    )
    print(f"{'':>14} {'seconds (each run)':>22} {'token places':>13} {'passes':>7} {'kept':>8}")
    for reuse, found in rows.items():
        row, name = best[reuse], "reuse" if reuse else "without reuse"
        runs = ", ".join(f"{r['seconds']:.1f}" for r in found)
        print(f"{name:>14} {runs:>22} {row['places']:>13,} {row['passes']:>7} {row['kept'] / 1e6:>5.0f} MB")
    a, b = best[True], best[False]
    print(f"{'ratio':>14} {b['seconds'] / a['seconds']:>21.1f}x {b['places'] / a['places']:>12.1f}x")
    if a["ids"] == b["ids"]:
        largest = max(abs(x - y) for x, y in zip(a["logprobs"], b["logprobs"], strict=True))
        print(f"sampled tokens equal; largest difference of their log-probs {largest:.1e}")
    else:
        same = sum(x == y for x, y in zip(a["ids"], b["ids"], strict=False))
        print(f"sampled turns equal: {same} of {len(a['ids'])} (rounding decided the others)")


if __name__ == "__main__":
    main()
