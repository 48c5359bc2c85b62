"""The learner's half of a step: the gradient of an objective over a whole batch, cut into parts.

Denominators are of the whole batch, so the gradient does not depend on how the batch is cut.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import Credit
from workbench.objective import Objective, Result
from workbench.train.parts import Part, score
from workbench.train.ranks import ALONE, Ranks, own, whole
from workbench.train.seen import Seen, together

# -------------------------------------------------------------------------------------------------- gradient


@dataclass(frozen=True)
class Passed:
    """What one pass over a batch found; sums over its parts.

    Args:
        loss: of the whole batch.
        terms: each term of it, before its weight.
        clip_share: share of the credited tokens whose gradient the clip removes.
        seen: the tokens that count, and what the policy said of them.
    """

    loss: float
    terms: Mapping[str, float]
    clip_share: float
    seen: Seen


def accumulate(
    model: Any,
    objective: Objective,
    batch: Batch,
    credits: Mapping[str, Credit],
    weights: Mapping[str, Tensor],
    parts: Sequence[Part],
    temperature: float,
    ranks: Ranks = ALONE,
) -> Passed:
    """Add the gradient of the objective over the whole batch to the parameters; say what was seen on the way.

    Without a gradient rule: one backward pass a part. With one: a backward pass a term and part; the gradients are
    summed over the parts before the rule sees them, because a norm of a part is not a norm of the batch.

    Args:
        credits: "credit", and the streams by name.
        weights: of `objective.weights`, over the whole batch.
        parts: of the whole batch; each process goes through its share of them.
        ranks: who learns together. The gradient is that of the whole batch all the same: it is summed over processes.

    Raises:
        FloatingPointError: a term's loss or gradient is not finite; names the term and the trajectories.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    streams = {name: credit for name, credit in credits.items() if name != "credit"}
    found: list[tuple[Result, Seen]] = []
    by_term: dict[str, Tensor] = {}
    problem = None
    for part in ranks.share(parts):
        logprob, outputs = score(model, part, temperature, "entropy" in objective.outputs)
        if logprob.requires_grad:
            logprob.retain_grad()  # what the loss asks of each token, for `gradient_by_turn`
        result = objective(
            logprob, batch, credits["credit"], streams, tokens=part.tokens, outputs=outputs, weights=weights
        )
        problem = problem or _problem_of(result.terms, batch, part)  # raised below, by all processes or by none
        if objective.rule is None and result.loss.requires_grad:
            result.loss.backward()
        elif objective.rule is not None:
            for name, gradient in gradients(result.terms, trainable).items():
                by_term[name] = by_term[name] + gradient if name in by_term else gradient
        found.append((_without_graph(result), _seen(logprob, outputs, part, weights)))
    ranks.keep_pace(parts, lambda part: _add_nothing(model, part, temperature))
    ranks.agree(problem)
    ranks.add_up(trainable)
    if by_term:
        _put(objective.gradient(by_term, torch.linalg.vector_norm, batch.step), trainable)
    _check_gradients(trainable, ranks, model, objective, batch, credits, weights, parts, temperature)
    results, seen = zip(*ranks.gather(found), strict=True)
    return _summed(results, together(seen))


def _add_nothing(model: Any, part: Part, temperature: float) -> None:
    """Go forward and backward over a part with a gradient of 0."""
    logprob, outputs = score(model, part, temperature)
    (0.0 * (logprob.sum() + outputs.get("value", logprob).sum())).backward()


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
        p.grad = part.view_as(p).to(p.dtype, copy=True)  # a value head is float32 whatever the model is


def clipped_norm(parameters: Sequence[Tensor], largest: float) -> float:
    """Cut the gradient of some parameters to a norm; return the norm it had.

    Args:
        parameters: of the policy, or of its value head: together the larger would take the smaller's share.
        largest: norm; 0 is no limit.

    Raises:
        FloatingPointError: the norm is not finite.
    """
    norm = whole(torch.nn.utils.clip_grad_norm_(parameters, largest or math.inf)).item()
    if not math.isfinite(norm):
        raise FloatingPointError("the gradient's norm is too large for its dtype")
    return norm


def _without_graph(result: Result) -> Result:
    terms = {name: term.detach() for name, term in result.terms.items()}
    return result._replace(loss=result.loss.detach(), terms=terms)


def _summed(results: Sequence[Result], seen: Seen) -> Passed:
    terms = {name: sum(r.terms[name].item() for r in results) for name in results[0].terms}
    clipped, counted = sum(r.clip_share * r.counted for r in results), sum(r.counted for r in results)
    return Passed(sum(r.loss.item() for r in results), terms, clipped / max(counted, 1), seen)


def _seen(logprob: Tensor, outputs: Mapping[str, Tensor], part: Part, weights: Mapping[str, Tensor]) -> Seen:
    counted = torch.stack([w[part.tokens] != 0 for w in weights.values()]).any(0)
    slope, asked = outputs.get("slope"), logprob.grad
    pull = None if slope is None or asked is None else asked.abs() * slope
    return Seen(part.tokens, logprob.detach(), outputs.get("seen_entropy"), pull).only(counted)


def remember(weights: Sequence[Tensor], optimiser: torch.optim.Optimizer) -> Callable[[], None]:
    """Return a call that puts weights and optimiser back to what they are now."""
    kept, state = [w.detach().clone() for w in weights], copy.deepcopy(optimiser.state_dict())

    def put_back() -> None:
        with torch.no_grad():
            for w, good in zip(weights, kept, strict=True):
                w.copy_(good)
        optimiser.load_state_dict(state)

    return put_back


# -------------------------------------------------------------------------------------------- what went wrong


def _problem_of(terms: Mapping[str, Tensor], batch: Batch, part: Part) -> str | None:
    bad = {name: term.item() for name, term in terms.items() if not bool(torch.isfinite(term))}
    return next((f"the term {name!r} is {value} on {_named(batch, part)}" for name, value in bad.items()), None)


def _check_gradients(
    trainable: Sequence[Tensor], ranks: Ranks, model: Any, objective: Objective, batch: Batch, *rest: Any
) -> None:
    """Refuse a gradient that is not finite; only then ask which term and trajectories it comes from."""
    if not ranks.any(any(p.grad is not None and not bool(torch.isfinite(own(p.grad)).all()) for p in trainable)):
        return
    if ranks.size > 1:  # summed over processes already: nobody can tell the parts apart any more
        raise FloatingPointError("the gradient is not finite; one process (learners=1) would name the term")
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
