"""The core of the interactive views, with the example of `widgets/README.md` as the view: it must work as written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench import view
from workbench.view import palette, sources
from workbench.view.html.parts import frame, note
from workbench.view.reprs import Picture

pytestmark = pytest.mark.browser
WIDGETS = Path(__file__).parents[2] / "widgets"
HOSTILE = ["<script>window.hit=1</script>", "<img src=x onerror=window.hit=1>", "</script><b>", "a\u202eb\ud800"]


class Tally(view.View):
    title, kind = "Tally", "tally"

    def __init__(self, outcomes: dict[str, float]):
        self.outcomes = outcomes

    def picture(self, *, wide: bool = False) -> Picture:
        facts = [f"{k}: {v}" for k, v in self.outcomes.items()]
        data = {"kind": "card", "title": "Tally", "facts": facts, "rows": []}
        return Picture(data, lambda payload, budget: frame(*[note(fact) for fact in payload["facts"]]))

    def interactive(self):
        return {"ids": list(self.outcomes), "outcome": np.array(list(self.outcomes.values()), np.float32)}

    def frame(self, state):
        least = state.get("least")
        kept = {k: v for k, v in self.outcomes.items() if least is None or v >= least}
        return pd.DataFrame({"trajectory": list(kept), "outcome": list(kept.values())})

    def answers(self):
        return {"again": self.again}

    def again(self, args, call):
        import time

        for i in range(int(args["n"])):
            call.progress(i, args["n"])
            time.sleep(0.02)
        return {"outcome": np.arange(args["n"], dtype=np.float32)}


def example(folder: Path) -> Path:
    """Put the core and the README's example into a folder."""
    code = re.search(r"```js\n(.*?)```", (WIDGETS / "README.md").read_text(), re.S)[1]
    (folder / "tally.js").write_text(code)
    for name in ("core.js", "core.css", "page.js"):
        shutil.copy(WIDGETS / name, folder / name)
    return folder


@pytest.fixture
def tally(tmp_path, monkeypatch) -> type[Tally]:
    place = example(tmp_path)
    monkeypatch.setattr(sources, "folder", lambda: place)
    return Tally


def test_the_example_works_in_a_file(tally, tmp_path, open_page):
    w = open_page(
        tally({"a": 1.0, "b": -1.0, HOSTILE[0]: 0.5, HOSTILE[1]: 0.5, HOSTILE[3]: 2.0}).to_html(tmp_path / "t.html")
    )
    items = w.page.locator("li")
    assert items.count() == 5
    assert items.nth(2).inner_text() == f"{HOSTILE[0]}: +0.50" and "⟦U+202E⟧" in items.nth(4).inner_text()
    assert w.page.locator(".cw-static").first.is_hidden()
    w.page.locator(".cw").focus()
    w.page.keyboard.press("j")
    assert items.count() == 4
    w.until("location.hash === '#least=0'")
    w.page.goto(w.page.url.replace("least=0", "least=1"))
    w.until("document.querySelector('.cw-host').shadowRoot.querySelectorAll('li').length === 2")
    assert w.page.locator("button").count() == 0  # what needs a kernel is not there
    w.clean()


def test_views_of_a_page_share_a_selection_and_links_to_it_last(tally, tmp_path, open_page):
    path = view.html_page([tally({"a": 1.0}), tally({'say "b"': 2.0})], tmp_path / "two.html")
    w = open_page(path, hash="#v2.least=3")
    assert w.page.locator("li").count() == 1
    w.page.locator("li").first.click()
    assert w.page.locator(".readout").nth(1).inner_text() == 'selected elsewhere: trajectory in ["a"]'
    assert w.page.locator(".readout").nth(0).inner_text() == ""
    w.clean()


def test_a_view_that_fails_says_so_and_leaves_the_others(tally, tmp_path, open_page):
    class Broken(tally):
        def interactive(self):
            return {"outcome": np.zeros(1, np.float32)}

    w = open_page(view.html_page([Broken({"a": 1.0}), tally({"b": 1.0})], tmp_path / "broken.html"))
    assert "could not be drawn" in w.page.locator("[role=alert]").inner_text()
    assert w.page.locator("li").count() == 1


LIVE = """
import sys
sys.path.insert(0, {tests!r})
from test_core import Tally, example
from workbench.view import sources
from pathlib import Path
folder = example(Path({folder!r}))
sources.folder = lambda: folder
tally = Tally({{"a": 1.0, "b": -1.0}})
live = tally.live()
live
"""


def test_the_example_works_with_a_kernel(tmp_path, open_notebook):
    source = LIVE.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    w = open_notebook([source])
    page = w.page
    page.wait_for_selector(".cw li")
    static = page.locator(".cw-static")
    assert static.count() == 1 and static.is_hidden()
    page.locator("button", has_text="again").click()
    page.locator("li", has_text="b: +1.00").wait_for()
    page.locator(".cw li").first.click()
    page.locator(".cw").focus()
    cells = "window.jupyterapp.shell.currentWidget.content.model.cells.length"
    before = page.evaluate(cells)
    for key in "jabb":  # JupyterLab would move on, and insert three cells
        page.keyboard.press(key)
    assert page.evaluate(cells) == before
    said = "print(live.selection.trajectories, live.selection.expression, tally.state, len(live.to_frame()))"
    w.until_said(said, "('a',) trajectory in [\"a\"] {'least': 0} 1")
    # The page is loaded again while the kernel lives: the widget comes back, with its state.
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    w.theme("dark")
    page.reload()
    page.wait_for_selector(".cw li", timeout=60_000)
    assert page.locator(".cw li").count() == 1 and static.is_hidden()  # still only those above 0
    page.locator(".cw button", has_text="again").click()
    page.locator(".readout", has_text="3 of 4").wait_for()
    w.shot("core-live-dark", full=False)
    w.clean()


@pytest.mark.parametrize("state", ["dead", "untrusted"])
def test_without_its_kernel_the_picture_stays(tally, state, open_notebook):
    w = open_notebook([tally({"a": 1.0, "b": -1.0}), tally({"c": 1.0}).live()], state)
    static = w.page.locator(".jp-OutputArea-output p", has_text="c: 1.0")
    static.wait_for(timeout=30_000)
    assert static.is_visible() and w.page.locator("p", has_text="b: -1.0").is_visible()
    w.page.wait_for_timeout(1500)
    assert static.is_visible()
    w.shot(f"core-{state}", full=False)
    w.clean(ignore=("model not found",))


def test_numbers_words_and_colours_are_those_of_python(tally, tmp_path, browser):
    page = browser.new_page()
    script = sources.widget_script(("tally",)).rsplit("export default", 1)[0]
    values = [0.0, 1e-9, 0.0004, -0.4219, 0.125, 0.5, 1.29, -7.77, 30.0, 1234.5678, -2e7, 0.095, 0.00123]
    scales = [0.04, 0.1, 0.5, 1.0, 1.29, 9.99, 30.0, 1200.0, 3e-7]
    got = page.evaluate(
        f"""([values, scales]) => {{ {script}
        return {{
          number: scales.flatMap(s => values.map(v => core.number(v, core.digits(s)))),
          unsigned: values.map(v => core.number(Math.abs(v), 2, false)),
          level: scales.flatMap(s => values.map(v => core.level(v, s))),
          plain: values.map(v => core.plain(v)),
        }}; }}""",
        [values, scales],
    )
    pairs = [(s, v) for s in scales for v in values]
    assert got["number"] == [palette.number(v, palette.digits(s)) for s, v in pairs]
    assert got["plain"] == [palette.plain(v) for v in values]
    assert got["unsigned"] == [palette.number(abs(v), 2, signed=False) for v in values]
    assert got["level"] == [palette.level(v, s) for s, v in pairs]
    page.close()
