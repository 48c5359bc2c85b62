"""What a driver finds when it has joined a Ray cluster: has it room for the run, do its machines see the run's folder?

What the cluster cannot hold is refused here within seconds, with numbers; Ray itself would wait for it for ever.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.runs import Run, Scale, write_json
from workbench.runs.where import end_job, job_of
from workbench.scale import room
from workbench.scale.machine import Gpu, Machine, gpus_here, of_ray

if TYPE_CHECKING:
    from workbench.train.worker import Job

FREE_S = 60.0  # for others, a driver that was just killed among them, to let go of what the run needs
WATCH_S, GONE_S = 15.0, 900.0  # between looks at a run at work; for lost machines to come back
ANSWER_S = 60.0  # for each machine to say what it sees: a process has to start there


def require_room(scale: Scale, job: Job, exchange: Path) -> None:
    """Refuse, within seconds, what a cluster that was joined cannot hold; one of our own is made to fit.

    Args:
        scale, job: of the run.
        exchange: a folder for what its processes hand each other.

    Raises:
        CannotScale: it has too little, or others use it; says what is missing and what to do.
        RuntimeError: a machine of it does not see the run's folder.
    """
    from workbench.scale.choose import CannotScale, check
    from workbench.train.plan import holds_on

    if scale.address is None:
        return
    reference, found = holds_on(job.recipe, job.evidence), nodes()
    if problems := tuple(room.missing(scale, reference, found)):
        raise CannotScale(scale, problems)
    seen = seen_from_all(job.path.resolve(), exchange, scale.device)
    check(scale, job.recipe, job.env, job.policy, job.plan, machine=machine_of(found, seen))
    wait_for_room(scale, reference)


def wait_for_room(scale: Scale, reference: bool) -> None:
    """Wait a little for what others use; see `require_room`."""
    from workbench.scale.choose import CannotScale

    end = time.monotonic() + FREE_S
    while problems := tuple(room.in_use(scale, reference, nodes())):
        if time.monotonic() > end:
            raise CannotScale(scale, problems)
        time.sleep(1.0)


@contextmanager
def room_watched(scale: Scale, job: Job) -> Iterator[None]:
    """Look now and then, while a run is at work, whether its cluster still has room for all of it.

    A machine that is lost is waited for: what ran there begins again when another one joins. After `GONE_S` the run has
    failed, with numbers, and can be resumed with less; Ray itself would wait for ever.
    """
    from workbench.train.plan import holds_on

    reference, over = holds_on(job.recipe, job.evidence), threading.Event()
    asked = replace(scale, nodes=1)  # fewer machines than were asked for are enough, if they have room

    def watch() -> None:
        since = None
        while not over.wait(WATCH_S):
            try:
                problems = tuple(room.missing(asked, reference, nodes()))
            except Exception as error:  # the cluster does not answer; whoever asks it for more than numbers will see
                print(f"the cluster was not seen: {error}", flush=True)
                continue
            if problems and since is None:
                print(f"waiting for machines: {'; '.join(problems)}", flush=True)
            since = None if not problems else time.monotonic() if since is None else since
            if since is not None and time.monotonic() - since > GONE_S:
                give_up(job.path, problems)

    thread = threading.Thread(target=watch, name="room", daemon=True)
    if scale.address is not None:
        thread.start()
    try:
        yield
    finally:
        over.set()


def give_up(path: Path, problems: tuple[str, ...]) -> None:
    """End this process, which waits for machines that do not come, and say so in the run's folder."""
    run = Run(path)
    reason = (
        f"machines of the cluster were lost, and none came for {GONE_S / 60:.0f} minutes: {'; '.join(problems)}. The "
        f"last checkpoint is good; go on when they are back, or with less: "
        f"`workbench.train.resume({str(path)!r}, scale=...)`"
    )
    told = {"state": "failed", "reason": reason, "step": run.status.step, "steps": run.config["steps"]}
    write_json(path / "status.json", {**told, "pid": os.getpid()})
    if told_job := job_of(path):
        end_job(path, told_job)
    os._exit(1)  # the main thread waits inside Ray, where no exception reaches it


def machine_of(found: list[room.Node], gpus: list[Gpu]) -> Machine:
    """Return a cluster's machines as one; GPUs are of the smallest kind seen, or of no known one."""
    names = {name for one in found for name in one.total}
    resources = {name: sum(one.total.get(name, 0.0) for one in found) for name in names}
    return of_ray(resources, min(gpus, key=lambda gpu: gpu.memory, default=None), len(found))


def nodes() -> list[room.Node]:
    """Return the machines of the cluster that are up."""
    import ray
    from ray._private.state import available_resources_per_node  # what `ray status` shows; in public only summed up

    free = available_resources_per_node()
    return [
        room.Node(one["NodeManagerAddress"], one["Resources"], free.get(one["NodeID"], {}))
        for one in ray.nodes()
        if one["Alive"]
    ]


def seen_from_all(path: Path, exchange: Path, device: str = "cpu") -> list[Gpu]:
    """Have every machine that may work look at the run's folder, and write into it; return the GPUs they have.

    Args:
        path: of the run, whole.
        exchange: a folder in it that this process made.
        device: what the run asks for: machines without it have nothing to do.

    Raises:
        RuntimeError: one does not see what this process wrote, or this process not what it wrote; or it
            does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    kind = "GPU" if device == "cuda" else "CPU"
    there = {
        one["NodeID"]: one["NodeManagerAddress"]
        for one in ray.nodes()
        if one["Alive"] and one["Resources"].get(kind, 0) >= 1 and one["Resources"].get("CPU", 0) >= 1
    }
    asked = {
        ray.remote(seen_here)
        .options(num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
        .remote(str(path), str(exchange), node): node
        for node in there
    }
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
    if late:
        who = ", ".join(there[asked[ref]] for ref in late)
        raise RuntimeError(f"no answer from {who} within {ANSWER_S:g} s; are these machines well (`ray status`)?")
    found = []
    for ref in ready:
        found += _answer(ref, there[asked[ref]], path, exchange / asked[ref])
    return found


def _answer(ref: Any, machine: str, path: Path, written: Path) -> list[Gpu]:
    """Return the GPUs of a machine, if it sees the run's folder and we what it wrote there."""
    import ray

    try:
        problem, gpus = ray.get(ref)
    except Exception as error:
        said = " ".join(str(error).split())[-400:]
        raise RuntimeError(f"{machine} cannot work on this run (has it this package?): {said}") from error
    if problem or not written.exists():
        raise RuntimeError(
            f"{machine} does not see {path} as this machine does ({problem or 'what it wrote is not seen here'}): a "
            "run's folder must be on storage that all machines see under the same name; name another one (`folder=`)"
        )
    return gpus


def seen_here(path: str, exchange: str, name: str) -> tuple[str, list[Gpu]]:
    """Look from the machine this runs on: return (what is wrong with the run's folder or "", its GPUs)."""
    if not Path(path, "launch.json").is_file() or not Path(exchange).is_dir():
        return "it is not there", []
    try:
        Path(exchange, name).write_text("seen", "utf-8")
    except OSError as error:
        return f"it cannot be written to: {error}", []
    return "", list(gpus_here())
