"""Knobs and edits in a browser: a hand on a slider, an edited reward, and what is left without a kernel."""

from __future__ import annotations

import json
import re

import pytest

from workbench import view
from workbench.recompute import Memory, edited, recompute

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


@pytest.fixture(scope="module")
def turning(rollouts) -> view.Recompute:
    names = {"rollouts": rollouts, "view": view}
    exec(MADE, names)
    return names["turning"]


def lanes(page, k: int) -> dict[str, str]:
    """What the map says of turn k: a number by method."""
    said = page.locator(".cw.credit_map .turn").nth(k).locator(".lane").evaluate_all(
        "all => all.map(l => [l.querySelector('.name').textContent, l.querySelector('.num').textContent])"
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
    w.until("k => document.querySelector('.cw-none') || true", None)
    wanted = json.dumps(knobs, separators=(",", ":"))
    w.page.locator(f".cw.recompute[data-step='{wanted}']").wait_for(timeout=30_000)


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
