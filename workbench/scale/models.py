"""The shape of a policy that is asked for, from as little as its configuration: no weights are loaded."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.scale.shapes import PRESETS, Shape, of_config, of_folder

if TYPE_CHECKING:
    from workbench.policy.base import Policy

HUB_S = 4.0  # for a configuration that is not in the cache


class UnknownModel(ValueError):
    """No model goes by this name, or its shape cannot be read."""


def shape_of(policy: str | Policy) -> Shape:
    """Return the shape of a policy.

    Args:
        policy: what `workbench.policy.load` takes, or what it returned.

    Raises:
        UnknownModel: there is no such model, it has no weights, or it is of a kind that is not counted here.
    """
    if not isinstance(policy, str | Path):
        return _of_object(policy)
    name = str(policy)
    kind = name.split("@")[0]
    if kind in ("tiny", "smollm2"):
        return PRESETS[kind]
    if kind == "scripted":
        raise UnknownModel("'scripted' speaks from a script: it has no weights to train; give 'tiny' or a model")
    try:
        if Path(name).is_dir():
            return of_folder(name)
        return of_config(_of_hub(name), name)
    except FileNotFoundError as error:
        raise UnknownModel(f"{name}: the folder has no config.json, so it holds no model ({error})") from error
    except UnknownModel:
        raise
    except ValueError as error:
        raise UnknownModel(str(error)) from error


def _of_object(policy: Any) -> Shape:
    config = getattr(getattr(getattr(policy, "engine", None), "model", None), "config", None)
    if config is None:
        raise UnknownModel(f"{policy.name}: its engine has no model in this process; give the policy by its name")
    try:
        return of_config(getattr(config, "text_config", None) or config, policy.name)
    except ValueError as error:
        raise UnknownModel(str(error)) from error


def _of_hub(name: str) -> Any:
    """Return the configuration of a Hugging Face id: from the cache, else asked for, for a few seconds."""
    import json

    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UnknownModel(
            f"no model is called {name!r}: expected 'tiny', 'tiny@<world>', 'smollm2', a folder, or 'owner/name'"
        )
    cached = try_to_load_from_cache(name, "config.json")
    if isinstance(cached, str):
        return json.loads(Path(cached).read_text("utf-8"))
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(hf_hub_download(name, "config.json", etag_timeout=HUB_S))
        except Exception as error:  # the hub's errors are of many kinds; each is a reason
            found.append(error)

    thread = threading.Thread(target=ask, daemon=True)  # the hub's client tries again and again for a minute
    thread.start()
    thread.join(HUB_S)
    if found and isinstance(found[0], str):
        return json.loads(Path(found[0]).read_text("utf-8"))
    why = " ".join(str(found[0]).split())[:200] if found else f"no answer within {HUB_S:g} s"
    raise UnknownModel(
        f"{name!r} is not in the cache, and the hub gave no config.json ({why}); download it first (`hf download "
        f"{name}`, after `hf auth login` where it is gated), or give a folder"
    )
