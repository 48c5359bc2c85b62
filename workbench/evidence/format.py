"""Facts about the form of turns that need no model: was it well-formed, which tool did it call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from workbench.evidence.answers import find_answer
from workbench.evidence.base import Meter, Provider, Reads, Values
from workbench.trajectory import Group, Turn


def breaks_format(turn: Turn, last: bool, answer: str = "answer") -> bool:
    """Does a turn break the format?

    Args:
        turn: which.
        last: is it the last of its trajectory? Then it must give an answer that is not empty (one that a limit cut off
            before it answered breaks it, too); any other must make exactly one call, without an error.
        answer: name of the answering call.

    Source: DR-Venus, RL/verl/utils/reward_score/format_checker.py.
    Differs: the release also wants a thought before the call and no text beside it; that is a matter of the renderer
        here, which reads a turn or says what was wrong with it.
    """
    if last:
        return not find_answer(turn, answer)
    return len(turn.calls) != 1 or turn.calls[0].error is not None


@dataclass(frozen=True)
class BadFormat(Provider):
    """Say which turns break the format: `bad_format`, 1 or 0 a turn.

    Args:
        answer: name of the answering call.
    """

    answer: str = "answer"
    provides: ClassVar[Mapping[str, str]] = {"bad_format": "turn"}
    reads: ClassVar[tuple[Reads, ...]] = ("messages",)

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Look at each turn."""
        broken = [
            breaks_format(turn, k + 1 == len(t.turns), self.answer) for t in group for k, turn in enumerate(t.turns)
        ]
        return {"bad_format": Values.of(map(int, broken))}


@dataclass(frozen=True)
class Called(Provider):
    """Say which turns called a tool: the column "called_NAME", 1 or 0 a turn.

    Args:
        tool: its name.
    """

    tool: str
    reads: ClassVar[tuple[Reads, ...]] = ("messages",)

    @property
    def provides(self) -> Mapping[str, str]:  # type: ignore[override]
        """The one column."""
        return {f"called_{self.tool}": "turn"}

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Look at the calls of each turn; one with an error did not reach the tool."""
        found = [any(c.name == self.tool and c.error is None for c in turn.calls) for t in group for turn in t.turns]
        return {f"called_{self.tool}": Values.of(map(int, found))}
