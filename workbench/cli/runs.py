"""`workbench train`, `runs`, `watch`, `pause`, `stop`, `resume` and `glossary`."""

from __future__ import annotations

import argparse
import sys

from workbench.cli.crediting import make_recipe
from workbench.cli.saying import Problem, print_table
from workbench.runs import Run, follow, printable
from workbench.runs.follow import short

FROM_PLAN = (
    "steps",
    "groups",
    "size",
    "rate",
    "epochs",
    "micro_tokens",
    "clip",
    "temperature",
    "max_new_tokens",
    "seed",
)


def train_arguments(one: argparse.ArgumentParser) -> None:
    """Add the arguments of `train`."""
    one.add_argument("--recipe", default="grpo", help="the method (grpo)")
    one.add_argument("--param", action="append", default=[], metavar="KEY=VALUE", help="a parameter of the recipe")
    one.add_argument("--policy", default="tiny", help="tiny, smollm2, or a Hugging Face id or folder (tiny)")
    one.add_argument("--env", default="chain", help="the world (chain)")
    one.add_argument("--hops", type=int, help="searches a question takes (the world's default)")
    for name in FROM_PLAN:
        one.add_argument(f"--{name.replace('_', '-')}", type=float if name in ("rate", "clip", "temperature") else int)
    one.add_argument("--lora-rank", type=int, default=0, help="train adapters of this rank instead of all weights")
    one.add_argument("--save-every", type=int, default=0, help="steps between checkpoints (10)")
    one.add_argument("--keep-every", type=int, default=10, help="steps between kept rollouts (10); 0 keeps none")
    one.add_argument("--device", default="cpu", help="cpu or cuda")
    one.add_argument("--dtype", default="float32", help="of the weights (float32)")
    one.add_argument("--threads", type=int, default=1, help="of torch; part of what decides the last bits")
    one.add_argument("--out", help="folder of the run (the first free runs/RECIPE-WORLD-NUMBER)")
    one.add_argument("--watch", action="store_true", help="stay and show it; Ctrl-C stops watching, not the run")


def train(options: argparse.Namespace) -> int:
    """Train a policy in a world by a recipe, in a process of its own."""
    from workbench import envs
    from workbench.runs import Scale
    from workbench.train import launch
    from workbench.train.lora import Lora
    from workbench.train.plan import Plan

    env = envs.load(options.env, **({} if options.hops is None else {"hops": options.hops}))
    given = {name: getattr(options, name) for name in FROM_PLAN if getattr(options, name) is not None}
    lora = Lora(options.lora_rank) if options.lora_rank else None
    run = launch(
        make_recipe(options.recipe, options.param),
        env,
        options.policy,
        Plan(**given, lora=lora, save_every=options.save_every),
        options.out,
        scale=Scale(device=options.device),
        threads=options.threads,
        keep_every=options.keep_every,
        dtype=options.dtype,
    )
    print(run.path, flush=True)
    if options.watch:
        return _follow(run)
    print(f"it trains on its own; look with `workbench watch {run.path}`", file=sys.stderr)
    return 0


def runs_arguments(one: argparse.ArgumentParser) -> None:
    """Add the arguments of `runs`."""
    one.add_argument("folder", nargs="?", default="runs", help="where runs are (runs)")


def runs(options: argparse.Namespace) -> int:
    """List runs and how they are."""
    from workbench import runs as there

    found = there.list(options.folder)
    if not found:
        raise Problem(f"no runs in {options.folder}; `workbench train` starts one")
    rows = []
    for run in found:
        status, metrics = run.status, run.metrics()
        outcome = short(metrics[-1].get("outcome")) if metrics else "-"
        said = (str(run.path), status.state, f"{status.step}/{status.steps}", outcome, status.reason[:100])
        rows.append(tuple(map(printable, said)))
    print_table(("run", "state", "step", "outcome", "reason"), rows)
    return 0


def one_run(one: argparse.ArgumentParser) -> None:
    """Add the folder of a run."""
    one.add_argument("folder", metavar="RUN", help="folder of the run")


def resume_arguments(one: argparse.ArgumentParser) -> None:
    """Add the arguments of `resume`."""
    one_run(one)
    one.add_argument("--rate", type=float, help="learning rate from here on (the one it had)")


def watch(options: argparse.Namespace) -> int:
    """Show a run, step by step, until it ends; Ctrl-C stops watching, not the run."""
    return _follow(_attach(options))


def glossary_arguments(one: argparse.ArgumentParser) -> None:
    """Add the arguments of `glossary`."""
    one.add_argument("metric", nargs="?", metavar="METRIC", help="its name in a row of metrics; all without one")


def glossary(options: argparse.Namespace) -> int:
    """Say what a number of a training means, and what to do when it is bad."""
    from workbench.glossary import glossary as meaning

    try:
        print(meaning() if options.metric is None else meaning(options.metric))
    except KeyError as error:
        raise Problem(error.args[0]) from error
    return 0


def pause(options: argparse.Namespace) -> int:
    """Let a run finish its step, save, and wait."""
    return _told(options, "pause", "it finishes its step, saves and waits; `workbench resume` lets it go on")


def stop(options: argparse.Namespace) -> int:
    """Let a run finish its step, save, and end."""
    return _told(options, "stop", "it finishes its step, saves and ends; `workbench resume` goes on later")


def resume(options: argparse.Namespace) -> int:
    """Go on with a paused, stopped or failed run; loads the code it was launched with."""
    from workbench.train import resume as go_on

    run = _attach(options)
    try:
        go_on(run.path, rate=options.rate)
    except RuntimeError as error:
        raise Problem(str(error)) from error
    print(f"{run.path}: goes on", file=sys.stderr)
    return 0


def _attach(options: argparse.Namespace) -> Run:
    return Run(options.folder)


def _told(options: argparse.Namespace, what: str, then: str) -> int:
    run = _attach(options)
    try:
        getattr(run, what)()
    except RuntimeError as error:
        raise Problem(str(error)) from error
    print(f"{run.path}: {then}", file=sys.stderr)
    return 0


def _follow(run: Run) -> int:
    """Show a run until it ends; return 0 if it ended well."""
    return 0 if follow(run).state in ("finished", "stopped") else 1
