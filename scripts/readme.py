"""Write the table of systems into README.md from the catalogue; `--check` only says whether it is current."""

from __future__ import annotations

import sys
from pathlib import Path

from workbench import catalogue

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- systems: written by scripts/readme.py -->", "<!-- end of systems -->"


def table() -> str:
    """Return the Markdown table of all systems."""
    rows = []
    for row in catalogue.METHODS:
        recipes = " ".join(f"`{name}`" for name in row.recipes)
        rows.append(f"| {row.number} | {row.name} | {', '.join(row.kind)} | {row.status} | {recipes} |")
    runs = sum(row.status == "runs" for row in catalogue.METHODS)
    lines = [f"{runs} of the {len(rows)} systems run so far.", "", "<details><summary>All systems</summary>", ""]
    lines += ["| # | system | kind | status | recipes |", "| --- | --- | --- | --- | --- |", *rows, "", "</details>"]
    return "\n".join(lines)


def with_table(text: str) -> str:
    """Return the text of the README with the table as the catalogue has it now."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


def main() -> int:
    """Write or check; return 1 if a check finds the table out of date."""
    text = README.read_text("utf-8")
    new = with_table(text)
    if "--check" in sys.argv:
        return int(new != text)
    README.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
