"""Colours and marks of credit: one encoding that works in light and dark and for colour-blind eyes.

Vermillion is negative, blue is positive, drawn as alpha over whatever background is there, so that the text keeps its
inherited colour. At alpha 0.8 text keeps a contrast of at least 4.7 in both themes; under simulated protanopia,
deuteranopia and tritanopia the two stay 24 apart (CIE Lab 1976) at a quarter of the scale.
Colour never stands alone: numbers carry their sign, and what is no number has a mark of its own and a word.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

NEGATIVE = "213,94,0"
POSITIVE = "0,114,178"
LEVELS = 16
STRONGEST = 0.8
QUANTILE = 0.98
QUIET = "opacity:.68"

# Status of a unit (a token, a turn), one letter each so that a payload can hold a string of them.
STATUS = {"v": "credited", "z": "zero", "u": "unknown", "d": "dropped", "n": "not trained"}
EXPLAINED = {
    "v": "a number other than 0",
    "z": "known, and exactly 0: in the loss, with no push either way",
    "u": "no value could be given: not in the loss",
    "d": "taken out by a rule of the method: not in the loss",
    "n": "text the policy did not sample, or a turn that is not trainable: never in the loss",
}
HATCH_IMAGE = (
    "linear-gradient(135deg,rgba(128,128,128,.34) 12%,rgba(128,128,128,0) 12%,"
    "rgba(128,128,128,0) 50%,rgba(128,128,128,.34) 50%,rgba(128,128,128,.34) 62%,rgba(128,128,128,0) 62%,"
    "rgba(128,128,128,0) 100%)"
)
HATCH = f"background-image:{HATCH_IMAGE};background-size:6px 6px"
MARKS = {
    "v": "",
    "z": "border-bottom:1px solid rgba(128,128,128,.75)",
    "u": f"{HATCH};border-bottom:1px dotted rgba(128,128,128,1)",
    "d": "text-decoration:line-through;opacity:.68",
    "n": "opacity:.62;font-style:italic",
}


def common_scale(values: Iterable[np.ndarray]) -> float | None:
    """Return the value of full colour: the 98th percentile of |v| over all non-zero values; None if there are none.

    Exact zeros do not count: credit on one token in a thousand would otherwise have no scale.

    Example:
        >>> common_scale([np.array([0.0, -2.0]), np.array([1.0])])
        2.0
    """
    sizes = np.concatenate([np.abs(np.asarray(v, dtype=np.float64)).ravel() for v in values] or [np.zeros(0)])
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    return float(np.quantile(sizes, QUANTILE, method="higher")) if len(sizes) else None


def level(value: float | None, scale: float | None) -> int:
    """Return the step of the colour scale, -16 to 16; 0 is for exactly 0 and for unknown alone.

    Example:
        >>> level(1.0, 2.0), level(-9.0, 2.0), level(1e-9, 2.0), level(0.0, 2.0), level(None, 2.0)
        (8, -16, 1, 0, 0)
    """
    if value is None or value == 0 or not scale:
        return 0
    step = math.ceil(LEVELS * min(1.0, abs(value) / scale) - 1e-9)
    return int(math.copysign(max(1, step), value))


def wash(step: int) -> str:
    """Return the CSS colour of a step.

    Example:
        >>> wash(-16), wash(4)
        ('rgba(213,94,0,.8)', 'rgba(0,114,178,.2)')
    """
    alpha = f"{STRONGEST * abs(step) / LEVELS:.3f}".rstrip("0").rstrip(".").removeprefix("0") or "0"
    return f"rgba({NEGATIVE if step < 0 else POSITIVE},{alpha})"


@lru_cache(maxsize=256)
def mark(status: str, step: int = 0) -> str:
    """Return the inline style of a unit: its wash if it has credit, else the mark of its status."""
    if status == "v" and step:
        return f"background-color:{wash(step)}"
    return MARKS[status]


def digits(scale: float | None) -> int:
    """Return how many decimals suit values of this scale: two around 1, more below 0.1, fewer from 10 on.

    Example:
        >>> digits(1.29), digits(0.5), digits(0.04), digits(30.0), digits(None)
        (2, 2, 3, 1, 2)
    """
    if not scale:
        return 2
    size = math.floor(math.log10(scale))
    return min(6, max(0, 2 - max(0, size) if size >= -1 else 1 - size))


@lru_cache(maxsize=8192)
def number(value: float | None, decimals: int = 2, *, signed: bool = True) -> str:
    """Return a number with sign and fixed decimals; unknown is "unknown", exact zero "0".

    What would round to zero without being zero is written with its magnitude.

    Example:
        >>> number(-0.4219), number(0.0), number(None), number(0.0004)
        ('−0.42', '0', 'unknown', '+4e-4')
    """
    if value is None:
        return "unknown"
    if value == 0:
        return "0"
    text = f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"
    if float(text) == 0 or len(text) > decimals + 7:
        mantissa, exponent = f"{value:{'+' if signed else ''}.0e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", "−", 1) if value < 0 else text


def plain(value: float | int | None) -> str:
    """Return a quantity that is no credit (an outcome, a reward) as short as it can be said."""
    if value is None:
        return "unknown"
    text = f"{value:.4g}"
    return "−" + text[1:] if text.startswith("-") else text
