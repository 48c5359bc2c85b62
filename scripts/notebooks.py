"""Build, run and export the notebooks of the clone.

python scripts/notebooks.py build     notebooks/**/*.py and tutorials/**/*.py -> .ipynb beside them, never over one you
                                      changed; solutions become stubs, of tutorials NAME.solution.ipynb has them
python scripts/notebooks.py run       run all from their sources (tutorials with their solutions); pages and notebooks
                                      go to out/notebooks, out/tutorials
python scripts/notebooks.py demo      run the start notebook, write out/demo.html
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from workbench import notebook as nb
from workbench.teach import exercises

ROOT = Path(__file__).resolve().parent.parent
SOURCES, TUTORIALS = ROOT / "notebooks", ROOT / "tutorials"
LEDGER = ROOT / ".cache" / "notebooks.json"
OUT = ROOT / "out"


def sources(only: str = "") -> list[Path]:
    """List the notebook sources, those in folders last."""
    every = [*SOURCES.rglob("*.py"), *TUTORIALS.rglob("*.py")]
    found = [path for path in every if only in path.stem and not path.name.startswith("_")]
    return sorted(found, key=lambda path: (len(path.parts), path))


def run_one(source: Path, page: Path, timeout: float) -> float:
    """Run one source; write its notebook and its page even when it fails. Return its seconds."""
    import nbformat

    notebook = nb.read_source(source)
    page.parent.mkdir(parents=True, exist_ok=True)
    try:
        return nb.execute(notebook, source.parent, timeout)
    finally:
        nbformat.write(notebook, page.with_suffix(".ipynb"))
        page.write_text(nb.page(notebook, source.stem.replace("_", " ")), "utf-8")


def run_all(timeout: float, only: str) -> int:
    """Run every notebook; print a table of seconds; return 1 if one failed."""
    rows, failed = [], 0
    for source in sources(only):
        name = source.relative_to(ROOT).with_suffix("")
        print(f"== {name}")
        try:
            rows.append(f"{run_one(source, OUT / f'{name}.html', timeout):7.1f} s  {name}")
        except nb.NotebookError as error:
            failed += 1
            rows.append(f" FAILED    {name}")
            print(error, file=sys.stderr)
    print("\n".join(["", "notebooks:", *rows]) if rows else "no notebook found")
    return 1 if failed or not rows else 0


def demo(timeout: float) -> int:
    """Run the start notebook and write one offline page; print its path last."""
    source, page = SOURCES / "start.py", OUT / "demo.html"
    print(f"Running {source.relative_to(ROOT)} (about three minutes on two cores)")
    try:
        seconds = run_one(source, page, timeout)
    except nb.NotebookError as error:
        print(f"The start notebook failed: {error}\nWhat it got to is in {page}", file=sys.stderr)
        return 1
    print(f"Done in {seconds:.0f} s. Open this page in a browser, no network needed:\n{page}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("build", "run", "demo"))
    parser.add_argument("only", nargs="?", default="", help="run: only notebooks with this in their name")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one notebook (900)")
    options = parser.parse_args(arguments)
    if options.verb == "build":
        nb.build_all(SOURCES, SOURCES, LEDGER, edit=exercises)
        nb.build_tutorials(TUTORIALS, TUTORIALS, LEDGER)
        return 0
    return demo(options.timeout) if options.verb == "demo" else run_all(options.timeout, options.only)


if __name__ == "__main__":
    sys.exit(main())
