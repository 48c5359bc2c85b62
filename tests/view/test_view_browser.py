"""Pages and notebook outputs in a real browser: from a file, in light and dark, and in an untrusted notebook.

Needs Chromium and the `playwright` package (`pip install playwright`; no browser download: a system Chromium is used).
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench import view

pytestmark = pytest.mark.browser

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
HOSTILE = [
    "<script>window.hit=1</script>",
    "</style></title><img src=x onerror=window.hit=1>",
    "<svg onload=window.hit=1>",
    '"><details open ontoggle=window.hit=1>',
    "<iframe srcdoc='<script>parent.hit=1</script>'>",
    "<img src='http://127.0.0.1:9/pixel.png'>",
    "<style>@import 'http://127.0.0.1:9/x.css';</style>",
    "<!-- never closed",
    "a\u202etxt.exe",
]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A headless Chromium, or a skip that says what is missing."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="needs the package playwright (pip install playwright)"
    )
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("needs a Chromium on the PATH (Debian: apt-get install chromium fonts-dejavu)")
    with sync_api.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Watched:
    """A page that remembers what it asked for and complained about."""

    def __init__(self, browser, scheme: str, width: int = 1160):
        self.context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("dialog", lambda d: self.complaints.append(f"dialog {d.message}"))

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *error: object) -> None:
        self.context.close()


@pytest.fixture(scope="module")
def page_path(tmp_path_factory, rollouts, credits, kit) -> Path:
    things = [view.CreditMap(rollouts, 1, credits), view.Overview(rollouts, credits), kit.recipe()]
    things += [view.Ribbons(rollouts, 0, kit.recipe()), rollouts]
    return view.html_page(things, tmp_path_factory.mktemp("pages") / "all views.html", title="All views")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_opens_from_a_file(browser, page_path, scheme):
    with Watched(browser, scheme) as w:
        w.page.goto(page_path.as_uri())
        assert w.page.title() == "All views" and w.page.locator("h1").inner_text() == "All views"
        assert w.complaints == [] and w.requests == [page_path.as_uri()]
        wash = w.page.locator("span[title='−1.00, 6 tokens']").first
        assert wash.evaluate("e => getComputedStyle(e).backgroundColor").startswith("rgba(213, 94, 0, 0.")
        text, ground = w.page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.documentElement).backgroundColor]"
        )
        assert (_light(text) > _light(ground)) == (scheme == "dark")
        assert wash.evaluate("e => getComputedStyle(e).color") == text


def _light(colour: str) -> int:
    return sum(int(n) for n in re.findall(r"\d+", colour)[:3])


@pytest.mark.parametrize("width", [1160, 760])
def test_a_page_never_scrolls_sideways_as_a_whole(browser, page_path, width):
    with Watched(browser, "light", width) as w:
        w.page.goto(page_path.as_uri())
        assert w.page.evaluate("document.documentElement.scrollWidth") <= width


def test_folded_parts_open_and_the_axis_is_one_line(browser, page_path):
    with Watched(browser, "light") as w:
        w.page.goto(page_path.as_uri())
        call = w.page.locator("details", has_text="call search").first
        call.locator("summary").first.click()
        assert call.locator("pre").first.is_visible()
        table = w.page.locator("table").first
        lefts = table.locator("tbody tr").evaluate_all(
            "rows => rows.map(r => r.querySelectorAll('td')[1].getBoundingClientRect().left)"
        )
        assert len(set(lefts)) == 1


def test_hostile_text_does_nothing(browser, tmp_path, kit):
    from workbench.rollouts import Rollouts

    many = [kit.trajectory(f"t{i}{text}", text, [text, text], [text], 1.0) for i, text in enumerate(HOSTILE)]
    r = Rollouts(tuple(many), notes=tuple(HOSTILE))
    credit = {text: kit.credit("turn", [1.0] * r.batch().count("turn")) for text in HOSTILE[:2]}
    maps = [view.CreditMap(r, i, credit) for i in range(len(r))]
    path = view.html_page([*maps, r], tmp_path / "hostile.html", title=HOSTILE[0], lead=HOSTILE[1])
    with Watched(browser, "light") as w:
        w.page.goto(path.as_uri())
        w.page.wait_for_timeout(200)
        assert w.page.evaluate("window.hit") is None
        assert w.complaints == [] and w.requests == [path.as_uri()]
        tags = set(w.page.evaluate("[...document.body.querySelectorAll('*')].map(e => e.localName)"))
        assert not tags & {"script", "img", "svg", "iframe", "style", "form", "a", "object"}
        assert HOSTILE[0] in w.page.evaluate("document.body.textContent")


# -------------------------------------------------------------------------------------- an untrusted notebook


@pytest.fixture(scope="module")
def lab(tmp_path_factory, rollouts, credits, kit) -> Iterator[tuple[str, list[str]]]:
    """A JupyterLab on a notebook that nobody signed, whose stored outputs are our views; its address and their HTML."""
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("jupyterlab")
    folder = tmp_path_factory.mktemp("lab")
    shown = [
        view.CreditMap(rollouts, 1, credits),
        view.Overview(rollouts, credits),
        view.Ribbons(rollouts, 0, kit.recipe()),
    ]
    bundles = [view.mimebundle(thing) for thing in [*shown, kit.recipe(), rollouts[0], rollouts.batch()]]
    cells = [
        nbformat.v4.new_code_cell("view", outputs=[nbformat.v4.new_output("execute_result", b, execution_count=1)])
        for b in bundles
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "untrusted.ipynb")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    places = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True"]
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(command, env={**os.environ, **places}, stdout=log, stderr=log, cwd=folder)
    try:
        _wait(f"http://127.0.0.1:{port}/api/status", folder / "server.log")
        yield f"http://127.0.0.1:{port}/doc/tree/untrusted.ipynb?reset", [b["text/html"] for b in bundles]
    finally:
        server.terminate()
        server.wait(timeout=20)


def _wait(address: str, log: Path, seconds: int = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(f"JupyterLab did not start: {log.read_text()[-2000:]}")


# Elements in order with their inline style as the browser understands it, and their text.
LOOK = """html => {
  const root = typeof html === 'string' ? new DOMParser().parseFromString(html, 'text/html').body : html;
  return [...root.querySelectorAll('*')].map(e => [e.localName, e.style.cssText, e.title || '', e.open === true]);
}"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_survives_an_untrusted_notebook(browser, lab, scheme, tmp_path):
    address, fragments = lab
    with Watched(browser, scheme) as w:
        w.page.goto(address)
        w.page.wait_for_function(
            "n => document.querySelectorAll('.jp-OutputArea-output.jp-RenderedHTMLCommon').length >= n",
            arg=len(fragments),
            timeout=90_000,
        )
        theme = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}[scheme]
        w.page.wait_for_function("window.jupyterapp.commands.hasCommand('apputils:change-theme')", timeout=30_000)
        w.page.evaluate("t => window.jupyterapp.commands.execute('apputils:change-theme', {theme: t})", theme)
        w.page.wait_for_function("t => document.body.dataset.jpThemeName === t", arg=theme, timeout=30_000)
        trusted = w.page.evaluate("window.jupyterapp.shell.currentWidget.content.model.cells.get(0).trusted")
        assert trusted is False
        outputs = w.page.locator(".jp-OutputArea-output.jp-RenderedHTMLCommon")
        for i, fragment in enumerate(fragments):
            wanted = w.page.evaluate(LOOK, fragment)
            got = outputs.nth(i).evaluate(f"e => ({LOOK})(e)")
            assert got == wanted
        rows = outputs.first.locator("tbody tr").evaluate_all(
            "rows => rows.map(r => getComputedStyle(r).backgroundColor)"
        )
        assert set(rows) == {"rgba(0, 0, 0, 0)"}  # no zebra stripes over the washes
        if folder := os.environ.get("WORKBENCH_SCREENSHOTS"):
            w.page.screenshot(path=str(Path(folder) / f"lab-{scheme}.png"))
