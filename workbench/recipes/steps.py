"""Methods that ask inside a response how far it has come: pieces between uncertain tokens, or reasoning steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from workbench.batch import Batch, Level
from workbench.credit import (
    Credit,
    Node,
    Where,
    above,
    apply,
    center,
    chain,
    count_before,
    delta,
    difference,
    fill,
    first,
    forget,
    minmax,
    mix,
    multiply,
    read,
    spread,
    task,
    zscore,
)
from workbench.credit import batch as everything
from workbench.credit.rules import in_range, one_of
from workbench.losses import trajectory_mean
from workbench.objective import clipped
from workbench.recipes.base import Recipe
from workbench.segments import seg_min

Process = Literal["raw", "pooled"]
Potential = Literal["paper", "released"]


def entropy_cuts(entropy: Tensor, least: float) -> Tensor:
    """Return the positions of uncertain tokens: entropy >= least -> int64, increasing."""
    return torch.nonzero(entropy >= least).flatten()


def entropy_segments(entropy: Tensor, least: float, count: int) -> Tensor:
    """Split a response where it is uncertain, into segments that hold equally many uncertain tokens.

        segment m starts at cut number floor(m |U| / M),    U = { tokens with entropy >= least }

    Args:
        entropy: [T] of each token's distribution, nats.
        least: from which a token is a cut.
        count: M >= 1; with fewer cuts than that, every cut starts a segment.

    Returns:
        [T] int64, segment of each token, counted from 0.

    Source: GRPO-VPS, arXiv:2604.20659: cuts and equal shares; which cut starts a segment is our reading.

    Example:
        >>> entropy_segments(torch.tensor([0.1, 1.2, 0.2, 0.9, 0.1]), 0.8, 2).tolist()
        [0, 0, 0, 1, 1]
    """
    cuts = entropy_cuts(entropy, least)
    starts = cuts[torch.arange(1, count) * len(cuts) // count] if len(cuts) >= count else cuts
    return torch.bucketize(torch.arange(len(entropy)), starts, right=True)


def segment_gain() -> Node:
    """p_{m+1} - p_m at the last token of each segment; its other tokens are unknown."""
    return delta("segment_gold_logprob", "segment_gold_logprob_start", torch.exp)


def grpo_vps(alpha: float = 1.0, process: Process = "raw", low: float = 0.2, high: float = 0.2) -> Recipe:
    """Add to GRPO's credit of a response, piece by piece, how much the piece raised the gold answer's probability.

        A_{i, token of m} = (R_i - mean) / (std + 1e-6)  +  alpha (p_{m+1} - p_m)

    Args:
        alpha: weight of the pieces.
        process: "raw", or "pooled": the z-score of all the pieces of a task.
        low, high: clip half-widths.

    Needs: outcome, segment_gold_logprob, segment_gold_logprob_start (evidence: segments by entropy, probed at their
        ends).
    Holds: raw, the gains of a rollout sum to p_end - p_start. A group that is all wrong still has credit.
    Source: arXiv:2604.20659. Segments and probe are the paper's. Reconstruction: the paper's formulas were not read, no
        code is public; alpha, the normalisation and the loss are ours.
    """
    one_of("grpo_vps", "process", process, Process)
    outcome = chain(read("outcome"), zscore(task, ddof=1, singleton="keep"), spread("token"))
    gain = segment_gain() if process == "raw" else chain(segment_gain(), zscore(task, ddof=1))
    credit = chain(mix(outcome, chain(gain, fill("next")), weights=(1.0, alpha)))
    return Recipe("grpo_vps", credit, clipped(low, high, aggregate=trajectory_mean))


# ------------------------------------------------------------------------------------------------------------- SPAE


def thought_ends(pieces: Sequence[str], ends: str = ".\n\n", close: str = "</think>") -> list[int]:
    """Return the index of the last token of each step of a turn: where a paragraph of its thought ends, and the turn.

    Args:
        pieces: text of each token of the turn.
        ends: what a step ends with.
        close: what ends the thought; nothing is cut from there on. A turn without it is a thought to its end.

    Source: SPAE, inference/probe_mechanism_example.py: steps end at tokens that end so, before the first "</think>".
    Differs: an end that is spelled by several tokens counts, too; what follows the last one, the answer among it, is a
        step of its own (the script, which only measures, has none there).

    Example:
        >>> thought_ends(["<think>", "a", ".\\n\\n", "b", "c.", "\\n\\n", "</think>", "d", ".\\n\\n", "e"])
        [2, 5, 9]
    """
    found, tail = [], ""
    for number, piece in enumerate(pieces):
        tail = tail[-max(len(ends), len(close)) :] + piece
        if close and close in tail:
            break
        if tail.endswith(ends):
            found.append(number)
    last = len(pieces) - 1
    return found if not pieces or found[-1:] == [last] else [*found, last]


def probe_scores(
    gold_logprobs: Sequence[Tensor], entropies: Sequence[Tensor], variant: Potential = "paper"
) -> tuple[float, float]:
    """Return (accuracy, confidence) of a step from its N short probes.

        paper:     Acc = 1/N sum_n mean_m exp(l_nm),       Conf = 1/N sum_n exp(-mean_m H_nm)
        released:  Acc = 1/N sum_n exp(sum_m l_nm) / L_n,  Conf = 1/N sum_n exp(-sum_m H_nm) / L_n

    Args:
        gold_logprobs: a probe, a tensor: l of the forced gold answer's tokens.
        entropies: a probe, a tensor: H of the tokens it sampled, nats.
        variant: the two agree only where an answer is one token.

    Source: SPAE, arXiv:2601.03823; cii030/SPAE-RL, inference/probe_mechanism_example.py.
    Differs: the script takes -10 for a gold token outside its top 20, and entropies over those 20 unnormalised.
    """
    one_of("probe_scores", "variant", variant, Potential)

    def over_probes(rows: Sequence[Tensor], paper: str) -> float:
        wide = [row.to(torch.float64) for row in rows]
        if variant == "released":
            found = [row.sum().exp() / len(row) for row in wide]
        else:
            found = [row.exp().mean() if paper == "mean of exp" else row.mean().exp() for row in wide]
        return float(torch.stack(found).mean())

    return over_probes(gold_logprobs, "mean of exp"), over_probes([-row for row in entropies], "exp of mean")


def step_potential(batch: Batch, accuracy: Credit, confidence: Credit) -> Tensor:
    """Phi = 1.5 Acc Conf + 0.5 Acc - Conf, in [-1, 1]: sure and right 1, unsure and right 0.5, sure and wrong -1."""
    a, c = accuracy.values, confidence.values
    return 1.5 * a * c + 0.5 * a - c


def saturation(batch: Batch, count: Credit, alpha: float) -> Tensor:
    """f = 1 - alpha (1 - exp(-C)): the outcome counts less once the answer stood C steps long."""
    return 1 - alpha * (1 - torch.exp(-count.values))


def exponential(batch: Batch, x: Credit) -> Tensor:
    """exp(x)"""
    return torch.exp(x.values)


def _first_known(credit: Credit, batch: Batch) -> Tensor:
    owner = batch.up(credit.level, "trajectory")
    places = torch.where(credit.known, torch.arange(len(credit)), len(credit))
    return places == seg_min(places, owner, batch.count("trajectory"))[owner]


def potential_change(phi: Node, inside: bool = False) -> Node:
    """Phi_k - Phi_{k-1}; 0 at the first step: the first unit, or, of steps inside a turn, the first that ends one."""
    begins = Where("first_known", _first_known) if inside else first()
    start = chain(phi, forget(~begins))
    return mix(chain(phi, difference()), start, weights=(1.0, 0.0), unknown="skip")


def shaping(phi: Node, inside: bool = False) -> Node:
    """g = exp(minmax(change of Phi)) - its mean, over all steps of the batch."""
    spreaded = apply(exponential, chain(potential_change(phi, inside), minmax(everything)))
    return chain(spreaded, center(everything))


def penalty(phi: Node, alpha: float, full: float) -> Node:
    """f of each step: `saturation` of the number of earlier steps whose potential is above `full`."""
    return apply(saturation, chain(phi, count_before(above(full))), alpha=alpha)


def spae(
    alpha: float = 0.5, xi: float = 0.5, full: float = 0.9, potential: str | None = None, step: Level = "turn"
) -> Recipe:
    """Let the outcome count less after the answer stood already, and reward steps that move towards it.

        A_k = (R_i - mean_j R_j) f_k + xi g_k,  then standardised over the tokens of the batch
        f_k = 1 - alpha (1 - exp(-#{ j < k : Phi_j > full })),   g_k = exp(minmax(Phi_k - Phi_{k-1})) - batch mean

    Args:
        alpha: how much of the outcome a step long after the answer loses, in [0, 1].
        xi: weight of the shaping.
        full: potential above which the answer stands.
        potential: column of Phi on steps; None computes it from step_accuracy and step_confidence.
        step: level of the steps: turns, or a unit of tokens. "token" is for steps inside a turn, as published: their
            columns are known at the last token of each (`thought_ends`), and a step's tokens share its credit.

    Needs: outcome; step_accuracy, step_confidence, of steps inside a turn thought_accuracy, thought_confidence
        (evidence: short sampled probes and the forced gold answer).
    Holds: a step whose potential is unknown has no credit. f shrinks blame, too.
    Source: arXiv:2601.03823; the potential is the official probe script's. Reconstruction: f and g are from notes by
        others, their scopes and the last standardising (population, eps 1e-8, by tokens) are our reading.
    Differs: the paper samples again where a group's outcomes are all equal (DAPO).
    """
    in_range("spae", "alpha", alpha, 0.0, 1.0)
    inside = step == "token"
    names = ("thought_accuracy", "thought_confidence") if inside else ("step_accuracy", "step_confidence")
    measured = (chain(read(name, step)) for name in names)
    phi = chain(apply(step_potential, *measured)) if potential is None else chain(read(potential, step))
    outcome = chain(read("outcome"), center(task), spread(step))
    raw = mix(multiply(outcome, penalty(phi, alpha, full)), shaping(phi, inside), weights=(1.0, xi))
    credit = chain(raw, fill("next") if inside else spread("token"), zscore(everything, ddof=0, eps=1e-8))
    return Recipe("spae", credit, clipped(0.2, 0.28))
