"""Wrong solutions of the exercises of 101 that people write, each one function. They are told to readers by name.

Letters: N rollouts; a rollout's tokens are a list. `group` is the question of each rollout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, pstdev, stdev

from workbench.teach.checking import Args, Values, same

EPS = 1e-6
Numbers = Sequence[float]
Rows = Sequence[Sequence[float]]

# ------------------------------------------------------------------------------------- 1: outcome to advantage


def _peers(outcome: Numbers, group: Sequence[str], i: int) -> list[float]:
    return [r for r, g in zip(outcome, group, strict=True) if g == group[i]]


def _z(x: float, peers: Numbers, ddof: int = 1) -> float:
    if len(peers) < 2 or max(peers) == min(peers):
        return 0.0
    return (x - mean(peers)) / ((stdev if ddof else pstdev)(peers) + EPS)


def population_spread(outcome: Numbers, group: Sequence[str], tokens: Sequence[int]) -> list[float]:
    """Divide the squares by G, not G - 1."""
    return [_z(r, _peers(outcome, group, i), ddof=0) for i, r in enumerate(outcome)]


def batch_statistics(outcome: Numbers, group: Sequence[str], tokens: Sequence[int]) -> list[float]:
    """Compare with all rollouts of the batch, whatever their question."""
    return [_z(r, outcome) for r in outcome]


def lone_keeps_outcome(outcome: Numbers, group: Sequence[str], tokens: Sequence[int]) -> list[float]:
    """Let a lone rollout have mean 0 and spread 1, so that its raw outcome passes."""
    peers = [_peers(outcome, group, i) for i in range(len(outcome))]
    return [_z(r, p) if len(p) > 1 else r / (1 + EPS) for r, p in zip(outcome, peers, strict=True)]


def token_statistics(outcome: Numbers, group: Sequence[str], tokens: Sequence[int]) -> list[float]:
    """Copy each outcome to its tokens first, and take mean and spread over the tokens."""
    weighted = [[r] * n for r, n in zip(outcome, tokens, strict=True)]
    out = []
    for i, r in enumerate(outcome):
        peers = [x for row, g in zip(weighted, group, strict=True) if g == group[i] for x in row]
        out.append(_z(r, peers))
    return out


def center_only(outcome: Numbers, group: Sequence[str], tokens: Sequence[int]) -> list[float]:
    """Forget the division."""
    return [r - mean(_peers(outcome, group, i)) for i, r in enumerate(outcome)]


def divided_noise(outcome: Numbers, group: Sequence[str], tokens: Sequence[int]) -> list[float]:
    """Divide what is left of equal outcomes by a spread that is nothing but rounding."""
    out = []
    for i, r in enumerate(outcome):
        peers = _peers(outcome, group, i)
        average = sum(peers) / len(peers)
        spread = math.sqrt(sum((x - average) ** 2 for x in peers) / max(len(peers) - 1, 1))
        out.append((r - average) / spread if spread > 0 else 0.0)
    return out


def looks_like_noise(args: Args, got: Values, want: Values) -> bool:
    """Is an answer wrong at rollouts of groups of two or more equal outcomes, and only there?"""
    outcome, group, _ = args
    peers = [_peers(outcome, group, i) for i in range(len(outcome))]
    wrong = [i for i in range(len(outcome)) if not same(got[i], want[i])]
    return bool(wrong) and all(len(peers[i]) > 1 and len(set(peers[i])) == 1 for i in wrong)


# --------------------------------------------------------------------------------- 2: rollout to tokens


def credits_observations(advantage: Numbers, origin: Sequence[Sequence[str]]) -> list[list[float]]:
    """Credit all that comes after the prompt."""
    return [[0.0 if o == "prompt" else a for o in row] for a, row in zip(advantage, origin, strict=True)]


def shared_over_tokens(advantage: Numbers, origin: Sequence[Sequence[str]]) -> list[list[float]]:
    """Divide the advantage by the number of sampled tokens."""
    return [
        [a / max(row.count("sampled"), 1) if o == "sampled" else 0.0 for o in row]
        for a, row in zip(advantage, origin, strict=True)
    ]


def last_token_only(advantage: Numbers, origin: Sequence[Sequence[str]]) -> list[list[float]]:
    """Put all on the last sampled token, where the outcome came."""
    out = []
    for a, row in zip(advantage, origin, strict=True):
        last = max((k for k, o in enumerate(row) if o == "sampled"), default=-1)
        out.append([a if k == last else 0.0 for k in range(len(row))])
    return out


# ------------------------------------------------------------------------------------- 3: credit to loss


def _ratios(new: Numbers, old: Numbers) -> list[float]:
    return [math.exp(a - b) for a, b in zip(new, old, strict=True)]


def _surrogate(ratios: Numbers, credit: Numbers, low: float, high: float) -> list[float]:
    pairs = zip(ratios, credit, strict=True)
    return [max(-a * r, -a * min(max(r, 1 - low), 1 + high)) for r, a in pairs]


def min_for_max(new: Numbers, old: Numbers, credit: Numbers, low: float, high: float) -> list[float]:
    """Take the smaller of the two losses; the same function as clipping each sign at the other's side."""
    pairs = zip(_ratios(new, old), credit, strict=True)
    return [min(-a * r, -a * min(max(r, 1 - low), 1 + high)) for r, a in pairs]


def clip_alone(new: Numbers, old: Numbers, credit: Numbers, low: float, high: float) -> list[float]:
    """Use the clipped ratio always."""
    return [-a * min(max(r, 1 - low), 1 + high) for r, a in zip(_ratios(new, old), credit, strict=True)]


def summed_probabilities(new: Numbers, old: Numbers, credit: Numbers, low: float, high: float) -> list[float]:
    """Divide the sum of the new probabilities by the sum of the old ones."""
    ratio = sum(map(math.exp, new)) / sum(map(math.exp, old))
    return _surrogate([ratio] * len(credit), credit, low, high)


def sequence_ratio(new: Numbers, old: Numbers, credit: Numbers, low: float, high: float) -> list[float]:
    """Give every token the ratio of the whole sequence, the product of all."""
    return _surrogate([math.exp(sum(new) - sum(old))] * len(credit), credit, low, high)


def upside_down(new: Numbers, old: Numbers, credit: Numbers, low: float, high: float) -> list[float]:
    """Divide old by new."""
    return _surrogate(_ratios(old, new), credit, low, high)


# ------------------------------------------------------------------------------------- 4: losses to a number


def padding_counts(loss: Rows, mask: Rows) -> float:
    """Take the mean of each padded row."""
    return mean(sum(x for x, m in zip(*row, strict=True) if m) / len(row[0]) for row in zip(loss, mask, strict=True))


def token_mean(loss: Rows, mask: Rows) -> float:
    """Take the mean over all tokens of the batch."""
    kept = [x for row, keep in zip(loss, mask, strict=True) for x, m in zip(row, keep, strict=True) if m]
    return mean(kept)


def empty_rows_count(loss: Rows, mask: Rows) -> float:
    """Count a rollout without a trained token as a loss of 0."""
    total = 0.0
    for row, keep in zip(loss, mask, strict=True):
        kept = [x for x, m in zip(row, keep, strict=True) if m]
        total += mean(kept) if kept else 0.0
    return total / len(loss)
