"""The driver of a scaled run: `python -m workbench.scale.worker DIR`, started by `workbench.train.launch`.

It is the worker of a local run with another crew, so a scaled run is watched, paused, stopped and resumed as any other.

It is a detached process of the machine that `launch` was called on, not a job of Ray's job server: the run's lock, its
signals and `Run.kill` are those of a process here, nothing has to be running before it (a cluster of one machine is its
own child and ends with it), and it needs no dashboard, which is what serves jobs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from workbench.scale.crew import ScaledCrew
from workbench.train import worker


def main(arguments: Sequence[str] | None = None) -> int:
    """Work on a run until it is done, is asked to stop, or fails."""
    return worker.main(arguments, ScaledCrew, "workbench.scale.worker")


if __name__ == "__main__":
    sys.exit(main())
