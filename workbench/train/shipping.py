"""Values as readable JSON, and what has no importable name by value.

    5, "a", [1, 2]                                             as they are
    a function or class          {"import": "workbench.losses:token_mean"}
    a dataclass                  {"name": "workbench.envs.chain:Chain", "parameters": {"hops": 3, ...}}
    a call                       {"name": "workbench.policy.loading:load", "parameters": {"name": "tiny"}}
    anything else                {"shipped": "env-0.pkl", "type": "__main__.Maze", "source": "env-0.py"}

A dataclass is its fields, so a recipe is written down stage by stage. What was defined in a notebook cell or inside a
function (and any object that is no dataclass) is pickled by value into the run's `code/`, beside its source. `Shipment`
is the only thing that unpickles it, and only the training process of the run makes one that does.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import io
import linecache
import math
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

PLAIN = (bool, int, str, type(None))
LOCKS = {type(threading.Lock()): threading.Lock, type(threading.RLock()): threading.RLock}


class CannotShip(TypeError):
    """A value that no other process could have."""


def call(function: Any, **parameters: Any) -> Call:
    """Return "the result of calling this importable function", to be written down as such."""
    return Call(function, parameters)


@dataclasses.dataclass(frozen=True)
class Call:
    """A function and its arguments; see `call`."""

    function: Any
    parameters: Mapping[str, Any]


class Packer:
    """Turns values into JSON, and gathers the files of what has to be shipped by value in `files`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def pack(self, value: Any, label: str) -> Any:
        """Return a value as plain JSON.

        Args:
            value: anything.
            label: what it is ("env", "recipe" ...); names its file if it has to be shipped.

        Raises:
            CannotShip: neither a name nor a pickle can take it to another process.
        """
        if isinstance(value, PLAIN) or (isinstance(value, float) and math.isfinite(value)):
            return value
        if isinstance(value, float):
            return {"number": str(value)}
        if isinstance(value, list):
            return [self.pack(one, label) for one in value]
        if type(value) in (tuple, frozenset):
            kind = "tuple" if isinstance(value, tuple) else "frozenset"
            return {kind: [self.pack(one, label) for one in value]}
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {"mapping": {key: self.pack(one, label) for key, one in value.items()}}
        if isinstance(value, Call):
            return {"name": _name(value.function), "parameters": self._each(value.parameters, label)}
        if (name := importable_name(value)) is not None:
            return {"import": name}
        if _is_its_fields(value):
            given = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
            return {"name": _name(type(value)), "parameters": self._each(given, label)}
        return self._ship(value, label)

    def _each(self, parameters: Mapping[str, Any], label: str) -> dict[str, Any]:
        return {key: self.pack(one, label) for key, one in parameters.items()}

    def _ship(self, value: Any, label: str) -> dict[str, str]:
        number = sum(name.endswith(".pkl") for name in self.files)
        stem = f"{label}-{number}"
        self.files[f"{stem}.pkl"] = _pickled(value, label)
        self.files[f"{stem}.py"] = source_of(value).encode()
        kind = type(value) if not inspect.isfunction(value) and not inspect.isclass(value) else value
        return {"shipped": f"{stem}.pkl", "type": f"{kind.__module__}.{kind.__qualname__}", "source": f"{stem}.py"}


def unpack(packed: Any, code: Path) -> Any:
    """Make a value again: imports what is named and unpickles what was shipped. For the training process only.

    Args:
        packed: what `Packer.pack` returned.
        code: the run's folder of shipped values.
    """
    if isinstance(packed, list):
        return [unpack(one, code) for one in packed]
    if not isinstance(packed, Mapping):
        return packed
    if "number" in packed:
        return float(packed["number"])
    if "tuple" in packed:
        return tuple(unpack(one, code) for one in packed["tuple"])
    if "frozenset" in packed:
        return frozenset(unpack(one, code) for one in packed["frozenset"])
    if "mapping" in packed:
        return {key: unpack(one, code) for key, one in packed["mapping"].items()}
    if "import" in packed:
        return _imported(packed["import"])
    if "name" in packed:
        return _imported(packed["name"])(**{key: unpack(one, code) for key, one in packed["parameters"].items()})
    if "shipped" in packed:
        import cloudpickle

        return cloudpickle.loads((code / Path(packed["shipped"]).name).read_bytes())
    raise ValueError(f"expected a value as `Packer` writes it, got {sorted(packed)}; was launch.json edited?")


def importable_name(value: Any) -> str | None:
    """Return "module:name" of a function or class that another process can import; None if there is none.

    Example:
        >>> importable_name(Packer), importable_name(lambda: 0)
        ('workbench.train.shipping:Packer', None)
    """
    module = getattr(value, "__module__", None)
    if not isinstance(module, str) or module == "__main__" or module not in sys.modules:
        return None
    for name in ("__qualname__", "__name__"):  # torch.exp calls itself _VariableFunctionsClass.exp
        path, found = getattr(value, name, None), cast(Any, sys.modules[module])
        for part in path.split(".") if isinstance(path, str) else ():
            found = getattr(found, part, None)
        if found is value:
            return f"{module}:{path}"
    return None


def _is_its_fields(value: Any) -> bool:
    """A dataclass of an importable class that nothing but its fields make."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type) and importable_name(type(value)) is not None


def _name(value: Any) -> str:
    name = importable_name(value)
    if name is None:
        raise CannotShip(f"{value!r} has no importable name")
    return name


def _imported(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


# -------------------------------------------------------------------------------------------------- by value


def _pickled(value: Any, label: str) -> bytes:
    import cloudpickle

    class Pickler(cloudpickle.Pickler):
        def reducer_override(self, thing: Any) -> Any:
            made = LOCKS.get(type(thing))  # a lock guards one process; the other one gets its own
            return (made, ()) if made else super().reducer_override(thing)

    buffer = io.BytesIO()
    try:
        Pickler(buffer).dump(value)
        cloudpickle.loads(buffer.getvalue())
    except Exception as error:
        raise CannotShip(
            f"{label}: {type(value).__qualname__} cannot be taken to another process "
            f"({type(error).__name__}: {error}); "
            "open files, connections and generators inside `fresh`, `reset` or `compute`, not when it is made"
        ) from error
    return buffer.getvalue()


def source_of(value: Any) -> str:
    """Return the source of what defines a value: of its function or class, else of the cell it stands in."""
    thing = value if inspect.isfunction(value) or inspect.isclass(value) else type(value)
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        pass
    for member in vars(thing).values() if inspect.isclass(thing) else ():
        code = getattr(inspect.unwrap(member) if callable(member) else member, "__code__", None)
        lines = linecache.getlines(code.co_filename) if code else []
        if lines:
            return "".join(lines)
    return f"# the source of {thing.__module__}.{thing.__qualname__} was not at hand\n"
