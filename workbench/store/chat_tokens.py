"""Token fields of chat files to sequences. Nothing is tokenised here: what the file does not say stays unknown."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Listed
from itertools import groupby
from typing import Any, NamedTuple

from workbench.trajectory import RecordError, Sequence, Span


class Step(NamedTuple):
    """What one generation saw and sampled.

    Args:
        turn: its turn.
        message: id of the generated message.
        prompt: token ids of all it saw.
        ids: sampled token ids.
        logprobs: per sampled token, or None.
    """

    turn: int
    message: str
    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float | None, ...] | None


def from_steps(steps: Iterable[Step]) -> tuple[Sequence, ...]:
    """Join generations into sequences: a prompt that extends the sequence goes on, another begins a new one.

    Example:
        >>> a = Step(0, "m1", (1, 2), (3,), None)
        >>> [len(s.spans) for s in from_steps([a, Step(1, "m3", (1, 2, 3, 4), (5,), None)])]
        [4]
        >>> [len(s.spans) for s in from_steps([a, Step(1, "m3", (1, 2, 4), (5,), None)])]
        [2, 2]
    """
    sequences: list[list[Span]] = []
    seen: tuple[int, ...] = ()
    for step in steps:
        if sequences and step.prompt[: len(seen)] == seen:
            between = Span(step.prompt[len(seen) :], "observation", step.turn - 1)
        else:
            between = Span(step.prompt, "prompt")
            sequences.append([])
        sampled = Span(step.ids, "sampled", step.turn, step.message, step.logprobs)
        sequences[-1] += [span for span in (between, sampled) if len(span)]
        seen = step.prompt + step.ids
    return tuple(Sequence(tuple(spans)) for spans in sequences)


def from_mask(
    ids: tuple[int, ...],
    mask: tuple[bool, ...],
    logprobs: Listed[float | None] | None,
    turns: Listed[tuple[int, str]],
) -> Sequence | None:
    """Cut one forward pass into spans by the mask of its sampled tokens: its n-th run is the n-th of the given turns.

    Args:
        ids: token ids of the whole conversation.
        mask: True where the model sampled; same length.
        logprobs: one per token or one per sampled token; None if unknown.
        turns: (turn, message id) of the turns that were sampled, in order.

    Returns:
        the sequence; None if there are more or fewer runs than turns, so that no token is given to a wrong turn.
    """
    runs = [(is_sampled, [i for i, _ in run]) for is_sampled, run in groupby(enumerate(mask), key=lambda pair: pair[1])]
    if sum(is_sampled for is_sampled, _ in runs) != len(turns):
        return None
    aligned = _aligned(logprobs, mask)
    spans, n = [], 0
    for is_sampled, at in runs:
        own = ids[at[0] : at[-1] + 1]
        if is_sampled:
            turn, message = turns[n]
            probs = None if aligned is None else tuple(aligned[i] for i in at)
            spans.append(Span(own, "sampled", turn, message, probs))
            n += 1
        else:
            spans.append(Span(own, "observation", turns[n - 1][0]) if n else Span(own, "prompt"))
    return Sequence(tuple(spans))


def _aligned(logprobs: Listed[float | None] | None, mask: tuple[bool, ...]) -> list[float | None] | None:
    """Log-probs per token of the whole pass."""
    if logprobs is None or len(logprobs) == len(mask):
        return None if logprobs is None else list(logprobs)
    if len(logprobs) != sum(mask):
        problem = f"expected one per token ({len(mask)}) or per sampled token ({sum(mask)}), got {len(logprobs)}"
        raise RecordError(problem, field="logprobs")
    given = iter(logprobs)
    return [next(given) if is_sampled else None for is_sampled in mask]


def ids_of(value: Any, field: str) -> tuple[int, ...]:
    """Return token ids.

    Raises:
        RecordError: not a list of integers.
    """
    if not isinstance(value, (list, tuple)) or any(type(i) is not int for i in value):
        raise RecordError(f"expected a list of token ids, got {str(value)[:60]}", field=field)
    return tuple(value)


def mask_of(value: Any, length: int, field: str) -> tuple[bool, ...]:
    """Return a mask of sampled tokens.

    Raises:
        RecordError: not a list of 0 and 1 of that length.
    """
    if not isinstance(value, (list, tuple)) or any(m not in (0, 1) for m in value):
        raise RecordError(f"expected a list of 0 and 1, got {str(value)[:60]}", field=field)
    if len(value) != length:
        raise RecordError(f"expected one per token ({length}), got {len(value)}", field=field)
    return tuple(bool(m) for m in value)


def logprobs_of(value: Any, field: str) -> tuple[float | None, ...] | None:
    """Return log-probs: a list of numbers, or OpenAI's `{"content": [{"logprob": ...}]}`; None if there are none.

    Raises:
        RecordError: neither. That each is a finite number <= 0 is checked where the span is made.
    """
    if isinstance(value, dict):
        value = value.get("content")
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        raise RecordError(f"expected a list of log-probs, got {type(value).__name__}", field=field)
    return tuple(v.get("logprob") if isinstance(v, dict) else v for v in value)
