"""Each text field of a trajectory and of a run holds a hostile string of its own: each view shows those it should."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from workbench import view

pytestmark = pytest.mark.browser
HERE = Path(__file__).parent


def of_file(path: Path):
    """What another file of tests defines."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EVERY = of_file(HERE / "every_view.py")
MARKED = of_file(HERE / "marked.py")
NAMES = (*MARKED.LIVE, "Overview", "Ribbons", "RunView")

STORY = "agent arg ask back call end err group id raw say stop tok val"
# What the still picture of each view shows, in whatever state there is no script of ours.
STILL = {
    "CreditMap": f"{STORY} drop name other",
    "TurnHeat": "name other",
    "CollapseBoard of rollouts": "ask group name other",
    "Recompute": f"{STORY} recipe",
    "CollapseBoard of a run": "alarm cause text",
    "Curves": "curve way",
    "Monitor": "alarm ask asked group id note policy reason text world",
    "Overview": "ask group id name other",
    "Ribbons": "column id recipe",
    "RunView": "alarm ask asked group id note policy reason text world",
}
# What the interactive views show once their folds, and a rollout, are opened.
MAP = STORY.replace(" say", "")  # an opened map shows the tokens a turn was sampled as, in place of its text
DRAWN = {
    "CreditMap": f"{MAP} drop name other",
    "TurnHeat": f"{STORY} name other",
    "CollapseBoard of rollouts": f"{MAP} name other",
    "Recompute": f"{MAP} recipe",
    "CollapseBoard of a run": f"{MAP} alarm cause text",
    "Curves": "curve way",
    "Monitor": f"{STORY} alarm asked cause note policy reason text world",
}
READ = """root => {
  const inside = (r) => [...r.querySelectorAll('*')].flatMap(e => e.shadowRoot ? [e, ...inside(e.shadowRoot)] : [e]);
  const all = inside(root);
  for (const e of all) if (e.localName === 'details') e.open = true;
  return [[root, ...all.map(e => e.shadowRoot).filter(Boolean)].map(r => r.textContent).join(),
          all.map(e => e.localName), all.flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on'))];
}"""
ROOTS = "[...document.querySelectorAll('*')].map(e => e.shadowRoot).filter(r => r?.querySelector('.cw'))"
PATIENCE = 40.0  # seconds; a fold fills itself after it was opened
NEVER = {"script", "iframe", "form", "a", "object", "embed", "base", "video", "math"}
GONE = ("Error displaying widget", "widget model not found", "Could not create a view", "Could not open comm")
GONE += ("model not found",)


def shows(w, read, name: str, fields: str) -> None:
    """Wait until a view shows these fields as text; assert that it made nothing else of them."""
    wanted = set(fields.split())
    end = time.monotonic() + PATIENCE
    while lacks := wanted - MARKED.found(read()[0]):
        assert time.monotonic() < end, f"{name} does not show {sorted(lacks)}; {w.complaints}"
        w.page.wait_for_timeout(50)
    _, tags, handlers = read()
    assert not set(tags) & NEVER and not handlers, (name, set(tags) & NEVER, handlers)


def test_in_a_file(open_page, tmp_path):
    views = MARKED.views(tmp_path)
    path = view.html_page(list(views.values()), tmp_path / "every.html", title=MARKED.mark("id"))
    w = open_page(path)
    EVERY.open_a_rollout(w)
    roots = w.page.locator(".cw-host:not(.cw-host .cw-host)")
    assert roots.count() == len(MARKED.LIVE)
    for n, name in enumerate(MARKED.LIVE):
        shows(w, lambda n=n: roots.nth(n).evaluate(f"e => ({READ})(e.shadowRoot)"), name, DRAWN[name])
    w.clean()
    still = open_page(path, script=False)
    for n, name in enumerate(views):
        place = still.page.locator("section").nth(n)
        place = place.locator(".cw-static") if name in MARKED.LIVE else place
        shows(still, lambda place=place: place.evaluate(READ), name, STILL[name])
    still.clean()


@pytest.mark.slow
def test_with_a_kernel(open_notebook):
    load = f"""
import importlib.util, tempfile
from pathlib import Path
spec = importlib.util.spec_from_file_location("marked", {str(HERE / "marked.py")!r})
marked = importlib.util.module_from_spec(spec)
spec.loader.exec_module(marked)
views = marked.views(Path(tempfile.mkdtemp()))
"""
    shown = "\n".join(f"views[{name!r}].live()._ipython_display_()" for name in MARKED.LIVE)
    w = open_notebook([load, shown])
    w.until(f"{ROOTS}.length >= {len(MARKED.LIVE)}")
    EVERY.open_a_rollout(w)
    outer = f"{ROOTS}.filter(r => r.host.getRootNode() === document)"
    for n, name in enumerate(MARKED.LIVE):
        shows(
            w,
            lambda n=n: w.page.evaluate(f"({READ})({outer}[{n}])"),
            name,
            f"{DRAWN[name]} column" if name == "Recompute" else DRAWN[name],
        )
    w.clean()


@pytest.mark.slow
@pytest.mark.parametrize("state", ["dead", "untrusted"])
def test_in_a_stored_output(open_notebook, tmp_path, state):
    views = MARKED.views(tmp_path)
    w = open_notebook([one.live() if name in MARKED.LIVE else one for name, one in views.items()], state)
    for n, name in enumerate(views):
        w.page.evaluate(f"window.jupyterapp.shell.currentWidget.content.scrollToItem({n})")
        cell = w.page.locator(f".jp-Notebook-cell[data-windowed-list-index='{n}'] .jp-OutputArea-output").first
        cell.wait_for(state="attached")
        shows(w, lambda cell=cell: cell.evaluate(READ), name, STILL[name])
    w.clean(ignore=GONE)
