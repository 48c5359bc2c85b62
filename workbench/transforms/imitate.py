"""Trajectories to examples of what to say: the same tokens, with an explicit loss weight each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from workbench.rollouts import Rollouts, full_ids
from workbench.trajectory import Example, Origin, RecordError, Trajectory

LEARNABLE: tuple[Origin, ...] = ("sampled", "forced")
"""Origins an agent's own words can have; the rest was said by somebody else."""


def imitate(
    trajectories: Iterable[Trajectory],
    origins: Sequence[Origin],
    *,
    keep: Callable[[Trajectory], bool] | None = None,
    weight: float = 1.0,
    reason: str = "imitate",
) -> list[Example]:
    """Return one example a sequence: `weight` on the agent's own tokens, 0 on all they were said after.

        w_i = weight  if token i has one of `origins` and its turn is trainable,  else 0

    Args:
        trajectories: with tokens; branches together with the trajectories they branch from.
        origins: what is learned from: "sampled" (what a policy said), "forced" (what a script or a constraint made it
            say), or both.
        keep: which trajectories to learn from, e.g. `lambda t: t.outcome == 1.0`; None is all.
        weight: of each learned token.
        reason: why these are in the training set; each example carries it.

    Returns:
        examples in order; a sequence without a learned token makes none. `source` is (trajectory id, last turn that
        is learned); `logprobs_old` is known where the tokens were sampled.

    Raises:
        ValueError: an origin is not the agent's own.
        RecordError: a trajectory has no tokens, or its prefix is not here.
    """
    strange = [origin for origin in origins if origin not in LEARNABLE]
    if strange or not origins:
        raise ValueError(f"origins: expected some of {LEARNABLE}, got {tuple(origins)}; nothing else was the agent's")
    everything = trajectories if isinstance(trajectories, Rollouts) else Rollouts(tuple(trajectories))
    made = []
    for trajectory in everything:
        if keep is not None and not keep(trajectory):
            continue
        if not trajectory.has_tokens:
            raise RecordError(
                "it has no tokens to learn from; write them with `transforms.with_tokens(trajectory, renderer)`",
                trajectory=trajectory.id,
            )
        for number in range(len(trajectory.sequences)):
            example = _example(everything, trajectory, number, frozenset(origins), weight, reason)
            made += [example] if any(example.weights) else []
    return made


def _example(
    everything: Rollouts, trajectory: Trajectory, number: int, origins: frozenset[str], weight: float, reason: str
) -> Example:
    """Return the example of one sequence; its prefix, stored with the parent, is context."""
    ids = full_ids(everything, trajectory, number)
    spans = trajectory.sequences[number].spans
    before = len(ids) - sum(len(span) for span in spans)
    weights, logprobs = [0.0] * before, [None] * before
    last = -1
    for span in spans:
        learned = span.origin in origins and span.turn >= 0 and trajectory.turns[span.turn].trainable
        last = span.turn if learned else last
        weights += [weight if learned else 0.0] * len(span)
        logprobs += span.logprobs or [None] * len(span)
    known = any(value is not None for value in logprobs)
    return Example(ids, tuple(weights), tuple(logprobs) if known else None, (trajectory.id, last), reason)
