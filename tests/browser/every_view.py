"""Every view of given rollouts and of a run of them, for what is asked of all views alike."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from workbench import recipes, view
from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.runs import Run, write_json
from workbench.view.watching import RunView

LIVE = (
    "CreditMap",
    "TurnHeat",
    "CollapseBoard of rollouts",
    "Recompute",
    "CollapseBoard of a run",
    "Curves",
    "Monitor",
)
STILL = ("Overview", "Ribbons", "RunView")
OF_ROLLOUTS = ("CreditMap", "TurnHeat", "CollapseBoard of rollouts", "Recompute", "Overview", "Ribbons")


def of_file(path: Path) -> Any:
    """Return what another file of tests defines."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


BUILD = of_file(Path(__file__).parents[1] / "view" / "test_view_run.py")  # a line of metrics, rollouts that are kept


def of_rollouts(r: Rollouts, credits: Mapping[str, Credit], names: list[str]) -> dict[str, view.View]:
    """Return every view of rollouts; `names` are those of recipes."""
    method = replace(recipes.grpo(), name=names[0])
    return {
        "CreditMap": view.CreditMap(r, 0, credits),
        "TurnHeat": view.TurnHeat(r, credits),
        "CollapseBoard of rollouts": view.CollapseBoard(r, credits),
        "Recompute": view.Recompute(r, {name: recipes.grpo() for name in names}),
        "Overview": view.Overview(r, credits),
        "Ribbons": view.Ribbons(r, 0, method),
    }


def of_run(run: Run, names: list[str]) -> dict[str, view.View]:
    """Return every view of a run; `names` are methods, seeds and metrics of the curves."""
    lines = [{"way": n, "seed": n, "step": s, names[0]: 0.1 * s, names[1]: 0.2} for n in names for s in (1, 2, 3)]
    return {
        "CollapseBoard of a run": view.CollapseBoard(run),
        "Curves": view.Curves(pd.DataFrame(lines), names[:2], by="way"),
        "Monitor": view.Monitor(run),
        "RunView": RunView(run),
    }


def whole(text: str) -> str:
    """Return a text that a store can hold: without halves of pairs."""
    return text.replace("\ud800", "?")


def run_of(folder: Path, r: Rollouts, strings: list[str]) -> Run:
    """Return a run whose folder has the strings in its name and in every text of its files, and keeps the rollouts."""
    named = next((s for s in strings if s.isprintable() and not set(s) & {"/", "\0"}), "run")
    path = folder / named
    path.mkdir(parents=True)
    asked = dict(zip(("recipe", "env", "policy"), strings, strict=False)) | {s: s for s in strings}
    write_json(path / "launch.json", {"steps": 4, "text": asked, "made": strings[0]})
    said = {"state": "failed", "step": 2, "steps": 4, "reason": " ".join(strings), "notes": strings}
    write_json(path / "status.json", said)
    causes = {"varied": 1, **dict.fromkeys(strings, 1)}
    more = {"alarms": {s: s for s in strings}, "collapse_causes": causes, **dict.fromkeys(strings, 0.5)}
    rows = [BUILD.row(n, **more) for n in range(2)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = Run(path)
    kept = [replace(t, id=whole(t.id), group=whole(t.group)) for t in r]
    BUILD.keep(run, Rollouts(tuple(kept), notes=r.notes), 1)
    return run


def hostile_views(folder: Path, r: Rollouts, credits: Mapping[str, Credit]) -> dict[str, view.View]:
    """Return every view of hostile rollouts (`conftest.hostile_rollouts`) and of a run of them."""
    strings = list(r.notes)
    named = [whole(s) for s in strings]
    found = of_rollouts(r, credits, strings) | of_run(run_of(folder, r, strings), named)
    return {name: found[name] for name in (*LIVE, *STILL)}


def open_a_rollout(w: Any) -> None:
    """Open a credit map in every view that opens one."""
    page, press = w.page, w.page.keyboard.press
    page.locator(".cw.credit_map").first.focus()
    press("]")  # the method that drops a turn, and why
    page.locator(".cw.turn_heat .scroller").focus()
    press("Enter")
    boards = page.locator(".cw.collapse_board")
    boards.nth(1).locator(".stack").focus()
    press("Enter")
    for n in range(2):
        boards.nth(n).locator(".groups .link").first.click()
        boards.nth(n).locator(".rollouts button").first.click()
    page.locator(".cw.monitor .newest .link").first.click()
    for place in (".cw.turn_heat", ".cw.monitor"):
        page.locator(f"{place} .opened .cw.credit_map .turn").first.wait_for()
    for n in range(2):
        boards.nth(n).locator(".cw.credit_map .turn").first.wait_for()
