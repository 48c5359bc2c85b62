"""The thread that steps an engine, on an engine made here: it takes one step a token. No vLLM needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from workbench.policy.vllm_pump import Pump


@dataclass
class Step:
    """What `FakeEngine` was doing when it took a step."""

    running: int


class FakeEngine:
    """Every request takes as many steps as its parameter says; 0 is refused, below 0 breaks the engine."""

    def __init__(self) -> None:
        self.left: dict[str, int] = {}
        self.steps: list[Step] = []
        self.gate = threading.Event()
        self.gate.set()
        self.ended = False

    def add_request(self, name: str, prompt: Any, params: int) -> None:
        if params == 0:
            raise ValueError("no tokens asked for")
        self.left[name] = params

    def has_unfinished_requests(self) -> bool:
        return bool(self.left)

    def abort_request(self, names: list[str]) -> None:
        for name in names:
            self.left.pop(name, None)

    def step(self) -> list[Any]:
        assert self.gate.wait(60)
        self.steps.append(Step(len(self.left)))
        if min(self.left.values()) < 0:
            raise ArithmeticError("it broke")
        self.left = {name: left - 1 for name, left in self.left.items()}
        over = [name for name, left in self.left.items() if left == 0]
        self.abort_request(over)
        return [SimpleNamespace(request_id=name, finished=True) for name in reversed(over)]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def pump(engine: FakeEngine) -> Iterator[Pump]:
    made = Pump(lambda: engine, lambda e: setattr(e, "ended", True))
    yield made
    engine.gate.set()
    made.close()


def until(true: Callable[[], bool]) -> None:
    """Wait for something another thread does; the limit only ends a test that has failed."""
    for _ in range(60_000):
        if true():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it did not happen within a minute")


def names(future: Any) -> list[str]:
    return [output.request_id for output in future.result(60)[0]]


def test_answers_come_in_the_order_of_the_requests(pump: Pump) -> None:
    assert names(pump.ask([([1], 3), ([2], 1), ([3], 2)])) == ["1", "2", "3"]
    assert names(pump.ask([])) == []


def test_callers_share_steps(pump: Pump, engine: FakeEngine) -> None:
    engine.gate.clear()
    futures = [pump.ask([([1], 50)]) for _ in range(8)]
    until(lambda: bool(engine.left))
    engine.gate.set()
    for future in futures:
        future.result(60)
    assert len(engine.steps) < 8 * 50 and max(step.running for step in engine.steps) == 8


def test_what_must_be_alone_waits_and_others_wait_behind_it(pump: Pump, engine: FakeEngine) -> None:
    engine.gate.clear()
    early = pump.ask([([1], 20)])
    until(lambda: bool(engine.left))
    seen: list[int] = []

    def raise_version(given: Any) -> int:
        seen.append(len(given.left))
        pump.version += 1
        return pump.version

    answer: list[int] = []
    loader = threading.Thread(target=lambda: answer.append(pump.alone(raise_version)))
    loader.start()
    until(lambda: pump._inbox.qsize() > 0)
    late = pump.ask([([1], 1)])
    assert not seen
    engine.gate.set()
    loader.join(60)
    assert (answer, seen) == ([1], [0])
    assert early.result(60)[1] == 0 and late.result(60)[1] == 1


def test_a_cancelled_request_ends(pump: Pump, engine: FakeEngine) -> None:
    engine.gate.clear()
    future, other = pump.ask([([1], 10**6), ([2], 10**6)]), pump.ask([([3], 4)])
    until(lambda: bool(engine.left))
    assert future.cancel()
    engine.gate.set()
    other.result(60)
    assert pump.alone(lambda given: dict(given.left)) == {}
    assert len(engine.steps) < 10


def test_a_refused_request_harms_nobody_else(pump: Pump, engine: FakeEngine) -> None:
    refused, fine = pump.ask([([1], 5), ([2], 0)]), pump.ask([([3], 2)])
    with pytest.raises(ValueError, match="no tokens asked for"):
        refused.result(60)
    assert names(fine) == ["3"] and max(step.running for step in engine.steps) == 1


def test_an_error_of_work_goes_to_its_caller_alone(pump: Pump) -> None:
    with pytest.raises(ZeroDivisionError):
        pump.alone(lambda engine: 1 / 0)
    assert names(pump.ask([([1], 1)])) == ["1"]


def test_a_broken_engine_tells_everybody(pump: Pump, engine: FakeEngine) -> None:
    engine.gate.clear()
    futures = [pump.ask([([1], 5)]), pump.ask([([1], -1)])]
    until(lambda: bool(engine.left))
    engine.gate.set()
    for future in futures:
        with pytest.raises(RuntimeError, match=r"ended while it was asked \(it broke\)"):
            future.result(60)
    until(lambda: engine.ended)
    with pytest.raises(RuntimeError, match=r"no longer there \(it broke\); make a new one"):
        pump.ask([([1], 1)])


def test_closing_ends_what_is_under_way(pump: Pump, engine: FakeEngine) -> None:
    engine.gate.clear()
    future = pump.ask([([1], 10**6)])
    until(lambda: bool(engine.left))
    closer = threading.Thread(target=pump.close)
    closer.start()
    engine.gate.set()
    with pytest.raises(RuntimeError, match="it was closed"):
        future.result(60)
    closer.join(60)
    assert engine.ended
    pump.close()  # twice does no harm
    with pytest.raises(RuntimeError, match="it was closed"):
        pump.alone(len)


def test_an_engine_that_does_not_start_raises_where_it_is_made() -> None:
    with pytest.raises(FileNotFoundError, match="no model"):
        Pump(lambda: (_ for _ in ()).throw(FileNotFoundError("no model")), lambda engine: None)
