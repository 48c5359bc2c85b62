"""Text measures of SQuAD, and the index."""

from __future__ import annotations

import pytest

from workbench.envs.answers import exact_match, f1, normalise
from workbench.envs.index import Index
from workbench.seeds import seed_for


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("The  Euro.", "euro"),
        ("a an the", ""),
        ("U.S. Dollar", "us dollar"),
        ("Anthem", "anthem"),
        ("5,518,050", "5518050"),
    ],
)
def test_normalise(text, bare):
    assert normalise(text) == bare == normalise(bare)


def test_exact_match():
    assert exact_match("the EURO!", ["Dollar", "Euro"]) == 1.0
    assert exact_match("euros", ["Euro"]) == 0.0
    assert exact_match(" . ", ["", "."]) == 0.0
    assert exact_match("x", []) == 0.0


def test_f1_counts_words_as_often_as_they_stand():
    assert f1("red red blue", ["red green"]) == pytest.approx(0.4)  # 1 shared of 3 and of 2
    assert f1("red", ["green", "the red"]) == 1.0
    assert f1("", ["red"]) == f1("red", []) == 0.0


def test_the_index_ranks_by_rare_words_and_never_returns_what_shares_none():
    index = Index(["the capital of Peru is Lima", "the capital of Chad is N'Djamena", "the the the"])
    assert index.search("capital of Chad") == ["the capital of Chad is N'Djamena"]
    assert index.search("LIMA?", 3) == ["the capital of Peru is Lima"]
    assert index.search("zebra") == index.search("") == []
    with pytest.raises(ValueError, match="words"):
        Index(["?!", ""])


def test_equal_documents_keep_their_order():
    documents = [f"door number {n}" for n in "abcdef"]
    assert Index(documents).search("door", 4) == documents[:4]


def test_seeds_are_the_same_everywhere():
    assert seed_for(0, 1, "task", 2, 3) == 5754709806624840545
    assert len({seed_for(0, 0, "t", s, k) for s in range(50) for k in range(50)}) == 2500
    assert all(0 <= seed_for(n) < 2**63 for n in range(1000))
