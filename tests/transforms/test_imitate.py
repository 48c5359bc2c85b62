"""Imitation: which tokens are learned, and tokens for scripted text."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from workbench.envs.chain import Chain
from workbench.policy import tiny_tokenizer
from workbench.policy.renderers import PlainText
from workbench.trajectory import Message, Prefix, RecordError, Sequence, Span, Trajectory, Turn
from workbench.transforms import imitate, with_tokens


@pytest.fixture(scope="module")
def env() -> Chain:
    return Chain(hops=2)


@pytest.fixture(scope="module")
def renderer(env) -> PlainText:
    return PlainText(tiny_tokenizer.load(), tools=env.tools)


@pytest.fixture(scope="module")
def demonstration(env) -> Trajectory:
    return env.imperfect_demonstration(env.tasks("train", 1, seed=3)[0], random.Random(0), 0.0)


def turn(number: int, text: str, **settings) -> Turn:
    return Turn(Message(f"turn{number}", "assistant", text), **settings)


def branch() -> tuple[Trajectory, Trajectory]:
    """A root of two turns and a branch after the first; ids say where a token was sampled."""
    root = Trajectory(
        "a",
        "g",
        prompt=(Message("q", "user", "?"),),
        turns=(turn(0, "x"), turn(1, "y")),
        sequences=(
            Sequence(
                (
                    Span((1, 2), "prompt", -1, "q"),
                    Span((10, 11), "sampled", 0, "turn0", logprobs=(-0.5, -0.25)),
                    Span((3,), "observation", 0),
                    Span((20,), "sampled", 1, "turn1", logprobs=(-1.0,)),
                )
            ),
        ),
    )
    own = Span((30, 31), "sampled", 0, "turn0", logprobs=(-2.0, -3.0))
    return root, Trajectory(
        "b", "g", turns=(turn(0, "z"),), parent=("a", 0), sequences=(Sequence((own,), prefix=Prefix("a", 0, 5)),)
    )


def test_forced_tokens_are_the_actions_and_nothing_else(env, renderer, demonstration):
    written = with_tokens(demonstration, renderer, env.tools)
    (example,) = imitate([written], origins=("forced",), reason="why")
    said = [i for i, w in zip(example.ids, example.weights, strict=True) if w == 1.0]
    assert renderer.codec.decode(said) == "".join(f"{t.action.text}\n" for t in demonstration.turns)
    assert set(example.weights) == {0.0, 1.0}
    assert renderer.codec.decode(example.ids).startswith(f"Question: {demonstration.prompt[0].text}\nSearch: ")
    assert example.logprobs_old is None
    assert example.source == (demonstration.id, len(demonstration.turns) - 1)
    assert example.reason == "why"


def test_forced_is_not_sampled(env, renderer, demonstration):
    written = with_tokens(demonstration, renderer, env.tools)
    assert imitate([written], origins=("sampled",)) == []


def test_turns_that_are_not_trainable_are_context(env, renderer, demonstration):
    first, *rest = demonstration.turns
    cut = replace(demonstration, turns=(replace(first, trainable=False, why_not="a test"), *rest))
    (all_of_it,) = imitate([with_tokens(demonstration, renderer)], origins=("forced",))
    (less,) = imitate([with_tokens(cut, renderer)], origins=("forced",))
    lost = [i for i, (a, b) in enumerate(zip(all_of_it.weights, less.weights, strict=True)) if a != b]
    assert renderer.codec.decode([less.ids[i] for i in lost]) == f"{first.action.text}\n"


def test_a_branch_learns_what_it_sampled_behind_its_parents_prefix():
    root, child = branch()
    one, two = imitate([root, child], origins=("sampled",), weight=0.5)
    assert (one.ids, one.weights) == ((1, 2, 10, 11, 3, 20), (0.0, 0.0, 0.5, 0.5, 0.0, 0.5))
    assert one.logprobs_old == (None, None, -0.5, -0.25, None, -1.0)
    assert (two.ids, two.weights) == ((1, 2, 10, 11, 3, 30, 31), (0.0,) * 5 + (0.5, 0.5))
    assert two.logprobs_old == (None,) * 5 + (-2.0, -3.0)


def test_keep_chooses_and_a_kept_branch_still_finds_its_parent():
    root, child = branch()
    (only,) = imitate([root, child], origins=("sampled",), keep=lambda t: t.id == "b")
    assert only.source == ("b", 0)


def test_text_without_tokens_names_the_fix(demonstration):
    with pytest.raises(RecordError, match="with_tokens") as caught:
        imitate([demonstration], origins=("forced",))
    assert caught.value.trajectory == demonstration.id


@pytest.mark.parametrize("origins", [(), ("observation",), ("sampled", "prompt")])
def test_only_the_agents_own_words_can_be_learned(origins):
    with pytest.raises(ValueError, match="origins"):
        imitate([], origins=origins)


def test_tokens_are_written_once(env, renderer, demonstration):
    written = with_tokens(demonstration, renderer, env.tools)
    with pytest.raises(RecordError, match="already"):
        with_tokens(written, renderer)
    assert not any(span.origin == "sampled" for span in written.sequences[0].spans)


def test_an_action_the_renderer_would_read_otherwise_is_refused(renderer, demonstration):
    first, *rest = demonstration.turns
    wrong = replace(first, action=replace(first.action, parts="Search: something else"))
    with pytest.raises(RecordError, match="something else") as caught:
        with_tokens(replace(demonstration, turns=(wrong, *rest)), renderer)
    assert (caught.value.trajectory, caught.value.turn) == (demonstration.id, 0)


def test_written_tokens_are_those_that_play_makes(env, renderer, demonstration):
    """What a policy sees in a rollout must be what the warm start saw."""
    from workbench.policy import Policy, ScriptedEngine
    from workbench.rollout import play

    lines = [renderer.encode(f"{t.action.text}\n") for t in demonstration.turns]
    task = env.tasks("train", 1, seed=3)[0]
    (played,) = play(Policy("script", ScriptedEngine(lines), renderer), env, [task], size=1)
    written = with_tokens(demonstration, renderer, env.tools)
    assert played.sequences[0].ids == written.sequences[0].ids
    assert played.outcome == 1.0
