"""Curves of runs: as a plotly figure, as a still picture, and their last values as a table."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.view.escape import esc
from workbench.view.figure import GRID, INK, label
from workbench.view.html.parts import REPR_BYTES, RULE, SMALL, count, frame, heading, note, table, td, th, tr
from workbench.view.payload.curves import DASHES, HUES
from workbench.view.tags import Markup, el

COLUMNS = 2
WIDE, TALL, LEFT, TOP, FOOT, GAP = 900, 210, 54, 26, 34, 30  # of a panel of the still picture, in CSS pixels
LEGEND = 20
TICKS = 4


def curves(p: Mapping[str, Any], budget: int = REPR_BYTES) -> Markup:
    """Return the still picture and the last values, from `payload.curves`."""
    if not p["steps"]:
        return frame(heading("Curves"), note("No runs were given, or nothing was measured yet."))
    tall, drawn = svg(p)
    address = "data:image/svg+xml;base64," + base64.b64encode(drawn.encode()).decode()
    attrs = {"src": address, "alt": alt_text(p), "width": WIDE, "height": tall}
    image = el("div", el("img", style="max-width:none", attrs=attrs), style="overflow-x:auto")
    shown = image if len(address) < budget * 0.8 else note("The picture is left out, to stay small; see the table.")
    return frame(heading("Curves", f"over {p['x']}"), shown, note(said(p)), _table(p))


def said(p: Mapping[str, Any]) -> str:
    """Say what lines and bands are."""
    most = max((len(line["seeds"]) for panel in p["panels"] for line in panel["lines"]), default=0)
    band = "Band: Student's 95 % interval of the mean over seeds. " if most > 1 else "One seed a line: no band. "
    thick = f"the mean of the last {p['smooth']} steps" if p["smooth"] > 1 else "as measured"
    line = f"Thick: mean over seeds{', ' + thick if p['smooth'] > 1 else ''}. Thin: each seed, as measured. "
    if most < 2:
        line = f"Thick: {thick}. Thin: as measured. " if p["smooth"] > 1 else ""
    place = "" if p["x"] == "step" or most < 2 else f"A mean stands at the seeds' mean {p['x']} of a step. "
    thinned = f"One step in {p['each']:,} is drawn; the table and the smoothing use all." if p["each"] > 1 else ""
    return f"{line}{band}{place}{thinned}{_uneven(p)}".strip()


def _uneven(p: Mapping[str, Any]) -> str:
    found = []
    for line in p["panels"][0]["lines"] if p["panels"] else []:
        there = line["n"][line["n"] > 0]
        if len(there) and there.min() < there.max():
            found.append(f"{line['name']} {there.min():.0f} to {there.max():.0f}")
    return f" Seeds that are known differ by step: {', '.join(found)}." if found else ""


def alt_text(p: Mapping[str, Any]) -> str:
    """Say what the picture shows."""
    parts = []
    for panel in p["panels"]:
        ends = [f"{line['name']} {number(_last(line['y']), panel)}" for line in panel["lines"]]
        parts.append(f"{panel['metric']} over {p['x']}, last: {', '.join(ends)}")
    return ". ".join(parts)


def _last(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known[-1]) if len(known) else math.nan


def number(value: float, panel: Mapping[str, Any]) -> str:
    """Return a value as text; unknown is the word.

    Example:
        >>> number(0.25, {"percent": True}), number(float("nan"), {"percent": False})
        ('25%', 'unknown')
    """
    if math.isnan(value):
        return "unknown"
    return (f"{100 * value:.3g}%" if panel["percent"] else f"{value:.3g}").replace("-", "−")


def _table(p: Mapping[str, Any]) -> Markup:
    line, right = f"border-bottom:{RULE}", "text-align:right"
    names = ["metric", "method", "seeds", "last", "95 % interval"]
    head = tr(*[th(name, style=line + (f";{right}" if k > 1 else "")) for k, name in enumerate(names)])
    rows = []
    for panel in p["panels"]:
        for one in panel["lines"]:
            known = np.flatnonzero(~np.isnan(one["y"]))
            at = int(known[-1]) if len(known) else -1
            low, high = (float(one[key][at]) if at >= 0 else math.nan for key in ("low", "high"))
            band = "–" if math.isnan(low) else f"{number(low, panel)} to {number(high, panel)}"
            last = number(float(one["y"][at]) if at >= 0 else math.nan, panel)
            cells = [str(len(one["seeds"])), last, band]
            name = th(panel["metric"], scope="row", style="font-weight:normal")
            rows.append(tr(name, td(one["name"]), *[td(text, style=right) for text in cells]))
    return el("div", table("", [head], rows), style=f"{SMALL};margin:10px 0 0")


# ---------------------------------------------------------------------------------------------------- still picture


def svg(p: Mapping[str, Any]) -> tuple[int, str]:
    """Return height and SVG of the panels, two beside each other."""
    columns = min(COLUMNS, len(p["panels"]))
    rows = -(-len(p["panels"]) // columns)
    names = [(line["name"], line["look"]) for line in p["panels"][0]["lines"]]
    tall = rows * TALL + LEGEND * -(-len(names) // 3) + 8
    parts = []
    for place, panel in enumerate(p["panels"]):
        row, column = divmod(place, columns)
        wide = (WIDE - GAP * (columns - 1)) / columns
        parts.append(_panel(p, panel, column * (wide + GAP), row * TALL, wide))
    for place, (name, look) in enumerate(names):
        left, y = LEFT + place % 3 * 280, rows * TALL + 14 + LEGEND * (place // 3)
        parts.append(_path(f"M{left} {y - 4}h34", look) + f'<text x="{left + 42}" y="{y}">{esc(name)}</text>')
    top = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {tall}" width="{WIDE}" height="{tall}" '
    return tall, f'{top}font-family="sans-serif" font-size="11" fill="{INK}">{"".join(parts)}</svg>'


def round_ticks(low: float, high: float, most: int = TICKS) -> list[float]:
    """Return round numbers that span low to high.

    Example:
        >>> round_ticks(0.0, 0.62), round_ticks(3.0, 3.0)
        ([0.0, 0.2, 0.4, 0.6, 0.8], [3.0, 4.0])
    """
    wide = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(wide / most))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= wide / most * (1 - 1e-9))
    step = wide if high == low else step
    first, last = math.floor(low / step + 1e-9), math.ceil((low + wide) / step - 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def _panel(p: Mapping[str, Any], panel: Mapping[str, Any], left: float, top: float, wide: float) -> str:
    every = [v for line in panel["lines"] for key in ("y", "low", "high") for v in line[key]]
    every += [v for line in panel["lines"] for seed in line["seeds"] for v in seed["y"]]
    known = [float(v) for v in every if math.isfinite(v)]
    marks = round_ticks(0.0, 1.0) if panel["percent"] else round_ticks(min([0.0, *known]), max([0.0, *known]))
    xs = [float(v) for line in panel["lines"] for s in line["seeds"] for v in s["x"].get(p["x"], ()) if v == v]
    first, last = min(xs, default=0.0), max(xs, default=1.0)
    x0, y0, width, height = left + LEFT, top + TOP, wide - LEFT - 6, TALL - TOP - FOOT

    def at(x: float, y: float) -> str:
        inside = min(max(y, marks[0]), marks[-1])
        across = (x - first) / (last - first) if last > first else 0.5
        return f"{x0 + width * across:.1f} {y0 + height * (1 - (inside - marks[0]) / (marks[-1] - marks[0])):.1f}"

    out = [f'<text x="{x0:.0f}" y="{top + 14:.0f}" font-weight="bold">{esc(panel["metric"])}</text>']
    for mark in marks:
        y = float(at(first, mark).split(" ")[1])
        out.append(f'<line x1="{x0:.0f}" x2="{x0 + width:.0f}" y1="{y}" y2="{y}" stroke="{GRID}"/>')
        out.append(f'<text x="{x0 - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{number(mark, panel)}</text>')
    for place, anchor in ((first, "start"), (last, "end")):
        x = at(place, marks[0]).split(" ")[0]
        said = f"{p['x']} {place:,.4g}" if anchor == "start" else f"{place:,.6g}"
        out.append(f'<text x="{x}" y="{y0 + height + 16:.0f}" text-anchor="{anchor}">{said}</text>')
    out += [_band(line, p["x"], at) for line in panel["lines"]]
    for line in panel["lines"]:
        if len(line["seeds"]) > 1 or p["smooth"] > 1:
            out += [_path(_segments(s["x"][p["x"]], s["y"], at), line["look"], thin=True) for s in line["seeds"]]
        out.append(_path(_segments(line["x"][p["x"]], line["y"], at), line["look"]))
    return "".join(out)


def _segments(x: np.ndarray, y: np.ndarray, at: Any) -> str:
    """Return a path with a gap where a value is unknown; a lone value is a dot."""
    out, pen = [], False
    for k in range(len(x)):
        if math.isnan(y[k]) or math.isnan(x[k]):
            pen = False
            continue
        alone = not pen and (k + 1 == len(x) or math.isnan(y[k + 1]))
        out.append(f"{'L' if pen else 'M'}{at(x[k], y[k])}" + ("h2" if alone else ""))
        pen = True
    return "".join(out)


def _band(line: Mapping[str, Any], axis: str, at: Any) -> str:
    told = np.flatnonzero(~np.isnan(line["low"]) & ~np.isnan(line["high"]))
    parts = [run for run in np.split(told, np.flatnonzero(np.diff(told) > 1) + 1) if len(run) > 1]
    x, out = line["x"][axis], []
    for run in parts:
        around = [at(x[k], line["high"][k]) for k in run] + [at(x[k], line["low"][k]) for k in reversed(run)]
        out.append(f'<path d="M{"L".join(around)}Z" fill="rgba({HUES[line["look"] % len(HUES)]},.16)"/>')
    return "".join(out)


def _path(d: str, look: int, thin: bool = False) -> str:
    dash = () if thin else dash_of(look)  # thin dashes of many seeds look like noise
    dashed = f' stroke-dasharray="{" ".join(map(str, dash))}"' if dash else ""
    width = 'stroke-width=".8" stroke-opacity=".5"' if thin else 'stroke-width="2"'
    return f'<path d="{d}" fill="none" stroke="rgb({HUES[look % len(HUES)]})" {width}{dashed}/>' if d else ""


def dash_of(look: int) -> tuple[int, ...]:
    """Return the dash of a look: after the last colour the same colours come with other dashes."""
    return DASHES[(look + look // len(HUES)) % len(DASHES)]


# --------------------------------------------------------------------------------------------------------- plotly


def plotly(p: Mapping[str, Any]) -> dict[str, Any]:
    """Return `data` and `layout` of a plotly figure: plain JSON, drawn by the notebook, no widget."""
    columns = min(COLUMNS, max(1, len(p["panels"])))
    rows = -(-len(p["panels"]) // columns)
    clear = "rgba(0,0,0,0)"
    layout: dict[str, Any] = {
        "height": 94 + 250 * rows,
        "margin": {"l": 60, "r": 12, "t": 34, "b": 104},
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "font": {"family": "system-ui,-apple-system,sans-serif", "size": 12, "color": INK},
        "legend": {"orientation": "h", "y": -0.16 / rows, "yanchor": "top", "bgcolor": clear},
        "annotations": [],
    }
    data = []
    for place, panel in enumerate(p["panels"]):
        key = "" if place == 0 else str(place + 1)
        row, column = divmod(place, columns)
        left, bottom = column * (1 + 0.08) / columns, 1 - (row + 1) / rows
        right, top = left + (1 - 0.08 * (columns - 1)) / columns, bottom + (1 - (0.24 if rows > 1 else 0)) / rows
        style = {"gridcolor": GRID, "zeroline": False, "nticks": 6}
        tick = {"tickformat": ".0%", "range": [0, 1.02]} if panel["percent"] else {"rangemode": "tozero"}
        x = {"domain": [left, min(right, 1.0)], "anchor": f"y{key}", "title": {"text": p["x"], "standoff": 4}}
        layout[f"xaxis{key}"] = {**style, **x}
        layout[f"yaxis{key}"] = {**style, "domain": [bottom, min(top, 1.0)], "anchor": f"x{key}", **tick}
        text = {"text": f"<b>{label(panel['metric'])}</b>", "x": left, "y": min(top, 1.0), "yshift": 6}
        spot = {"xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom", "showarrow": False}
        layout["annotations"].append({**text, **spot})
        for line in panel["lines"]:
            data += _traces(p, line, key, place == 0, panel["percent"])
    below = {"text": label(said(p)), "x": 0, "y": 0, "yshift": -76, "xanchor": "left", "yanchor": "top"}
    plain_spot = {"xref": "paper", "yref": "paper", "showarrow": False, "align": "left", "font": {"size": 11}}
    layout["annotations"].append({**below, **plain_spot})
    return {"data": data, "layout": layout}


def _traces(p: Mapping[str, Any], line: Mapping[str, Any], key: str, first: bool, share: bool) -> list[dict[str, Any]]:
    rgb, name = HUES[line["look"] % len(HUES)], label(line["name"])
    dash = ",".join(f"{n}px" for n in dash_of(line["look"])) or "solid"
    where = {"xaxis": f"x{key}", "yaxis": f"y{key}", "legendgroup": f"line {line['look']}", "mode": "lines"}
    still = {**where, "hoverinfo": "skip", "showlegend": False}
    x, out = line["x"][p["x"]], []
    told = np.flatnonzero(~np.isnan(line["low"]))
    if len(told):
        low, high = ({"x": plain(x[told]), "y": plain(line[k][told]), "line": {"width": 0}} for k in ("low", "high"))
        out += [{**high, **still}, {**low, **still, "fill": "tonexty", "fillcolor": f"rgba({rgb},.16)"}]
    if len(line["seeds"]) > 1 or p["smooth"] > 1:
        thin = {"line": {"color": f"rgb({rgb})", "width": 0.8}, "opacity": 0.45}
        out += [{"x": plain(s["x"][p["x"]]), "y": plain(s["y"]), **thin, **still} for s in line["seeds"]]
    look = {"line": {"color": f"rgb({rgb})", "width": 2, "dash": dash}, "marker": {"color": f"rgb({rgb})"}}
    hover = f"{p['x']} %{{x}}: %{{y:{'.1%' if share else '.4g'}}}<extra>{name}</extra>"
    mode = "lines" if (~np.isnan(line["y"])).sum() > 1 else "markers"
    shown = {"name": name, "showlegend": first, "hovertemplate": hover}
    return [*out, {"x": plain(x), "y": plain(line["y"]), **look, **where, **shown, "mode": mode}]


def plain(values: Sequence[float] | np.ndarray) -> list[float | None]:
    """Return numbers for JSON, four figures or whole; None where unknown.

    Example:
        >>> plain([0.123456, float("nan"), 12345.0])
        [0.1235, None, 12345.0]
    """
    return [
        None if not math.isfinite(v) else float(f"{v:.4g}") if abs(v) < 1000 else round(float(v), 1) for v in values
    ]


def words(p: Mapping[str, Any]) -> str:
    """Return the curves as text."""
    lines = [f"curves over {p['x']}: {count(p['steps'], 'step')}"]
    for panel in p["panels"]:
        for line in panel["lines"]:
            many = count(len(line["seeds"]), "seed")
            lines.append(f"{panel['metric']}, {line['name']}: {number(_last(line['y']), panel)} ({many})")
    return "\n".join(lines)
