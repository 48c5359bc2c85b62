"""Learning curves with intervals, panel beside panel: as a plotly figure and as a still picture of the same data.

Pure functions of numbers to plain data: `bundle` gives what a notebook displays. A colour never stands alone: every
line has a dash of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.view.escape import esc
from workbench.view.figure import GRID, INK, MIME, label

# Okabe and Ito's colours (the last is Tol's wine), and the dash that goes with each
LOOKS = (
    ("#000000", "solid"),
    ("#D55E00", "dash"),
    ("#0072B2", "longdash"),
    ("#E69F00", "dashdot"),
    ("#009E73", "longdashdot"),
    ("#56B4E9", "dot"),
    ("#CC79A7", "3px,6px"),
    ("#882255", "12px,3px,3px,3px,3px,3px"),
)
BLACK_ON_DARK = "#7f7f7f"  # black would vanish on a dark ground
DASHES = {
    "solid": "",
    "dash": "8 4",
    "longdash": "14 4",
    "dashdot": "8 3 2 3",
    "longdashdot": "14 3 2 3",
    "dot": "2 3",
    "3px,6px": "3 6",
    "12px,3px,3px,3px,3px,3px": "12 3 3 3 3 3",
}
WIDTH, HEIGHT, LEFT, TOP, GAP, KEY = 900, 350, 52, 46, 46, 20  # of the still picture, in its own units
SAID, NAMED = 14, 34  # lines of text above the panels: the axis, then the title of each; on one line they would meet
Point = tuple[float, float]
Place = Callable[[float, float], str]
GAP_SHARE = 0.08  # between two panels of the plotly figure, of its width


@dataclass(frozen=True)
class Curve:
    """One line of a panel.

    Args:
        name: in the legend; the same name is the same look in every panel.
        x: places.
        mean: at each place.
        low, high: of the band; None without.
        singles: single runs behind the mean.
        look: number in `LOOKS`.
    """

    name: str
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    singles: Sequence[Sequence[float]] = ()
    look: int = 0


@dataclass(frozen=True)
class Panel:
    """Curves over one pair of axes."""

    title: str
    curves: tuple[Curve, ...]


def bundle(panels: Sequence[Panel], x: str, y: str, share: bool = False) -> dict[str, Any]:
    """Return the display bundle of panels with one common vertical axis: plotly, SVG and a line of text.

    Args:
        panels: from left to right.
        x, y: titles of the axes.
        share: y is a share and is written in per cent.

    Example:
        >>> sorted(bundle([Panel("a", (Curve("m", [1, 2], [0.1, 0.2]),))], "step", "success"))
        ['application/vnd.plotly.v1+json', 'image/svg+xml', 'text/plain']
    """
    said = f"{y} over {x}: " + "; ".join(f"{p.title}: {', '.join(c.name for c in p.curves)}" for p in panels)
    return {MIME: plotly(panels, x, y, share), "image/svg+xml": svg(panels, x, y, share), "text/plain": said}


def colour_of(look: int) -> tuple[str, str]:
    """Return (colour, dash) of a look; they repeat after the last."""
    colour, dash = LOOKS[look % len(LOOKS)]
    return (BLACK_ON_DARK if colour == "#000000" else colour), dash


# ------------------------------------------------------------------------------------------------------- plotly


def plotly(panels: Sequence[Panel], x: str, y: str, share: bool) -> dict[str, Any]:
    """Return `data` and `layout` of a plotly figure."""
    named: set[str] = set()
    data = []
    for number, panel in enumerate(panels):
        for curve in panel.curves:
            data += _traces(curve, number, curve.name not in named, share)
            named.add(curve.name)
    return {"data": data, "layout": _layout(panels, x, y, share)}


def _axis(number: int) -> str:
    return "" if number == 0 else str(number + 1)


def _traces(curve: Curve, number: int, first: bool, share: bool) -> list[dict[str, Any]]:
    colour, dash = colour_of(curve.look)
    where = {"xaxis": f"x{_axis(number)}", "yaxis": f"y{_axis(number)}", "legendgroup": f"of {curve.name}"}
    still = {**where, "hoverinfo": "skip", "showlegend": False, "mode": "lines"}
    out: list[dict[str, Any]] = []
    for edge in _edges(curve):
        around = {"x": [x for x, _ in edge], "y": [y for _, y in edge], "line": {"width": 0}}
        out.append({**around, "fill": "toself", "fillcolor": _faded(colour), **still})
    thin = {"line": {"color": colour, "width": 0.7, "dash": dash}, "opacity": 0.5}
    out += [{"x": list(curve.x), "y": _known(single), **thin, **still} for single in curve.singles]
    mode = "lines" if all(len(run) > 1 for run in _runs(curve.x, curve.mean)) else "lines+markers"
    line = {"mode": mode, "line": {"color": colour, "width": 2.4, "dash": dash}, "name": label(curve.name)}
    shown = {"showlegend": first, "hovertemplate": "%{x:,}: %{y:.1%}" if share else "%{x:,}: %{y:.3g}"}
    return [*out, {"x": list(curve.x), "y": _known(curve.mean), **line, **shown, **where}]


def _known(values: Sequence[float]) -> list[float | None]:
    """Return values with None, at which plotly leaves a gap, where they are unknown: JSON has no nan."""
    return [float(v) if math.isfinite(v) else None for v in values]


def _runs(x: Sequence[float], y: Sequence[float]) -> list[list[Point]]:
    """Return the stretches of points that are known, without those between.

    Example:
        >>> _runs([1, 2, 3, 4], [0.5, math.nan, 0.25, 1.0])
        [[(1, 0.5)], [(3, 0.25), (4, 1.0)]]
    """
    runs: list[list[Point]] = [[]]
    for point in zip(x, y, strict=True):
        if all(map(math.isfinite, point)):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _edges(curve: Curve) -> list[list[Point]]:
    """Return the outlines of the band, one around each stretch that is known."""
    if curve.low is None or curve.high is None:
        return []
    low = [lo if math.isfinite(hi) else math.nan for lo, hi in zip(curve.low, curve.high, strict=True)]
    high = [hi if math.isfinite(lo) else math.nan for lo, hi in zip(curve.low, curve.high, strict=True)]
    above, below = _runs(curve.x, high), _runs(curve.x, low)
    return [[*up, *reversed(down)] for up, down in zip(above, below, strict=True)]


def _faded(colour: str) -> str:
    return f"rgba({','.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))},.13)"


def _layout(panels: Sequence[Panel], x: str, y: str, share: bool) -> dict[str, Any]:
    wide = (1 - GAP_SHARE * (len(panels) - 1)) / len(panels)
    clear = "rgba(0,0,0,0)"
    layout: dict[str, Any] = {
        "height": 430,
        "margin": {"t": 40, "r": 10, "b": 40, "l": 60},
        "legend": {"orientation": "h", "y": -0.2},
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "font": {"color": INK},
        "annotations": [],
    }
    for number, panel in enumerate(panels):
        left = number * (wide + GAP_SHARE)
        style = {"gridcolor": GRID, "rangemode": "nonnegative" if share else "tozero"}
        layout[f"xaxis{_axis(number)}"] = {**style, "title": {"text": label(x)}, "domain": [left, left + wide]}
        beside = {"title": {"text": label(y)}} if number == 0 else {"matches": "y", "anchor": f"x{_axis(number)}"}
        layout[f"yaxis{_axis(number)}"] = {**style, **beside, **({"tickformat": ".0%"} if share else {})}
        text = {"text": label(panel.title), "x": left + wide / 2, "y": 1.07, "showarrow": False}
        layout["annotations"].append({**text, "xref": "paper", "yref": "paper"})
    return layout


# ------------------------------------------------------------------------------------------------ still picture


def svg(panels: Sequence[Panel], x: str, y: str, share: bool) -> str:
    """Return the same as one SVG, for pages without script."""
    every = [c for p in panels for c in p.curves]
    top = _above(max(_finite(v for c in every for v in (*c.mean, *(c.high or ()))), default=1.0))
    low = min(0.0, min(_finite(v for c in every for v in (*c.mean, *(c.low or ()))), default=0.0))
    if share:
        low, top = 0.0, min(top, 1.0)  # an interval may reach further, a share does not
    wide = (WIDTH - LEFT - GAP * (len(panels) - 1) - 24) / len(panels)
    names = list(dict.fromkeys((c.name, c.look) for c in every))
    parts = [_panel(p, LEFT + n * (wide + GAP), wide, (low, top), share, x) for n, p in enumerate(panels)]
    parts += [_legend(n, name, look) for n, (name, look) in enumerate(names)]
    tall = HEIGHT + KEY * (1 + (len(names) - 1) // 3) + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {tall}" width="100%" role="img" '
        f'font-family="sans-serif" font-size="11" fill="{INK}"><title>{esc(y)}</title>'
        f'<text x="4" y="{SAID}">{esc(y)}</text>{"".join(parts)}</svg>'
    )


def _finite(values: Iterable[float]) -> list[float]:
    return [v for v in values if math.isfinite(v)]


def _above(value: float) -> float:
    """Return a number from `value` on whose quarters are round: 1, 2, 2.5 or 5 times a power of ten.

    Example:
        >>> _above(0.62), _above(3.0)
        (0.8, 4.0)
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value / 4))
    quarter = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= value / 4 * (1 - 1e-9))
    return float(f"{4 * quarter:.6g}")


def _panel(panel: Panel, left: float, wide: float, range_y: tuple[float, float], share: bool, x: str) -> str:
    low, top = range_y
    last = max((v for c in panel.curves for v in c.x), default=1.0)
    foot = HEIGHT - 34

    def at(px: float, py: float) -> str:
        inside = min(max(py, low), top)
        return f"{left + wide * px / last:.1f},{TOP + (foot - TOP) * (1 - (inside - low) / (top - low)):.1f}"

    middle = f'x="{left + wide / 2:.0f}" y="{NAMED}" text-anchor="middle"'
    out = [f'<text {middle} font-weight="bold">{esc(panel.title)}</text>']
    for tick in (low + (top - low) * k / 4 for k in range(5)):
        height = at(0, tick).split(",")[1]
        out.append(f'<line x1="{left:.0f}" x2="{left + wide:.0f}" y1="{height}" y2="{height}" stroke="{GRID}"/>')
        said = f"{tick:.0%}" if share else f"{tick:.3g}"
        out.append(f'<text x="{left - 4:.0f}" y="{float(height) + 4:.1f}" text-anchor="end">{said}</text>')
    for tick in (0, last / 2, last):
        place = at(tick, low).split(",")[0]
        out.append(f'<text x="{place}" y="{foot + 15}" text-anchor="middle">{tick:,.0f}</text>')
    out.append(f'<text x="{left + wide / 2:.0f}" y="{foot + 29}" text-anchor="middle">{esc(x)}</text>')
    for curve in panel.curves:
        faded = _faded(colour_of(curve.look)[0])
        out += [f'<polygon points="{" ".join(at(*p) for p in edge)}" fill="{faded}"/>' for edge in _edges(curve)]
        out += [_line(curve.x, single, at, curve.look, thin=True) for single in curve.singles]
    out += [_line(c.x, c.mean, at, c.look) for c in panel.curves]
    return "".join(out)


def _line(x: Sequence[float], y: Sequence[float], at: Place, look: int, thin: bool = False) -> str:
    """Draw a line with gaps where it is unknown; a value alone between two gaps is a dot."""
    dots = 'r="{}" fill="{}"'.format("1" if thin else "2.5", colour_of(look)[0])
    out = []
    for run in _runs(x, y):
        places = [at(*point) for point in run]
        if len(places) == 1:
            cx, cy = places[0].split(",")
            out.append(f'<circle cx="{cx}" cy="{cy}" {dots}/>')
        else:
            out.append(_drawn(" ".join(places), look, thin))
    return "".join(out)


def _drawn(points: str, look: int, thin: bool = False) -> str:
    colour, dash = colour_of(look)
    dashes = f' stroke-dasharray="{DASHES[dash]}"' if DASHES[dash] else ""
    width = 'stroke-width="0.6" opacity="0.5"' if thin else 'stroke-width="2"'
    return f'<polyline points="{points}" fill="none" stroke="{colour}" {width}{dashes}/>'


def _legend(number: int, name: str, look: int) -> str:
    left, height = LEFT + (number % 3) * 285, HEIGHT + 12 + KEY * (number // 3)
    line = _drawn(f"{left},{height - 4} {left + 34},{height - 4}", look)
    return f'{line}<text x="{left + 40}" y="{height}">{esc(name)}</text>'
