"""Static pages and notebook outputs in a real browser: from a file, in light and dark, and in an untrusted notebook."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from workbench import view
from workbench.rollouts import Rollouts

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page_path(tmp_path_factory, rollouts, credits, kit) -> Path:
    things = [view.CreditMap(rollouts, 1, credits), view.Overview(rollouts, credits), kit.recipe()]
    things += [view.Ribbons(rollouts, 0, kit.recipe()), rollouts]
    return view.html_page(things, tmp_path_factory.mktemp("pages") / "all views.html", title="All views")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_opens_without_its_script(open_page, page_path, scheme):
    w = open_page(page_path, scheme, script=False)
    assert w.page.title() == "All views" and w.page.locator("h1").inner_text() == "All views"
    wash = w.page.locator("span[title='−1.00, 6 tokens']").first
    assert wash.evaluate("e => getComputedStyle(e).backgroundColor").startswith("rgba(213, 94, 0, 0.")
    text, ground = w.page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.documentElement).backgroundColor]"
    )
    assert (_light(text) > _light(ground)) == (scheme == "dark")
    assert wash.evaluate("e => getComputedStyle(e).color") == text
    w.clean()


def _light(colour: str) -> int:
    return sum(int(n) for n in re.findall(r"\d+", colour)[:3])


@pytest.mark.parametrize("script", [True, False])
@pytest.mark.parametrize("width", [1160, 760])
def test_a_page_never_scrolls_sideways_as_a_whole(open_page, page_path, width, script):
    w = open_page(page_path, width=width, script=script)
    assert w.page.evaluate("document.documentElement.scrollWidth") <= width


def test_folded_parts_open_and_the_axis_is_one_line(open_page, page_path):
    w = open_page(page_path, script=False)
    call = w.page.locator("details", has_text="call search").first
    call.locator("summary").first.click()
    assert call.locator("pre").first.is_visible()
    lefts = w.page.locator("table").first.locator("tbody tr")
    found = lefts.evaluate_all("rows => rows.map(r => r.querySelectorAll('td')[1].getBoundingClientRect().left)")
    assert len(set(found)) == 1


@pytest.mark.parametrize("script", [True, False])
def test_hostile_text_does_nothing(open_page, tmp_path, kit, hostile_strings, script):
    strings = hostile_strings[::5]
    many = [kit.trajectory(f"t{i}{text}", text, [text, text], [text], 1.0) for i, text in enumerate(strings)]
    r = Rollouts(tuple(many), notes=tuple(strings))
    credit = {text: kit.credit("turn", [1.0] * r.batch().count("turn")) for text in strings[:2]}
    maps = [view.CreditMap(r, i, credit) for i in range(len(r))]
    path = view.html_page([*maps, r], tmp_path / "hostile.html", title=strings[0], lead=strings[1])
    w = open_page(path, script=script)
    w.page.wait_for_timeout(200)
    tags = w.page.evaluate("[...document.body.querySelectorAll('*')].map(e => e.localName)")
    assert not set(tags) & {"img", "svg", "iframe", "style", "form", "a", "object"}
    assert tags.count("script") <= len(maps) + 1  # ours
    assert strings[0] in w.page.evaluate("document.body.textContent")
    w.clean()


# -------------------------------------------------------------------------------------- an untrusted notebook

# Elements in order with their inline style as the browser understands it, and their text.
LOOK = """html => {
  const root = typeof html === 'string' ? new DOMParser().parseFromString(html, 'text/html').body : html;
  return [...root.querySelectorAll('*')].map(e => [e.localName, e.style.cssText, e.title || '', e.open === true]);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_survives_an_untrusted_notebook(open_notebook, rollouts, credits, kit, scheme):
    shown = [view.CreditMap(rollouts, 1, credits), view.Overview(rollouts, credits)]
    shown += [view.Ribbons(rollouts, 0, kit.recipe()), kit.recipe(), rollouts[0], rollouts.batch()]
    w = open_notebook(shown, "untrusted", scheme)
    w.page.wait_for_function(
        "n => document.querySelectorAll('.jp-OutputArea-output.jp-RenderedHTMLCommon').length >= n", arg=len(shown)
    )
    outputs = w.page.locator(".jp-OutputArea-output.jp-RenderedHTMLCommon")
    for i, thing in enumerate(shown):
        wanted = w.page.evaluate(LOOK, view.mimebundle(thing)["text/html"])
        assert outputs.nth(i).evaluate(f"e => ({LOOK})(e)") == wanted
    rows = outputs.first.locator("tbody tr").evaluate_all("rows => rows.map(r => getComputedStyle(r).backgroundColor)")
    assert set(rows) == {"rgba(0, 0, 0, 0)"}  # no zebra stripes over the washes
    w.shot(f"static-untrusted-{scheme}", full=False)
    w.clean()
