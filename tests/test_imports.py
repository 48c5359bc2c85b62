"""What importing costs: `import workbench` stays light, and every package that the code imports is declared."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("transformers", "vllm", "ray", "plotly", "pyarrow", "pandas", "anywidget", "scipy", "trl", "peft", "datasets")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "workbench").rglob("*.py")
    if path.name != "__main__.py"
)


def loaded_by(statement: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(ast.literal_eval(done.stdout.splitlines()[-1]))


def test_import_workbench_loads_nothing_heavy():
    assert loaded_by("import workbench") == set()


def test_no_module_loads_anything_heavy_when_imported():
    assert loaded_by("\n".join(f"import {name}" for name in MODULES)) == set()


def imported(path: Path) -> set[str]:
    """Top-level names of the packages a file imports, in functions and `if TYPE_CHECKING` too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"workbench"}


# installed with a declared package, and part of what that package is used for
COMES_WITH = {
    "nbclient": {"jupyter_client"},
    "nbconvert": {"pygments"},
    "ipykernel": {"IPython"},
    "gguf": {"numpy"},
    "anywidget": {"traitlets"},
    "transformers": {"huggingface_hub"},
}


@functools.cache
def declared_modules() -> set[str]:
    """Import names of all declared packages that are installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = project["dependencies"] + [r for extra in project["optional-dependencies"].values() for r in extra]
    names = {re.match(r"[A-Za-z0-9._-]+", line)[0].lower().replace("_", "-") for line in lines}
    provided = importlib.metadata.packages_distributions()
    found = {m for m, owners in provided.items() if {o.lower().replace("_", "-") for o in owners} & names}
    return found | names | {m for name in names for m in COMES_WITH.get(name, ())}


@pytest.mark.parametrize("folder", ["workbench", "benchmarks", "notebooks", "tutorials", "scripts"])
def test_every_imported_package_is_declared(folder):
    files = list((ROOT / folder).rglob("*.py"))
    # scripts import each other, and folders of theirs, by name
    beside = {part for path in files for part in (path.stem, path.parent.name)} if folder != "workbench" else set()
    undeclared = {
        f"{path.relative_to(ROOT)}: {name}" for path in files for name in imported(path) - declared_modules() - beside
    }
    assert undeclared == set()
