"""What holds for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

BROWSER = Path(__file__).parent / "browser"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put browser tests last: the one browser of the session keeps an event loop running in this thread until the end,
    and code that is tested outside of any loop would find itself inside of one."""
    items.sort(key=lambda item: BROWSER in item.path.parents)
