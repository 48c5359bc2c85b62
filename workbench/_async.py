"""Two bridges between ordinary code and event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, in a thread of its own if this one already runs a loop (a notebook's does).

    An interrupt from the keyboard cancels the coroutine. Its result goes past the loop's task: `asyncio.run`
    writes the task out as text when it ends, result and all, which for a whole rollout takes a while.

    Example:
        >>> async def two():
        ...     return 2
        >>> run(two())
        2
    """
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []
    made: list[Result] = []

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        started.append((asyncio.get_running_loop(), task))
        made.append(await coroutine)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(main())
        return made.pop()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(asyncio.run, main())
        try:
            future.result()
            return made.pop()
        except KeyboardInterrupt:
            for loop, task in started:
                loop.call_soon_threadsafe(task.cancel)
            raise


def in_thread(function: Callable[[], Result]) -> asyncio.Future[Result]:
    """Call a function in a daemon thread of its own; the loop goes on meanwhile.

    Unlike `asyncio.to_thread`, a call that never returns keeps neither the loop's end nor the process waiting.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(set_it: Callable[[Any], None], value: Any) -> None:
        if not future.done():  # given up meanwhile
            set_it(value)

    def call() -> None:
        try:
            settled: tuple[Callable[[Any], None], Any] = (future.set_result, function())
        except Exception as error:
            settled = (future.set_exception, error)
        try:
            loop.call_soon_threadsafe(settle, *settled)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    threading.Thread(target=call, daemon=True).start()
    return future
