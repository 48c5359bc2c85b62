"""The learner's half of a step: forward passes over whole trajectories, and the gradient of an objective.

Only sampled tokens are ever looked at, by `scores_of`, the function the engine scores with: what stands between them
(prompt, observations, template) is read by the model and enters nothing else. Denominators are of the whole batch, so
the gradient does not depend on how the batch is cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import Credit
from workbench.objective import Objective, Result
from workbench.policy.scoring import scores_of
from workbench.segments import seg_count, seg_max
from workbench.trajectory import RecordError

# --------------------------------------------------------------------------------------------- forward passes


class Part(NamedTuple):
    """Some whole trajectories of a batch, side by side.

    Args:
        tokens: int [t], which tokens of the batch these are, in order.
        ids: int [B, L], the sequences they stand in, up to the last sampled token; 0 behind it.
        rows, places: int [t], where each token stands in `ids`.
        real: how many entries of `ids` are tokens and not padding.
    """

    tokens: Tensor
    ids: Tensor
    rows: Tensor
    places: Tensor
    real: int


def cut(batch: Batch, counted: Tensor, micro_tokens: int, device: torch.device | str = "cpu") -> list[Part]:
    """Cut a batch into parts of at most `micro_tokens` (padding included), never through a trajectory.

    Trajectories of like length stand together, so that little is padded; one without a counted token is left out. A
    trajectory that is longer than `micro_tokens` is a part of its own.

    Args:
        batch: with tokens and their sequences.
        counted: bool [T], tokens that a term of the objective weighs.
        micro_tokens: of one forward pass.
        device: where `ids` is needed.

    Raises:
        RecordError: a sequence is not here (the rest of it is with an absent parent), or begins with a sampled token.
    """
    ends = seg_max(batch.token_position.double(), batch.token_sequence, len(batch.sequences)).long() + 1
    sizes = seg_count(batch.up("token", "trajectory"), batch.count("trajectory")).tolist()
    every = torch.split(torch.arange(batch.count("token")), sizes)
    found = []
    for n, tokens in enumerate(every):
        if len(tokens) and bool(counted[tokens].any()):
            _check(batch, n, tokens)
            passes = torch.unique(batch.token_sequence[tokens])
            found.append((int(ends[passes].max()), len(passes), n, tokens))
    groups: list[list[Tensor]] = []
    rows = 0
    for width, height, _, tokens in sorted(found, key=lambda f: f[:3]):
        if not groups or (rows + height) * width > micro_tokens:
            groups.append([])
            rows = 0
        groups[-1].append(tokens)
        rows += height
    return [_part(batch, torch.cat(tokens).sort().values, ends, device) for tokens in groups]


def _part(batch: Batch, tokens: Tensor, ends: Tensor, device: torch.device | str) -> Part:
    passes, rows = torch.unique(batch.token_sequence[tokens], return_inverse=True)
    listed = [batch.sequences[s][: int(ends[s])] for s in passes.tolist()]  # type: ignore[index]
    ids = torch.nn.utils.rnn.pad_sequence(listed, batch_first=True)
    places, real = batch.token_position[tokens], sum(len(one) for one in listed)
    return Part(tokens, ids.to(device), rows.to(device), places.to(device), real)


def _check(batch: Batch, n: int, tokens: Tensor) -> None:
    gone = [s for s in torch.unique(batch.token_sequence[tokens]).tolist() if batch.sequences[s] is None]
    if gone:
        problem = "its tokens begin in a parent that is not here; train on both together"
        raise RecordError(problem, trajectory=batch.trajectories[n], field="sequences")
    if int(batch.token_position[tokens].min()) < 1:
        problem = "its first token is sampled: nothing stands before it to predict it by"
        raise RecordError(problem, trajectory=batch.trajectories[n], field="sequences")


def score(model: Any, part: Part, temperature: float, entropy: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the log-prob of each token of a part [t] and what else the objective asks of the model, with gradient.

    A causal model never looks to the right, so what stands behind a sequence needs no mask. Logits begin at the first
    that is needed: over a large vocabulary those of a common prompt are most of the memory.
    """
    first = int(part.places.min()) - 1
    kept = model(input_ids=part.ids, use_cache=False, logits_to_keep=part.ids.shape[1] - first).logits
    logits = kept[part.rows, part.places - 1 - first]
    found = scores_of(logits, part.ids[part.rows, part.places], temperature, 0, entropy)
    return found.logprobs.cpu(), {} if found.entropy is None else {"entropy": found.entropy.cpu()}


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
