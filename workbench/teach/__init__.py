"""Teaching: exercises that are checked by properties, predictions before a reveal, and both variants of a tutorial.

    lesson101       exercises of the tutorial "from one rollout by hand to GRPO"
    lesson201       exercises of the tutorial "the stages, one by one"
    predict         a guess, before the number
    exercises       the reader's variant of a tutorial, made from its one source

A check says what holds, shows a rollout on which a wrong solution goes wrong, and names the misconception it looks
like. It never shows code.
"""

from __future__ import annotations

from workbench.teach.checking import Exercise, Misconception, Verdict
from workbench.teach.predict import Prediction, predict
from workbench.teach.variants import exercises

__all__ = ["Exercise", "Misconception", "Prediction", "Verdict", "exercises", "predict"]
