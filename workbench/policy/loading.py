"""`load("smollm2")`: a policy by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from workbench.envs.base import Tool
from workbench.policy.base import Engine, Policy, Renderer
from workbench.policy.renderers import ANSWER, SEARCH, ChatTemplate, PlainText, Shot
from workbench.policy.scripted import Script, ScriptedEngine


def load(
    name: str | Path,
    *,
    renderer: str | Renderer | None = None,
    shots: Sequence[Shot] = (),
    tools: Sequence[Tool] = (SEARCH, ANSWER),
    device: str = "cpu",
    dtype: str | torch.dtype = "float32",
    engine: Literal["hf", "vllm"] = "hf",
    script: Script | Sequence[Sequence[int]] | None = None,
    reuse: bool = True,
    cache_bytes: int | None = None,
    max_length: int = 2048,
) -> Policy:
    """Load a policy.

    Args:
        name: "smollm2"; "tiny" or "tiny@<world>"; "scripted" (with `script`); any Hugging Face id or folder.
        renderer: "plain" (the default: small and base models need it), "chat" (the model's own template), or one made
            already.
        shots: worked examples for the prompt, as the environment gives them (`env.shots`). A tiny policy gets none: it
            has never seen any, and they would only confuse it.
        tools: what the agent may call (`env.tools`).
        device: "cpu", "cuda" ...
        dtype: of the weights; float32 is exact, "bfloat16" is half the memory and faster where the machine has it.
        engine: "hf" samples in this process and can be trained; "vllm" samples faster where many rollouts are played at
            once (see `VLLMEngine`; it takes seconds to start, and `policy.engine.close()` frees its memory).
        script: what a scripted engine says.
        reuse: keep keys and values of prefixes (see `HFEngine`; vLLM always does).
        cache_bytes: memory for them; None is 1 GiB, and what `VLLMEngine` says for vLLM.
        max_length: most tokens of a sequence, with vLLM alone: it makes room for them.

    Returns:
        Policy(name, engine, renderer).

    Example:
        >>> policy = load("smollm2", shots=env.shots, tools=env.tools)      # doctest: +SKIP
    """
    if engine not in ("hf", "vllm"):
        raise ValueError(f"expected engine 'hf' or 'vllm', got {engine!r}")
    if engine == "vllm":
        return _with_vllm(str(name), renderer, shots, tools, device, _dtype(dtype), cache_bytes, max_length)
    model, tokenizer = _parts(str(name), device, _dtype(dtype))
    made = _rendering(str(name), renderer, tokenizer, shots, tools, eos_ids(model))
    return Policy(str(name), _engine(model, script, reuse, cache_bytes or 1 << 30), made)


def _rendering(
    name: str,
    renderer: str | Renderer | None,
    tokenizer: Any,
    shots: Sequence[Shot],
    tools: Sequence[Tool],
    ends: Sequence[int],
) -> Renderer:
    """Return the renderer that was given, or the one that was named; a tiny policy is shown no examples."""
    how = renderer or "plain"
    shown = () if _is_tiny(name) else shots
    return make_renderer(how, tokenizer, shown, tools, ends) if isinstance(how, str) else how


def _with_vllm(
    name: str,
    renderer: str | Renderer | None,
    shots: Sequence[Shot],
    tools: Sequence[Tool],
    device: str,
    dtype: torch.dtype,
    cache_bytes: int | None,
    max_length: int,
) -> Policy:
    from workbench.policy import tiny_tokenizer
    from workbench.policy.vllm import VLLMEngine
    from workbench.policy.vllm_folder import ends_in, folder_of

    if name == "scripted":
        raise ValueError("a scripted policy has no model for vLLM to serve; leave engine='hf'")
    folder = folder_of(name)
    spoken = tiny_tokenizer.file_of(name.partition("@")[2])
    tokenizer = tiny_tokenizer.load(spoken) if _is_tiny(name) else _pretrained("AutoTokenizer", str(folder))
    made = _rendering(name, renderer, tokenizer, shots, tools, ends_in(folder))
    memory_gb = None if cache_bytes is None else cache_bytes / 1e9
    engine = VLLMEngine(folder, dtype=dtype, device=device, memory_gb=memory_gb, max_length=max_length)
    return Policy(name, engine, made)


def eos_ids(model: Any) -> tuple[int, ...]:
    """Return the tokens a model ends a turn with, as its `generation_config` lists them: none, one or several."""
    found = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return () if found is None else tuple(found) if isinstance(found, (list, tuple)) else (found,)


def make_renderer(
    kind: str, tokenizer: Any, shots: Sequence[Shot], tools: Sequence[Tool], ends: Sequence[int] = ()
) -> Renderer:
    """Make the "plain" or "chat" renderer of a tokenizer; `ends` are the model's own ends of a turn (chat only: a plain
    action ends with its line)."""
    if kind == "plain":
        return PlainText(tokenizer, shots, tools)
    if kind == "chat":
        return ChatTemplate(tokenizer, shots, tools, eos_ids=ends)
    raise ValueError(f"expected renderer 'plain', 'chat' or a Renderer, got {kind!r}")


def _engine(model: Any, script: Any, reuse: bool, cache_bytes: int) -> Engine:
    if model is None:
        return ScriptedEngine(script if script is not None else [])
    from workbench.policy.hf import HFEngine

    return HFEngine(model, reuse=reuse, cache_bytes=cache_bytes)


def _is_tiny(name: str) -> bool:
    return name.split("@")[0] == "tiny"


def _parts(name: str, device: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return (model, tokenizer); a scripted policy has no model and speaks with SmolLM2's tokenizer."""
    if _is_tiny(name):
        from workbench.policy import tiny

        model, tokenizer = tiny.load(*name.split("@")[1:])
        return model.to(device, dtype), tokenizer
    from workbench.policy import smollm2

    folder = str(smollm2.fetch()) if name in ("smollm2", "scripted") else name
    tokenizer = _pretrained("AutoTokenizer", folder)
    if name == "scripted":
        return None, tokenizer
    return _pretrained("AutoModelForCausalLM", folder, dtype=dtype).to(device).eval(), tokenizer


def _pretrained(kind: str, name: str, **settings: Any) -> Any:
    import transformers

    try:
        return getattr(transformers, kind).from_pretrained(name, **settings)
    except OSError as error:
        raise OSError(
            f"no model under {name!r}: expected 'smollm2', 'tiny', 'tiny@<world>', 'scripted', a folder, or a Hugging "
            f"Face id that can be reached from here ({error})"
        ) from error


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype):
        raise ValueError(f"expected a torch dtype such as 'float32' or 'bfloat16', got {dtype!r}")
    return found
