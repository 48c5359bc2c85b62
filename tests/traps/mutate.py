"""Take each guard against a trap away, in a copy; say which test notices: `python tests/traps/mutate.py [word ...]`.

A copy of the package and its tests is made for each mutation of the table; two are tried at a time, each in a process
forked from one that has the heavy libraries loaded. First all trap tests must pass on a copy as it is. Words choose the
mutations whose trap, file or description holds one of them. Exit status 1: a guard could go unnoticed, or a text of the
table has moved.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from mutations import Mutation  # noqa: E402
from mutations_of_credit import RETURNS  # noqa: E402
from mutations_of_loop import LOOP, LOSS  # noqa: E402
from mutations_of_tokens import MASKS, TOKENS  # noqa: E402

ALL: tuple[Mutation, ...] = (*TOKENS, *MASKS, *RETURNS, *LOSS, *LOOP)
WORKERS = 2
LONGEST_S = 120.0
TESTS = ("test_tokens.py", "test_masks.py", "test_returns.py", "test_loss.py", "test_loop.py")


class Tried(NamedTuple):
    """What became of one copy: names of the tests that failed, seconds, and the end of what pytest said."""

    failed: tuple[str, ...]
    seconds: float
    said: str


def stale(mutation: Mutation, root: Path = ROOT) -> str:
    """Say what is wrong with a row of the table; "" if nothing is."""
    path = root / "workbench" / mutation.file
    count = path.read_text("utf-8").count(mutation.old) if path.exists() else 0
    if count != 1:
        return f"{mutation.file} holds {count} times, not once: {mutation.old.strip()!r}"
    file, name = mutation.test.split("::")
    if f"\ndef {name}(" not in (HERE / file).read_text("utf-8"):
        return f"there is no test {mutation.test}"
    return "" if mutation.old != mutation.new else f"{mutation.file}: the mutation changes nothing"


def copy_to(folder: Path, mutation: Mutation | None) -> None:
    """Copy the package, what the trap tests need of the tests, and the settings; take the guard away."""
    ignore = shutil.ignore_patterns("node_modules", ".*")
    shutil.copytree(ROOT / "workbench", folder / "workbench", ignore=ignore)
    for name in ("traps", "train"):
        shutil.copytree(ROOT / "tests" / name, folder / "tests" / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    if mutation is not None:
        path = folder / "workbench" / mutation.file
        path.write_text(path.read_text("utf-8").replace(mutation.old, mutation.new), encoding="utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()


def attempt(folder: Path, tests: Sequence[str]) -> Tried:
    """Run tests in a copy, in this process: it must not have loaded the package yet."""
    import pytest

    class Failures:
        def __init__(self) -> None:
            self.names: dict[str, None] = {}

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                self.names[report.nodeid.split("::")[-1].split("[")[0]] = None

        def pytest_collectreport(self, report: pytest.CollectReport) -> None:
            if report.failed:
                self.names[f"{report.nodeid} (does not load)"] = None

    assert not any(name.split(".")[0] == "workbench" for name in sys.modules), "the package must come from the copy"
    os.chdir(folder)
    sys.path[:] = [str(folder), *(p for p in sys.path if Path(p or ".").resolve() not in (ROOT, HERE))]
    for name in [name for name in sys.modules if name.startswith("mutations")]:
        del sys.modules[name]
    found, said, began = Failures(), io.StringIO(), time.perf_counter()
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore", *tests]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = pytest.main([*arguments, "--no-header"], plugins=[found])
    if status not in (0, 1) and not found.names:
        found.names[f"pytest ended with status {int(status)}"] = None
    return Tried(tuple(found.names), time.perf_counter() - began, said.getvalue()[-3000:])


def try_one(mutation: Mutation | None) -> Tried:
    """Try one mutation in a copy of its own; without one, all trap tests on the code as it is."""
    tests = [f"tests/traps/{mutation.test}"] if mutation else [f"tests/traps/{name}" for name in TESTS]
    with tempfile.TemporaryDirectory(prefix="trap-") as folder:
        copy_to(Path(folder), mutation)
        return attempt(Path(folder), tests)


def load_heavy() -> None:
    """Load what every copy needs and what has nothing to do with the package; forked processes share it."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import _pytest.assertion.rewrite  # noqa: F401
    import peft  # noqa: F401
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: F401

    torch.set_num_threads(1)  # no pool of threads may be there when a process forks


def show(mutation: Mutation, tried: Tried) -> bool:
    """Print a line; return whether the named test noticed."""
    name = mutation.test.split("::")[1]
    caught = name in tried.failed
    what = f"caught by {name}" if caught else f"SURVIVED {mutation.test}"
    note = "" if caught else f" ({', '.join(tried.failed) or 'it passed'})"
    print(f"{what:<72} {mutation.file}: {mutation.says}{note}  [{tried.seconds:.1f} s]", flush=True)
    return caught


def main(words: Sequence[str]) -> int:
    """Try all mutations, or those that hold one of the words."""
    began = time.perf_counter()
    chosen = [m for m in ALL if not words or any(w in f"{m.trap} {m.file} {m.says}" for w in words)]
    if problems := [problem for m in chosen if (problem := stale(m))]:
        print("the table is stale:", *problems, sep="\n  ")
        return 1
    load_heavy()
    with get_context("fork").Pool(WORKERS, maxtasksperchild=1) as pool:
        before = pool.apply_async(try_one, (None,))
        waiting = [(m, pool.apply_async(try_one, (m,))) for m in chosen]
        clean = before.get(10 * LONGEST_S)
        if clean.failed:
            print(f"the tests fail without any mutation: {', '.join(clean.failed)}\n{clean.said}")
            return 1
        print(f"all trap tests pass on the code as it is  [{clean.seconds:.1f} s]", flush=True)
        survived = sum(not show(m, result.get(LONGEST_S * len(chosen))) for m, result in waiting)
    traps = len({m.trap for m in chosen})
    print(f"{len(chosen)} mutations of {traps} traps, {survived} survived, {time.perf_counter() - began:.0f} s")
    return 1 if survived else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
