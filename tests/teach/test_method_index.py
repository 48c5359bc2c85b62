"""The index of methods: everything has its place, and what is drawn says what was computed."""

from __future__ import annotations

import pytest
import torch

from workbench import catalogue
from workbench.credit import Credit
from workbench.teach import method_index as index


def credit(values):
    """Credit of turns, all known."""
    return Credit(torch.tensor(values, dtype=torch.float64), "turn", torch.ones(len(values), dtype=torch.bool))


CREDITS = {
    "up": credit([1.0, 2.0, 3.0, 4.0]),
    "too": credit([1.0, 2.0, 4.0, 3.0]),
    "down": credit([4.0, 3.0, 2.0, 1.0]),
    "<b>": credit([4.0, 3.0, 1.0, 2.0]),
}


@pytest.mark.parametrize("groups", [index.NEEDS, index.ANSWERS], ids=["needs", "answers"])
def test_every_method_has_its_place(groups):
    """A method that reads columns nobody has put anywhere would stand under "something else"."""
    lost = [name for name, recipe in index.every().items() if index.group_of(recipe, groups) == index.ELSE]
    assert lost == [], f"add a column of each to a group of workbench.teach.method_index: {lost}"


def test_every_method_is_asked_once():
    text = index.questions().data
    names = ", ".join(line.split("|")[2].strip() for line in text.splitlines()[2:])
    assert sorted(names) == sorted(", ".join(row.name for row in catalogue.ALL if row.recipes))


def test_pairs_that_agree_least_name_nobody_too_often():
    pairs = index.least_alike(CREDITS, often=1)
    assert {(a, b) for _, a, b in pairs} == {("up", "down"), ("too", "<b>")}
    assert pairs[0][0] == pytest.approx(-1.0)
    assert len(index.least_alike(CREDITS, often=9)) == 6


def test_the_matrix_shows_names_as_text():
    page = index.matrix(CREDITS).data
    assert "<b>" not in page and page.count("&lt;b&gt;") == 2
    assert page.count("<td style") == 16 and "−1<" in page
