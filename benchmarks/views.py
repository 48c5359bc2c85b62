"""The interactive views in a browser, each beside the naive way in the same run.

    python benchmarks/views.py [--quick] [--rounds 5] [--only abcde]

(a) 100,000 coloured tokens: the credit map, against one element a token, coloured by its style.
(b) a heat map of 10,000 rollouts x 20 turns: first paint, and a frame while a brush moves; against a table with one
    cell a turn.
(c) a million floats from the kernel to the page, there and back by a question in JupyterLab: bytes, against JSON.
(d) what a widget opens with, against plotly's figure widget.
(e) a step of a slider in Recompute, five methods on 10,000 rollouts x 20 turns, in JupyterLab: to the new numbers on
    the screen; against recipes made and computed anew and sent as JSON (`views_recompute.py`).

"First paint" is from the call that mounts the view until the frame in which it has drawn is over. "Brush frame" is the
work for one move of the pointer and the picture that follows it, of 20 moves the third slowest. The two ways take
turns; a figure is the best of `--rounds` (others may use the machine too), with the median behind it. Prints; asserts
nothing about time. Needs Chromium and Playwright, (c) JupyterLab as well.
"""

from __future__ import annotations

import argparse
import base64
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from workbench.batch import Batch
from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.trajectory import Message, Sequence, Span, Trajectory, Turn
from workbench.view import CreditMap, sources
from workbench.view.pack import pack
from workbench.view.payload.heat import heat
from workbench.view.shots import chromium

# ---------------------------------------------------------------------------------------------------- what is drawn


def long_rollout(tokens: int, turns: int = 50, seed: int = 0) -> tuple[Rollouts, Credit]:
    """One rollout of many sampled tokens, and a credit for every one of them."""
    draw = np.random.default_rng(seed)
    words = np.array(["search", " the", " country", " whose", " capital", " is", ",", " and", "\n", " answer"])
    played, spans = [], []
    for k in range(turns):
        pieces = tuple(words[draw.integers(0, len(words), tokens // turns)].tolist())
        message = Message(f"m{k}", "assistant", "".join(pieces))
        played.append(Turn(message))
        spans.append(Span(tuple(range(len(pieces))), "sampled", k, message.id, None, pieces))
    t = Trajectory("long", "g", (), tuple(played), (Sequence(tuple(spans)),), outcome=1.0)
    count = len(spans[0]) * turns
    # neighbours differ in sign and size, the worst case for merging equal ones into runs
    values = torch.tensor(draw.normal(size=count))
    return Rollouts((t,)), Credit(values, "token", torch.ones(count, dtype=torch.bool))


def many_turns(rollouts: int, turns: int, methods: int = 2, seed: int = 0) -> dict[str, Any]:
    """The payload of a heat map: every rollout has all its turns."""
    draw = np.random.default_rng(seed)
    batch = Batch.of_maps(np.repeat(np.arange(rollouts), turns), np.arange(rollouts) // 8)
    batch = batch.with_column("outcome", "trajectory", torch.tensor((draw.random(rollouts) < 0.4) * 1.0))
    known = torch.tensor(draw.random(rollouts * turns) > 0.05)
    every = {f"method {m}": torch.tensor(draw.normal(size=rollouts * turns)) for m in range(methods)}
    return heat(batch, {name: Credit(values, "turn", known) for name, values in every.items()})


# -------------------------------------------------------------------------------------------------- in the browser

# Resolves when the frame in which `drawn()` first holds is over.
PAINTED = """
const painted = async (drawn) => {
  for (;;) {
    await new Promise(requestAnimationFrame);
    if (drawn()) break;
  }
  const channel = new MessageChannel();
  await new Promise(resolve => { channel.port1.onmessage = resolve; channel.port2.postMessage(0); });
  return performance.now();
};
const bytes = (text) => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const source = (kind, data) =>
  ({ kind, name: kind, title: kind, link: null, data, style, state: {}, page: false, wire: null });
document.body.replaceChildren();
const place = document.createElement("div");
place.style.width = "1080px";
document.body.append(place);
"""

MAP = """async ([data]) => { %s
  const payload = core.unpack(bytes(data));
  const began = performance.now();
  core.mount(views.credit_map, place, source("credit_map", payload));
  const ended = await painted(() => place.shadowRoot.querySelector(".block span[class]"));
  return [ended - began];
}"""

SPANS = """async ([data]) => { %s
  const p = core.unpack(bytes(data));
  const began = performance.now();
  const { values, status } = p.methods[0];
  for (let i = 0; i < p.ends.length; i++) {
    const span = document.createElement("span");
    span.textContent = p.text.slice(i ? p.ends[i - 1] : 0, p.ends[i]);
    span.style.backgroundColor = status[i] ? "" : core.wash(core.level(values[i], p.scale.full));
    place.append(span);
  }
  const ended = await painted(() => place.offsetHeight > 0);
  return [ended - began];
}"""

# A move of the pointer, and the picture that follows it: the handler, and what it asked to be drawn in the next frame.
BRUSH = """
const brushed = async (move, moves) => {
  const spent = [];
  for (let i = 0; i < moves; i++) {
    let from = 0;
    requestAnimationFrame(() => { from = performance.now(); });
    const began = performance.now();
    move(i);
    const handled = performance.now() - began;
    const drawn = await new Promise(resolve => requestAnimationFrame(() => {
      void document.body.offsetHeight;
      resolve(performance.now() - from);
    }));
    spent.push(handled + drawn);
  }
  return spent.sort((a, b) => a - b)[Math.floor(0.9 * spent.length)];
};
"""

HEAT = """async ([data]) => { %s
  const payload = core.unpack(bytes(data));
  let drawn = false;
  const put = CanvasRenderingContext2D.prototype.putImageData;
  CanvasRenderingContext2D.prototype.putImageData = function (image, ...at) {
    drawn ||= image.width > 500;
    return put.call(this, image, ...at);
  };
  const began = performance.now();
  core.mount(views.turn_heat, place, source("turn_heat", payload));
  const ended = await painted(() => drawn);
  CanvasRenderingContext2D.prototype.putImageData = put;
  const canvas = place.shadowRoot.querySelector("canvas[role=img]");
  const box = canvas.getBoundingClientRect();
  canvas.setPointerCapture = () => {};
  const fire = (name, x, y) =>
    canvas.dispatchEvent(new PointerEvent(name, { clientX: box.left + x, clientY: box.top + y }));
  // in the head of the picture a brush takes all rollouts: the most there is
  fire("pointerdown", 260, 40);
  const most = await brushed((i) => fire("pointermove", 270 + 10 * i, 40), 20);
  fire("pointerup", 300, 40);
  fire("pointerdown", 260, 100);
  const some = await brushed((i) => fire("pointermove", 270 + 5 * i, 110 + 15 * i), 20);
  return [ended - began, most, some];
}"""

CELLS = """async ([data]) => { %s
  const p = core.unpack(bytes(data));
  const began = performance.now();
  const table = document.createElement("table");
  for (let n = 0, k = 0; n < p.count; n++) {
    const row = document.createElement("tr");
    for (; k < p.ends[n]; k++) {
      const cell = document.createElement("td");
      cell.style.cssText = "width:12px;height:3px;padding:0";
      cell.style.backgroundColor = p.status[0][k] ? "" : core.wash(core.level(p.values[0][k], p.scale.full));
      row.append(cell);
    }
    table.append(row);
  }
  place.append(table);
  const ended = await painted(() => table.offsetHeight > 0);
  const look = document.createElement("style");
  look.textContent = "td.on { outline: 1px solid }";
  place.append(look);
  const some = await brushed((i) => {
    for (const row of [...table.rows].slice(0, 10 + 5 * i)) {
      for (const cell of [...row.cells].slice(0, i)) cell.classList.add("on");
    }
  }, 3);
  return [ended - began, NaN, some];
}"""


class Ways(NamedTuple):
    """Ours and the naive way, with what a run of each returns."""

    kind: str
    ours: str
    naive: str
    data: dict[str, Any]


class Spread(NamedTuple):
    """Best and median of several runs."""

    best: float
    median: float


def spread(values: Iterable[float]) -> Spread:
    listed = list(values)
    return Spread(min(listed), statistics.median(listed))


def measured(browser: Any, ways: Ways, rounds: int) -> tuple[list[Spread], list[Spread]]:
    """Run both ways in turn, each time in a new page; return what they measure, in ms."""
    script = sources.widget_script((ways.kind,)).rsplit("export default", 1)[0]
    data = base64.b64encode(pack(ways.data)).decode()
    found: dict[str, list[list[float]]] = {"ours": [], "naive": []}
    for _ in range(rounds):
        for name, code in (("ours", ways.ours), ("naive", ways.naive)):
            page = browser.new_page(viewport={"width": 1160, "height": 900})
            found[name].append(page.evaluate(code.replace("%s", script + PAINTED + BRUSH, 1), [data]))
            page.close()
    ours, naive = ([spread(v) for v in zip(*found[name], strict=True)] for name in ("ours", "naive"))
    return ours, naive


def line(what: str, ours: Spread, naive: Spread | None, target: float, unit: str = "ms") -> None:
    """Print one row."""
    told = f"{ours.best:9,.1f} ({ours.median:,.1f}) {unit}"
    beside = f"{naive.best:9,.1f} ({naive.median:,.1f}) {unit}  {naive.best / ours.best:6.1f} x" if naive else ""
    print(f"{what:40s} {told:24s} {beside:36s} target {target:,.0f} {unit}", flush=True)


# --------------------------------------------------------------------------------------------------- in a notebook

FLOATS = """
import numpy as np
from workbench import view
from workbench.view.reprs import Picture
from workbench.view.html.parts import frame, note

values = np.random.default_rng(0).normal(size={count}).astype(np.float32)

class Floats(view.View):
    kind = "floats"
    def picture(self, *, wide=False):
        return Picture({{"kind": "card", "title": "", "facts": []}}, lambda data, budget: frame(note("floats")))
    def interactive(self):
        return {{}}
    def answers(self):
        return {{"bytes": lambda *_: {{"values": values}}, "json": lambda *_: {{"values": values.tolist()}}}}

from pathlib import Path
from workbench.view import sources
import shutil
place = Path("sources"); place.mkdir(exist_ok=True)
for name in ("core.js", "core.css"): shutil.copy(sources.folder() / name, place / name)
(place / "floats.js").write_text({code!r})
place = place.resolve()
sources.folder = lambda: place
Floats().live()
"""
FLOATS_JS = """import { el } from "./core.js";
export function view(ctx) {
  window.floats = async (how) => {
    const began = performance.now();
    const { values } = await ctx.ask(how);
    const array = values instanceof Float32Array ? values : Float32Array.from(values);
    const last = array[array.length - 1];
    return [performance.now() - began, array.length, last];
  };
  ctx.root.append(el("p", null, "ready"));
}
"""


@contextmanager
def lab(folder: Path) -> Iterator[str]:
    """Run a JupyterLab on a folder; yield its address."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    places = {f"JUPYTER_{name}_DIR": str(folder / f".{name.lower()}") for name in ("CONFIG", "DATA", "RUNTIME")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True"]
    with open(folder / ".log", "w") as log:
        server = subprocess.Popen(command, env={**os.environ, **places}, stdout=log, stderr=log, cwd=folder)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status", timeout=2).close()
                break
            except OSError:
                time.sleep(0.4)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=20)


def transport(browser: Any, count: int, rounds: int) -> tuple[Spread, Spread]:
    """Return the ms from a question in the page to its answer in a typed array: by bytes, by JSON."""
    import nbformat

    with tempfile.TemporaryDirectory() as name, lab(Path(name)) as address:
        cell = nbformat.v4.new_code_cell(FLOATS.format(count=count, code=FLOATS_JS))
        notebook = nbformat.v4.new_notebook(cells=[cell])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, Path(name) / "n.ipynb")
        page = browser.new_page()
        page.goto(f"{address}/doc/tree/n.ipynb?reset")
        panel = "window.jupyterapp?.shell.currentWidget"
        page.wait_for_function(f"{panel}?.sessionContext?.session?.kernel?.status === 'idle'", timeout=120_000)
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for_function("typeof window.floats === 'function'", timeout=120_000)
        page.wait_for_timeout(1_000)
        found: dict[str, list[float]] = {"bytes": [], "json": []}
        for _ in range(rounds):
            for how in found:
                ms, length, _ = page.evaluate("how => window.floats(how)", how)
                assert length == count, (how, length)
                found[how].append(ms)
        page.close()
    return spread(found["bytes"]), spread(found["json"])


def opening(kind: str) -> int:
    """Return the bytes of a widget's opening message, its data apart."""
    return len(sources.widget_script((kind,)).encode()) + 1_000  # names and empty traits


def figure_widget() -> float:
    """Return the bytes of plotly's widget, or NaN without it."""
    try:
        from plotly.basewidget import BaseFigureWidget
    except ImportError:
        return float("nan")
    esm = getattr(BaseFigureWidget, "_esm", "")
    return float(len(Path(esm).read_bytes()) if isinstance(esm, Path) else len(str(esm).encode()))


# ------------------------------------------------------------------------------------------------------------- run


def in_pages(browser: Any, small: Callable[[int], int], rounds: int, only: str) -> None:
    """Print (a) and (b)."""
    if "a" in only:
        r, credit = long_rollout(small(100_000))
        payload = CreditMap(r, 0, {"m": credit}).interactive()
        ours, naive = measured(browser, Ways("credit_map", MAP, SPANS, payload), rounds)
        line(f"(a) {small(100_000):,} coloured tokens, first paint", ours[0], naive[0], 350)
    if "b" in only:
        ours, naive = measured(browser, Ways("turn_heat", HEAT, CELLS, many_turns(small(10_000), 20)), rounds)
        line(f"(b) heat map {small(10_000):,} x 20, first paint", ours[0], naive[0], 80)
        line("    a brush frame, all rollouts", ours[1], None, 16)
        line("    a brush frame, some rollouts", ours[2], naive[2], 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="abcde", help="letters of the parts to run")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    def small(n: int) -> int:
        return n // 10 if args.quick else n

    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; ours, the naive way, how many times as long")
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        in_pages(browser, small, args.rounds, args.only)
        if "c" in args.only:
            ours, naive = transport(browser, small(1_000_000), args.rounds)
            line(f"(c) {small(1_000_000):,} floats to the page", ours, naive, 150)
        if "e" in args.only:
            from views_recompute import slider_steps

            ours, naive = map(spread, slider_steps(browser, lab, small(10_000), 20, args.rounds))
            line(f"(e) a slider's step, {small(10_000):,} rollouts", ours, naive, 100)
        browser.close()
    for kind in ("credit_map", "turn_heat") if "d" in args.only else ():
        sizes = [opening(kind) / 1000, figure_widget() / 1000]
        ours, naive = (Spread(size, size) for size in sizes)
        line(f"(d) opening message of {kind}", ours, naive, 300, "kB")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
