"""`make check`: formatting, lint, types of the core, import contracts. Runs all, then says which failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKS = {
    "format": [sys.executable, "-m", "ruff", "format", "--check", "."],
    "lint": [sys.executable, "-m", "ruff", "check", "."],
    "types of the core": [sys.executable, "-m", "mypy"],
    "README table": [sys.executable, "scripts/readme.py", "--check"],
    "glossary": [sys.executable, "scripts/glossary.py", "--check"],
    "import contracts": [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
}


def main() -> int:
    """Run every check; return 1 if one failed."""
    failed = []
    for name, command in CHECKS.items():
        print(f"== {name}", flush=True)
        if subprocess.run(command, cwd=ROOT).returncode != 0:
            failed.append(name)
    print(f"FAILED: {', '.join(failed)}" if failed else "All checks passed.")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
