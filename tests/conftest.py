"""What holds for all tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `import recipe_columns`, whatever the import mode
BROWSER = Path(__file__).parent / "browser"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put browser tests last: the one browser of the session keeps an event loop running in this thread until the end,
    and code that is tested outside of any loop would find itself inside of one."""
    items.sort(key=lambda item: BROWSER in item.path.parents)
