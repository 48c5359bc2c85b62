"""The curves of a run as a plotly figure: plain JSON, so that a notebook draws it without plotly in the kernel.

Six panels on one axis of steps. Text and grid are greys that read on light and on dark; the ground is the notebook's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.view.escape import esc
from workbench.view.palette import POSITIVE
from workbench.view.payload import course

MIME = "application/vnd.plotly.v1+json"
INK = "rgb(125,125,125)"
GRID = "rgba(128,128,128,.22)"
# Okabe and Ito's colours that stand apart from each other on light and on dark, with a dash or a place of their own.
HUES = ("#D55E00", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#999999")
PANELS = (
    ("Success", "mean outcome, 95 % interval"),
    ("Collapsed groups by cause", "share of groups"),
    ("Seconds a step", "by what they go to"),
    ("Advantage scale", "mean |A| of a token"),
    ("Entropy", "nats a token"),
    ("Gradient norm", "before clipping"),
)
ONES = {4: ("advantage_scale",), 5: ("entropy", "surprise"), 6: ("gradient_norm",)}  # the first that was measured
WIDTH, GAP = 0.28, 0.08  # of the figure: a panel, and between two
ROWS = ((0.60, 0.90), (0.0, 0.32))  # bottom and top of the panels of each row
TITLE = 30  # pixels from the top of a panel to its title; a legend has its place between


def figure(rows: Sequence[Mapping[str, Any]], below: str = "") -> dict[str, Any]:
    """Return `data` and `layout` of the curves of a run.

    Args:
        rows: cleaned metrics, all of them; see `payload.run`.
        below: a sentence under the panels.
    """
    c = course.curves(rows)
    data = [*_success(c), *_stack(c["step"], c["causes"], 2), *_stack(c["step"], c["seconds"], 3)]
    for panel, names in ONES.items():
        line = next((c["lines"][name] for name in names if name in c["lines"]), [])
        data.append(_line(c["step"], line, panel, PANELS[panel - 1][0]))
    return {"data": data, "layout": _layout(c, below)}


def _success(c: Mapping[str, Any]) -> list[dict[str, Any]]:
    parts = []
    if any(v is not None for v in c["low"]):
        edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, **_axes(1)}
        parts.append({"x": c["step"], "y": c["high"], **edge})
        parts.append({"x": c["step"], "y": c["low"], "fill": "tonexty", "fillcolor": f"rgba({POSITIVE},.22)", **edge})
    return [*parts, _line(c["step"], c["outcome"], 1, "success", share=True)]


def _line(x: Sequence[int], y: Sequence[float | None], panel: int, name: str, share: bool = False) -> dict[str, Any]:
    return {
        "x": list(x),
        "y": list(y),
        "name": name,
        "mode": "lines" if len(x) > 1 else "markers",
        "line": {"color": f"rgb({POSITIVE})", "width": 1.6},
        "marker": {"color": f"rgb({POSITIVE})"},
        "showlegend": False,
        "hovertemplate": "step %{x}: %{y:.1%}<extra></extra>" if share else "step %{x}: %{y:.4g}<extra></extra>",
        **_axes(panel),
    }


def _stack(x: Sequence[int], parts: Mapping[str, Sequence[float | None]], panel: int) -> list[dict[str, Any]]:
    """Areas on top of each other, each named as text; where no part is known there is a gap.

    A part that is unknown where others are known took no share of them.
    """
    number = "%{y:.0%}" if panel == 2 else "%{y:.3g} s"
    listed = list(parts.items())[: len(HUES)]
    out = []
    for run, places in enumerate(_known_places([y for _, y in listed], len(x))):
        for place, (name, y) in enumerate(listed):
            said = label(name)
            line = {"color": HUES[place], "width": 1}
            area = {"stackgroup": f"s{panel}-{run}", "fillcolor": _faded(HUES[place]), "line": line}
            hover = f"step %{{x}}: {number}<extra>{said}</extra>"
            shown = {"name": said, "legend": f"legend{panel}", "showlegend": run == 0, "hovertemplate": hover}
            points = {"x": [x[k] for k in places], "y": [y[k] or 0.0 for k in places], "mode": "lines"}
            out.append({**points, **area, **shown, "legendgroup": f"{panel} {place}", **_axes(panel)})
    return out


def _known_places(parts: Sequence[Sequence[float | None]], steps: int) -> list[list[int]]:
    """Return the stretches of places where any part is known.

    Example:
        >>> _known_places([[0.5, None, None, 0.2], [0.5, None, 1.0, None]], 4)
        [[0], [2, 3]]
    """
    runs: list[list[int]] = []
    for k in range(steps):
        if all(y[k] is None for y in parts):
            continue
        if runs and runs[-1][-1] == k - 1:
            runs[-1].append(k)
        else:
            runs.append([k])
    return runs


def label(text: str) -> str:
    """Return text for plotly, which reads a little HTML, TeX between dollars, and values between `%{` and `}`.

    Example:
        >>> label("<b> $x$ %{y}")
        '&lt;b&gt; &#36;x&#36; % {y}'
    """
    return esc(text).replace("$", "&#36;").replace("%{", "% {")


def _faded(colour: str) -> str:
    return "rgba({},{},{},.45)".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))


def _axes(panel: int) -> dict[str, str]:
    number = "" if panel == 1 else str(panel)
    return {"xaxis": f"x{number}", "yaxis": f"y{number}"}


def _place(panel: int) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of a panel."""
    row, column = divmod(panel - 1, 3)
    left = column * (WIDTH + GAP)
    return left, left + WIDTH, *ROWS[row]


def _layout(c: Mapping[str, Any], below: str) -> dict[str, Any]:
    clear = "rgba(0,0,0,0)"
    out: dict[str, Any] = {
        "height": 430,
        "margin": {"l": 44, "r": 16, "t": 10, "b": 46},
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "font": {"family": "system-ui,-apple-system,sans-serif", "size": 12, "color": INK},
        "hovermode": "x",
        "annotations": [],
    }
    for panel, (title, what) in enumerate(PANELS, start=1):
        number = "" if panel == 1 else str(panel)
        left, right, bottom, top = _place(panel)
        line = {"gridcolor": GRID, "zeroline": False, "linecolor": GRID, "automargin": False}
        shares = {"tickformat": ".0%", "range": [0, 1.02]} if panel in (1, 2) else {"rangemode": "tozero"}
        out[f"xaxis{number}"] = {
            "domain": [left, right],
            "anchor": f"y{number}",
            "nticks": 5,
            **line,
            **_matched(panel),
        }
        out[f"yaxis{number}"] = {"domain": [bottom, top], "anchor": f"x{number}", "nticks": 5, **line, **shares}
        out["annotations"].append(_text(f"<b>{title}</b>  {what}", left, top, TITLE if panel <= 3 else 6))
        if panel in (2, 3):
            spot = {"x": left, "y": top, "xanchor": "left", "yanchor": "bottom", "orientation": "h"}
            out[f"legend{panel}"] = {**spot, "font": {"size": 11}, "bgcolor": clear, "traceorder": "normal"}
        if panel > 3:
            out[f"xaxis{number}"]["title"] = {"text": "step", "standoff": 4}
    if said := _said(c, below):
        out["annotations"].append(_text(said, 0, 0, -44))
    return out


def _matched(panel: int) -> dict[str, str]:
    return {} if panel == 1 else {"matches": "x"}


def _said(c: Mapping[str, Any], below: str) -> str:
    many = f"Each point stands for {c['each']} steps together." if c["each"] > 1 else ""
    return esc(f"{many} {below}".strip())


def _text(text: str, x: float, y: float, yshift: int) -> dict[str, Any]:
    where = {"x": x, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    return {"text": text, "showarrow": False, "align": "left", "yshift": yshift, **where}
