"""An engine on vLLM: continuous batching, cached prefixes, new weights in place.

What a caller has to know (a learner that feeds it, an actor that holds it):

* `VLLMEngine(path)` starts in this process, in a thread of its own, and blocks until it is up. `path` is a Hugging Face
  folder with weights; it is read once. A process that has a `torch.distributed` group cannot hold an engine: put it
  in an actor of its own.
* `generate` may be awaited by many episodes at once, from several event loops; their requests run as one batch.
  Nothing is gained by gathering them first. Cancelling the awaiting task ends its requests.
* `load(weights)` takes a whole state dict (as `model.state_dict()` names it, adapters merged; copied) or the path of a
  folder like the first one. It waits until what is under way has ended; what is asked meanwhile waits for it. So all
  tokens of a generation are of one version. It ends with the cached prefixes forgotten, and returns the new version.
* `score(..., temperature=t)` with t != 1 asks the sampler itself, through cached prefixes: `agreement` relies on it.
* `positions` is `max_length`, or what the model can read where that is less.
* A seed decides a sample up to rounding, here as with `HFEngine`; the two draw different samples from the same seed.
  Each step also takes numbers from torch's global generator: in the same process, use generators of your own.
* `close()` frees the memory; so does the end of the last reference, or of the process.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from workbench.policy import vllm_core, vllm_weights
from workbench.policy.base import Generation, Scores, Settings
from workbench.policy.scoring import check_spans
from workbench.policy.vllm_folder import check_memory, read_folder
from workbench.policy.vllm_pump import Pump, Request
from workbench.policy.vllm_scoring import params, plan

__all__ = ["VLLMEngine"]

CPU_MEMORY_GB = 2.0
WHOLE_ROWS = 16
"""Distributions over the whole vocabulary that are asked for at once: vLLM hands them over as Python lists."""


class VLLMEngine:
    """Sample from and score with a model that vLLM serves, in this process.

    Args:
        path: a Hugging Face folder (config, safetensors); the tokenizer is not read.
        dtype: of weights, keys and values; "float32" agrees with a plain forward pass to 1e-4.
        max_length: most tokens of a sequence, those sampled included; the model's own limit counts where it is less.
        memory_gb: for keys and values, in 10^9 bytes: they are all kept there, those of cached prefixes too. None is 2
            on a CPU and what vLLM finds free on a GPU.
        tensor_parallel: devices each layer is split over.
        device: "cpu" or "cuda"; the installed vLLM must be the build for it.
        version: version of the weights it starts with.
        max_rows: most samples under way at once; more wait.

    Raises:
        FileNotFoundError: no model is there.
        ValueError: `memory_gb` does not hold one sequence; the message has the numbers.
        VLLMMissing: vLLM is not installed for this device; the message has the command.

    Example:
        >>> engine = VLLMEngine("runs/chain/model")                                       # doctest: +SKIP
        >>> await engine.generate([[1, 2, 3]], Settings(max_new_tokens=8), seeds=[0])     # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | Path,
        *,
        dtype: str | torch.dtype = "float32",
        max_length: int = 2048,
        memory_gb: float | None = None,
        tensor_parallel: int = 1,
        device: str = "cpu",
        version: int = 0,
        max_rows: int = 128,
    ):
        self.folder = read_folder(path)
        self.dtype = dtype if isinstance(dtype, torch.dtype) else _dtype(dtype)
        self.positions = min(max_length, self.folder.positions or max_length)
        gb = CPU_MEMORY_GB if memory_gb is None and device == "cpu" else memory_gb
        memory = None if gb is None else int(gb * 1e9)
        check_memory(self.folder, self.dtype, self.positions, memory, vllm_core.BLOCK)
        vllm_core.require_vllm(device)
        _check_process()
        start = vllm_core.Start(self.folder, self.dtype, self.positions, memory, max_rows, tensor_parallel)
        self._start = uuid.uuid4().hex
        self._pump = Pump(lambda: vllm_core.build(start), vllm_core.shut_down, version)
        self._finalizer = weakref.finalize(self, Pump.close, self._pump)

    @property
    def version(self) -> int:
        """Version of the weights; `load` raises it."""
        return self._pump.version

    @property
    def fingerprint(self) -> str:
        """What tells these weights from all others: of this start and version alone, for nobody reads the weights."""
        return f"{self.folder.path.name}-{self._start}@{self.version}"

    def close(self) -> None:
        """Stop, and free the memory. What is under way ends with an error."""
        self._finalizer()

    # -- sampling ----------------------------------------------------------------------------------------

    async def generate(
        self, prompts: Sequence[Sequence[int]], settings: Settings, seeds: Sequence[int]
    ) -> list[Generation]:
        """Sample one continuation a prompt, in one batch with whatever else is under way.

        Args:
            prompts: token ids, at least one each.
            settings: temperature, nucleus, length, stop ids.
            seeds: one a prompt. Equal prompt and seed give an equal sample, whatever the batch, up to rounding: of 48
                samples of 32 tokens (SmolLM2, CPU) none was another in another batch in float32, 14 were in bfloat16.
                The numbers drawn are not those of `HFEngine`, and on a GPU not those of a CPU.

        Returns:
            one Generation a prompt, in order.
        """
        asked = self._requests(prompts, settings, seeds)
        outputs, version = await asyncio.wrap_future(self._pump.ask(asked))
        return [_generation(output, settings, version) for output in outputs]

    def sample(self, prompts: Sequence[Sequence[int]], settings: Settings, seeds: Sequence[int]) -> list[Generation]:
        """Do what `generate` does, without an event loop."""
        outputs, version = self._pump.ask(self._requests(prompts, settings, seeds)).result()
        return [_generation(output, settings, version) for output in outputs]

    def _requests(self, prompts: Sequence[Sequence[int]], settings: Settings, seeds: Sequence[int]) -> list[Request]:
        self._check_prompts(prompts, settings, seeds)
        return [
            (
                prompt,
                params(
                    temperature=settings.temperature,
                    top_p=settings.top_p,
                    max_tokens=max(settings.max_new_tokens, 1),
                    stop_token_ids=list(settings.stop_ids),
                    seed=fold(seed),
                    logprobs=0,
                ),
            )
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    # -- scoring -----------------------------------------------------------------------------------------

    def score(
        self,
        sequences: Sequence[Sequence[int]],
        spans: Sequence[tuple[int, int]],
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        entropy: bool = False,
    ) -> list[Scores]:
        """Score tokens [start, stop) of each sequence given all tokens before each.

        A long span at temperature 1 is read off one pass over its whole sequence. Else every token is asked for as the
        next one to be sampled behind what is before it, which cached prefixes make cheap; that is the very
        distribution a rollout samples from.

        Args:
            sequences: token ids.
            spans: [start, stop) a sequence, start >= 1 (the first token has nothing before it).
            temperature: > 0; the logits are divided by it.
            top_k: also return the k most likely tokens and their log-probs.
            entropy: also return the entropy, in nats. Both are slow here: the whole vocabulary is handed over, token by
                token.
        """
        check_spans(sequences, spans)
        if temperature <= 0:
            raise ValueError(f"expected a temperature > 0, got {temperature}: a point mass has no scores")
        self._check_sequences(sequences, spans)
        whole = bool(top_k or entropy)
        plans = [
            plan(ids, span, self._in_one_pass(ids, span, temperature, whole), temperature, whole)
            for ids, span in zip(sequences, spans, strict=True)
        ]
        found = self._ask_in_parts([request for one in plans for request in one.requests], WHOLE_ROWS * whole)
        return [
            one.read(list(itertools.islice(found, len(one.requests))), self.folder.vocabulary, top_k, entropy)
            for one in plans
        ]

    def _in_one_pass(self, ids: Sequence[int], span: tuple[int, int], temperature: float, whole: bool) -> bool:
        """Is one pass over the sequence, which reuses nothing, cheaper than half a block a token behind cached ones?"""
        start, stop = span
        long = (stop - start) * vllm_core.BLOCK > stop
        return long and temperature == 1 and not whole and stop < self.positions

    def _ask_in_parts(self, requests: list[Request], size: int) -> Iterator[Any]:
        """Yield the outputs of requests, `size` at once (0: all)."""
        for start in range(0, len(requests), size or max(len(requests), 1)):
            yield from self._pump.ask(requests[start : start + (size or len(requests))]).result()[0]

    # -- weights -----------------------------------------------------------------------------------------

    def load(self, weights: Mapping[str, torch.Tensor] | str | Path) -> int:
        """Take new weights in place; what was computed with the old ones is forgotten.

        Args:
            weights: a whole state dict (tied weights once or twice), or a Hugging Face folder like the first.

        Returns:
            the new version.

        Raises:
            ValueError: names or shapes are not those of this model; the old weights still hold.
            RuntimeError: vLLM failed on the way; the engine is closed, because nobody knows what it holds.
        """
        taken: Mapping[str, torch.Tensor] | Path
        if isinstance(weights, (str, Path)):
            taken = vllm_weights.check_folder(self.folder, Path(weights))
        elif isinstance(weights, Mapping):
            taken = vllm_weights.in_names_of(self.folder, weights)
        else:
            raise ValueError(f"expected a state dict or the path of a folder, got {type(weights).__name__}")
        pump = self._pump

        def take(engine: Any) -> int:
            vllm_weights.take_weights(engine, taken)
            pump.version += 1
            return pump.version

        try:
            return pump.alone(take)
        except Exception as error:
            self.close()
            raise RuntimeError(f"the engine did not take the new weights ({error}) and is closed") from error

    # -- checks ------------------------------------------------------------------------------------------

    def _check_prompts(self, prompts: Sequence[Sequence[int]], settings: Settings, seeds: Sequence[int]) -> None:
        if len(prompts) != len(seeds):
            raise ValueError(f"expected one seed a prompt: {len(prompts)} prompts, {len(seeds)} seeds")
        for n, prompt in enumerate(prompts):
            if not len(prompt):
                raise ValueError(f"prompt {n} is empty; begin it with at least one token")
            if len(prompt) + settings.max_new_tokens > self.positions:
                raise ValueError(
                    f"prompt {n} has {len(prompt)} tokens; with max_new_tokens={settings.max_new_tokens} that is more "
                    f"than the {self.positions} positions of this engine; shorten the context, lower "
                    f"max_new_tokens, or raise max_length (the model reads {self.folder.positions})"
                )
            self._check_ids(f"prompt {n}", prompt)

    def _check_sequences(self, sequences: Sequence[Sequence[int]], spans: Sequence[tuple[int, int]]) -> None:
        for n, (ids, (_, stop)) in enumerate(zip(sequences, spans, strict=True)):
            if stop > self.positions:
                raise ValueError(
                    f"sequence {n}: token {stop - 1} is to be scored, but this engine reads {self.positions} tokens; "
                    f"raise max_length (the model reads {self.folder.positions})"
                )
            self._check_ids(f"sequence {n}", ids)

    def _check_ids(self, where: str, ids: Sequence[int]) -> None:
        if not 0 <= min(ids) <= max(ids) < self.folder.vocabulary:
            raise ValueError(
                f"{where}: expected token ids from 0 to {self.folder.vocabulary - 1}, got {min(ids)} to {max(ids)}; "
                "was it made with another tokenizer?"
            )


def fold(seed: int) -> int:
    """Return a seed vLLM takes (64 bits, signed); those of `seed_for` stay as they are.

    Example:
        >>> fold(2**63 - 1) == 2**63 - 1, fold(2**64)
        (True, 2)
    """
    if not 0 <= seed < 2**128:
        raise ValueError(f"expected a seed in [0, 2**128), got {seed}")
    return seed if seed < 2**63 else seed % (2**63 - 1)


def _generation(output: Any, settings: Settings, version: int) -> Generation:
    made = output.outputs[0]
    if made.finish_reason not in ("stop", "length"):
        raise RuntimeError(f"vLLM ended a generation with {made.finish_reason!r}; expected 'stop' or 'length'")
    if settings.max_new_tokens == 0:
        return Generation((), (), "length", version)
    ids = tuple(made.token_ids)
    if settings.temperature == 0:
        logprobs: Iterable[float] = [0.0] * len(ids)  # a point mass; vLLM tells the log-prob at temperature 1
    else:
        logprobs = [min(step[token].logprob, 0.0) for step, token in zip(made.logprobs, ids, strict=True)]
    return Generation(ids, tuple(logprobs), made.finish_reason, version)


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"expected a torch dtype such as 'float32' or 'bfloat16', got {name!r}")
    return found


def _check_process() -> None:
    """vLLM makes a process group of its own and would take one that is there for it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        raise RuntimeError(
            f"this process is in a torch.distributed group of {torch.distributed.get_world_size()} (a learner's, or "
            "another vLLM engine's); close the other engine first, or start this one in a process of its own"
        )
