"""Value heads for notebooks: fitted in a second, and measured.

With the layers below held as they are, the best linear head is a least-squares problem, solved at once. A run trains
its head by small steps instead, update after update; a page has no time for that.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.objective import Objective
from workbench.recipes import Recipe
from workbench.rollouts import Rollouts
from workbench.segments import run_starts
from workbench.train.parts import score
from workbench.train.plan import Learner, Plan
from workbench.train.student import hidden_states
from workbench.train.trees import parts_of


def hidden(learner: Learner, batch: Batch) -> Tensor:
    """Return what the head reads: the last hidden state before each sampled token, [T, size] float64, no gradient."""
    with torch.no_grad(), hidden_states(learner.model) as seen:
        for ids in batch.sequences:
            assert ids is not None, "rollouts without tokens have no hidden states"
            learner.model(input_ids=ids[None])
    places = zip(batch.token_sequence.tolist(), batch.token_position.tolist(), strict=True)
    return torch.stack([seen[sequence][0, place - 1] for sequence, place in places]).double()


def least_squares(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, float]:
    """Return w, b of the smallest sum (y - w x - b)^2 + ridge |w|^2.

    Args:
        x: [n, size]; y: [n].
        ridge: 0 or more.

    Example:
        >>> w, b = least_squares(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([1.0, 3.0, 5.0]), 0.0)
        >>> round(w.item(), 6), round(b, 6)
        (2.0, 1.0)
    """
    mean, level = x.mean(0), y.mean()
    away = x - mean
    w = torch.linalg.solve(away.T @ away + ridge * torch.eye(x.shape[1], dtype=x.dtype), away.T @ (y - level))
    return w, float(level - mean @ w)


def fit(learner: Learner, rollouts: Rollouts, at: str = "turn", ridge: float = 3.0) -> Learner:
    """Set a learner's head to what guesses the outcomes of these rollouts best.

    Args:
        learner: with a value head, which is changed in place; the layers below are not.
        rollouts: with tokens and known outcomes.
        at: "token": at every sampled token; "turn": at the first one of each turn.
        ridge: holds the weights small; with few rollouts a head without it learns them by heart.

    Returns:
        the learner.

    Raises:
        ValueError: it has no head, or `at` is neither.
    """
    if learner.head is None or at not in ("token", "turn"):
        head = "a head" if learner.head else "no head"
        raise ValueError(f"expected a learner with a value head and at 'token' or 'turn', got {head} and {at!r}")
    batch = rollouts.batch()
    use = run_starts(batch.token_turn) if at == "turn" else torch.ones(batch.count("token"), dtype=torch.bool)
    came = batch.down(batch["outcome"].values.double(), "trajectory", "token")
    w, b = least_squares(hidden(learner, batch)[use], came[use], ridge)
    with torch.no_grad():
        learner.head.linear.weight.copy_(w[None])
        learner.head.linear.bias.fill_(b)
    return learner


def explained(value: Tensor, came: Tensor) -> float:
    """Return the share of the variance of what came that values explain; below 0 they are worse than one number.

    Example:
        >>> explained(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0])), explained(torch.zeros(2), torch.arange(2.0))
        (1.0, 0.0)
    """
    return float(1 - (came - value).var() / came.var())


def drift(learner: Learner, batch: Batch, plan: Plan) -> float:
    """Return how far a learner's log-probs of the sampled tokens are from those they were sampled with, on average."""
    everything = torch.ones(batch.count("token"), dtype=torch.bool)
    now = torch.zeros(batch.count("token"), dtype=torch.float64)
    with torch.no_grad():
        for part in parts_of(learner.model, batch, everything, plan.micro_tokens, plan.pack):
            now[part.tokens] = score(learner.student, part, plan.temperature)[0].double()
    return float((now - batch["logprob_old"].values.double()).abs().mean())


def values_only(recipe: Recipe) -> Recipe:
    """Return a recipe of a value head with its value loss alone: the policy is asked for nothing."""
    terms = tuple(term for term in recipe.objective.terms if term.name == "value")
    return replace(recipe, name=f"{recipe.name}_values", objective=Objective(terms))
