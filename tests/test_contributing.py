"""What CONTRIBUTING.md shows of a real method is in the files, in that order."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


def shown() -> dict[str, list[str]]:
    """The lines of the diff, by file."""
    diff = re.search(r"```diff\n(.*?)```", (HERE / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL)
    assert diff is not None
    found: dict[str, list[str]] = {}
    for line in diff.group(1).splitlines():
        if line.startswith("+++ b/"):
            found[line.removeprefix("+++ b/")] = []
        else:
            assert line.startswith("+"), line
            list(found.values())[-1].append(line[1:])
    return found


def missing(lines: list[str], text: list[str]) -> list[str]:
    """Lines that do not follow in the text, each after the one before."""
    at, out = 0, []
    for line in lines:
        if line in text[at:]:
            at += text[at:].index(line) + 1
        else:
            out.append(line)
    return out


def test_the_diff_is_what_the_files_say() -> None:
    parts = shown()
    folders = [path.rpartition("/")[0] for path in parts]
    assert set(folders) == {"workbench/recipes", "workbench/catalogue", "notebooks/methods"}  # the three places
    for path, lines in parts.items():
        assert missing(lines, (HERE / path).read_text("utf-8").splitlines()) == [], path


def test_it_can_fail() -> None:
    assert missing(["a", "c", "b"], ["a", "b", "c"]) == ["b"]
