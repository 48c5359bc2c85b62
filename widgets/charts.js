// Lines over steps, tokens or seconds: bands, stacks, a dash beside each colour, ticks, and a readout by pointer or keys.

import { canvas, count, el, fill, plain } from "./core.js";

// Okabe and Ito's colours; each has a dash of its own, so that a line is known without its colour.
export const HUES = ["0,114,178", "213,94,0", "0,158,115", "204,121,167", "230,159,0", "86,180,233"];
export const DASHES = [[], [6, 3], [2, 2], [9, 3, 2, 3], [13, 4], [4, 2, 1, 2]];
const GRID = "rgba(128,128,128,.24)";
const FONT = "11px system-ui, -apple-system, sans-serif";
const [TOP, RIGHT, BOTTOM] = [7, 10, 20];

export const known = (v) => v !== null && v !== undefined && !Number.isNaN(v);

// ---------------------------------------------------------------------------------------------------- numbers in words

/** 0.431 is 43.1%. */
export const share = (v) => (known(v) ? `${plain(100 * v, 3)}%` : "unknown");

/** 12,345 is 12.3k; three figures. */
export function amount(v) {
  if (!known(v) || Math.abs(v) < 1000) return plain(v, 3);
  const [unit, by] = Math.abs(v) >= 1e9 ? ["G", 1e9] : Math.abs(v) >= 1e6 ? ["M", 1e6] : ["k", 1e3];
  return `${plain(v / by, 3)}${unit}`;
}

/** Seconds as 40 s, 12 min, 3 h. */
export function duration(v) {
  if (!known(v) || v < 90) return known(v) ? `${plain(v, 2)} s` : "unknown";
  return v < 5400 ? `${plain(v / 60, 2)} min` : `${plain(v / 3600, 3)} h`;
}

/** Round numbers from low to high, about `most` of them. */
export function ticks(low, high, most = 4, whole = false) {
  const rough = (high - low) / most;
  if (!(rough > 0)) return [low];
  const ten = 10 ** Math.floor(Math.log10(rough));
  const found = [1, 2, 5, 10].find((m) => m * ten >= rough * (1 - 1e-9)) * ten;
  const step = whole ? Math.max(1, found) : found;
  const out = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) out.push(+(i * step).toPrecision(12));
  return out;
}

// ----------------------------------------------------------------------------------------------------------- the chart

/** Charts of one cursor: reading one at some x reads them all there. */
export function together() {
  const group = { charts: new Set(), at: null };
  group.move = (x) => { group.at = x; for (const chart of group.charts) { chart.say(); chart.canvas.redraw(); } };
  return group;
}

/**
 * A chart of lines. `given`, all but `series` with a default:
 *   series  [{ name, y, x, low, high, hue, dash, thin }]: numbers in lists or typed arrays, null or NaN where unknown; `x`
 *           rises, by default that of the chart; `low`, `high` make a band; `thin` is for what stands behind (raw, a seed)
 *   title (text, or an element and `name`), what, x, xName ("step"), format, xFormat (number -> text), whole (x has no
 *   fractions), range ([low, high] of y), stack (areas upon each other), rules ([{ y, words }], lines across), height, shared (of `together()`),
 *   pick ((x, place) => ...: click or Enter)
 * Returns an element with `set(change)`, which draws the chart with some of this changed, and `redraw()`.
 */
export function lineChart(ctx, given) {
  return new LineChart(ctx, given).node;
}

class LineChart {
  constructor(ctx, given) {
    Object.assign(this, { ctx, names: null, x: [], xName: "step", format: amount, xFormat: amount, rules: [], height: 132, whole: true });
    this.shared = given.shared || together();
    this.shared.charts.add(this);
    this.head = el("div", { class: "chart-head" });
    this.key = el("div", { class: "chart-key", "aria-live": "off" });
    this.canvas = canvas(ctx, (g, w, h, ink) => this.draw(g, w, h, ink), { role: "img" });
    this.node = el("div", { class: "chart", role: "group", tabindex: "0", on: {
      keydown: (e) => this.press(e),
      focus: () => this.key.setAttribute("aria-live", "polite"),
      blur: () => { this.key.setAttribute("aria-live", "off"); this.shared.move(null); },
    } }, this.head, this.key, this.canvas);
    this.canvas.addEventListener("pointermove", (e) => this.shared.move(this.nearest(e.offsetX)));
    this.canvas.addEventListener("pointerleave", () => this.shared.move(null));
    this.canvas.addEventListener("click", (e) => this.choose(this.nearest(e.offsetX)));
    Object.assign(this.node, { set: (change) => this.set(change), redraw: () => this.canvas.redraw() });
    ctx.on("dispose", () => this.shared.charts.delete(this));
    this.set(given);
  }

  set(change) {
    Object.assign(this, change);
    this.canvas.style.height = `${this.height}px`;
    this.canvas.classList.toggle("picks", Boolean(this.pick));
    if (change.title || change.what) {
      fill(this.head, el("span", { class: "chart-title" }, this.title), this.what ? el("span", { class: "quiet" }, this.what) : null);
    }
    for (const [i, one] of this.series.entries()) {
      one.hue ??= i % HUES.length;
      one.dash ??= i % DASHES.length;
      one.base = null;
    }
    this.tops = this.stack ? this.stacked() : this.series.map((one) => one.y);
    this.bounds();
    this.legend();
    this.say();
    this.describe();
    this.canvas.redraw();
  }

  xOf(one) { return one.x || this.x; }

  /** Upper edges of areas that stand upon each other; unknown counts as nothing. */
  stacked() {
    let below = null;
    return this.series.map((one) => {
      one.base = below || Array.from(one.y, () => 0);
      below = Array.from(one.y, (v, i) => (known(v) ? v : 0) + (below ? below[i] : 0));
      return below;
    });
  }

  /** Smallest and largest x and y. */
  bounds() {
    const reach = (lists) => lists.reduce(([a, b], list) => {
      for (const v of list || []) if (known(v)) { if (v < a) a = v; if (v > b) b = v; }
      return [a, b];
    }, [Infinity, -Infinity]);
    [this.left, this.right] = reach(this.series.map((one) => this.xOf(one)));
    const [low, high] = reach([...this.tops, ...this.series.flatMap((one) => [one.low, one.high]), this.rules.map((r) => r.y)]);
    const [a, b] = [Math.min(0, low), Math.max(0, high)];
    const span = ticks(a, b > a ? b : a + 1);
    const step = span.length > 1 ? span[1] - span[0] : 1;
    [this.low, this.high] = this.range || [Math.floor(a / step + 1e-9) * step, Math.ceil((b > a ? b : a + 1) / step - 1e-9) * step];
  }

  // -- words ---------------------------------------------------------------------------------------------------------

  /** Names with a sample of their line; made anew only when they change. */
  legend() {
    const names = JSON.stringify(this.series.map((one) => [one.name, one.hue, one.dash, one.thin]));
    if (names === this.names) return;
    this.names = names;
    this.place = el("span", { class: "quiet" });
    this.values = this.series.map(() => el("b"));
    const several = this.stack || this.series.filter((one) => !one.thin).length > 1;
    const sample = (one) => canvas(this.ctx, (g, w, h) => this.sample(g, w, h, one), { class: "chart-sample", "aria-hidden": "true" });
    const named = (one) => (several && !one.thin ? [sample(one), `${one.name} `] : null);
    fill(this.key, this.series.map((one, i) => (one.thin ? null : el("span", null, named(one), this.values[i]))), this.place);
  }

  sample(g, w, h, one) {
    g.fillStyle = `rgba(${HUES[one.hue]},${this.stack ? 0.3 : 0})`;
    g.fillRect(0, 0, w, h);
    this.pen(g, one);
    g.beginPath();
    g.moveTo(0, this.stack ? 1 : h / 2);
    g.lineTo(w, this.stack ? 1 : h / 2);
    g.stroke();
  }

  /** Values at the cursor; without one, the last. */
  say() {
    const { at } = this.shared;
    let where = null;
    for (const [i, one] of this.series.entries()) {
      const n = at === null ? lastKnown(one.y) : this.placeOf(one, at);
      if (n >= 0) where ??= this.xOf(one)[n];
      const band = n >= 0 && one.low && known(one.low[n]) && known(one.high[n]);
      const interval = band ? ` (${this.format(one.low[n])} to ${this.format(one.high[n])})` : "";
      fill(this.values[i], one.thin ? "" : n < 0 ? "unknown" : this.format(one.y[n]) + interval);
    }
    const nothing = this.series.some((one) => one.y.length) ? "" : "nothing measured yet";
    const exact = this.whole && known(where) ? where.toLocaleString("en") : this.xFormat(where);
    fill(this.place, where === null ? nothing : `${at === null ? "last, " : ""}${this.xName} ${exact}`);
  }

  describe() {
    const said = this.series.filter((one) => !one.thin).slice(0, 8).map((one) => {
      const n = lastKnown(one.y);
      return `${one.name} ${n < 0 ? "unknown" : `last ${this.format(one.y[n])}`}`;
    });
    const name = [this.name || (typeof this.title === "string" ? this.title : ""), this.what].filter(Boolean).join(", ");
    this.canvas.setAttribute("aria-label", `${name}: ${count(this.series[0]?.y.length || 0, "point")}; ${said.join(", ")}`);
    this.node.setAttribute("aria-label", `${name}. Arrow keys read the points${this.pick ? ", Enter opens" : ""}.`);
  }

  // -- pointer and keys -----------------------------------------------------------------------------------------------

  /** The x of the point next to a place on the canvas; null where there is none. */
  nearest(px) {
    const want = this.left + ((px - (this.edge || 0)) / Math.max(1, this.wide || 1)) * (this.right - this.left);
    const one = this.series.find((s) => this.xOf(s).length);
    return one ? this.xOf(one)[nearestTo(this.xOf(one), want)] : null;
  }

  placeOf(one, at) {
    const x = this.xOf(one);
    const n = x.length ? nearestTo(x, at) : -1;
    return n >= 0 && known(one.y[n]) ? n : -1;
  }

  press(event) {
    if (event.target !== this.node || event.ctrlKey || event.metaKey || event.altKey) return;
    const x = this.series.length ? this.xOf(this.series[0]) : [];
    const now = this.shared.at === null ? x.length : nearestTo(x, this.shared.at);
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: x.length - 1 }[event.key];
    if (event.key === "Enter" && this.pick) this.choose(this.shared.at ?? x[x.length - 1]);
    else if (event.key === "Escape" && this.shared.at !== null) this.shared.move(null);
    else if (to === undefined || !x.length) return;
    else this.shared.move(x[Math.max(0, Math.min(x.length - 1, to))]);
    event.preventDefault();
    event.stopPropagation();
  }

  choose(x) {
    if (this.pick && known(x)) this.pick(x, nearestTo(this.xOf(this.series[0]), x));
  }

  // -- the picture -----------------------------------------------------------------------------------------------------

  draw(g, width, height, ink) {
    g.font = FONT;
    const marks = this.high > this.low ? ticks(this.low, this.high, height < 90 ? 2 : 4) : [this.low];
    this.edge = Math.ceil(Math.max(...marks.map((v) => g.measureText(this.format(v)).width))) + 8;
    this.wide = width - this.edge - RIGHT;
    const tall = height - TOP - BOTTOM;
    const many = this.right > this.left;
    this.px = (v) => this.edge + (many ? (v - this.left) / (this.right - this.left) : 0.5) * this.wide;
    this.py = (v) => TOP + (1 - (Math.min(this.high, Math.max(this.low, v)) - this.low) / (this.high - this.low || 1)) * tall;
    this.axes(g, marks, height, ink);
    for (const [i, one] of this.series.entries()) this.area(g, one, this.tops[i]);
    for (const [i, one] of this.series.entries()) this.line(g, one, this.tops[i]);
    if (this.shared.at !== null) this.cursor(g, height, ink);
  }

  axes(g, marks, height, ink) {
    Object.assign(g, { strokeStyle: GRID, lineWidth: 1, fillStyle: ink, textBaseline: "middle", textAlign: "right", globalAlpha: 1 });
    const across = (y) => { g.beginPath(); g.moveTo(this.edge, y); g.lineTo(this.edge + this.wide, y); g.stroke(); };
    for (const v of marks) {
      across(Math.round(this.py(v)) + 0.5);
      g.globalAlpha = 0.75;
      g.fillText(this.format(v), this.edge - 6, this.py(v));
      g.globalAlpha = 1;
    }
    g.globalAlpha = 0.75;
    g.textBaseline = "alphabetic";
    if (this.right >= this.left) {
      for (const v of ticks(this.left, this.right, Math.max(2, Math.floor(this.wide / 60)), this.whole)) {
        const text = this.xFormat(v);
        const half = g.measureText(text).width / 2;
        g.textAlign = "center";
        g.fillText(text, Math.min(this.edge + this.wide + RIGHT - half, this.px(v)), height - 5);
      }
    }
    Object.assign(g, { strokeStyle: ink, textAlign: "right" });
    g.setLineDash([3, 4]);
    for (const rule of this.rules) {
      across(this.py(rule.y));
      g.fillText(rule.words, this.edge + this.wide, this.py(rule.y) - 4);
    }
    g.setLineDash([]);
    g.globalAlpha = 1;
  }

  /** The band of a line, or its area in a stack. */
  area(g, one, top) {
    const [low, high] = this.stack ? [one.base, top] : [one.low, one.high];
    if (!low || !high) return;
    const x = this.xOf(one);
    g.fillStyle = `rgba(${HUES[one.hue]},${this.stack ? 0.3 : 0.2})`;
    const there = (i) => known(x[i]) && known(low[i]) && known(high[i]);
    for (let i = 0; i < x.length; i++) {
      if (!there(i)) continue;
      const from = i;
      while (i + 1 < x.length && there(i + 1)) i++;
      g.beginPath();
      if (from === i) g.rect(this.px(x[i]) - 1.5, this.py(high[i]), 3, this.py(low[i]) - this.py(high[i]));
      for (let k = from; k <= i && from < i; k++) g.lineTo(this.px(x[k]), this.py(high[k]));
      for (let k = i; k >= from && from < i; k--) g.lineTo(this.px(x[k]), this.py(low[k]));
      g.fill();
    }
  }

  pen(g, one) {
    const [width, alpha] = one.thin ? [1, 0.45] : [1.8, 1];
    Object.assign(g, { lineWidth: width, strokeStyle: `rgba(${HUES[one.hue]},${alpha})`, fillStyle: `rgba(${HUES[one.hue]},${alpha})`, lineJoin: "round" });
    g.setLineDash(DASHES[one.dash]);
  }

  line(g, one, y) {
    const x = this.xOf(one);
    this.pen(g, one);
    g.beginPath();
    for (let i = 0, open = false; i < x.length; i++) {
      const flat = one.base !== null && [i - 1, i, i + 1].every((k) => !(one.y[k] > 0)); // nothing of it in the stack here
      const here = known(x[i]) && known(y[i]) && !flat;
      if (here && !open && !this.stack && !(known(x[i + 1]) && known(y[i + 1]))) this.dot(g, x[i], y[i], 2);
      else if (here) g[open ? "lineTo" : "moveTo"](this.px(x[i]), this.py(y[i]));
      open = here;
    }
    g.stroke();
    g.setLineDash([]);
    const n = lastKnown(y);
    if (n >= 0 && !one.thin && !this.stack) this.dot(g, x[n], y[n], 2.4);
  }

  dot(g, x, y, size) {
    g.moveTo(this.px(x), this.py(y));
    const path = new Path2D();
    path.arc(this.px(x), this.py(y), size, 0, 7);
    g.fill(path);
  }

  cursor(g, height, ink) {
    const x = this.px(Math.max(this.left, Math.min(this.right, this.shared.at)));
    Object.assign(g, { strokeStyle: ink, lineWidth: 1, globalAlpha: 0.5 });
    g.beginPath();
    g.moveTo(x, TOP);
    g.lineTo(x, height - BOTTOM);
    g.stroke();
    g.globalAlpha = 1;
    for (const [i, one] of this.series.entries()) {
      const n = this.placeOf(one, this.shared.at);
      if (n < 0 || one.thin) continue;
      this.pen(g, one);
      g.setLineDash([]);
      this.dot(g, this.xOf(one)[n], this.tops[i][n], 3.2);
    }
  }
}

function lastKnown(y) {
  let n = y.length - 1;
  while (n >= 0 && !known(y[n])) n--;
  return n;
}

/** Place of the number next to `want` in numbers that rise. */
function nearestTo(x, want) {
  let [low, high] = [0, x.length - 1];
  while (low < high) {
    const mid = (low + high) >> 1;
    if (x[mid] < want) low = mid + 1;
    else high = mid;
  }
  return low > 0 && want - x[low - 1] <= x[low] - want ? low - 1 : low;
}
