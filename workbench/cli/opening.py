"""`workbench lab`."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from workbench.cli.saying import Problem

PACKAGE = Path(__file__).resolve().parent.parent


def arguments(one: argparse.ArgumentParser) -> None:
    """Add the arguments of `lab`."""
    one.add_argument(
        "--folder", help="where notebooks and their data go (a clone uses its own; else credit-workbench/)"
    )
    one.add_argument("jupyter", nargs="*", help="arguments for JupyterLab, after --")


def lab(options: argparse.Namespace) -> int:
    """Build the notebooks and open JupyterLab on the start notebook."""
    clone = PACKAGE.parent
    if options.folder is None and (clone / "notebooks" / "start.py").exists():
        start = build_notebooks(clone / "notebooks", clone)
    else:
        shipped = PACKAGE / "_shipped"  # an installed wheel carries notebooks and their data here
        whole = shipped if shipped.exists() else clone
        folder = Path(options.folder or "credit-workbench").resolve()
        for data in (path for path in (whole / "datasets").rglob("*") if path.is_file() and path.suffix != ".pyc"):
            copy = folder / data.relative_to(whole)
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(data, copy)
        start = build_notebooks(whole / "notebooks", folder)
    print(f"Opening {start}", flush=True)
    try:
        return subprocess.run([*jupyter_command(start), *options.jupyter]).returncode
    except KeyboardInterrupt:
        return 0


def jupyter_command(start: Path) -> list[str]:
    """Return the command that serves the folder above `notebooks/` and opens the start notebook.

    The address that JupyterLab prints leads to the notebook too, for those who copy it into a browser.
    """
    home = start.resolve().parent.parent
    place = start.resolve().relative_to(home).as_posix()
    options = [f"--ServerApp.root_dir={home}", f"--LabApp.default_url=/lab/tree/{place}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")  # in a container one often is
    return [sys.executable, "-m", "jupyter", "lab", *options]


def build_notebooks(sources: Path, folder: Path) -> Path:
    """Build all notebooks and tutorials of a clone in `folder`, never over a changed one; return the start notebook."""
    from workbench import notebook
    from workbench.teach import exercises

    ledger = folder / ".cache" / "notebooks.json"
    made = notebook.build_all(sources, folder / "notebooks", ledger, edit=exercises)
    notebook.build_tutorials(sources.parent / "tutorials", folder / "tutorials", ledger)
    if "start" not in made:
        raise Problem(f"there is no start notebook in {sources}; is this a whole clone?")
    return made["start"].path
