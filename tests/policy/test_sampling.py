"""The distribution and the draw, by hand and by counting."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.policy.sampling import draw, log_distribution, nucleus, uniforms


def test_temperature_by_hand() -> None:
    logits = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(log_distribution(logits, 0.5), torch.log_softmax(torch.tensor([2.0, 4.0, 6.0]), -1))
    assert log_distribution(logits, 0).tolist() == [-torch.inf, -torch.inf, 0.0]
    assert log_distribution(logits.bfloat16()).dtype == torch.float32


def test_nucleus_by_hand() -> None:
    probs = torch.tensor([0.1, 0.5, 0.15, 0.25])
    assert nucleus(probs, 0.5).tolist() == [False, True, False, False]
    assert nucleus(probs, 0.51).tolist() == [False, True, False, True]
    assert nucleus(probs, 0.8).tolist() == [False, True, True, True]
    kept = log_distribution(probs.log(), top_p=0.51).exp()
    torch.testing.assert_close(kept, torch.tensor([0.0, 2 / 3, 0.0, 1 / 3]))


@pytest.mark.parametrize("bad", [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}])
def test_refuses(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected temperature >= 0 and 0 < top_p <= 1"):
        log_distribution(torch.zeros(3), **bad)


def test_uniforms_are_a_function_of_seed_and_place() -> None:
    assert torch.equal(uniforms(7, 5), uniforms(7, 50)[:5])
    assert not torch.equal(uniforms(7, 5), uniforms(8, 5))
    assert uniforms(0, 2).tolist() == [0.011546754286331562, 0.24154919656271812]  # the same on every machine
    assert uniforms(2**128 - 1, 1).dtype == torch.float64


def test_draw_follows_the_distribution() -> None:
    probs = torch.tensor([0.0, 0.2, 0.5, 0.0, 0.3, 0.0])
    u = uniforms(3, 20_000)
    counts = draw(probs.log().expand(len(u), -1), u).bincount(minlength=6) / len(u)
    assert counts[[0, 3, 5]].sum() == 0
    torch.testing.assert_close(counts, probs, atol=0.015, rtol=0)


@given(st.integers(0, 2**31), st.floats(0, 1, exclude_max=True))
def test_draw_never_takes_what_cannot_be(seed: int, u: float) -> None:
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(seed)) * 8
    logp = log_distribution(logits, top_p=0.7)
    token = draw(logp, torch.tensor([u], dtype=torch.float64))
    assert logp[0, token] > -torch.inf


def test_draw_at_the_edges() -> None:
    logp = torch.tensor([[-torch.inf, -0.5, -1.0, -torch.inf]])
    assert draw(logp, torch.tensor([0.0], dtype=torch.float64)).item() == 1
    assert draw(logp, torch.tensor([1 - 2**-53], dtype=torch.float64)).item() == 2
