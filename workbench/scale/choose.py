"""What a run may ask for on this machine: `check` says what is missing, with numbers; `auto` chooses, and says why.

Both look at configurations and at the machine; neither loads weights, Ray or vLLM, and both answer within seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from workbench.runs import Scale
from workbench.scale import needs
from workbench.scale.footprint import gib, learner_memory
from workbench.scale.machine import Machine, look, said_of
from workbench.scale.models import UnknownModel, shape_of
from workbench.scale.shapes import Shape, parameters
from workbench.train.plan import Plan

if TYPE_CHECKING:
    from workbench.envs.base import Environment
    from workbench.policy.base import Policy
    from workbench.recipes import Recipe

DEFAULT_TURNS, ASSUMED_PROMPT = 4, 512
"""Of an episode whose world does not say; of tokens, where nobody does."""
LARGE = 3e8
"""Parameters from which a run on processors takes hours: SmolLM2's 1.3e8 sample some tens of tokens a second there."""


class CannotScale(ValueError):
    """A request that cannot be met here; `problems` has a sentence each."""

    def __init__(self, scale: Scale, problems: tuple[str, ...]):
        self.scale, self.problems = scale, problems
        super().__init__(f"{scale} cannot run: " + "; ".join(problems))


@dataclass(frozen=True)
class Choice:
    """What was chosen, and a sentence for each reason."""

    scale: Scale
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join((str(self.scale), *(f"  {reason}" for reason in self.reasons)))


def resolve(
    scale: Scale | Literal["auto"] | None,
    recipe: Recipe | None,
    env: Environment,
    policy: str | Policy,
    plan: Plan,
    *,
    dtype: str = "float32",
    machine: Machine | None = None,
) -> Scale:
    """Return where a run is to run, or say why it cannot, before anything is started.

    Args:
        scale: as asked; None is one process here, "auto" is chosen and printed with its reasons.
        recipe, env, policy, plan: of the run; a recipe whose objective holds on to a reference needs a second copy.
        dtype: of the weights, where the policy is given by name.
        machine: what there is; None looks at this one.

    Raises:
        CannotScale: it cannot run; says what is missing and what to do.
        ValueError: `scale` is something else.
    """
    if scale == "auto":
        choice = auto(policy, plan, env, recipe, dtype=dtype, machine=machine)
        print(choice)
        return choice.scale
    if scale is None:
        return Scale()
    if not isinstance(scale, Scale):
        raise ValueError(f"scale: expected a Scale, 'auto' or None, got {scale!r}")
    if scale != Scale():  # a plain local run is tried, not asked
        check(scale, recipe, env, policy, plan, dtype=dtype, machine=machine)
    return scale


def check(
    scale: Scale,
    recipe: Recipe | None,
    env: Environment | None,
    policy: str | Policy,
    plan: Plan,
    *,
    dtype: str = "float32",
    machine: Machine | None = None,
    context: int | None = None,
) -> None:
    """Refuse what cannot run here, all reasons at once, in a few seconds.

    Args:
        scale, recipe, env, policy, plan: of the run.
        dtype: of the weights, where the policy is given by name.
        machine: what there is; None looks at this one. Give a cluster's once it is joined (`machine.of_ray`).
        context: tokens of the longest sequence; None assumes it from plan and world, see `assumed_context`.

    Raises:
        CannotScale: names everything that is missing, with numbers and what to do.
    """
    machine = machine or look()
    try:
        shape, unknown = shape_of(policy), ()
    except UnknownModel as error:
        shape, unknown = None, (str(error),)
    ask = request(scale, recipe, env, policy, plan, shape, machine, dtype, context)
    if problems := (*unknown, *(problem for rule in needs.RULES for problem in rule(ask))):
        raise CannotScale(scale, problems)


def request(
    scale: Scale,
    recipe: Recipe | None,
    env: Environment | None,
    policy: str | Policy,
    plan: Plan,
    shape: Shape | None,
    machine: Machine,
    dtype: str = "float32",
    context: int | None = None,
) -> needs.Request:
    """Return a request with what follows from its parts: context, bytes of a weight, reference."""
    reads, sampled = assumed_context(env, plan)
    context = context or min(reads, shape.positions or reads if shape else reads)
    bytes_ = _weight_bytes(policy, dtype)
    held = recipe is not None and "logprob_ref" in recipe.needs
    return needs.Request(scale, plan, shape, machine, context, min(1.0, sampled / context), bytes_, held)


def assumed_context(env: Environment | None, plan: Plan) -> tuple[int, int]:
    """Return (tokens of the longest sequence, those of them that are sampled), assumed from plan and world.

    512 for the prompt, and for each turn the world allows `max_new_tokens` sampled and as many that come back.
    """
    turns = getattr(env, "max_turns", None) or DEFAULT_TURNS
    sampled = turns * plan.max_new_tokens
    return ASSUMED_PROMPT + 2 * sampled, sampled


def _weight_bytes(policy: str | Policy, dtype: str) -> int:
    model = None if isinstance(policy, str) else getattr(policy.engine, "model", None)
    if model is not None:
        return next(model.parameters()).element_size()
    return 2 if dtype in ("bfloat16", "float16") else 4


# ------------------------------------------------------------------------------------------------------- choosing


def auto(
    policy: str | Policy,
    plan: Plan | None = None,
    env: Environment | None = None,
    recipe: Recipe | None = None,
    machine: Machine | None = None,
    *,
    dtype: str = "float32",
) -> Choice:
    """Choose where a run is to run, from what this machine and this model are.

    It never chooses a step of delay (`asynchronous`): that changes what is learned, and is for the reader to decide.

    Args:
        policy, plan, env, recipe: of the run.
        machine: what there is; None looks at this one.
        dtype: of the weights, where the policy is given by name.

    Raises:
        CannotScale: nothing here can run it; says what is missing.
    """
    plan, machine = plan or Plan(), machine or look()
    try:
        shape = shape_of(policy)
    except UnknownModel as error:
        raise CannotScale(Scale(), (str(error),)) from error
    ask = request(Scale("cuda"), recipe, env, policy, plan, shape, machine, dtype)
    scale, reasons = _chosen(ask)
    check(scale, recipe, env, policy, plan, dtype=dtype, machine=machine)
    need = learner_memory(shape, needs.training(ask._replace(scale=scale)))
    model = f"{shape.name} has {parameters(shape) / 1e9:.3g} billion parameters; a learner needs {need}"
    context = f"the longest sequence is taken to have {ask.context} tokens ({ask.scored:.0%} of them sampled)"
    return Choice(scale, (f"saw {machine}", model, context, *reasons))


def _chosen(ask: needs.Request) -> tuple[Scale, list[str]]:
    """Return a scale and why it was chosen."""
    machine, shape = ask.machine, ask.shape
    assert shape is not None
    if not machine.gpus or "+cpu" in machine.packages.get("torch", ""):
        return Scale(), list(_why_cpu(ask))
    if machine.gpus and parameters(shape) < 1e7:
        return Scale(), ["one process on a processor: a model this small is as fast there, and exact to the bit"]
    missing = [name for name in ("ray", "vllm") if name not in machine.packages]
    if len(machine.gpus) == 1 or missing:
        why = ["one process on one GPU plays and learns, with the Hugging Face engine"]
        if len(machine.gpus) > 1:
            idle = f"{len(machine.gpus) - 1} GPUs stay unused"
            why.append(f"{idle}: {' and '.join(missing)} not installed ({needs.INSTALL['ray']})")
        return Scale("cuda"), why
    return _split(ask)


def _why_cpu(ask: needs.Request) -> Iterator[str]:
    shape, machine = ask.shape, ask.machine
    assert shape is not None
    why = f"{said_of(machine.gpus)}" + (", but torch is a build without CUDA" if machine.gpus else "")
    yield f"one process on processors plays and learns: {why}"
    if parameters(shape) > LARGE:
        yield "a model of this size is slow on processors: expect hours where a GPU takes minutes"


def _split(ask: needs.Request) -> tuple[Scale, list[str]]:
    """Divide the GPUs of one machine between learners and engines by the planner's prediction."""
    from workbench.scale.planner import best, work_of
    from workbench.scale.rates import cluster_of

    shape, machine = ask.shape, ask.machine
    assert shape is not None
    cluster = cluster_of(machine)
    found = best(shape, work_of(ask), cluster, needs.training(ask))
    if found is None:
        need = learner_memory(shape, needs.training(ask))
        alone = f"on one GPU a learner needs {need}, of {gib(machine.gpu_memory)} GiB"
        raise CannotScale(ask.scale, (f"no split of {said_of(machine.gpus)} holds {shape.name}: {alone}",))
    s = found.scale
    return s, [
        f"{s.learners} learners and {s.rollouts} vLLM engines of {s.tensor_parallel}: of all splits of "
        f"{len(machine.gpus)} GPUs the planner expects the shortest step of this one, {found.step_s:.1f} s (rates are "
        f"{cluster.said})"
    ]
