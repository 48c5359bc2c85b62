"""`workbench plan` and `wall`: what a run would take on GPUs, and where the time of a run went."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli.saying import Problem, print_table

if TYPE_CHECKING:
    from workbench.scale.footprint import Training
    from workbench.scale.shapes import Shape
    from workbench.scale.simulate import Work

SHOWN = (
    ("gpus", "GPUs", "{:.0f}"),
    ("delay", "delay", "{:.0f}"),
    ("groups", "groups", "{:.0f}"),
    ("learners", "learners", "{:.0f}"),
    ("engines", "engines", "{:.0f}"),
    ("tensor_parallel", "x GPUs", "{:.0f}"),
    ("learner_gib", "learner GiB", "{:.1f}"),
    ("engine_gib", "engine GiB", "{:.1f}"),
    ("rollout_s", "rollout s", "{:.1f}"),
    ("learn_s", "learn s", "{:.1f}"),
    ("other_s", "other s", "{:.1f}"),
    ("step_s", "step s", "{:.1f}"),
    ("idle", "idle", "{:.0%}"),
    ("gpu_hours", "GPU h/step", "{:.3g}"),
)
FROM_WORK = (
    ("groups", int, "tasks of a step"),
    ("size", int, "rollouts of a task"),
    ("prompt", int, "tokens of a prompt"),
    ("turns", float, "of an episode, in the mean"),
    ("tokens", float, "sampled a turn, in the mean"),
    ("observation", int, "tokens that come back a turn"),
    ("tool", float, "seconds a tool takes, in the mean"),
    ("probe", float, "forward passes over each rollout for evidence"),
)


def plan_arguments(one: argparse.ArgumentParser) -> None:
    """Add the arguments of `plan`."""
    one.add_argument("--model", default="7b", help="0.5b, 1.5b, 7b, 32b, 70b, tiny, smollm2, or a model's folder (7b)")
    one.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 512], help="sizes of the cluster (8 64 512)")
    one.add_argument("--gpu", default="h100", help="a100, h100 or h200 (h100)")
    for name, kind, text in FROM_WORK:
        one.add_argument(f"--{name}", type=kind, help=text)
    one.add_argument("--groups-per-gpu", type=float, default=0.0, help="let the groups of a step grow with the cluster")
    one.add_argument("--delay", type=int, nargs="+", default=[0, 1], help="steps of delay, a row each (0 1)")
    one.add_argument("--lora-rank", type=int, default=0, help="train adapters of this rank instead of all weights")
    one.add_argument("--bf16-weights", action="store_true", help="weights and moments in bfloat16 instead of float32")
    one.add_argument("--micro-tokens", type=int, default=8192, help="tokens of one forward and backward pass (8192)")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--json", action="store_true")


def plan(options: argparse.Namespace) -> int:
    """Predict memory, step time and the best split of GPUs for a model that is not here; every rate is assumed."""
    from workbench.scale.planner import plan as planned
    from workbench.scale.rates import device, stored
    from workbench.scale.shapes import parameters

    shape, work, how = _shape(options.model), _work(options), _training(options)
    if min(options.gpus) < 2:
        raise Problem("a plan divides GPUs between learners and engines: --gpus from 2 on; `workbench train` needs one")
    table = planned(
        shape,
        options.gpus,
        options.gpu,
        work,
        how,
        options.delay,
        options.groups_per_gpu,
        options.seed,
    )
    rows = json.loads(table.to_json(orient="records"))
    if options.json:
        print(
            json.dumps({"shape": shape.__dict__, "work": work.__dict__, "assumed": stored()["assumed"], "rows": rows})
        )
        return 0
    print(f"{shape.name} ({parameters(shape) / 1e9:.2f} billion parameters) on {device(options.gpu).name}")
    print_table(tuple(head for _, head, _ in SHOWN), [tuple(_cell(row, *what) for what in SHOWN) for row in rows])
    for row in rows:
        if row["note"]:
            print(f"{row['gpus']} GPUs, delay {row['delay']}: {row['note']}")
    print("\n".join(["", *assumptions(work, how, options.gpu)]))
    return 0


def assumptions(work: Work, how: Training, gpu: str) -> list[str]:
    """Return what a table of predictions stands on, a line each."""
    from workbench.scale.rates import device, stored

    use = stored()["assumed"]["utilisation"]
    learner = f"adapters of rank {how.lora_rank}" if how.lora_rank else "all weights"
    share = {"learn": "of peak in learning", "read": "in prompts", "bandwidth": "of memory bandwidth in decoding"}
    said = ", ".join(f"{use[name]:.0%} {text}" for name, text in share.items())
    return [
        f"Rates are {stored()['assumed']['said']}.",
        f"  a step: {work.groups} x {work.size} episodes, prompt {work.prompt}, {work.turns:g} turns of "
        f"{work.tokens:g} tokens (spread {work.tokens_spread:.0%}) and {work.observation} back, tools {work.tool:g} s "
        f"(spread {work.tool_spread:.0%}); long contexts {work.context} tokens",
        f"  learner: {learner}, {how.weight_bytes} bytes a weight, products in {how.compute_bytes}, recomputed, "
        f"micro-batches of {how.micro_tokens} tokens",
        f"  utilisation: {said}, {use['link']:.0%} of links; weights reach engines at "
        f"{use['sync_bytes_per_s'] / 1e9:g} GB/s",
        f"  device: {device(gpu).source}",
        "  delay: how many steps old the weights of a rollout may be; idle: share of all GPU time without work",
    ]


def _shape(name: str) -> Shape:
    from workbench.scale.shapes import of_folder, preset

    return of_folder(name) if (Path(name) / "config.json").is_file() else preset(name)


def _work(options: argparse.Namespace) -> Work:
    from workbench.scale.simulate import Work

    given = {name: getattr(options, name) for name, _, _ in FROM_WORK if getattr(options, name) is not None}
    return Work(**given)


def _training(options: argparse.Namespace) -> Training:
    from workbench.scale.footprint import Training

    bytes_ = 2 if options.bf16_weights else 4
    return Training(weight_bytes=bytes_, lora_rank=options.lora_rank, micro_tokens=options.micro_tokens)


def _cell(row: dict[str, Any], name: str, head: str, text: str) -> str:
    value = row.get(name)
    return "-" if value is None or (isinstance(value, float) and math.isnan(value)) else text.format(value)


def wall_arguments(one: argparse.ArgumentParser) -> None:
    """Add the arguments of `wall`."""
    one.add_argument("folder", metavar="RUN", help="folder of the run")
    one.add_argument("--json", action="store_true")


def wall(options: argparse.Namespace) -> int:
    """Say where the wall time of a run went, step by step, and what it cost."""
    from workbench.scale.wall import cost
    from workbench.scale.wall import wall as seconds

    frame, spent = seconds(options.folder), cost(options.folder)
    if options.json:
        rows = json.loads(frame.reset_index().to_json(orient="records"))
        print(json.dumps({"rows": rows, "hours": spent.hours, "devices": spent.devices, "idle": spent.idle}))
        return 0
    every = [("step", *frame.columns)]
    every += [(str(step), *(_seconds(v) for v in row)) for step, row in zip(frame.index, frame.to_numpy(), strict=True)]
    every.append(("mean", *(_seconds(v) for v in frame.mean())))
    print_table(every[0], every[1:])
    print(f"{spent}", file=sys.stderr)
    return 0


def _seconds(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
