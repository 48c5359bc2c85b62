"""What the agent saw at a turn: the tokens it was written behind, a branch's through its parents."""

from __future__ import annotations

from collections.abc import Callable

from workbench.rollouts import Rollouts, full_ids
from workbench.trajectory import Span, Trajectory

Tokens = tuple[int, ...]


def before_turn(trajectory: Trajectory, turn: int, rollouts: Rollouts) -> Tokens | None:
    """Return the tokens a turn was written behind; None if the tokens of the turn are not known.

    Args:
        trajectory: whose turn.
        turn: index among its own turns.
        rollouts: among which its ancestors are.

    Raises:
        RecordError: an ancestor is not there, or has fewer tokens than a branch says.
    """

    def earlier(span: Span) -> bool:
        return span.turn < turn or (span.turn == turn and not _written(span))

    return _read(trajectory, turn, rollouts, earlier)


def after_turn(trajectory: Trajectory, turn: int, rollouts: Rollouts) -> Tokens | None:
    """Return the tokens where the agent would write next: the turn and all that came back are among them.

    That is what the next turn was written behind, in whichever sequence that one stands (a template may have dropped
    thoughts by then); after the last turn it is the turn's own sequence up to its last observation.

    Args: see `before_turn`.

    Returns:
        token ids; None if the tokens of the next turn (of the last one: its own) are not known.
    """
    if turn + 1 < len(trajectory.turns):
        return before_turn(trajectory, turn + 1, rollouts)
    return _read(trajectory, turn, rollouts, lambda span: span.turn <= turn)


def after_action(trajectory: Trajectory, turn: int, rollouts: Rollouts) -> Tokens | None:
    """Return the tokens up to the end of what the agent wrote in a turn: what came back is not among them.

    Args: see `before_turn`.

    Returns:
        token ids; None if the tokens of the turn are not known.
    """

    def up_to_here(span: Span) -> bool:
        return span.turn < turn or (span.turn == turn and _written(span))

    return _read(trajectory, turn, rollouts, up_to_here)


def _written(span: Span) -> bool:
    return span.origin in ("sampled", "forced")


def _read(t: Trajectory, turn: int, rollouts: Rollouts, wanted: Callable[[Span], bool]) -> Tokens | None:
    """Return the tokens of the sequence a turn was written in, up to the first span that is not wanted."""
    for number, sequence in enumerate(t.sequences):
        if any(span.turn == turn and _written(span) for span in sequence.spans):
            stop = next((n for n, span in enumerate(sequence.spans) if not wanted(span)), len(sequence.spans))
            behind = sum(len(span) for span in sequence.spans[stop:])
            ids = full_ids(rollouts, t, number)
            return ids[: len(ids) - behind]
    return None
