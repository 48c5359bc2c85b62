"""A Ray cluster for a run: one of its own on this machine, or one that is there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.runs import Scale

HERE = "workbench-"  # how the folders of a driver begin that are worth nothing once it is gone; its number follows
STORE_BYTES = 1 << 29  # of the object store on a CPU: batches of tokens pass through it, weights do not


@contextmanager
def joined(scale: Scale, path: Path) -> Iterator[Path]:
    """Start or join a cluster; yield a folder for what its processes hand each other, which goes at the end.

    On one machine the folder is in memory where there is such a file system; else it is in the run's folder, which
    all machines must see.

    Args:
        scale: of the run.
        path: of the run.
    """
    import ray

    sweep()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # idle workers cost seconds of a small machine
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    records = tempfile.mkdtemp(prefix=f"{HERE}{os.getpid()}-", dir="/tmp")  # short: sockets have names of 107 bytes
    memory = Path("/dev/shm")
    shared = memory if scale.nodes == 1 and scale.address is None and memory.is_dir() else path.resolve()
    exchange = Path(tempfile.mkdtemp(prefix=f"{HERE}{os.getpid()}-", dir=shared))
    try:
        if scale.address is None:
            os.environ.pop("RAY_ADDRESS", None)
            _start_here(scale, records)
        else:
            settings = {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "VLLM_NO_USAGE_STATS": "1"}
            ray.init(address=scale.address, runtime_env={"env_vars": settings}, log_to_driver=True)
        yield exchange
    finally:
        ray.shutdown()
        for folder in (records, exchange):
            shutil.rmtree(folder, ignore_errors=True)


def _start_here(scale: Scale, records: str) -> None:
    import ray

    cpu = scale.device == "cpu"
    ray.init(
        num_cpus=scale.learners + max(scale.rollouts, 1) + 2 if cpu else None,  # a count, not cores: nobody shall wait
        num_gpus=0 if cpu else None,
        include_dashboard=False,
        object_store_memory=STORE_BYTES if cpu else None,
        log_to_driver=True,
        _temp_dir=records,
    )


def sweep() -> None:
    """Remove what drivers left that were killed."""
    for folder in [*Path("/tmp").glob(f"{HERE}*-*"), *Path("/dev/shm").glob(f"{HERE}*-*")]:
        number = folder.name.removeprefix(HERE).split("-")[0]
        if number.isdigit() and folder.is_dir() and not Path(f"/proc/{number}").exists():
            shutil.rmtree(folder, ignore_errors=True)
