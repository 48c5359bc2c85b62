"""Was the answer right? Fills `outcome` from the gold answer, by exact match or by F1."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from workbench.envs.answers import exact_match, f1
from workbench.evidence.base import Meter, Provider, Reads, Sees, Values
from workbench.trajectory import Group, RecordError, Trajectory, Turn

Measure = Literal["exact match", "f1", "set f1"]
_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_PUNCTUATION = str.maketrans(string.punctuation, " " * len(string.punctuation))


def find_answer(turn: Turn, call: str = "answer") -> str | None:
    """Return the answer a turn gives, or None if it gives none.

    Args:
        turn: where to look: the first well-formed call of that name with a single text argument, else the first
            <answer>...</answer> in the text.
        call: name of the answering call.

    Example:
        >>> from workbench.trajectory import Message
        >>> find_answer(Turn(Message("m", "assistant", "So <answer> Paris </answer>")))
        'Paris'
    """
    for made in turn.calls:
        if made.name.lower() == call.lower() and made.arguments is not None and len(made.arguments) == 1:
            (given,) = made.arguments.values()
            if isinstance(given, str):
                return given.strip()
    tagged = _TAG.search(turn.action.text)
    return tagged.group(1).strip() if tagged else None


def gold_answers(trajectory: Trajectory) -> list[str] | None:
    """Return the accepted answers (`gold["answer"]` and `gold["aliases"]`), or None if the task has none.

    Raises:
        RecordError: they are no texts.
    """
    answer, aliases = trajectory.gold.get("answer"), trajectory.gold.get("aliases") or ()
    found = list(dict.fromkeys([*([] if answer is None else [answer]), *aliases]))
    if not all(isinstance(one, str) for one in found) or isinstance(aliases, str):
        problem = f"expected a text and a list of texts, got answer {answer!r}, aliases {aliases!r}"
        raise RecordError(problem, trajectory=trajectory.id, field="gold")
    return found or None


def set_f1(answer: str, golds: Iterable[str]) -> float:
    """Compare the sets of words -> best F1 over the accepted answers. Articles count, repeated words do not.

        P = |A & G| / |A|,  R = |A & G| / |G|,  F1 = 2 P R / (P + R)

    Source: MatchTIR, released `compute_answer_f1` (one gold answer there).

    Example:
        >>> set_f1("The Eiffel Tower, Paris", ["Eiffel Tower (Paris) France"])
        0.75
    """
    return max((_set_f1(words(answer), words(gold)) for gold in golds), default=0.0)


def words(text: str) -> set[str]:
    """Return the words of a text: lower case, punctuation separates.

    Source: MatchTIR, released `preprocess_text`.
    """
    return set(text.lower().translate(_PUNCTUATION).split())


def _set_f1(said: set[str], gold: set[str]) -> float:
    shared = len(said & gold)
    return 2 * shared / (len(said) + len(gold)) if shared else 0.0


@dataclass(frozen=True)
class AnswerOutcome(Provider):
    """Score the last answer of each trajectory against the gold answers: `outcome`.

    A trajectory without an answer has outcome 0.0: it did not answer. One whose task has no gold answer is unknown.

    Args:
        measure: "exact match" (SQuAD normalisation), "f1" (SQuAD, words with multiplicity) or "set f1" (MatchTIR).
        column: name of the column.
        answer: name of the call that answers.
        plain: where the last turn has neither that call nor an <answer> tag, and makes no call at all, take its whole
            text as the answer (chat logs).
    """

    measure: Measure = "exact match"
    column: str = "outcome"
    answer: str = "answer"
    plain: bool = False
    sees: ClassVar[tuple[Sees, ...]] = ("gold",)
    reads: ClassVar[tuple[Reads, ...]] = ("messages", "gold")

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise ValueError(f"expected a measure of {sorted(MEASURES)}, got {self.measure!r}")

    @property
    def provides(self) -> Mapping[str, str]:  # type: ignore[override]
        """The one column."""
        return {self.column: "trajectory"}

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Score each trajectory."""
        return {self.column: Values.of(self.score(t) for t in group)}

    def score(self, trajectory: Trajectory) -> float | None:
        """Return the outcome of one trajectory; None is unknown."""
        golds, said = gold_answers(trajectory), self.last_answer(trajectory)
        if golds is None:
            return None
        return 0.0 if said is None else MEASURES[self.measure](said, golds)

    def last_answer(self, trajectory: Trajectory) -> str | None:
        """Return the answer that is scored; the last one given. A branch that gives none of its own has none."""
        said = [found for turn in trajectory.turns if (found := find_answer(turn, self.answer)) is not None]
        if said:
            return said[-1]
        last = trajectory.turns[-1] if trajectory.turns else None
        return last.action.text.strip() if self.plain and last is not None and not last.calls else None


MEASURES = {"exact match": exact_match, "f1": f1, "set f1": set_f1}
