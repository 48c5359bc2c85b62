"""What the agent saw at a turn: the tokens of one forward pass, a branch's through its parents."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from workbench.trajectory import RecordError, Span, Trajectory

Tokens = tuple[int, ...]


def before_turn(trajectory: Trajectory, turn: int, others: Mapping[str, Trajectory]) -> Tokens | None:
    """Return the tokens a turn was written behind; None if the tokens of the turn are not known.

    Args:
        trajectory: whose turn.
        turn: index among its own turns.
        others: the trajectories among which its ancestors are, by id.

    Raises:
        RecordError: an ancestor is not among `others`, or has fewer tokens than a branch says.
    """
    home = _home(trajectory, turn)
    if home is None:
        return None
    return _read(trajectory, home, others, lambda span: span.turn < turn or (span.turn == turn and not _written(span)))


def after_turn(trajectory: Trajectory, turn: int, others: Mapping[str, Trajectory]) -> Tokens | None:
    """Return the tokens where the agent would write next: the turn and all that came back are among them.

    That is what the next turn was written behind, in whichever sequence that one stands (a template may have dropped
    thoughts by then); after the last turn it is the turn's own sequence up to its last observation.

    Args: see `before_turn`.

    Returns:
        token ids; None if the tokens of the turn, or of the next, are not known.
    """
    if turn + 1 < len(trajectory.turns):
        return before_turn(trajectory, turn + 1, others)
    home = _home(trajectory, turn)
    return None if home is None else _read(trajectory, home, others, lambda span: span.turn <= turn)


def whole(trajectory: Trajectory, number: int, others: Mapping[str, Trajectory]) -> Tokens:
    """Return all tokens of a sequence, those before a branch included."""
    return _read(trajectory, number, others, lambda span: True)


def _written(span: Span) -> bool:
    return span.origin in ("sampled", "forced")


def _home(trajectory: Trajectory, turn: int) -> int | None:
    """Return the number of the sequence the turn was written in."""
    homes = (
        number
        for number, sequence in enumerate(trajectory.sequences)
        if any(span.turn == turn and _written(span) for span in sequence.spans)
    )
    return next(homes, None)


def _read(
    trajectory: Trajectory, number: int, others: Mapping[str, Trajectory], wanted: Callable[[Span], bool]
) -> Tokens:
    """Return the prefix and the spans of a sequence up to the first that is not wanted."""
    sequence = trajectory.sequences[number]
    ids = [] if sequence.prefix is None else list(_prefix(trajectory, number, others))
    for span in sequence.spans:
        if not wanted(span):
            break
        ids.extend(span.ids)
    return tuple(ids)


def _prefix(trajectory: Trajectory, number: int, others: Mapping[str, Trajectory]) -> Tokens:
    prefix, field = trajectory.sequences[number].prefix, f"sequences[{number}].prefix"
    assert prefix is not None
    if prefix.trajectory not in others:
        problem = f"its parent {prefix.trajectory!r} is not in its group; read both together"
        raise RecordError(problem, trajectory=trajectory.id, field=field)
    parent = others[prefix.trajectory]
    if not 0 <= prefix.sequence < len(parent.sequences):
        problem = f"expected a sequence of {parent.id!r}, which has {len(parent.sequences)}, got {prefix.sequence}"
        raise RecordError(problem, trajectory=trajectory.id, field=field)
    ids = whole(parent, prefix.sequence, others)
    if not 0 <= prefix.length <= len(ids):
        problem = f"expected at most the {len(ids)} tokens {parent.id!r} has there, got length {prefix.length}"
        raise RecordError(problem, trajectory=trajectory.id, field=field)
    return ids[: prefix.length]
