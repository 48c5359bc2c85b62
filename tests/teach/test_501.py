"""Exercises of the tutorial 501: right solutions pass, each misconception is told from the others."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from workbench.teach import lesson501 as lesson

SOURCE = Path(__file__).resolve().parents[2] / "tutorials" / "501_from_a_laptop_to_many_nodes.py"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_truth_passes(seed):
    lesson.everything(lesson.state_gb, lesson.step_s, seed)


def test_plain_solutions_pass():
    def step(rollout, learn, sync, delay):
        return (max(rollout, learn) if delay else rollout + learn) + sync

    lesson.everything(lambda w, t, g, b: b * (w + 3 * t) / g, step)


@pytest.mark.parametrize(
    ("exercise", "misconception"),
    [(e, m) for e in lesson.EXERCISES.values() for m in e.misconceptions],
    ids=lambda one: one.name.replace(" ", "-"),
)
def test_each_misconception_is_named(exercise, misconception):
    verdict = exercise(misconception.wrong)
    assert not verdict and verdict.misconception is misconception
    assert misconception.says in repr(verdict)


def test_what_a_gpu_holds_is_what_the_planner_says():
    from workbench.scale.footprint import Training, learner_memory
    from workbench.scale.shapes import lora_parameters, parameters, preset

    shape = preset("7b")
    for rank, learners in ((0, 1), (0, 8), (16, 4)):
        found = learner_memory(shape, Training(learners=learners, lora_rank=rank))
        adapters = lora_parameters(shape, rank) if rank else 0
        weights = parameters(shape) + adapters
        told = lesson.state_gb(weights / 1e9, (adapters or weights) / 1e9, learners, 4)
        assert found.weights + found.gradients + found.optimiser == pytest.approx(1e9 * told)


def test_hints_and_stubs():
    assert "Hint 2 of 3" in repr(lesson.hint("ex2", 2))

    def stub(*arguments):
        raise NotImplementedError("Exercise 1")

    with pytest.raises(NotImplementedError):
        lesson.everything(stub, stub)


def test_readers_get_stubs_for_both_exercises():
    from workbench.teach.variants import without_solution

    text = without_solution(SOURCE.read_text("utf-8"))
    assert text.count("raise NotImplementedError") == 2
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
    assert [str(error).split(":")[0] for _, error in failed] == ["Exercise 1", "Exercise 2"]
    assert all("exercise" in cell.metadata["tags"] and isinstance(e, NotImplementedError) for cell, e in failed)
