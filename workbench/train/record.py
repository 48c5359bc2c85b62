"""What a training leaves behind, and what it shows meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

Report = Callable[[int, int, str], None]
"""Called as (steps done, steps in all, what is going on)."""

QUIET_S = 2.0  # training that takes no longer than this shows no progress bar


def save(model: Any, out: Path, plan: Any, metrics: Sequence[dict[str, float]]) -> None:
    """Write the weights (of the adapters, if there are any) as safetensors, and `run.json`: how they were made.

    Args:
        model: of transformers or peft.
        out: folder.
        plan: a dataclass with `steps`.
        metrics: of the steps done, at least one.
    """
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(out))
    done = {"steps_done": len(metrics), "stopped_early": len(metrics) < plan.steps, "threads": torch.get_num_threads()}
    seconds = round(sum(row["seconds"] for row in metrics), 1)
    record = {"plan": asdict(plan), **done, "seconds": seconds, "torch": torch.__version__, "last": metrics[-1]}
    (out / "run.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def open_log(out: str | Path | None) -> Callable[[dict[str, float]], None]:
    """Return a function that appends a line to `metrics.jsonl`; a new training begins the file anew."""
    if out is None:
        return lambda row: None
    file = Path(out) / "metrics.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("", encoding="utf-8")

    def append(row: dict[str, float]) -> None:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")

    return append


def bar(total: int, name: str = "sft") -> tuple[Report, Callable[[], None]]:
    """Return a progress bar on standard error, and the call that closes it; `name` says what is going on."""
    from tqdm import tqdm

    bar = tqdm(total=total, desc=name, unit="step", delay=QUIET_S, mininterval=1.0)

    def report(done: int, total: int, text: str) -> None:
        bar.set_postfix_str(text, refresh=False)
        bar.update(done - bar.n)

    return report, bar.close
