"""PPO and the KL in the reward against hand-written loops: credit, returns, value loss, and what time is counted in."""

from __future__ import annotations

import pytest
import torch

from workbench import recipes
from workbench.batch import Batch
from workbench.credit import center, chain, linear, place, read, reward_to_go, spread, task, total
from workbench.losses import ValueLoss, token_mean, unit_sum, value_error
from workbench.objective import Objective, Term
from workbench.recipes.critic import kl_penalty, sampled_kl

# three trajectories of one task: turns of 2+3, 1, and 2+1+2 tokens
TURNS = [[2, 3], [1], [2, 1, 2]]
OUTCOME = [1.0, 0.0, 0.5]


def made(seed: int = 0, step: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    owner = [n for n, turns in enumerate(TURNS) for _ in turns]
    lengths = torch.tensor([length for turns in TURNS for length in turns])
    batch = Batch.of_maps(owner, ["a"] * 3, torch.arange(len(owner)).repeat_interleave(lengths), step=step)
    t, k = batch.count("token"), batch.count("turn")
    batch = batch.with_column("outcome", "trajectory", OUTCOME)
    for name, level, count in (
        ("value", "token", t),
        ("turn_value", "turn", k),
        ("turn_reward", "turn", k),
        ("logprob_old", "token", t),
        ("logprob_ref", "token", t),
    ):
        values = torch.rand(count, generator=draw).double()
        batch = batch.with_column(name, level, -values if "logprob" in name else values)
    return batch


def by_hand(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """GAE of one trajectory, as the sum of its definition: A_k = sum_j (gamma lam)^j d_{k+j}."""
    after = [*values[1:], 0.0]
    errors = [r + gamma * n - v for r, n, v in zip(rewards, after, values, strict=True)]
    return [sum((gamma * lam) ** (j - k) * errors[j] for j in range(k, len(errors))) for k in range(len(errors))]


def slices(batch: Batch, level: str) -> list[list[int]]:
    owner = batch.up(level, "trajectory").tolist()
    return [[i for i, o in enumerate(owner) if o == n] for n in range(batch.count("trajectory"))]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.9, 0.8), (1.0, 0.0)])
def test_ppo_is_gae_over_sampled_tokens(gamma: float, lam: float) -> None:
    batch = made()
    found = recipes.ppo(gamma=gamma, lam=lam, whiten=False).credits(batch)
    value = batch["value"].values.tolist()
    for n, tokens in enumerate(slices(batch, "token")):
        rewards = [0.0] * (len(tokens) - 1) + [OUTCOME[n]]
        expected = by_hand(rewards, [value[t] for t in tokens], gamma, lam)
        assert found["credit"].values[tokens].tolist() == pytest.approx(expected)
        returns = [a + value[t] for a, t in zip(expected, tokens, strict=True)]
        assert found["returns"].values[tokens].tolist() == pytest.approx(returns)


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.9, 0.8)])
@pytest.mark.parametrize("reward", [None, "turn_reward"])
def test_ppo_turn_is_gae_over_turns(gamma: float, lam: float, reward: str | None) -> None:
    batch = made()
    found = recipes.ppo_turn(gamma=gamma, lam=lam, whiten=False, reward=reward).credits(batch)
    value, given = batch["turn_value"].values.tolist(), batch["turn_reward"].values.tolist()
    for n, turns in enumerate(slices(batch, "turn")):
        rewards = [given[k] for k in turns] if reward else [0.0] * (len(turns) - 1) + [OUTCOME[n]]
        expected = by_hand(rewards, [value[k] for k in turns], gamma, lam)
        for k, a in zip(turns, expected, strict=True):
            tokens = batch.token_turn == k
            assert found["credit"].values[tokens].tolist() == pytest.approx([a] * int(tokens.sum()))
            assert found["returns"].values[tokens].tolist() == pytest.approx([a + value[k]] * int(tokens.sum()))


def test_without_values_and_discount_credit_is_the_outcome() -> None:
    batch = made().with_column("value", "token", torch.zeros(made().count("token")))
    assert recipes.ppo(whiten=False).credit(batch).tolist() == recipes.reinforce().credit(batch).tolist()


def test_whitening_is_that_of_the_batch_and_leaves_returns_alone() -> None:
    batch = made()
    raw, white = recipes.ppo(whiten=False).credits(batch), recipes.ppo().credits(batch)
    x = raw["credit"].values
    expected = (x - x.mean()) / torch.sqrt(x.var() + 1e-8)
    assert torch.allclose(white["credit"].values, expected)
    assert torch.equal(white["returns"].values, raw["returns"].values)


def test_turns_that_must_not_be_trained_take_no_time() -> None:
    """Trajectory 2 with its middle turn played by somebody else is the trajectory without that turn."""
    batch = made().with_column("trainable", "turn", torch.tensor([1, 1, 1, 1, 0, 1]).bool())
    found = recipes.ppo(gamma=0.9, lam=0.8, whiten=False).credit(batch)
    tokens = [t for t in slices(batch, "token")[2] if int(batch.token_turn[t]) != 4]
    value = batch["value"].values[tokens].tolist()
    expected = by_hand([0.0, 0.0, 0.0, OUTCOME[2]], value, 0.9, 0.8)
    assert found.values[tokens].tolist() == pytest.approx(expected)
    assert found.known[batch.token_turn == 4].tolist() == [False]


def test_an_outcome_on_a_turn_that_is_not_trained_still_arrives() -> None:
    batch = made().with_column("trainable", "turn", torch.tensor([1, 0, 1, 1, 1, 1]).bool())
    found = recipes.ppo(gamma=1.0, lam=1.0, whiten=False).credit(batch)
    value = batch["value"].values
    assert found.values[:2].tolist() == pytest.approx((1.0 - value[:2]).tolist())


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_the_kl_in_the_reward_is_there_before_returns(estimator: str) -> None:
    batch = made(step=5)
    beta = linear(0.0, 0.2, 10)  # 0.1 at step 5
    found = chain(read("outcome"), place("token"), kl_penalty(beta, estimator), reward_to_go(0.9))(None, batch)
    d = batch["logprob_old"].values - batch["logprob_ref"].values
    kl = {"k1": d, "k2": d**2 / 2, "k3": torch.exp(-d) + d - 1}[estimator]
    for n, tokens in enumerate(slices(batch, "token")):
        later = 0.0
        for t in reversed(tokens):
            later = (OUTCOME[n] if t == tokens[-1] else 0.0) - 0.1 * kl[t].item() + 0.9 * later
            assert found.values[t].item() == pytest.approx(later)


def test_recipes_take_the_kl_and_a_group_baseline_can_too() -> None:
    batch = made()
    d = batch["logprob_old"].values - batch["logprob_ref"].values
    owner = batch.up("token", "trajectory")
    rewards = torch.tensor(OUTCOME).double() - 0.1 * torch.zeros(3).double().index_add(0, owner, d)
    chained = chain(
        read("outcome"), place("token"), kl_penalty(0.1), total("trajectory"), center(task), spread("token")
    )
    assert torch.allclose(chained(None, batch).values, (rewards - rewards.mean())[owner])
    assert "logprob_ref" in recipes.ppo(kl_reward=0.1).needs and "logprob_ref" not in recipes.ppo().needs
    with_kl = recipes.ppo(kl_reward=0.1, whiten=False).credit(batch)
    first = [tokens[0] for tokens in slices(batch, "token")]
    assert torch.allclose(with_kl.values[first], rewards - batch["value"].values[first])
    by_turn = recipes.ppo_turn(kl_reward=0.1, whiten=False).credit(batch)
    assert torch.allclose(by_turn.values[first], rewards - batch["turn_value"].values[[0, 2, 3]])


def test_unknown_log_probs_give_no_reward() -> None:
    batch = made()
    old = batch["logprob_old"]
    known = torch.arange(len(old.known)) != 1
    out = chain(read("outcome"), place("token"), kl_penalty(0.1))(
        None, batch.with_column("logprob_old", "token", old.values, known)
    )
    assert out.known.tolist() == known.tolist()


def test_refusals() -> None:
    with pytest.raises(ValueError, match="place it first"):
        chain(read("outcome"), kl_penalty(0.1))(None, made())
    with pytest.raises(ValueError, match="estimator"):
        kl_penalty(0.1, "k4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ratio"):
        recipes.ppo_turn(ratio="word")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ the value loss


def test_the_clipped_error_keeps_the_larger() -> None:
    value, target, old = torch.tensor([0.9, 0.3, -2.0]), torch.tensor([1.0, 1.0, 0.0]), torch.zeros(3)
    found = value_error(value, target, old, 0.5)
    assert found.tolist() == pytest.approx([max(0.01, 0.25), max(0.49, 0.49), max(4.0, 0.25)])


def loss_of(batch: Batch, loss: ValueLoss, aggregate, value: torch.Tensor) -> torch.Tensor:  # type: ignore[no-untyped-def]
    recipe = recipes.ppo_turn(whiten=False)
    credits = recipe.credits(batch)
    objective = Objective((Term("value", loss, 1.0, aggregate),))
    logprob = torch.zeros(batch.count("token"))
    return objective(logprob, batch, credits["credit"], {"returns": credits["returns"]}, outputs={"value": value}).loss


def test_a_turns_value_is_regressed_at_its_first_token_only() -> None:
    batch = made()
    value = torch.rand(batch.count("token"), generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss = loss_of(batch, ValueLoss("returns", "turn"), unit_sum("turn"), value)
    returns, starts = recipes.ppo_turn(whiten=False).credits(batch)["returns"].values, [0, 2, 5, 6, 8, 9]
    expected = sum((value[t].item() - returns[t].item()) ** 2 for t in starts) / len(starts)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert torch.nonzero(value.grad).flatten().tolist() == starts


def test_the_gradient_of_the_value_loss_is_that_of_finite_differences() -> None:
    batch = made()
    value = torch.rand(batch.count("token"), generator=torch.Generator().manual_seed(2)).double().requires_grad_()
    for loss, aggregate in (
        (ValueLoss("returns"), token_mean),
        (ValueLoss("returns", "turn"), unit_sum("turn")),
        (ValueLoss("returns", clip=0.1), token_mean),
    ):
        assert torch.autograd.gradcheck(lambda v, loss=loss, how=aggregate: loss_of(batch, loss, how, v), (value,))


def test_estimates_of_the_kl() -> None:
    old, ref = torch.tensor([-1.0]), torch.tensor([-1.5])
    assert sampled_kl(old, ref, "k1").item() == pytest.approx(0.5)
    assert sampled_kl(old, ref, "k2").item() == pytest.approx(0.125)
    assert sampled_kl(old, ref, "k3").item() == pytest.approx(torch.exp(torch.tensor(-0.5)).item() - 0.5)
