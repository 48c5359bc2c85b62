"""Which answers of a rollout were tries, which were right, which repeated an earlier one: what UFO pays for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from workbench.evidence.answers import find_answer, gold_answers
from workbench.evidence.base import Meter, Provider, Reads, Sees, Values
from workbench.recipes.ufo import same_form
from workbench.trajectory import Group, Trajectory, Turn


class Try(NamedTuple):
    """One turn: did it give a valid answer, was that right (None: nobody knows), was it given before?

    `broken`: it should have answered and gave nothing that can be read.
    """

    valid: bool
    correct: bool | None
    repeated: bool
    broken: bool


def tries(answers: Sequence[str | None], golds: Sequence[str] | None) -> list[Try]:
    """Judge the answers of a rollout in order; one that is None or empty is broken, and not right.

    Args:
        answers: of each turn.
        golds: accepted answers; None if the task has none.

    Source: UFO, released `_check_answer` and `_minimal_normalize_answer`: equal but for white space and case.

    Example:
        >>> [(t.correct, t.repeated) for t in tries(["3", "3 ", "7"], ["7"])]
        [(False, False), (False, True), (True, False)]
    """
    accepted = None if golds is None else {same_form(gold) for gold in golds}
    seen: set[str] = set()
    found = []
    for answer in answers:
        form = "" if answer is None else same_form(answer)
        right = None if accepted is None else form != "" and form in accepted
        found.append(Try(form != "", right, form in seen, form == ""))
        seen |= {form} - {""}
    return found


@dataclass(frozen=True)
class Tries(Provider):
    """Read the tries off a rollout: `try_valid`, `try_correct`, `try_repeated` and `try_broken`, 1 or 0 a turn.

    A turn that makes another well-formed call is no try: all four are 0. `try_correct` is unknown where the task has
    no gold answer. A branch counts the answers of its whole path.

    Args:
        answer: name of the answering call.

    Source: UFO, arXiv:2507.14295.
    """

    answer: str = "answer"
    provides: ClassVar[Mapping[str, str]] = {
        "try_valid": "turn",
        "try_correct": "turn",
        "try_repeated": "turn",
        "try_broken": "turn",
    }
    sees: ClassVar[tuple[Sees, ...]] = ("gold",)
    reads: ClassVar[tuple[Reads, ...]] = ("messages", "gold")

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Judge each turn."""
        found = [one for t in group for one in self._of(t, group)]
        return {
            "try_valid": Values.of(int(one.valid) for one in found),
            "try_correct": Values.of(None if one.correct is None else int(one.correct) for one in found),
            "try_repeated": Values.of(int(one.repeated) for one in found),
            "try_broken": Values.of(int(one.broken) for one in found),
        }

    def _of(self, trajectory: Trajectory, group: Group) -> list[Try]:
        path = trajectory.path(group)
        judged = tries([find_answer(turn, self.answer) for turn in path.turns], gold_answers(trajectory))
        found = [
            one._replace(broken=one.broken and not self._looks(turn))
            for one, turn in zip(judged, path.turns, strict=True)
        ]
        return found[len(path.turns) - len(trajectory.turns) :]

    def _looks(self, turn: Turn) -> bool:
        """Does the turn call another tool, and nothing but that?"""
        others = [call for call in turn.calls if call.name.lower() != self.answer.lower()]
        return bool(others) and all(call.error is None for call in turn.calls)
