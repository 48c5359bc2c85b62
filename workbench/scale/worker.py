"""The driver of a scaled run: `python -m workbench.scale.worker DIR`, started by `workbench.train.launch`.

It is the worker of a local run with another crew, so a scaled run is watched, paused, stopped and resumed as any other.
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
