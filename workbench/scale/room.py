"""Has a cluster that was joined room for a run? Ray itself would wait for ever, and say so where nobody looks.

What the cluster has at all decides at once; what others use now is waited for a little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from workbench.runs import Scale


class Node(NamedTuple):
    """A machine of a cluster.

    Args:
        name: to call it by.
        total: what it has, as Ray counts: "CPU", "GPU".
        free: what of it nobody uses now.
    """

    name: str
    total: Mapping[str, float]
    free: Mapping[str, float]


class Part(NamedTuple):
    """Processes of one kind that a run starts; each is on one machine."""

    what: str
    count: int
    cpus: int
    gpus: int


def parts_of(scale: Scale, reference: bool = False) -> tuple[Part, ...]:
    """Return what a run starts on a cluster.

    Args:
        scale: of the run.
        reference: does one more process hold the policy as it began?

    Example:
        >>> [(part.what, part.count, part.gpus) for part in parts_of(Scale("cuda", learners=4, rollouts=2))]
        [('learners', 4, 1), ('engines', 2, 1)]
    """
    gpu = 1 if scale.device == "cuda" else 0
    learners = Part("learners", scale.learners, 1, gpu)
    engines = Part("engines", scale.engines, 1, gpu * scale.tensor_parallel)
    return (learners, engines, *([Part("the reference of a KL", 1, 1, gpu)] if reference else []))


def missing(scale: Scale, reference: bool, nodes: Sequence[Node]) -> Iterator[str]:
    """Yield what the machines of a cluster lack, whoever else uses them."""
    if len(nodes) < scale.nodes:
        yield (
            f"nodes={scale.nodes}, and the cluster has {len(nodes)} ({', '.join(one.name for one in nodes)}); start "
            "Ray on more with `ray start --address=HEAD:6379`, or lower nodes"
        )
    parts = parts_of(scale, reference)
    for kind, wanted in (("CPU", _cpus(parts)), ("GPU", _gpus(parts))):
        there = sum(one.total.get(kind, 0.0) for one in nodes)
        if wanted > there:
            mend = "lower learners or rollouts, or start Ray on more machines"
            if kind == "CPU":
                mend += " (`ray start --num-cpus` sets how many it counts)"
            yield (
                f"it asks for {wanted} {kind}s ({said_of(parts, kind)}), and the cluster has {there:g} on {len(nodes)} "
                f"machine{'s' if len(nodes) > 1 else ''}; {mend}"
            )
    most = max((one.total.get("GPU", 0.0) for one in nodes), default=0.0)
    if (
        scale.device == "cuda"
        and most < scale.tensor_parallel
        and _gpus(parts) <= sum(one.total.get("GPU", 0.0) for one in nodes)
    ):
        yield (
            f"tensor_parallel={scale.tensor_parallel}: an engine is on one machine, and no machine of the cluster has "
            f"more than {most:g} GPUs; lower it"
        )


def in_use(scale: Scale, reference: bool, nodes: Sequence[Node]) -> Iterator[str]:
    """Yield what others use now of what the run asks for."""
    parts = parts_of(scale, reference)
    for kind, wanted in (("CPU", _cpus(parts)), ("GPU", _gpus(parts))):
        free, there = (sum(each.get(kind, 0.0) for each in side) for side in _sides(nodes))
        if wanted > free:
            yield (
                f"it asks for {wanted} {kind}s ({said_of(parts, kind)}), and of the {there:g} of the cluster others "
                f"use {there - free:g} now; wait for them (`ray status` says who), or lower learners or rollouts"
            )


def _sides(nodes: Sequence[Node]) -> tuple[list[Mapping[str, float]], list[Mapping[str, float]]]:
    return [one.free for one in nodes], [one.total for one in nodes]


def said_of(parts: Sequence[Part], kind: str) -> str:
    """Say what parts ask for.

    Example:
        >>> said_of(parts_of(Scale(learners=2)), "CPU")
        '2 for learners and 1 for engines'
    """
    each = [(part.what, part.count, part.cpus if kind == "CPU" else part.gpus) for part in parts]
    return " and ".join(f"{n} x {size} for {what}" if size > 1 else f"{n} for {what}" for what, n, size in each)


def _cpus(parts: Sequence[Part]) -> int:
    return sum(part.count * part.cpus for part in parts)


def _gpus(parts: Sequence[Part]) -> int:
    return sum(part.count * part.gpus for part in parts)
