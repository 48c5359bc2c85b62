"""What a stored result says about where it was measured: processor, cores, memory, load, versions and commit.

No path and no host name.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def facts(packages: Sequence[str] = ("torch", "transformers")) -> dict[str, Any]:
    """Return where and with what a benchmark runs, as plain data.

    Args:
        packages: whose versions to name; one that is not installed is None.
    """
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_before": load(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "commit": _git("rev-parse", "HEAD"),
        "package_changed_since_commit": _changed(),
    }


def processor() -> str:
    """Return the name of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    found = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return found or platform.processor() or platform.machine()


def memory_gib() -> float | None:
    """Return the machine's memory in GiB; None where the system does not tell."""
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def load() -> list[float] | None:
    """Return the load averages of 1, 5 and 15 minutes; None where the system has none."""
    return [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None


def memory_mb(which: str = "VmHWM") -> float | None:
    """Return memory of this process in MB: "VmHWM" is its peak, "VmRSS" what it has now; None where nobody tells."""
    file = Path("/proc/self/status")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    found = next((line.split()[1] for line in lines if line.startswith(f"{which}:")), None)
    return None if found is None else round(int(found) * 1024 / 1e6, 1)


def version(package: str) -> str | None:
    """Return the version of an installed package, None if it is not here."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def keep(name: str, result: Mapping[str, Any]) -> Path:
    """Write a result to `benchmarks/results/NAME.json`; return the file."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return file


def command(arguments: Sequence[str] | None = None) -> str:
    """Return the command that was given, without paths of this machine."""
    given = sys.argv[1:] if arguments is None else arguments
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *given])


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _changed() -> bool | None:
    found = _git("status", "--porcelain", "--", "workbench")
    return None if found is None else bool(found)
