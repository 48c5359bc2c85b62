"""The gazetteer: which questions there are, that each has one answer, that splits share no country."""

from __future__ import annotations

import re

import pytest

from workbench.envs.countries import all_documents, countries
from workbench.envs.gazetteer import Gazetteer, _questions
from workbench.envs.splits import SPLITS

ALL = ("currency", "continent", "language", "population", "capital")


def every(hops: int, split: str):
    return _questions(hops, ALL, split)


@pytest.mark.parametrize("hops", [1, 2, 3, 4])
def test_no_country_is_the_source_of_questions_in_two_splits(hops):
    sources = {split: {task.data["source"] for task in every(hops, split)} for split in SPLITS}
    assert not sources["train"] & sources["test"]
    assert not sources["shots"] & (sources["train"] | sources["test"])
    assert all(sources.values())


@pytest.mark.parametrize("hops", [1, 2, 3, 4])
def test_a_question_has_one_answer_and_does_not_hold_it(hops):
    """Read the answer off the documents alone, by pattern, independently of how the questions are built."""
    facts: dict[tuple[str, str], set[str]] = {}
    for document in all_documents():
        relation, subject, value = re.fullmatch(r"The (.+?) of (.+) is (.+)\.", document).groups()
        facts.setdefault((relation, subject), set()).add(value)
    names = {country.name for country in countries().values()}
    for task in (task for split in SPLITS for task in every(hops, split)):
        asked, rest = re.fullmatch(r"What is the (.+?) of (.+)\?", task.question).groups()
        steps = rest.count("the most populous neighbour of ")
        rest = rest.replace("the most populous neighbour of ", "")
        if rest.startswith("the country whose capital is "):
            capital = rest.removeprefix("the country whose capital is ")
            at = {name for name in names if capital in facts.get(("capital", name), ())}
        else:
            at = {rest}
        for _ in range(steps):
            at = {other for name in at for other in facts[("most populous neighbour", name)]}
        values = {value for name in at for value in facts[(asked, name)]}
        assert values == {task.gold["answer"]}, task.question
        assert hops == 1 or task.gold["answer"] not in task.question or asked == "main language"


def test_known_facts():
    finland = countries()["FI"]
    assert dict(finland.facts) == {
        "capital": "Helsinki",
        "currency": "Euro",
        "continent": "Europe",
        "language": "Finnish",
        "population": "5518050",
        "neighbour": "RU",
    }
    assert "The most populous neighbour of Finland is Russia." in all_documents()
    assert len(set(all_documents())) == len(all_documents())
    assert not {"AN", "CS"} & set(countries())


def test_distractors_are_counted_and_seeded():
    task = Gazetteer(distractors=5, seed=1).tasks("test", 1)[0]
    assert len(task.data["documents"]) == 7 and set(task.gold["documents"]) <= set(task.data["documents"])
    assert Gazetteer(distractors=5, seed=1).tasks("test", 1)[0] == task
    assert Gazetteer(distractors=5, seed=2).tasks("test", 1)[0].data != task.data
    bare = Gazetteer(distractors=0).tasks("test", 1)[0]
    assert sorted(bare.data["documents"]) == sorted(bare.gold["documents"])


def test_worked_examples_vary_what_they_ask_and_start_from_countries_of_their_own():
    shots = Gazetteer(hops=2).shots
    assert [question.split(" of ")[0] for question, _, _ in shots] == [
        "What is the currency",
        "What is the main language",
        "What is the population",
    ]
    assert len({searches[0][1] for _, searches, _ in shots}) == 3
    asked = {task.question for split in ("train", "test") for task in every(2, split)}
    assert not asked & {question for question, _, _ in shots}


def test_relations_take_turns_and_more_tasks_begin_with_the_same_ones():
    env = Gazetteer(hops=2)
    tasks = env.tasks("test", 12, seed=4)
    for start in (0, 3, 6, 9):
        assert {task.data["asks"] for task in tasks[start : start + 3]} == set(env.asks)
    assert env.tasks("test", 5, seed=4) == tasks[:5]


def test_an_answer_may_be_written_as_its_code():
    task = next(task for task in every(2, "test") if task.id.endswith("currency"))
    assert len(task.gold["aliases"]) == 2 and len(task.gold["aliases"][1]) == 3


def test_asking_for_more_questions_than_there_are_says_how_many():
    with pytest.raises(ValueError, match=r"asked for 5000 tasks, this split has \d+"):
        Gazetteer().tasks("test", 5000)
