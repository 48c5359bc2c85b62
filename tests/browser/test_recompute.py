"""Knobs and edits in a browser: a hand on a slider, an edited reward, and what is left without a kernel."""

from __future__ import annotations

import base64
import json

import pytest

from workbench import recipes, view
from workbench.recompute import Edit, Memory, edited, recompute
from workbench.view.pack import pack
from workbench.view.sources import widget_script

pytestmark = pytest.mark.browser

MADE = """
from dataclasses import replace
from workbench import recipes
from workbench.rollouts import Rollouts

def rewarded(rollouts):
    trajectories = []
    for n, t in enumerate(rollouts):
        turns = tuple(replace(turn, reward=0.1 * ((3 * n + 2 * k) % 7)) for k, turn in enumerate(t.turns))
        trajectories.append(replace(t, turns=turns))
    return Rollouts(tuple(trajectories))

rich = rewarded(rollouts)
methods = [recipes.grpo(), recipes.gigpo(), recipes.rloo()]
turning = view.Recompute(rich, methods, 1)
"""


@pytest.fixture
def fresh(rollouts):
    def make() -> view.Recompute:
        names = {"rollouts": rollouts, "view": view}
        exec(MADE, names)
        return names["turning"]

    return make


@pytest.fixture
def turning(fresh) -> view.Recompute:
    return fresh()


def lanes(page, k: int) -> dict[str, str]:
    """What the map says of turn k: a number by method."""
    said = (
        page.locator(".cw.credit_map .turn")
        .nth(k)
        .locator(".lane")
        .evaluate_all(
            "all => all.map(l => [l.querySelector('.name').textContent, l.querySelector('.num').textContent])"
        )
    )
    return dict(said)


def expected(turning: view.Recompute, k: int, settings: dict, edits: tuple = (), n: int = 1) -> dict[str, str]:
    """The same, computed here."""
    from workbench.view import palette
    from workbench.view.payload.recompute import settings_of
    from workbench.view.payload.rows import turns_of

    batch = edited(turning.rollouts.batch(), edits)
    got = recompute(list(turning.given.values()), Memory(batch), settings_of(settings))
    full = turning._opening[1]
    turn = turns_of(batch, n).start + k
    return {
        name: palette.number(float(c.values[turn]), palette.digits(full[name])) if bool(c.known[turn]) else "unknown"
        for name, c in got.credits.items()
    }


def stepped(w, knobs: dict) -> None:
    """Wait until the map shows these knobs."""
    wanted = json.dumps(knobs, separators=(",", ":"))
    w.page.locator(f".cw.recompute[data-step='{wanted}']").wait_for(timeout=30_000)


BLANK = """<!DOCTYPE html><html lang=en><meta charset=utf-8><title>t</title><style>
:root { color-scheme: light dark } body { margin: 8px } html { background: #fcfcfb; color: #1b1b1a }
@media (prefers-color-scheme: dark) { html { background: #161718; color: #e6e6e3 } }</style><body><main></main>"""

STAND_IN = """async ([script, data, state]) => {
  const bytes = (text) => new DataView(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  const {default: {render}} = await import(URL.createObjectURL(new Blob([script], {type: 'text/javascript'})));
  const heard = {}, place = document.createElement('div');
  const named = {kind: 'recompute', name: 'turning', title: 'Recompute', link: 'test'};
  const values = {...named, data: bytes(data), state, live: null};
  const send = async ({ask, id, args}) => {
    const answer = JSON.parse(await window.python(ask, JSON.stringify(args)));
    if (answer.error) heard['msg:custom']({id, error: answer.error});
    else heard['msg:custom']({id}, [bytes(answer.packed)]);
  };
  const set = (key, value) => { values[key] = value; window.python(`=${key}`, JSON.stringify(value)); };
  const model = {get: key => values[key], set, save_changes() {}, send, on: (n, f) => { heard[n] = f; }, off() {}};
  document.querySelector('main').append(place);
  render({model, el: place});
}"""


@pytest.fixture
def stand_in(browser, opened, open_page, tmp_path):
    """Open a view with Python itself as its kernel: the page's questions are answered in the test."""

    def open_it(turning: view.Recompute, scheme: str = "light", wrong: str = ""):
        (blank := tmp_path / "blank.html").write_text(BLANK)
        w = open_page(blank, scheme)
        w.asked = []

        def python(name: str, text: str) -> str:
            args = json.loads(text)
            if name == "=state":
                turning.state.update(args)
                return "{}"
            if name.startswith("="):
                return "{}"
            w.asked.append((name, args))
            if wrong:
                return json.dumps({"error": wrong})
            packed = pack(turning.answers()[name](args, None))
            return json.dumps({"packed": base64.b64encode(packed).decode()})

        w.page.expose_function("python", python)
        w.known |= {"python", "__playwright__binding__", "__playwright__binding__controller__"}
        data = base64.b64encode(pack(turning.interactive())).decode()
        w.page.evaluate(STAND_IN, [widget_script(("recompute",)), data, dict(turning.state)])
        w.page.locator(".cw.credit_map .turn").first.wait_for()
        return w

    return open_it


def test_knobs_edits_and_undo_by_keys_alone(stand_in, fresh):
    turning = fresh()
    w = stand_in(turning)
    page = w.page
    slider = page.get_by_label("Discount", exact=True)
    assert slider.get_attribute("aria-valuetext") == "as the methods say"
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    stepped(w, {"gamma": 0.9})
    assert lanes(page, 0) == expected(turning, 0, {"gamma": 0.9})
    page.keyboard.press("e")
    outcome = page.get_by_role("spinbutton", name="outcome")
    outcome.fill("3")
    page.locator(".edits li", has_text="0 → 3").wait_for()
    assert lanes(page, 1) == expected(turning, 1, {"gamma": 0.9}, (Edit("outcome", 1, 3.0),))
    page.locator(".recompute [aria-label=rewards] select").nth(1).select_option("1")
    reward = page.get_by_role("spinbutton", name="turn reward")
    reward.fill("")
    reward.press("Tab")
    page.locator(".edits li", has_text="unknown").wait_for()
    edits = (Edit("outcome", 1, 3.0), Edit("turn_reward", 4, None))
    page.locator(".credit_map .turn", has_text="turn reward edited").wait_for()
    assert lanes(page, 1) == expected(turning, 1, {"gamma": 0.9}, edits)
    w.until("() => window.python('=none', '0').then(() => true)")
    w.holds(lambda: turning.edits == edits and turning.settings == {"gamma": 0.9})
    assert turning.recipes["gigpo"].chain == recipes.gigpo(gamma=0.9).chain
    page.locator(".ledger", has_text="kept").first.wait_for()
    page.locator("summary", has_text="as Python").click()
    assert "turned(recipes.gigpo(), {'gamma': 0.9})" in page.locator("details pre").first.inner_text()
    w.shot("recompute-edited-light")
    w.theme("dark")
    w.shot("recompute-edited-dark")
    page.locator(".cw.recompute").focus()
    page.keyboard.press("z")
    page.keyboard.press("z")
    page.keyboard.press("0")
    stepped(w, {})
    w.until("() => !document.querySelector('main > div').shadowRoot.querySelector('.edits')")
    assert lanes(page, 1) == expected(turning, 1, {})
    w.clean()


def test_a_method_that_cannot_be_turned_so_says_why_and_is_marked(stand_in, fresh):
    turning = fresh()
    w = stand_in(turning)
    page = w.page
    page.get_by_label("Peers", exact=True).select_option("task_and_turn")
    stepped(w, {"peers": "task_and_turn"})
    wrong = page.locator(".recompute .wrong")
    assert "grpo is shown as it was: task_and_turn compares turns" in wrong.first.inner_text()
    said = lanes(page, 0)
    assert said["grpo (as it was)"] == expected(turning, 0, {})["grpo"]
    page.get_by_label("Peers: as the methods say").click()
    stepped(w, {})
    assert wrong.count() == 0 and lanes(page, 0) == expected(turning, 0, {})
    # Another rollout of the group: an edit of one moves the other.
    page.get_by_role("spinbutton", name="outcome").fill("9")
    page.locator(".edits li").wait_for()
    page.locator(".recompute [aria-label=rewards] select").first.select_option(index=2)
    page.locator(".credit_map .title", has_text="Mozambique/2").wait_for()
    assert lanes(page, 0) == expected(turning, 0, {}, (Edit("outcome", 1, 9.0),), n=2)
    assert page.get_by_role("spinbutton", name="outcome").input_value() == "1"
    w.clean()


def test_of_a_moving_hand_only_the_last_position_is_computed(stand_in, fresh):
    turning = fresh()
    w = stand_in(turning)
    w.asked.clear()
    w.page.get_by_label("Discount", exact=True).evaluate(
        "s => { for (let v = 90; v >= 10; v--) { s.value = v / 100; s.dispatchEvent(new Event('input')); } }"
    )
    stepped(w, {"gamma": 0.1})
    gammas = [args["knobs"]["gamma"] for name, args in w.asked if name == "step"]
    assert gammas == [0.9, 0.1]
    assert lanes(w.page, 2) == expected(turning, 2, {"gamma": 0.1})
    w.clean()


def test_an_error_of_the_kernel_is_said_and_the_map_stays(stand_in, fresh):
    w = stand_in(fresh(), wrong="RuntimeError: <img src=x onerror=window.hit=1>")
    before = lanes(w.page, 0)
    w.page.get_by_label("Discount", exact=True).press("ArrowLeft")
    w.page.locator("[role=status]", has_text="RuntimeError: <img").first.wait_for()
    assert lanes(w.page, 0) == before
    w.clean()


def test_a_file_has_the_map_and_says_that_knobs_need_a_kernel(open_page, turning, tmp_path):
    w = open_page(turning.to_html(tmp_path / "turning.html"))
    page = w.page
    page.locator(".cw.credit_map .turn").first.wait_for()
    assert "needs a kernel: show this view with .live()" in page.locator(".cw.recompute").inner_text()
    assert page.locator(".cw.recompute input[type=range]").count() == 0 and page.locator(".cw-static").is_hidden()
    assert lanes(page, 0) == expected(turning, 0, {})
    w.shot("recompute-file-light")
    w.theme("dark")
    w.shot("recompute-file-dark")
    w.clean()
    bare = open_page(turning.to_html(tmp_path / "bare.html"), script=False)
    assert "needs a kernel" in bare.page.locator(".cw-static").inner_text()


def test_hostile_text_is_shown_and_does_nothing(stand_in, hostile, hostile_strings):
    rollouts, _ = hostile[0]
    named = {text: recipes.grpo() for text in hostile_strings[:12]}
    for text in hostile_strings[:3]:
        named[f"{text} turned"] = recipes.rloo()
    w = stand_in(view.Recompute(rollouts, named))
    page = w.page
    page.get_by_label("Peers", exact=True).select_option("task_and_turn")
    page.locator(".recompute .wrong").first.wait_for()
    page.get_by_role("spinbutton", name="outcome").fill("5")
    page.locator(".edits li").wait_for()
    text = page.evaluate("document.querySelector('div').shadowRoot.textContent")
    for name in named:
        assert view.escape.visible(name) in text, name
    w.clean()


def test_axe_finds_nothing(stand_in, turning):
    w = stand_in(turning)
    assert w.axe("body") == []


@pytest.mark.slow
def test_a_hand_on_a_slider_moves_the_numbers(open_notebook, in_kernel, turning):
    w = open_notebook([in_kernel + MADE, "live = turning.live()\nlive"])
    page = w.page
    page.locator(".cw.credit_map .turn").first.wait_for(timeout=60_000)
    assert page.locator(".cw-static").is_hidden()
    assert lanes(page, 0) == expected(turning, 0, {})
    slider = page.locator(".knob input[type=range]").first
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2)
    page.mouse.down()
    for share in (0.8, 0.7, 0.6, 0.5, 0.4, 0.3):
        page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)
    page.mouse.up()
    gamma = float(slider.input_value())
    assert 0.2 < gamma < 0.4
    stepped(w, {"gamma": gamma})
    assert lanes(page, 0) == expected(turning, 0, {"gamma": gamma}) != expected(turning, 0, {})
    w.shot("recompute-light", full=False)
    w.theme("dark")
    w.shot("recompute-dark", full=False)
    page.get_by_role("spinbutton", name="turn reward").fill("4")
    page.locator(".edits li").wait_for()
    edits = (Edit("turn_reward", 3, 4.0),)
    assert lanes(page, 0) == expected(turning, 0, {"gamma": gamma}, edits)
    w.until_said("print(live.view.edits, live.view.settings)", f"{edits} {{'gamma': {gamma}}}")
    page.locator(".edits button", has_text="undo").click()
    page.locator(".edits").wait_for(state="detached")
    assert lanes(page, 0) == expected(turning, 0, {"gamma": gamma})
    w.clean()


@pytest.mark.slow
@pytest.mark.parametrize("state", ["dead", "untrusted"])
def test_without_its_kernel_the_static_map_and_a_sentence_stay(open_notebook, turning, state):
    w = open_notebook([turning.live()], state)
    static = w.page.locator(".jp-OutputArea-output table").first
    static.wait_for(timeout=60_000)
    w.page.wait_for_timeout(1000)
    assert static.is_visible()
    assert "needs a kernel: show this view with .live()" in w.page.locator(".jp-OutputArea-output").first.inner_text()
    w.shot(f"recompute-{state}", full=False)
    w.clean(ignore=("model not found",))
