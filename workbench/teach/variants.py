"""Two notebooks from one source: with the solutions, which is what is tested, and with stubs, which is what is taught.

A solution stands in a code cell between `# SOLUTION 1: what to write` and `# END SOLUTION`. In the reader's variant a
`raise NotImplementedError("Exercise 1: what to write")` stands in its place, so that every cell stays valid Python.
Cells tagged `exercise` call what the reader writes; they alone may fail, and running all cells goes on after them.
"""

from __future__ import annotations

import copy
import re
from typing import Any

TAG = "exercise"
FENCE = re.compile(
    r"^(?P<indent>[ \t]*)# SOLUTION (?P<number>\d+): (?P<task>[^\n]+)\n.*?^[ \t]*# END SOLUTION[ \t]*$", re.M | re.S
)


def without_solution(source: str) -> str:
    """Return a cell's source with a stub in the place of every solution.

    Raises:
        ValueError: a fence is not closed, or not of the form `# SOLUTION 1: what to write`.

    Example:
        >>> print(without_solution("def f():\\n    # SOLUTION 1: the sum\\n    return 3\\n    # END SOLUTION"))
        def f():
            raise NotImplementedError("Exercise 1: the sum")
    """

    def stub(hit: re.Match[str]) -> str:
        task = hit["task"].strip().replace("\\", "\\\\").replace('"', '\\"')
        return f'{hit["indent"]}raise NotImplementedError("Exercise {hit["number"]}: {task}")'

    out = FENCE.sub(stub, source)
    if "# SOLUTION" in out or "# END SOLUTION" in out:
        raise ValueError(f"expected '# SOLUTION 1: what to write' ... '# END SOLUTION', got:\n{source}")
    return out


def exercises(notebook: Any) -> Any:
    """Return the reader's variant of a notebook: stubs for solutions, and tagged cells that may raise."""
    out = copy.deepcopy(notebook)
    for cell in out.cells:
        if cell.cell_type != "code":
            continue
        cell["source"] = without_solution(cell.source)
        tags = list(cell.metadata.get("tags", []))
        if TAG in tags:
            cell.metadata["tags"] = [*tags, "raises-exception"]
    return out
