"""Two numbers of each of many things, panel beside panel: a scatter plot, in plotly and as a picture of the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.view.escape import esc
from workbench.view.figure import GRID, INK, MIME, label
from workbench.view.palette import POSITIVE

WIDTH, HEIGHT, LEFT, TOP, GAP, FOOT = 900, 360, 52, 28, 56, 42  # of the still picture, in its own units
COLOUR = f"rgb({POSITIVE})"
LETTER = 6.2  # width of one at the size used, roughly


@dataclass(frozen=True)
class Dot:
    """One thing.

    Args:
        name: shown when pointed at; beside it where `named`.
        x, y: its numbers.
        named: write the name beside it?
    """

    name: str
    x: float
    y: float
    named: bool = False


@dataclass(frozen=True)
class Panel:
    """Dots over one pair of axes; `below` is a sentence under the title."""

    title: str
    dots: tuple[Dot, ...]
    below: str = ""


def bundle(panels: Sequence[Panel], x: str, y: str) -> dict[str, Any]:
    """Return the display bundle of panels, each with axes of its own: plotly, SVG and a line of text.

    Args:
        panels: from left to right; a dot with an infinite or unknown number is left out.
        x, y: titles of the axes.

    Example:
        >>> bundle([Panel("a", (Dot("m", 1.0, 2.0),))], "cost", "gain")["text/plain"]
        'gain over cost: a: m (1, 2)'
    """
    kept = [Panel(p.title, tuple(d for d in p.dots if math.isfinite(d.x + d.y)), p.below) for p in panels]
    told = "; ".join(f"{p.title}: {', '.join(f'{d.name} ({d.x:.3g}, {d.y:.3g})' for d in p.dots)}" for p in kept)
    return {MIME: plotly(kept, x, y), "image/svg+xml": svg(kept, x, y), "text/plain": f"{y} over {x}: {told}"}


def ticks(values: Sequence[float]) -> list[float]:
    """Return four to nine round places for the marks of an axis, the outer two around all values.

    Example:
        >>> ticks([-11.0, 37.0]), ticks([1.0, 1.0])
        ([-20.0, -10.0, 0.0, 10.0, 20.0, 30.0, 40.0], [0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6])
    """
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= (high - low) / 5 * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{step * k:.6g}") for k in range(first, last + 1)]


def _named(panel: Panel) -> str:
    return f"{panel.title}: {panel.below}" if panel.below else panel.title


# ------------------------------------------------------------------------------------------------------- plotly


def plotly(panels: Sequence[Panel], x: str, y: str) -> dict[str, Any]:
    """Return `data` and `layout` of a plotly figure."""
    gap, clear = 0.09, "rgba(0,0,0,0)"
    wide = (1 - gap * (len(panels) - 1)) / max(len(panels), 1)
    ground = {"paper_bgcolor": clear, "plot_bgcolor": clear, "font": {"color": INK}}
    layout: dict[str, Any] = {"height": 440, "margin": {"t": 40, "r": 10, "b": 50, "l": 60}, **ground}
    layout |= {"showlegend": False, "hovermode": "closest", "annotations": []}
    data = []
    for number, panel in enumerate(panels):
        end, left = "" if number == 0 else str(number + 1), number * (wide + gap)
        data.append(_trace(panel, end))
        style = {"gridcolor": GRID, "zerolinecolor": INK}
        layout[f"xaxis{end}"] = {**style, "title": {"text": label(x)}, "domain": [left, left + wide]}
        layout[f"yaxis{end}"] = {**style, "anchor": f"x{end}", "title": {"text": label(y) if number == 0 else ""}}
        text = {"text": label(_named(panel)), "x": left + wide / 2, "y": 1.07, "showarrow": False}
        layout["annotations"].append({**text, "xref": "paper", "yref": "paper"})
    return {"data": data, "layout": layout}


def _trace(panel: Panel, end: str) -> dict[str, Any]:
    return {
        "x": [d.x for d in panel.dots],
        "y": [d.y for d in panel.dots],
        "mode": "markers+text",
        "marker": {"size": 9, "color": COLOUR, "opacity": 0.8},
        "text": [label(d.name) if d.named else "" for d in panel.dots],
        "textposition": "top center",
        "hovertext": [label(d.name) for d in panel.dots],
        "hovertemplate": "%{hovertext}: %{x:.3g}, %{y:.3g}<extra></extra>",
        "xaxis": f"x{end}",
        "yaxis": f"y{end}",
    }


# ------------------------------------------------------------------------------------------------ still picture


def svg(panels: Sequence[Panel], x: str, y: str) -> str:
    """Return the same as one SVG, for pages without script."""
    wide = (WIDTH - LEFT - 16 - GAP * (len(panels) - 1)) / max(len(panels), 1)
    parts = [_panel(p, LEFT + n * (wide + GAP), wide, x) for n, p in enumerate(panels)]
    look = f'role="img" font-family="sans-serif" font-size="11" fill="{INK}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" {look}>'
    side = f'<text transform="translate(12 {(TOP + HEIGHT - FOOT) / 2:.0f}) rotate(-90)" text-anchor="middle">'
    return f"{head}<title>{esc(f'{y} over {x}')}</title>{side}{esc(y)}</text>{''.join(parts)}</svg>"


def _panel(panel: Panel, left: float, wide: float, x: str) -> str:
    across, up = ticks([d.x for d in panel.dots]), ticks([d.y for d in panel.dots])
    foot = HEIGHT - FOOT

    def at(px: float, py: float) -> tuple[float, float]:
        over = (px - across[0]) / (across[-1] - across[0])
        return left + wide * over, foot - (foot - TOP) * (py - up[0]) / (up[-1] - up[0])

    middle = f'x="{left + wide / 2:.0f}" text-anchor="middle"'
    out = [f'<text {middle} y="14" font-weight="bold">{esc(_named(panel))}</text>']
    for py in up:
        ty, ink = at(across[0], py)[1], GRID if py else INK
        out.append(f'<line x1="{left:.0f}" x2="{left + wide:.0f}" y1="{ty:.1f}" y2="{ty:.1f}" stroke="{ink}"/>')
        out.append(f'<text x="{left - 4:.0f}" y="{ty + 4:.1f}" text-anchor="end">{py:.4g}</text>')
    for px in across:
        tx, ink = at(px, up[0])[0], GRID if px else INK
        out.append(f'<line x1="{tx:.1f}" x2="{tx:.1f}" y1="{TOP}" y2="{foot}" stroke="{ink}"/>')
        out.append(f'<text x="{tx:.1f}" y="{foot + 15}" text-anchor="middle">{px:.4g}</text>')
    for dot in panel.dots:
        cx, cy = at(dot.x, dot.y)
        out.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="4" fill="{COLOUR}" fill-opacity="0.8"/>')
        out.append(_beside(dot, cx, cy, left + wide))
    return "".join([*out, f'<text {middle} y="{foot + 31}">{esc(x)}</text>'])


def _beside(dot: Dot, cx: float, cy: float, end: float) -> str:
    """Write the name on the side where there is room."""
    if not dot.named:
        return ""
    inside = cx + 7 + LETTER * len(dot.name) < end
    place = f'x="{cx + 7:.1f}"' if inside else f'x="{cx - 7:.1f}" text-anchor="end"'
    return f'<text {place} y="{cy + 4:.1f}">{esc(dot.name)}</text>'
