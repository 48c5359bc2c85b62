"""What can be said of all tool calls of a rollout: did they work, do they match a gold trace, was the form kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from workbench.envs.base import Tool
from workbench.evidence.base import Meter, Provider, Reads, Sees, Values
from workbench.evidence.format import breaks_format
from workbench.evidence.matching import AnyCall, GoldCall, check_gold_calls, gold_calls
from workbench.evidence.oracle import recorded, recorded_number
from workbench.rollouts import Rollouts
from workbench.trajectory import Group, RecordError, Trajectory, Turn


def part(some: float, all_: float) -> float | None:
    """Return some / all; None where there is nothing to take a part of.

    Example:
        >>> part(3, 4), part(0, 0)
        (0.75, None)
    """
    return None if all_ == 0 else some / all_


@dataclass(frozen=True)
class ToolSuccess(Provider):
    """Say which share of a rollout's calls worked: `tool_success`; unknown for a rollout without calls.

    A turn's calls worked as the world recorded it (`fact`: a number of calls, or a boolean for all of them); where it
    recorded nothing, those that could be read.

    Args:
        fact: name of what the world recorded.
        answer: name of the call that answers; it is no tool.

    Source: ARTIST, arXiv:2505.01441: successful calls / calls.
    """

    fact: str = "calls_ok"
    answer: str = "answer"
    provides: ClassVar[Mapping[str, str]] = {"tool_success": "trajectory"}
    reads: ClassVar[tuple[Reads, ...]] = ("messages", "results", "extra")

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Count the calls of each rollout."""
        return {"tool_success": Values.of(self._share(t.path(group)) for t in group)}

    def _share(self, trajectory: Trajectory) -> float | None:
        made = worked = 0.0
        for k, turn in enumerate(trajectory.turns):
            calls = [call for call in turn.calls if call.name.lower() != self.answer.lower()]
            said, ok = recorded(trajectory, k, self.fact), recorded_number(trajectory, k, self.fact)
            if ok is None:
                ok = sum(call.error is None for call in calls)
            elif isinstance(said, bool):
                ok *= len(calls)
            if not 0 <= ok <= len(calls):
                problem = f"expected {self.fact!r} between 0 and the turn's {len(calls)} calls, got {said!r}"
                raise RecordError(problem, trajectory=trajectory.id, turn=k, field="extra")
            made, worked = made + len(calls), worked + ok
        return part(worked, made)


@dataclass(frozen=True)
class FormatScore(Provider):
    """Score the form of a rollout: `strict` if no turn breaks it, `relaxed` if the last does not, else 0.

    Args:
        strict, relaxed: the scores; for function calling `artist_calls` counts a tenth of them.
        answer: name of the answering call.

    Source: ARTIST, arXiv:2505.01441. Reconstruction: the sizes, and that a form is that of the renderer.
    """

    strict: float = 1.0
    relaxed: float = 0.5
    answer: str = "answer"
    provides: ClassVar[Mapping[str, str]] = {"format_score": "trajectory"}
    reads: ClassVar[tuple[Reads, ...]] = ("messages",)

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Look at the turns of each rollout."""
        return {"format_score": Values.of(self._score(t.path(group)) for t in group)}

    def _score(self, trajectory: Trajectory) -> float | None:
        turns = trajectory.turns
        if not turns:
            return None
        broken = [breaks_format(turn, k + 1 == len(turns), self.answer) for k, turn in enumerate(turns)]
        return self.strict if not any(broken) else 0.0 if broken[-1] else self.relaxed


# ------------------------------------------------------------------------------------------------------ gold traces


def matched(calls: Sequence[AnyCall], gold: Sequence[GoldCall]) -> int:
    """Count the gold calls that were made, name and arguments equal; each call counts for one.

    Example:
        >>> one, two = GoldCall("add", {"n": 1}), GoldCall("add", {"n": 2})
        >>> matched([one, one, two], [one, two, two])
        2
    """
    left = [(call.name.lower(), dict(call.arguments)) for call in calls if call.arguments is not None]
    found = 0
    for wanted in gold:
        key = (wanted.name.lower(), dict(wanted.arguments))
        if key in left:
            left.remove(key)
            found += 1
    return found


@dataclass(frozen=True)
class CallMatch(Provider):
    """Say which share of the gold calls a rollout made: `call_match`; unknown without gold calls.

    Calls beside an answer count, in the order they were written; those behind it were never made.

    Args:
        tools: what the gold traces are checked against before anything is computed; () checks nothing.
        answer: name of the call that answers; it is left out on both sides.

    Source: ARTIST, arXiv:2505.01441: matched calls / all of them.
    """

    tools: tuple[Tool, ...] = field(default=(), metadata={"key": False})  # decides whether, not what
    answer: str = "answer"
    provides: ClassVar[Mapping[str, str]] = {"call_match": "trajectory"}
    sees: ClassVar[tuple[Sees, ...]] = ("gold",)
    reads: ClassVar[tuple[Reads, ...]] = ("messages", "gold")
    version: ClassVar[int] = 2  # calls beside an answer count

    def check(self, rollouts: Rollouts) -> None:
        """Refuse gold traces that do not fit the tools."""
        if self.tools:
            check_gold_calls(rollouts, self.tools)

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Compare each rollout with its gold trace."""
        return {"call_match": Values.of(self._share(t, group) for t in group)}

    def _share(self, trajectory: Trajectory, group: Group) -> float | None:
        if trajectory.gold.get("calls") is None:
            return None
        gold = [one for one in gold_calls(trajectory) if one.name.lower() != self.answer.lower()]
        made = [call for turn in trajectory.path(group).turns for call in self._before_answer(turn)]
        return part(matched(made, gold), len(gold))

    def _before_answer(self, turn: Turn) -> Sequence[AnyCall]:
        """The calls of a turn that were made: a well-formed answer ends the episode, whatever is called behind it."""
        ends = (k for k, call in enumerate(turn.calls) if call.name.lower() == self.answer.lower() and _has_text(call))
        return turn.calls[: next(ends, len(turn.calls))]


def _has_text(call: AnyCall) -> bool:
    return any(isinstance(value, str) and value.strip() for value in (call.arguments or {}).values())


@dataclass(frozen=True)
class LastRecorded(Provider):
    """Read a fact the world recorded at the last turn of each rollout into a trajectory column.

    Unknown where it was not recorded; rollouts of which none has it are refused.

    Args:
        fact: its name, as `Recorded` looks it up ("state_share": how much of the goal state was reached, in [0, 1]).
        column: name of the column.
    """

    fact: str = "state_share"
    column: str = "state_match"
    sees: ClassVar[tuple[Sees, ...]] = ("gold",)
    reads: ClassVar[tuple[Reads, ...]] = ("results", "extra")

    @property
    def provides(self) -> Mapping[str, str]:  # type: ignore[override]
        """The one column."""
        return {self.column: "trajectory"}

    def check(self, rollouts: Rollouts) -> None:
        """Refuse rollouts whose world recorded no such fact at any last turn."""
        if any(t.turns for t in rollouts) and all(self._value(t) is None for t in rollouts):
            problem = f"no rollout recorded {self.fact!r} at its last turn; play a world that does"
            raise RecordError(problem, field="turns[-1].extra")

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Look at the last turn of each rollout."""
        return {self.column: Values.of(self._value(t) for t in group)}

    def _value(self, trajectory: Trajectory) -> float | None:
        return recorded_number(trajectory, len(trajectory.turns) - 1, self.fact) if trajectory.turns else None
