"""The policies of the project on vLLM, played through the ordinary rollout: what a trainer would see at step 0."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from workbench import envs, policy
from workbench.evidence.scoring import model_hash
from workbench.policy import Policy, Settings
from workbench.policy.agreement import engine_logprobs, learner_logprobs, probe_sequence, require_agreement
from workbench.rollout import play

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),  # importing it takes seconds
]


def log_ratios(played: Any, learner: Policy, temperature: float) -> torch.Tensor:
    """Return log pi_learner - log pi_sampler of every sampled token of trajectories."""
    found = []
    for trajectory in played:
        for sequence in trajectory.sequences:
            ids, at = [token for span in sequence.spans for token in span.ids], 0
            for span in sequence.spans:
                start, at = at, at + len(span)
                if span.origin == "sampled":
                    (scores,) = learner.engine.score([ids], [(start, at)], temperature=temperature)
                    found.append(scores.logprobs - torch.tensor(span.logprobs))
    return torch.cat(found)


@pytest.mark.parametrize(
    ("name", "world", "size", "settings"),
    [
        ("tiny@chain", "chain", 8, Settings(temperature=0.8)),
        ("smollm2", "gazetteer", 2, Settings(temperature=0.7, top_p=1.0, max_new_tokens=16)),
    ],
)
def test_rollouts_have_a_ratio_of_one_at_step_0(name: str, world: str, size: int, settings: Settings) -> None:
    env = envs.load(world)
    given: dict[str, Any] = {"shots": getattr(env, "shots", ()), "tools": env.tools}
    sampler = policy.load(name, engine="vllm", max_length=1024, **given)
    learner = policy.load(name, **given)
    assert sampler.renderer.stop_ids == learner.renderer.stop_ids
    played = play(sampler, env, env.tasks("train", 2, 0), size=size, settings=settings, max_turns=2)
    again = play(sampler, env, env.tasks("train", 2, 0), size=size, settings=settings, max_turns=2)
    ratios = log_ratios(played, learner, settings.temperature)
    assert len(played) == 2 * size and len(ratios) > 20
    assert ratios.abs().max() < 3e-4, f"largest |log ratio| {ratios.abs().max():.1e}"
    assert [t.sequences for t in played] == [t.sequences for t in again] or name == "smollm2"
    assert model_hash(sampler).endswith("@0") and model_hash(sampler) == model_hash(sampler)
    model: Any = learner.engine.model  # type: ignore[attr-defined]
    probe = probe_sequence(model.config.vocab_size, special=range(17))
    found = engine_logprobs(sampler.engine, probe)
    require_agreement(learner_logprobs(model, probe), {"vllm": found}, torch.float32)
    sampler.engine.close()  # type: ignore[attr-defined]
