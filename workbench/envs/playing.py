"""What the worlds here share: one episode each, of which the task and the progress are all there is to keep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from typing import Any, Generic, Protocol, Self, TypeVar

from workbench.envs.base import Step, Task
from workbench.trajectory import Message


class Standing(Protocol):
    """Where an episode stands, as far as all worlds agree."""

    @property
    def done(self) -> bool:
        """Is it over?"""


Progress = TypeVar("Progress", bound=Standing)


class Playing(ABC, Generic[Progress]):
    """One episode of a world (see `workbench.envs.base.Environment` for the contract).

    A world gives `respond` and, as an attribute of its class, the `_progress` of an episode that has not begun. What is
    heavy is shared by its episodes.
    """

    _task: Task | None = None
    _progress: Progress

    @property
    def task(self) -> Task:
        """The task being played."""
        if self._task is None:
            raise RuntimeError("no episode has begun; call reset(task, seed) first")
        return self._task

    @property
    def progress(self) -> Progress:
        """Where the episode stands."""
        return self._progress

    def fresh(self) -> Self:
        """Return a new episode of the same world."""
        other = copy(self)
        other._task, other._progress = None, type(self)._progress
        return other

    async def step(self, message: Message) -> Step:
        """Answer an action (see `respond`)."""
        return self.respond(message)

    @abstractmethod
    def respond(self, message: Message) -> Step:
        """Answer an action."""

    def check_goes_on(self, why: str = "the episode is over") -> None:
        """Refuse an action once there is nothing left to play.

        Raises:
            RuntimeError: it is over.
        """
        if self._progress.done:
            raise RuntimeError(f"task {self.task.id!r}: {why}; call reset, or restore a snapshot")

    def snapshot_of(self, progress: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the task and a progress, which is plain JSON already, as a snapshot."""
        task = {"id": self.task.id, "question": self.task.question, "gold": self.task.gold, "data": self.task.data}
        return {"task": task, "progress": progress}
