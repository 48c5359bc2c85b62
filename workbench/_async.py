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

    An interrupt from the keyboard cancels the coroutine.

    Example:
        >>> async def two():
        ...     return 2
        >>> run(two())
        2
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def main() -> Result:
        task = asyncio.current_task()
        assert task is not None
        started.append((asyncio.get_running_loop(), task))
        return await coroutine

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(asyncio.run, main())
        try:
            return future.result()
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
