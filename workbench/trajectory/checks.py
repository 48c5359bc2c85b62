"""What must hold in a trajectory as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.trajectory.records import RecordError, check_number, require
from workbench.trajectory.sequences import Sequence

if TYPE_CHECKING:
    from workbench.trajectory.story import Trajectory


def check_trajectory(t: Trajectory) -> None:
    if not isinstance(t.id, str) or t.id == "":
        raise RecordError(f"expected an id, got {t.id!r}", field="id")
    if not isinstance(t.group, str) or t.group == "":
        raise RecordError(f"expected a group id, got {t.group!r}", field="group")
    check_number(t.outcome, "outcome")
    for name, value in t.rewards.items():
        check_number(value, f"rewards[{name!r}]")
    _check_messages(t)
    for number, sequence in enumerate(t.sequences):
        _check_sequence(t, number, sequence)
    if t.sequences:
        homes: dict[int, set[int]] = {}
        for number, sequence in enumerate(t.sequences):
            for span in sequence.spans:
                if span.origin == "sampled":
                    homes.setdefault(span.turn, set()).add(number)
        for turn, numbers in homes.items():
            if len(numbers) > 1:
                problem = f"its sampled tokens stand in sequences {sorted(numbers)}; a token is stored and trained once"
                raise RecordError(problem, turn=turn, field="sequences")


def _check_messages(t: Trajectory) -> None:
    """Message ids are unique; an answer answers a call made before it."""
    seen: set[str] = set()
    calls: set[str] = set()
    owned = [(None, m) for m in t.prompt] + [(k, m) for k, turn in enumerate(t.turns) for m in turn.messages]
    for k, message in owned:
        if message.id in seen:
            raise RecordError(f"message id {message.id!r} is used twice", turn=k, field="id")
        seen.add(message.id)
        for call in message.calls:
            require(call.id not in calls, f"call id {call.id!r} is used twice", turn=k, field="calls")
            calls.add(call.id)
        if message.answers is not None and message.answers not in calls and t.parent is None:
            problem = f"message {message.id!r} answers call {message.answers!r}, which nobody made before it"
            raise RecordError(problem, turn=k, field="answers")


def _check_sequence(t: Trajectory, number: int, sequence: Sequence) -> None:
    """Spans point to turns and messages that exist, in order."""
    if sequence.prefix is not None:
        require(t.parent is not None, "has a prefix of another trajectory but no parent", field=f"sequences[{number}]")
    ids = {m.id for m in t.messages}
    last = -1
    for span in sequence.spans:
        if not -1 <= span.turn < len(t.turns):
            problem = f"span points to turn {span.turn}; the trajectory has {len(t.turns)}"
            raise RecordError(problem, field=f"sequences[{number}]")
        if span.turn < last:
            raise RecordError(f"turns run backwards ({last}, then {span.turn})", field=f"sequences[{number}]")
        last = span.turn
        if span.message is not None and span.message not in ids:
            problem = f"span renders message {span.message!r}, which is not here"
            raise RecordError(problem, turn=span.turn, field="message")
        if span.origin == "sampled" and span.turn < 0:
            raise RecordError("sampled tokens need the turn that sampled them", field=f"sequences[{number}]")
