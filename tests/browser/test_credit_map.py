"""The interactive credit map in a browser: what it shows, by mouse and by keys, in a file and with a kernel."""

from __future__ import annotations

import pytest
import torch

from workbench import view
from workbench.credit import Credit
from workbench.recipes import grpo
from workbench.rollouts import Rollouts
from workbench.trajectory import Message, Sequence, Span, Trajectory, Turn

pytestmark = pytest.mark.browser


def made(identity: str, texts: list[list[str]], values: list[list[float | None]], **more) -> tuple[Rollouts, Credit]:
    """A rollout of turns given as their tokens, and a credit of every token."""
    turns, spans = [], []
    for k, pieces in enumerate(texts):
        message = Message(f"m{k}", "assistant", "".join(pieces))
        turns.append(Turn(message))
        logprobs = tuple(-0.5 for _ in pieces)
        spans.append(Span(tuple(range(len(pieces))), "sampled", k, message.id, logprobs, tuple(pieces)))
    t = Trajectory(identity, "g", (), tuple(turns), (Sequence(tuple(spans)),), **{"outcome": 1.0, **more})
    flat = [v for row in values for v in row]
    known = torch.tensor([v is not None for v in flat], dtype=torch.bool)
    number = torch.tensor([v or 0.0 for v in flat], dtype=torch.float64)
    return Rollouts((t,)), Credit(number, "token", known)


@pytest.fixture(scope="module")
def path(tmp_path_factory, rollouts, credits):
    made = view.CreditMap(rollouts, 1, {**credits, "grpo": grpo()})
    return made.to_html(tmp_path_factory.mktemp("map") / "map.html")


def test_a_map_says_value_rank_logprob_and_origin(open_page, path):
    w = open_page(path)
    page, readout = w.page, w.page.locator(".readout")
    page.locator(".switch button", has_text="IGPO").click()
    page.locator(".block span", has_text="capital").first.hover()
    said = readout.inner_text()
    assert "capital" in said and "rank" in said and "log-prob" in said and "sampled" in said and "IGPO" in said
    page.locator(".block span", has_text="Search:").first.hover()
    assert "forced, not sampled: never trained" in readout.inner_text()
    assert page.locator(".cw-static").is_hidden()
    w.shot("credit_map-light")
    w.theme("dark")
    w.shot("credit_map-dark")
    w.clean()


def test_a_map_is_walked_by_keys_alone(open_page, path):
    w = open_page(path)
    page, readout = w.page, w.page.locator(".readout")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.shadowRoot.activeElement.className") == "cw credit_map"
    page.keyboard.press("j")
    assert "turn 1, 2 of 3" in readout.inner_text()
    page.keyboard.press("End")
    assert "turn 2, 3 of 3" in readout.inner_text()
    before = readout.inner_text()
    page.keyboard.press("]")
    assert readout.inner_text() != before and "MatchTIR" in readout.inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "turn 2, token" in readout.inner_text() and page.locator(".box").count() >= 1
    for _ in range(2):
        page.keyboard.press("u")
    assert "turn 2, call" in readout.inner_text()
    page.keyboard.press("s")
    assert "own scale" in page.locator(".legend").inner_text()
    page.keyboard.press("/")
    page.keyboard.type("mozambique")
    assert page.locator(".block .hit").count() >= 1 and "of 1" in page.locator("[role=status]").inner_text()
    assert page.locator("details.hit").count() == 3  # a call and results with the word, still folded
    page.keyboard.press("Escape")
    page.keyboard.press("Home")
    assert "turn 0, 1 of 3" in readout.inner_text()
    w.until("location.hash.includes('method=MatchTIR') && location.hash.includes('turn=0')")
    assert "find=mozambique" in page.url and "scale=own" in page.url and "unit=call" in page.url
    w.clean()


def test_a_permalink_opens_what_was_on_screen(open_page, path):
    w = open_page(path, hash="#method=grpo&unit=turn&turn=2&scale=own")
    assert "turn 2, 3 of 3" in w.page.locator(".readout").inner_text()
    assert "grpo" in w.page.locator(".readout").inner_text()
    assert w.page.locator(".cw select").input_value() == "turn"
    assert "kept: Credit of trajectories has mean zero within task." in w.page.locator(".ledger").inner_text()
    odd = open_page(path, hash="#method=nobody&unit=__proto__&turn=99&scale=7&constructor=1&find=%3Cimg%20src%3Dx%3E")
    assert "turn 0, 1 of 3" in odd.page.locator(".readout").inner_text()
    odd.clean()
    w.clean()


def test_another_method_washes_what_is_near_and_the_minimap_leads_far(open_page, tmp_path):
    r, credit = made(
        "long", [[f" word{k}"] * 5 + ["\n"] for k in range(200)], [[0.1 * (k % 7 - 3)] * 6 for k in range(200)]
    )
    flat = Credit(torch.ones(1200, dtype=torch.float64), "token", torch.ones(1200, dtype=torch.bool))
    w = open_page(view.CreditMap(r, 0, {"wave": credit, "flat": flat}).to_html(tmp_path / "long.html"))
    page = w.page
    blocks = "[...document.querySelector('.cw-host').shadowRoot.querySelectorAll('.block')]"
    washed = f"{blocks}.map(b => b.querySelector('span') !== null)"
    page.locator(".block span").first.wait_for()
    assert page.evaluate(washed).count(True) < 60 and "word199" in page.locator(".block").last.text_content()
    page.locator(".cw").focus()
    page.keyboard.press("]")
    w.holds(lambda: page.locator(".block .p16").count() > 5)
    assert page.evaluate(washed).count(True) < 60
    box = page.locator(".strip").bounding_box()
    page.mouse.click(box["x"] + 5, box["y"] + box["height"] - 3)
    page.locator(".block span", has_text="word199").first.wait_for()
    w.holds(lambda: page.locator(".block span", has_text="word199").first.get_attribute("class") == "p16")
    w.clean()


def test_a_png_is_taken(browser, tmp_path):
    r, credit = made("one", [[" word"] * 5 + ["\n"]] * 30, [[0.1 * (k % 7 - 3)] * 6 for k in range(30)])
    path = view.CreditMap(r, 0, {"m": credit}).png(tmp_path / "deep" / "map.png", theme="dark")
    page = browser.new_page()
    page.goto(path.as_uri())
    width, height, corner = page.evaluate(
        """() => { const i = document.images[0], c = document.createElement('canvas');
        [c.width, c.height] = [4, 4]; const g = c.getContext('2d'); g.drawImage(i, 0, 0);
        return [i.naturalWidth, i.naturalHeight, g.getImageData(0, 0, 1, 1).data[0]]; }"""
    )
    assert width == 2 * 1160 and height > 1000 and corner < 128
    page.close()


def test_a_map_and_axe(open_page, path):
    w = open_page(path)
    w.page.locator(".cw details summary").first.click()
    assert w.axe() == []
    w.theme("dark")
    assert w.axe() == []


def shapes() -> dict[str, tuple[Rollouts, dict[str, Credit]]]:
    """Rollouts that a map must draw sensibly."""
    none = torch.zeros(0, dtype=torch.float64)
    bare = Rollouts((Trajectory("no turns", "g"),))
    words = [[" a", " b", "\n"]]
    out = {"empty": (bare, Credit(none, "turn", none.bool()))}
    out["one token"] = made("one token", [["x"]], [[1.0]])
    out["one turn"] = made("one turn", words, [[1.0, -2.0, 0.0]])
    out["no text"] = made("no text", [["", ""]], [[1.0, 1.0]])
    out["all unknown"] = made("all unknown", words * 2, [[None] * 3] * 2)
    out["all zero"] = made("all zero", words * 2, [[0.0] * 3] * 2)
    out["right to left"] = made("right to left", [["שלום", " עולם", " 42", "\n"]], [[1.0, -1.0, 0.5, 0.0]])
    out["emoji"] = made("emoji", [["👩‍👩‍👧", " 😀", "e\u0301", " 漢字"]], [[1.0, -1.0, None, 0.2]])
    out["long"] = made("long", [[" word"] * 5 + ["\n"]] * 200, [[0.1 * (k % 7 - 3)] * 6 for k in range(200)])
    text = Trajectory("no tokens", "g", (), tuple(Turn(Message(f"a{k}", "assistant", f"line {k}")) for k in range(3)))
    known = torch.tensor([True, True, False])
    out["no tokens"] = (Rollouts((text,)), Credit(torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64), "turn", known))
    shown = {name: (r, {"m": c}) for name, (r, c) in out.items()}
    return {**shown, "no method": (out["one turn"][0], {})}


def test_odd_rollouts_are_drawn(open_page, tmp_path, module):
    cases = shapes()
    maps = [view.CreditMap(r, 0, c) for r, c in cases.values()]
    w = open_page(view.html_page(maps, tmp_path / "odd.html"))
    page = w.page
    hosts = page.locator(".cw")
    assert hosts.count() == len(maps) and page.locator("[role=alert]").count() == 0
    for i, name in enumerate(cases):
        hosts.nth(i).scroll_into_view_if_needed()
        assert hosts.nth(i).is_visible(), name
    assert "This rollout has no turns." in hosts.nth(0).inner_text()
    said = {name: hosts.nth(i) for i, name in enumerate(cases)}
    w.holds(lambda: said["one token"].locator(".block span").count() == 1)
    assert "No method was given" in said["no method"].inner_text()
    assert "no credit other than 0" in said["all zero"].inner_text()
    w.holds(lambda: said["all unknown"].locator(".block .s-u").count() >= 2)
    said["no text"].scroll_into_view_if_needed()
    said["no text"].locator(".block span").nth(1).wait_for()
    assert said["no text"].locator(".block").text_content() == "∅∅"
    said["emoji"].scroll_into_view_if_needed()
    emoji = said["emoji"].locator(".block span")
    assert [emoji.nth(i).text_content() for i in range(4)] == ["👩‍👩‍👧", " 😀", "e\u0301", " 漢字"]
    emoji.nth(3).hover()
    w.reads(said["emoji"].locator(".readout"), "漢字")
    said["right to left"].locator(".block span").first.hover()
    w.reads(said["right to left"].locator(".readout"), "שלום")
    said["no tokens"].locator(".block span").nth(1).hover()
    w.reads(said["no tokens"].locator(".readout"), "whole turn")
    assert said["long"].locator(".turn").count() == 200
    w.shot("credit_map-odd")
    w.clean()


SHADOWS = "[...document.querySelectorAll('*')].map(e => e.shadowRoot).filter(r => r?.querySelector('.cw'))"


def harmless(w, strings: list[str]) -> None:
    """Assert that the text of all views is there as it is, and is nothing but text."""
    page = w.page
    page.evaluate(f"{SHADOWS}.forEach(r => r.querySelectorAll('details').forEach(d => {{ d.open = true; }}))")
    shown = [view.escape.visible(string) for string in strings]
    w.until(f"all => all.every(s => {SHADOWS}.map(r => r.textContent).join().includes(s))", shown)  # folds fill late
    text = page.evaluate(f"{SHADOWS}.map(r => r.textContent).join()")
    assert not set(text) & set("\u202e\u2066\u2069\u200b\ufeff\u2028\x00\x07\x1b")  # what is not seen, or reorders
    inside = f"{SHADOWS}.flatMap(r => [...r.querySelectorAll('*')])"
    found = set(page.evaluate(f"{inside}.map(e => e.localName)"))
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
    assert page.evaluate(f"{inside}.flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on'))") == []
    w.clean()


def test_hostile_text_in_a_file(open_page, tmp_path, hostile, hostile_strings):
    assert len(hostile_strings) >= 40
    maps = [view.CreditMap(r, 0, credits) for r, credits in hostile]
    w = open_page(view.html_page(maps, tmp_path / "hostile.html", title=hostile_strings[0]))
    assert w.page.locator("[role=alert]").count() == 0
    w.page.locator("input[type=search]").first.fill(hostile_strings[1])
    harmless(w, hostile_strings)


def test_hostile_text_with_a_kernel(open_notebook, in_kernel_hostile, hostile_strings):
    w = open_notebook([in_kernel_hostile, "view.CreditMap(hostile[0][0], 0, hostile[0][1]).live()"])
    w.page.locator(".cw .turn").first.wait_for()
    harmless(w, hostile_strings[: len(hostile_strings) // 3])


@pytest.mark.parametrize("state", ["dead", "untrusted"])
def test_hostile_text_in_a_stored_output(open_notebook, hostile, hostile_strings, state):
    w = open_notebook([view.CreditMap(r, 0, credits) for r, credits in hostile], state)
    outputs = w.page.locator(".jp-OutputArea-output.jp-RenderedHTMLCommon")
    outputs.nth(len(hostile) - 1).wait_for(state="attached")
    text = "".join(outputs.all_text_contents())
    for string in hostile_strings:
        assert view.escape.visible(string) in text, string
    w.clean()


REROLL = """
from functools import partial
from types import SimpleNamespace
from workbench.compare import Interval
from workbench.search import TurnValue, Value
import time

def measured(rollouts, trajectory, turn, n, seed, progress):
    for i in range(n):
        progress(i, n, "episodes over")
        time.sleep(0.05 if n < 64 else 0.5)
    return TurnValue(Value(0.25, 0.1, 0.5, n), Value(0.75, 0.5, 0.9, n), Interval(0.5, 0.1, 0.8)), rollouts

first = view.CreditMap(rollouts, 1, credits)
link = view.Link()
live = first.live(link=link, reroll=measured)
live
"""


def test_a_live_map_samples_a_turn_anew_and_follows_a_link(open_notebook, in_kernel, rollouts):
    w = open_notebook([in_kernel, REROLL])
    page = w.page
    turn = page.locator(".cw .turn").nth(1)
    turn.wait_for()
    assert page.locator(".cw-static").is_hidden()
    turn.locator("button", has_text="re-roll").click()
    page.locator(".cw .reroll input").fill("6")
    page.locator(".cw .reroll button", has_text="sample").click()
    page.locator(".cw .reroll", has_text="what it was worth").wait_for()
    said = page.locator(".cw .reroll").inner_text()
    assert "0.25 [0.10, 0.50]" in said and "+0.50 [+0.10, +0.80]" in said and "opposite sign" in said
    w.shot("credit_map-reroll-light", full=False)
    page.locator(".cw .reroll input").fill("64")
    page.locator(".cw .reroll button", has_text="sample").click()
    page.locator(".cw .reroll", has_text="of 64").wait_for()
    page.locator(".cw .reroll button", has_text="stop").click()
    page.locator(".cw .reroll", has_text="stopped").wait_for()
    w.theme("dark")
    w.shot("credit_map-reroll-dark", full=False)
    page.locator(".cw .reroll button", has_text="close").click()
    w.run("link.select(turns=[(rollouts[2].id, 1)])")  # what a linked view, or Python, selects is followed
    page.locator(".cw .title", has_text=rollouts[2].id).wait_for()
    page.locator(".cw .readout", has_text="turn 1, 2 of 3").wait_for()
    page.locator(".cw").focus()
    page.keyboard.press("j")
    said = "print(link.selection.turns[0][1], set(live.to_frame()['trajectory']), link.selection.expression)"
    w.until_said(said, f'2 {{{rollouts[2].id!r}}} (trajectory == "{rollouts[2].id}" and turn in [2])')
    w.clean()


@pytest.mark.parametrize("state", ["dead", "untrusted"])
def test_without_its_kernel_the_static_map_stays(open_notebook, rollouts, credits, state):
    w = open_notebook([view.CreditMap(rollouts, 1, credits).live()], state)
    static = w.page.locator(".jp-OutputArea-output table").first
    static.wait_for(timeout=30_000)
    w.page.wait_for_timeout(1000)
    assert static.is_visible()
    w.shot(f"credit_map-{state}", full=False)
    w.clean(ignore=("model not found",))
