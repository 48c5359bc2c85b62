"""The monitor in a browser: buttons on a real run, a kernel restart, a reload, a file, hostile text."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import time
from pathlib import Path

import pytest

from workbench.rollouts import Rollouts
from workbench.runs import Run, lock, write_json
from workbench.view import Monitor
from workbench.view.escape import visible

pytestmark = pytest.mark.browser

LAUNCH = """from workbench import envs, recipes
from workbench.train import launch
from workbench.train.plan import Plan
plan = Plan(steps=100_000, groups=2, size=4, save_every=1000)
run = launch(recipes.grpo(kl=0.0), envs.load("chain", hops=1), "tiny", plan, "monitored", keep_every=2)
run.monitor()"""
AGAIN = """from workbench.runs import Run
Run("monitored").monitor()"""
BUSY = """import time
from pathlib import Path
Path("held/busy").touch()
while Path("held/busy").exists(): time.sleep(0.05)"""
PANEL = "window.jupyterapp.shell.currentWidget"


def of_file(path: Path):
    """What another file of tests defines."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = of_file(Path(__file__).parents[1] / "view" / "test_view_run.py")  # a line of metrics, rollouts that are kept


def made(path: Path, rows, state="finished", name="grpo-chain-001", **said) -> Run:
    """A folder as a run leaves it."""
    path = path / name
    path.mkdir(parents=True)
    text = {"recipe": "grpo", "env": "Chain(hops=3)", "policy": "tiny", **said.pop("text", {})}
    write_json(path / "launch.json", {"steps": 40, "text": text, "made": "2026-11-22"})
    write_json(
        path / "status.json", {"state": state, "step": len(rows), "steps": 40, "reason": "", "notes": [], **said}
    )
    (path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return Run(path)


def add(run: Run, row, state="running") -> None:
    """What the process of a run does after a step."""
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    write_json(run.path / "status.json", {"state": state, "step": row["step"] + 1, "steps": 40})


def text(w, selector: str) -> str:
    return w.page.locator(selector).first.inner_text()


def until_text(w, selector: str, word: str, timeout: float = 60.0) -> str:
    """Wait until the text of an element holds a word; return it."""
    end = time.monotonic() + timeout
    while word not in (found := text(w, selector)):
        assert time.monotonic() < end, f"{selector}: {found!r} has no {word!r}; {w.complaints}"
        time.sleep(0.03)
    return found


def until(fact, timeout: float = 60.0) -> None:
    end = time.monotonic() + timeout
    while not fact():
        assert time.monotonic() < end, "still false"
        time.sleep(0.05)


@pytest.fixture
def nobody_trains_on(lab):
    yield
    for path in lab.folder.rglob("launch.json"):
        Run(path.parent).kill()


# ------------------------------------------------------------------------------------------------ on a real run


@pytest.mark.slow
def test_a_real_run_is_paused_left_found_again_and_stopped(open_notebook, lab, nobody_trains_on):
    w = open_notebook([LAUNCH])
    page = w.page
    page.wait_for_selector(".cw.monitor")
    run = Run(lab.folder / "monitored")
    until(lambda: run.status.step > 5)
    until_text(w, ".monitor .line", "running")
    until_text(w, ".monitor .newest", "Newest rollouts")
    for scheme in ("light", "dark"):
        w.theme(scheme)
        page.wait_for_timeout(700)
        w.shot(f"monitor-live-{scheme}")
    first = text(w, ".monitor .line")
    until(lambda: text(w, ".monitor .line") != first)

    page.get_by_role("button", name="Pause").click()
    assert "asked to pause" in text(w, ".monitor .said")  # at once
    until_text(w, ".monitor .said", "It is paused after")
    assert run.status.state == "paused" and run.good_step == run.status.step
    held = run.status.step
    time.sleep(3)
    assert run.status.step == held == len(run.metrics()) and run.alive

    page.get_by_role("button", name="Go on").click()
    until_text(w, ".monitor .line", "running")
    until(lambda: run.status.step > held + 2)

    page.evaluate(f"{PANEL}.sessionContext.restartKernel()")
    page.wait_for_timeout(1000)
    page.wait_for_function(f"{PANEL}.sessionContext.session?.kernel?.status === 'idle'", timeout=60_000)
    until_text(w, ".monitor .said", "does not answer")
    w.shot("monitor-restarted")
    before = run.status.step
    put(page, 0, AGAIN)
    until_text(w, ".monitor .line", "running")
    until(lambda: run.status.step > before)
    until(lambda: "does not answer" not in text(w, ".monitor .said"))  # the view of before goes with its output

    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    w.until(f"!{PANEL}.context.model.dirty")
    page.reload()
    page.wait_for_selector(".cw.monitor", timeout=90_000)  # its kernel is still there, and so is the widget
    now = run.status.step
    until(lambda: shown_step(w) > now)

    page.locator(".cw.monitor").focus()
    page.keyboard.press("S")
    until_text(w, ".monitor .line", "stopped")
    end = run.wait(60)
    assert end.state == "stopped" and run.checkpoints[-1].name == f"step-{end.step:08d}" and not run.alive
    said = until_text(w, ".monitor .said", "with a checkpoint")
    assert f"It stopped after {end.step:,} steps, with a checkpoint at step {end.step:,}" in said
    assert len(run.metrics()) == end.step
    w.clean()


def shown_step(w) -> int:
    words = text(w, ".monitor .line").replace(",", "").split()
    return int(words[words.index("step") + 1]) if "step" in words else -1


def put(page, cell: int, source: str) -> None:
    """Write a source into a cell and run it; does not wait."""
    page.evaluate(f"([i, s]) => {PANEL}.content.model.cells.get(i).sharedModel.setSource(s)", [cell, source])
    page.evaluate(f"i => {{ {PANEL}.content.activeCellIndex = i }}", cell)
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-cell') }")


# ------------------------------------------------------------------------------------- on a folder that we write


@pytest.fixture
def stands(lab):
    """A run in the folder of the notebooks that counts as alive: this process holds its lock."""
    held = []

    def make(name: str, **more) -> Run:
        run = made(lab.folder, [BUILD.row(n) for n in range(5)], "running", name, **more)
        held.append(lock(run.path / "lock"))
        return run

    yield make
    for handle in held:
        os.close(handle)


def test_buttons_say_at_once_that_they_were_heard_and_the_state_when_it_came(open_notebook, stands):
    run = stands("held")
    w = open_notebook(["from workbench.runs import Run\nRun('held').monitor()", "1"])
    page, line, said = w.page, ".monitor .line", ".monitor .said"
    page.wait_for_selector(".cw.monitor")
    assert page.locator(".cw-static").is_hidden()
    add(run, BUILD.row(5, alarms={"dead": "no group has any credit: take easier tasks"}))
    until_text(w, line, "step 6 of 40")
    until_text(w, ".monitor .alarms", "! dead no group has any credit: take easier tasks (in the last step)")

    put(page, 1, BUSY)  # a kernel that is busy may hear nothing, and then the page says so
    until((run.path / "busy").exists)
    page.get_by_role("button", name="Pause").click()
    assert "It was asked to pause: it finishes step 7, saves, and waits." in text(w, said)
    add(run, BUILD.row(6))
    until_text(w, line, "step 7 of 40")  # while it is busy
    # Mostly the click waits for the cell; where JupyterLab gives comms a subshell of their own it does not.
    until(lambda: "busy with a cell" in text(w, said) or run.asked == "pause")
    run.pause()  # whoever asked it: the page learns of it though the kernel is still busy
    until(lambda: "busy" not in text(w, said))
    (run.path / "busy").unlink()
    until_text(w, said, "It was asked to pause: it finishes step 8")
    assert "busy" not in text(w, said)
    add(run, BUILD.row(7), "paused")
    assert "It is paused after 8 steps" in until_text(w, said, "It is paused")

    label = page.locator(".chart > canvas").first
    until(lambda: label.get_attribute("aria-label").endswith(": 8 points; success last 35%"))

    page.locator(".cw.monitor").focus()
    page.keyboard.press("p")
    until(lambda: run.asked == "run")
    add(run, BUILD.row(8))
    until_text(w, line, "running")
    page.keyboard.press("S")
    until(lambda: run.asked == "stop")
    assert "asked to stop" in until_text(w, said, "asked to stop")
    cells = page.evaluate(f"{PANEL}.content.model.cells.length")
    for key in "xjkxddab":
        page.keyboard.press(key)
    assert page.evaluate(f"{PANEL}.content.model.cells.length") == cells
    w.clean()


@pytest.mark.parametrize("state", ["dead", "untrusted"])
def test_without_its_kernel_the_picture_of_the_run_stays(state, open_notebook, tmp_path, rollouts):
    run = made(tmp_path, [BUILD.row(n) for n in range(5)], "stopped")
    w = open_notebook([Monitor(run).live(), Monitor(run)], state)
    static = w.page.locator(".jp-OutputArea-output", has_text="grpo-chain-001").first
    static.wait_for(timeout=30_000)
    w.page.wait_for_timeout(1000)
    assert static.is_visible() and "stopped" in static.inner_text() and "success" in static.inner_text()
    w.shot(f"monitor-{state}", full=False)
    w.clean(ignore=("model not found",))


@pytest.fixture(scope="module")
def page_of(tmp_path_factory, rollouts):
    """A file of a run with rollouts, one alarm that sounds, and one that is over."""
    folder = tmp_path_factory.mktemp("monitor")
    rows = [BUILD.row(n, tokens=6.25, entropy=0.3, advantage_scale=0.5) for n in range(30)]
    rows[3]["alarms"] = {"truncated": "raise the limit"}
    rows[29]["alarms"] = {"dead": "take easier tasks"}
    run = made(folder, rows, "failed", reason="the disk is full: free space")
    BUILD.keep(run, rollouts, 29)
    return Monitor(run).to_html(folder / "monitor.html")


def test_a_file_shows_the_run_as_it_stood(open_page, page_of):
    w = open_page(page_of)
    page = w.page
    assert page.locator(".cw-static").is_hidden()
    assert "failed" in text(w, ".line") and "30 of 40" in text(w, ".line")
    assert "the disk is full: free space" in text(w, ".alarms") and "! dead take easier tasks" in text(w, ".alarms")
    assert "truncated (1 step, last from step 4)" in text(w, ".alarms")
    assert "As it stood at 20" in text(w, ".said") and "goes on from the beginning" in text(w, ".said")
    assert page.get_by_role("button", name="Stop").count() == 0
    labels = [c.get_attribute("aria-label") for c in page.locator(".chart > canvas").all()]
    assert len(labels) == 6
    assert labels[0].startswith("Success, mean outcome, 95 % interval: 30 points; success last 100%")
    assert "all failed last 25%" in labels[1] and "last 50" in labels[5]
    w.shot("monitor-light")
    w.theme("dark")
    w.shot("monitor-dark")
    w.clean()


def test_a_file_is_read_by_keys_alone(open_page, page_of):
    w = open_page(page_of)
    page = w.page
    page.locator(".cw").focus()
    page.keyboard.press("x")
    assert "rollouts 480" in text(w, ".chart-key")
    for _ in range(2):
        page.keyboard.press("x")
    assert "after 60 s" in text(w, ".chart-key")
    w.until("location.hash === '#x=seconds'")
    page.get_by_role("button", name="Gradient norm").focus()
    page.keyboard.press("Enter")
    assert "gradient_norm" in text(w, ".defined") and "Good:" in text(w, ".defined")
    page.keyboard.press("Escape")
    assert text(w, ".defined") == ""
    page.locator(".chart").first.focus()
    page.keyboard.press("Home")
    assert text(w, ".chart-key").split() == ["0%", "(0%", "to", "100%)", "after", "2", "s"]
    assert "after 2 s" in page.locator(".chart-key").nth(4).inner_text()  # all charts have one cursor
    page.keyboard.press("ArrowRight")
    assert "5%" in text(w, ".chart-key")
    page.locator(".cw").focus()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.locator(".opened .cw.credit_map").wait_for()
    assert "run0/000/Mozambique/1" in text(w, ".opened .credit_map")
    w.shot("monitor-map")
    page.keyboard.press("Escape")
    assert page.locator(".opened .cw").count() == 0
    focused = "document.querySelector('.cw-host').shadowRoot.activeElement.textContent"
    assert page.evaluate(focused) == "run0/000/Mozambique/1"
    w.clean()


def test_a_file_and_axe(open_page, page_of):
    w = open_page(page_of)
    w.page.get_by_role("button", name="Success").click()
    w.page.locator(".monitor .link").first.click()
    w.page.locator(".opened .cw.credit_map").wait_for()
    w.page.mouse.move(0, 0)
    assert w.axe() == []
    w.theme("dark")
    assert w.axe() == []


def test_a_permalink_gives_the_axis_and_nothing_else(open_page, page_of):
    w = open_page(page_of, hash="#x=tokens")
    assert "tokens 3,000" in text(w, ".chart-key")
    odd = open_page(page_of, hash="#x=__proto__&constructor=1")
    assert "step 30" in text(odd, ".chart-key")
    odd.clean()


@pytest.mark.parametrize("third", range(3))
def test_hostile_text_in_every_field_of_a_run_stays_text(open_page, tmp_path, rollouts, hostile_strings, third):
    bad = hostile_strings[third::3]
    asked = dict(zip(("recipe", "env", "policy"), bad, strict=False))
    row = BUILD.row(0, alarms={b: b for b in bad}, collapse_causes={"varied": 1, **dict.fromkeys(bad, 1)})
    rows = [row, {**row, "step": 1, "alarms": dict(zip(bad, reversed(bad), strict=True))}]
    run = made(tmp_path, rows, "failed", reason=" ".join(bad), notes=bad, text=asked)
    ids = [b for b in bad if "\ud800" not in b]  # no id of a stored rollout
    named = [dataclasses.replace(t, id=ids[n], group=ids[-1]) for n, t in enumerate(rollouts)]
    BUILD.keep(run, Rollouts(tuple(named)), 1)
    w = open_page(Monitor(run).to_html(tmp_path / "hostile.html"))
    w.page.locator(".monitor .link").first.click()
    w.page.locator(".opened .cw.credit_map").wait_for()
    w.page.get_by_role("button", name="Collapsed groups").click()
    shown = w.page.evaluate("document.querySelector('.cw-host').shadowRoot.textContent")
    for text in bad:
        assert shown.count(visible(text).strip()) >= 3 or any(c.isspace() for c in text), text
    w.clean()
