"""Where the driver of a run leaves work for its learners, and they their answers: an actor that outlives them both.

Learners are a group that Ray Train starts, and starts again when one of them dies: each start is an era, with its own
list of work. Work of an era that is over is never done twice: whoever waits for its answer is told so.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What became of a piece of work.

    Args:
        state: "done", "failed" (all learners refused alike, nothing changed), or "over": the era ended before.
        value: of the work; the reason it failed.
    """

    state: str
    value: Any = None


class Post:
    """The state of the actor; all calls wait without blocking each other."""

    def __init__(self) -> None:
        self.era, self.step = 0, 0
        self.work: list[Any] = []
        self.answers: dict[int, Answer] = {}
        self.news = asyncio.Condition()

    async def begin(self, step: int) -> int:
        """A group of learners stands after `step` steps; return its era."""
        async with self.news:
            self.era, self.step = self.era + 1, step
            self.work, self.answers = [], {}
            self.news.notify_all()
        return self.era

    async def begun(self, after: int) -> tuple[int, int]:
        """Wait for an era later than `after`; return it and the step its learners stand after."""
        async with self.news:
            await self.news.wait_for(lambda: self.era > after)
        return self.era, self.step

    async def give(self, era: int, work: Any) -> int:
        """Leave a piece of work; return its number."""
        async with self.news:
            if era == self.era:
                self.work.append(work)
                self.news.notify_all()
            return len(self.work) - 1

    async def take(self, era: int, number: int) -> Any:
        """Wait for a piece of work of an era."""
        async with self.news:
            await self.news.wait_for(lambda: self.era == era and len(self.work) > number)
        return self.work[number]

    async def answer(self, era: int, number: int, answer: Answer) -> None:
        """Say what became of it; its content is not needed any more."""
        async with self.news:
            if era == self.era:
                self.answers[number] = answer
                self.work[number] = None
                self.news.notify_all()

    async def answer_of(self, era: int, number: int) -> Answer:
        """Wait for what became of it."""
        async with self.news:
            await self.news.wait_for(lambda: self.era != era or number in self.answers)
        return self.answers.pop(number) if self.era == era else Answer("over")
