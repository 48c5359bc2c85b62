"""Credit on large batches: against a loop that walks tokens, and ten recipes side by side.

    python benchmarks/credit.py [--quick] [--threads 1]

(a) the MatchTIR advantage on 512 rollouts x 4,096 positions x 10 turns, once as a chain of stages and once as a loop
    that does what released code of this field does: read a padded mask token by token, find turns where it flips,
    collect statistics in dictionaries. Same numbers to 1e-6.
(b) ten recipes on 10,000 rollouts x 10 turns x 50 tokens.

Prints; asserts nothing about time. Times are the best of several runs; `cpu` is the processor time of that run, which
says more where others use the machine too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workbench import recipes
from workbench.batch import Batch
from workbench.recipes import Recipe

GAMMA, EPS = 0.9, 1e-6
TEN = ("reinforce", "rloo", "grpo", "dr_grpo", "dapo", "gspo", "gigpo", "matchtir", "igpo", "a2tgpo")


class Padded(NamedTuple):
    """What a trainer holds: rows of positions. `mask` 1 on sampled tokens; each turn's reward on its last token."""

    mask: Tensor
    reward: Tensor
    groups: list[int]


class Timed(NamedTuple):
    """Best of several runs, in seconds."""

    wall: float
    cpu: float
    result: Any


def best_of(runs: int, work: Callable[[], Any]) -> Timed:
    """Run something several times and keep the fastest."""
    out: list[Timed] = []
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        out.append(Timed(time.perf_counter() - wall, time.process_time() - cpu, result))
    return min(out, key=lambda t: t.wall)


# --------------------------------------------------------------------------------- (a) one advantage, two ways


def padded_rollouts(rows: int, width: int, turns: int, group: int, seed: int = 0) -> Padded:
    """Random rollouts: every turn some 80 % sampled tokens, then its observation; a few rollouts end early."""
    draw = torch.Generator().manual_seed(seed)
    mask, reward = torch.zeros(rows, width, dtype=torch.int64), torch.zeros(rows, width, dtype=torch.float64)
    share = width // turns
    for i in range(rows):
        n = turns if i % 8 else int(torch.randint(1, turns + 1, (1,), generator=draw))
        for k in range(n):
            length = int(share * 0.8) + int(torch.randint(-share // 10, share // 10, (1,), generator=draw))
            mask[i, k * share : k * share + length] = 1
            reward[i, k * share + length - 1] = torch.rand(1, generator=draw).double().item()
    return Padded(mask, reward, [i // group for i in range(rows)])


def batch_of(rollouts: Padded) -> tuple[Batch, Tensor]:
    """The same rollouts as maps and a column, and where each sampled token stands in the padded rows."""
    at = torch.nonzero(rollouts.mask.flatten()).flatten()
    row = at // rollouts.mask.shape[1]
    starts = torch.ones(len(at), dtype=torch.bool)
    starts[1:] = (at[1:] != at[:-1] + 1) | (row[1:] != row[:-1])
    turn = torch.cumsum(starts, 0) - 1
    batch = Batch.of_maps(row[starts], rollouts.groups, turn)
    ends = batch.last("token", "turn")
    return batch.with_column("match_turn_reward", "turn", rollouts.reward.flatten()[at[ends]]), at


def _zscores(values: dict[Any, list[float]]) -> dict[Any, tuple[float, float]]:
    """Mean and sample spread of each list; (0, 1) for a lone value."""
    return {k: (statistics.fmean(v), statistics.stdev(v)) if len(v) > 1 else (0.0, 1.0) for k, v in values.items()}


def _turns_by_walking(mask: Tensor, reward: Tensor) -> list[tuple[int, int, float]]:
    """(first, last, reward) of each turn of one row, found by looking at one position after the other."""
    out, start = [], -1
    for p in range(mask.shape[0]):
        if mask[p] == 1 and start < 0:
            start = p
        if start >= 0 and mask[p] == 1 and (p + 1 == mask.shape[0] or mask[p + 1] == 0):
            out.append((start, p, float(reward[p])))
            start = -1
    return out


def advantage_by_walking(rollouts: Padded) -> Tensor:
    """MatchTIR's advantage as a loop over rows and positions -> [rows, width]."""
    turns = [_turns_by_walking(m, r) for m, r in zip(rollouts.mask, rollouts.reward, strict=True)]
    whole: dict[int, list[float]] = defaultdict(list)
    by_place: dict[str, list[float]] = defaultdict(list)
    returns = []
    for i, row in enumerate(turns):
        whole[rollouts.groups[i]].append(sum(r for _, _, r in row))
        later, total = [], 0.0
        for _, _, r in reversed(row):
            total = r + GAMMA * total
            later.insert(0, total)
        returns.append(later)
        for k, value in enumerate(later):
            by_place[f"{rollouts.groups[i]}-{k}"].append(value)
    whole_z, place_z = _zscores(whole), _zscores(by_place)
    advantage = torch.zeros(rollouts.mask.shape, dtype=torch.float64)
    for i, row in enumerate(turns):
        mean, spread = whole_z[rollouts.groups[i]]
        trajectory = (sum(r for _, _, r in row) - mean) / (spread + EPS)
        for k, (first, last, _) in enumerate(row):
            mean, spread = place_z[f"{rollouts.groups[i]}-{k}"]
            turn = (returns[i][k] - mean) / (spread + EPS)
            for p in range(first, last + 1):
                advantage[i, p] = 0.5 * trajectory + 0.5 * turn
    return advantage


def against_the_loop(rows: int, width: int, turns: int) -> None:
    """Print (a)."""
    rollouts = padded_rollouts(rows, width, turns, group=16)
    prepared = best_of(3, lambda: batch_of(rollouts))
    batch, at = prepared.result
    recipe = recipes.matchtir_released(GAMMA)

    def padded() -> Tensor:
        out = torch.zeros(rows * width, dtype=torch.float64)
        out[at] = recipe.credit(batch).values
        return out.reshape(rows, width)

    ours, back = best_of(20, lambda: recipe.credit(batch)), best_of(5, padded)
    loop = best_of(1, lambda: advantage_by_walking(rollouts))
    gap = float((back.result - loop.result).abs().max())
    print(f"(a) MatchTIR on {rows} rollouts x {width:,} positions x {turns} turns ({len(at):,} sampled tokens)")
    print(f"    loop over tokens          {loop.wall * 1e3:10.1f} ms   cpu {loop.cpu * 1e3:9.1f} ms")
    print(f"    chain of stages           {ours.wall * 1e3:10.1f} ms   cpu {ours.cpu * 1e3:9.1f} ms   target 60 ms")
    print(f"    ... and back into rows    {back.wall * 1e3:10.1f} ms   cpu {back.cpu * 1e3:9.1f} ms")
    print(f"    padded rows to maps, once {prepared.wall * 1e3:10.1f} ms   cpu {prepared.cpu * 1e3:9.1f} ms")
    print(f"    largest difference {gap:.1e} (1e-6 allowed), the loop takes {loop.wall / ours.wall:,.0f} times as long")


# --------------------------------------------------------------------------------------------- (b) ten recipes


def many_rollouts(rollouts: int, turns: int, tokens: int, group: int = 8, seed: int = 0) -> Batch:
    """A batch with every column the ten recipes read."""
    draw = torch.Generator().manual_seed(seed)
    n, k = rollouts, rollouts * turns
    batch = Batch.of_maps(
        torch.arange(n).repeat_interleave(turns), torch.arange(n) // group, torch.arange(k).repeat_interleave(tokens)
    )

    def uniform(count: int) -> Tensor:
        return torch.rand(count, generator=draw, dtype=torch.float64)

    batch = batch.with_column("outcome", "trajectory", (uniform(n) < 0.4).to(torch.float64))
    batch = batch.with_column("gold_logprob_start", "trajectory", -5 * uniform(n))
    for name in ("turn_reward", "match_turn_reward"):
        batch = batch.with_column(name, "turn", uniform(k))
    batch = batch.with_column("gold_logprob", "turn", -5 * uniform(k))
    batch = batch.with_column("state", "turn", torch.randint(0, 40, (k,), generator=draw))
    return batch.with_column("trainable", "turn", torch.ones(k, dtype=torch.bool))


def ten_recipes(rollouts: int, turns: int, tokens: int) -> None:
    """Print (b)."""
    batch = many_rollouts(rollouts, turns, tokens)
    chosen: list[Recipe] = [getattr(recipes, name)() for name in TEN]
    print(
        f"(b) ten recipes on {rollouts:,} rollouts x {turns} turns x {tokens} tokens ({batch.count('token'):,} tokens)"
    )
    first = best_of(1, lambda: [recipe.credit(batch).level for recipe in chosen])
    runs = [best_of(5, lambda recipe=recipe: recipe.credit(batch)) for recipe in chosen]  # type: ignore[misc]
    for recipe, run in zip(chosen, runs, strict=True):
        known = int(run.result.known.sum())
        print(
            f"    {recipe.name:12s} {run.wall * 1e3:8.1f} ms   cpu {run.cpu * 1e3:8.1f} ms   {known:,} tokens credited"
        )
    wall, cpu = sum(r.wall for r in runs), sum(r.cpu for r in runs)
    print(f"    all ten, first time  {first.wall:8.3f} s    cpu {first.cpu:8.3f} s")
    print(f"    all ten, best        {wall:8.3f} s    cpu {cpu:8.3f} s    target 1 s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument(
        "--threads", type=int, default=1, help="runs and scatters are one thread's work: more only wait"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    against_the_loop(64 if args.quick else 512, 1024 if args.quick else 4096, 10)
    ten_recipes(1000 if args.quick else 10_000, 10, 50)


if __name__ == "__main__":
    main()
