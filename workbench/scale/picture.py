"""Stacked bars, as a plotly figure and as a still picture of the same numbers for pages without script.

Colours are those of all charts of the package; they stand apart for colour-blind eyes, and a pattern goes with each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from workbench import show

PATTERNS = ("", "/", "\\", "x", ".", "-", "+", "|")
IDLE = "idle"
WIDTH, HEIGHT, LEFT, FOOT, TOP, KEY = 900, 300, 56, 34, 26, 150  # of the still picture, in its own units


@dataclass(frozen=True)
class Bars:
    """Stacked bars: one a label, one piece a part.

    Args:
        title: of the picture.
        labels: under the bars.
        parts: name -> a number a bar; None is not known and draws nothing. A part named "idle" is grey.
        unit: of the vertical axis, such as "seconds"; "share" is written in per cent.
        below: a sentence under it.
    """

    title: str
    labels: tuple[str, ...]
    parts: Mapping[str, Sequence[float | None]]
    unit: str
    below: str = ""

    def colour(self, name: str) -> str:
        """Return the colour of a part."""
        hues = [hue for hue in show.chart_style().HUES if hue != "#999999"]
        others = [part for part in self.parts if part != IDLE]
        return "#999999" if name == IDLE else hues[others.index(name) % len(hues)]

    def plotly(self) -> dict[str, Any]:
        """Return `data` and `layout` of the figure."""
        style, clear = show.chart_style(), "rgba(0,0,0,0)"
        number = "%{y:.0%}" if self.unit == "share" else "%{y:.3g}"
        data = [
            {
                "type": "bar",
                "x": list(self.labels),
                "y": list(values),
                "name": escape(name),
                "marker": {"color": self.colour(name), "pattern": {"shape": PATTERNS[n % len(PATTERNS)], "size": 6}},
                "hovertemplate": f"%{{x}}: {number}<extra>{escape(name)}</extra>",
            }
            for n, (name, values) in enumerate(self.parts.items())
        ]
        axis = {"gridcolor": style.GRID, "zeroline": False}
        share = {"tickformat": ".0%", "range": [0, 1.02]} if self.unit == "share" else {"rangemode": "tozero"}
        layout = {
            "barmode": "stack",
            "height": 360,
            "title": {"text": escape(self.title), "font": {"size": 14}},
            "margin": {"l": 56, "r": 16, "t": 40, "b": 60},
            "paper_bgcolor": clear,
            "plot_bgcolor": clear,
            "font": {"family": "system-ui,-apple-system,sans-serif", "size": 12, "color": style.INK},
            "xaxis": {**axis, "type": "category", "title": {"text": escape(self.below)}},
            "yaxis": {**axis, **share, "title": {"text": escape(self.unit)}},
        }
        return {"data": data, "layout": layout}

    def figure(self) -> Any:
        """Return it as a `plotly.graph_objects.Figure`."""
        import plotly.graph_objects as go

        return go.Figure(self.plotly())

    def svg(self) -> str:
        """Return the same as one SVG."""
        style = show.chart_style()
        totals = [sum(v[n] or 0.0 for v in self.parts.values()) for n in range(len(self.labels))]
        top = 1.0 if self.unit == "share" else _above(max(totals, default=1.0))
        plot, wide = HEIGHT - FOOT - TOP, (WIDTH - LEFT - KEY) / max(len(self.labels), 1)
        out = [f'<text x="4" y="14" font-weight="bold">{escape(self.title)}</text>']
        for quarter in range(5):
            y, value = TOP + plot * (1 - quarter / 4), top * quarter / 4
            said = f"{value:.0%}" if self.unit == "share" else f"{value:.3g}"
            out.append(f'<line x1="{LEFT}" x2="{WIDTH - KEY}" y1="{y:.1f}" y2="{y:.1f}" stroke="{style.GRID}"/>')
            out.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{said}</text>')
        for n, label in enumerate(self.labels):
            out += self._bar(n, LEFT + n * wide, wide, plot / top)
            if len(self.labels) <= 24 or n % math.ceil(len(self.labels) / 24) == 0:
                middle = LEFT + (n + 0.5) * wide
                out.append(
                    f'<text x="{middle:.1f}" y="{HEIGHT - FOOT + 14}" text-anchor="middle">{escape(label)}</text>'
                )
        for n, name in enumerate(self.parts):
            y = TOP + 16 * n
            out.append(f'<rect x="{WIDTH - KEY + 10}" y="{y}" width="10" height="10" fill="{self.colour(name)}"/>')
            out.append(f'<text x="{WIDTH - KEY + 26}" y="{y + 9}">{escape(name)}</text>')
        out.append(f'<text x="{LEFT}" y="{HEIGHT - 6}">{escape(self.below)}</text>')
        look = f'role="img" font-family="sans-serif" font-size="11" fill="{style.INK}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" {look}>'
        return f"{head}<title>{escape(self.title)}</title>{''.join(out)}</svg>"

    def _bar(self, number: int, left: float, wide: float, scale: float) -> list[str]:
        out, foot = [], float(HEIGHT - FOOT)
        for name, values in self.parts.items():
            tall = (values[number] or 0.0) * scale
            foot -= tall
            shape = f'x="{left + wide * 0.1:.1f}" y="{foot:.1f}" width="{wide * 0.8:.1f}" height="{tall:.1f}"'
            out.append(f'<rect {shape} fill="{self.colour(name)}" stroke="rgba(128,128,128,.4)" stroke-width="0.5"/>')
        return out

    def __repr__(self) -> str:
        number = "{:.0%}" if self.unit == "share" else "{:.3g}"
        rows = []
        for n, label in enumerate(self.labels):
            known = ((name, values[n]) for name, values in self.parts.items() if values[n] is not None)
            rows.append(f"{label}: {', '.join(f'{name} {number.format(value)}' for name, value in known)}")
        return "\n".join([f"{self.title} ({self.unit})", *rows])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {show.chart_style().MIME: self.plotly(), "image/svg+xml": self.svg(), "text/plain": repr(self)}


def _above(value: float) -> float:
    """Return a round number from `value` on.

    Example:
        >>> _above(7.2), _above(0.03)
        (8.0, 0.04)
    """
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1.0, 2.0, 4.0, 8.0, 10.0) if m * power >= value * (1 - 1e-9))
