"""The learner's half of a step: the gradient of an objective over a whole batch, cut into parts.

Denominators are of the whole batch, so the gradient does not depend on how the batch is cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import Credit
from workbench.objective import Objective, Result
from workbench.train.parts import Part, score

# -------------------------------------------------------------------------------------------------- gradient


@dataclass(frozen=True)
class Passed:
    """What one pass over a batch found; sums over its parts.

    Args:
        loss: of the whole batch.
        terms: each term of it, before its weight.
        clip_share: share of the credited tokens whose gradient the clip removes.
        ratio_gap: largest | ratio to the sampling policy - 1 | of a counted token; None where no log-probs were kept.
    """

    loss: float
    terms: Mapping[str, float]
    clip_share: float
    ratio_gap: float | None


def accumulate(
    model: Any,
    objective: Objective,
    batch: Batch,
    credits: Mapping[str, Credit],
    weights: Mapping[str, Tensor],
    parts: Sequence[Part],
    temperature: float,
) -> Passed:
    """Add the gradient of the objective over the whole batch to the parameters; say what was seen on the way.

    Without a gradient rule: one backward pass a part. With one: a backward pass a term and part; the gradients are
    summed over the parts before the rule sees them, because a norm of a part is not a norm of the batch.

    Args:
        credits: "credit", and the streams by name.
        weights: of `objective.weights`, over the whole batch.

    Raises:
        FloatingPointError: a term's loss or gradient is not finite; names the term and the trajectories.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    streams = {name: credit for name, credit in credits.items() if name != "credit"}
    results, gaps = [], []
    by_term: dict[str, Tensor] = {}
    for part in parts:
        logprob, outputs = score(model, part, temperature, "entropy" in objective.outputs)
        result = objective(
            logprob, batch, credits["credit"], streams, tokens=part.tokens, outputs=outputs, weights=weights
        )
        _check_losses(result.terms, batch, part)
        if objective.rule is None and result.loss.requires_grad:
            result.loss.backward()
        elif objective.rule is not None:
            for name, gradient in gradients(result.terms, trainable).items():
                by_term[name] = by_term[name] + gradient if name in by_term else gradient
        results.append(_without_graph(result))
        gaps.append(_gap(logprob.detach(), batch, part, weights))
    if by_term:
        _put(objective.gradient(by_term, torch.linalg.vector_norm, batch.step), trainable)
    _check_gradients(trainable, model, objective, batch, credits, weights, parts, temperature)
    return _summed(results, [gap for gap in gaps if gap is not None])


def gradients(terms: Mapping[str, Tensor], trainable: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return each term's gradient over all trainable weights, as one vector; the graph is kept."""
    found = {}
    for name, term in terms.items():
        parts = torch.autograd.grad(term, trainable, retain_graph=True, allow_unused=True)
        whole = [torch.zeros_like(p) if g is None else g for g, p in zip(parts, trainable, strict=True)]
        found[name] = torch.cat([g.flatten() for g in whole])
    return found


def _put(gradient: Tensor, trainable: Sequence[Tensor]) -> None:
    for p, part in zip(trainable, gradient.split([p.numel() for p in trainable]), strict=True):
        p.grad = part.view_as(p).clone()


def _without_graph(result: Result) -> Result:
    terms = {name: term.detach() for name, term in result.terms.items()}
    return result._replace(loss=result.loss.detach(), terms=terms)


def _summed(results: Sequence[Result], gaps: Sequence[float]) -> Passed:
    terms = {name: sum(r.terms[name].item() for r in results) for name in results[0].terms}
    clipped, counted = sum(r.clip_share * r.counted for r in results), sum(r.counted for r in results)
    return Passed(sum(r.loss.item() for r in results), terms, clipped / max(counted, 1), max(gaps, default=None))


def _gap(logprob: Tensor, batch: Batch, part: Part, weights: Mapping[str, Tensor]) -> float | None:
    column = batch.columns.get("logprob_old")
    if column is None:
        return None
    counted = torch.stack([w[part.tokens] != 0 for w in weights.values()]).any(0) & column.known[part.tokens]
    ratio = torch.exp(logprob - column.values[part.tokens].to(logprob))[counted]
    return (ratio - 1).abs().max().item() if len(ratio) else None


# -------------------------------------------------------------------------------------------- what went wrong


def _check_losses(terms: Mapping[str, Tensor], batch: Batch, part: Part) -> None:
    for name, term in terms.items():
        if not bool(torch.isfinite(term)):
            raise FloatingPointError(f"the term {name!r} is {term.item()} on {_named(batch, part)}")


def _check_gradients(trainable: Sequence[Tensor], model: Any, objective: Objective, batch: Batch, *rest: Any) -> None:
    """Refuse a gradient that is not finite; only then ask which term and trajectories it comes from."""
    if all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in trainable):
        return
    credits, weights, parts, temperature = rest
    streams = {name: credit for name, credit in credits.items() if name != "credit"}
    for part in parts:
        logprob, outputs = score(model, part, temperature, "entropy" in objective.outputs)
        terms = objective(
            logprob, batch, credits["credit"], streams, tokens=part.tokens, outputs=outputs, weights=weights
        ).terms
        for name, gradient in gradients(terms, trainable).items():
            if not bool(torch.isfinite(gradient).all()):
                raise FloatingPointError(f"the gradient of the term {name!r} is not finite on {_named(batch, part)}")
    raise FloatingPointError("the gradient is not finite although that of each term and part is: the sum overflows")


def _named(batch: Batch, part: Part) -> str:
    owners = torch.unique(batch.up("token", "trajectory")[part.tokens]).tolist()
    names = [batch.trajectories[n] for n in owners[:3]]
    return ", ".join(repr(name) for name in names) + (f" and {len(owners) - 3} more" if len(owners) > 3 else "")
