"""Exercises of the tutorial 201: right solutions pass, each misconception is named and told from the others."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from workbench import recipes
from workbench.credit import chain, mix, read, reward_to_go, same_state, spread, task, zscore
from workbench.teach import cases201
from workbench.teach import lesson201 as lesson
from workbench.teach.checking import same, values
from workbench.teach.variants import without_solution

SOURCE = Path(__file__).resolve().parents[2] / "tutorials" / "201_the_stages_one_by_one.py"


def others(outcome, group):
    """A reader's: sums of groups, minus oneself."""
    out = []
    for r, g in zip(outcome, group, strict=True):
        mine = [x for x, h in zip(outcome, group, strict=True) if h == g]
        out.append(r - (sum(mine) - r) / (len(mine) - 1) if len(mine) > 1 else 0.0)
    return out


def follows(reward, gamma):
    """A reader's: the definition, a sum over what follows."""
    known = [[x for x in row if x is not None] for row in reward]
    return [[sum(gamma**k * x for k, x in enumerate(row[t:])) for t in range(len(row))] for row in known]


def gigpo(gamma):
    whole = chain(read("outcome"), zscore(task, singleton="keep"), spread("turn"))
    return mix(whole, chain(read("turn_reward"), reward_to_go(gamma), zscore(same_state)))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_right_solutions_pass(seed):
    assert len(lesson.everything(others, follows, gigpo, seed)) == 3
    assert lesson.ex3(lambda gamma: chain(*recipes.gigpo(gamma).chain.stages[:-1]), seed)  # the library's own


@pytest.mark.parametrize(
    ("exercise", "misconception"),
    [(e, m) for e in lesson.EXERCISES.values() for m in e.misconceptions],
    ids=lambda one: one.name.replace(" ", "-"),
)
def test_each_misconception_is_named_and_its_counterexample_tells_it_from_the_others(exercise, misconception):
    for seed in (0, 1):
        verdict = exercise(misconception.wrong, seed)
        assert not verdict and verdict.misconception is misconception
        assert misconception.says in repr(verdict)
        shown = verdict.counterexample
        assert not same(values(misconception.wrong(*shown.args)), shown.want)
        alike = [m.name for m in exercise.misconceptions if m.explains(shown.args, shown.got, shown.want)]
        assert alike == [misconception.name]
        right = {"ex1": others, "ex2": follows, "ex3": lesson._ran(gigpo)}[exercise.name]
        assert same(values(right(*shown.args)), shown.want)  # a right solution does not stumble on it


def test_there_are_enough():
    assert len([m for e in lesson.EXERCISES.values() for m in e.misconceptions]) >= 20


def test_properties_hold_for_the_truth_and_break_for_wrong_solutions():
    assert "adding a number to all outcomes of a question changes nothing" in lesson.ex1(cases201.whole_batch).broken
    assert "more unknown turns in between change nothing" in lesson.ex2(cases201.gap_discounts).broken


def test_an_unknown_turn_given_a_number_is_said():
    verdict = lesson.ex2(lambda reward, gamma: [[x or 0.0 for x in row] for row in reward])
    assert not verdict
    with_gaps = lesson.ex2(
        lambda reward, gamma: [[0.0] * len(row) for row in reward] if None in reward[0] else follows(reward, gamma)
    )
    assert "Expected 1 rows of 2, your function returned 1 rows of 3" in repr(with_gaps)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda gamma: 3, "expected stages"),
        (lambda gamma: read("outcome"), "your stages end on 'trajectory'"),
        (lambda gamma: read("judge"), "raised"),
    ],
)
def test_what_is_no_chain_of_turns_is_said(make, said):
    assert said in repr(lesson.ex3(make))


def test_hints_and_stubs():
    assert "Hint 2 of 3" in repr(lesson.hint("ex3", 2))

    def stub(*arguments):
        raise NotImplementedError("Exercise 1")

    with pytest.raises(NotImplementedError):
        lesson.everything(stub, stub, stub)
    with pytest.raises(AssertionError, match=r"seed 7(.|\n)*unknown is zero"):
        lesson.everything(others, cases201.gap_discounts, gigpo, 7)


def test_readers_get_stubs_for_all_exercises():
    text = without_solution(SOURCE.read_text("utf-8"))
    assert text.count("raise NotImplementedError") == 3
    ast.parse(text)


@pytest.mark.slow
def test_the_readers_variant_fails_only_where_a_reader_has_to_write(monkeypatch):
    from workbench import notebook as nb
    from workbench.teach import exercises

    monkeypatch.chdir(SOURCE.parent)
    names, failed = {"__name__": "notebook"}, []
    for cell in exercises(nb.read_source(SOURCE)).cells:
        if cell.cell_type == "code":
            try:
                exec(compile(cell.source, "cell", "exec"), names)
            except Exception as error:  # every kind is looked at below
                failed.append((cell, error))
    assert {str(error).split(":")[0] for _, error in failed} == {"Exercise 1", "Exercise 2", "Exercise 3"}
    assert all("exercise" in cell.metadata["tags"] and isinstance(e, NotImplementedError) for cell, e in failed)
