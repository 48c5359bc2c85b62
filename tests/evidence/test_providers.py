"""Outcomes from answers, state identity, recorded facts, and the table from column to provider."""

from __future__ import annotations

from typing import Any

import pytest

from workbench import evidence, recipes
from workbench.evidence import AnswerOutcome, Cache, MissingEvidence, Recorded, StateIdentity, ToolMatching
from workbench.evidence.answers import find_answer, gold_answers
from workbench.evidence.states import cluster, state_code
from workbench.rollouts import Rollouts
from workbench.trajectory import Message, RecordError, ToolCall, Trajectory, Turn


def turn(name: str, text: str = "...", seen: str = "", **more: Any) -> Turn:
    observations = (Message(f"{name}o", "user", seen),) if seen else ()
    return Turn(Message(name, "assistant", text), observations, **more)


def answering(name: str, **arguments: Any) -> Turn:
    call = ToolCall(f"{name}c", "answer", arguments=arguments)
    return Turn(Message(name, "assistant", "answer", calls=(call,)))


def rollout(name: str, *turns: Turn, group: str = "g", **more: Any) -> Trajectory:
    prompt = () if more.get("parent") else (Message(f"{name}q", "user", "which currency?"),)
    return Trajectory(name, group, prompt=prompt, turns=turns, **more)


def column(name: str, provider: Any, *trajectories: Trajectory) -> list[Any]:
    got = evidence.collect(Rollouts(trajectories), [provider], cache=Cache()).columns[name]
    return [v if k else None for v, k in zip(got.values.tolist(), got.known.tolist(), strict=True)]


EURO = {"answer": "Euro", "aliases": ["EUR"]}


# ------------------------------------------------------------------------------------------------- answers


def test_find_answer() -> None:
    assert find_answer(answering("a", text=" the euro ")) == "the euro"
    assert find_answer(answering("a", text="x", more="y")) is None
    assert find_answer(answering("a", text=3)) is None
    assert find_answer(turn("a", "so <answer>\nEuro</answer> or <answer>Yen</answer>")) == "Euro"
    assert find_answer(turn("a", "Euro")) is None
    broken = ToolCall("c", "answer", raw="answer(", error="no bracket")
    assert find_answer(Turn(Message("a", "assistant", "answer(", calls=(broken,)))) is None


def test_outcomes() -> None:
    right = rollout("a", turn("a0"), answering("a1", text="eur."), gold=EURO)
    partly = rollout("b", answering("b0", text="euro coin"), gold=EURO)
    silent = rollout("c", turn("c0", "Euro"), gold=EURO)
    unknown = rollout("d", answering("d0", text="Euro"))
    four = (right, partly, silent, unknown)
    assert column("outcome", AnswerOutcome(), *four) == [1.0, 0.0, 0.0, None]
    assert column("outcome", AnswerOutcome("f1"), *four) == [1.0, pytest.approx(2 / 3), 0.0, None]
    assert column("outcome", AnswerOutcome(plain=True), *four) == [1.0, 0.0, 1.0, None]
    assert column("em", AnswerOutcome(column="em"), *four) == [1.0, 0.0, 0.0, None]


def test_the_last_answer_counts() -> None:
    twice = rollout("a", answering("a0", text="Yen"), answering("a1", text="Euro"), gold=EURO)
    assert column("outcome", AnswerOutcome(), twice) == [1.0]


def test_bad_gold_is_named() -> None:
    with pytest.raises(RecordError, match="trajectory 'a'.*gold"):
        gold_answers(rollout("a", gold={"answer": 7}))
    with pytest.raises(RecordError, match="list of texts"):
        gold_answers(rollout("a", gold={"aliases": "EUR"}))
    with pytest.raises(ValueError, match="measure"):
        AnswerOutcome("bleu")  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------- states


def test_states_by_key_else_by_text() -> None:
    keyed = [rollout(n, turn(f"{n}0", state_key="hall"), turn(f"{n}1", state_key=n)) for n in ("a", "b")]
    a0, a1, b0, b1 = column("state", StateIdentity(), *keyed)
    assert a0 == b0 and len({a0, a1, b1}) == 3
    seen = [rollout(n, turn(f"{n}0", seen="a door"), turn(f"{n}1", state_key="x")) for n in ("a", "b")]
    a0, a1, b0, b1 = column("state", StateIdentity(), *seen)
    assert a0 == b0 and a1 == b1 and a0 != a1
    assert a1 == state_code("text a door")


def test_similar_texts_join_the_first_of_their_cluster() -> None:
    texts = ["you are in the kitchen, step 1", "you are in the kitchen, step 2", "outside"]
    trajectories = [rollout(n, turn(f"{n}0", seen=t), turn(f"{n}1")) for n, t in zip("abc", texts, strict=True)]
    exact = column("state", StateIdentity("text"), *trajectories)[1::2]
    similar = column("state", StateIdentity("similar text"), *trajectories)[1::2]
    assert len(set(exact)) == 3
    assert similar[0] == similar[1] != similar[2]
    assert cluster(["ab", "ab", "cd"], 1.0) == ["ab", "ab", "cd"]


def test_a_branch_starts_in_the_state_it_branched_from() -> None:
    root = rollout("a", turn("a0", seen="a door"), turn("a1", seen="a wall"))
    branch = rollout("a.1", turn("b0"), parent=("a", 0))
    codes = column("state", StateIdentity("text"), root, branch)
    assert codes[2] == codes[1]


# --------------------------------------------------------------------------------------------------- oracle


def test_recorded_facts() -> None:
    one = rollout("a", turn("a0", rewards={"best": 1.0}, extra={"reachable": True}), turn("a1", extra={"columns": {}}))
    two = rollout("b", turn("b0", extra={"columns": {"reachable": False}}))
    provider = Recorded({"on_path": "best", "reachable": "reachable"})
    assert column("on_path", provider, one, two) == [1.0, None, None]
    assert column("reachable", provider, one, two) == [1.0, None, 0.0]
    assert Recorded.of("best").provides == {"best": "turn"}
    with pytest.raises(RecordError, match="turn 0.*expected a number"):
        column("best", Recorded.of("best"), rollout("c", turn("c0", extra={"best": "yes"})))


# ---------------------------------------------------------------------------------------------------- table


def test_for_recipe_lists_what_is_needed_once() -> None:
    assert evidence.for_recipe([recipes.matchtir(), recipes.grpo(), recipes.matchtir_released()]) == [ToolMatching()]
    assert evidence.for_recipe(recipes.grpo()) == []


def test_for_recipe_fills_what_the_rollouts_lack() -> None:
    unscored = Rollouts((rollout("a", answering("a0", text="Euro"), gold=EURO),))
    with pytest.raises(MissingEvidence, match="turn_reward: it is there but known for no turn"):
        evidence.for_recipe(recipes.gigpo(), unscored)
    recipe = recipes.gigpo(reward=None)
    providers = evidence.for_recipe(recipe, unscored)
    assert providers == [AnswerOutcome(), StateIdentity()]
    filled = evidence.collect(unscored, providers, cache=Cache())
    assert filled.batch()["outcome"].values.tolist() == [1.0]
    assert evidence.for_recipe(recipe, filled) == []


def test_missing_evidence_is_one_error_that_says_what_to_do() -> None:
    with pytest.raises(MissingEvidence) as caught:
        evidence.for_recipe([recipes.igpo(), recipes.matchtir(reward="mood"), recipes.grpo(kl=0.1)], training=True)
    assert caught.value.columns == ("gold_logprob", "gold_logprob_start", "mood", "logprob_ref")
    told = str(caught.value)
    for words in ("igpo, matchtir, grpo", "policy=policy", "with_column('mood'", "reference=reference"):
        assert words in told
