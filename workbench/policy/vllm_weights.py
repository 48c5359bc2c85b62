"""New weights for a vLLM engine, in place: checked before, complete after."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from workbench.policy.vllm_folder import Folder, weights_in

HEAD = "lm_head.weight"


def take_weights(engine: Any, weights: Mapping[str, torch.Tensor] | Path) -> None:
    """Replace the weights of an idle engine in place, and forget what was computed with the old ones.

    Args:
        engine: as `build` returned it.
        weights: a state dict in the names of the folder it started from, or a folder like it.
    """
    if isinstance(weights, Path):
        reload_from_folder(engine, weights)
    elif engine.vllm_config.parallel_config.world_size == 1:
        engine.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights.items())})
    else:  # the workers are processes of their own
        with tempfile.TemporaryDirectory(dir=_memory_folder()) as folder:
            from safetensors.torch import save_file

            whole = {name: value.detach().contiguous() for name, value in weights.items()}
            save_file(whole, Path(folder) / "model.safetensors", metadata={"format": "pt"})
            reload_from_folder(engine, Path(folder))
    refresh_heads(engine)
    forget_prefixes(engine)


def reload_from_folder(engine: Any, folder: Path) -> None:
    """Let every worker read the weights of a folder."""
    engine.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})


def refresh_heads(engine: Any) -> None:
    """Pack the output layer anew on every worker.

    On a CPU, vLLM computes with packed copies of the weights. A reload renews the copy of each layer that is read; a
    head tied to the embeddings is not read, and goes on computing with the old ones without a word.
    """
    engine.collective_rpc(_refresh_heads_of_worker)


def _refresh_heads_of_worker(worker: Any) -> None:
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    for module in worker.get_model().modules():
        if isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear"):
            dispatch_cpu_unquantized_gemm(module, remove_weight=False)


def forget_prefixes(engine: Any) -> None:
    """Drop cached keys and values.

    Raises:
        RuntimeError: vLLM did not, because requests are under way.
    """
    if not engine.reset_prefix_cache():
        raise RuntimeError(
            "vLLM kept its cached prefixes after new weights, because requests were under way; this is a fault of the "
            "workbench: an engine must be idle when it loads"
        )


def check_weights(own: Folder, given: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse weights that are not those of the model: vLLM would only log what is missing.

    Args:
        own: the folder the engine was started from.
        given: shape by name; the head of a tied model may be there or not.
    """
    skip = {HEAD} if own.tied else set()
    missing = [name for name in own.weights if name not in given and name not in skip]
    strange = [name for name in given if name not in own.weights and name not in skip]
    if missing or strange:
        raise ValueError(
            f"expected the whole state dict of {own.path.name}: {len(missing)} missing (first {missing[:3]}), "
            f"{len(strange)} unknown (first {strange[:3]}); merge adapters before loading"
        )
    for name, shape in own.weights.items():
        if name in given and tuple(given[name]) != shape:
            raise ValueError(f"weights[{name!r}]: expected shape {shape}, got {tuple(given[name])}")


def in_names_of(own: Folder, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a checked state dict without the second name of a tied head.

    Raises:
        ValueError: it is not this model's, or its head is not the embeddings although it is tied to them.
    """
    check_weights(own, {name: tuple(value.shape) for name, value in weights.items()})
    if own.tied and HEAD in weights:
        name = next((n for n in weights if n.endswith("embed_tokens.weight")), HEAD)
        if not torch.equal(weights[HEAD], weights[name]):
            raise ValueError(
                f"{HEAD} and {name} differ, but the config ties them: the engine can only take one; adapt neither of "
                "the two, or untie them in the folder the engine starts from"
            )
        weights = {name: value for name, value in weights.items() if name != HEAD}
    return dict(weights)


def check_folder(own: Folder, folder: Path) -> Path:
    """Refuse a folder whose weights are not those of the model; return it."""
    check_weights(own, weights_in(folder))
    return folder


def _memory_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
