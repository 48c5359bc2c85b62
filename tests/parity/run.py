"""Run worked examples of published methods against the recipes.

    python tests/parity/run.py FILE [--only METHOD]

FILE is JSON: {method: [{name, function, inputs, params, expected, source}]}. One line per case: method, case, largest
absolute difference, `ok`, `FAIL` or `unsupported`. The adapter is found in the catalogue by method and function, never
by a case's name; it translates the encoding of the case into a batch and back and holds no formula. Numbers are
compared at 1e-5, everything else exactly, key by key of `expected`; a key that is not produced is a FAIL. Exits 1 on
any FAIL.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parent.parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

TOLERANCE = 1e-5


class Verdict(NamedTuple):
    """What became of one case."""

    method: str
    name: str
    difference: float | None
    status: str
    why: str


def differences(expected: Any, got: Any, at: str = "") -> Iterator[tuple[float, str]]:
    """Yield (difference, place) for every leaf; infinite where the two are of another kind, length or exact value."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            if not isinstance(got, dict) or key not in got:
                yield math.inf, f"{at}.{key} is not produced"
            else:
                yield from differences(value, got[key], f"{at}.{key}")
    elif isinstance(expected, list):
        if not isinstance(got, (list, tuple)) or len(got) != len(expected):
            yield math.inf, f"{at} has another length"
        else:
            for i, (one, other) in enumerate(zip(expected, got, strict=True)):
                yield from differences(one, other, f"{at}[{i}]")
    elif float in (type(expected), type(got)) and {type(expected), type(got)} <= {int, float}:  # 0 may mean 0.0
        gap = abs(expected - got)
        yield (gap if math.isfinite(gap) else math.inf), f"{at}: expected {expected}, got {got}"
    else:
        same = type(expected) is type(got) and expected == got
        yield (0.0 if same else math.inf), f"{at}: expected {expected!r}, got {got!r}"


def run_case(method: str, case: dict[str, Any]) -> Verdict:
    """Run one case through its adapter."""
    from adapters.common import Unsupported

    from workbench.catalogue import adapter

    name = case.get("name", "?")
    if not isinstance(case.get("expected"), dict):
        return Verdict(method, name, math.inf, "FAIL", "the case has no `expected` values")
    place = adapter(method, case.get("function", ""))
    if place is None:
        return Verdict(method, name, None, "unsupported", f"no adapter for {method}/{case.get('function')}")
    module, function = place.split(":")
    try:
        got = getattr(importlib.import_module(f"adapters.{module}"), function)(case)
    except Unsupported as reason:
        return Verdict(method, name, None, "unsupported", str(reason))
    except Exception as error:  # a case that breaks the code is a FAIL with its reason, and the others still run
        return Verdict(method, name, math.inf, "FAIL", f"{type(error).__name__}: {error}")
    worst, where = max(differences(case["expected"], got), default=(0.0, ""), key=lambda pair: pair[0])
    good = worst <= TOLERANCE
    return Verdict(method, name, worst, "ok" if good else "FAIL", "" if good else where)


def run(cases: dict[str, list[dict[str, Any]]], only: str | None = None) -> list[Verdict]:
    """Run all cases, or those of one method."""
    wanted = (
        (method, listed) for method, listed in cases.items() if only in (None, method) and isinstance(listed, list)
    )
    return [run_case(method, case) for method, listed in wanted for case in listed]


def main() -> int:
    """Print one line per case and a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", help="one method of the file")
    arguments = parser.parse_args()
    verdicts = run(json.loads(arguments.file.read_text(encoding="utf-8")), arguments.only)
    for v in verdicts:
        gap = "-" if v.difference is None else f"{v.difference:.1e}"
        print(f"{v.method:14} {v.name:44} {gap:>8}  {v.status}{'  ' + v.why if v.why else ''}")
    counts = {status: sum(v.status == status for v in verdicts) for status in ("ok", "FAIL", "unsupported")}
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
