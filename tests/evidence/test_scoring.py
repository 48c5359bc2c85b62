from __future__ import annotations

import asyncio
import random

import pytest
import torch

from workbench.evidence import Cache, SampledLogprobs, collect, for_recipe, model_hash
from workbench.evidence.scoring import weights_hash
from workbench.policy.base import Policy, Settings
from workbench.policy.hf import HFEngine
from workbench.recipes import grpo
from workbench.rollouts import Rollouts
from workbench.trajectory import Message, Prefix, RecordError, Sequence, Span, Trajectory, Turn


@pytest.fixture(scope="module")
def policy() -> Policy:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    return Policy("toy", HFEngine(LlamaForCausalLM(config).eval()), None)  # type: ignore[arg-type]


def turns(name: str, count: int) -> tuple[Turn, ...]:
    return tuple(Turn(Message(f"{name}{k}", "assistant", "x")) for k in range(count))


def sampled(policy: Policy, name: str, seed: int) -> Trajectory:
    """Two turns in one sequence, then a third in a sequence of its own (a template that drops what went before)."""
    draw = random.Random(seed)
    ids, spans = [draw.randrange(40) for _ in range(4)], []
    spans.append(Span(tuple(ids), "prompt"))
    sequences = []
    for k in range(3):
        if k == 2:
            sequences.append(Sequence(tuple(spans)))
            ids, spans = ids[:2], [Span(tuple(ids[:2]), "prompt", turn=2)]
        said = asyncio.run(policy.engine.generate([ids], Settings(max_new_tokens=3), [seed + k]))[0]
        ids = [*ids, *said.token_ids, 5]
        spans += [Span(said.token_ids, "sampled", k, logprobs=said.logprobs), Span((5,), "observation", k)]
    sequences.append(Sequence(tuple(spans)))
    return Trajectory(name, "g", turns=turns(name, 3), sequences=tuple(sequences))


def test_the_policy_itself_gives_what_was_recorded(policy: Policy) -> None:
    rollouts = Rollouts((sampled(policy, "a", 1), sampled(policy, "b", 2)))
    scored = collect(rollouts, [SampledLogprobs(policy)], cache=Cache()).batch()
    assert torch.allclose(scored["logprob_ref"].values, scored["logprob_old"].values, atol=1e-5)
    source = scored["logprob_ref"].provenance
    assert source.model == model_hash(policy) and source.sees == ("other policy",)
    assert (source.calls, source.policy_version) == (4, policy.engine.version)


def test_a_branch_is_scored_behind_its_parents_tokens(policy: Policy) -> None:
    root = sampled(policy, "a", 1)
    span = root.sequences[0].spans[3]
    before = sum(len(s) for s in root.sequences[0].spans[:3])
    again = Sequence((Span(span.ids, "sampled", 0),), prefix=Prefix("a", 0, before))
    branch = Trajectory("a.1", "g", turns=turns("b", 1), sequences=(again,), parent=("a", 0))
    got = collect(Rollouts((root, branch)), [SampledLogprobs(policy)], cache=Cache()).columns["logprob_ref"].values
    assert torch.allclose(got[-3:], got[3:6], atol=1e-6)


def test_a_token_without_context_is_refused(policy: Policy) -> None:
    bare = Trajectory("a", "g", turns=turns("a", 1), sequences=(Sequence((Span((1, 2), "sampled", 0),)),))
    with pytest.raises(RecordError, match="'a'.*nothing stands before"):
        collect(Rollouts((bare,)), [SampledLogprobs(policy)], cache=Cache())


def test_weights_are_told_apart(policy: Policy) -> None:
    weights = {name: value.clone() for name, value in policy.engine.model.state_dict().items()}  # type: ignore[attr-defined]
    first = weights_hash(weights)
    assert first == weights_hash({name: value.clone() for name, value in reversed(weights.items())})
    name = next(iter(weights))
    weights[name].view(-1)[7] += 1e-6
    assert weights_hash(weights) != first
    assert weights_hash({"w": torch.ones(3, dtype=torch.bfloat16)}) != weights_hash({"w": torch.ones(3)})


def test_the_table_knows_the_reference(policy: Policy) -> None:
    providers = for_recipe(grpo(kl=0.01), reference=policy, training=True)
    assert [type(p) for p in providers] == [SampledLogprobs]
    assert for_recipe(grpo(kl=0.01)) == []
