"""Cases of the exercises of 101, made from a random generator, and what is right, computed by the library itself."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import torch

from workbench.batch import Batch
from workbench.losses import clipped_surrogate, importance_ratio, trajectory_mean
from workbench.recipes import grpo
from workbench.teach.checking import Args

OUTCOMES = (0.0, 1.0, 1.0, 0.0, 0.5, 0.3)
# Equal values whose sum, taken one by one, is not their multiple in floating point: a mean of them is off by rounding.
ROUNDED = ((0.1, 3), (0.7, 3), (0.1, 6), (0.3, 6))


def _tensor(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ------------------------------------------------------------------------------------- 1: outcome to advantage


def advantage(outcome: Sequence[float], group: Sequence[str], tokens: Sequence[int]) -> list[float]:
    """Return GRPO's advantage of each rollout, by the library's recipe."""
    names = sorted(set(group))
    turn = torch.arange(len(outcome))
    of_token = torch.repeat_interleave(turn, torch.tensor(tokens))
    batch = Batch.of_maps(turn, torch.tensor([names.index(g) for g in group]), of_token)
    credit = grpo(kl=0.0).credit(batch.with_column("outcome", "trajectory", _tensor(outcome)), to="token").values
    first = torch.cumsum(torch.tensor(tokens), 0) - torch.tensor(tokens)
    return [float(x) for x in credit[first]]


def _group(rng: Random, name: str, outcomes: Sequence[float]) -> list[tuple[float, str, int]]:
    return [(r, name, n) for r, n in zip(outcomes, rng.sample(range(4, 40), len(outcomes)), strict=True)]


def _varied(rng: Random, size: int) -> list[float]:
    out = [1.0, 0.0] + [rng.choice(OUTCOMES) for _ in range(size - 2)]
    return rng.sample(out, size)


def _columns(members: Sequence[tuple[float, str, int]]) -> Args:
    return tuple(list(column) for column in zip(*members, strict=True))


def advantage_cases(rng: Random) -> list[Args]:
    """One idea a case: a group; two unlike groups; a lone rollout; equal outcomes; then ragged batches."""
    equal = [_group(rng, "B", [value] * size) for value, size in ROUNDED]
    small = [
        _group(rng, "A", _varied(rng, 3)),
        _group(rng, "A", [1.0, 1.0, 1.0, 0.0]) + _group(rng, "B", [0.0, 0.0, 1.0]),
        _group(rng, "A", [1.0, 0.0]) + _group(rng, "B", [1.0]),
        _group(rng, "A", [1.0, 0.0]) + _group(rng, "B", [1.0, 1.0]),
        *(_group(rng, "A", [1.0, 0.0]) + one for one in equal),
    ]
    ragged = []
    for _ in range(12):
        sizes = [rng.randint(2, 5) for _ in range(rng.randint(2, 4))]
        members = [m for k, n in enumerate(sizes) for m in _group(rng, "ABCD"[k], _varied(rng, n))]
        ragged.append(rng.sample(members, len(members)))
    return [_columns(members) for members in small + ragged]


# ------------------------------------------------------------------------------------- 2: rollout to tokens


def to_tokens(advantage: Sequence[float], origin: Sequence[Sequence[str]]) -> list[list[float]]:
    """Return the credit of each token: its rollout's advantage if the policy sampled it, else 0."""
    return [[a if o == "sampled" else 0.0 for o in row] for a, row in zip(advantage, origin, strict=True)]


def token_cases(rng: Random) -> list[Args]:
    """Rollouts of one to three turns; the last turn has no observation."""
    cases: list[Args] = []
    for size in (1, 1, 2, 2, 3, 4, 5):
        rows = []
        for _ in range(size):
            row = ["prompt"] * rng.randint(1, 3)
            for turn in range(rng.randint(1, 3)):
                row += ["observation"] * (rng.randint(1, 3) if turn else 0) + ["sampled"] * rng.randint(2, 4)
            rows.append(row + ["observation"] * rng.randint(0, 1))  # a last line may be answered by an error message
        cases.append(([round(rng.choice((-1, 1)) * rng.uniform(0.4, 1.6), 2) for _ in rows], rows))
    return cases


# ------------------------------------------------------------------------------------- 3: credit to loss


def token_losses(
    new: Sequence[float], old: Sequence[float], credit: Sequence[float], low: float, high: float
) -> list[float]:
    """Return the clipped loss of each token, by the library's equations."""
    ratio = importance_ratio(_tensor(new), _tensor(old))
    return [float(x) for x in clipped_surrogate(ratio, _tensor(credit), _tensor(low), _tensor(high), None)]


def loss_cases(rng: Random) -> list[Args]:
    """Tokens whose ratio lies within the clip, above it and below it, praised and blamed."""
    inside, above, below = 0.05, 0.6, -0.6
    moves = [[above], [below], [inside, above], [below, inside]]
    moves += [[rng.choice((inside, above, below)) for _ in range(rng.randint(2, 6))] for _ in range(12)]
    cases: list[Args] = []
    for steps in moves:
        for sign in (1, -1):
            old = [-rng.uniform(0.8, 3.0) for _ in steps]
            new = [o + s * rng.uniform(0.8, 1.2) for o, s in zip(old, steps, strict=True)]
            cases.append(
                (new, old, [sign * round(rng.uniform(0.4, 1.6), 2)] * len(steps), 0.2, rng.choice((0.2, 0.28)))
            )
    return cases


# ------------------------------------------------------------------------------------- 4: losses to a number


def aggregate(loss: Sequence[Sequence[float]], mask: Sequence[Sequence[int]]) -> float:
    """Return the mean over rollouts of the mean over their trained tokens, by the library's aggregation."""
    rows = [i for i, keep in enumerate(mask) for m in keep if m]
    values = [x for row, keep in zip(loss, mask, strict=True) for x, m in zip(row, keep, strict=True) if m]
    turn = torch.arange(len(mask))
    batch = Batch.of_maps(turn, torch.zeros_like(turn), torch.tensor(rows))
    return float((trajectory_mean(batch, torch.ones(len(rows), dtype=torch.bool)) * _tensor(values)).sum())


def aggregate_cases(rng: Random) -> list[Args]:
    """Rows of unlike lengths, padded; some with a hole where an observation stood; some with nothing to train."""
    cases: list[Args] = []
    for sizes in ([3, 1], [2, 4], [2, 3, 0], [5, 2, 4], [1, 0, 6], [4, 4, 2, 1], [0, 3, 5, 2, 1]):
        width = max(sizes) + 1
        loss, mask = [], []
        for size in sizes:
            kept = [1] * size + [0] * (width - size)
            if size > 1:
                kept[1:] = rng.sample(kept[1:], width - 1)
            mask.append(kept)
            loss.append([round(rng.uniform(-2, 2), 2) if m else rng.choice((0.0, 9.0)) for m in kept])
        cases.append((loss, mask))
    return cases
