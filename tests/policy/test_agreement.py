"""The probe that tells whether learner and engine hold the same weights. With vLLM: `test_vllm.py`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from workbench.policy import agreement
from workbench.policy.agreement import (
    BOUND,
    Disagreement,
    engine_logprobs,
    gap,
    learner_logprobs,
    probe_sequence,
    probe_span,
    require_agreement,
)
from workbench.policy.hf import HFEngine
from workbench.policy.tiny import config as tiny_config


def test_a_probe_is_always_the_same_and_has_no_special_tokens() -> None:
    probe = probe_sequence(400, special=[3, 4, 399])
    assert probe == probe_sequence(400, special=[399, 4, 3]) != probe_sequence(400, seed=1, special=[3, 4, 399])
    assert len(probe) == agreement.LENGTH and min(probe) >= 5 and max(probe) <= 398
    assert len(set(probe)) > 100
    assert torch.random.get_rng_state().equal((probe_sequence(400), torch.random.get_rng_state())[1])


def test_a_probe_is_longer_than_a_cached_block_and_fits_the_smallest_policy() -> None:
    start, stop = probe_span(probe_sequence(400))
    assert start > 128 and stop == agreement.LENGTH < tiny_config().max_position_embeddings


@pytest.mark.parametrize(("vocabulary", "length"), [(3, 160), (400, agreement.SCORED)])
def test_a_probe_that_cannot_be_made_is_refused(vocabulary: int, length: int) -> None:
    with pytest.raises(ValueError, match="at least one ordinary token"):
        probe_sequence(vocabulary, length=length)


def test_learner_and_engine_of_the_same_weights_agree(model: Any) -> None:
    probe = probe_sequence(400)
    learner = learner_logprobs(model.train(), probe)
    assert model.training and len(learner) == agreement.SCORED
    found = require_agreement(learner, {"a": engine_logprobs(HFEngine(model), probe)}, torch.float32)
    assert found["a"] < 1e-5


def test_a_missed_cache_reset_is_seen(model: Any, monkeypatch: Any) -> None:
    """The Hugging Face engine has cached prefixes too; a learner trains its model in place."""
    probe, engine = probe_sequence(400), HFEngine(model)
    before = engine_logprobs(engine, probe)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)
    monkeypatch.setattr(engine.tree, "clear", lambda: None)
    engine.load(None)
    after = engine_logprobs(engine, probe)
    with pytest.raises(Disagreement, match=r"to version 1: gpu 3 is off by \d.*cached prefixes of the old weights"):
        require_agreement(
            learner_logprobs(model, probe), {"gpu 3": after}, torch.float32, before={"gpu 3": before}, version=1
        )
    monkeypatch.undo()
    engine.load(None)
    require_agreement(learner_logprobs(model, probe), {"gpu 3": engine_logprobs(engine, probe)}, torch.float32)


def test_temperature_is_part_of_the_probe(model: Any) -> None:
    probe = probe_sequence(400)
    assert gap(learner_logprobs(model, probe), learner_logprobs(model, probe, temperature=1.0)) > 0.1


def test_the_message_says_who_and_what_it_looks_like() -> None:
    old, new = [-1.0, -2.0], [-1.5, -2.0]
    good = {"engine 0": new, "engine 1": [-1.50001, -2.0]}
    assert require_agreement(new, good, torch.float32) == {"engine 0": 0.0, "engine 1": pytest.approx(1e-5)}

    def told(after: list[float], before: list[float] | None = None) -> str:
        known = None if before is None else {"engine 1": before}
        with pytest.raises(Disagreement) as raised:
            require_agreement(new, {**good, "engine 1": after}, torch.float32, before=known)
        return str(raised.value)

    assert "engine 1 is off by 0.5" in told(old) and "engine 0" not in told(old)
    assert "answers as before the update: nothing of it arrived" in told(old, old)
    assert "what it took are not the learner's" in told([-9.0, -2.0], new)
    assert "has moved by 0.25 with the update: part of it arrived" in told([-1.25, -2.0], old)
    assert "is off by inf" in told([float("nan"), -2.0])
    assert "resume" in told(old) and "bound 0.0001 for float32" in told(old)


def test_bounds() -> None:
    assert BOUND[torch.float32] == 1e-4
    require_agreement([-1.0], {"a": [-1.2]}, torch.bfloat16)
    with pytest.raises(Disagreement):
        require_agreement([-1.0], {"a": [-1.2]}, torch.bfloat16, bound=0.1)
    with pytest.raises(ValueError, match="or pass bound="):
        require_agreement([-1.0], {"a": [-1.0]}, torch.float16)
    with pytest.raises(ValueError, match="got 1 and 2"):
        gap([-1.0], [-1.0, -2.0])
