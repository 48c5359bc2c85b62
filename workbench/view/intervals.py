"""Differences with their intervals, one line a method, panel beside panel: a forest plot, in plotly and as a picture.

Pure functions of numbers to plain data: `bundle` gives what a notebook displays. What a mark means is in its shape as
well as in its colour: a triangle that points to the better side or to the worse one, or a ring that points nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workbench.view.escape import esc
from workbench.view.figure import GRID, INK, MIME, label
from workbench.view.palette import NEGATIVE, POSITIVE

WIDTH, NAMES, GAP, ROW, TOP, FOOT = 900, 256, 40, 19, 30, 62  # of the still picture, in its own units
Verdict = Literal["better", "worse", "open"]
COLOURS: Mapping[Verdict, str] = {"better": f"rgb({POSITIVE})", "worse": f"rgb({NEGATIVE})", "open": INK}
SYMBOLS: Mapping[Verdict, str] = {"better": "triangle-right", "worse": "triangle-left", "open": "circle-open"}
SAID: Mapping[Verdict, str] = {"better": "told apart: better", "worse": "told apart: worse", "open": "not told apart"}


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Args:
        mean, low, high: in the unit of the axis.
        told: does the difference hold by the test that goes with it?
    """

    mean: float
    low: float
    high: float
    told: bool = False

    @property
    def verdict(self) -> Verdict:
        """Which mark it gets."""
        if not self.told:
            return "open"
        return "better" if self.mean > 0 else "worse"


@dataclass(frozen=True)
class Panel:
    """Estimates by name over one axis.

    Args:
        title: above it.
        found: by the name of the row; a row without an estimate stays empty.
        blur: half the width of the band around 0 in which a difference is not told; None: no band.
    """

    title: str
    found: Mapping[str, Estimate]
    blur: float | None = None


def bundle(panels: Sequence[Panel], groups: Mapping[str, Sequence[str]], x: str) -> dict[str, Any]:
    """Return the display bundle of panels over the same rows: plotly, SVG and a line of text.

    Args:
        panels: from left to right; they share one horizontal scale.
        groups: heading -> names of its rows, from the top.
        x: title of the axis.

    Example:
        >>> sorted(bundle([Panel("a", {"m": Estimate(0.1, -0.1, 0.3)})], {"all": ["m"]}, "points"))
        ['application/vnd.plotly.v1+json', 'image/svg+xml', 'text/plain']
    """
    lines = [name for names in groups.values() for name in names]
    told = "; ".join(
        f"{p.title}: "
        + ", ".join(f"{n} {e.mean:+.3g} [{e.low:+.3g}, {e.high:+.3g}]" for n in lines if (e := p.found.get(n)))
        for p in panels
    )
    return {
        MIME: plotly(panels, groups, x),
        "image/svg+xml": svg(panels, groups, x),
        "text/plain": f"{x}: {told}",
    }


def rows_of(groups: Mapping[str, Sequence[str]]) -> list[tuple[str, bool]]:
    """Return (text, is it a heading?) of every line from the top.

    Example:
        >>> rows_of({"few": ["a"], "none": []})
        [('few', True), ('a', False)]
    """
    return [row for head, names in groups.items() if names for row in ((head, True), *((n, False) for n in names))]


def reach(panels: Sequence[Panel]) -> float:
    """Return how far the axis reaches to both sides: from the largest bound on, a round number.

    Example:
        >>> reach([Panel("a", {"m": Estimate(3.0, -11.0, 17.0)})])
        20.0
    """
    ends = [abs(v) for p in panels for e in p.found.values() for v in (e.mean, e.low, e.high) if math.isfinite(v)]
    most = max(ends, default=1.0) or 1.0
    power = 10.0 ** math.floor(math.log10(most / 2))
    half = next(m * power for m in (1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10) if m * power >= most / 2 * (1 - 1e-9))
    return float(f"{2 * half:.6g}")


# ------------------------------------------------------------------------------------------------------- plotly


def plotly(panels: Sequence[Panel], groups: Mapping[str, Sequence[str]], x: str) -> dict[str, Any]:
    """Return `data` and `layout` of a plotly figure."""
    rows, named = rows_of(groups), set[str]()
    data = []
    for number, panel in enumerate(panels):
        for verdict in SAID:
            here = [(at, panel.found[n]) for at, (n, head) in enumerate(rows) if not head and n in panel.found]
            these = [(at, e) for at, e in here if e.verdict == verdict]
            if these:
                data.append(_trace(these, rows, verdict, number, verdict not in named))
                named.add(verdict)
    return {"data": data, "layout": _layout(panels, rows, x)}


def _axis(number: int) -> str:
    return "" if number == 0 else str(number + 1)


def _trace(
    these: Sequence[tuple[int, Estimate]], rows: Sequence[tuple[str, bool]], verdict: Verdict, number: int, first: bool
) -> dict[str, Any]:
    bounds = {
        "type": "data",
        "symmetric": False,
        "array": [e.high - e.mean for _, e in these],
        "arrayminus": [e.mean - e.low for _, e in these],
        "thickness": 1.4,
        "width": 0,
        "color": COLOURS[verdict],
    }
    return {
        "x": [e.mean for _, e in these],
        "y": [at for at, _ in these],
        "error_x": bounds,
        "mode": "markers",
        "marker": {"symbol": SYMBOLS[verdict], "size": 10, "color": COLOURS[verdict], "line": {"width": 1.6}},
        "name": SAID[verdict],
        "legendgroup": verdict,
        "showlegend": first,
        "text": [f"{label(rows[at][0])}: {e.mean:+.1f} [{e.low:+.1f}, {e.high:+.1f}]" for at, e in these],
        "hovertemplate": "%{text}<extra></extra>",
        "xaxis": f"x{_axis(number)}",
        "yaxis": f"y{_axis(number)}",
    }


def _layout(panels: Sequence[Panel], rows: Sequence[tuple[str, bool]], x: str) -> dict[str, Any]:
    gap, far = 0.03, reach(panels)
    wide = (1 - gap * (len(panels) - 1)) / len(panels)
    clear = "rgba(0,0,0,0)"
    layout: dict[str, Any] = {
        "height": 110 + 21 * len(rows),
        "margin": {"t": 34, "r": 10, "b": 70, "l": 10},
        "legend": {"orientation": "h", "x": 0.5, "xanchor": "center", "y": 0, "yref": "container"},
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "font": {"color": INK},
        "hovermode": "closest",
        "annotations": [],
        "shapes": [],
    }
    names = [f"<b>{label(text)}</b>" if head else label(text) for text, head in rows]
    side = {"range": [len(rows) - 0.5, -0.5], "showgrid": False, "zeroline": False, "fixedrange": True}
    for number, panel in enumerate(panels):
        left, end = number * (wide + gap), _axis(number)
        layout[f"xaxis{end}"] = {
            "range": [-far, far],
            "gridcolor": GRID,
            "zerolinecolor": INK,
            "title": {"text": label(x)},
            "domain": [left, left + wide],
        }
        ticks = {"tickvals": list(range(len(rows))), "ticktext": names, "automargin": True}
        layout[f"yaxis{end}"] = {**side, "anchor": f"x{end}", **(ticks if number == 0 else {"showticklabels": False})}
        text = {"text": label(panel.title), "x": left + wide / 2, "y": 1, "yanchor": "bottom", "showarrow": False}
        layout["annotations"].append({**text, "xref": "paper", "yref": "paper"})
        if panel.blur is not None:
            band = {"type": "rect", "x0": -panel.blur, "x1": panel.blur, "y0": 0, "y1": 1, "yref": f"y{end} domain"}
            layout["shapes"].append(
                {**band, "xref": f"x{end}", "fillcolor": GRID, "line": {"width": 0}, "layer": "below"}
            )
    return layout


# ------------------------------------------------------------------------------------------------ still picture


def svg(panels: Sequence[Panel], groups: Mapping[str, Sequence[str]], x: str) -> str:
    """Return the same as one SVG, for pages without script."""
    rows, far = rows_of(groups), reach(panels)
    foot = TOP + ROW * len(rows)
    wide = (WIDTH - NAMES - 20 - GAP * (len(panels) - 1)) / len(panels)
    parts = [_name(text, head, TOP + ROW * at + 13) for at, (text, head) in enumerate(rows)]
    for number, panel in enumerate(panels):
        parts.append(_panel(panel, rows, NAMES + number * (wide + GAP), wide, far, x))
    parts += [_key(n, verdict, foot + 46) for n, verdict in enumerate(SAID)]
    look = f'role="img" font-family="sans-serif" font-size="11" fill="{INK}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {foot + FOOT}" width="100%" {look}>'
    return f"{head}<title>{esc(x)}</title>{''.join(parts)}</svg>"


def _name(text: str, head: bool, y: int) -> str:
    look = 'x="4" font-weight="bold"' if head else 'x="14"'
    return f'<text {look} y="{y}">{esc(text)}</text>'


def _panel(panel: Panel, rows: Sequence[tuple[str, bool]], left: float, wide: float, far: float, x: str) -> str:
    foot, middle = TOP + ROW * len(rows), left + wide / 2

    def at(value: float) -> float:
        return middle + wide / 2 * max(-1.0, min(1.0, value / far))

    out = [f'<text x="{middle:.0f}" y="16" text-anchor="middle" font-weight="bold">{esc(panel.title)}</text>']
    if panel.blur is not None:
        width = at(panel.blur) - at(-panel.blur)
        band = f'x="{at(-panel.blur):.1f}" y="{TOP}" width="{width:.1f}" height="{foot - TOP}"'
        out.append(f'<rect {band} fill="{GRID}"/>')
    for tick in (-far, -far / 2, 0.0, far / 2, far):
        line = f'x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="{TOP}" y2="{foot}"'
        out.append(f'<line {line} stroke="{GRID if tick else INK}"/>')
        said = f"{tick:+.3g}" if tick else "0"
        out.append(f'<text x="{at(tick):.1f}" y="{foot + 14}" text-anchor="middle">{said}</text>')
    out.append(f'<text x="{middle:.0f}" y="{foot + 28}" text-anchor="middle">{esc(x)}</text>')
    for number, (name, head) in enumerate(rows):
        found = None if head else panel.found.get(name)
        if found is not None:
            y, colour = TOP + ROW * number + 9, COLOURS[found.verdict]
            ends = f'x1="{at(found.low):.1f}" x2="{at(found.high):.1f}" y1="{y}" y2="{y}"'
            out.append(f'<line {ends} stroke="{colour}" stroke-width="1.4"/>{_mark(at(found.mean), y, found.verdict)}')
    return "".join(out)


def _mark(x: float, y: float, verdict: Verdict) -> str:
    """Draw the triangle or the ring of an estimate around a point."""
    if verdict == "open":
        return f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="none" stroke="{INK}" stroke-width="1.6"/>'
    way = 1 if verdict == "better" else -1
    points = f"{x - 4 * way:.1f},{y - 5} {x - 4 * way:.1f},{y + 5} {x + 6 * way:.1f},{y}"
    return f'<polygon points="{points}" fill="{COLOURS[verdict]}"/>'


def _key(number: int, verdict: Verdict, y: float) -> str:
    left = NAMES + 20 + number * 170
    return f'{_mark(left, y, verdict)}<text x="{left + 12}" y="{y + 4}">{esc(SAID[verdict])}</text>'
