"""Named values per unit of a level, where they come from, and further partitions of tokens or turns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from workbench import show

Level = str
""" "token", "turn", "trajectory", "group", "batch", or the name of a unit."""

BASE_LEVELS = ("token", "turn", "trajectory", "group", "batch")


@dataclass(frozen=True)
class Provenance:
    """Where a column comes from.

    Args:
        provider: what made it.
        parameters: of the provider.
        model: content hash of the weights that were asked, "" if none.
        policy_version: version of those weights.
        prompt: content hash of the prompt or rubric, "" if none.
        sees: what it was allowed to see: "future", "gold", "group", "other policy".
        calls, tokens, seconds: what it cost.
    """

    provider: str = "given"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    policy_version: int | None = None
    prompt: str = ""
    sees: tuple[str, ...] = ()
    calls: int = 0
    tokens: int = 0
    seconds: float = 0.0


GIVEN = Provenance()
"""Nobody said where it comes from."""


@dataclass(frozen=True)
class Column:
    """A named value per unit of a level.

    Args:
        level: of what there is one value each.
        values: [n, ...], any dtype.
        known: bool [n]; where False the value means nothing.
        provenance: where it comes from.
    """

    level: Level
    values: Tensor
    known: Tensor
    provenance: Provenance = GIVEN

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return show.mimebundle(self)


@dataclass(frozen=True)
class Unit:
    """A named partition of tokens or turns: calls, entropy segments, phases.

    Args:
        base: "token" or "turn": what the map is over.
        of: unit of each token or turn; -1 where none; numbered in order.
    """

    base: Level
    of: Tensor

    @property
    def count(self) -> int:
        return int(self.of.max()) + 1 if len(self.of) else 0


def make_column(name: str, level: Level, values: Any, known: Any, count: int, provenance: Provenance = GIVEN) -> Column:
    """Check and build a column.

    Args:
        values: anything `torch.as_tensor` takes, or a list with None where unknown; Python floats become float64.
        known: bool per unit, or None if `values` says it all.
        count: how many units the level has.

    Raises:
        ValueError: wrong length, no numbers, or a value that is not finite where it is said to be known.
    """
    if isinstance(values, (list, tuple)) and any(v is None for v in values):
        if known is not None:
            raise ValueError(f"column {name!r}: give None for unknown values or `known`, not both")
        known = [v is not None for v in values]
        values = [0.0 if v is None else v for v in values]
    try:
        v = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:  # texts, ragged lists: what a judge may come up with
        raise ValueError(f"column {name!r}: expected numbers, or None where unknown; got {error}") from None
    if v.is_floating_point() and not hasattr(values, "dtype"):
        v = torch.as_tensor(values, dtype=torch.float64)  # Python's floats are kept as they are
    if v.ndim == 0 or len(v) != count:
        raise ValueError(f"column {name!r}: level {level!r} has {count} units, got values of shape {tuple(v.shape)}")
    k = torch.ones(count, dtype=torch.bool) if known is None else torch.as_tensor(known, dtype=torch.bool)
    if k.shape != (count,):
        raise ValueError(f"column {name!r}: `known` has shape {tuple(k.shape)}, expected ({count},)")
    if v.is_floating_point():
        bad = ~torch.isfinite(v).reshape(count, v[:1].numel() if count else 0).all(1) & k
        if bool(bad.any()):
            first = int(torch.nonzero(bad)[0])
            raise ValueError(
                f"column {name!r}: {level} {first} is {v[first].tolist()}; give known=False where a value is unknown"
            )
    return Column(level, v, k, provenance)


def codes(values: Iterable[str | None]) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Number strings in order of appearance -> (codes [n], known [n], names)."""
    listed = list(values)
    names = tuple(dict.fromkeys(v for v in listed if v is not None))
    number = {v: i for i, v in enumerate(names)}
    coded = torch.tensor([number.get(v, 0) if v is not None else 0 for v in listed], dtype=torch.int64)
    return coded, torch.tensor([v is not None for v in listed], dtype=torch.bool), names
