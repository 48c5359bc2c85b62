"""Start a run in a process of its own: `launch(...)` returns at once, and training goes on whatever becomes of us.

run = launch(recipes.igpo(), envs.load("chain"), "tiny", Plan(steps=200))
run.status, run.metrics(), run.pause(), run.stop();   Run(path) attaches again;   resume(path) goes on after a kill
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench.runs import Run, Scale, Status, lock, sign, write_bytes, write_json
from workbench.train.shipping import CannotShip, Packer, call, unpack

if TYPE_CHECKING:
    from workbench.credit import Schedule
    from workbench.envs.base import Environment
    from workbench.evidence import Evidence
    from workbench.policy.base import Policy
    from workbench.recipes import Recipe
    from workbench.train.plan import Plan

FORMAT = 1
SAVE_EVERY = 10  # steps between checkpoints where the plan names none: what a kill may cost
WORKER = ("-m", "workbench.train.worker")
SCALED = ("-m", "workbench.scale.worker")
VERSIONS = ("credit-workbench", "torch", "transformers", "tokenizers", "peft", "numpy")


def launch(
    recipe: Recipe,
    env: Environment,
    policy: str | Policy = "tiny",
    plan: Plan | None = None,
    folder: str | Path | None = None,
    *,
    evidence: Sequence[Evidence] = (),
    scale: Scale | Literal["auto"] | None = None,
    threads: int = 1,
    keep_every: int = 10,
    dtype: str = "float32",
) -> Run:
    """Train in a process of its own; return its handle at once.

    What has an importable name goes as name and parameters, all else (what a notebook cell defines) by value; see
    `workbench.train.shipping`. The same arguments and number of threads give the same bits on a CPU.

    Args:
        recipe: the method.
        env: the world.
        policy: a name `workbench.policy.load` knows, or a policy, which is shipped as it is now.
        plan: how; `save_every` 0 saves every 10 steps here.
        folder: of the run, not there yet; None is the first free `runs/<recipe>-<world>-<number>`.
        evidence: providers that win over those the recipe's columns have by default.
        scale: where, and on how much: a `Scale`; "auto" looks at machine and model, chooses, and says why; None is one
            process on this machine. The run is the same to look at, to pause and to resume. On a cluster that is
            there (`address`) `folder` must be on storage all its machines see; what it cannot hold fails the run in
            seconds, with numbers in its status.
        threads: of torch; part of what decides the last bits.
        keep_every: steps between kept rollouts (the first and the last step's are always kept); 0 keeps none.
        dtype: of the weights of a policy that is given by name; see `workbench.policy.load`.

    Raises:
        CannotShip: something cannot be taken to another process. No folder is made then.
        FileExistsError: the folder is there.
        NotImplementedError: the recipe asks for what only one process gives.
        TypeError: the recipe tries candidates in every state, and the world cannot go back to one.
        ValueError: what `scale` asks for cannot be had, and says what is missing; there is no such dtype, or the policy
            is an object, which has its own.
        RuntimeError: a job was submitted (`address="http://..."`) and ended before it worked on the run; says why.
    """
    from workbench.train.plan import Plan
    from workbench.train.rounds import check_world

    plan = plan or Plan()
    check_world(recipe, env)
    _check_dtype(dtype, policy)
    scale = _where(scale, recipe, env, policy, plan, evidence, dtype)
    packer = Packer()
    config = {
        "format": FORMAT,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "text": {
            "recipe": repr(recipe),
            "env": repr(env),
            "policy": policy if isinstance(policy, str) else policy.name,
        },
        "steps": plan.steps,
        "threads": threads,
        "save_every": plan.save_every or SAVE_EVERY,
        "keep_every": keep_every,
        "recipe": packer.pack(recipe, "recipe"),
        "env": packer.pack(env, "env"),
        "policy": packer.pack(
            _by_name(policy, env, scale, dtype) if isinstance(policy, str) else _bare(policy), "policy"
        ),
        "plan": packer.pack(plan, "plan"),
        "evidence": [packer.pack(one, "evidence") for one in evidence],
        "scale": packer.pack(scale, "scale"),
        **_surroundings(),
    }
    path = _new_folder(folder, f"{recipe.name}-{type(env).__name__.lower()}")
    if packer.files:
        (path / "code").mkdir()
    for name, content in packer.files.items():
        write_bytes(path / "code" / name, content)
    write_json(path / "launch.json", config)
    return _begin(Run(path))


def resume(path: str | Path, *, rate: float | Schedule | None = None, scale: Scale | None = None) -> Run:
    """Go on with a run from its last good checkpoint, in a new process; a paused one just goes on.

    The process loads what is in the run's `code/` folder: do this with runs of your own only.

    Args:
        path: of the run.
        rate: learning rate from here on; None keeps the plan's. A run that met a number that is not finite meets it
            again with the same rate. What was changed, and when, is written into `launch.json` under "changes".
        scale: where a scaled run goes on, on any number of learners; None is where it was.

    Raises:
        FileNotFoundError: it is no run.
        RuntimeError: it has done all its steps, or what a run at work does is to change.
        ValueError: the rate is below 0 or not finite at some step, or a local run is to be scaled or the other way.
    """
    run = Run(path)
    if rate is not None:
        _change_rate(run, rate)
    if scale is not None:
        _change_scale(run, scale)
    if run.alive:
        run.resume()
        return run
    if run.status.state == "finished":
        raise RuntimeError(f"{run.path}: all {run.status.steps} steps are done; launch a new run to train on")
    return _begin(run)


def _begin(run: Run) -> Run:
    """Start what works on a run: a process here, or a job of a cluster."""
    if unpack(run.config["scale"], run.path / "code").by_job:
        return import_module("workbench.scale.jobs").submit(run)
    return spawn(run)


def _change_rate(run: Run, rate: float | Schedule) -> None:
    """Write another learning rate into what was asked, and what stood there before."""
    if run.alive:
        raise RuntimeError(f"{run.path}: a process works on it with the old rate; stop it, then resume with another")
    from workbench.train.plan import check_rate

    config, packer = run.config, Packer()
    check_rate(rate, config["steps"])
    new = packer.pack(rate, "rate")
    if packer.files:
        raise CannotShip("rate: give a number, or a schedule of `workbench.credit` such as linear(3e-4, 1e-5, 200)")
    given = config["plan"]["parameters"]
    before, given["rate"] = given["rate"], new
    _write_change(run, config, "rate", before, new)


def _change_scale(run: Run, scale: Scale) -> None:
    """Write down that a run goes on elsewhere."""
    if run.alive:
        raise RuntimeError(f"{run.path}: a process works on it where it was; stop it, then resume elsewhere")
    config = run.config
    if scale.local != unpack(config["scale"], run.path / "code").local:
        raise ValueError(
            f"{run.path}: checkpoints of a local run and of a scaled one differ; launch a new run from its weights "
            "(policy.load(run.weights))"
        )
    before, config["scale"] = config["scale"], Packer().pack(scale, "scale")
    _write_change(run, config, "scale", before, config["scale"])


def _write_change(run: Run, config: dict[str, Any], name: str, before: Any, now: Any) -> None:
    change = {"after_step": run.good_step, name: {"before": before, "now": now}}
    write_json(run.path / "launch.json", {**config, "changes": [*config.get("changes", []), change]})


def _check_dtype(dtype: str, policy: str | Policy) -> None:
    """Refuse in the cell what the process would stumble over."""
    import torch

    if not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ValueError(f"expected a torch dtype such as 'float32' or 'bfloat16', got {dtype!r}")
    if dtype != "float32" and not isinstance(policy, str):
        raise ValueError(f"{policy.name}: a policy that is given as an object has a dtype already; load it in {dtype}")


def _where(scale: Any, recipe: Any, env: Any, policy: Any, plan: Any, evidence: Sequence[Any], dtype: str) -> Scale:
    """Return where a run is to run; refuse here what its processes would stumble over in minutes."""
    if scale is None or scale == Scale():
        return Scale()
    # by name, as the driver is started: `train` knows nothing of what is above it
    found = import_module("workbench.scale.choose").resolve(scale, recipe, env, policy, plan, dtype=dtype)
    if not found.local:
        import_module("workbench.scale.crew").check_recipe(recipe, evidence, found)
    return found


def _by_name(name: str, env: Environment, scale: Scale, dtype: str) -> Any:
    from workbench import policy

    shots = () if name.split("@")[0] == "tiny" else getattr(env, "shots", ())
    return call(policy.load, name=name, shots=tuple(shots), tools=tuple(env.tools), device=scale.device, dtype=dtype)


def _bare(policy: Policy) -> Policy:
    """Drop the keys and values its engine kept: they can be many times the weights, and are not part of it."""
    tree = getattr(policy.engine, "tree", None)
    if tree is not None:
        tree.clear()
    return policy


def spawn(run: Run, command: Sequence[str] | None = None) -> Run:
    """Start the worker of a run; it inherits the lock, so that the run is alive from here until the worker ends.

    Args:
        run: with its `launch.json`; nobody works on it.
        command: gets the folder and the handle of the lock as further arguments.

    Raises:
        RuntimeError: another process works on it.
    """
    command = command or _command(run)
    config, before = run.config, run.status if (run.path / "status.json").exists() else Status("starting")
    handle = lock(run.path / "lock")
    if handle is None:
        raise RuntimeError(f"{run.path}: another process works on this run")
    try:
        (run.path / "job.json").unlink(missing_ok=True)  # nor does the job of a cluster any more
        write_json(run.path / "control.json", {"ask": "run"})
        write_json(run.path / "status.json", {"state": "starting", "step": before.step, "steps": config["steps"]})
        paths = [*config["python_path"], *filter(None, [os.environ.get("PYTHONPATH")])]
        settings = {
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONHASHSEED": "0",
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": str(config["threads"]),
        }
        where = Path(config["folder"])
        with (run.path / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command, str(run.path.resolve()), "--lock", str(handle)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=where if where.is_dir() else run.path,
                env={**os.environ, **settings},
                start_new_session=True,  # a kernel that restarts kills its own process group
                pass_fds=(handle,),
            )
        sign(handle, process.pid)
    finally:
        os.close(handle)
    threading.Thread(target=process.wait, name=f"workbench-run-{process.pid}", daemon=True).start()  # no zombie
    return run


def _command(run: Run) -> Sequence[str]:
    """Return what works on a run: one process for all of it, or the driver of one that is shared out."""
    scale = unpack(run.config["scale"], run.path / "code")
    return WORKER if scale.local else SCALED


def _new_folder(folder: str | Path | None, name: str) -> Path:
    if folder is not None:
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise FileExistsError(
                f"{path} is not empty; name another folder, or go on with workbench.train.resume(path)"
            )
        return path
    for number in range(1, 10**6):
        path = Path("runs") / f"{name}-{number:03d}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(f"runs/{name}-*: no number is free")


def _surroundings() -> dict[str, Any]:
    """Say with what and from where: versions, state of git, where modules come from."""
    ours = [str(Path(p).resolve()) for p in sys.path if not _belongs_to_python(p)]
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in VERSIONS}},
        "git": {"commit": _git("rev-parse", "HEAD"), "changed": _git("status", "--porcelain", "--untracked-files=no")},
        "folder": str(Path.cwd()),
        "python_path": list(dict.fromkeys(ours)),
    }


def _belongs_to_python(path: str) -> bool:
    whole = str(Path(path).resolve())
    return "site-packages" in whole or whole.startswith((sys.base_prefix + "/lib", sys.prefix + "/lib"))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        found = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() if found.returncode == 0 else None
