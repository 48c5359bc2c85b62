"""A guess before the number: what is predicted first is remembered better, right or wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.teach.table import bundle


@dataclass(frozen=True)
class Prediction:
    """A reader's guess.

    Args:
        question: what is asked.
        guess: the guess; None if none was made.
    """

    question: str
    guess: Any = None

    def reveal(self, answer: Any, tolerance: float = 0.05) -> Reveal:
        """Return the guess beside the answer.

        Args:
            answer: a number, a word, or a list of them.
            tolerance: how far a number may be off.
        """
        return Reveal(self, answer, close(self.guess, answer, tolerance))

    def __repr__(self) -> str:
        return f"{self.question}  Your guess: {'(none yet)' if self.guess is None else self.guess}"


@dataclass(frozen=True)
class Reveal:
    """A guess beside the answer; shows itself. `right` is None where nothing was guessed."""

    prediction: Prediction
    answer: Any
    right: bool | None

    @property
    def lines(self) -> tuple[str, ...]:
        """What is said."""
        word = {True: "As predicted.", False: "Not as predicted: find out why before you go on.", None: ""}[self.right]
        guess = "none; put one into the cell above and run both" if self.right is None else self.prediction.guess
        return tuple(x for x in (self.prediction.question, f"guess: {guess}", f"computed: {self.answer}", word) if x)

    def __repr__(self) -> str:
        return "\n".join(self.lines)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return bundle(repr(self), self.lines, None, self.right)


def predict(question: str, guess: Any = None) -> Prediction:
    """Write down a guess; `reveal` it against the computed value afterwards.

    Example:
        >>> predict("Mean of 1, 0, 0, 0?", 0.25).reveal(0.25).right
        True
        >>> print(predict("Mean of 1, 0, 0, 0?").reveal(0.25).right)
        None
    """
    return Prediction(question, guess)


def close(guess: Any, answer: Any, tolerance: float) -> bool | None:
    """Is a guess right? None if there is none; lists are compared item by item, words without regard to case."""
    if guess is None:
        return None
    if isinstance(answer, (list, tuple)):
        alike = isinstance(guess, (list, tuple)) and len(guess) == len(answer)
        return alike and all(close(g, a, tolerance) for g, a in zip(guess, answer, strict=True))
    if isinstance(answer, (int, float)) and not isinstance(answer, bool):
        return isinstance(guess, (int, float)) and abs(guess - answer) <= tolerance
    return str(guess).strip().lower() == str(answer).strip().lower()
