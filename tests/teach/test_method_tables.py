"""Tables of the method pages: numbers stand to the right, words to the left; outcomes stand by their question."""

from __future__ import annotations

from workbench import recipes
from workbench.rollouts import Rollouts
from workbench.teach import method_page as page
from workbench.trajectory import Message, Trajectory, Turn


def sides(rows):
    return page.table(["a", "b", "c"], rows).data.splitlines()[1].split("|")[1:-1]


def test_columns_of_numbers_stand_to_the_right():
    rows = [["+0.10", 3, "12%"], ["-1e-07", "?", ""], ["1,024", "-", "0.5%"]]
    assert sides(rows) == [" ---: "] * 3


def test_words_rows_of_numbers_and_empty_columns_stay_left():
    assert sides([["turn 1", "+0.1, -0.2", ""], ["2", "+0.1", "?"]]) == [" --- "] * 3
    assert page.table(["a"], []).data.splitlines()[1] == "| --- |"


def test_outcomes_stand_by_their_question():
    def rollout(name, group, outcome):
        turn = Turn(Message("a", "assistant", "Answer: 7"))
        return Trajectory(name, group, prompt=(Message("q", "user", f"{group}?"),), turns=(turn,), outcome=outcome)

    made = Rollouts((rollout("0", "how many", 0.0), rollout("1", "how many", 1.0), rollout("2", "which", 0.5)))
    assert page.outcomes(made).data.splitlines()[2:] == ["| how many? | 0 1 |", "| which? | 0.5 |"]


def test_quick_facts_say_what_asks_a_model():
    """Of credit, of the KL term, of a head, of nobody; a column that no provider makes is not said to be free."""

    def asked(recipe):
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.facts(recipe).data.splitlines()]
        return dict(row[:2] for row in rows)["calls of a model"]

    assert asked(recipes.matchtir()) == "none"
    assert asked(recipes.bilevel_gae()) == "one pass of the head"
    assert asked(recipes.vpr_turns()) == "depends on who makes its columns"


def test_quick_facts_name_the_question_and_count_the_axioms():
    said = page.facts(recipes.grpo(kl=0.0)).data
    assert "Was this rollout better than its siblings?" in said
    assert "6 beside the 4 of every recipe" in said
