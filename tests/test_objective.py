"""Losses and objectives: numbers by hand, denominators of the whole batch, micro-batches that add up, honest errors."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import Credit, linear
from workbench.losses import (
    Aggregate,
    ClippedAway,
    CrossEntropyLoss,
    EntropyLoss,
    KLLoss,
    LogProbLoss,
    PolicyLoss,
    ValueLoss,
    clipped_surrogate,
    constant_length,
    importance_ratio,
    kl_k1,
    kl_k2,
    kl_k3,
    token_mean,
    trajectory_mean,
    trajectory_sum,
    unit_sum,
)
from workbench.objective import DivideByNorm, Objective, Term, clipped

# two trajectories; turns of 2, 1 and 3 tokens
MAPS = Batch.of_maps([0, 0, 1], ["a", "a"], [0, 0, 1, 2, 2, 2])
AGGREGATES = [token_mean, Aggregate("token_mean", 0.5), trajectory_mean, trajectory_sum, unit_sum("turn")]


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def credit(values: list[float | None], level: str = "token") -> Credit:
    x = tensor([0.0 if v is None else v for v in values])
    return Credit(x, level, torch.tensor([v is not None for v in values], dtype=torch.bool))


# ----------------------------------------------------------------------------------------------------- equations


def test_ratio_of_tokens_and_of_units() -> None:
    new, old = tensor([-1.0, -2.0, -0.5]), tensor([-1.5, -1.0, -0.5])
    assert importance_ratio(new, old).tolist() == pytest.approx([math.exp(0.5), math.exp(-1.0), 1.0])
    unit = torch.tensor([0, 0, -1])
    assert importance_ratio(new, old, unit).tolist() == pytest.approx([math.exp(-0.25)] * 2 + [1.0])
    assert importance_ratio(tensor([99.0]), tensor([0.0])).item() == pytest.approx(math.exp(20.0))
    assert importance_ratio(tensor([99.0]), tensor([0.0]), torch.tensor([0])).item() == pytest.approx(math.exp(10.0))


@pytest.mark.parametrize("through", ["token", "unit"])
def test_gradient_of_a_units_ratio(through: Any) -> None:
    new, old = tensor([-1.0, -2.0]).requires_grad_(True), tensor([-1.5, -1.0])
    weights = tensor([1.0, 3.0])
    (weights * importance_ratio(new, old, torch.tensor([0, 0]), through)).sum().backward()
    s = math.exp(-0.25)
    expected = [s, 3 * s] if through == "token" else [2 * s, 2 * s]
    assert new.grad.tolist() == pytest.approx(expected)  # type: ignore[union-attr]


def test_clipped_surrogate_and_dual_clip() -> None:
    ratio, low, high = tensor([1.5, 1.5, 0.5, 0.5, 9.0]), tensor(0.2), tensor(0.3)
    advantage = tensor([2.0, -2.0, 2.0, -2.0, -1.0])
    assert clipped_surrogate(ratio, advantage, low, high, None).tolist() == [-2.6, 3.0, -1.0, 1.6, 9.0]
    assert clipped_surrogate(ratio, advantage, low, high, 3.0).tolist() == [-2.6, 3.0, -1.0, 1.6, 3.0]


def test_kl_estimators() -> None:
    new, reference = tensor([-1.0, -1.0]), tensor([-1.5, -0.5])
    assert kl_k1(new, reference).tolist() == [0.5, -0.5]
    assert kl_k2(new, reference).tolist() == [0.125, 0.125]
    assert kl_k3(new, reference).tolist() == pytest.approx([math.exp(-0.5) - 0.5, math.exp(0.5) - 1.5])
    assert kl_k3(tensor([-30.0]), tensor([0.0])).item() == 10.0


def test_aggregates_give_each_token_its_share() -> None:
    counted = torch.tensor([True, True, False, True, False, True])
    shares = {repr(a): [round(w, 6) for w in a(MAPS, counted).tolist()] for a in [*AGGREGATES, constant_length(8)]}
    assert shares == {
        "token_mean": [0.25, 0.25, 0.0, 0.25, 0.0, 0.25],
        "token_mean(+0.5)": [round(1 / 4.5, 6)] * 2 + [0.0, round(1 / 4.5, 6), 0.0, round(1 / 4.5, 6)],
        "trajectory_mean": [0.25, 0.25, 0.0, 0.25, 0.0, 0.25],
        "trajectory_sum": [0.5, 0.5, 0.0, 0.5, 0.0, 0.5],
        "unit_sum('turn')": [0.5, 0.5, 0.0, 0.5, 0.0, 0.5],
        "constant(8)": [0.125, 0.125, 0.0, 0.125, 0.0, 0.125],
    }
    one = trajectory_mean(MAPS, torch.tensor([True, True, True, False, False, False]))
    assert one.tolist() == pytest.approx(
        [1 / 3] * 3 + [0.0] * 3
    )  # a trajectory without counted tokens is not in the mean
    assert token_mean(MAPS, torch.zeros(6, dtype=torch.bool)).tolist() == [0.0] * 6


# ------------------------------------------------------------------------------------------------ whole objectives


def batch_with_old(values: list[float | None] | None = None) -> Batch:
    return MAPS.with_column("logprob_old", "token", [-1.0] * 6 if values is None else values)


def test_policy_loss_by_hand() -> None:
    new = tensor([-1.0, -1.0, -0.5, -1.0, -1.5, -1.0])
    a = credit([1.0, -1.0, 2.0, 0.0, -3.0, None])
    result = clipped(0.2)(new, batch_with_old(), a)
    # ratios 1, 1, e^0.5 (clipped at 1.2), 1, e^-0.5 (clipped at 0.8), not counted; five tokens count
    assert result.loss.item() == pytest.approx((-1.0 + 1.0 - 2.4 + 0.0 + 2.4) / 5)
    assert result.counted == 5 and result.clip_share == 2 / 5


def test_the_dual_clip_counts_as_clip() -> None:
    new = tensor([1.0, -0.5, 1.0, -1.0, -1.0, -1.0]).requires_grad_()
    result = clipped(0.2, dual=3.0)(new, batch_with_old(), credit([-1.0, -1.0, 1.0, -1.0, -1.0, None]))
    result.loss.backward()
    assert (new.grad == 0).tolist() == [True, False, True, False, False, True]  # e^2 is beyond 3, e^0.5 is not
    assert result.clip_share == 2 / 5


def test_a_token_with_credit_zero_counts_and_an_unknown_one_does_not() -> None:
    new = tensor([-1.0] * 6)
    zero = clipped()(new, batch_with_old(), credit([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])).loss.item()
    unknown = clipped()(new, batch_with_old(), credit([1.0, None, None, None, None, None])).loss.item()
    assert (zero, unknown) == pytest.approx((-1 / 6, -1.0))


def test_terms_have_their_own_mask_weight_and_aggregate() -> None:
    batch = batch_with_old().with_column("logprob_ref", "token", [-2.0] * 6)
    batch = batch.with_column("trainable", "turn", [True, False, True]).at_step(5)
    objective = Objective(
        (
            Term("policy", PolicyLoss(0.2, 0.2)),
            Term("kl", KLLoss("k1"), linear(0.0, 1.0, 10), constant_length(2), over="trainable"),
            Term("entropy", EntropyLoss(), 0.1),
        )
    )
    new, entropy = tensor([-1.0] * 6), tensor([1.0, 3.0, 5.0, 7.0, 9.0, 11.0])
    assert objective.outputs == ("entropy",) and objective.needs == ("logprob_ref",)
    result = objective(new, batch, credit([1.0, 1.0] + [None] * 4), outputs={"entropy": entropy})
    assert {k: v.item() for k, v in result.terms.items()} == {"policy": -1.0, "kl": 2.5, "entropy": -2.0}
    assert result.loss.item() == pytest.approx(-1.0 + 0.5 * 2.5 - 0.1 * 2.0)


def test_streams_widen_the_clip_and_make_the_unit() -> None:
    new, a = tensor([-0.5] * 6), credit([1.0] * 6)
    wide = clipped(0.2, clip_scale="scale")
    got = wide(new, batch_with_old(), a, {"scale": credit([1.0, 2.0, 9.0, 1.0, 1.0, 1.0])})
    assert got.loss.item() == pytest.approx(-(1.2 + 1.4 + math.exp(0.5) + 3 * 1.2) / 6)
    by_stream = Objective((Term("policy", PolicyLoss(9.0, 9.0, unit_stream="runs")),))
    new = tensor([0.0, -1.0, -1.0, -1.0, -1.0, -1.0])
    look, _ = by_stream.look(new, batch_with_old(), a, {"runs": credit([7.0, 7.0, 7.0, 7.0, 8.0, 8.0])})
    assert by_stream.terms[0].loss.ratios(look).tolist() == pytest.approx([math.exp(0.25)] * 4 + [1.0, 1.0])  # type: ignore[attr-defined]


def test_value_and_cross_entropy_and_score_function() -> None:
    value = tensor([1.0, 2.0, 3.0, 0.0, 0.0, 0.0])
    target = credit([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    objective = Objective(
        (Term("value", ValueLoss("returns")), Term("ce", CrossEntropyLoss()), Term("s", LogProbLoss()))
    )
    new = tensor([-1.0, -2.0, -3.0, 0.0, 0.0, 0.0])
    a = credit([2.0, 2.0, 2.0, None, None, None])
    result = objective(new, MAPS, a, {"returns": target}, outputs={"value": value})
    assert [result.terms[n].item() for n in ("value", "ce", "s")] == pytest.approx([(1 + 4 + 4) / 3, 2.0, 4.0])


def test_without_a_column_the_policy_is_its_own_sampler() -> None:
    new = tensor([-1.0, -5.0, -3.0, -1.0, -1.0, -1.0]).requires_grad_(True)
    result = clipped()(new, MAPS, credit([1.0, 2.0, 3.0, 0.0, 0.0, 0.0]))
    result.loss.backward()
    assert result.loss.item() == pytest.approx(-1.0)
    assert new.grad.tolist() == pytest.approx([-1 / 6, -2 / 6, -3 / 6, 0.0, 0.0, 0.0])  # type: ignore[union-attr]


def test_what_is_not_counted_cannot_spoil_the_loss() -> None:
    a = Credit(tensor([1.0, math.nan, 1.0, 1.0, 1.0, 1.0]), "token", torch.tensor([True, False] + [True] * 4))
    new = tensor([-1.0] * 6).requires_grad_(True)
    result = clipped()(new, batch_with_old([-1.0, None, -1.0, -1.0, -1.0, -1.0]), a)
    result.loss.backward()
    assert result.loss.item() == -1.0 and bool(torch.isfinite(new.grad).all())  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- gradient rules


def test_divide_by_norm_keeps_other_terms_and_their_weights() -> None:
    policy = PolicyLoss(0.2, 0.2)
    terms = (Term("policy", policy), Term("bias", ClippedAway(policy), 0.0), Term("kl", KLLoss(), 0.5))
    objective = Objective(terms, rule=DivideByNorm("policy", "bias"))
    gradients = {"policy": tensor([3.0, 4.0]), "bias": tensor([0.0, 2.0]), "kl": tensor([2.0, 0.0])}
    assert objective.gradient(gradients, torch.linalg.vector_norm).tolist() == [2.5, 2.0]
    nothing = {**gradients, "bias": tensor([0.0, 0.0])}
    assert objective.gradient(nothing, torch.linalg.vector_norm).tolist() == [4.0, 4.0]
    shrink = Objective(terms, rule=DivideByNorm("policy", "bias", least=8.0))
    assert shrink.gradient(gradients, torch.linalg.vector_norm).tolist() == [3.0 / 8 + 1.0, 0.5]
    assert Objective(terms).gradient(gradients, torch.linalg.vector_norm).tolist() == [4.0, 4.0]


@pytest.mark.parametrize("ratio", ["token", "turn", "sequence"])
def test_what_the_clip_removed_is_the_gap_to_the_unclipped_gradient(ratio: str) -> None:
    draw = torch.Generator().manual_seed(0)
    new = torch.randn(6, generator=draw, dtype=torch.float64).requires_grad_(True)
    batch, a = batch_with_old(), credit([1.0, -1.0, 0.5, -0.5, 2.0, -2.0])
    clip, free = PolicyLoss(0.1, 0.1, ratio), PolicyLoss(math.inf, math.inf, ratio)
    terms = {"clip": clip, "free": free, "bias": ClippedAway(clip)}
    result = Objective(tuple(Term(name, loss) for name, loss in terms.items()))(new, batch, a)
    g = {name: torch.autograd.grad(x, new, retain_graph=True)[0] for name, x in result.terms.items()}
    assert g["free"].tolist() == pytest.approx((g["clip"] + g["bias"]).tolist())
    assert float(g["bias"].norm()) > 0


# -------------------------------------------------------------------------------------------------- micro-batches


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_micro_batches_add_up_to_the_gradient_of_the_whole(data: st.DataObject) -> None:
    turns = data.draw(st.lists(st.integers(0, 3), min_size=2, max_size=5))
    sizes = [data.draw(st.integers(0, 3)) for _ in range(sum(turns))]
    owner = [i for i, n in enumerate(turns) for _ in range(n)]
    tokens = [k for k, n in enumerate(sizes) for _ in range(n)]
    batch = Batch.of_maps(owner, [0] * len(turns), tokens)
    n = len(tokens)
    numbers = st.floats(-2, 2, width=32)

    def drawn() -> Tensor:
        return tensor([data.draw(numbers) for _ in range(n)])

    batch = batch.with_column("logprob_old", "token", drawn()).with_column("logprob_ref", "token", drawn())
    known = torch.tensor([data.draw(st.booleans()) for _ in range(n)], dtype=torch.bool)
    a, new, entropy = Credit(drawn(), "token", known), drawn(), drawn()
    ratio = data.draw(st.sampled_from(["token", "turn", "sequence"]))
    for aggregate in [*AGGREGATES, constant_length(7)]:
        terms = (
            Term("policy", PolicyLoss(0.2, 0.3, ratio, dual=3.0), aggregate=aggregate),
            Term("kl", KLLoss(), 0.1, aggregate, over="trainable"),
            Term("entropy", EntropyLoss(), 0.01, aggregate),
        )
        objective = Objective(terms)
        leaf = new.clone().requires_grad_(True)
        whole = objective(leaf, batch, a, outputs={"entropy": entropy})
        (expected,) = torch.autograd.grad(whole.loss, leaf)
        parts = [torch.nonzero(batch.up("token", "trajectory") == i).flatten() for i in range(len(turns))]
        weights = objective.weights(batch, a)
        total = torch.zeros_like(new)
        loss = 0.0
        for at in parts:  # whole trajectories: whole units of every ratio
            leaf = new.clone().requires_grad_(True)
            part = objective(leaf[at], batch, a, tokens=at, outputs={"entropy": entropy[at]}, weights=weights)
            total += torch.autograd.grad(part.loss, leaf)[0]
            loss += part.loss.item()
        assert total.tolist() == pytest.approx(expected.tolist(), abs=1e-9)
        assert loss == pytest.approx(whole.loss.item(), abs=1e-9)


# ---------------------------------------------------------------------------------------------------------- errors


def test_errors_say_what_where_and_what_to_do() -> None:
    new, a = tensor([-1.0] * 6), credit([1.0] * 6)
    with pytest.raises(ValueError, match="needs credit on the 6 tokens, got 'turn'"):
        clipped()(new, MAPS, credit([1.0] * 3, "turn"))
    with pytest.raises(ValueError, match=r"6 tokens need as many values, got {'log-probs': 2}"):
        clipped()(new[:2], MAPS, a)
    with pytest.raises(
        ValueError, match=r"logprob_old: unknown for 1 credited tokens, the first is token 4 of traj.*'1'"
    ):
        clipped()(new, batch_with_old([-1.0, -1.0, -1.0, -1.0, None, -1.0]), a)
    with pytest.raises(ValueError, match=r"\['entropy'\] of the model"):
        clipped(entropy=0.1)(new, MAPS, a)
    with pytest.raises(ValueError, match=r"need streams \['scale'\], got \[\]"):
        clipped(clip_scale="scale")(new, MAPS, a)
    with pytest.raises(ValueError, match="scale: unknown for 1 credited tokens"):
        clipped(clip_scale="scale")(new, MAPS, a, {"scale": credit([1.0] * 5 + [None])})
    with pytest.raises(ValueError, match="no column 'logprob_ref'"):
        clipped(kl=0.1)(new, MAPS, a)
    clipped(clip_scale="scale")(new, MAPS, credit([1.0] * 5 + [None]), {"scale": credit([1.0] * 5 + [None])})


def test_repr_of_an_objective_is_its_formula() -> None:
    assert repr(clipped(0.2, 0.28, kl=0.04, aggregate=trajectory_mean)) == (
        "policy[PolicyLoss(low=0.2, high=0.28); trajectory_mean] + 0.04*kl[KLLoss(); trajectory_mean]"
    )
    assert "ratio='turn', dual=3.0" in repr(clipped(ratio="turn", dual=3.0))
