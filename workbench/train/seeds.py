"""How many seeds a difference needs: what a paired comparison of few seeds can tell, and what it cannot."""

from __future__ import annotations

import math


def power(effect: float, spread: float, seeds: int, level: float = 0.95) -> float:
    """Return how often a paired t-test tells a true difference from 0.

    Args:
        effect: the true mean difference.
        spread: standard deviation of the difference over seeds, above 0, in the same unit.
        seeds: pairs, at least 2.
        level: 1 minus the share of false alarms of the two-sided test.

    Returns:
        P(|T| > t_(n-1)) for T noncentral t with n - 1 degrees of freedom, shifted by effect / spread sqrt(n); its
        square is noncentral F(1, n - 1), which stays finite in the tails.

    Source: Student's test under a true difference; e.g. Cohen 1988, "Statistical power analysis", chapter 2.

    Example:
        >>> round(power(1.0, 1.0, 5), 2), round(power(0.0, 1.0, 5), 3)
        (0.4, 0.05)
    """
    from scipy.stats import ncf, t

    if spread <= 0 or seeds < 2:
        raise ValueError(f"power: expected spread > 0 and at least 2 seeds, got spread {spread:g}, {seeds} seeds")
    if effect == 0:
        return 1 - level
    edge, shift = float(t.ppf(0.5 + level / 2, seeds - 1)), effect / spread * math.sqrt(seeds)
    return float(ncf.sf(edge**2, 1, seeds - 1, shift**2))


def detectable(spread: float, seeds: int, level: float = 0.95, least: float = 0.8) -> float:
    """Return the smallest true difference that so many seeds tell `least` of the time.

    Args:
        spread, seeds, level: as in `power`.
        least: power asked for, above 1 - level.

    Example:
        >>> round(detectable(1.0, 5), 2), round(detectable(1.0, 20), 2)
        (1.68, 0.66)
    """
    from scipy.optimize import brentq

    top = spread
    while power(top, spread, seeds, level) < least:
        top *= 2
    return float(brentq(lambda effect: power(effect, spread, seeds, level) - least, 0.0, top))


def needed(effect: float, spread: float, level: float = 0.95, least: float = 0.8, most: int = 1000) -> int | None:
    """Return how many seeds tell a true difference `least` of the time; None if `most` are not enough.

    Example:
        >>> needed(1.0, 1.0), needed(0.5, 1.0), needed(0.0, 1.0)
        (10, 34, None)
    """
    if effect == 0:
        return None
    low, high = 1, 2
    while power(effect, spread, high, level) < least:
        low, high = high, 2 * high
        if high > most:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, spread, middle, level) >= least else (middle, high)
    return high
