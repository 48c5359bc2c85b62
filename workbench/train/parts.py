"""Whole trajectories through the model: how a batch is cut into forward passes, and what the model says of its tokens.

Only sampled tokens are ever looked at, by `scores_of`, the function the engine scores with: what stands between them
(prompt, observations, template) is read by the model and enters nothing else.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.policy.scoring import scores_of
from workbench.segments import seg_count, seg_max
from workbench.trajectory import RecordError


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
