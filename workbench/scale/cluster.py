"""A Ray cluster for a run: one of its own on this machine, or one that is there (then `arrival` looks at it)."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.runs import Scale

HERE = "workbench-"  # how the folders of a driver begin that are worth nothing once it is gone; its number follows
STARTS = 6  # of Ray: it gives a helper of its own 15 s to start, which nothing changes (ray-project/ray#65983)
STORE_BYTES = 1 << 29  # of the object store on a CPU: batches of tokens pass through it, weights do not
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_prestart_worker_first_driver": "0",  # idle workers cost seconds of a small machine
    "RAY_worker_niceness": "0",  # by default 15: on a machine that does other things a run would stand still
    "RAY_TRAIN_METRICS_ENABLED": "0",  # nobody would read them: a run has its own
}
ALONE = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}  # nobody takes this machine away with a warning


@contextmanager
def joined(scale: Scale, path: Path) -> Iterator[Path]:
    """Start or join a cluster; yield a folder for what its processes hand each other, which goes at the end.

    On one machine the folder is in memory where there is such a file system; else it is in the run's folder, which
    all machines must see. What is there of drivers that were killed is removed: the run's lock is held by now.

    Args:
        scale: of the run.
        path: of the run.
    """
    import ray

    sweep(path)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    records = tempfile.mkdtemp(prefix=f"{HERE}{os.getpid()}-", dir="/tmp")  # short: sockets have names of 107 bytes
    memory = Path("/dev/shm")
    shared = memory if scale.nodes == 1 and scale.address is None and memory.is_dir() else path.resolve()
    exchange = Path(tempfile.mkdtemp(prefix=f"{HERE}{os.getpid()}-", dir=shared))
    try:
        if scale.address is None:
            os.environ.pop("RAY_ADDRESS", None)
            os.environ.update(ALONE)
            _start_here(scale, records)
        else:
            _join(scale)
        yield exchange
    except BaseException:
        if scale.address is None:
            _keep_logs(Path(records), path / "ray-logs")
        raise
    finally:
        ray.shutdown()
        for folder in (records, exchange):
            shutil.rmtree(folder, ignore_errors=True)


def _join(scale: Scale) -> None:
    """Join a cluster that is there.

    Raises:
        ConnectionError: it does not let this process join; says what to do.
    """
    import ray

    settings = {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), **SETTINGS}
    try:
        if scale.by_job:  # who submitted the job has given all its processes the settings
            ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False)
        else:
            ray.init(scale.address, runtime_env={"env_vars": settings}, log_to_driver=False)
    except KeyError:
        raise ConnectionError(f"address={scale.address!r} is that of jobs, and this process is none") from None
    except Exception as error:
        raise ConnectionError(
            f"address={scale.address!r}: the cluster cannot be joined ({type(error).__name__}: "
            f"{' '.join(str(error).split())[-400:]}). The driver must be on one of its machines, with the Ray and "
            "Python it has, and where it wants a token with RAY_AUTH_MODE=token; from elsewhere give "
            "address='http://HEAD:8265'"
        ) from error


def _start_here(scale: Scale, records: str) -> None:
    """Start Ray on this machine; again where the machine was too busy for the time that Ray gives it."""
    import ray

    cpu = scale.device == "cpu"
    for left in reversed(range(STARTS)):
        try:
            ray.init(
                "local",  # without it Ray joins whatever `ray start` last started here
                num_cpus=scale.learners + max(scale.rollouts, 1) + 2 if cpu else None,  # a count: nobody shall wait
                num_gpus=0 if cpu else None,
                include_dashboard=False,
                object_store_memory=STORE_BYTES if cpu else None,
                log_to_driver=False,  # errors come back as errors; the rest would be thousands of lines
                runtime_env=_spelled(sys.executable),
                _temp_dir=records,
            )
            return
        except Exception as error:
            ray.shutdown()
            if not left or "timed out" not in str(error):
                raise
            print(f"Ray did not start in time, once more: {error}", flush=True)


def _spelled(python: str) -> dict[str, str] | None:
    """Say how workers are started, where Python is in a folder whose name a shell would take apart.

    Ray puts the name into a line of bash as it is; workers would then never start, and nobody be told.
    """
    return None if shlex.quote(python) == python else {"py_executable": shlex.quote(python)}


def _keep_logs(records: Path, there: Path) -> None:
    """Copy what processes wrote, as far as they wrote anything."""
    logs = [one for one in records.glob("session_latest/logs/*") if one.is_file() and one.stat().st_size]
    there.mkdir(exist_ok=True)
    for one in logs:
        shutil.copyfile(one, there / one.name)


def sweep(path: Path | None = None) -> None:
    """Remove what drivers left that were killed: on this machine, and in a run that nobody else works on."""
    for folder in path.glob(f"{HERE}*-*") if path else ():
        shutil.rmtree(folder, ignore_errors=True)
    for folder in [*Path("/tmp").glob(f"{HERE}*-*"), *Path("/dev/shm").glob(f"{HERE}*-*")]:
        number = folder.name.removeprefix(HERE).split("-")[0]
        if number.isdigit() and folder.is_dir() and not Path(f"/proc/{number}").exists():
            shutil.rmtree(folder, ignore_errors=True)
