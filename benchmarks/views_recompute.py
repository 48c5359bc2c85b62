"""A step of a slider to all shown methods on the screen, in JupyterLab; part (e) of `views.py`, which see.

Ours computes what the slider reaches, in the kernel, and sends the rollout on the screen. The naive way makes the
recipes anew, computes them from nothing, and sends the credit of all turns as JSON; the page draws the same.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

METHODS = ("grpo", "gigpo", "matchtir", "igpo", "a2tgpo")

CELL = """
import numpy as np, torch
torch.set_num_threads(1)
from workbench import recipes, view
from workbench.batch import make_column
from workbench.recompute import turned
from workbench.rollouts import Rollouts
from workbench.trajectory import Message, Trajectory, Turn
from workbench.view.payload.recompute import settings_of
from workbench.view.recompute import Now

n, turns, draw = {rollouts}, {turns}, np.random.default_rng(0)
rewards = draw.random((n, turns))
said = [Message(f"m{{k}}", "assistant", f"step {{k}}") for k in range(turns)]
played = tuple(
    Trajectory(
        f"r{{i}}", f"g{{i // 8}}", (),
        tuple(Turn(said[k], reward=float(rewards[i, k]), state_key=f"s{{k}}") for k in range(turns)),
        outcome=float(draw.random() < 0.4),
    )
    for i in range(n)
)
made = lambda values, level: make_column("made", level, torch.tensor(values), None, len(values))
rollouts = Rollouts(played, {{
    "match_turn_reward": made(draw.random(n * turns), "turn"),
    "gold_logprob": made(-draw.random(n * turns), "turn"),
    "gold_logprob_start": made(np.full(n, -2.0), "trajectory"),
}})
methods = [getattr(recipes, name)() for name in {methods!r}]

class Naive(view.Recompute):
    def _now(self, state):
        settings, batch = settings_of(state.get("knobs") or {{}}), self.rollouts.batch()
        every = {{name: turned(recipe, settings) for name, recipe in self.given.items()}}
        self.all = {{name: recipe.credit(batch, "turn") for name, recipe in every.items()}}
        return Now(batch, settings, (), every, self.all, {{}})

    def _step(self, args, call):
        answer = super()._step(args, call)
        return {{**answer, "all": {{name: credit.tolist() for name, credit in self.all.items()}}}}
"""
SHOW = "{kind}(rollouts, methods, scale=2.0).live()"

# From the hand's move to the frame in which the new numbers are, for one widget of the notebook.
STEPS = """async ([which, values]) => {
  const all = (root) =>
    [...root.querySelectorAll('*')].flatMap(e => e.shadowRoot ? [e.shadowRoot, ...all(e.shadowRoot)] : []);
  const turn = () => new Promise(done => {
    const channel = new MessageChannel();
    channel.port1.onmessage = done;
    channel.port2.postMessage(0);
  });
  const root = all(document).map(s => s.querySelector('.cw.recompute')).filter(Boolean)[which];
  const slider = root.querySelector('input[type=range]');
  const spent = [];
  for (const value of values) {
    const began = performance.now();
    slider.value = value;
    slider.dispatchEvent(new Event('input'));
    const shown = JSON.stringify({gamma: Number(slider.value)});
    while (root.dataset.step !== shown) await new Promise(done => setTimeout(done, 1));
    await new Promise(requestAnimationFrame);
    await turn();
    spent.push(performance.now() - began);
    await new Promise(r => setTimeout(r, 30));
  }
  return spent;
}"""


def slider_steps(browser: Any, lab: Any, rollouts: int, turns: int, steps: int) -> tuple[list[float], list[float]]:
    """Return the ms of each step of the slider on the discount: ours, the naive way."""
    import nbformat

    with tempfile.TemporaryDirectory() as name, lab(Path(name)) as address:
        first = CELL.format(rollouts=rollouts, turns=turns, methods=METHODS)
        cells = [first, SHOW.format(kind="view.Recompute"), SHOW.format(kind="Naive")]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, Path(name) / "n.ipynb")
        page = browser.new_page(viewport={"width": 1280, "height": 2400})
        page.goto(f"{address}/doc/tree/n.ipynb?reset")
        panel = "window.jupyterapp?.shell.currentWidget"
        page.wait_for_function(f"{panel}?.sessionContext?.session?.kernel?.status === 'idle'", timeout=120_000)
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.locator(".cw.recompute[data-drawn] .cw.credit_map .turn").first.wait_for(timeout=240_000)
        page.wait_for_function(
            f"[...{panel}.content.model.cells].every(c => c.executionCount && c.executionState !== 'running')",
            timeout=240_000,
        )
        page.locator(".cw.credit_map").nth(1).wait_for(timeout=240_000)
        found: tuple[list[float], list[float]] = ([], [])
        for i in range(steps):  # the two take turns; the hand rests in between
            for which, values in enumerate(found):
                gammas = [round(0.9 - 0.04 * i - 0.01 * k, 2) for k in range(3)]
                values.extend(page.evaluate(STEPS, [which, gammas])[1:])  # the first meets the rest before it
                page.wait_for_timeout(1_500)
        page.close()
    return found
