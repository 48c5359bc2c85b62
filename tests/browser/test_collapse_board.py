"""The collapse board and curves in a browser: by keys alone, links, permalinks, hostile text, odd runs, four states."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from workbench import store, view
from workbench.batch import Provenance
from workbench.rollouts import Rollouts
from workbench.runs import Run, write_json
from workbench.view import CollapseBoard, Curves, TurnHeat

pytestmark = pytest.mark.browser

CAUSES = ("all failed", "all truncated", "unparsable", "all solved", "all equal", "single survivor", "unknown")


def row(step: int, causes: dict[str, int], **more: Any) -> dict[str, Any]:
    share = 1 - causes.get("varied", 0) / max(1, sum(causes.values()))
    made = {"collapsed": share, "collapsed_low": 0.5 * share, "collapsed_high": min(1.0, share + 0.2), "forecast": 0.4}
    made |= {"dead_groups": share, "shaping_only": 0.0, "sign_balance": -0.7, "gradient_norm": 1 + 0.1 * (step % 5)}
    made |= {"outcome": step / 12, "tokens_known": 90, "tokens_unknown": 0, "tokens_dropped": 6, "tokens": 12.0}
    return {"step": step, "collapse_causes": causes, "alarms": {}, "seconds": 2.0, "clip_share": 0.05, **made, **more}


def rows(steps: int = 12) -> list[dict[str, Any]]:
    """Every cause, fewer from step to step."""
    return [row(s, {c: max(0, 3 - (s + k) // 4) for k, c in enumerate(CAUSES)} | {"varied": s}) for s in range(steps)]


@pytest.fixture
def make(tmp_path, rollouts):
    def made(
        found: list[dict[str, Any]], kept: tuple[int, ...] = (), name: str = "grpo-001", played: Any = None
    ) -> Run:
        path = tmp_path / name
        path.mkdir()
        write_json(path / "launch.json", {"steps": len(found), "text": {"recipe": "grpo", "env": "Chain()"}})
        write_json(path / "status.json", {"state": "finished", "step": len(found), "steps": len(found), "reason": ""})
        (path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in found))
        played = rollouts if played is None else played
        values = [((i * 37) % 19 - 9) / 7 for i in range(played.batch().count("token"))]
        credit = Provenance("training", {"recipe": "grpo"})
        for step in kept:
            store.write(
                path / "trajectories" / f"step-{step:08d}",
                played.with_column("training_credit", "token", values, None, credit),
            )
        return Run(path)

    return made


def text(watched: Any, inside: str) -> str:
    return watched.page.locator(f".cw {inside}").first.inner_text()


def test_by_keys_alone_a_step_a_group_and_a_rollout_open_and_close(make, open_page, tmp_path, rollouts, credits):
    board = CollapseBoard(make(rows(), kept=(3, 11)))
    heat = TurnHeat(rollouts, credits)
    watched = open_page(view.html_page([board, heat], tmp_path / "board.html"))
    page, key = watched.page, watched.page.keyboard
    page.locator(".cw .stack").focus()
    assert "step 12: " in text(watched, ".readout") and "rollouts kept" in text(watched, ".readout")
    key.press("ArrowLeft")
    assert text(watched, ".readout").startswith("step 11:")
    key.press("Enter")
    watched.reads(".cw.collapse_board", "The rollouts of this step were not kept", "Kept: 4, 12.")
    key.press("ArrowRight")
    key.press("Enter")
    page.locator(".cw .groups").wait_for()
    assert "1 of 2 groups cannot be told apart" in page.locator(".cw.collapse_board").inner_text()
    key.press("j")
    key.press("Enter")
    watched.holds(lambda: page.locator(".cw .rollouts button").count() == 4)
    watched.reads(".cw.turn_heat", "Finland/0")  # the linked view shows what is selected
    key.press("j")
    key.press("Enter")
    page.locator(".cw.credit_map").wait_for()
    watched.until("location.hash.includes('open')")
    hash = page.evaluate("location.hash")
    assert "v1.step=12" in hash and "v1.group=Finland" in hash
    for closed in (".cw.credit_map", ".cw .rollouts", ".cw .groups"):
        key.press("Escape")
        page.locator(closed).wait_for(state="detached")
    assert page.evaluate("document.querySelector('.cw-host').shadowRoot.activeElement.className") == "stack"
    again = open_page(tmp_path / "board.html", hash=hash)
    again.page.locator(".cw.credit_map").wait_for()
    for one in (watched, again):
        one.clean()


def test_a_cause_shows_its_groups_alone(make, open_page, tmp_path):
    watched = open_page(CollapseBoard(make(rows(), kept=(11,))).to_html(tmp_path / "board.html"))
    page = watched.page
    page.locator(".cw .legend button", has_text="all failed").click()
    page.locator(".cw .groups").wait_for()
    assert page.locator(".cw .groups tbody tr").count() == 1 and "only all failed: 1 of 2" in text(watched, "")
    assert "take easier tasks" in text(watched, "")
    page.get_by_role("button", name="all causes").click()
    assert page.locator(".cw .groups tbody tr").count() == 2
    watched.clean()


def test_tiles_say_what_they_are_and_where_the_threshold_is(make, open_page, tmp_path, rollouts, credits):
    run = open_page(CollapseBoard(make(rows(), kept=(11,))).to_html(tmp_path / "run.html"), scheme="dark")
    said = text(run, "")
    assert "! Advantage sign balance −0.7, beyond the threshold, −0.5 to 0.5; beyond it in 12 of 12 steps" in said
    run.page.locator(".cw .tile summary").first.click()
    run.page.get_by_text("If not: ").first.wait_for()  # made when it is opened
    assert "If not: See collapse_causes" in text(run, ".tile").replace("`", "")
    run.shot("collapse-dark")
    one = open_page(CollapseBoard(rollouts, credits).to_html(tmp_path / "one.html"))
    said = text(one, "")
    assert "P(dead)" in said and "32%" in said and "MatchTIR" in said and "one batch of 2 groups" in said
    one.shot("collapse-batch-light")
    for watched in (run, one):
        watched.clean()
    for watched in (run, one):
        assert watched.axe() == []


UNKNOWN = {"collapsed": None, "forecast": None, "dead_groups": None, "sign_balance": None, "collapsed_low": None}
ODD = {
    "empty": [],
    "one": [row(0, {"all failed": 2})],
    "unknown": [row(s, {"unknown": 4}, **UNKNOWN) for s in range(3)],
    "none": [row(0, {}), row(1, {})],
    "long": [row(s, {"varied": 1, "all solved": s % 3}) for s in range(1_000)],
}


@pytest.mark.parametrize(
    "name", ["empty", "one", "unknown", *(pytest.param(n, marks=pytest.mark.slow) for n in ("none", "long"))]
)
def test_odd_runs_draw_sensibly(make, open_page, tmp_path, name):
    watched = open_page(CollapseBoard(make(ODD[name])).to_html(tmp_path / "odd.html"))
    assert "could not be drawn" not in text(watched, "")
    if ODD[name]:
        watched.page.locator(".cw .stack").focus()
        watched.page.keyboard.press("ArrowLeft")
        watched.page.keyboard.press("Enter")
        watched.reads(".cw", "so its groups cannot be opened")
    watched.clean()


@pytest.mark.parametrize("third", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_hostile_text_is_shown_and_does_nothing(make, open_page, tmp_path, hostile, hostile_strings, third):
    played, credits = hostile[third]
    whole = str.maketrans({"\ud800": "?"})  # a store holds no halves of pairs
    kept = Rollouts(tuple(replace(t, id=t.id.translate(whole), group=t.group.translate(whole)) for t in played))
    names = hostile_strings[15 * third : 15 * third + 12]
    found = [row(s, dict.fromkeys(names, 1), alarms=dict.fromkeys(names, names[0])) for s in range(2)]
    whole_names = [n.translate(whole) for n in names]
    frame = pd.DataFrame([{"method": n, "seed": n, "step": s, "outcome": 0.5} for n in whole_names for s in (1, 2)])
    shown = [CollapseBoard(make(found, (1,), played=kept)), CollapseBoard(played, credits), Curves(frame)]
    watched = open_page(view.html_page(shown, tmp_path / "hostile.html"))
    first = watched.page.locator(".cw.collapse_board").first
    first.locator(".stack").focus()
    watched.page.keyboard.press("Enter")
    first.locator(".groups .link").click()
    first.locator(".rollouts button").click()
    watched.page.locator(".cw.credit_map").wait_for()
    said = " ".join(watched.page.locator(".cw").all_inner_texts())
    assert "could not be drawn" not in said and not set("\u202e\u2066\u2069\u200b") & set(said)
    for name in names[:8]:
        assert " ".join(view.escape.visible(name).split())[:30] in " ".join(said.split())
    watched.clean()


def curves() -> Curves:
    wide = [(m, s, t) for m in ("grpo", "gigpo") for s in range(3) for t in range(1, 41)]
    frame = pd.DataFrame(wide, columns=["method", "seed", "step"])
    outcome = 1 - 0.97 ** (frame["step"] * (1 + (frame["method"] == "gigpo"))) + 0.02 * frame["seed"]
    return Curves(frame.assign(outcome=outcome.clip(0, 1), seconds=2.0 * frame["step"]), smooth=5)


def test_curves_in_a_file_change_their_axis(open_page, tmp_path):
    watched = open_page(curves().to_html(tmp_path / "curves.html"), scheme="dark")
    page = watched.page
    assert "last, step 40" in text(watched, "") and "Student's 95 % interval" in text(watched, "")
    page.locator(".cw").focus()
    page.keyboard.press("x")
    assert "last, seconds 80 s" in text(watched, "")
    watched.until("location.hash === '#x=seconds'")
    watched.shot("curves-dark")
    watched.clean()
    assert watched.axe() == []


# ------------------------------------------------------------------------------------------------------- notebooks


@pytest.mark.slow
@pytest.mark.parametrize("state", ["dead", "untrusted"])
def test_without_a_kernel_the_pictures_are_there(make, open_notebook, state):
    board = CollapseBoard(make(rows(), kept=(11,)))
    watched = open_notebook([board.live(), curves()], state)
    page = watched.page
    page.locator(".jp-OutputArea-output img[alt*='Collapsed groups by cause']").first.wait_for()
    page.locator(".js-plotly-plot .main-svg").first.wait_for(timeout=60_000)
    assert "what it is, and what is good" in page.locator(".jp-OutputArea-output").first.inner_text()
    watched.shot(f"collapse-curves-{state}", full=False)
    watched.clean(
        ("Error displaying widget", "widget model not found", "Could not create a view", "Could not open comm")
    )


@pytest.mark.slow
def test_live_it_asks_the_kernel_for_groups_and_maps(make, open_notebook):
    run = make(rows(), kept=(3, 11))
    lines = ["from workbench.runs import Run", "from workbench.view import CollapseBoard"]
    source = "\n".join([*lines, f"CollapseBoard(Run({str(run.path)!r})).live()"])
    watched = open_notebook([source, "1"])
    page = watched.page
    page.locator(".cw .stack").focus()
    page.keyboard.press("Enter")
    page.locator(".cw .groups .link").first.wait_for()
    page.locator(".cw .groups .link").first.click()
    page.locator(".cw .rollouts button").first.click()
    page.locator(".cw.credit_map").wait_for()
    page.get_by_role("button", name="look again").click()
    watched.shot("collapse-live", full=False)
    watched.clean()
