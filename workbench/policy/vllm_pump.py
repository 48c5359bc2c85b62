"""One thread that owns a vLLM engine and steps it while anybody waits: requests of many callers run as one batch."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

Result = TypeVar("Result")
Request = tuple[Sequence[int], Any]
"""Token ids of a prompt, and vLLM's `SamplingParams`."""


@dataclass
class _Ask:
    requests: Sequence[Request]
    future: Future[tuple[list[Any], int]]
    names: list[str] = field(default_factory=list)
    version: int = 0
    made: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Alone:
    work: Callable[[Any], Any]
    future: Future[Any]


class Pump:
    """Step an engine in a thread of its own.

    Requests join the batch that is under way. What must find the engine idle (new weights) waits until it is, and
    later requests wait behind it: so everything of a request is of one version of the weights.

    Args:
        build: makes the engine; called in the thread, because threads of a CPU kernel belong to who started them.
        end: lets go of it; called in the thread.
        version: of the weights it starts with; whoever changes them in `alone` raises it.

    Raises:
        Exception: what `build` raises.
    """

    def __init__(self, build: Callable[[], Any], end: Callable[[Any], None], version: int = 0):
        self.version = version
        self._inbox: queue.SimpleQueue[_Ask | _Alone | None] = queue.SimpleQueue()
        self._waiting: deque[_Ask | _Alone] = deque()
        self._running: dict[str, _Ask] = {}
        self._count = 0
        self._over: BaseException | None = None
        self._lock = threading.Lock()
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._live, args=(build, end, ready), daemon=True, name="vllm")
        self._thread.start()
        ready.result()

    def ask(self, requests: Sequence[Request]) -> Future[tuple[list[Any], int]]:
        """Put requests; the future holds vLLM's final outputs in order and the version of the weights they saw.

        Cancelling the future ends its requests.
        """
        future: Future[tuple[list[Any], int]] = Future()
        self._put(_Ask(requests, future))
        return future

    def alone(self, work: Callable[[Any], Result]) -> Result:
        """Call `work(engine)` when nothing is under way; wait for it."""
        future: Future[Result] = Future()
        self._put(_Alone(work, future))
        return future.result()

    def close(self) -> None:
        """Stop; who still waits gets an error."""
        with self._lock:
            if self._over is None:
                self._inbox.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _put(self, job: _Ask | _Alone) -> None:
        with self._lock:  # nothing may come into the inbox after it was emptied for good
            if self._over is not None:
                raise RuntimeError(f"the vLLM engine is no longer there ({self._over}); make a new one") from self._over
            self._inbox.put(job)

    # -- in the thread -------------------------------------------------------------------------------------------

    def _live(self, build: Callable[[], Any], end: Callable[[Any], None], ready: Future[None]) -> None:
        try:
            engine = build()
        except BaseException as error:
            self._over = error
            ready.set_exception(error)
            return
        ready.set_result(None)
        over: BaseException = RuntimeError("it was closed")
        try:
            while self._take(engine):
                if engine.has_unfinished_requests():
                    self._hand_out(engine.step())
                    self._drop_cancelled(engine)
        except BaseException as error:
            over = error
        finally:
            self._end(over)
            end(engine)

    def _take(self, engine: Any) -> bool:
        """Take jobs as far as the engine can; wait for one if it has nothing to do. False: it is over."""
        while True:
            idle = not engine.has_unfinished_requests()
            if not self._waiting:
                try:
                    job = self._inbox.get(block=idle)
                except queue.Empty:
                    return True
                if job is None:
                    return False
                self._waiting.append(job)
            if isinstance(self._waiting[0], _Alone) and not idle:
                return True
            job = self._waiting.popleft()
            if isinstance(job, _Ask):
                self._begin(engine, job)
            elif job.future.set_running_or_notify_cancel():
                _settle(job.future, job.work, engine)

    def _begin(self, engine: Any, job: _Ask) -> None:
        """Add the requests of a job; if vLLM refuses one, none of them runs."""
        if job.future.cancelled():
            return
        job.version = self.version
        try:
            for ids, params in job.requests:
                self._count += 1
                name = str(self._count)
                engine.add_request(name, {"type": "token", "prompt_token_ids": list(ids)}, params)
                job.names.append(name)
                self._running[name] = job
        except Exception as error:
            self._abort(engine, job)
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(error)
        if not job.requests and job.future.set_running_or_notify_cancel():
            job.future.set_result(([], job.version))

    def _hand_out(self, outputs: Sequence[Any]) -> None:
        for output in outputs:
            job = self._running.pop(output.request_id, None) if output.finished else None
            if job is None:
                continue
            job.made[output.request_id] = output
            if len(job.made) == len(job.requests) and job.future.set_running_or_notify_cancel():
                job.future.set_result(([job.made[name] for name in job.names], job.version))

    def _drop_cancelled(self, engine: Any) -> None:
        for job in {id(job): job for job in self._running.values() if job.future.cancelled()}.values():
            self._abort(engine, job)

    def _abort(self, engine: Any, job: _Ask) -> None:
        engine.abort_request([name for name in job.names if self._running.pop(name, None)])

    def _end(self, over: BaseException) -> None:
        with self._lock:
            self._over = over
            jobs: list[Any] = [*self._running.values(), *self._waiting]
            while not self._inbox.empty():
                jobs.append(self._inbox.get())
        for job in {id(job): job for job in jobs if job is not None}.values():
            if not job.future.done() and (job.future.running() or job.future.set_running_or_notify_cancel()):
                job.future.set_exception(RuntimeError(f"the vLLM engine ended while it was asked ({over})"))


def _settle(future: Future[Any], work: Callable[[Any], Any], engine: Any) -> None:
    try:
        future.set_result(work(engine))
    except BaseException as error:
        future.set_exception(error)
