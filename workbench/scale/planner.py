"""What a run would need and take on GPUs that are not here: memory, step time, idle shares, and the best split.

    plan("7b", [8, 64, 512])        one row a cluster: the split with the shortest step, and what it comes to

The rates are assumptions until somebody measures them on such GPUs (`rates.json` says which); the pipeline is simulated
event by event. Compare the rows with each other before believing any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from workbench.runs import Scale
from workbench.scale.footprint import (
    Memory,
    Training,
    engine_memory,
    learner_memory,
    sequences_that_fit,
)
from workbench.scale.picture import Bars
from workbench.scale.pipeline import drawn, learner_seconds, played, step_seconds
from workbench.scale.rates import Cluster, Rates, assumed, device
from workbench.scale.shapes import Shape, parameters, preset
from workbench.scale.simulate import Played, Work

if TYPE_CHECKING:
    from pandas import DataFrame

    from workbench.scale.needs import Request

MOST = 256
"""Sequences a vLLM engine runs at once by default (`max_num_seqs`), if their keys and values fit."""
STEPS, CLOSER = 4, 3
"""Steps simulated of a split; how many splits are looked at that closely, the best by one step."""
RateOf = Callable[[Shape, Cluster, Training, int, float], Rates]


@dataclass(frozen=True)
class Prediction:
    """A split of a cluster, and what a step on it would be.

    Args:
        scale: the split.
        gpus: in all.
        learner, engine: memory of one GPU of each.
        concurrent: sequences an engine can hold at once.
        rollout_s, learn_s, other_s, step_s: seconds of playing; of learning; of credit, evidence and new weights; and
            of a whole step, with what overlaps counted once.
        idle_engines, idle_learners: share of a step in which GPUs of each have nothing to do.
        tail: share of the rollout after nine in ten episodes were over.
        tokens: sampled in a step.
        said: where the rates come from.
    """

    scale: Scale
    gpus: int
    learner: Memory
    engine: Memory
    concurrent: int
    rollout_s: float
    learn_s: float
    other_s: float
    step_s: float
    idle_engines: float
    idle_learners: float
    tail: float
    tokens: float
    said: str

    @property
    def gpu_hours(self) -> float:
        """GPU hours of a step: GPUs that are held times its seconds."""
        return gpu_hours(self.gpus, self.step_s)

    @property
    def idle(self) -> float:
        """Share of all GPU time in which a GPU has nothing to do."""
        s = self.scale
        engines = s.engines * s.tensor_parallel
        unused = self.gpus - s.learners - engines
        busy = s.learners * (1 - self.idle_learners) + engines * (1 - self.idle_engines)
        return 1 - busy / (s.learners + engines + unused)


def gpu_hours(devices: int, seconds: float) -> float:
    """Return what is paid for: devices that are held, busy or not, times hours.

    Example:
        >>> gpu_hours(8, 450.0)
        1.0
    """
    return devices * seconds / 3600


# ------------------------------------------------------------------------------------------------------ one split


def predict(
    shape: Shape,
    work: Work,
    cluster: Cluster,
    scale: Scale,
    how: Training | None = None,
    seed: int = 0,
    rates_of: RateOf | None = None,
    steps: int = STEPS,
) -> Prediction | None:
    """Predict a step on one split; None where learner or engine do not fit their GPUs.

    Args:
        shape: of the model.
        work: of a step.
        cluster: the GPUs.
        scale: the split.
        how: the learner holds its model; None is all weights, in float32 with bfloat16 products, recomputed.
        seed: of the drawn lengths.
        rates_of: (shape, cluster, how, tensor_parallel, context) -> rates; None derives them from data sheets.
        steps: that are simulated, with other lengths each; where steps overlap at least two.
    """
    how = replace(how or Training(), learners=scale.learners, scored=work.turns * work.tokens / work.mean_length)
    how = replace(how, micro_tokens=max(how.micro_tokens, work.context))
    gpu = cluster.device
    room = min(MOST, sequences_that_fit(shape, scale.tensor_parallel, work.context, gpu.memory))
    learner = learner_memory(shape, how)
    if room < 1 or learner.total > gpu.memory:
        return None
    rates = (rates_of or _assumed)(shape, cluster, how, scale.tensor_parallel, work.mean_length)
    engines = scale.engines
    seeds = range(seed, seed + max(steps, 2 * bool(scale.asynchronous)))
    plays = [played(work, one, engines, rates.engine, room) for one in seeds]
    learns = [learner_seconds(drawn(work, one), scale.learners, rates.learner, how.micro_tokens) for one in seeds]
    engine = engine_memory(shape, scale.tensor_parallel, work.context, min(room, work.groups * work.size / engines))
    return _prediction(cluster, scale, learner, engine, room, rates, work, plays, learns)


def _prediction(
    cluster: Cluster,
    scale: Scale,
    learner: Memory,
    engine: Memory,
    room: int,
    rates: Rates,
    work: Work,
    plays: Sequence[Played],
    learns: Sequence[float],
) -> Prediction:
    sampled = fmean(one.sampled for one in plays)
    credit = rates.credit * sampled
    evidence = work.probe / 4 * fmean(learns)  # a forward pass of the four that a recomputed update is made of
    learns = [seconds + credit + evidence for seconds in learns]
    step = step_seconds([one.seconds for one in plays], learns, rates.sync, scale.asynchronous)
    busy = fmean(fmean(one.busy) for one in plays)
    worked = fmean(learns)
    return Prediction(
        scale,
        cluster.gpus,
        learner,
        engine,
        room,
        fmean(one.seconds for one in plays),
        worked - credit - evidence,
        credit + evidence + rates.sync,
        step,
        1 - busy / step,
        1 - worked / step,
        fmean(one.tail for one in plays),
        sampled,
        rates.said,
    )


def _assumed(shape: Shape, cluster: Cluster, how: Training, tensor_parallel: int, context: float) -> Rates:
    return assumed(shape, cluster.device, how, tensor_parallel, context)


# ------------------------------------------------------------------------------------------------------ the best split


def splits(shape: Shape, cluster: Cluster, asynchronous: int = 0) -> Iterator[Scale]:
    """Yield the ways to divide a cluster that are worth a look: eighths and ends of it, engines over 1 to 8 GPUs."""
    n, nodes = cluster.gpus, cluster.nodes
    sizes = [t for t in (1, 2, 4, 8) if t <= cluster.device.per_node and shape.heads % t == 0]
    for tensor in sizes:
        engines = {max(1, round(n * eighth / 8 / tensor)) for eighth in range(1, 8)} | {1}
        for count in sorted(engines):
            learners = n - count * tensor
            if learners >= 1:
                yield Scale("cuda", nodes, learners, count, "vllm", tensor, None, asynchronous)


def best(
    shape: Shape,
    work: Work,
    cluster: Cluster,
    how: Training | None = None,
    asynchronous: int = 0,
    seed: int = 0,
) -> Prediction | None:
    """Return the split with the shortest predicted step; None if none fits the GPUs.

    Args:
        shape, work, cluster, how, seed: see `predict`.
        asynchronous: steps of delay that are allowed.
    """
    every = [predict(shape, work, cluster, s, how, seed, steps=1) for s in splits(shape, cluster, asynchronous)]
    fits = sorted((one for one in every if one is not None), key=lambda one: one.step_s)
    closer = [predict(shape, work, cluster, one.scale, how, seed) for one in fits[:CLOSER]]
    return min((one for one in closer if one is not None), key=lambda one: one.step_s, default=None)


def work_of(ask: Request) -> Work:
    """Return the work of a request to scale, as far as its plan and world say."""
    from workbench.scale.choose import ASSUMED_PROMPT

    plan = ask.plan
    turns = max(1.0, (ask.context - ASSUMED_PROMPT) / (2 * plan.max_new_tokens) / 2)
    half = max(1.0, plan.max_new_tokens / 2)
    return Work(plan.groups, plan.size, ASSUMED_PROMPT, turns, 0.5, half, 0.5, plan.max_new_tokens, 0.0)


# ---------------------------------------------------------------------------------------------------------- a table


def plan(
    model: str | Shape,
    gpus: Sequence[int] = (8, 64, 512),
    gpu: str = "h100",
    work: Work | None = None,
    how: Training | None = None,
    asynchronous: Sequence[int] = (0, 1),
    groups_per_gpu: float = 0.0,
    seed: int = 0,
) -> DataFrame:
    """Return the best split for each size of a cluster, a row each; what does not fit has a row that says so.

    Args:
        model: a size by name ("7b"), or a shape.
        gpus: sizes of the cluster.
        gpu: kind, by the name of its data sheet.
        work: of a step; the same for every size, so that the rows show what more GPUs buy.
        how: the learner holds its model.
        asynchronous: steps of delay, a row each.
        groups_per_gpu: let the work of a step grow with the cluster instead; 0 does not.
        seed: of the drawn lengths.
    """
    import pandas as pd

    shape, kind, work = preset(model) if isinstance(model, str) else model, device(gpu), work or Work()
    rows = []
    for count in gpus:
        cluster = Cluster(kind, count)
        mine = replace(work, groups=max(1, round(groups_per_gpu * count))) if groups_per_gpu else work
        for delay in asynchronous:
            found = best(shape, mine, cluster, how, delay, seed)
            row = _row(found) if found else _why_not(shape, mine, cluster, how)
            rows.append({"model": shape.name, "gpus": count, "delay": delay, "groups": mine.groups, **row})
    return pd.DataFrame(rows)


def picture(table: DataFrame, share: bool = False) -> Bars:
    """Return the GPU hours of a step as stacked bars, busy and idle, a bar for each row of `plan` that fits.

    Args:
        table: of `plan`.
        share: of all GPU time, instead of hours.
    """
    rows = table[table["note"] == ""] if len(table) else table
    labels = tuple(f"{row.model}, {row.gpus} GPUs, delay {row.delay}" for row in rows.itertuples())
    hours = [1.0] * len(rows) if share else [float(h) for h in rows["gpu_hours"]]
    idle = [float(part) * h for part, h in zip(rows["idle"], hours, strict=True)]
    busy = [h - unused for h, unused in zip(hours, idle, strict=True)]
    title = "What a step takes, and how much of it is idle"
    return Bars(title, labels, {"busy": busy, "idle": idle}, "share" if share else "GPU hours a step", "assumed rates")


def _row(p: Prediction) -> dict[str, Any]:
    s = p.scale
    return {
        "learners": s.learners,
        "engines": s.engines,
        "tensor_parallel": s.tensor_parallel,
        "learner_gib": p.learner.total / 2**30,
        "engine_gib": p.engine.total / 2**30,
        "rollout_s": p.rollout_s,
        "learn_s": p.learn_s,
        "other_s": p.other_s,
        "step_s": p.step_s,
        "idle_engines": p.idle_engines,
        "idle_learners": p.idle_learners,
        "idle": p.idle,
        "tail": p.tail,
        "gpu_hours": p.gpu_hours,
        "tokens_per_gpu_s": p.tokens / p.step_s / p.gpus,
        "note": "",
    }


def _why_not(shape: Shape, work: Work, cluster: Cluster, how: Training | None) -> dict[str, Any]:
    """Say with numbers why no split of a cluster holds a model."""
    learners = max(1, cluster.gpus - 1)
    how = replace(how or Training(), learners=learners)
    how = replace(how, micro_tokens=max(how.micro_tokens, work.context))
    need, have = learner_memory(shape, how).total / 2**30, cluster.device.memory / 2**30
    if need > have:
        return {"note": f"does not fit: a learner among {learners} needs {need:.0f} of {have:.0f} GiB"}
    size = f"{parameters(shape) / 1e9:.1f} billion parameters"
    return {"note": f"does not fit: learners and an engine of {size} need more than {cluster.gpus} GPUs"}
