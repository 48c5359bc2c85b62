"""The monitor of a run: its state, buttons that pause and stop it, live curves, its newest rollouts.

What there is to know stands in the folder of the run; the view keeps nothing of its own, so another kernel or another
browser shows the same. A daemon thread reads what is new while a page shows it, and pushes that alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.runs import Run
from workbench.view.escape import one_line
from workbench.view.link import Link
from workbench.view.maps import CreditMap
from workbench.view.pack import pack
from workbench.view.payload import training_credit
from workbench.view.payload.monitor import causes_of, each_of, head, panels, points, totals
from workbench.view.payload.run import status
from workbench.view.sources import widget_script
from workbench.view.watching import RunView, Watcher

if TYPE_CHECKING:
    import pandas as pd

    from workbench.view.widget import Answer, Call, Live

LOOK_S = 0.25  # between two looks at a run with a process
SLOW_S = 1.5  # at one without: somebody may resume it
BEAT_S = 2.0  # a page that hears nothing for three of these says that the kernel is gone
LEAST_S = 0.1  # between two messages
BYTES_S = 20_000  # sent a second at most, on average
MAPS_BYTES = 1_500_000  # of credit maps a file carries, before they are compressed


class Seen:
    """What was seen of a run so far, and what a page that saw some of it has to be told. Safe between threads."""

    def __init__(self, run: Run):
        self.run, self.watcher, self.lock = run, Watcher(run), threading.RLock()
        self.seq, self.spent, self.causes, self.each, self.said = 0, [], [], 1, {}
        self.change()

    def change(self) -> dict[str, Any] | None:
        """Read what is new; return it for a page that saw all before, None if there is nothing.

        Returns:
            seq: counts the changes; only what differs of head, rollouts, and the points from the place `first` on.
        """
        with self.lock:
            before, known = len(self.watcher.rows), (self.each, self.causes)
            anew, others = self.watcher.read()
            rows, first = self.watcher.rows, 0 if anew else before
            self.spent = [*self.spent[:first], *totals(rows[first:], self.spent[first - 1] if first else None)]
            self.each, self.causes = each_of(len(rows)), causes_of(rows[first:], () if anew else self.causes)
            out: dict[str, Any] = {}
            if anew or len(rows) > before:
                same = not anew and known == (self.each, self.causes)
                place = before // self.each if same else 0
                out |= {"first": place, "each": self.each, "points": self._points(place)}
            if others:
                out["rollouts"] = self.watcher.shown
            said = self._head(self.watcher.status)
            if said != self.said:
                self.said = out["head"] = said
            if not out:
                return None
            self.seq += 1
            return {"seq": self.seq, **out}

    def _points(self, first: int = 0) -> dict[str, Any]:
        return points(self.watcher.rows, self.spent, self.causes, self.each, first)

    def _head(self, status: Mapping[str, Any]) -> dict[str, Any]:
        return head(status, self.watcher.rows, self.watcher.problem, self.run.asked)

    def now(self) -> dict[str, Any]:
        """Return the head as it is at this moment, without counting it as told."""
        with self.lock:
            return self._head(status(self.run))

    def everything(self) -> dict[str, Any]:
        """Return all that was seen, for a page that opens."""
        with self.lock:
            shown = {"seq": self.seq, "head": self.said, "first": 0, "each": self.each, "points": self._points()}
            return {**shown, "rollouts": self.watcher.shown}


class Monitor(RunView):
    """A run, live: how it goes, pause and stop, curves, newest rollouts. It can be made anew at any time.

    Args:
        run: anybody's; nothing in its folder is run by looking.

    Example:
        `Run("runs/grpo-chain-001").monitor()`, or `Monitor(run).live()`
    """

    title, kind = "Monitor", "monitor"

    def __init__(self, run: Run):
        super().__init__(run)
        self.seen = Seen(run)
        self.resume: Callable[[Path], Any] | None = None
        self._lives: list[Live] = []
        self._pages: set[str] = set()  # those that show it; "first" is the one that will open
        self._wake, self._thread = threading.Event(), None

    def interactive(self) -> dict[str, Any]:
        self.seen.change()
        return {
            **self.seen.everything(),
            "panels": panels(),
            "resumes": self.resume is not None,
            "beat_s": BEAT_S,
            "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        }

    def for_page(self) -> dict[str, Any]:
        """Return the payload for a file: with the credit maps of the rollouts that are shown."""
        data = self.interactive()
        shown, maps, room = data["rollouts"], {}, MAPS_BYTES
        for identity in _ids(shown):
            packed = self._map(shown["step"], identity)
            room -= len(packed)
            if room < 0:
                break
            maps[f"{shown['step']} {identity}"] = packed
        return {
            **data,
            "carried": {"script": widget_script(("credit_map",)), "ids": list(maps), "maps": [*maps.values()]},
        }

    def frame(self, state: Mapping[str, Any]) -> pd.DataFrame:
        """Return the points of the curves on screen.

        Columns: step (the last a point stands for, from 1), rollouts, tokens, seconds (spent by then), the measures,
        and the share of groups that collapsed by each cause. `RunView(run).to_frame()` has every step and measure.
        """
        import pandas as pd

        self.seen.change()
        shown = self.seen.everything()["points"]
        causes = {f"collapsed: {one['name']}": one["y"] for one in shown["causes"]}
        return pd.DataFrame(
            {name: np.asarray(v, np.float64) for name, v in {**shown["x"], **shown["y"], **causes}.items()}
        )

    def to_frame(self) -> pd.DataFrame:
        return self.frame(self.state)

    # -- with a kernel -------------------------------------------------------------------------------------

    def live(self, *, link: Link | None = None, resume: Callable[[Path], Any] | None = None) -> Live:
        """Return the monitor with its kernel; as the last line of a cell it shows itself.

        Args:
            link: views of one link share their selection; by default a link of its own.
            resume: starts a process for a run that ended: `workbench.train.resume`. It loads the code in the folder of
                the run, so only with runs you trust. Without it the monitor says what to type.
        """
        self.resume = resume or self.resume
        live = super().live(link=link)
        self._lives.append(live)
        self._pages.add("first")
        self._begin()  # not when the page asks: a kernel that is busy with a cell hears it only then
        return live

    def _begin(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._follow, daemon=True, name="monitor")
            self._thread.start()

    def answers(self) -> Mapping[str, Answer]:
        return {"all": self._all, "leave": self._leave, "do": self._do, "open": self._open}

    def _all(self, args: Mapping[str, Any], call: Call) -> dict[str, Any]:
        """A page opened, or missed something: tell it everything, and what is new from now on."""
        self._pages.add(str(args.get("page")))
        self._pages.discard("first")
        self._begin()
        return self.seen.everything()

    def _leave(self, args: Mapping[str, Any], call: Call) -> dict[str, Any]:
        self._pages.discard(str(args.get("page")))
        self._wake.set()
        return {}

    def _do(self, args: Mapping[str, Any], call: Call) -> dict[str, Any]:
        """Pause, go on, stop, or start a process for a run that ended; return a sentence if it cannot be."""
        what = args.get("what")
        does = {"pause": self.run.pause, "run": self.run.resume, "stop": self.run.stop}
        try:
            if what == "resume" and self.resume is not None:
                self.resume(self.run.path)
            else:
                does[str(what)]()
        except KeyError:
            return {"refused": f"expected one of {sorted(does)}, got {what!r}"}
        except (RuntimeError, OSError, ValueError) as error:
            return {"refused": one_line(str(error), 600)}
        self._wake.set()
        return {"refused": "", "head": self.seen.now()}

    def _open(self, args: Mapping[str, Any], call: Call) -> dict[str, Any]:
        """Return the packed credit map of one rollout, and the module that draws it where the page lacks it."""
        script = {"script": widget_script(("credit_map",))} if args.get("script") else {}
        return {**script, "map": self._map(int(args["step"]), str(args["trajectory"]))}

    def _map(self, step: int, identity: str) -> np.ndarray:
        """Return the packed interactive payload of the credit map of a kept rollout -> uint8."""
        rollouts = self.run.rollouts(step)
        return np.frombuffer(pack(CreditMap(rollouts, identity, training_credit(rollouts)).interactive()), np.uint8)

    def _follow(self) -> None:
        """Push what is new while a page shows it, and a beat now and then."""
        told = 0.0
        while self._pages:
            self._wake.clear()
            change = self.seen.change()
            size = 0
            if change is not None or time.monotonic() - told >= BEAT_S:
                size, told = self._push(change or {"seq": self.seen.seq}), time.monotonic()
            time.sleep(max(LEAST_S, size / BYTES_S))
            self._wake.wait(LOOK_S - LEAST_S if self.run.alive else SLOW_S)

    def _push(self, change: dict[str, Any]) -> int:
        for live in self._lives:
            live.push({**change, "beat": time.time()})
        return len(pack(change))


def _ids(shown: Mapping[str, Any]) -> list[str]:
    groups = shown["new"]["groups"] if shown["new"] else []
    return [row["id"] for group in groups for row in group["rows"]]
