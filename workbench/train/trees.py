"""A batch as trees of tokens: what its trajectories share (prompt, turns that came out alike) is computed once.

    trajectories, in the order of their tokens  ->  runs of them that pay together  ->  a token tree a run  ->  parts

The rollouts of a task share their prompt, and those of a small policy many turns, too. In a tree every shared beginning
stands once, in the forward pass and in the backward pass; each token sees only the path that leads to it, so the
numbers are those of the sequences alone, up to rounding.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.policy.packed import supported
from workbench.policy.token_tree import pack
from workbench.train.parts import Part, counted_trajectories, cut, ends_of

Pack = Literal["auto", "tree", "rows"]

PASS = 64.0
"""What a pass costs beside its tokens, in tokens."""


class _Story(NamedTuple):
    """One trajectory: its tokens of the batch, and the ids of each of its passes up to the last sampled token."""

    tokens: Tensor
    passes: tuple[tuple[int, ...], ...]


def takes_trees(model: Any, length: int) -> bool:
    """Can the model read several sequences of at most `length` tokens as a tree? (Full attention that takes a mask.)"""
    try:
        supported(model, length)
    except ValueError:
        return False
    return True


def breadth(model: Any) -> float:
    """Return at how many tokens of a pass attention costs as much as everything else.

        parameters / (2 x hidden size x layers)

    because a token costs 2 x parameters operations, and 4 x hidden size x layers for each token it is compared with.
    A mask does not spare the comparisons it forbids.
    """
    config = model.config.get_text_config()
    return sum(p.numel() for p in model.parameters()) / (2 * config.hidden_size * config.num_hidden_layers)


def cost(tokens: int, broad: float) -> float:
    """Return the cost of a pass over a tree, in tokens: n + n^2 / breadth + what a pass costs at all."""
    return tokens + tokens**2 / broad + PASS


def cut_trees(
    batch: Batch, counted: Tensor, micro_tokens: int, broad: float, device: torch.device | str = "cpu"
) -> list[Part]:
    """Cut a batch into trees of at most `micro_tokens` tokens, never through a trajectory.

    Trajectories stand in the order of their tokens, so that those which begin alike are neighbours; each joins the tree
    before it if that costs less than a tree of its own. One without a counted token is left out.

    Args:
        batch: with tokens and their sequences.
        counted: bool [T], tokens that a term of the objective weighs.
        micro_tokens: of one tree; a longer trajectory is a tree of its own.
        broad: of the model, see `breadth`.
        device: where the ids are needed.

    Raises:
        RecordError: a sequence is not here, or begins with a sampled token.
    """
    ends = ends_of(batch)
    groups: list[list[Tensor]] = []
    size, before = 0, ()
    for story in sorted((_story(batch, tokens, ends) for _, tokens in counted_trajectories(batch, counted)), key=_key):
        alone = added(story.passes, ())
        new = added(story.passes, before)
        pays = cost(size + new, broad) <= cost(size, broad) + cost(alone, broad)
        if not groups or not pays or size + new > micro_tokens:
            groups.append([])
            size, new = 0, alone
        groups[-1].append(story.tokens)
        size, before = size + new, story.passes[0]
    return [_tree(batch, torch.cat(tokens).sort().values, ends, device) for tokens in groups]


def _key(story: _Story) -> tuple[tuple[tuple[int, ...], ...], int]:
    return story.passes, int(story.tokens[0])


def _story(batch: Batch, tokens: Tensor, ends: Tensor) -> _Story:
    numbers = torch.unique(batch.token_sequence[tokens]).tolist()
    return _Story(tokens, tuple(tuple(batch.sequences[s][: int(ends[s])].tolist()) for s in numbers))  # type: ignore[index]


def added(passes: tuple[tuple[int, ...], ...], before: tuple[int, ...]) -> int:
    """Count the tokens that passes add to a tree in which `before` stands.

    Example:
        >>> added(((1, 2, 3, 4), (1, 2, 5)), before=(1, 7))
        4
    """
    total = 0
    for one in passes:
        shared = next(
            (i for i, (a, b) in enumerate(zip(one, before, strict=False)) if a != b), min(len(one), len(before))
        )
        total += len(one) - shared
        before = one
    return total


def _tree(batch: Batch, tokens: Tensor, ends: Tensor, device: torch.device | str) -> Part:
    numbers, row = torch.unique(batch.token_sequence[tokens], return_inverse=True)
    place = batch.token_position[tokens]
    first = torch.full((len(numbers),), torch.iinfo(torch.int64).max).scatter_reduce(0, row, place, "amin")
    sequences = [batch.sequences[s][: int(ends[s])].tolist() for s in numbers.tolist()]  # type: ignore[index]
    tree = pack(sequences, [(int(start), len(ids)) for start, ids in zip(first, sequences, strict=True)])
    begins = torch.tensor([0, *tree.counts[:-1]]).cumsum(0)
    asked = begins[row] + place - first[row]
    moved = (x.to(device) for x in (tree.tokens[None], torch.zeros_like(asked), tree.row[asked], tree.target[asked]))
    return Part(tokens, *moved, len(tree), tree.depth.to(device), tree.end.to(device))


def parts_of(model: Any, batch: Batch, counted: Tensor, micro_tokens: int, how: Pack = "auto") -> list[Part]:
    """Cut a batch into parts for a model.

    Args:
        model: who reads them; parts are put where it is.
        batch, counted, micro_tokens: see `cut_trees`.
        how: "tree", or "rows": one sequence a row, padded; "auto" is trees where the model takes them.

    Raises:
        ValueError: trees are asked for and the model does not take them.
    """
    device = next(model.parameters()).device
    if how != "rows":
        longest = int(ends_of(batch).max()) if batch.count("token") else 0
        if how == "tree":
            supported(model, longest)
        if how == "tree" or takes_trees(model, longest):
            return cut_trees(batch, counted, micro_tokens, breadth(model), device)
    return cut(batch, counted, micro_tokens, device)
