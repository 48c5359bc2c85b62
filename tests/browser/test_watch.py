"""A run launched from a cell, watched, left by its kernel, found again, and ended with a checkpoint."""

from __future__ import annotations

import pytest

from workbench.runs import Run

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LAUNCH = """from workbench import envs, recipes
from workbench.train import launch
from workbench.train.plan import Plan
plan = Plan(steps=100_000, groups=2, size=4, save_every=1000)
run = launch(recipes.grpo(kl=0.0), envs.load("chain", hops=1), "tiny", plan, "watched", keep_every=2)
run"""
WATCH = """import time
while run.status.step < 6:
    assert run.alive, run.log()
    time.sleep(0.1)
run.watch()"""
AGAIN = """from workbench.runs import Run
run = Run("watched")
run.watch(follow=True, every_s=0.3)
print("after it")"""
STOP = """run.stop()
print(run.wait(60).state, run.checkpoints[-1].name, run.status.step)"""

PANEL = "window.jupyterapp.shell.currentWidget"
OUTPUTS = (
    "i => [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')][i].querySelectorAll('.jp-OutputArea-output')"
)
TEXT = f"i => [...({OUTPUTS})(i)].map(e => e.innerText)"
HEIGHT = f"i => [...({OUTPUTS})(i)].find(e => e.querySelector('svg.main-svg'))?.clientHeight"


@pytest.fixture
def nobody_trains_on(lab):
    yield
    for path in lab.folder.rglob("launch.json"):
        Run(path.parent).kill()


def put(page, cell: int, source: str) -> None:
    """Write a source into a cell and run it; does not wait."""
    page.evaluate(f"([i, s]) => {PANEL}.content.model.cells.get(i).sharedModel.setSource(s)", [cell, source])
    page.evaluate(f"i => {{ {PANEL}.content.activeCellIndex = i }}", cell)
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-cell') }")  # its promise is not awaited


def outputs(watched, cell: int, word: str, timeout: float = 60.0) -> list[str]:
    """Wait until the outputs of a cell hold a word; return their texts."""
    watched.until(f"([i, w]) => ({TEXT})(i).some(t => t.includes(w))", [cell, word], timeout)
    return watched.page.evaluate(TEXT, cell)


def test_a_run_is_watched_left_found_again_and_stopped(open_notebook, lab, nobody_trains_on):
    w = open_notebook([LAUNCH, WATCH])
    path = next(lab.folder.rglob("launch.json")).parent
    shown = outputs(w, 1, "Newest rollouts")
    assert len(shown) == 3 and "running" in shown[0] and "success" in shown[0] and "with the credit" in shown[2]
    for scheme in ("light", "dark"):
        w.theme(scheme)
        w.page.wait_for_timeout(1500)  # until the new theme is drawn: what is asked is that it stays unfolded
        w.shot(f"watch-{scheme}")
        w.holds(
            lambda: (w.page.evaluate(HEIGHT, 1) or 0) > 300
        )  # a change of theme folded a responsive plot to nothing

    w.page.evaluate(f"{PANEL}.sessionContext.restartKernel()")
    w.page.wait_for_timeout(1000)
    w.page.wait_for_function(f"{PANEL}.sessionContext.session?.kernel?.status === 'idle'", timeout=60_000)
    run = Run(path)
    before = run.status.step
    assert run.alive
    put(w.page, 0, AGAIN)
    first = outputs(w, 0, "running")[0]
    w.until(f"([i, t]) => {{ const now = ({TEXT})(i); return now.length === 3 && now[0] !== t }}", [0, first])
    assert "after it" not in "".join(w.page.evaluate(TEXT, 0))
    w.page.evaluate(f"{PANEL}.sessionContext.session.kernel.interrupt()")
    assert "Watching ended here; the run goes on" in outputs(w, 0, "after it")[0]
    assert run.alive and run.status.step > before

    put(w.page, 1, STOP)
    outputs(w, 1, "stopped")
    said = w.holds(lambda: len(words := w.page.evaluate(TEXT, 1)[0].split()) == 3 and words)
    assert said == ["stopped", run.checkpoints[-1].name, str(run.status.step)] and not run.alive
    assert int(said[1].removeprefix("step-")) == int(said[2]) == len(run.metrics())
    w.clean()


def test_following_ends_with_the_run(open_notebook, lab, nobody_trains_on):
    short = LAUNCH.replace("100_000", "8").replace("watched", "short")
    w = open_notebook([f"{short.removesuffix('run')}run.watch(follow=True, every_s=0.3)"])
    shown = outputs(w, 0, "finished")
    assert len(shown) == 3 and "step 8 of 8" in shown[0] and "workbench.policy.load(run.weights)" in shown[0]
    assert "step 8" in shown[2]
    w.holds(lambda: (w.page.evaluate(HEIGHT, 0) or 0) > 300)
    w.clean()
