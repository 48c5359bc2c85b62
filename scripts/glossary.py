"""Write tutorials/glossary.md from the definitions of the metrics; `--check` only says whether it is current."""

from __future__ import annotations

import sys
from pathlib import Path

from workbench import glossary

PAGE = Path(__file__).resolve().parent.parent / "tutorials" / "glossary.md"


def main() -> int:
    """Write or check; return 1 if a check finds the page out of date."""
    text = glossary.page()
    if "--check" in sys.argv:
        return int(not PAGE.exists() or PAGE.read_text("utf-8") != text)
    PAGE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
