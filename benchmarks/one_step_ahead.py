"""What playing one step ahead does to learning: the same run with `asynchronous` 0, 1, and 1 with a truncated ratio.

    python benchmarks/one_step_ahead.py [--steps 40]

Real runs on a Ray cluster of this machine, one after the other: tiny on 3-hop chains, one learner, one player.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench import envs, recipes
from workbench.objective import truncated
from workbench.runs import Scale
from workbench.train import launch
from workbench.train.plan import Plan


def runs() -> dict[str, tuple[Any, Scale]]:
    """Return recipe and scale by name."""
    plain = recipes.grpo(kl=0.0)  # a KL would need a third engine, for the policy as it was
    cut = replace(plain, objective=truncated(plain.objective, cap=2.0))
    here = Scale(learners=1, rollouts=1)
    ahead = replace(here, asynchronous=1)
    return {"synchronous": (plain, here), "one step ahead": (plain, ahead), "one step ahead, truncated": (cut, ahead)}


def measured(name: str, recipe: Any, scale: Scale, steps: int, folder: Path) -> str:
    """Make a run; return a row of the table."""
    plan = Plan(steps=steps, groups=4, size=8, rate=3e-4, seed=0, save_every=steps)
    run = launch(recipe, envs.load("chain"), "tiny", plan, folder / name.replace(" ", "-"), scale=scale, keep_every=0)
    status = run.wait()
    if status.state != "finished":
        raise SystemExit(f"{name}: {status}\n{run.log(40)}")
    rows = run.metrics()
    quarter = max(len(rows) // 4, 1)
    mean = lambda key, part: sum(row[key] or 0.0 for row in part) / len(part)  # noqa: E731
    first, last = rows[:quarter], rows[-quarter:]
    cells = [
        f"{mean('outcome', first):.3f}",
        f"{mean('outcome', last):.3f}",
        f"{mean('ratio_mean', rows):.1e}",
        f"{mean('kl_before', rows):.1e}",
        "-" if rows[-1]["corrected"] is None else f"{mean('corrected', rows):.4f}",
        str(max(row["lag"] for row in rows)),
        f"{mean('seconds', rows):.2f}",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="one-step-ahead-"))
    print("| run | success, first quarter | last quarter | mean log ratio | KL before | corrected | lag | s a step |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    try:
        for name, (recipe, scale) in runs().items():
            print(measured(name, recipe, scale, asked.steps, folder), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
