"""How fast the trainer is on a GPU: a few updates, tokens per second of each part of a step, and peak memory.

    python benchmarks/gpu_trainer.py --policy smollm2 [--keep NAME]
    python benchmarks/gpu_trainer.py --policy 0.5b [--steps 4] [--groups 8] [--size 8] [--lora-rank 8] [--keep NAME]
    python benchmarks/gpu_trainer.py --policy 0.5b --device cpu --tiny-config     # the same path, small, no figure

`smollm2` plays gazetteer questions. `0.5b` is a Llama of 0.49 billion parameters with fresh weights (28 layers of width
1024, 16 heads, 8 of them for keys, tied embeddings of SmolLM2's vocabulary): it writes noise, so its world gives an
outcome by a hash of what was written, and a step costs what it costs with a policy that makes sense. The recipe is
IGPO, so that the probe of the gold answer is in the figure. Without a GPU nothing is measured, and the result says so.

Rates are of sampled tokens; `read` counts all tokens of the episodes. The first step is not counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from halves import machine

from workbench import policy, recipes
from workbench.envs.base import Step
from workbench.envs.gazetteer import Gazetteer
from workbench.policy.base import Policy
from workbench.seeds import seed_for
from workbench.train.lora import Lora
from workbench.train.plan import Plan, start
from workbench.train.policy_gradient import one_step
from workbench.trajectory import Message

PARTS = ("rollout", "evidence", "credit", "learn")
UNMEASURED = "unmeasured: no GPU"


@dataclass
class Noise(Gazetteer):
    """The gazetteer for a policy that writes noise: the last turn ends the episode, a hash of what was said decides."""

    def respond(self, message: Message) -> Step:
        """Answer as the world does; in the last turn give an outcome, 0 or 1."""
        step = super().respond(message)
        if not step.done and self.progress.turn < self.max_turns:
            return step
        said = "".join(call.raw for call in message.calls) or message.text
        return replace(step, done=True, outcome=float(seed_for("noise", said) % 2))


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, keep."""
    asked = _parser().parse_args(arguments)
    result: dict[str, Any] = {"command": machine.command(arguments), "machine": machine.facts(), "asked": vars(asked)}
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        result["result"] = UNMEASURED
    elif not asked.device.startswith("cuda") and not asked.tiny_config:
        raise SystemExit(f"--device {asked.device}: without --tiny-config this takes a GPU")
    else:
        result |= measure(asked)
    print(f"{asked.policy}: {result['result']}")
    for line in lines(result):
        print(line)
    if asked.keep:
        print("written:", machine.keep(asked.keep, result).relative_to(machine.ROOT))
    return result


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Make the steps; return what each part did a second, and memory."""
    torch.manual_seed(asked.seed)
    player, env = player_of(asked), (Gazetteer() if asked.policy == "smollm2" else Noise())
    size = sum(p.numel() for p in player.engine.model.parameters())  # type: ignore[attr-defined]
    plan = Plan(
        steps=asked.steps,
        groups=asked.groups,
        size=asked.size,
        rate=1e-5,
        seed=asked.seed,
        micro_tokens=asked.micro_tokens,
        max_new_tokens=asked.max_new_tokens,
        lora=Lora(asked.lora_rank) if asked.lora_rank else None,
    )
    recipe = getattr(recipes, asked.recipe)()
    learner, rows = start(player, recipe, plan), []
    for step in range(asked.steps + 1):
        if step == 1 and asked.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
        done = one_step(learner, env, recipe, plan, step)
        read = sum(len(span.ids) for t in done.played for s in t.sequences for span in s.spans)
        rows.append({**done.metrics, "sampled": done.metrics["tokens"] * len(done.played), "read": read})
    rows = rows[1:]
    sampled = sum(row["sampled"] for row in rows)
    seconds = {part: sum(row[f"seconds_{part}"] for row in rows) for part in PARTS}
    cpu = not asked.device.startswith("cuda")
    return {
        "result": "a test of the path on a CPU, no figure" if cpu else "measured",
        "device": "cpu" if cpu else torch.cuda.get_device_name(),
        "parameters": size,
        "updates": sum(row["updates"] for row in rows),
        "sampled": round(sampled),
        "read": sum(row["read"] for row in rows),
        "seconds": {part: round(spent, 3) for part, spent in seconds.items()},
        "sampled_per_second": {part: round(sampled / max(spent, 1e-9), 1) for part, spent in seconds.items()},
        "sampled_per_second_of_all": round(sampled / sum(seconds.values()), 1),
        "peak_mb": machine.memory_mb() if cpu else round(torch.cuda.max_memory_allocated() / 1e6, 1),
        "reserved_mb": None if cpu else round(torch.cuda.max_memory_reserved() / 1e6, 1),
        "ratio_gap": max((row["ratio_gap"] for row in rows if row["ratio_gap"] is not None), default=None),
        "padding": [round(row["padding"], 3) for row in rows],
    }


def player_of(asked: argparse.Namespace) -> Policy:
    """Return the policy: SmolLM2, or a Llama with fresh weights of half a billion parameters (or of next to none)."""
    env = Gazetteer()
    if asked.policy == "smollm2" and not asked.tiny_config:
        return policy.load("smollm2", shots=env.shots, tools=env.tools, device=asked.device, dtype=asked.dtype)
    from transformers import LlamaForCausalLM

    from workbench.policy.hf import HFEngine
    from workbench.policy.renderers import PlainText

    tokenizer = tokenizer_of(asked.tiny_config)
    with torch.device(asked.device):
        model = LlamaForCausalLM(config(len(tokenizer), asked.tiny_config)).to(getattr(torch, asked.dtype)).eval()
    return Policy(f"fresh {asked.policy}", HFEngine(model), PlainText(tokenizer, (), env.tools))


def tokenizer_of(tiny: bool) -> Any:
    """Return SmolLM2's tokenizer, or the small one that is in the package."""
    if tiny:
        from workbench.policy import tiny_tokenizer

        return tiny_tokenizer.load()
    from transformers import AutoTokenizer

    from workbench.policy import smollm2

    return AutoTokenizer.from_pretrained(str(smollm2.fetch()))


def config(vocabulary: int, tiny: bool) -> Any:
    """Return the architecture; with SmolLM2's vocabulary of 49,152 it has 490.8 million parameters."""
    from transformers import LlamaConfig

    width = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
    if not tiny:
        width = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "head_dim": 128}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2} if tiny else {}
    heads = heads or {"num_attention_heads": 16, "num_key_value_heads": 8}
    return LlamaConfig(vocab_size=vocabulary, max_position_embeddings=4096, tie_word_embeddings=True, **width, **heads)


def lines(result: dict[str, Any]) -> list[str]:
    """Return what to print of a result."""
    if "updates" not in result:
        return []
    rates = ", ".join(f"{part} {rate:,.0f}" for part, rate in result["sampled_per_second"].items())
    return [
        f"  {result['parameters'] / 1e6:.1f}M parameters on {result['device']}, {result['updates']} updates",
        f"  sampled tokens per second of each part: {rates}; of all {result['sampled_per_second_of_all']:,.0f}",
        f"  peak memory {result['peak_mb']} MB (reserved {result['reserved_mb']})",
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="smollm2", choices=("smollm2", "0.5b"))
    parser.add_argument("--recipe", default="igpo")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--tiny-config", action="store_true", help="next to no parameters: a test of the path")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--micro-tokens", type=int, default=8192)
    parser.add_argument("--max-new-tokens", type=int, default=24)
    parser.add_argument("--lora-rank", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", metavar="NAME", help="of a file in benchmarks/results")
    return parser


if __name__ == "__main__":
    main()
