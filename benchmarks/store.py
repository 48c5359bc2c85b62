"""Write, scan and filter many short trajectories: rows per second, peak memory, size on disk.

    python benchmarks/store.py                  1,000,000 trajectories of two turns; some minutes
    python benchmarks/store.py 20000            fewer

Each line is a process of its own, so that its peak memory is its own: torch is not imported, pyarrow only for Parquet.
`build` makes the same trajectories and writes nothing: what is left of `write` is the store.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from workbench.store.folder import heads, scan, write_trajectories
from workbench.trajectory import Message, Sequence, Span, Trajectory, Turn

MEMORY = 300  # MB, what every process should stay under


def trajectory(i: int) -> Trajectory:
    """One short trajectory: a prompt, two turns with an observation, 46 tokens, 16 of them sampled with log-probs."""
    task, sample = divmod(i, 4)
    turns, spans = [], [Span(tuple(range(14)), "prompt", message="p")]
    for k in range(2):
        action = Message(f"a{k}", "assistant", f"Search: capital of country {task % 251}")  # type: ignore[arg-type]
        seen = Message(f"o{k}", "tool", f"Result: it is city {i % 977}.")  # type: ignore[arg-type]
        turns.append(Turn(action, (seen,), reward=float(k)))
        ids = tuple(range(i % 1000, i % 1000 + 8))
        spans.append(Span(ids, "sampled", k, f"a{k}", logprobs=tuple(-0.125 * j for j in range(8))))
        spans.append(Span(ids, "observation", k, f"o{k}"))
    prompt = (Message("p", "user", f"Question: what is the currency of country {task % 251}?"),)  # type: ignore[arg-type]
    sequences = (Sequence(tuple(spans)),)
    name = f"run/0/{task}/{sample}"
    return Trajectory(name, f"task-{task}", prompt, tuple(turns), sequences, outcome=float(sample == 0))


def many(count: int) -> Iterator[Trajectory]:
    """`count` of them, one after the other."""
    return (trajectory(i) for i in range(count))


def _count(things: Iterator[object]) -> int:
    return sum(1 for _ in things)


def _solved(head: object) -> bool:
    return head.outcome == 1.0 and head.id.endswith("00/0")  # type: ignore[attr-defined]


def stages(folder: Path, count: int) -> dict[str, Callable[[], int]]:
    """What is measured: each returns how many rows it yielded."""
    lines, parquet = folder / "lines", folder / "parquet"
    return {
        "build (nothing stored)": lambda: _count(many(count)),
        "write, JSON lines": lambda: bool(write_trajectories(lines, many(count))) and count,
        "heads, JSON lines": lambda: _count(heads(lines)),
        "scan, JSON lines": lambda: _count(scan(lines)),
        "filter, JSON lines": lambda: _count(scan(lines, _solved)),
        "write, Parquet": lambda: bool(write_trajectories(parquet, many(count), format="parquet")) and count,
        "heads, Parquet": lambda: _count(heads(parquet)),
        "scan, Parquet": lambda: _count(scan(parquet)),
        "filter, Parquet": lambda: _count(scan(parquet, _solved)),
    }


def measure(name: str, folder: Path, count: int) -> None:
    """Run one stage in this process and print its figures as JSON."""
    start = time.perf_counter()
    rows = stages(folder, count)[name]()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    megabytes = peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    print(json.dumps({"rows": rows, "seconds": seconds, "megabytes": megabytes, "torch": "torch" in sys.modules}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--stage", help="run this stage alone, in this process")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.stage:
        measure(given.stage, given.folder, given.count)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{given.count:,} trajectories\n{'':24}{'seconds':>9}{'rows/s':>11}{'yielded':>11}{'peak MB':>9}")
        worst = 0.0
        for stage in stages(folder, given.count):
            command = [sys.executable, __file__, str(given.count), "--stage", stage, "--folder", str(folder)]
            out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            assert not out["torch"], "torch was imported; its memory would be counted"
            rate = given.count / out["seconds"]
            figures = f"{out['seconds']:9.1f}{rate:11,.0f}{out['rows']:11,}{out['megabytes']:9.0f}"
            print(f"{stage:24}{figures}", flush=True)
            worst = max(worst, out["megabytes"])
        for kind in ("lines", "parquet"):
            size = sum(p.stat().st_size for p in (folder / kind).iterdir()) / 1e6
            print(f"size, {kind}: {size:.0f} MB")
    print(f"peak memory of the largest process: {worst:.0f} MB (aim: under {MEMORY})")


if __name__ == "__main__":
    main()
