"""The driver of a scaled run: `python -m workbench.scale.worker DIR`, started by `workbench.train.launch`.

It is the worker of a local run with another crew, so a scaled run is watched, paused, stopped and resumed as any other.
Where it runs follows from `Scale.address`:

    None                   a detached process of this machine, with a Ray cluster of its own on it: nothing has to be
                           running before it, and the cluster is its child and ends with it
    "host:port", "auto"    a detached process of this machine, which is a node of that cluster; it joins
    "http://host:8265"     a job of that cluster (`--job ID`), on its head: this machine need not be a node, and the
                           run outlives it. Needs the cluster's job server, which is part of its dashboard

A detached process is known by the lock it holds and ended by a signal. A job may be on another machine, where neither
works: it touches a file of the run's folder every few seconds, and reads in another one what it is asked
(`workbench.runs.where`). So the folder is all that a handle needs, whoever made it; the job server is asked once, to
submit. A kernel that was restarted attaches again with `Run(path)`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from workbench.runs.where import Beat


def main(arguments: Sequence[str] | None = None) -> int:
    """Work on a run until it is done, is asked to stop, or fails."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--job")
    asked, rest = parser.parse_known_args(arguments)
    with Beat(Path(rest[0]), asked.job) if asked.job and rest else nullcontext():
        from workbench.scale.crew import ScaledCrew  # seconds: who waits for a sign of the job shall not wait for it
        from workbench.train import worker

        return worker.main(rest, ScaledCrew, "workbench.scale.worker")


if __name__ == "__main__":
    sys.exit(main())
