"""An interrupt from the keyboard that waits until the step is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def after_step() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether Ctrl-C (or the notebook's stop button) was pressed.

    A second press interrupts at once. Outside the main thread, where Python handles no signals, it never says yes.

    Example:
        >>> with after_step() as asked_to_stop:
        ...     asked_to_stop()
        False
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def press(number: int, frame: FrameType | None) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
