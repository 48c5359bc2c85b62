"""Every view of rollouts and of a run in which each text field holds a hostile string of its own: who shows which?"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from workbench import credit as c
from workbench import recipes, view
from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.runs import Run, write_json
from workbench.trajectory import Message, Sequence, Span, ToolCall, Trajectory, Turn
from workbench.view.watching import RunView


def of_file(path: Path) -> Any:
    """Return what another file of tests defines."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


BUILD = of_file(Path(__file__).parents[1] / "view" / "test_view_run.py")  # a line of metrics, rollouts that are kept


def mark(field: str) -> str:
    """Return a hostile string that names the field it stands in; short, for names are cut."""
    return f"<img/src=x/id=hit>{field}"


# id and group of a rollout, its question, what it says and calls (name, raw text, argument and value, error), what
# comes back, agent, stop reasons, tokens; names of methods, why a unit was dropped, a recipe, a user's column; of a run
# its recipe, world, policy, reason, notes, an alarm and its text, a cause, a metric; method, seed and metric of curves.
OF_ROLLOUTS = "id group ask say call raw arg val err back agent stop end tok name other drop recipe column"
OF_RUNS = "asked world policy reason note alarm text cause metric way seed curve"
FIELDS = tuple(f"{OF_ROLLOUTS} {OF_RUNS}".split())


def rollouts() -> tuple[Rollouts, dict[str, Credit]]:
    """Return two groups of two rollouts, and two methods."""
    r = Rollouts(tuple(map(trajectory, range(4))))
    turns = r.batch().count("turn")
    r = r.with_column(mark("column"), "turn", [0.1 * k for k in range(turns)])
    known = torch.ones(turns, dtype=torch.bool)
    one = Credit(torch.tensor([0.5, -0.5] * (turns // 2), dtype=torch.float64), "turn", known)
    gone = torch.zeros(turns, dtype=torch.bool)
    gone[:1] = True
    return r, {mark("name"): one, mark("other"): one.drop(gone, mark("drop"))}


def trajectory(n: int) -> Trajectory:
    turns, spans = [], []
    for k in range(2):
        good = ToolCall(f"c{k}", mark("call"), mark("raw"), {mark("arg"): mark("val")})
        bad = ToolCall(f"d{k}", mark("call"), mark("raw"), error=mark("err"))
        action = Message(f"a{k}", "assistant", mark("say"), calls=(good, bad))
        back = (Message(f"o{k}", "tool", mark("back"), answers=f"c{k}"),)
        turns.append(Turn(action, back, agent=mark("agent"), stop_reason=mark("stop"), reward=0.5))
        spans.append(Span((0, 1), "sampled", k, action.id, None, (mark("tok"), "\n")))
    asked = (Message("q", "user", mark("ask")),)
    said = {"outcome": float(n == 0), "stop_reason": mark("end")}
    return Trajectory(
        f"{mark('id')}{n}", f"{mark('group')}{n // 2}", asked, tuple(turns), (Sequence(tuple(spans)),), **said
    )


def run(folder: Path, r: Rollouts) -> Run:
    """Return a run that keeps the rollouts."""
    path = folder / "a run"
    path.mkdir(parents=True)
    asked = {"recipe": mark("asked"), "env": mark("world"), "policy": mark("policy")}
    write_json(path / "launch.json", {"steps": 4, "text": asked, "made": "2026"})
    said = {"state": "failed", "step": 2, "steps": 4, "reason": mark("reason"), "notes": [mark("note")]}
    write_json(path / "status.json", said)
    more = {"alarms": {mark("alarm"): mark("text")}, "collapse_causes": {"varied": 1, mark("cause"): 2}}
    rows = [BUILD.row(n, **more, **{mark("metric"): 0.5}) for n in range(2)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    BUILD.keep(Run(path), r, 1)
    return Run(path)


def views(folder: Path) -> dict[str, view.View]:
    """Return every view, by name."""
    r, credits = rollouts()
    chain = c.chain(c.read(mark("column"), level="turn"), c.zscore(c.peers.task), c.spread("token"))
    method = replace(recipes.grpo(), name=mark("recipe"), chain=chain)
    ran = run(folder, r)
    lines = [
        {"way": f"{mark('way')}{way}", "seed": f"{mark('seed')}{way}", "step": k, mark("curve"): 0.1 * k + way}
        for way in range(2)
        for k in (1, 2, 3)
    ]
    return {
        "CreditMap": view.CreditMap(r, 0, credits),
        "TurnHeat": view.TurnHeat(r, credits),
        "CollapseBoard of rollouts": view.CollapseBoard(r, credits),
        "Recompute": view.Recompute(r, method),
        "CollapseBoard of a run": view.CollapseBoard(ran),
        "Curves": view.Curves(pd.DataFrame(lines), [mark("curve")], by="way"),
        "Monitor": view.Monitor(ran),
        "Overview": view.Overview(r, credits),
        "Ribbons": view.Ribbons(r, 0, method),
        "RunView": RunView(ran),
    }


LIVE = (
    "CreditMap",
    "TurnHeat",
    "CollapseBoard of rollouts",
    "Recompute",
    "CollapseBoard of a run",
    "Curves",
    "Monitor",
)


def found(text: str) -> set[str]:
    """Return the fields whose string stands in a text as it is."""
    flat = "".join(text.split())
    return {field for field in FIELDS if "".join(mark(field).split()) in flat}
