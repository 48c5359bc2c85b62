"""Notebooks of methods: their solutions pass, stubs stand where they stood, links lead somewhere."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from workbench import catalogue, recipes
from workbench import notebook as nb
from workbench.teach import exercises

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks" / "methods"
SOURCES = {path.stem: path for path in sorted(FOLDER.glob("*.py"))}
HEADINGS = (
    "## 1. Quick facts",
    "## 2. The equation",
    "## 3. By hand",
    "## 4. On real rollouts",
    "## 5. Where it fails",
)
CALLS = (
    "page.facts(",
    "page.agrees(",
    "page.cost(",
    "page.promises(",
    "method_curves.beside_grpo(",
    "page.references(",
)


def solution_of(path: Path) -> str:
    """The cell of a notebook that holds the solution, without the call that checks it."""
    cells = [c.source for c in nb.read_source(path).cells if c.cell_type == "code" and "# SOLUTION" in c.source]
    assert len(cells) == 1, f"{path.stem}: expected one exercise, found {len(cells)}"
    return cells[0].partition("check.ex(")[0]


@pytest.mark.parametrize("name", SOURCES)
def test_the_solution_of_a_notebook_passes(name):
    lesson = importlib.import_module(f"workbench.teach.methods.{name}")
    space: dict[str, object] = {}
    exec(f"import math\n{solution_of(SOURCES[name])}", space)
    written = next(v for k, v in space.items() if callable(v) and k in ("turn_credit", "token_weight", "token_losses"))
    for seed in (0, 1, 2):
        verdict = lesson.ex(written, seed)
        assert verdict, repr(verdict)


@pytest.mark.parametrize("name", SOURCES)
def test_a_reader_gets_a_stub_and_may_fail_there_alone(name):
    made = exercises(nb.read_source(SOURCES[name]))
    tagged = [c for c in made.cells if "raises-exception" in c.metadata.get("tags", [])]
    assert len(tagged) == 1 and "NotImplementedError" in tagged[0].source
    assert not any("# SOLUTION" in cell.source for cell in made.cells)
    written = next(
        word for word in ("turn_credit", "token_weight", "token_losses") if f"def {word}" in tagged[0].source
    )
    after = made.cells[made.cells.index(tagged[0]) + 1 :]
    assert not any(written in cell.source for cell in after), "a later cell calls what the reader has yet to write"


@pytest.mark.parametrize("name", SOURCES)
def test_a_notebook_keeps_the_grammar(name):
    text = SOURCES[name].read_text(encoding="utf-8")
    places = [text.find(f"# {heading}\n") for heading in HEADINGS]
    assert -1 not in places and places == sorted(places), dict(zip(HEADINGS, places, strict=True))
    assert not [call for call in CALLS if call not in text]
    assert "predict(" in text and "What its authors report" in text


@pytest.mark.parametrize("name", [*SOURCES, "index"])
def test_links_of_a_notebook_lead_somewhere(name):
    path = SOURCES.get(name, ROOT / "notebooks" / "index.py")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8")):
        target = (path.parent / link).resolve()
        source = target.with_suffix(".py") if target.suffix == ".ipynb" else target
        assert source.is_file(), f"{name} links to {link}"


def test_every_notebook_belongs_to_a_row_and_rows_of_the_catalogue_name_theirs():
    named = {row.notebook: row for row in catalogue.ALL if row.notebook}
    for name, path in SOURCES.items():
        row = named.get(path.relative_to(ROOT).as_posix())
        assert row is not None, f"no row of the catalogue names notebooks/methods/{name}.py"
        assert set(row.recipes) <= set(recipes.__all__)
