"""How fast things are: seconds by what they grow with, measured here or derived from data sheets; each says which.

decoding, one step of an engine      step + rows * row + context * token          (context: tokens of all rows)
reading a prompt                     tokens * read
learning, on one learner             step + passes * pass + tokens * token + scored * head
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.scale.footprint import Training, cache_bytes, engine_weights
from workbench.scale.shapes import Shape, attention_flops, body_flops, head_flops, parameters

if TYPE_CHECKING:
    from workbench.scale.machine import Machine

FILE = Path(__file__).with_name("rates.json")


@dataclass(frozen=True)
class EngineRates:
    """Seconds of an engine.

    Args:
        step: of one decoding step, whatever is in it.
        row: more for each sequence in it.
        token: more for each token of context that these sequences have together.
        read: for each token of a prompt that is not cached.
        call: for each call of an engine that plays in rounds; 0 where sequences come and go.
    """

    step: float
    row: float
    token: float
    read: float
    call: float = 0.0

    def decode_s(self, rows: float, context: float) -> float:
        """Return the seconds of one decoding step of `rows` sequences with `context` tokens together.

        Example:
            >>> EngineRates(step=0.01, row=0.001, token=1e-6, read=0).decode_s(10, 5000)
            0.025
        """
        return self.step + rows * self.row + context * self.token


@dataclass(frozen=True)
class LearnerRates:
    """Seconds of one learner.

    Args:
        step: of an update: optimiser, and what does not grow with the batch.
        pass_: of one forward and backward pass, whatever is in it.
        token: for each token that goes through the model.
        head: for each token whose logits are asked for.
    """

    step: float
    pass_: float
    token: float
    head: float

    def learn_s(self, tokens: float, scored: float, passes: float) -> float:
        """Return the seconds of one update over a share of the batch.

        Example:
            >>> LearnerRates(step=0.1, pass_=0.05, token=1e-4, head=2e-4).learn_s(1000, 500, 2)
            0.4
        """
        return self.step + passes * self.pass_ + tokens * self.token + scored * self.head


@dataclass(frozen=True)
class Rates:
    """What a prediction is made from.

    Args:
        engine, learner: seconds.
        sync: seconds until all engines have the new weights.
        credit: seconds of credit for each sampled token.
        turn: seconds of one process for everything else in a turn: prompt, parsing, world, records.
        merged: tokens through the learner as a share of those of all episodes with each group's prompt once: trees of
            tokens merge more than prompts.
        said: where the numbers come from: "measured ..." or "assumed ...".
    """

    engine: EngineRates
    learner: LearnerRates
    sync: float = 0.0
    credit: float = 0.0
    turn: float = 0.0
    merged: float = 1.0
    said: str = "measured"


@dataclass(frozen=True)
class Device:
    """A GPU as its data sheet describes it: bytes, dense bfloat16 operations a second, bytes a second one way."""

    name: str
    memory: float
    flops: float
    bandwidth: float
    link: float
    network: float
    per_node: int = 8
    source: str = ""


@dataclass(frozen=True)
class Cluster:
    """GPUs of one kind.

    Args:
        device: which.
        gpus: how many in all.
        said: where its rates come from.
    """

    device: Device
    gpus: int
    said: str = "assumed from data sheets"

    @property
    def nodes(self) -> int:
        """Machines it takes."""
        return -(-self.gpus // self.device.per_node)


@lru_cache(maxsize=1)
def stored() -> Mapping[str, Any]:
    """Return what `rates.json` holds: "assumed" and "measured"."""
    return json.loads(FILE.read_text("utf-8"))


def device(name: str) -> Device:
    """Return a GPU by its name.

    Raises:
        ValueError: there is no such name; lists them.

    Example:
        >>> device("h100").memory
        80000000000.0
    """
    known = stored()["assumed"]["devices"]
    if name.lower() not in known:
        raise ValueError(f"no data sheet of {name!r} is here; known: {', '.join(known)} (workbench/scale/rates.json)")
    return Device(**known[name.lower()])


def cluster_of(machine: Machine) -> Cluster:
    """Return the GPUs of a machine, by the data sheet whose name they bear; else as A100s of their own memory."""
    named = next((k for k in stored()["assumed"]["devices"] if k in machine.gpus[0].name.lower()), None)
    sheet = device(named or "a100")
    found = Device(
        **{**sheet.__dict__, "memory": min(sheet.memory, machine.gpu_memory) if named else machine.gpu_memory}
    )
    said = "assumed from data sheets" + ("" if named else f" of an A100, for want of one of {machine.gpus[0].name}")
    return Cluster(found, len(machine.gpus), said)


def measured(name: str) -> tuple[Rates, Mapping[str, Any]]:
    """Return rates that were measured, and the record of it: command, machine, what was fitted.

    Raises:
        ValueError: none goes by this name; lists those there are.
    """
    rows = {row["name"]: row for row in stored()["measured"]}
    if name not in rows:
        raise ValueError(f"no measured rates of {name!r}; there are: {', '.join(rows) or 'none'}")
    row = rows[name]
    engine, learner = EngineRates(**row["engine"]), LearnerRates(**row["learner"])
    others = {name: row[name] for name in ("sync", "credit", "turn", "merged") if name in row}
    return Rates(engine, learner, **others, said=f"measured: {row['command']}"), row


# ------------------------------------------------------------------------------- from data sheets: engines


def engine_rates(
    shape: Shape, gpu: Device, tensor_parallel: int, context: float, use: Mapping[str, Any]
) -> EngineRates:
    """Return the rates of a vLLM engine in bfloat16, from bytes moved and operations done.

        step   weights / (bandwidth u) / n  +  host  +  2 L latencies of an all-reduce, where it is cut over devices
        row    operations of a token / (flops u n)  +  bytes of its all-reduces / link
        token  bytes of keys and values / (bandwidth u)
        read   operations of a token in the middle of its prompt / (flops u n)

    Memory and operations are added where they in truth overlap in part: the sum is at most twice the larger.

    Args:
        context: tokens a sequence has in the middle of its episode, for attention in reading.
        use: utilisation, of `rates.json`.
    """
    n, s, compute = tensor_parallel, shape, gpu.flops * tensor_parallel * use["read"]
    latency = 2 * s.layers * use["collective_s"] if n > 1 else 0.0
    exchanged = 2 * s.layers * s.hidden * 2 * 2 * (n - 1) / n / (gpu.link * use["link"])
    row = (body_flops(s) + head_flops(s)) / compute + exchanged
    return EngineRates(
        step=engine_weights(s, n) / (gpu.bandwidth * use["bandwidth"]) + use["host_step_s"] + latency,
        row=row,
        token=cache_bytes(s, n) / (gpu.bandwidth * use["bandwidth"]),
        read=(body_flops(s) + attention_flops(s, context / 2)) / compute + exchanged,
    )


# ------------------------------------------------------------------------------- from data sheets: learners


def passes_flops(how: Training) -> float:
    """Return how many forward passes a token costs: forward 1, backward 2 (1 with adapters), once more recomputed.

    With adapters the gradient of the frozen weights is not asked for, only that of what goes through them.
    """
    return 1.0 + (1.0 if how.lora_rank else 2.0) + (1.0 if how.checkpointing else 0.0)


def exchanged_bytes(shape: Shape, how: Training) -> float:
    """Return the bytes one learner receives a pass: whole weights twice (forward, backward), gradients once, float32.

    (R - 1) / R of them come from others; with adapters the gradients are next to nothing.
    """
    if how.learners == 1:
        return 0.0
    grads = 0.0 if how.lora_rank else 4.0 * parameters(shape)
    return (how.learners - 1) / how.learners * (2 * how.compute_bytes * parameters(shape) + grads)


def learner_rates(shape: Shape, gpu: Device, how: Training, context: float, use: Mapping[str, Any]) -> LearnerRates:
    """Return the rates of one learner under FSDP, from operations done and bytes exchanged.

        token  passes * operations of a token / (flops u)      head  3 * operations of its logits / (flops u)
        pass   what exchanging weights takes beyond the computation of a full micro-batch, as far as they overlap
        step   reading and writing weights, gradients and moments once

    Args:
        context: tokens of a sequence; a token sees half of them in the mean.
        use: utilisation, of `rates.json`.
    """
    compute = gpu.flops * use["learn"]
    token = passes_flops(how) * (body_flops(shape) + attention_flops(shape, context / 2)) / compute
    link = gpu.link if how.learners <= gpu.per_node else gpu.network
    exchange = exchanged_bytes(shape, how) / (link * use["link"])
    trained = 1.0 if not how.lora_rank else 0.02
    state = 2 * 4 * how.weight_bytes * parameters(shape) * trained / how.learners
    return LearnerRates(
        step=state / (gpu.bandwidth * use["bandwidth"]),
        pass_=max(0.0, exchange - token * how.micro_tokens),
        token=token,
        head=3 * head_flops(shape) / compute,
    )


def sync_s(shape: Shape, use: Mapping[str, Any]) -> float:
    """Return the seconds until engines have new weights: written once, read by all at once, in bfloat16."""
    return use["sync_fixed_s"] + 2 * 2 * parameters(shape) / use["sync_bytes_per_s"]


def assumed(shape: Shape, gpu: Device, how: Training, tensor_parallel: int, context: float) -> Rates:
    """Return the rates of a model on GPUs by their data sheet; every number of it is an assumption."""
    use = stored()["assumed"]["utilisation"]
    return Rates(
        engine_rates(shape, gpu, tensor_parallel, context, use),
        learner_rates(shape, gpu, how, context, use),
        sync_s(shape, use),
        use["credit_token_s"],
        said=stored()["assumed"]["said"],
    )
