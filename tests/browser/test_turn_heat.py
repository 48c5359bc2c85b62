"""The heat map in a browser: orders as in Python, keys, brush, links, permalinks, and its four states."""

from __future__ import annotations

import base64
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from workbench import view
from workbench.batch import Batch
from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.view import TurnHeat, sources
from workbench.view.pack import pack
from workbench.view.payload import orders
from workbench.view.payload.heat import codes, heat
from workbench.view.widget import Live

pytestmark = pytest.mark.browser


class Made(TurnHeat):
    """A heat map of index maps alone."""

    def __init__(self, batch: Batch, credits: dict[str, Credit], **state: Any):
        self.given = heat(batch, credits, questions=[f"Question {g}?" for g in batch.groups])
        self.state.update(state)

    @property
    def _heat(self) -> dict[str, Any]:
        return self.given

    def for_page(self) -> dict[str, Any]:
        return self.given


def many(rollouts: int, turns: int, methods: int = 2, group: int = 8, seed: int = 0) -> tuple[Batch, dict[str, Credit]]:
    """Ragged rollouts with every status."""
    draw = np.random.default_rng(seed)
    owner = np.repeat(np.arange(rollouts), draw.integers(1, turns + 1, rollouts))
    batch = Batch.of_maps(owner, draw.integers(0, max(1, rollouts // group), rollouts))
    outcome = torch.tensor(draw.integers(0, 3, rollouts) / 2)
    batch = batch.with_column("outcome", "trajectory", outcome, torch.tensor(draw.random(rollouts) < 0.9))
    batch = batch.with_column("trainable", "turn", torch.tensor(draw.random(len(owner)) < 0.97))
    credits = {}
    for m in range(methods):
        values = np.where(draw.random(len(owner)) < 0.1, 0.0, np.round(draw.normal(size=len(owner)), 1))
        credit = Credit(torch.tensor(values), "turn", torch.tensor(draw.random(len(owner)) > 0.1))
        credits[f"method {m}"] = credit.drop(torch.tensor(draw.random(len(owner)) < 0.05), "a rule")
    return batch, credits


# -------------------------------------------------------------------------------------------- the same as in Python


def test_orders_filters_and_codes_are_those_of_python(browser):
    page = browser.new_page()
    script = sources.widget_script(("turn_heat",)).rsplit("export default", 1)[0]
    p = heat(*many(70, 7, 3), questions=[])
    p["questions"] = p["groups"]
    sorts = [*orders.SORTS, None]
    states = [{"sort": s, "flip": f, "grouped": g} for s, f, g in product(sorts, (False, True), (None, False))]
    states += [{"only": kind} for kind in ("all", "mixed", "collapsed", "lone", "unknown")]
    states += [{"find": text} for text in ("1", "METHOD", "", 7, None)]
    states += [
        {"only": "selected", "rows": rows} for rows in ("n0-3.9", "x" + "5" * 18, "", "n", "x", "n9-", "q7", None)
    ]
    states += [{"sort": "credit", "methods": m} for m in (["method 2", "method 0"], "method 1", ["gone"], [])]
    got = page.evaluate(
        f"""([data, states]) => {{ {script}
        const p = core.unpack(Uint8Array.from(atob(data), c => c.charCodeAt(0)));
        return {{
          orders: states.map(s => [...heat_rows.shownRollouts(p, s)]),
          codes: p.methods.map((_, m) => [...heat_rows.codes(p.values[m], p.status[m], p.scale.full)]),
          rows: [[0, 1, 1, 0, 1], Array(900).fill(0).map((_, i) => i % 3 ? 0 : 1)].map(rows => {{
            const text = heat_rows.rowsText(Uint8Array.from(rows));
            return [text, [...heat_rows.rowsOf(text, rows.length)], rows];
          }}),
        }}; }}""",
        [base64.b64encode(pack(p)).decode(), states],
    )
    page.close()
    for state, order in zip(states, got["orders"], strict=True):
        assert order == orders.shown_rollouts(p, state).tolist(), state
    assert len({tuple(order) for order in got["orders"]}) > 20
    for m, found in enumerate(got["codes"]):
        assert found == codes(p["values"][m], p["status"][m], p["scale"]["full"]).tolist()
    for text, back, rows in got["rows"]:
        assert back == rows == orders.rows_of(text, len(rows)).astype(int).tolist()
    assert got["rows"][0][0] == "n1-2.4" and len(got["rows"][1][0]) == 226


# ------------------------------------------------------------------------------------------------- by keys, by mouse


def at(
    page, row: int, column: int, panel: int = 0, columns: int = 3, zoom: int = 22, cell: int = 22
) -> tuple[float, float]:
    """Where a cell of the small map is on the page."""
    box = page.locator("canvas[role=img]").first.bounding_box()
    return box["x"] + 150 + 46 + 18 + panel * (columns * cell + 18) + (column + 0.5) * cell, box["y"] + 68 + (
        row + 0.5
    ) * zoom


def test_everything_works_by_keys_alone(rollouts, credits, open_page, tmp_path):
    w = open_page(TurnHeat(rollouts, credits).to_html(tmp_path / "heat.html"))
    page, press = w.page, w.page.keyboard.press
    said = page.locator(".turn_heat > .readout")
    page.locator(".turn_heat").focus()
    for key in ("ArrowDown", "j", "ArrowRight"):
        press(key)
    assert said.inner_text().startswith(
        "run0/000/Mozambique/2 · 3 of 8 · group Mozambique · outcome 1 · turn 1 (its last is 2)"
    )
    assert (
        "IGPO 0" in said.inner_text()
        and "A²TGPO unknown" in said.inner_text()
        and "disagreement by rank" in said.inner_text()
    )
    press("Shift+ArrowDown")
    press("Shift+ArrowRight")
    chosen = page.locator(".chosen")
    assert "2 rollouts in 1 group, turns 1 to 2: 4 cells" in chosen.inner_text()
    assert (
        'trajectory in ["run0/000/Mozambique/2", "run0/000/Mozambique/3"] and turn >= 1 and turn <= 2'
        in chosen.inner_text()
    )
    press("Home")
    press("a")
    assert "4 rollouts in 1 group: 12 cells" in chosen.inner_text()
    press("Escape")
    assert "Selected" not in chosen.inner_text()
    press("x")
    press("End")
    press("x")
    assert "2 rollouts in 2 groups: 6 cells" in chosen.inner_text()
    page.locator(".turn_heat select").first.select_option("outcome")
    page.locator("button", has_text="reverse").press("Enter")
    assert page.locator("button", has_text="reverse").get_attribute("aria-pressed") == "true"
    page.locator(".turn_heat").focus()
    press("]")
    press("Enter")
    page.locator(".opened .credit_map").wait_for()
    w.reads(".opened .credit_map", "the dollar")
    press("Escape")
    assert page.locator(".opened .credit_map").count() == 0
    press("/")
    page.keyboard.type("finland")
    assert "of 4 · group Finland" in said.inner_text()
    w.until("location.hash.includes('find=finland') && location.hash.includes('sort=outcome')")
    w.clean()


def test_a_brush_selects_and_the_permalink_brings_it_back(rollouts, credits, open_page, tmp_path):
    path = TurnHeat(rollouts, credits).to_html(tmp_path / "heat.html")
    w = open_page(path)
    page = w.page
    page.mouse.move(*at(page, 1, 1))
    page.mouse.down()
    page.mouse.move(*at(page, 3, 2), steps=3)
    page.mouse.move(*at(page, 5, 2), steps=3)
    page.mouse.up()
    w.reads(".chosen", "5 rollouts in 2 groups, turns 1 to 2: 10 cells")
    assert "opened" not in page.url and page.locator(".opened .credit_map").count() == 0
    w.until("location.hash === '#rows=n1-5&from=1&to=2'")
    again = open_page(path, hash="#sort=outcome&rows=n1-5&from=1&to=2&only=selected&open=2&at=3&turn=1")
    again.reads(".chosen", "5 rollouts in 2 groups, turns 1 to 2: 10 cells")
    again.reads(".turn_heat > .readout", "of 5")
    again.page.locator(".opened .credit_map").wait_for()
    again.page.locator(".turn_heat .chosen button", has_text="clear").click()
    again.reads(".chosen", "8 rollouts, up to 3 turns")
    # a column: drag in the head; nonsense in a link is nothing
    page.mouse.click(*at(page, -1, 2))
    w.reads(".chosen", "8 rollouts in 2 groups, turn 2: 8 cells")
    assert page.locator(".expression").inner_text() == "turn == 2"
    odd = open_page(
        path, hash="#sort=%3Cb%3E&rows=zzz&at=-5&turn=x&open=99&zoom=7&methods=%5B1%5D&apart=__proto__&only=constructor"
    )
    assert "8 rollouts, up to 3 turns" in odd.page.locator(".chosen").inner_text()
    for watched in (w, again, odd):
        watched.clean()


def test_a_click_opens_the_map_and_a_file_says_which_it_lacks(rollouts, credits, open_page, tmp_path, monkeypatch):
    from workbench.view import turn_heat

    monkeypatch.setattr(turn_heat, "MAPS", 1)
    w = open_page(TurnHeat(rollouts, credits).to_html(tmp_path / "heat.html"))
    page = w.page
    page.mouse.click(*at(page, 2, 0))
    page.locator(".opened .credit_map").wait_for()
    assert page.locator(".opened .credit_map .turn").count() == 3
    page.mouse.click(*at(page, 0, 0))
    page.locator(".opened", has_text="This file has not the text of this rollout").wait_for()
    page.locator(".opened button", has_text="close").click()
    assert page.locator(".opened").inner_text() == ""
    w.clean()


def test_views_of_a_page_follow_each_other(rollouts, credits, open_page, tmp_path):
    views = [
        TurnHeat(rollouts, credits),
        TurnHeat(rollouts, credits, sort="outcome"),
        view.CreditMap(rollouts, 1, credits),
    ]
    w = open_page(view.html_page(views, tmp_path / "linked.html"))
    page = w.page
    page.mouse.click(*at(page, 1, 2))
    second = page.locator(".chosen").nth(1)
    w.reads(second, "1 rollout in 1 group: 1 cell")
    w.reads(page.locator(".turn_heat > .readout").nth(1), "run0/000/Mozambique/1")
    page.locator(".credit_map").last.focus()
    page.keyboard.press("Home")
    w.reads(".chosen", "turn in [0]")
    w.clean()


# ------------------------------------------------------------------------------------------------------- its states

SHOW = """
heat = view.TurnHeat(rollouts, credits, sort="outcome")
shown = heat.live()
shown
"""


def test_with_a_kernel_the_selection_reaches_python(open_notebook, in_kernel):
    w = open_notebook([in_kernel, SHOW])
    page = w.page
    page.locator(".turn_heat canvas[role=img]").wait_for()
    assert page.locator(".cw-static").is_hidden()
    cells = "window.jupyterapp.shell.currentWidget.content.model.cells.length"
    before = page.evaluate(cells)
    page.locator(".turn_heat").focus()
    for key in ("j", "ArrowRight", "Shift+ArrowDown", "a", "b", "d", "d", "x", "a"):
        page.keyboard.press(key)
    assert page.evaluate(cells) == before
    page.keyboard.press("Escape")
    page.mouse.move(*at(page, 0, 1))
    page.mouse.down()
    page.mouse.move(*at(page, 1, 2), steps=4)
    page.mouse.up()
    w.until_said(
        "s = shown.selection; print(s.trajectories, len(s.turns), s.expression, len(s.of(heat.to_frame())))",
        "('run0/000/Mozambique/0', 'run0/000/Mozambique/2') 4 "
        'trajectory in ["run0/000/Mozambique/0", "run0/000/Mozambique/2"] and turn >= 1 and turn <= 2 16',
    )
    assert w.run("print(len(heat.to_frame().query(s.expression)))") == "16"
    page.locator("button", has_text="show only these").click()
    w.until_said("print(sorted(set(heat.to_frame().trajectory)))", "['run0/000/Mozambique/0', 'run0/000/Mozambique/2']")
    page.mouse.click(*at(page, 1, 0))
    page.locator(".opened .credit_map .turn").first.wait_for()
    w.reads(".opened .credit_map", "run0/000/Mozambique/2")
    w.run("shown.link.select(turns=[(rollouts[0].id, 2)])")
    page.locator(".chosen", has_text="1 rollout in 1 group: 1 cell").wait_for()
    w.shot("turn_heat-live-light", full=False)
    w.clean()


REROLL = """
from workbench.compare import Interval
from workbench.search import TurnValue, Value

def measured(rollouts, trajectory, turn, n, seed, progress):
    asked.append((trajectory, turn, n))
    for i in range(n):
        progress(i, n, "episodes over")
    return TurnValue(Value(0.25, 0.1, 0.5, n), Value(0.75, 0.5, 0.9, n), Interval(0.5, 0.1, 0.8)), rollouts

asked = []
heat = view.TurnHeat(rollouts, credits)
heat.live(reroll=measured)
"""


def test_a_map_opened_with_a_kernel_samples_a_turn_anew(open_notebook, in_kernel, rollouts):
    w = open_notebook([in_kernel, REROLL])
    page = w.page
    page.locator(".turn_heat canvas[role=img]").wait_for()
    page.locator(".turn_heat").focus()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.locator(".opened .turn button", has_text="re-roll").nth(2).click()
    page.locator(".reroll input").fill("6")
    page.locator(".reroll button", has_text="sample").click()
    page.locator(".reroll", has_text="what it was worth").wait_for()
    assert "+0.50 [+0.10, +0.80]" in page.locator(".reroll").inner_text()
    said = page.locator(".opened strong").first.inner_text()
    assert said in [t.id for t in rollouts]
    w.until_said("print(asked)", f"[({said!r}, 2, 6)]")
    w.clean()


@pytest.mark.parametrize("state", ["dead", "untrusted"])
def test_without_a_kernel_the_picture_stays(state, rollouts, credits, open_notebook):
    w = open_notebook([TurnHeat(rollouts, credits), TurnHeat(rollouts, credits).live()], state)
    images = w.page.locator(".jp-OutputArea-output img[alt^='Heat map: 8 rollouts by 3 turns']")
    images.nth(1).wait_for(timeout=30_000)
    w.page.wait_for_timeout(1500)
    for i in range(2):
        assert images.nth(i).is_visible()
        assert images.nth(i).evaluate("e => e.naturalWidth === 2 * e.width && e.width > 50 && e.height > 100")
    table = w.page.locator(".jp-OutputArea-output table", has_text="unknown").first
    assert "beyond the scale" in table.inner_text()
    w.shot(f"turn_heat-{state}", full=False)
    w.clean(ignore=("model not found",))


def test_what_a_widget_opens_with_is_small():
    batch, credits = many(50, 5)
    live = Live(Made(batch, credits), view.Link())
    assert len(live.widget._esm.encode()) <= sources.WIDGET_BYTES
    sent = live.widget.get_state()
    data = sum(len(v) for v in sent.values() if isinstance(v, bytes))
    text = sum(len(str(v)) for v in sent.values() if not isinstance(v, bytes))
    assert text <= 300_000 and data < 20_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_in_both_themes(scheme, rollouts, credits, open_page, tmp_path):
    path = TurnHeat(rollouts, credits, sort="rank").to_html(tmp_path / "heat.html", title="Where the methods part")
    w = open_page(path, scheme, hash="#apart=rank&rows=n2-3&from=0&to=1&open=2")
    w.page.locator(".opened .credit_map").wait_for()
    w.shot(f"turn_heat-{scheme}")
    w.clean()
    assert w.axe() == []


def test_every_mark_looks_different(open_page, tmp_path):
    w = open_page(Made(*many(60, 8)).to_html(tmp_path / "marks.html"))
    samples = w.page.locator(".legend .sample")
    looks = [samples.nth(i).screenshot() for i in range(samples.count())]
    assert len(looks) == 7 and len(set(looks)) == 7
    w.clean()


# -------------------------------------------------------------------------------------------------- hostile, odd


def test_hostile_text_is_shown_and_does_nothing(hostile_strings, kit, open_page, tmp_path):
    assert len(hostile_strings) >= 40
    ts = [kit.trajectory(f"{i} {text}", text, [text, text], [text], 1.0) for i, text in enumerate(hostile_strings)]
    r = Rollouts(tuple(ts))
    values = [0.5, -0.5] * len(r)
    heat_map = TurnHeat(r, {text: kit.credit("turn", values) for text in hostile_strings[:3]}, grouped=False)
    w = open_page(heat_map.to_html(tmp_path / "hostile.html", title=hostile_strings[0]))
    page = w.page
    assert page.locator("[role=alert]").count() == 0
    page.locator(".turn_heat").focus()
    for text in hostile_strings:
        said = page.locator(".turn_heat > .readout").inner_text()
        shown = view.escape.visible(text)
        assert " ".join(shown.split())[:30] in " ".join(said.split()), text
        page.keyboard.press("x")
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.locator(".opened .credit_map").wait_for()
    tags = "[...document.querySelectorAll('.cw-host')].flatMap(h => [...h.shadowRoot.querySelectorAll('*')])"
    found = set(page.evaluate(f"{tags}.map(e => e.localName)"))
    assert not found & {
        "script",
        "img",
        "svg",
        "iframe",
        "form",
        "a",
        "object",
        "embed",
        "meta",
        "link",
        "base",
        "video",
    }
    w.clean()
    everywhere = page.evaluate("[...document.querySelectorAll('.cw-static *')].map(e => e.localName)")
    assert not set(everywhere) & {"script", "svg", "iframe", "form", "a", "object", "style"}


def test_hostile_text_in_notebooks(hostile_strings, kit, open_notebook):
    ts = [kit.trajectory(f"{i} {text}", text, [text, text], [text], 1.0) for i, text in enumerate(hostile_strings)]
    values = [0.5, -0.5] * len(ts)
    heat_map = TurnHeat(Rollouts(tuple(ts)), {text: kit.credit("turn", values) for text in hostile_strings[:3]})
    w = open_notebook([heat_map, heat_map.live()], "untrusted")
    w.page.locator(".jp-OutputArea-output img[alt^='Heat map']").first.wait_for(timeout=30_000)
    w.page.wait_for_timeout(800)
    w.clean(ignore=("model not found",))


ODD = {
    "empty": (0, 1),
    "one turn": (1, 1),
    "200 turns": (30, 200),
    "10,000 rollouts": (10_000, 20),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_sizes_draw(name, open_page, tmp_path):
    rollouts, turns = ODD[name]
    w = open_page(Made(*many(rollouts, turns)).to_html(tmp_path / "odd.html"))
    page = w.page
    page.locator(".turn_heat").focus()
    for key in ("ArrowDown", "End", "ArrowRight", "Shift+ArrowUp", "a", "x", "Home", "Escape"):
        page.keyboard.press(key)
    said = page.locator(".turn_heat > .readout").inner_text()
    assert (said == "There are no rollouts.") == (rollouts == 0)
    if rollouts == 10_000:
        page.keyboard.press("End")
        assert "10,000 of 10,000" in page.locator(".turn_heat > .readout").inner_text()
        assert page.locator("canvas.mini").is_visible()
        w.shot("turn_heat-10000-light")
    assert page.locator("[role=alert]").count() == 0
    w.clean()


@pytest.mark.parametrize("value", [None, 0.0])
def test_all_unknown_and_all_zero(value, kit, open_page, tmp_path):
    ts = [kit.trajectory(str(i), "g", ["a", "b"], ["c"], None) for i in range(3)]
    heat_map = TurnHeat(
        Rollouts(tuple(ts)), {"m": kit.credit("turn", [value] * 6), "n": kit.credit("turn", [value] * 6)}
    )
    w = open_page(heat_map.to_html(tmp_path / "flat.html"))
    legend = w.page.locator(".legend").inner_text()
    assert "no colour scale" in legend
    assert f"{'unknown' if value is None else 'zero'} 12" in " ".join(legend.split())
    w.clean()
