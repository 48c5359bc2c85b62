"""The table of guards is up to date: its texts stand in the package, its tests exist, no trap test is without one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import mutate
import pytest


@pytest.mark.parametrize("mutation", mutate.ALL, ids=lambda m: f"{m.trap}: {m.says}")
def test_table_is_not_stale(mutation: mutate.Mutation) -> None:
    """A guard that was rewritten needs its row rewritten, too."""
    assert mutate.stale(mutation) == ""


def test_every_trap_test_has_a_guard_to_lose() -> None:
    """A trap test that no mutation names was never seen to fail."""
    here = Path(__file__).parent
    tests = {f"{f}::{n}" for f in mutate.TESTS for n in re.findall(r"^def (test_\w+)", (here / f).read_text(), re.M)}
    assert tests == {m.test for m in mutate.ALL}
    assert len(set(mutate.ALL)) == len(mutate.ALL)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_guard_can_go_unnoticed() -> None:
    """Minutes: every mutation in a copy of its own."""
    done = subprocess.run([sys.executable, str(Path(mutate.__file__))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
