"""How a policy is trained beside the method, and what lives from step to step of such a training."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch

from workbench.credit import Schedule
from workbench.evidence import Evidence
from workbench.policy.base import Policy
from workbench.recipes import Recipe
from workbench.seeds import seed_for
from workbench.train.lora import Lora, add_lora, check_lora
from workbench.train.optim import adamw
from workbench.train.ranks import ALONE, Ranks
from workbench.train.reference import reference_of
from workbench.train.student import Student, Trunk, ValueHead, head_for
from workbench.train.trees import Pack

NO_DROPOUT = (
    "expected dropout 0: here the learner must be the policy that sampled, or its ratios begin elsewhere than at 1 "
    "(supervised training, `workbench.train.sft`, takes it)"
)


@dataclass(frozen=True)
class Plan:
    """How to train, beside the method.

    Args:
        steps: batches of rollouts.
        groups, size: tasks of a step, rollouts of each.
        rate: learning rate, a number or a schedule of the step.
        epochs: updates a batch; from the second on the policy has moved, and the ratio to the sampling log-probs says
            how far.
        micro_tokens: tokens of one forward and backward pass; fewer need less memory, the gradient is the same.
        pack: "tree" puts what trajectories share through the model once, "rows" pads them side by side; "auto" is trees
            where the model takes them (`workbench.train.trees`). The gradient is the same up to rounding.
        clip: largest norm of the gradient, of the policy's and of the value head's own weights apart; 0 is no limit.
        temperature, max_new_tokens: of the sampling; the learner's log-probs are at this temperature, too.
        seed: of tasks, samples and adapters.
        lora: train adapters and freeze the rest; None trains all that requires a gradient. Without dropout: the learner
            must be the policy that sampled.
        betas, weight_decay: of AdamW.
        value_trunk: where a recipe reads values: "shared": the value loss also teaches the model; "detached": its head
            reads the last hidden state as it is.
        value_rate: learning rate of the value head, as a multiple of `rate`.
        autocast: "bfloat16" computes matrix products of the learner in it, weights stay what they are; "" does not. The
            engine samples without: ratios before the update are then 1 up to rounding of that dtype only.
        checkpointing: layers forget what they computed and compute it again in the backward pass: less memory, about a
            third more time, the same gradient.
        refills: where a recipe wants dropped groups replaced, how often a step may sample again.
        save_every: steps between checkpoints; 0 is only at the end.
    """

    steps: int = 100
    groups: int = 8
    size: int = 8
    rate: float | Schedule = 3e-4
    epochs: int = 1
    micro_tokens: int = 2048
    pack: Pack = "auto"
    clip: float = 1.0
    temperature: float = 1.0
    max_new_tokens: int = 32
    seed: int = 0
    lora: Lora | None = None
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    value_trunk: Trunk = "shared"
    value_rate: float = 1.0
    autocast: str = ""
    checkpointing: bool = False
    refills: int = 4
    save_every: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "groups", "size", "epochs", "micro_tokens", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"Plan.{name}: expected at least 1, got {getattr(self, name)!r}")
        if self.pack not in get_args(Pack):
            raise ValueError(f"Plan.pack: expected one of {get_args(Pack)}, got {self.pack!r}")
        if self.value_trunk not in get_args(Trunk):
            raise ValueError(f"Plan.value_trunk: expected one of {get_args(Trunk)}, got {self.value_trunk!r}")
        if self.autocast not in ("", "bfloat16"):  # in float16 small gradients vanish unless the loss is scaled
            raise ValueError(f"Plan.autocast: expected 'bfloat16' or '', got {self.autocast!r}")
        for name in ("refills", "clip", "value_rate", "weight_decay"):
            value, most = getattr(self, name), math.inf if name == "clip" else sys.float_info.max
            if not 0 <= value <= most:  # a negative norm would turn the gradient around; an infinite one is no limit
                raise ValueError(f"Plan.{name}: expected 0 or more, got {value!r}")
        check_rate(self.rate, self.steps)
        if self.lora is not None and self.lora.dropout != 0:
            raise ValueError(f"Plan.lora: {NO_DROPOUT}, got dropout={self.lora.dropout!r}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"Plan.temperature: expected > 0 (at 0 nothing is sampled), got {self.temperature!r}")

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self.rate(step) if isinstance(self.rate, Schedule) else float(self.rate)


def check_rate(rate: float | Schedule, steps: int) -> None:
    """Refuse a learning rate that is below 0 or not finite at any step of a run.

    Raises:
        ValueError: it is; names the first such step of a schedule.

    Example:
        >>> check_rate(Schedule(1e-3, 0.0, 2), steps=10)
    """
    if not isinstance(rate, Schedule):
        if not 0 <= rate < math.inf:
            raise ValueError(f"Plan.rate: expected 0 or more, got {rate!r}")
        return
    bad = next((step for step in range(steps) if not 0 <= rate(step) < math.inf), None)
    if bad is not None:
        raise ValueError(f"Plan.rate: expected 0 or more at every step, got {rate(bad)!r} at step {bad} of {rate!r}")


@dataclass(frozen=True)
class Learner:
    """What lives from step to step: weights and the optimiser's state change, nothing else does.

    Args:
        policy: who plays; its engine samples with `model`.
        model: who learns: of transformers, or of peft with adapters.
        optimiser: of what is trainable.
        reference: whom a KL term holds on to; None where no term asks.
        head: guesses returns from the model's last hidden state; None where nothing reads values.
        autocast: dtype of the learner's matrix products; None for that of the weights.
        ranks: the processes that learn together.
    """

    policy: Policy
    model: Any
    optimiser: torch.optim.Optimizer
    reference: Policy | None = None
    head: ValueHead | None = None
    autocast: torch.dtype | None = None
    ranks: Ranks = ALONE

    @property
    def student(self) -> Any:
        """What a step differentiates: the model, with its value head and its precision where it has them."""
        plain = self.head is None and self.autocast is None
        return self.model if plain else Student(self.model, self.head, self.autocast)

    @property
    def dtype(self) -> torch.dtype:
        """The coarsest dtype of a forward pass."""
        return self.autocast or next(self.model.parameters()).dtype


def start(policy: Policy, recipe: Recipe, plan: Plan, evidence: Sequence[Evidence] = ()) -> Learner:
    """Return the learner of a run before its first step: adapters added, reference kept, an empty optimiser.

    Raises:
        TypeError: the policy has no model in this process.
        NotImplementedError: the objective asks the model for what this loop cannot give.
    """
    check_outputs(recipe)
    model = made_ready(policy, plan)
    head = head_for(model, plan.value_trunk) if guesses_values(recipe, evidence) else None
    optimiser = adamw(model, plan.betas, plan.weight_decay, head, plan.value_rate)
    reference = reference_of(policy, model) if holds_on(recipe, evidence) else None
    return Learner(policy, model, optimiser, reference, head, getattr(torch, plan.autocast) if plan.autocast else None)


def check_outputs(recipe: Recipe) -> None:
    """Refuse an objective that asks the model for what this loop cannot give.

    Raises:
        NotImplementedError: it does; says for what.
    """
    if lacking := set(recipe.objective.outputs) - {"entropy", "value"}:
        raise NotImplementedError(f"{recipe.name}: no model here gives {sorted(lacking)} per token")


def holds_on(recipe: Recipe, evidence: Sequence[Evidence] = ()) -> bool:
    """Does a recipe hold on to the policy as it was, by a KL that nothing given provides?"""
    return "logprob_ref" in recipe.needs and not any("logprob_ref" in one.provides for one in evidence)


def guesses_values(recipe: Recipe, evidence: Sequence[Evidence] = ()) -> bool:
    """Does a recipe train a value head, or read values that nothing given provides?"""
    provided = {name for one in evidence for name in one.provides}
    return "value" in recipe.objective.outputs or bool({"value", "turn_value"} & set(recipe.needs) - provided)


def made_ready(policy: Policy, plan: Plan) -> Any:
    """Return the model of a policy as the plan trains it: adapters added, no dropout.

    Raises:
        TypeError: the policy has no model in this process.
    """
    engine: Any = policy.engine
    if not isinstance(getattr(engine, "model", None), torch.nn.Module):
        raise TypeError(f"{policy.name}: needs an engine with a model in this process, got {type(engine).__name__}")
    if plan.lora is not None and hasattr(engine.model, "disable_adapter"):
        check_lora(engine.model, plan.lora)
    elif plan.lora is not None:
        engine.model = add_lora(engine.model, plan.lora, seed_for("lora", plan.seed))
        engine.load(None)
    model = engine.model
    model.eval()  # dropout would make the learner another policy than the one that sampled
    if plan.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model
