"""Supervised fine-tuning: say what the examples say, where they have a weight.

`python -m workbench.train.sft --world chain --out DIR` makes a warm start of the tiny policy from nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.seeds import seed_for
from workbench.train.batches import check, chosen, learned, named, pad
from workbench.train.interrupt import after_step
from workbench.train.lora import Lora, add_lora
from workbench.train.optim import adamw, rate_at
from workbench.train.record import Report, bar, open_log, save
from workbench.trajectory import Example


@dataclass(frozen=True)
class Plan:
    """How to train.

    Args:
        steps: updates.
        batch: examples of an update.
        micro_batch: examples of one forward and backward pass; smaller needs less memory, the gradient is the same.
        rate, warmup, floor: learning rate; see `rate_at`.
        betas, weight_decay: of AdamW.
        clip: largest norm of the gradient; 0 is no limit.
        save_every: steps between checkpoints; 0 is only at the end.
        seed: of the order of examples, of dropout and of adapters.
    """

    steps: int = 1000
    batch: int = 64
    micro_batch: int = 16
    rate: float = 2e-3
    warmup: int = 50
    floor: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    clip: float = 1.0
    save_every: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "micro_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"Plan.{name}: expected at least 1, got {getattr(self, name)!r}")


# ------------------------------------------------------------------------------------------------ the loss


def weighted_nll(logits: Tensor, ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted cross-entropy of each example, summed over its tokens, and how many it says first.

        nll_b = - sum_t  w_bt  log p(x_bt | x_b,<t)

    Args:
        logits: [B, L, V]; those at t predict token t + 1. Computed in float32, only where a weight is.
        ids, weights: [B, L]; a token of weight 0 enters nothing.

    Returns:
        nll [B], with gradient; hits [B]: tokens with a weight that are the most likely ones.
    """
    rows, places = weights[:, 1:].nonzero(as_tuple=True)
    said = logits[rows, places].float()
    aim = ids[rows, places + 1]
    nll = torch.nn.functional.cross_entropy(said, aim, reduction="none") * weights[rows, places + 1]
    hits = (said.argmax(-1) == aim).to(nll.dtype)
    zero = nll.new_zeros(len(ids))
    return zero.index_add(0, rows, nll), zero.index_add(0, rows, hits)


def backward(model: Any, examples: Sequence[Example], micro_batch: int) -> tuple[float, float]:
    """Add the gradient of the loss of a batch to the model's; return the loss and the share of tokens said first.

    loss = sum_b nll_b / number of tokens with a weight in the whole batch, however it is cut
    """
    device, count = next(model.parameters()).device, learned(examples)
    alike = sorted(examples, key=lambda example: len(example.ids))  # neighbours need little padding
    loss = hits = 0.0
    for start in range(0, len(alike), micro_batch):
        part = alike[start : start + micro_batch]
        ids, weights = pad(part, device)
        nll, right = weighted_nll(model(input_ids=ids, use_cache=False).logits, ids, weights)
        bad = next((n for n, finite in enumerate(nll.isfinite().tolist()) if not finite), None)
        if bad is not None:
            raise FloatingPointError(f"{named(part[bad])} has the loss {nll[bad].item()}; lower the rate")
        (nll.sum() / count).backward()
        loss += nll.sum().item() / count
        hits += right.sum().item() / count
    return loss, hits


# ------------------------------------------------------------------------------------------------ the loop


def train(
    model: Any,
    examples: Sequence[Example],
    plan: Plan,
    out: str | Path | None = None,
    *,
    lora: Lora | None = None,
    progress: Report | None = None,
) -> tuple[Any, list[dict[str, float]]]:
    """Train a causal model of transformers on examples.

    The same model, examples, plan and number of threads give the same numbers, bit for bit on a CPU. An interrupt
    from the keyboard stops after the step and saves.

    Args:
        model: trained in place; its parameters decide device and dtype.
        examples: see `workbench.transforms`.
        plan: how.
        out: folder for `metrics.jsonl` (a line a step) and the weights as safetensors; None keeps nothing.
        lora: train adapters and freeze the rest; None trains all that requires a gradient.
        progress: called after each step; None shows a bar after two seconds.

    Returns:
        (model, in its adapters' wrapping if there are any, and in evaluation mode; metrics: one dict a step).
    """
    check(examples, model.config)
    if lora is not None:
        model = add_lora(model, lora, seed_for("lora", plan.seed))
    optimiser, metrics = adamw(model, plan.betas, plan.weight_decay), []
    trainable = [p for p in model.parameters() if p.requires_grad]
    report, close = (progress, lambda: None) if progress else bar(plan.steps)
    log = open_log(out)
    model.train()
    try:
        with torch.random.fork_rng(), after_step() as asked_to_stop:
            for step in range(plan.steps):
                began = time.perf_counter()
                torch.manual_seed(seed_for("dropout", plan.seed, step))
                batch = [examples[i] for i in chosen(len(examples), plan.batch, step, plan.seed)]
                loss, hits = backward(model, batch, plan.micro_batch)
                norm = torch.nn.utils.clip_grad_norm_(trainable, plan.clip or float("inf")).item()
                rate = rate_at(step, plan.steps, plan.rate, plan.warmup, plan.floor)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                row = {"step": step, "loss": loss, "right": hits, "gradient_norm": norm, "rate": rate}
                metrics.append({**row, "tokens": learned(batch), "seconds": round(time.perf_counter() - began, 4)})
                log(metrics[-1])
                report(step + 1, plan.steps, f"loss {loss:.3f}, right {hits:.0%}")
                if asked_to_stop():
                    break
                if out is not None and plan.save_every and (step + 1) % plan.save_every == 0:
                    save(model, Path(out) / f"step-{step + 1}", plan, metrics)
    finally:
        close()
        model.eval()
    if out is not None:
        save(model, Path(out), plan, metrics)
    return model, metrics


# --------------------------------------------------------------------------------------------- the command


def main(arguments: Sequence[str] | None = None) -> int:
    """Warm-start a policy on imperfect demonstrations of a world."""
    from workbench.train.warm_start import demonstrations, start

    parser = argparse.ArgumentParser("python -m workbench.train.sft", description=main.__doc__)
    parser.add_argument("--world", default="chain", help="whose demonstrations (default: chain)")
    parser.add_argument("--out", required=True, help="folder for the weights, the tokenizer and the metrics")
    parser.add_argument("--model", default="tiny", help="tiny (from nothing), tiny@WORLD, a Hugging Face id or folder")
    parser.add_argument("--demonstrations", type=int, default=16384, help="tasks that are played (default: 16384)")
    parser.add_argument("--hops", type=int, nargs="+", default=[1, 2, 3], help="or clues ..., in equal parts (1 2 3)")
    parser.add_argument("--error-rate", type=float, default=0.4, help="share of mistaken turns (default: 0.4)")
    parser.add_argument("--items", type=int, help="of a facet world (its default)")
    parser.add_argument("--misread", type=float, default=0.0, help="how often the script follows its habit (never)")
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--batch", type=int, default=Plan.batch)
    parser.add_argument("--micro-batch", type=int, default=Plan.micro_batch)
    parser.add_argument("--rate", type=float, default=Plan.rate)
    parser.add_argument("--save-every", type=int, default=Plan.save_every)
    parser.add_argument("--lora-rank", type=int, default=0, help="train adapters of this rank instead of all weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of torch; part of what decides the last bits")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    model, tokenizer = start(asked.model, asked.seed, asked.world)
    knobs = {} if asked.items is None else {"items": asked.items}
    examples = demonstrations(
        asked.world, tokenizer, asked.demonstrations, asked.error_rate, asked.seed, asked.hops, asked.misread, knobs
    )
    plan = Plan(
        steps=asked.steps,
        batch=asked.batch,
        micro_batch=asked.micro_batch,
        rate=asked.rate,
        save_every=asked.save_every,
        seed=asked.seed,
    )
    tokenizer.save_pretrained(asked.out)
    train(model, examples, plan, asked.out, lora=Lora(asked.lora_rank) if asked.lora_rank else None)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
