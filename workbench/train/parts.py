"""Whole trajectories through the model: how a batch is cut into forward passes, and what the model says of its tokens.

Only sampled tokens are ever looked at, by `scores_of`, the function the engine scores with: what stands between them
(prompt, observations, template) is read by the model and enters nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.policy.scoring import scores_of
from workbench.policy.token_tree import tree_mask
from workbench.segments import seg_count, seg_max
from workbench.train.glance import glance
from workbench.train.student import computing, hidden_states, recomputing, taken_apart
from workbench.trajectory import RecordError


class Part(NamedTuple):
    """Some whole trajectories of a batch, in one forward pass: side by side, or merged into one tree of tokens.

    Args:
        tokens: int [t], which tokens of the batch these are, in order.
        ids: int [B, L], what goes through the model; 0 where nothing stands.
        rows, before: int [t], where the token before each stands in `ids`.
        targets: int [t], ids of the tokens themselves.
        real: how many entries of `ids` are tokens and not padding.
        depth, end: int [L] of a tree (B is 1): position of each token, and where its descendants end
            (`workbench.policy.token_tree`); None where each row is a sequence.
    """

    tokens: Tensor
    ids: Tensor
    rows: Tensor
    before: Tensor
    targets: Tensor
    real: int
    depth: Tensor | None = None
    end: Tensor | None = None


def counted_trajectories(batch: Batch, counted: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield (trajectory, its tokens) for each with a token that counts.

    Args:
        batch: with tokens and their sequences.
        counted: bool [T].

    Raises:
        RecordError: a sequence is not here (the rest of it is with an absent parent), or begins with a sampled token.
    """
    sizes = seg_count(batch.up("token", "trajectory"), batch.count("trajectory")).tolist()
    for n, tokens in enumerate(torch.split(torch.arange(batch.count("token")), sizes)):
        if len(tokens) and bool(counted[tokens].any()):
            _check(batch, n, tokens)
            yield n, tokens


def ends_of(batch: Batch) -> Tensor:
    """Return how much of each sequence is read: up to its last sampled token, int [number of sequences]."""
    return seg_max(batch.token_position.double(), batch.token_sequence, len(batch.sequences)).long() + 1


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
    ends = ends_of(batch)
    found = []
    for n, tokens in counted_trajectories(batch, counted):
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
    moved = (x.to(device) for x in (ids, rows, places - 1, ids[rows, places]))
    return Part(tokens, *moved, real)


def _check(batch: Batch, n: int, tokens: Tensor) -> None:
    gone = [s for s in torch.unique(batch.token_sequence[tokens]).tolist() if batch.sequences[s] is None]
    if gone:
        problem = "its tokens begin in a parent that is not here; train on both together"
        raise RecordError(problem, trajectory=batch.trajectories[n], field="sequences")
    if int(batch.token_position[tokens].min()) < 1:
        problem = "its first token is sampled: nothing stands before it to predict it by"
        raise RecordError(problem, trajectory=batch.trajectories[n], field="sequences")


# ------------------------------------------------------------------------------------------------ the model


def score(model: Any, part: Part, temperature: float, entropy: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the log-prob of each token of a part [t] and what else the model says of it [t], with gradient.

    A causal model never looks to the right, so what stands behind a sequence needs no mask. Logits are computed only
    where they are needed: over a large vocabulary those of a common prompt are most of the memory.

    Args:
        model: of transformers or peft, or a `Student`.
        part: which tokens.
        temperature: the logits are divided by it.
        entropy: also return the entropy of the policy at each token.

    Returns:
        (log-probs; "entropy" in nats if asked for; "value", of the state before the token, if there is a value head).
    """
    network, head, dtype = taken_apart(model)
    run = _tree_logits if part.end is not None else _row_logits
    with computing(network, dtype), recomputing(network), hidden_states(network) if head else nullcontext([]) as seen:
        logits, at = run(network, part, dtype)
    picked = logits[at]
    found, beside = scores_of(picked, part.targets, temperature, 0, entropy), glance(picked, part.targets, temperature)
    outputs = {"seen_entropy": beside.entropy, "slope": beside.slope}  # without a gradient, for the metrics
    outputs |= {} if found.entropy is None else {"entropy": found.entropy.cpu()}
    if head is not None:
        outputs["value"] = head(seen[0][at]).cpu()
    return found.logprobs.cpu(), outputs


def _row_logits(model: Any, part: Part, dtype: torch.dtype | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    first = int(part.before.min())
    kept = model(input_ids=part.ids, use_cache=False, logits_to_keep=part.ids.shape[1] - first).logits
    return kept, (part.rows, part.before - first)


def _tree_logits(model: Any, part: Part, dtype: torch.dtype | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """A token sees the path that leads to it, nothing else; tokens that several trajectories share stand once."""
    assert part.end is not None and part.depth is not None
    nothing = torch.arange(0, device=part.ids.device)
    mask = tree_mask(part.end, nothing, 0, len(part.end), dtype or next(model.parameters()).dtype)
    wanted, back = torch.unique(part.before, return_inverse=True)
    kept = model(
        input_ids=part.ids,
        position_ids=part.depth[None],
        attention_mask=mask,
        use_cache=False,
        logits_to_keep=wanted,
    ).logits
    return kept, (part.rows, back)
