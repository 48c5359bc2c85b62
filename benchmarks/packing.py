"""How a batch goes through the learner: padded rows, packed rows, or trees; side by side in one run.

    python benchmarks/packing.py                          # tiny on chains, 8 tasks x 8 rollouts
    python benchmarks/packing.py --policy smollm2 --groups 1 --size 4 --repeats 1

`rows`: one sequence a row, like lengths together, padded. `packed`: whole sequences one behind the other in one row
under a block-diagonal causal mask, positions from 0 for each. `tree`: as packed, and what sequences share stands once.
Each is one forward and backward pass over all sampled tokens, in turn, best CPU seconds of several rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from workbench import envs, policy
from workbench.batch import Batch
from workbench.policy.base import Settings
from workbench.rollout import play
from workbench.train.parts import Part, cut, ends_of, score
from workbench.train.trees import breadth, cost, cut_trees


def cut_packed(batch: Batch, counted: torch.Tensor, micro_tokens: int, broad: float) -> list[Part]:
    """Cut a batch into rows of whole sequences, one behind the other, nothing shared; joined as `cut_trees` joins."""
    ends = ends_of(batch)
    groups: list[list[int]] = []
    size = 0
    for number in torch.argsort(ends, stable=True).tolist():
        length = int(ends[number])
        pays = cost(size + length, broad) <= cost(size, broad) + cost(length, broad)
        if not groups or not pays or size + length > micro_tokens:
            groups.append([])
            size = 0
        groups[-1].append(number)
        size += length
    return [_packed(batch, numbers, ends) for numbers in groups]


def _packed(batch: Batch, numbers: list[int], ends: torch.Tensor) -> Part:
    lengths = ends[numbers]
    begins = lengths.cumsum(0) - lengths
    at = torch.full((len(ends),), -1).scatter(0, torch.tensor(numbers), begins)
    tokens = torch.nonzero(at[batch.token_sequence] >= 0).flatten()
    ids = torch.cat([batch.sequences[n][: int(ends[n])] for n in numbers])  # type: ignore[index]
    place = at[batch.token_sequence[tokens]] + batch.token_position[tokens]
    depth = torch.cat([torch.arange(n) for n in lengths.tolist()])
    end = torch.repeat_interleave(begins + lengths, lengths)
    return Part(tokens, ids[None], torch.zeros_like(place), place - 1, ids[place], len(ids), depth, end)


def gradient(model: Any, parts: Sequence[Part], weight: torch.Tensor) -> torch.Tensor:
    """Return the gradient of a weighted sum of log-probs over all parts."""
    model.zero_grad(set_to_none=True)
    for part in parts:
        logprob, _ = score(model, part, 1.0)
        (logprob * weight[part.tokens]).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="tiny")
    parser.add_argument("--env", default="chain")
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--micro-tokens", type=int, default=2048)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    env = envs.load(asked.env)
    player = policy.load(asked.policy, shots=getattr(env, "shots", ()), tools=env.tools)
    settings = Settings(max_new_tokens=asked.max_new_tokens)
    tasks = env.tasks("train", asked.groups, 0)
    rollouts = play(player, env, tasks, size=asked.size, settings=settings, seed=0, progress=lambda *_: None)
    player.engine.load(None)  # type: ignore[attr-defined]
    model, batch = player.engine.model, rollouts.batch()  # type: ignore[attr-defined]
    counted, broad = torch.ones(batch.count("token"), dtype=torch.bool), breadth(model)
    ways = {
        "rows": cut(batch, counted, asked.micro_tokens),
        "packed": cut_packed(batch, counted, asked.micro_tokens, broad),
        "tree": cut_trees(batch, counted, asked.micro_tokens, broad),
    }
    report(ways, measured(model, ways, batch, asked.repeats), int(ends_of(batch).sum()), batch, broad)


def measured(
    model: Any, ways: dict[str, list[Part]], batch: Batch, repeats: int
) -> dict[str, tuple[float, torch.Tensor]]:
    """Return best CPU seconds and the gradient of each way, taken in turn."""
    weight = torch.randn(batch.count("token"), generator=torch.Generator().manual_seed(0))
    best: dict[str, float] = dict.fromkeys(ways, float("inf"))
    found: dict[str, torch.Tensor] = {}
    for _ in range(repeats):
        for name, parts in ways.items():
            began = time.process_time()
            found[name] = gradient(model, parts, weight)
            best[name] = min(best[name], time.process_time() - began)
    return {name: (best[name], found[name]) for name in ways}


def report(
    ways: dict[str, list[Part]], seconds: dict[str, tuple[float, torch.Tensor]], real: int, batch: Batch, broad: float
) -> None:
    """Print one line a way."""
    say: Callable[..., None] = print
    say(
        f"{batch.count('trajectory')} rollouts, {real} tokens read, {batch.count('token')} sampled; breadth {broad:.0f}"
    )
    say(f"{'':8} passes  tokens computed  CPU s  time / rows  largest difference of the gradient")
    base, expected = seconds["rows"]
    for name, parts in ways.items():
        took, gradient = seconds[name]
        gap = float((gradient - expected).abs().max() / expected.abs().max())
        computed = sum(part.ids.numel() for part in parts)
        say(f"{name:8} {len(parts):6}  {computed:15}  {took:5.2f}  {took / base:11.2f}  {gap:.1e}")


if __name__ == "__main__":
    main()
