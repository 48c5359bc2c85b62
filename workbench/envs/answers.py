"""Is an answer right? The text measures of SQuAD, as pure functions."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise(text: str) -> str:
    """Lower the case, drop punctuation and English articles, join white space.

    Source: SQuAD v1.1 evaluation script, `normalize_answer` (Rajpurkar et al. 2016).

    Example:
        >>> normalise(" The  Euro.")
        'euro'
    """
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(answer: str, aliases: Iterable[str]) -> float:
    """Return 1.0 if the normalised answer is one of the normalised aliases, else 0.0. An empty answer is wrong.

    Differs: SQuAD counts an empty answer as right where the gold answer is empty; here it never is.

    Example:
        >>> exact_match("the euro", ["Euro", "EUR"]), exact_match("", [""])
        (1.0, 0.0)
    """
    said = normalise(answer)
    return float(said != "" and said in {normalise(alias) for alias in aliases})


def f1(answer: str, aliases: Iterable[str]) -> float:
    """Return the best F1 over the aliases: 2PR / (P + R) of the normalised words, counted with multiplicity.

    Source: SQuAD v1.1 evaluation script, `f1_score`, taken as a maximum over the gold answers.

    Example:
        >>> f1("west african franc", ["CFA Franc", "Franc"])
        0.5
    """
    return max((_f1(normalise(answer).split(), normalise(alias).split()) for alias in aliases), default=0.0)


def _f1(said: list[str], gold: list[str]) -> float:
    shared = sum((Counter(said) & Counter(gold)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(said), shared / len(gold)
    return 2 * precision * recall / (precision + recall)
