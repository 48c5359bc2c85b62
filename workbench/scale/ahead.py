"""One step ahead: the next step's rollouts are played while this step learns, with the weights from before its update.

    step t learns      |---- learn t ----| sync |---- learn t+1 ----| sync |
    players            |---- play t+1 ---|------|----- play t+2 ----|------|

A rollout is then one update old when it teaches, never more: players take new weights only when they have played out.
The ratio of learner to sampler, which is 1 without a lag, corrects for it in any clipped objective; where one update a
batch is made `workbench.objective.truncated` keeps the clip for the update itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from workbench.rollouts import Rollouts


class Ahead:
    """Plays one round in a thread of the driver."""

    def __init__(self) -> None:
        self.step = -1
        self.thread: threading.Thread | None = None
        self.found: Rollouts | None = None
        self.error: BaseException | None = None

    def begin(self, step: int, play: Callable[[], Rollouts]) -> None:
        """Start to play a step's first round."""
        self.wait()
        self.step, self.found, self.error = step, None, None
        self.thread = threading.Thread(target=self._play, args=(play,), name=f"ahead-{step}", daemon=True)
        self.thread.start()

    def _play(self, play: Callable[[], Rollouts]) -> None:
        try:
            self.found = play()
        except BaseException as error:  # told to whoever asks for the rollouts
            self.error = error

    def wait(self) -> None:
        """Wait until nothing is being played."""
        if self.thread is not None:
            self.thread.join()
            self.thread = None

    def taken(self, step: int) -> Rollouts | None:
        """Return what was played for a step; None if nothing was."""
        self.wait()
        if self.step != step:
            return None
        if self.error is not None:
            raise self.error
        found, self.found, self.step = self.found, None, -1
        return found
