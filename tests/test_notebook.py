"""Notebooks: the reader's work is never lost, and an exported page asks nothing of the network."""

from __future__ import annotations

from html.parser import HTMLParser

import nbformat
import pytest

from workbench import notebook as nb

SOURCE = """# %% [markdown]
# # A title
# Credit $\\frac{a}{b}$, a [link](https://example.org/paper) and
# $$ A_t = \\sum_k \\gamma^k r_{t+k} $$

# %%
x = 1 + 1
x

# %%
print("two", x)
"""


@pytest.fixture
def place(tmp_path):
    """A folder with one source; call it to build."""

    class Place:
        source, target, ledger = tmp_path / "start.py", tmp_path / "start.ipynb", tmp_path / ".cache" / "l.json"

        def build(self, text):
            self.source.write_text(text)
            return nb.build(self.source, self.target, self.ledger)

        def cells(self, path=None):
            return [cell.source for cell in nbformat.read(path or self.target, as_version=4).cells]

        def change(self, number, source):
            notebook = nbformat.read(self.target, as_version=4)
            notebook.cells[number].source = source
            nbformat.write(notebook, self.target)

        def run(self):
            notebook = nbformat.read(self.target, as_version=4)
            for number, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
                cell.execution_count = number + 1
                cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"output {number}")]
            nbformat.write(notebook, self.target)

    return Place()


def test_a_new_source_is_written_and_an_unchanged_one_kept(place):
    assert place.build(SOURCE).how == "written"
    before = place.target.read_bytes()
    assert place.build(SOURCE).how == "kept"
    assert place.target.read_bytes() == before
    assert place.cells()[2] == 'print("two", x)'


def test_an_untouched_notebook_follows_its_source(place):
    place.build(SOURCE)
    assert place.build(SOURCE.replace("two", "three")).how == "updated"
    assert place.cells()[2] == 'print("three", x)'


def test_a_changed_notebook_is_never_overwritten(place):
    place.build(SOURCE)
    place.change(1, "x = 'mine'")
    mine = place.target.read_bytes()
    built = place.build(SOURCE.replace("two", "three"))
    assert (built.how, built.path.name) == ("beside", "start.new.ipynb")
    assert place.target.read_bytes() == mine
    assert place.cells(built.path)[2] == 'print("three", x)'
    again = place.build(SOURCE.replace("two", "four"))  # nobody changed the one beside: it follows
    assert (again.path.name, place.cells(again.path)[2]) == ("start.new.ipynb", 'print("four", x)')
    assert place.target.read_bytes() == mine


def test_a_changed_notebook_beside_a_changed_notebook_is_kept_too(place):
    place.build(SOURCE)
    place.change(1, "x = 'mine'")
    beside = place.build(SOURCE.replace("two", "three")).path
    beside.write_text(beside.read_text().replace("three", "also mine"))
    mine = beside.read_bytes()
    assert place.build(SOURCE.replace("two", "four")).path.name == "start.new2.ipynb"
    assert beside.read_bytes() == mine


def test_a_notebook_that_was_there_before_the_ledger_is_left_alone(place):
    place.target.write_text("{ not a notebook")
    assert place.build(SOURCE).path.name == "start.new.ipynb"
    assert place.target.read_text() == "{ not a notebook"


def test_outputs_survive_building_and_updating(place):
    place.build(SOURCE)
    place.run()
    assert place.build(SOURCE).how == "kept"
    assert nbformat.read(place.target, as_version=4).cells[1].outputs
    built = place.build(SOURCE.replace("two", "three"))  # the second code cell changed: its output has no place
    cells = nbformat.read(place.target, as_version=4).cells
    assert cells[1].outputs[0].text == "output 0" and not cells[2].outputs
    assert nbformat.read(built.saved, as_version=4).cells[2].outputs[0].text == "output 1"


# ------------------------------------------------------------------------------------------- run and export


class Resources(HTMLParser):
    """Collect what a browser would fetch, and the text of scripts and styles."""

    def __init__(self):
        super().__init__()
        self.fetched, self.code, self.inside = [], "", ""

    def handle_starttag(self, tag, attributes):
        self.inside = tag
        wanted = {"src", "srcset", "data", "poster", "action", "background"} | ({"href"} if tag == "link" else set())
        self.fetched += [value for name, value in attributes if name in wanted and value]
        self.code += " ".join(value or "" for name, value in attributes if name == "style")

    def handle_data(self, data):
        if self.inside in ("script", "style"):
            self.code += data


def test_an_executed_notebook_becomes_one_offline_page(tmp_path):
    source = tmp_path / "small.py"
    source.write_text(
        SOURCE
        + """
# %%
from IPython.display import HTML, Javascript, Image, display
import ipywidgets, base64
for n in range(3):
    print(f"\\rbar {n} of 3", end="", flush=True)
display(HTML("<b>bold</b>"), Javascript("alert(1)"), ipywidgets.IntSlider())
"""
    )
    notebook = nb.read_source(source)
    said = []
    assert nb.execute(notebook, tmp_path, 60, say=said.append) > 0
    assert len(said) == 3 and "x = 1 + 1" in said[0]
    page = nb.page(notebook, "A <title>")
    seen = Resources()
    seen.feed(page)
    assert seen.fetched == []
    assert not any(word in seen.code for word in ("http:", "https:", "@import", "alert(1)", "require("))
    assert "default-src 'none'" in page and "A &lt;title&gt;" in page
    assert "<mfrac>" in page and 'display="block"' in page and "\\frac" not in page  # formulas are drawn, not LaTeX
    assert "IntSlider(value" not in page  # a widget without a static form
    assert "bar 2 of 3" in page and "bar 1 of 3" not in page
    assert "two 2" in page and "<b>bold</b>" in page and "https://example.org/paper" in page


def test_a_progress_bar_that_has_closed_leaves_no_empty_line():
    """A slow machine shows the bar of a long rollout; closing it writes spaces and a carriage return."""
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    closed = new_output("stream", name="stderr", text=" " * 80 + "\r")
    said = new_output("stream", name="stderr", text="a warning\n")
    page = nb.page(new_notebook(cells=[new_code_cell("1", outputs=[closed, said])]), "bars")
    assert "a warning" in page and page.count("output_stderr output_text") == 1


def test_a_failing_cell_is_named(tmp_path):
    source = tmp_path / "bad.py"
    source.write_text("# %%\nx = 0\n\n# %%\n1 / x\n")
    with pytest.raises(nb.NotebookError, match=r"cell 2 \(1 / x\) failed(.|\n)*ZeroDivisionError"):
        nb.execute(nb.read_source(source), tmp_path, 60, say=lambda line: None)


def test_a_notebook_that_hangs_is_stopped(tmp_path):
    source = tmp_path / "slow.py"
    source.write_text("# %%\nimport time\ntime.sleep(60)\n")
    with pytest.raises(nb.NotebookError, match=r"cell 1 .*the limit is 2 s"):
        nb.execute(nb.read_source(source), tmp_path, 2, say=lambda line: None)
