"""Records: what they hold, what they refuse, and how they are read."""

from __future__ import annotations

import math
import pickle

import pytest

from workbench.trajectory import (
    Example,
    Group,
    Message,
    Pair,
    Part,
    Prefix,
    RecordError,
    Sequence,
    Span,
    ToolCall,
    Trajectory,
    Turn,
)

SHA = "0" * 63 + "a"


def said(name: str, text: str, role: str = "assistant", **more) -> Message:
    return Message(name, role, text, **more)


def turn(k: int, text: str = "act", back: str = "seen", **more) -> Turn:
    return Turn(said(f"a{k}", f"{text} {k}"), (said(f"o{k}", f"{back} {k}", "tool"),), **more)


def story(name: str = "run/0/task/0", turns: int = 2, **more) -> Trajectory:
    return Trajectory(name, "task", (said("p", "Question?", "user"),), tuple(turn(k) for k in range(turns)), **more)


# --------------------------------------------------------------------------------------------- what they hold


def test_a_template_that_drops_thinking_gives_two_sequences_of_one_trajectory():
    first = Sequence((Span((1, 2), "prompt"), Span((90, 91, 5), "sampled", 0, "a0", logprobs=(-0.1, -0.2, None))))
    second = Sequence((Span((1, 2, 5, 6), "prompt"), Span((92, 7), "sampled", 1, "a1")))
    t = story(sequences=(first, second))
    assert [len(s) for s in t.sequences] == [5, 6]
    assert [span.ids for span in t.sampled(0)] == [(90, 91, 5)]
    assert [span.ids for span in t.sampled(1)] == [(92, 7)]
    assert second.ids == (1, 2, 5, 6, 92, 7)


def test_two_tool_calls_in_one_turn_are_answered_by_id():
    calls = (ToolCall("c1", "search", '{"q": 1}', {"q": 1}), ToolCall("c2", "search", "{", error="not JSON"))
    action = Message("a0", "assistant", calls=calls)
    results = tuple(Message(f"o{i}", "tool", f"result {i}", answers=f"c{3 - i}") for i in (1, 2))
    t = Trajectory("t", "g", turns=(Turn(action, results),))
    assert [c.name for c in t.turns[0].calls] == ["search", "search"]
    assert [m.answers for m in t.turns[0].observations] == ["c2", "c1"]  # in any order
    assert t.turns[0].calls[1].arguments is None


def test_two_agents_keep_their_names():
    talk = (Turn(said("a0", "plan"), agent="planner"), Turn(said("a1", "do"), agent="worker", policy="small"))
    t = Trajectory("t", "g", turns=talk)
    assert t.to_frame()["agent"].tolist() == ["planner", "worker"]


def test_an_image_is_a_hash_and_a_media_type():
    m = Message("p", "user", (Part(text="What is this? "), Part("image", sha256=SHA, mime="image/png")))
    assert m.text == "What is this? [image image/png]"
    with pytest.raises(RecordError, match="64 hex digits"):
        Part("image", sha256="ff", mime="image/png")
    with pytest.raises(RecordError, match="media type"):
        Part("image", sha256=SHA, mime="png")


def test_without_tokens_everything_at_turn_level_works():
    t = story()
    assert not t.has_tokens
    assert t.to_frame()["tokens"].isna().all()
    assert t.sampled(0) == ()


def test_records_are_frozen_to_the_last_mapping():
    t = story(rewards={"f1": 0.5}, extra={"note": 1})
    with pytest.raises(TypeError):
        t.rewards["f1"] = 1.0  # type: ignore[index]
    with pytest.raises(AttributeError):
        t.outcome = 1.0  # type: ignore[misc]
    given = {"f1": 0.5}
    kept = story(rewards=given)
    given["f1"] = 9.0
    assert kept.rewards["f1"] == 0.5


def test_pickle_round_trip_keeps_equality_and_stays_frozen():
    calls = (ToolCall("c", "f", "{}", {"x": [1, {"y": None}]}),)
    action = Message("a0", "assistant", "go", calls=calls, extra={"k": 1})
    one = Turn(action, reward=0.5, rewards={"r": None}, sampling={"temperature": 0.7}, policy_version=(1, 2))
    t = Trajectory("t", "g", turns=(one,), gold={"answer": "x"}, extra={"more": [1]})
    again = pickle.loads(pickle.dumps(t))
    assert again == t
    with pytest.raises(TypeError):
        again.gold["answer"] = "y"


def test_token_ids_of_other_libraries_become_plain_integers():
    import numpy as np
    import torch

    assert Span(np.array([1, 2]), "prompt").ids == (1, 2)  # type: ignore[arg-type]
    ids = Span(torch.tensor([3]), "prompt").ids  # type: ignore[arg-type]
    assert ids == (3,) and type(ids[0]) is int


# ------------------------------------------------------------------------------------------- what they refuse

SAMPLED = Span((1,), "sampled", 0, "a0")
WRONG = {
    "reward that is NaN": (lambda: story(outcome=math.nan), {"trajectory": "run/0/task/0", "field": "outcome"}),
    "reward that is text": (lambda: story(rewards={"f1": "high"}), {"field": "rewards['f1']"}),
    "turn reward that is infinite": (lambda: turn(0, reward=math.inf), {"field": "reward"}),
    "log-prob that is NaN": (
        lambda: Span((1, 2), "sampled", 3, logprobs=(-0.1, math.nan)),
        {"turn": 3, "field": "logprobs"},
    ),
    "log-prob above 0": (lambda: Span((1,), "sampled", 0, logprobs=(0.5,)), {"turn": 0, "field": "logprobs"}),
    "log-prob that is text": (lambda: Span((1,), "sampled", 0, logprobs=("x",)), {"turn": 0, "field": "logprobs"}),
    "log-probs that do not fit": (lambda: Span((1, 2), "sampled", 1, logprobs=(-1.0,)), {"turn": 1}),
    "log-probs of a prompt": (lambda: Span((1,), "prompt", logprobs=(-1.0,)), {"field": "logprobs"}),
    "token id that is text": (lambda: Span(("a",), "sampled", 2), {"turn": 2, "field": "ids"}),
    "token id below 0": (lambda: Span((-1,), "sampled", 2), {"turn": 2, "field": "ids"}),
    "unknown origin": (lambda: Span((1,), "dreamt"), {"field": "origin"}),
    "unknown role": (lambda: said("x", "hi", "robot"), {"field": "role"}),
    "action of a user": (lambda: Turn(said("x", "hi", "user")), {"field": "action"}),
    "untrained without a reason": (lambda: turn(0, trainable=False), {"field": "why_not"}),
    "trained with a reason": (lambda: turn(0, why_not="because"), {"field": "why_not"}),
    "versions that run backwards": (lambda: turn(0, policy_version=(2, 1)), {"field": "policy_version"}),
    "call with arguments and error": (lambda: ToolCall("c", "f", "", {}, "bad"), {"field": "calls"}),
    "call with neither": (lambda: ToolCall("c", "f"), {"field": "calls"}),
    "message id used twice": (
        lambda: Trajectory("t", "g", turns=(turn(0), turn(0))),
        {"trajectory": "t", "turn": 1, "field": "id"},
    ),
    "answer to a call nobody made": (
        lambda: Trajectory("t", "g", turns=(Turn(said("a", ""), (Message("o", "tool", answers="c"),)),)),
        {"trajectory": "t", "turn": 0, "field": "answers"},
    ),
    "span of a turn that is not there": (
        lambda: story(sequences=(Sequence((Span((1,), "sampled", 7),)),)),
        {"trajectory": "run/0/task/0", "field": "sequences[0]"},
    ),
    "span of a message that is not there": (
        lambda: story(sequences=(Sequence((Span((1,), "sampled", 0, "zz"),)),)),
        {"trajectory": "run/0/task/0", "turn": 0, "field": "message"},
    ),
    "sampled before the first turn": (
        lambda: story(sequences=(Sequence((Span((1,), "sampled"),)),)),
        {"field": "sequences[0]"},
    ),
    "turns that run backwards": (
        lambda: story(sequences=(Sequence((Span((1,), "sampled", 1), Span((1,), "sampled", 0))),)),
        {"field": "sequences[0]"},
    ),
    "a turn sampled in two sequences": (
        lambda: story(sequences=(Sequence((SAMPLED,)), Sequence((SAMPLED,)))),
        {"turn": 0, "field": "sequences"},
    ),
    "a prefix without a parent": (
        lambda: story(sequences=(Sequence((), Prefix("other", 0, 3)),)),
        {"field": "sequences[0]"},
    ),
    "no id": (lambda: Trajectory("", "g"), {"field": "id"}),
    "no group": (lambda: Trajectory("t", ""), {"trajectory": "t", "field": "group"}),
    "a group of strangers": (lambda: Group("g", (story(),)), {"trajectory": "run/0/task/0"}),
    "a group with twins": (lambda: Group("task", (story(), story())), {"field": "id"}),
    "weights that do not fit": (lambda: Example((1, 2), (1.0,)), {"field": "weights"}),
    "a pair of negative weight": (lambda: Pair(Example((), ()), Example((), ()), weight=-1.0), {"field": "weight"}),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_right_is_refused_where_it_stands(case):
    make, where = WRONG[case]
    with pytest.raises(RecordError) as caught:
        make()
    for name, value in where.items():
        assert getattr(caught.value, name) == value, (name, str(caught.value))
        assert str(value) in str(caught.value)


# ------------------------------------------------------------------------------------------- how they are read


def test_search_finds_text_in_prompt_and_turns_and_takes_patterns():
    t = story()
    assert [(hit.turn, hit.message) for hit in t.search("QUESTION")] == [(-1, "p")]
    assert [(hit.turn, hit.excerpt) for hit in t.search("act 1")] == [(1, "act 1")]
    assert t.search("a.t") == []
    assert len(t.search("a.t", regex=True)) == 2


def test_slicing_gives_turns():
    t = story(turns=3)
    assert t[0].action.id == "a0"
    assert [u.action.id for u in t[1:]] == ["a1", "a2"]


def test_diff_aligns_turns_by_their_text():
    a = Trajectory("a", "g", turns=(turn(0), turn(1), turn(2)))
    b = Trajectory("b", "g", turns=(turn(0), turn(2), turn(3)))
    kinds = [(d.kind, list(d.turns), list(d.other_turns)) for d in a.diff(b)]
    assert kinds == [("equal", [0], [0]), ("delete", [1], []), ("equal", [2], [1]), ("insert", [], [2])]


def test_path_of_a_branch_of_a_branch_is_the_whole_story():
    root = story("r", turns=3)
    branch = Trajectory("b", "task", turns=(Turn(said("b0", "left")), Turn(said("b1", "on"))), parent=("r", 0))
    twig = Trajectory("t", "task", turns=(Turn(said("t0", "up")),), parent=("b", 0))
    whole = twig.path([root, branch])
    assert [u.action.id for u in whole.turns] == ["a0", "b0", "t0"]
    assert [m.id for m in whole.prompt] == ["p"]
    at_prompt = Trajectory("q", "task", turns=(Turn(said("q0", "anew")),), parent=("r", -1))
    assert [u.action.id for u in at_prompt.path([root]).turns] == ["q0"]
    with pytest.raises(RecordError, match="read both together"):
        twig.path([root])


def test_frame_of_a_group_has_one_row_a_turn():
    frame = Group("task", (story("a"), story("b", turns=1))).to_frame()
    assert frame["trajectory"].tolist() == ["a", "a", "b"]
    assert frame["observation"].tolist() == ["seen 0", "seen 1", "seen 0"]
