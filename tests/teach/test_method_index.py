"""The index of methods: everything has its place, and what is drawn says what was computed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from workbench import catalogue
from workbench.credit import Credit, chain, read, spread
from workbench.objective import clipped
from workbench.recipes import Recipe
from workbench.teach import method_index as index
from workbench.teach import method_page as page


def credit(values):
    """Credit of turns, all known."""
    return Credit(torch.tensor(values, dtype=torch.float64), "turn", torch.ones(len(values), dtype=torch.bool))


CREDITS = {
    "up": credit([1.0, 2.0, 3.0, 4.0]),
    "too": credit([1.0, 2.0, 4.0, 3.0]),
    "down": credit([4.0, 3.0, 2.0, 1.0]),
    "<b>": credit([4.0, 3.0, 1.0, 2.0]),
}


def test_every_method_has_its_place():
    """One whose columns say nothing would stand under "something else"; its row then says what it asks."""
    rows = {row.recipes[0]: row for row in catalogue.ALL if row.recipes}
    made = index.every()
    assert [name for name, recipe in made.items() if index.group_of(recipe) == index.ELSE] == []
    lost = [name for name, recipe in made.items() if index.question_of(rows[name], recipe) == index.ELSE]
    assert lost == [], f"say in the row what each asks, `asks=...`: {lost}"


def test_a_method_of_columns_that_nobody_placed_stands_where_its_evidence_comes_from():
    def reads(column):
        return Recipe("new", chain(read(column), spread("token")), clipped())

    assert index.group_of(reads("of_a_new_world")) == "states, or rewards of the world"
    assert index.group_of(reads("tool_success")).startswith("rules")
    assert index.group_of(reads("shapley_error")).startswith("rollouts played or read anew")
    row = replace(catalogue.find("GRPO"), asks="Did it rain?")
    assert index.question_of(row, reads("of_a_new_world")) == "Did it rain?"


def test_every_method_is_asked_once():
    text = index.questions().data
    cells = ", ".join(line.split("|")[2].strip() for line in text.splitlines()[2:])
    names = re.findall(r"\[(.*?)\]\(methods/\w+\.ipynb\)", cells)
    assert sorted(names) == sorted(row.name for row in catalogue.ALL if row.recipes)


def test_columns_of_numbers_stand_to_the_right():
    rows = [["**+0.1**", "0.53 ± 0.09", "16", "4 of 5"], ["0", "± 0.1", "with the one above", "no"]]
    assert (
        page.table(["mean", "interval", "calls", "found"], rows).data.splitlines()[1] == "| ---: | ---: | ---: | --- |"
    )


def test_pairs_that_agree_least_name_nobody_too_often():
    pairs = index.least_alike(CREDITS, often=1)
    assert {(a, b) for _, a, b in pairs} == {("up", "down"), ("too", "<b>")}
    assert pairs[0][0] == pytest.approx(-1.0)
    assert len(index.least_alike(CREDITS, often=9)) == 6


def test_the_matrix_shows_names_as_text():
    shown = index.matrix(CREDITS).data
    assert "<b>" not in shown and shown.count("&lt;b&gt;") == 2
    assert shown.count("<td style") == 16 and "−1<" in shown
