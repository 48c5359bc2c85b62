"""Exercises of the method notebooks: the right solution passes, every named misconception is rejected and named."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace

import pytest

from workbench.teach import methods
from workbench.teach.checking import same, values

LESSONS = {
    name: importlib.import_module(f"workbench.teach.methods.{name}")
    for name in sorted(m.name for m in pkgutil.iter_modules(methods.__path__) if not m.name.startswith("_"))
}


def remembered(ex):
    """The exercise with its truths kept: the cases of a seed are the same for every solution."""
    kept = {}

    def truth(*args):
        key = repr(args)
        if key not in kept:
            kept[key] = ex.truth(*args)
        return kept[key]

    return replace(ex, truth=truth)


EX = {name: remembered(lesson.ex) for name, lesson in LESSONS.items()}
WRONG = [(name, m.name) for name, lesson in LESSONS.items() for m in lesson.ex.misconceptions]


@pytest.mark.parametrize("name", LESSONS)
def test_the_right_solution_passes(name):
    for seed in range(3):
        verdict = EX[name](LESSONS[name].right, seed)
        assert verdict, repr(verdict)
        assert verdict.cases >= 8


@pytest.mark.parametrize("name", LESSONS)
def test_ten_misconceptions_have_a_name(name):
    ex = LESSONS[name].ex
    assert len({m.name for m in ex.misconceptions}) == len(ex.misconceptions) >= 10
    assert len(ex.hints) >= 2 and ex.properties
    assert all(m.says.startswith("You") and len(m.says) > 40 for m in ex.misconceptions)


@pytest.mark.parametrize(("name", "wrong"), WRONG)
def test_a_misconception_is_rejected_by_name_with_a_counter_example(name, wrong):
    ex = EX[name]
    one = next(m for m in ex.misconceptions if m.name == wrong)
    verdict = ex(one.wrong)
    assert not verdict
    assert verdict.misconception is one, f"named {verdict.misconception and verdict.misconception.name}"
    shown = verdict.counterexample
    assert shown is not None and not shown.problem
    assert not same(values(one.wrong(*shown.args)), values(ex.truth(*shown.args)))
    assert one.says in repr(verdict) and verdict.table is not None
    assert verdict.table.bad or not isinstance(shown.want, tuple), "nothing is marked"
    assert "<table" in verdict._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize("name", LESSONS)
def test_a_property_is_kept_by_the_truth(name):
    from random import Random

    ex = LESSONS[name].ex
    for args in ex.cases(Random(5)):
        got = values(ex.truth(*args))
        for one in ex.properties:
            assert one.holds(args, got, ex.truth), one.says
