"""A learner shared out over processes: FSDP2 on a mesh of all ranks, whole weights, distributed checkpoints.

Every function here is a meeting: all ranks call it, in the same order, or all of them wait. What is summed over ranks
is a sum, never a mean: the loss of a part carries the denominators of the whole batch already.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from workbench.batch import Batch
from workbench.train.parts import Part
from workbench.train.plan import Learner, Plan
from workbench.train.ranks import Ranks, whole
from workbench.train.student import ValueHead
from workbench.train.values import values_of

Found = TypeVar("Found")


def dealt(sizes: Sequence[int], hands: int) -> list[list[int]]:
    """Deal items to hands, largest first and back and forth, so that hands and the k-th items of hands are alike.

    Passes over the k-th items happen together, so their time is that of the largest.

    Example:
        >>> dealt([5, 9, 1, 7], 2)
        [[1, 2], [3, 0]]
    """
    order = sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))
    out: list[list[int]] = [[] for _ in range(hands)]
    for start in range(0, len(order), hands):
        row = order[start : start + hands]
        turned = (start // hands) % 2 == 1
        for hand, item in zip(reversed(range(hands)) if turned else range(hands), row, strict=False):
            out[hand].append(item)
    return out


class Together(Ranks):
    """All ranks of the process group; see `workbench.train.ranks`.

    Args:
        device: of tensors that ranks exchange.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self.size, self.rank, self.device = dist.get_world_size(), dist.get_rank(), device

    def share(self, parts: Sequence[Part]) -> list[Part]:
        """Return the parts of this rank, largest first."""
        return [parts[i] for i in self._dealt(parts)[self.rank]]

    def keep_pace(self, parts: Sequence[Part], idle: Callable[[Part], object]) -> None:
        """Pass over the smallest part, adding nothing, as often as others have more parts than this rank."""
        shares = self._dealt(parts)
        for _ in range(max(map(len, shares)) - len(shares[self.rank])):
            idle(min(parts, key=_size))

    def _dealt(self, parts: Sequence[Part]) -> list[list[int]]:
        return dealt([_size(part) for part in parts], self.size)

    def add_up(self, weights: Sequence[Tensor]) -> None:
        """Sum the gradients of weights that every rank holds whole, such as a value head's, in place.

        All ranks end with the same bits, so what they step with stays the same in all.
        """
        for p in [p for p in weights if not hasattr(p, "to_local")]:
            if self.any(p.grad is not None):
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
                dist.all_reduce(p.grad)

    def gather(self, found: list[Found]) -> list[Found]:
        """Return what all ranks found, in the order of ranks."""
        lists: list[Any] = [None] * self.size
        dist.all_gather_object(lists, found)
        return [one for each in lists for one in each]

    def any(self, here: bool) -> bool:
        """Return whether it holds on any rank."""
        flag = torch.tensor([int(here)], device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag.item())

    def agree(self, problem: str | None) -> None:
        """Raise on all ranks what the first rank with a problem says."""
        problems = self.gather([problem])
        super().agree(next((one for one in problems if one is not None), None))


def _size(part: Part) -> int:
    return part.ids.numel()


# ------------------------------------------------------------------------------------------------- weights


def shard(model: Any, device: str, dtype: torch.dtype | None = None) -> None:
    """Share a model's weights out over all ranks, in place: layer by layer, what is left with the model itself.

    Args:
        model: of transformers or peft, the same on every rank.
        device: "cpu" or "cuda".
        dtype: layers compute in it; gradients are summed in float32. None computes in that of the weights.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device, (dist.get_world_size(),))
    precision = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32 if dtype else None)
    kinds = set(getattr(model, "_no_split_modules", None) or ())
    for layer in [one for one in model.modules() if type(one).__name__ in kinds]:
        fully_shard(layer, mesh=mesh, mp_policy=precision)
    fully_shard(model, mesh=mesh, mp_policy=precision)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # a sum: by default the mean over ranks is taken
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other


def whole_weights(model: Any) -> dict[str, Tensor]:
    """Return all weights on rank 0, by the names of the model without adapters, these merged in; elsewhere nothing.

        W' = W + scaling B A

    Args:
        model: shared out; tied weights come once.
    """
    first = dist.get_rank() == 0
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            full = whole(tensor.detach()).cpu()
            found |= {name: full} if first else {}
    return without_adapters(found, scaling_of(model))


def scaling_of(model: Any) -> dict[str, float]:
    """Return the scaling of the active adapter by name of the layer it sits on; nothing without adapters."""
    layers = {name: one for name, one in model.named_modules() if hasattr(one, "lora_A") and len(one.lora_A)}
    return {f"{name}/{key}": one.scaling[key] for name, one in layers.items() for key in one.active_adapters}


def without_adapters(weights: Mapping[str, Tensor], scaling: Mapping[str, float]) -> dict[str, Tensor]:
    """Merge adapters into the weights they sit on, and name these as the model without adapters does.

    Args:
        weights: by name, those of adapters among them.
        scaling: of each "layer/adapter".

    Example:
        >>> w = {"base_model.model.up.base_layer.weight": torch.zeros(1, 1)}
        >>> w |= {f"base_model.model.up.lora_{x}.default.weight": torch.ones(1, 1) for x in "AB"}
        >>> without_adapters(w, {"base_model.model.up/default": 2.0})
        {'up.weight': tensor([[2.]])}
    """
    merged = dict(weights)
    for place, factor in scaling.items() if weights else ():
        layer, adapter = place.rsplit("/", 1)
        a, b = (weights[f"{layer}.lora_{side}.{adapter}.weight"] for side in "AB")
        name = f"{layer}.base_layer.weight"
        merged[name] = (merged[name].float() + factor * (b.float() @ a.float())).to(merged[name].dtype)
    plain = {name: w for name, w in merged.items() if ".lora_" not in name}
    return {name.removeprefix("base_model.model.").replace(".base_layer.", "."): w for name, w in plain.items()}


def guessed(learner: Learner, batch: Batch, plan: Plan) -> Tensor:
    """Return the values [T] of a learner's head, on every rank all of them; see `workbench.train.values.values_of`."""
    try:
        return values_of(learner, batch, plan)
    finally:
        learner.model.reshard()  # no backward pass does it here; whole weights are not those that learn


# --------------------------------------------------------------------------------------------- checkpoints


def learned_by(model: Any, head: ValueHead | None = None) -> dict[str, torch.nn.Parameter]:
    """Return the weights that learn, by name: those of the model that require a gradient, and the value head's."""
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return learned | {f"value_head.{n}": p for n, p in (head.named_parameters() if head is not None else ())}


def tensors_of(learner: Learner) -> dict[str, Tensor]:
    """Return what a step changes, by name: weights that learn, and the optimiser's state of each."""
    learned, state = learned_by(learner.model, learner.head), learner.optimiser.state
    weights = {f"weights.{name}": p.detach() for name, p in learned.items()}
    moments = {f"optimiser.{n}.{k}": v for n, p in learned.items() for k, v in state.get(p, {}).items()}
    return {**weights, **moments}


def save(folder: Path, learner: Learner) -> None:
    """Write what a step changes; each rank writes its shards, the first what all of them hold whole."""
    import torch.distributed.checkpoint as dcp

    dcp.save(tensors_of(learner), checkpoint_id=str(folder))


def load(folder: Path, learner: Learner) -> None:
    """Read what any number of ranks wrote, each rank what it holds."""
    import torch.distributed.checkpoint as dcp

    written = dcp.FileSystemReader(str(folder)).read_metadata().state_dict_metadata
    there = learner.optimiser.defaults["fused"]  # then AdamW counts its steps where the weights are
    for name, p in learned_by(learner.model, learner.head).items():
        if f"optimiser.{name}.step" in written:
            moments = {key: torch.zeros_like(p.detach()) for key in ("exp_avg", "exp_avg_sq")}
            step = torch.zeros((), dtype=torch.float32, device=p.device if there else "cpu")
            learner.optimiser.state[p] = {"step": step, **moments}
    dcp.load(tensors_of(learner), checkpoint_id=str(folder))


def load_weights(folder: Path, model: Any, head: ValueHead | None = None) -> None:
    """Read the weights that learn into a whole model, and its value head, in this process alone."""
    import torch.distributed.checkpoint as dcp

    weights = {f"weights.{name}": p.detach() for name, p in learned_by(model, head).items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # as it is meant to be here
        dcp.load(weights, checkpoint_id=str(folder), no_dist=True)
