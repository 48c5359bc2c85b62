"""One JupyterLab and one Chromium for all browser tests, and ways to open what a view gives in each of its four states.

Needs Chromium and the `playwright` package (`pip install playwright`; no browser download: a system Chromium is used).
Screenshots go to `out/screenshots/`, or to the folder in WORKBENCH_SCREENSHOTS.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from workbench import view
from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.trajectory import Message, Sequence, Span, ToolCall, Trajectory, Turn
from workbench.view.widget import Live

HERE = Path(__file__).parent
SHOTS = Path(os.environ.get("WORKBENCH_SCREENSHOTS", HERE.parents[1] / "out" / "screenshots"))
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

# What JupyterLab itself says on its console, whatever is on the page.
LAB_NOISE = (
    "favicon",
    "the server responded with a status of 404",
    "net::ERR_ABORTED",
    "was preloaded using link preload",
)
# A stored widget without its kernel; JupyterLab writes it into the output as well.
GONE = ("Error displaying widget", "widget model not found", "Could not create a view", "Could not open comm")


def kit_module() -> Any:
    """Return the builders of the small set of rollouts, `tests/view/conftest.py`."""
    spec = importlib.util.spec_from_file_location("view_kit", HERE.parent / "view" / "conftest.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


# In a cell: the same builders, for the state "live".
KIT = f"""
import importlib.util
from workbench import view
spec = importlib.util.spec_from_file_location("view_kit", {str(HERE.parent / "view" / "conftest.py")!r})
kit = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kit)
rollouts = kit.rollouts()
credits = kit.credits(rollouts)
"""


HOSTILE = [
    "<script>window.hit=1</script>",
    "</script><script>window.hit=1</script>",
    "</style></title><img src=x onerror=window.hit=1>",
    "<svg onload=window.hit=1>",
    '"><details open ontoggle=window.hit=1>',
    "' onmouseover='window.hit=1",
    "<iframe srcdoc='<script>parent.hit=1</script>'>",
    "<img src='http://127.0.0.1:9/pixel.png'>",
    "<style>@import 'http://127.0.0.1:9/x.css';</style>",
    "<link rel=stylesheet href=//127.0.0.1:9/x.css>",
    "<base href=http://127.0.0.1:9/>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "<!-- never closed",
    "-->",
    "<![CDATA[<b>]]>",
    "<form><input name=getElementById></form>",
    "<img name=body id=documentElement>",
    "<a id=hit href=javascript:window.hit=1>x</a>",
    "javascript:window.hit=1",
    "data:text/html,<script>window.hit=1</script>",
    "<math><mi xlink:href='data:x,<script>window.hit=1</script>'>",
    "<object data='data:text/html,<script>window.hit=1</script>'>",
    "<embed src=data:image/svg+xml;base64,PHN2Zz4=>",
    "<video><source onerror=window.hit=1>",
    "<body onload=window.hit=1>",
    "<button data-commandlinker-command=notebook:delete-cell>x</button>",
    "<template><script>window.hit=1</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=window.hit=1>'>",
    "{{constructor.constructor('window.hit=1')()}}",
    "${window.hit=1}",
    "`+(window.hit=1)+`",
    "$x\\href{javascript:window.hit=1}{y}$",
    "$$\\style{position:fixed;inset:0}{x}$$",
    "\\(\\class{hit}{x}\\) \\[\\cssId{hit}{x}\\]",
    "\\begin{align}\\unicode{x202e}\\end{align}",
    '{"__proto__": {"hit": 1}}',
    '","payload":{"hit":1},"x":"',
    "__proto__",
    "constructor",
    "\\u003cscript\\u003ewindow.hit=1\\u003c/script\\u003e",
    "&lt;script&gt;window.hit=1&lt;/script&gt;",
    "&#60;img src=x onerror=window.hit=1&#62;",
    "a\u202etxt.exe",
    "a\u2066b\u2069",
    "\u200b\ufeff\u2028\u2029",
    "half \ud800 pair",
    "nul \x00 bell \x07 escape \x1b[31m",
    "]]>",
]


def hostile_rollouts() -> list[tuple[Rollouts, dict[str, Credit]]]:
    """Every hostile string in every text field of a trajectory, and as the name of a method."""
    third = -(-len(HOSTILE) // 3)
    return [_hostile(HOSTILE[i : i + third]) for i in range(0, len(HOSTILE), third)]


def _hostile(strings: list[str]) -> tuple[Rollouts, dict[str, Credit]]:
    turns, spans = [], []
    for k, text in enumerate(strings):
        call = ToolCall(f"c{k}", text, text, {text: text}) if k % 2 else ToolCall(f"c{k}", text, text, error=text)
        message = Message(f"a{k}", "assistant", text, author=text, calls=(call,))
        back = (Message(f"o{k}", "tool", text, author=text, answers=f"c{k}"),)
        turns.append(Turn(message, back, agent=text, stop_reason=text, rewards={text: 1.0}, state_key=text))
        spans.append(Span((0, 1), "sampled", k, message.id, None, (text, "\n")))
    every = " ".join(strings)
    t = Trajectory(
        every,
        every,
        (Message("q", "user", every, author=every),),
        tuple(turns),
        (Sequence(tuple(spans)),),
        outcome=1.0,
        rewards={every: 1.0},
        stop_reason=every,
        gold={every: every},
    )
    r = Rollouts((t,), notes=tuple(strings))
    n = r.batch().count("token")
    credit = Credit(torch.ones(n, dtype=torch.float64), "token", torch.ones(n, dtype=torch.bool))
    return r, {strings[0]: credit, strings[1]: credit.drop(credit.known, strings[2])}


@pytest.fixture(scope="session")
def hostile_strings() -> list[str]:
    return HOSTILE


@pytest.fixture(scope="session")
def hostile() -> list[tuple[Rollouts, dict[str, Credit]]]:
    """(rollouts, credits) with all hostile strings in every text field."""
    return hostile_rollouts()


@pytest.fixture(scope="session")
def module() -> Any:
    return kit_module()


@pytest.fixture(scope="session")
def rollouts(module):
    return module.rollouts()


@pytest.fixture(scope="session")
def credits(module):
    return module.credits(module.rollouts())


@pytest.fixture(scope="session")
def kit(module) -> SimpleNamespace:
    names = ("trajectory", "credit", "span", "split")
    return SimpleNamespace(**{n: getattr(module, n) for n in names}, recipe=module.gigpo_like)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium, or a skip that says what is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright (pip install playwright)")
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("needs a Chromium on the PATH (Debian: apt-get install chromium fonts-dejavu)")
    with api.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


RUN = """async source => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const future = kernel.requestExecute({code: source});
  let said = '';
  future.onIOPub = m => { said += m.content.text ?? (m.content.traceback ?? []).join('\\n'); };
  await future.done;
  return said.trim();
}"""


class Watched:
    """A page that remembers what it asked for and complained about."""

    def __init__(
        self, browser: Any, scheme: str = "light", width: int = 1160, home: str = "file:", script: bool = True
    ):
        self.context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 900}, java_script_enabled=script
        )
        self.page = self.context.new_page()
        self.home, self.requests, self.complaints = home, [], []
        self.known: set[str] = set()
        self.page.on("request", lambda r: self._asked(r.url))
        self.page.on("websocket", lambda s: self._asked(s.url))
        self.page.on("console", lambda m: self._said(m.type, m.text))
        self.page.on("pageerror", lambda e: self.complaints.append(f"page error: {e}"))
        self.page.on("dialog", self._dialog)

    def _asked(self, url: str) -> None:
        own = url.startswith(self.home) or url.replace("ws:", "http:", 1).startswith(self.home)
        if not own and not url.startswith(("blob:", "data:")):
            self.requests.append(url)

    def _said(self, kind: str, text: str) -> None:
        lab = self.home.startswith("http") and any(word in text for word in LAB_NOISE)
        if kind == "error" and not lab:
            self.complaints.append(text)

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def clean(self, ignore: tuple[str, ...] = ()) -> None:
        """Assert: nothing left the machine, no error, no dialog, no new global."""
        assert self.requests == []
        assert [c for c in self.complaints if not any(word in c for word in ignore)] == []
        assert self.page.evaluate("[window.hit, document.hit]") == [None, None]
        if self.known:
            names = set(self.page.evaluate("Object.getOwnPropertyNames(window)"))
            assert names - self.known == set()

    def until(self, expression: str, arg: Any = None, timeout: float = 40.0) -> Any:
        """Wait until an expression is true; Playwright's own way needs `eval`, which the pages' policy forbids."""
        end = time.monotonic() + timeout
        while not (found := self.page.evaluate(expression, arg)):
            if time.monotonic() > end:
                raise TimeoutError(f"still false after {timeout} s: {expression}\n{self.complaints}")
            time.sleep(0.03)
        return found

    def run(self, source: str) -> str:
        """Run a line in the notebook's kernel; return what it printed."""
        return self.page.evaluate(RUN, source)

    def holds(self, fact: Callable[[], Any], timeout: float = 40.0) -> Any:
        """Wait until a fact is true, while the page goes on; return it."""
        end = time.monotonic() + timeout
        while not (found := fact()):
            assert time.monotonic() < end, f"still {found!r} after {timeout} s; {self.complaints}"
            self.page.wait_for_timeout(30)
        return found

    def reads(self, place: Any, *words: str, timeout: float = 40.0) -> str:
        """Wait until the text of a place (selector or locator) holds all words; return it."""
        found = self.page.locator(place).first if isinstance(place, str) else place
        end = time.monotonic() + timeout
        while not all(word in (said := found.inner_text()) for word in words):
            assert time.monotonic() < end, f"{place}: {said!r} has not {words}; {self.complaints}"
            self.page.wait_for_timeout(30)
        return said

    def until_said(self, source: str, wanted: str, timeout: float = 40.0) -> None:
        """Run a line until it prints what is wanted."""
        end = time.monotonic() + timeout
        while (said := self.run(source)) != wanted:
            assert time.monotonic() < end, f"{source} prints {said!r}, expected {wanted!r}"
            time.sleep(0.1)

    def shot(self, name: str, full: bool = True) -> Path:
        """Keep a screenshot."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        path = SHOTS / f"{name}.png"
        if full:  # all of it on screen at once: a browser draws nothing of what is far below
            size = self.page.viewport_size
            tall = min(int(self.page.evaluate("document.documentElement.scrollHeight")), 8_000)
            self.page.set_viewport_size({"width": size["width"], "height": max(tall, 300)})
            self.page.wait_for_timeout(250)
            self.page.screenshot(path=str(path))
            self.page.set_viewport_size(size)
            return path
        self.page.screenshot(path=str(path), full_page=full)
        return path

    def theme(self, scheme: str) -> None:
        """Switch to "light" or "dark", in JupyterLab too."""
        self.page.emulate_media(color_scheme=scheme)
        if self.home.startswith("http"):
            name = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}[scheme]
            self.page.wait_for_function("window.jupyterapp.commands.hasCommand('apputils:change-theme')")
            self.page.evaluate("t => window.jupyterapp.commands.execute('apputils:change-theme', {theme: t})", name)
            self.page.wait_for_function("t => document.body.dataset.jpThemeName === t", arg=name, timeout=30_000)

    def axe(self, inside: str = ".cw-host") -> list[str]:
        """Return what axe finds wrong inside the elements of a selector; skips where axe is missing."""
        found = importlib.util.find_spec("axe_playwright_python")
        if found is None or found.origin is None:
            pytest.skip("needs axe (pip install axe-playwright-python)")
        script = next(Path(found.origin).parent.rglob("axe.min.js")).read_text(encoding="utf-8")
        self.page.evaluate(script)
        self.known |= {"axe", "axeFunction"}
        report = self.page.evaluate("s => axe.run({include: [[s]]}, {resultTypes: ['violations']})", inside)
        return [
            f"{v['id']}: {v['help']}: {n['target']} {n.get('failureSummary', '')[:300]}"
            for v in report["violations"]
            for n in v["nodes"][:3]
        ]

    def close(self) -> None:
        self.context.close()


@pytest.fixture
def opened() -> Iterator[list[Watched]]:
    """Pages of a test; closed after it."""
    pages: list[Watched] = []
    yield pages
    for page in pages:
        page.close()


# ----------------------------------------------------------------------------------------------- an exported file


@pytest.fixture(scope="session")
def bare_globals(browser, tmp_path_factory) -> set[str]:
    """Names of the window of a page without script."""
    page = browser.new_page()
    (path := tmp_path_factory.mktemp("bare") / "bare.html").write_text("<!DOCTYPE html><title>bare</title>")
    page.goto(path.as_uri())
    names = set(page.evaluate("Object.getOwnPropertyNames(window)"))
    page.close()
    return names


@pytest.fixture
def open_page(browser, bare_globals, opened) -> Callable[..., Watched]:
    """Open an exported file: `open_page(path, scheme="light", hash="#turn=3", width=1160, script=True)`."""

    def open_it(path: Path, scheme: str = "light", hash: str = "", width: int = 1160, script: bool = True) -> Watched:
        watched = Watched(browser, scheme, width, script=script)
        opened.append(watched)
        watched.known = set(bare_globals)
        watched.page.goto(Path(path).as_uri() + hash)
        if script:
            watched.until("document.documentElement.dataset.drawn || !document.querySelector('script.cw-data')")
        return watched

    return open_it


# ------------------------------------------------------------------------------------------------------ notebooks


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """A JupyterLab: `address`, the `folder` it serves, the `data` folder of its signatures."""
    pytest.importorskip("jupyterlab", reason="needs JupyterLab (pip install 'credit-workbench[lab]')")
    folder = tmp_path_factory.mktemp("lab")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    places = {f"JUPYTER_{name}_DIR": str(folder / f".{name.lower()}") for name in ("CONFIG", "DATA", "RUNTIME")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True"]
    environment = {**os.environ, **places, "OMP_NUM_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    with open(folder / ".server.log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        wait_for(f"http://127.0.0.1:{port}/api/status", folder / ".server.log")
        yield SimpleNamespace(address=f"http://127.0.0.1:{port}", folder=folder, data=folder / ".data")
    finally:
        server.terminate()
        server.wait(timeout=20)


def wait_for(address: str, log: Path, seconds: int = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    raise TimeoutError(f"JupyterLab did not start: {log.read_text()[-2000:]}")


def stored(thing: Any) -> list[Any]:
    """Return the outputs that a notebook stores for a thing as the last line of a cell: of a `Live`, two."""
    from nbformat.v4 import new_output

    if isinstance(thing, Live):
        return [
            new_output("display_data", thing.bundle()),
            new_output("display_data", thing.widget._repr_mimebundle_()[0]),
        ]
    return [new_output("execute_result", view.mimebundle(thing), execution_count=1)]


_numbers = itertools.count()


@pytest.fixture
def open_notebook(browser, lab, opened) -> Callable[..., Watched]:
    """Open a notebook: `open_notebook(cells, state)`.

    In the state "live" `cells` are sources, which are run. In "dead" (trusted; the kernel that made the outputs is
    gone, a new one is there) and "untrusted" they are things, whose stored outputs are shown.
    """
    import nbformat

    def open_it(cells: list[Any], state: str = "live", scheme: str = "light", width: int = 1280) -> Watched:
        assert state in ("live", "dead", "untrusted")
        made = [
            nbformat.v4.new_code_cell(c) if isinstance(c, str) else nbformat.v4.new_code_cell("view", outputs=stored(c))
            for c in cells
        ]
        notebook = nbformat.v4.new_notebook(cells=made)
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = lab.folder / f"n{next(_numbers)}.ipynb"
        nbformat.write(notebook, path)
        if state == "dead":
            from nbformat.sign import NotebookNotary

            lab.data.mkdir(exist_ok=True)
            NotebookNotary(data_dir=str(lab.data)).sign(nbformat.read(path, as_version=4))
        watched = Watched(browser, scheme, width, home=lab.address)
        opened.append(watched)
        watched.page.goto(f"{lab.address}/doc/tree/{path.name}?reset")
        watched.page.wait_for_function(
            # until it is ready it has one empty cell, which is trusted
            "n => { const w = window.jupyterapp?.shell.currentWidget;"
            " return w?.context?.isReady && w.content.model.cells.length >= n; }",
            arg=len(cells),
            timeout=90_000,
        )
        if scheme == "dark":
            watched.theme("dark")
        if state == "live":
            run_all(watched, len(cells))
        else:
            trusted = watched.page.evaluate("window.jupyterapp.shell.currentWidget.content.model.cells.get(0).trusted")
            assert trusted is (state == "dead")
            watched.page.wait_for_selector(".jp-OutputArea-output", timeout=60_000)
        return watched

    return open_it


def run_all(watched: Watched, cells: int, timeout: int = 120_000) -> None:
    """Run all cells and wait until each has run; an error in one fails the test with its text."""
    page = watched.page
    panel = "window.jupyterapp.shell.currentWidget"
    page.wait_for_function(f"{panel}.sessionContext.session?.kernel?.status === 'idle'", timeout=timeout)
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    over = "c => c.executionCount && c.executionState !== 'running'"
    done = f"n => [...{panel}.content.model.cells].filter({over}).length >= n"
    page.wait_for_function(done, arg=cells, timeout=timeout)
    page.wait_for_function(f"{panel}.sessionContext.session.kernel.status === 'idle'", timeout=timeout)
    wrong = page.locator(".jp-OutputArea-output[data-mime-type*='error']").all_inner_texts()
    assert wrong == [], wrong


@pytest.fixture(scope="session")
def in_kernel() -> str:
    """Source of a first cell: `view`, `kit`, `rollouts`, `credits` as in the fixtures."""
    return KIT


@pytest.fixture(scope="session")
def in_kernel_hostile() -> str:
    """Source of a first cell: `view`, and `hostile` as in the fixture."""
    return f"""
import importlib.util
from workbench import view
spec = importlib.util.spec_from_file_location("browser_kit", {str(HERE / "conftest.py")!r})
kit = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kit)
hostile = kit.hostile_rollouts()
"""
