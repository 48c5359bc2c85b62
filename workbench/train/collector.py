"""Python's garbage collector while a run is made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def older_objects_left_alone() -> Iterator[None]:
    """Let the collector look only at objects made from here on; afterwards at all of them again.

    Modules, models and tokenizers are hundreds of thousands of objects that stay. To look through them costs a tenth
    to a fifth of a second each time, which small steps, full of new objects, bring about every few seconds. What is
    garbage in between is found as before.

    Example:
        >>> with older_objects_left_alone():
        ...     gc.get_freeze_count() > 0
        True
        >>> gc.get_freeze_count()
        0
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
