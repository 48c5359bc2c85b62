"""The tokens one forward pass sees."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from operator import index
from typing import Any, Literal, NamedTuple

from workbench.trajectory.records import Record, RecordError, members, require

Origin = Literal["prompt", "template", "sampled", "forced", "observation", "inserted", "retokenised"]
ORIGINS: tuple[Origin, ...] = ("prompt", "template", "sampled", "forced", "observation", "inserted", "retokenised")


@dataclass(frozen=True)
class Span(Record):
    """A run of tokens of one origin, one turn and one message.

    Args:
        ids: token ids.
        origin: where the tokens come from; only "sampled" ones are trained.
        turn: turn they belong to; -1 before the first turn.
        message: id of the message they render; None for pure template.
        logprobs: per token, under the distribution it was sampled from; None where unknown. Only for "sampled".
        pieces: per token its text, such that the joined pieces are the text; None where unknown.
    """

    ids: tuple[int, ...]
    origin: Origin
    turn: int = -1
    message: str | None = None
    logprobs: tuple[float | None, ...] | None = None
    pieces: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        where: dict[str, Any] = {"turn": self.turn if self.turn >= 0 else None}
        object.__setattr__(self, "ids", token_ids(self.ids, **where))
        if self.origin not in ORIGINS:
            raise RecordError(f"expected one of {ORIGINS}, got {self.origin!r}", field="origin", **where)
        for name in ("logprobs", "pieces"):
            values = getattr(self, name)
            if values is None:
                continue
            object.__setattr__(self, name, tuple(values))
            if len(values) != len(self.ids):
                problem = f"expected one per token ({len(self.ids)}), got {len(values)}"
                raise RecordError(problem, field=name, **where)
        if self.logprobs is not None:
            if self.origin != "sampled":
                problem = f"only sampled tokens have log-probs, origin is {self.origin!r}"
                raise RecordError(problem, field="logprobs", **where)
            check_logprobs(self.logprobs, "logprobs", **where)

    def __len__(self) -> int:
        return len(self.ids)


def token_ids(values: Iterable[Any], **where: Any) -> tuple[int, ...]:
    """Token ids as plain integers (those of numpy and torch too)."""
    ids = tuple(values)
    if set(map(type, ids)) - {int}:
        try:
            ids = tuple(index(i) for i in ids)
        except TypeError:
            bad = next(i for i in ids if not hasattr(i, "__index__"))
            raise RecordError(f"expected integers, got {bad!r}", field="ids", **where) from None
    require(not ids or min(ids) >= 0, "token ids are not negative", field="ids", **where)
    return ids


def check_logprobs(values: tuple[Any, ...], field: str, **where: Any) -> None:
    """Refuse what is no log-prob (None, unknown, is fine)."""
    bad = _first_bad_logprob(values)
    if bad is not None:
        problem = f"token {bad}: expected a finite number <= 0 or None (unknown), got {values[bad]!r}"
        raise RecordError(problem, field=field, **where)


def _first_bad_logprob(values: tuple[Any, ...]) -> int | None:
    """Index of the first value that is no log-prob; None if all are fine."""
    all_floats = set(map(type, values)) == {float}
    if all_floats and math.isfinite(sum(values)) and max(values) <= 0.0:  # the usual case, without a Python loop
        return None
    return next((i for i, p in enumerate(values) if p is not None and not _is_logprob(p)), None)


def _is_logprob(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value <= 1e-4  # float32 log-softmax may round to just above 0


class Prefix(NamedTuple):
    """The first `length` tokens of sequence `sequence` of trajectory `trajectory`, stored there and only there."""

    trajectory: str
    sequence: int
    length: int


@dataclass(frozen=True)
class Sequence(Record):
    """The tokens one forward pass sees, in order.

    A trajectory has one as long as every prompt extends, token for token, what went before. Where a template drops
    earlier thinking, a context is compacted or a sub-agent starts, a new sequence begins; its re-rendered prefix has
    origin "prompt" and is context without loss.

    Args:
        spans: runs of tokens.
        prefix: tokens that come before and are stored with the parent (a branch); None if there are none.
    """

    spans: tuple[Span, ...]
    prefix: Prefix | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "spans", members(self.spans, Span, "spans"))
        if self.prefix is not None:
            object.__setattr__(self, "prefix", Prefix(*self.prefix))

    @property
    def ids(self) -> tuple[int, ...]:
        """Own token ids (without the prefix)."""
        return tuple(i for span in self.spans for i in span.ids)

    def __len__(self) -> int:
        return sum(len(span) for span in self.spans) + (self.prefix.length if self.prefix else 0)
