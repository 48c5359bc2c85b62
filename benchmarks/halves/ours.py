"""The workbench's half of `trainer_vs_trl.py`: train the tiny policy with `train`, a process of its own."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from halves import machine
from halves.common import GROUPS, NAME, SEED, SIZE, WORLD
from workbench import policy
from workbench.recipes import grpo
from workbench.train.plan import Plan
from workbench.train.policy_gradient import train


def main(asked: dict[str, Any]) -> dict[str, Any]:
    """Train; return seconds of each update, where they went, memory and what was played."""
    torch.set_num_threads(asked["threads"])
    before, ends = machine.memory_mb("VmRSS"), list[float]()
    worked: list[float] = []

    def note(*_: Any) -> None:
        ends.append(time.perf_counter())
        worked.append(time.process_time())

    player = policy.load(f"tiny@{NAME}", tools=WORLD.tools)
    plan = Plan(steps=asked["steps"], groups=GROUPS, size=SIZE, rate=3e-4, seed=SEED, max_new_tokens=32)
    _, rows = train(player, WORLD, grpo(kl=0.0), plan, progress=note)
    rows = rows[1:]  # what the first update cost is nobody's business
    spent = {name: sum(row[f"seconds_{name}"] for row in rows) for name in ("rollout", "evidence", "credit", "learn")}
    whole, count = ends[-1] - ends[0], sum(row["outcome_n"] for row in rows)
    mean = {name: sum(row[name] for row in rows) / len(rows) for name in ("outcome", "turns", "tokens")}
    return {
        "updates": [b - a for a, b in zip(ends[:-1], ends[1:], strict=True)],
        "seconds": whole,
        "cpu": worked[-1] - worked[0],
        "spent": {**spent, "rest": whole - sum(spent.values())},
        "memory_mb": {"imported": before, "peak": machine.memory_mb()},
        "played": {"episodes": count, **{name: round(value, 3) for name, value in mean.items()}},
        "versions": {name: machine.version(name) for name in ("torch", "transformers")},
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(sys.argv[1]))), encoding="utf-8")
