"""What every engine must do. A backend is a `Case`; `test_engines.py` runs every check on every backend.

Where the engine samples, the reference is a plain forward pass of the same weights: `plain(ids)` gives the logits
[T, V] of a sequence. An engine without one (a script) gets the checks that need none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from workbench.policy.base import Engine, Generation, Settings
from workbench.policy.sampling import log_distribution

CLOSE = 1e-4


@dataclass
class Case:
    """A backend under test.

    Args:
        engine: the engine.
        prompts: prompts of different lengths; some share a long prefix, two are equal.
        stop_ids: tokens that end a generation now and then.
        plain: from token ids to the logits [T, V] of a plain forward pass; None for a script.
        other_weights: what `load` takes, other than what is loaded; and the plain pass of it.
    """

    engine: Engine
    prompts: list[list[int]]
    stop_ids: tuple[int, ...]
    plain: Callable[[Sequence[int]], torch.Tensor] | None = None
    other_weights: Any = None


def generate(case: Case, settings: Settings, prompts: Any = None, seeds: Any = None) -> list[Generation]:
    prompts = case.prompts if prompts is None else prompts
    return asyncio.run(case.engine.generate(prompts, settings, range(len(prompts)) if seeds is None else seeds))


def settings_of(case: Case, **changes: Any) -> Settings:
    return Settings(**{"temperature": 0.8, "max_new_tokens": 12, "stop_ids": case.stop_ids, **changes})


def logprobs_are_those_of_a_plain_forward(case: Case, **changes: Any) -> None:
    settings = settings_of(case, **changes)
    for prompt, made in zip(case.prompts, generate(case, settings), strict=True):
        logits = case.plain([*prompt, *made.token_ids])[len(prompt) - 1 : -1]
        expected = log_distribution(logits, settings.temperature, settings.top_p)
        expected = expected[torch.arange(len(made.token_ids)), torch.tensor(made.token_ids)]
        torch.testing.assert_close(torch.tensor(made.logprobs), expected, atol=CLOSE, rtol=0)
        assert all(lp <= 0 for lp in made.logprobs)


def prompts_stay_and_later_turns_go_on(case: Case) -> None:
    """A second turn behind prompt + sample + observation scores like a plain pass over all of it."""
    settings = settings_of(case)
    before = [list(p) for p in case.prompts]
    first = generate(case, settings)
    assert [list(p) for p in case.prompts] == before
    grown = [[*p, *g.token_ids, 5, 6, 7] for p, g in zip(case.prompts, first, strict=True)]
    second = Case(case.engine, grown, case.stop_ids, case.plain)
    if case.plain is None:
        generate(second, settings)
    else:
        logprobs_are_those_of_a_plain_forward(second)


def generations_end_where_they_should(case: Case) -> None:
    reasons = set()
    for made in generate(case, settings_of(case), case.prompts * 4):
        assert len(made.logprobs) == len(made.token_ids) <= 12
        assert not set(made.token_ids[:-1]) & set(case.stop_ids)
        stopped = bool(made.token_ids) and made.token_ids[-1] in case.stop_ids
        assert made.stop_reason == ("stop" if stopped else "length")
        assert stopped or len(made.token_ids) == 12
        reasons.add(made.stop_reason)
    assert reasons == {"stop", "length"}, f"the case does not show both ways to end: {reasons}"


def a_sample_does_not_depend_on_its_batch(case: Case) -> None:
    settings = settings_of(case)
    seeds = [11 * n + 3 for n in range(len(case.prompts))]
    together = generate(case, settings, case.prompts, seeds)
    order = list(reversed(range(len(seeds))))
    turned = generate(case, settings, [case.prompts[n] for n in order], [seeds[n] for n in order])
    for n, made in enumerate(together):
        (alone,) = generate(case, settings, [case.prompts[n]], [seeds[n]])
        for other in (alone, turned[order.index(n)]):
            assert other.token_ids == made.token_ids
            assert other.stop_reason == made.stop_reason


def seeds_make_the_difference(case: Case) -> None:
    made = generate(case, settings_of(case, temperature=1.5), [case.prompts[0]] * 8)
    assert len({g.token_ids for g in made}) > 1
    again = generate(case, settings_of(case, temperature=1.5), [case.prompts[0]] * 8)
    assert [g.token_ids for g in again] == [g.token_ids for g in made]


def greedy_takes_the_most_likely(case: Case) -> None:
    for prompt, made in zip(case.prompts, generate(case, settings_of(case, temperature=0)), strict=True):
        best = case.plain([*prompt, *made.token_ids])[len(prompt) - 1 : -1].argmax(-1)
        assert made.token_ids == tuple(best.tolist())
        assert made.logprobs == (0.0,) * len(best)


def versions_follow_the_weights(case: Case, plain_of_other: Callable[[Sequence[int]], torch.Tensor] | None) -> None:
    before = case.engine.version
    assert {g.policy_version for g in generate(case, settings_of(case))} == {before}
    assert case.engine.load(case.other_weights) == before + 1 == case.engine.version
    assert {g.policy_version for g in generate(case, settings_of(case))} == {before + 1}
    if plain_of_other is not None:  # nothing of the old weights may be left, cached prefixes above all
        logprobs_are_those_of_a_plain_forward(Case(case.engine, case.prompts, case.stop_ids, plain_of_other))


def scores_are_those_of_a_plain_forward(case: Case, temperature: float = 0.7) -> None:
    spans = [(1, len(p)) if n % 2 or len(p) < 4 else (len(p) // 2, len(p) - 1) for n, p in enumerate(case.prompts)]
    found = case.engine.score(case.prompts, spans, temperature=temperature, top_k=3, entropy=True)
    for ids, (start, stop), scores in zip(case.prompts, spans, found, strict=True):
        logp = log_distribution(case.plain(ids)[start - 1 : stop - 1], temperature)
        expected = logp[torch.arange(stop - start), torch.tensor(ids[start:stop]).long()]
        torch.testing.assert_close(scores.logprobs, expected, atol=CLOSE, rtol=0)
        torch.testing.assert_close(scores.entropy, -(logp.exp() * logp).sum(-1), atol=CLOSE, rtol=0)
        torch.testing.assert_close(scores.top_logprobs, logp.topk(3).values, atol=CLOSE, rtol=0)
        assert scores.top_ids.shape == (stop - start, 3)
