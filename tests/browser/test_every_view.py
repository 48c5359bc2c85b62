"""What holds of every view alike: hostile text, odd rollouts, one surface, and no complaint of axe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from workbench import view
from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.view.sources import widget_script

HERE = Path(__file__).parent


def of_file(path: Path):
    """What another file of tests defines."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EVERY = of_file(HERE / "every_view.py")
SHAPES = of_file(HERE / "test_credit_map.py")
NAMES = [*EVERY.LIVE, *EVERY.STILL]
STORED = 150_000  # bytes of an output in a notebook
pytestmark = pytest.mark.browser

# ------------------------------------------------------------------------------------------------------- hostile text

# Strings of a third that each view shows whole as it opens; the others come cut, or behind a button.
SHOWS = {
    "CreditMap": 14,
    "TurnHeat": 1,
    "CollapseBoard of rollouts": 2,
    "Recompute": 14,
    "CollapseBoard of a run": 13,
    "Curves": 12,
    "Monitor": 14,
    "Overview": 2,
    "Ribbons": 14,
    "RunView": 14,
}
STILLS = ("data:image/png;base64,", "data:image/svg+xml;bas")  # of an SVG as an image no script runs
HOSTS = ".cw-host:not(.cw-host .cw-host)"
FORBIDDEN = {"script", "iframe", "form", "a", "object", "embed", "meta", "link", "base", "video", "svg", "math"}
READ = """root => {
  const inside = (r) => [...r.querySelectorAll('*')].flatMap(e => e.shadowRoot ? [e, ...inside(e.shadowRoot)] : [e]);
  const all = inside(root);
  all.filter(e => e.localName === 'details').forEach(e => { e.open = true; });
  const nested = all.filter(e => e.shadowRoot).map(e => e.shadowRoot.textContent);
  return [[root.textContent, ...nested].join(), [...new Set(all.map(e => e.localName))],
          all.flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on')),
          all.filter(e => e.localName === 'img').map(e => (e.getAttribute('src') || '').slice(0, 22))];
}"""


def flat(text: str) -> str:
    return "".join(text.split())


def harmless(read: list, name: str, strings: list[str]) -> None:
    """Assert: of what a view drew, the strings are text and nothing else."""
    text, tags, handlers, images = read
    assert handlers == [] and not set(tags) & FORBIDDEN, (name, handlers, tags)
    assert all(src.startswith(STILLS) for src in images), (name, images)
    assert not set(text) & set("\u202e\u2066\u2069\u200b\ufeff\u2028\x00\x07\x1b"), name
    found = [s for s in strings if flat(view.escape.visible(s)) in flat(text)]
    lacks = [s for s in strings if s not in found]
    assert len(found) >= min(SHOWS[name], len(strings)), (name, lacks)


@pytest.mark.parametrize("third", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_hostile_text_in_a_file(open_page, tmp_path, hostile, third):
    r, credits = hostile[third]
    views = EVERY.hostile_views(tmp_path, r, credits)
    path = view.html_page(list(views.values()), tmp_path / "every.html", title=r.notes[0], lead=r.notes[1])
    for script in (True, False):
        w = open_page(path, script=script)
        sections = w.page.locator("section, .section")
        said = w.page.locator("body").inner_text()
        assert "could not be drawn" not in said and "Not drawn" not in said
        if script:
            assert w.page.locator("[role=alert]").count() == 0
            roots = w.page.locator(HOSTS)
            assert roots.count() == len(EVERY.LIVE)
            for n, name in enumerate(EVERY.LIVE):
                harmless(roots.nth(n).evaluate(f"e => ({READ})(e.shadowRoot)"), name, list(r.notes))
        else:
            assert sections.count() >= len(views)
            for n, name in enumerate(views):
                still = sections.nth(n).locator(".cw-static") if name in EVERY.LIVE else sections.nth(n)
                harmless(still.evaluate(f"e => ({READ})(e)"), name, [])
        w.clean()


# Shadow roots of live views, as they stand on the page.
ROOTS = "[...document.querySelectorAll('*')].map(e => e.shadowRoot).filter(r => r?.querySelector('.cw'))"
IN_KERNEL = f"""
import tempfile
from pathlib import Path
spec = importlib.util.spec_from_file_location("every_view", {str(HERE / "every_view.py")!r})
every = importlib.util.module_from_spec(spec)
spec.loader.exec_module(every)
views = [every.hostile_views(Path(tempfile.mkdtemp()), *one) for one in hostile]
"""


@pytest.mark.slow
@pytest.mark.parametrize("third", range(3))
def test_hostile_text_with_a_kernel(open_notebook, in_kernel_hostile, hostile, third):
    shown = [(f"views[{third}][{name!r}]", name in EVERY.LIVE) for name in NAMES]
    lines = [f"{one}.live()._ipython_display_()" if live else f"display({one})" for one, live in shown]
    w = open_notebook([in_kernel_hostile + IN_KERNEL, "\n".join(lines)])
    strings = list(hostile[third][0].notes)
    w.until(f"{ROOTS}.length >= {len(EVERY.LIVE)}")
    w.page.wait_for_timeout(800)
    for n, name in enumerate(EVERY.LIVE):
        harmless(w.page.evaluate(f"({READ})({ROOTS}[{n}])"), name, strings)
    outputs = w.page.locator(".jp-OutputArea-output.jp-RenderedHTMLCommon")
    for n, name in enumerate(EVERY.STILL):
        place = outputs.count() - len(EVERY.STILL) + n
        harmless(outputs.nth(place).evaluate(f"e => ({READ})(e)", timeout=10_000), name, strings)
    w.clean()


GONE = ("Error displaying widget", "widget model not found", "Could not create a view", "Could not open comm")
GONE += ("model not found",)


@pytest.mark.slow
@pytest.mark.parametrize("third", range(3))
@pytest.mark.parametrize("state", ["dead", "untrusted"])
def test_hostile_text_in_a_stored_output(open_notebook, tmp_path, hostile, state, third):
    r, credits = hostile[third]
    views = EVERY.hostile_views(tmp_path, r, credits)
    # both what `.live()` stores and what the view alone does
    shown = [one.live() if name in EVERY.LIVE and name != "Curves" else one for name, one in views.items()]
    w = open_notebook(shown, state)
    panel = "window.jupyterapp.shell.currentWidget"
    for n, name in enumerate(views):
        w.page.evaluate(f"{panel}.content.scrollToItem({n})")
        cell = w.page.locator(f".jp-Notebook-cell[data-windowed-list-index='{n}'] .jp-OutputArea-output").first
        cell.wait_for(state="attached", timeout=10_000)
        w.page.wait_for_timeout(150)
        if name != "Curves":  # plotly draws SVG of its own
            harmless(cell.evaluate(f"e => ({READ})(e)", timeout=10_000), name, [])
    w.page.wait_for_timeout(500)
    w.clean(ignore=GONE)


# ------------------------------------------------------------------------------------------------------- odd rollouts


def branched() -> tuple[Rollouts, dict[str, Credit]]:
    """A rollout of two turns, and one that goes on after its first."""
    root, _ = SHAPES.made("root", [[" a", "\n"], [" b", "\n"]], [[1.0, 0.5], [0.0, 0.0]])
    other, _ = SHAPES.made("branch", [[" c", "\n"]], [[1.0, 1.0]])
    r = Rollouts((root[0], replace(other[0], parent=("root", 0))))
    n = r.batch().count("turn")
    return r, {"m": Credit(torch.ones(n, dtype=torch.float64), "turn", torch.ones(n, dtype=torch.bool))}


def long(turns: int, tokens: int) -> tuple[Rollouts, dict[str, Credit]]:
    texts = [[" word"] * tokens for _ in range(turns)]
    r, credit = SHAPES.made("long", texts, [[0.1 * (k % 7 - 3)] * tokens for k in range(turns)])
    return r, {"m": credit}


def odd(name: str) -> tuple[Rollouts, dict[str, Credit]]:
    made = {"branched": branched, "100k tokens": lambda: long(100, 1_000), "none": lambda: (Rollouts(()), {})}
    return made[name]() if name in made else SHAPES.shapes()[name]


ODD = ["none", "empty", "one token", "one turn", "no text", "all unknown", "all zero", "right to left", "emoji", "long"]
ODD += ["no tokens", "branched", "no method", pytest.param("100k tokens", marks=pytest.mark.slow)]


@pytest.mark.parametrize("name", ODD)
def test_odd_rollouts_are_drawn_by_every_view(open_page, tmp_path, name):
    r, credits = odd(name)
    if len(r):
        views = EVERY.of_rollouts(r, credits, ["grpo"])
    else:  # there is no rollout a map could show
        views = {"TurnHeat": view.TurnHeat(r, credits), "Overview": view.Overview(r, credits)}
        views["CollapseBoard of rollouts"] = view.CollapseBoard(r, credits)
    for kind, one in views.items():
        stored = one._repr_mimebundle_()
        assert sum(len(str(part).encode()) for part in stored.values()) <= STORED, kind
        assert one.to_frame() is not None
        if name == "100k tokens" and kind == "CreditMap":
            assert "not shown" in stored["text/html"] or "more" in stored["text/html"]
    path = view.html_page(list(views.values()), tmp_path / "odd.html")
    for script in (True, False):
        w = open_page(path, script=script)
        said = w.page.locator("body").inner_text()
        assert "could not be drawn" not in said and w.page.locator("[role=alert]").count() == 0
        if script:
            assert w.page.locator(HOSTS).count() == sum(bool(one.kind) for one in views.values())
        w.clean()


# ------------------------------------------------------------------------------------------------------- one surface


@pytest.fixture
def views(tmp_path, rollouts, credits) -> dict[str, view.View]:
    """Every view of ordinary rollouts and of a run of them."""
    run = EVERY.run_of(tmp_path, rollouts, ["a run"])
    named = EVERY.of_rollouts(rollouts, credits, ["grpo", "again"])
    return named | EVERY.of_run(run, ["grpo", "gigpo"])


@pytest.mark.parametrize("name", NAMES)
def test_every_view_has_picture_page_frame_and_live(views, tmp_path, name):
    one = views[name]
    stored = one._repr_mimebundle_()
    assert stored["text/html"] and stored["text/plain"]
    assert one.to_html(tmp_path / "one.html").read_text().startswith("<!DOCTYPE html>")
    assert len(one.to_frame()) > 0
    if name in EVERY.STILL:
        with pytest.raises(TypeError, match="no interactive layer"):
            one.live()
        return
    live = one.live()
    assert stored["text/html"][:200] in live.bundle()["text/html"]  # the picture first
    assert live.widget.kind == one.kind and live.widget._esm == widget_script((one.kind,))
    assert len(live.to_frame()) == len(one.to_frame())


@pytest.mark.parametrize("name", NAMES)
def test_every_view_has_a_png(browser, views, tmp_path, name):
    path = views[name].png(tmp_path / "one.png", width=700)
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


ALL = """(inside => inside(document))(function inside(r) {
  return [...r.querySelectorAll('*')].flatMap(e => e.shadowRoot ? [e, ...inside(e.shadowRoot)] : [e]); })"""
ALL += ".filter(e => !e.closest('.cw-static'))"
OPEN_ALL = f"{ALL}.forEach(e => {{ if (e.localName === 'details') e.open = true; }})"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_and_axe(open_page, views, tmp_path, scheme):
    w = open_page(view.html_page(list(views.values()), tmp_path / "every.html"), scheme)
    assert w.page.locator("[role=alert]").count() == 0
    EVERY.open_a_rollout(w)
    w.page.evaluate(OPEN_ALL)
    w.page.evaluate(OPEN_ALL)  # and what came with it
    w.until(f"{ALL}.filter(e => e.localName === 'details').every(e => e.open && e.children.length > 1)")
    w.clean()
    found = w.axe("body")
    assert not found, "\n".join(found)
