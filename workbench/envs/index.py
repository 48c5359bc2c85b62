"""Search over a list of documents: BM25 as the library bm25s computes it."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import bm25s

_WORD = re.compile(r"[a-z0-9]+")


def words_of(text: str) -> list[str]:
    """Split into lower-case words without accents; no stemming, no stop words.

    Example:
        >>> words_of("The capital of Curaçao?")
        ['the', 'capital', 'of', 'curacao']
    """
    plain = unicodedata.normalize("NFKD", text.lower())
    return _WORD.findall("".join(c for c in plain if not unicodedata.combining(c)))


class Index:
    """A BM25 index (Lucene's variant, k1 = 1.5, b = 0.75: the defaults of bm25s) over documents.

    Lucene's variant has no negative inverse document frequency, which matters in an index of ten documents.

    Args:
        documents: one text each, at least one word in all of them together.
    """

    def __init__(self, documents: Sequence[str]):
        self.documents = tuple(documents)
        words = [words_of(document) for document in self.documents]
        self._vocabulary = {word for document in words for word in document}
        if not self._vocabulary:
            raise ValueError(f"expected documents with words in them, got {len(self.documents)} without any")
        self._bm25 = _bm25(words)

    def search(self, query: str, count: int = 1) -> list[str]:
        """Return the `count` best documents, best first; equal scores in the order of the documents.

        A document that shares no word with the query is never returned.
        """
        asked = [word for word in words_of(query) if word in self._vocabulary]
        if not asked:
            return []
        scores = self._bm25.get_scores(asked)
        best = (-scores).argsort(kind="stable")[:count]
        return [self.documents[i] for i in best if scores[i] > 0]


@lru_cache(maxsize=64)
def index_of(documents: tuple[str, ...]) -> Index:
    """Return the index of some documents; those of the last 64 lists are kept, for a task is played many times."""
    return Index(documents)


@cache
def _library() -> ModuleType:
    """The library, kept from writing a debug line an index to every root handler."""
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.WARNING)
    return bm25s


def _bm25(words: list[list[str]]) -> bm25s.BM25:
    index = _library().BM25(method="lucene")
    index.index(words, show_progress=False)
    return index
