"""Checkpoints: weights and optimiser as safetensors, whole or not there at all, the last good one always kept.

    step-00000010/weights.safetensors        what learns (with adapters: these alone; and a value head), by name
                  optimiser.safetensors      state of AdamW, "<number of the parameter>.<name>"
                  state.json                 step, version of the weights, state of evidence, sha256 of the other files

A checkpoint is a folder that gets its name when everything in it is on the disk. Nothing else is carried from step to
step (`workbench.train.policy_gradient`), so nothing else is in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.evidence import Evidence
from workbench.runs import sync_path
from workbench.train.plan import Learner

KEPT = 2
"""Checkpoints that stay: the last, and the one before in case the last turns out to be damaged."""


def tensors_of(learner: Learner) -> dict[str, Tensor]:
    """Return what a step changes in the model and its value head, by name."""
    stored = learner.model.state_dict(keep_vars=True)
    buffers = {name: b for name, b in learner.model.named_buffers() if name in stored}
    learned = {name: p for name, p in learner.model.named_parameters() if p.requires_grad}
    head = {} if learner.head is None else {f"value_head.{n}": p for n, p in learner.head.named_parameters()}
    return {name: tensor.detach() for name, tensor in {**buffers, **learned, **head}.items()}


def save_head(path: Path, learner: Learner) -> None:
    """Write the value head, if there is one, to a file of its own: `policy.load` takes a model without one.

    It is a new file each time: who loaded the one before has it mapped, and would see other numbers.
    """
    from safetensors.torch import save as to_bytes

    if learner.head is not None:
        part = path.with_name(f".{path.name}.part")
        _write(part, to_bytes({name: p.detach().contiguous() for name, p in learner.head.named_parameters()}))
        part.replace(path)


def fingerprint(learner: Learner) -> str:
    """Return the sha256 of all weights, trained or not."""
    found = hashlib.sha256()
    for name, tensor in sorted(learner.model.named_parameters()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def save(folder: Path, learner: Learner, step: int, evidence: Sequence[Evidence] = ()) -> Path:
    """Write a checkpoint after `step` steps; older ones but the last good one go.

    Args:
        folder: of the checkpoints.
        learner: its weights and optimiser.
        step: steps done.
        evidence: providers whose memory belongs to the run.
    """
    from safetensors.torch import save as to_bytes

    def fill(part: Path) -> dict[str, str]:
        files = {
            "weights.safetensors": to_bytes({k: t.contiguous() for k, t in tensors_of(learner).items()}),
            "optimiser.safetensors": to_bytes(_flat(learner.optimiser.state_dict()["state"])),
        }
        for name, content in files.items():
            _write(part / name, content)
        return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}

    return publish(folder, step, learner.policy.engine.version, evidence, fill)


def publish(
    folder: Path, step: int, version: int, evidence: Sequence[Evidence], fill: Callable[[Path], dict[str, str]]
) -> Path:
    """Make a checkpoint whole or not at all: it has its name when everything in it is on the disk.

    Args:
        folder: of the checkpoints; all but the newest `KEPT` go.
        step: steps done.
        version: of the weights.
        evidence: providers whose memory belongs to the run.
        fill: writes the files into a folder, to the disk; returns the sha256 of each.
    """
    path = folder / f"step-{step:08d}"
    part = folder / f".{path.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    sync_path(folder.parent)  # the first checkpoint makes the folder they are all in
    try:
        hashes = fill(part)
        memory = [{"name": one.name, "state": one.state()} for one in evidence]
        state = {"step": step, "version": version, "evidence": memory, "sha256": hashes}
        _write(part / "state.json", (json.dumps(state, indent=2) + "\n").encode())
        sync_path(part)
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)  # on a full disk this also makes room for the last word
    sync_path(folder)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)
    return path


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flat(state: Mapping[int, Mapping[str, Any]]) -> dict[str, Tensor]:
    return {
        f"{number}.{name}": torch.as_tensor(value).contiguous()
        for number, entries in state.items()
        for name, value in entries.items()
    }


# --------------------------------------------------------------------------------------------------- and back


def check(path: Path) -> dict[str, Any]:
    """Return the state of a checkpoint whose files are those that were written.

    Raises:
        ValueError: a file is missing or damaged; says which.
    """
    try:
        state = json.loads((path / "state.json").read_text("utf-8"))
        for name, expected in state["sha256"].items():
            if sha256_of(path / name) != expected:
                raise ValueError(f"{name} has another content than was written")
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"the checkpoint {path.name} is damaged: {error}") from error
    return state


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def restore(folder: Path, learner: Learner, evidence: Sequence[Evidence] = ()) -> tuple[int, tuple[str, ...]]:
    """Put the last good checkpoint into a learner that was just started.

    Returns:
        (steps done: 0 if there is no checkpoint; what was wrong with checkpoints that were passed over).

    Raises:
        ValueError: there are checkpoints, and all are damaged.
    """
    path, state, notes = newest_good(folder)
    if path is None:
        return 0, notes
    _load(path, state, learner, evidence)
    return state["step"], notes


def newest_good(folder: Path) -> tuple[Path | None, dict[str, Any], tuple[str, ...]]:
    """Return the last checkpoint whose files are sound, its state, and what was wrong with those passed over.

    Returns:
        (None, {}, ()) if there is no checkpoint.

    Raises:
        ValueError: there are checkpoints, and all are damaged.
    """
    notes: list[str] = []
    found = sorted(folder.glob("step-*"), reverse=True)
    for path in found:
        try:
            state = check(path)
        except ValueError as error:
            notes.append(str(error))
            path.replace(folder / f"damaged-{path.name}")
            continue
        return path, state, tuple(notes)
    if notes:
        why = "; ".join(notes)
        raise ValueError(f"{why}. No checkpoint is left; delete `checkpoints` to begin anew with the same result")
    return None, {}, ()


def _load(path: Path, state: Mapping[str, Any], learner: Learner, evidence: Sequence[Evidence]) -> None:
    from safetensors.torch import load_file

    weights, own = load_file(path / "weights.safetensors"), tensors_of(learner)
    if weights.keys() != own.keys():
        strange = sorted(weights.keys() ^ own.keys())[:3]
        raise ValueError(f"{path.name}: weights of another model, the first that differ are {strange}")
    for name, tensor in own.items():
        tensor.copy_(weights[name])
    optimiser = learner.optimiser.state_dict()
    optimiser["state"] = {}
    for key, tensor in load_file(path / "optimiser.safetensors").items():
        number, name = key.split(".", 1)
        optimiser["state"].setdefault(int(number), {})[name] = tensor
    learner.optimiser.load_state_dict(optimiser)
    learner.policy.engine.load(None)
    remind(state, learner, evidence)


def remind(state: Mapping[str, Any], learner: Learner, evidence: Sequence[Evidence]) -> None:
    """Put back what a checkpoint remembers beside weights and optimiser: version of the weights, memory of evidence."""
    while learner.policy.engine.version < state["version"]:  # it stands in trajectories, which must be the same too
        learner.policy.engine.load(None)
    for one, kept in zip(evidence, state["evidence"], strict=True):
        one.load(kept["state"])
