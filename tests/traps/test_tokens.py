"""Traps of tokens and templates: what was sampled is what is trained, after what it was said after."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from small_worlds import llama
from trap_worlds import CHATML, DROPS_THINKING, Told, message, quiet, says, wordy

from workbench import recipes
from workbench.policy import loading, tiny_tokenizer
from workbench.policy.base import Policy, Settings
from workbench.policy.hf import HFEngine
from workbench.policy.renderers import ChatTemplate, PlainText
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.train.parts import cut
from workbench.train.plan import Plan, start
from workbench.train.policy_gradient import one_step
from workbench.trajectory import RecordError, Span, Trajectory
from workbench.transforms import with_tokens


def one(policy: Policy, env: Any, **settings: Any) -> Trajectory:
    """Play one episode."""
    (found,) = play(policy, env, env.tasks("train", 1), size=1, progress=quiet, **settings)
    return found


def ids_of(spans: Iterable[Span], *origins: str) -> list[int]:
    return [i for span in spans if not origins or span.origin in origins for i in span.ids]


def trained(trajectory: Trajectory) -> list[tuple[list[int], int]]:
    """(context, token) of every token that is trained, turn by turn, as the learner finds them."""
    batch = Rollouts((trajectory,)).batch()
    places = zip(batch.token_sequence.tolist(), batch.token_position.tolist(), strict=True)
    found = [(batch.sequences[s], at) for s, at in places]
    return [(ids[:at].tolist(), int(ids[at])) for ids, at in found]  # type: ignore[index]


def expected(prompts: Iterable[list[int]], said: Iterable[list[int]]) -> list[tuple[list[int], int]]:
    """The same of what an engine was asked and what it said."""
    pairs = zip(prompts, said, strict=True)
    return [([*prompt, *ids[:n]], i) for prompt, ids in pairs for n, i in enumerate(ids)]


def test_retokenisation_drift() -> None:
    """A policy may spell a word byte by byte; encoding its text again would give other tokens."""
    renderer, asked = PlainText(tiny_tokenizer.load()), list[list[int]]()
    spelled = [*renderer.encode("Search:"), *renderer.encode(" "), *renderer.encode("red"), *renderer.stop_ids]
    assert renderer.encode(renderer.codec.decode(spelled)) != spelled
    lines = [spelled, renderer.encode("Answer: 4\n")]
    found = one(says(renderer, *lines, asked=asked), Told(("a fact", 1.0)))
    assert trained(found) == expected(asked, lines)
    assert asked[1][: len(asked[0]) + len(spelled)] == [*asked[0], *spelled]  # the next turn reads what was sampled
    with pytest.raises(RecordError, match="nothing is tokenised twice"):
        with_tokens(found, renderer)


@pytest.mark.parametrize("template", [CHATML, DROPS_THINKING], ids=["kept", "dropped"])
def test_template_does_not_preserve_prefixes(template: str) -> None:
    """Where a template drops earlier thinking, a new sequence begins; no token is trained after what it never saw."""
    tokenizer = tiny_tokenizer.load()
    tokenizer.chat_template = template
    renderer, asked = ChatTemplate(tokenizer), list[list[int]]()
    assert renderer.prefix_preserving == (template == CHATML)
    thought = renderer.encode('<think>\nred box\n</think>\n\nsearch("red")')
    lines = [[*thought, renderer.stop_ids[0]], [*renderer.encode('answer("4")'), renderer.stop_ids[0]]]
    found = one(says(renderer, *lines, asked=asked), Told(("a fact", 1.0)))
    assert trained(found) == expected(asked, lines)
    assert len(found.sequences) == (1 if template == CHATML else 2)
    if template != CHATML:
        assert renderer.codec.decode(asked[1]).count("think") == 0
        with pytest.raises(ValueError, match="does not leave earlier turns as they are"):
            renderer.observation([message("o", "tool", "a fact")], 0, closed=True)


def test_end_of_turn_is_not_doubled(tokenizer: Any) -> None:
    """The sampled end stays one token; the newline the template puts behind it is context."""
    renderer = ChatTemplate(tokenizer)
    (end,) = renderer.stop_ids
    lines = [[*renderer.encode('search("red")'), end], [*renderer.encode('answer("4")'), end]]
    found = one(says(renderer, *lines), Told(("a fact", 1.0)))
    (sequence,) = found.sequences
    at = [span.origin for span in sequence.spans].index("sampled")
    assert sequence.spans[at].ids[-1] == end
    after = sequence.spans[at + 1]
    assert (after.origin, after.ids[0]) == ("template", renderer.encode("\n")[0])
    assert [token for _, token in trained(found)] == [i for line in lines for i in line]


@pytest.mark.parametrize("kind", ["plain", "chat"])
def test_turn_cut_off_before_its_end(kind: str, tokenizer: Any) -> None:
    """The end that is put behind it for the next turn to make sense was not sampled, and is not trained."""
    renderer = PlainText(tokenizer) if kind == "plain" else ChatTemplate(tokenizer)
    end = renderer.stop_ids[0]
    lines = [renderer.encode("Search: red box"), [*renderer.encode("Answer: 4"), end]]
    asked: list[list[int]] = []
    found = one(says(renderer, *lines, asked=asked), Told(("a fact", 1.0)))
    assert [turn.stop_reason for turn in found.turns] == ["length", "stop"]
    assert trained(found) == expected(asked, lines)
    inserted = [span for span in found.sequences[0].spans if span.origin == "inserted"]
    assert [span.ids for span in inserted] == [(end,)]
    assert asked[1][len(asked[0]) + len(lines[0])] == end


def test_several_ends_of_a_turn(tokenizer: Any, tmp_path: Any) -> None:
    """A model may end a turn with any token its generation config lists, not only with its template's."""
    model = llama(tiny_tokenizer.SIZE)
    model.generation_config.eos_token_id = [1, 2, 7]
    model.save_pretrained(str(tmp_path))
    tokenizer.save_pretrained(str(tmp_path))
    policy = loading.load(tmp_path, renderer="chat")
    assert set(policy.renderer.stop_ids) == {1, 2, 7}
    script = says(policy.renderer, [300, 7, 301], [300, 301, 1])
    found = one(script, Told(("a fact", 1.0)))
    assert [[i for span in found.sampled(k) for i in span.ids] for k in (0, 1)] == [[300, 7], [300, 301, 1]]
    assert [turn.stop_reason for turn in found.turns] == ["stop", "stop"]
    engine = HFEngine(llama(8))
    said = engine.sample([[1]] * 9, Settings(stop_ids=tuple(range(8)), max_new_tokens=5), list(range(9)))
    assert len({g.token_ids for g in said}) > 2
    assert {(len(g.token_ids), g.stop_reason) for g in said} == {(1, "stop")}


@pytest.mark.parametrize("width", [1, 60])
def test_tool_result_is_too_long(width: int) -> None:
    """An episode that outgrows the model ends with a reason; ids, mask and log-probs of it are still one record."""
    policy = wordy(width, max_position_embeddings=48)
    env, plan = Told(("word", "word", 1.0)), Plan(steps=1, groups=1, size=4, max_new_tokens=1)
    done = one_step(start(policy, recipes.reinforce(), plan), env, recipes.reinforce(), plan, 0)
    long = width > 1
    for t in done.used:
        assert (t.stop_reason, t.truncated, t.outcome) == (("max_tokens", True, 0.0) if long else ("done", False, 1.0))
        assert len(t.turns) == (1 if long else 3)
        assert all(len(span.logprobs or ()) == len(span) for k in range(len(t)) for span in t.sampled(k))
    batch = done.used.batch()
    (part,) = cut(batch, torch.ones(batch.count("token"), dtype=torch.bool), 10**6)
    assert part.ids.shape[1] <= 48  # what came after the last sampled token is not read
    with pytest.raises(ValueError, match="shorten the context"):
        one(policy, Told((1.0,)), settings=Settings(max_new_tokens=60))
