// The pictures of a heat map: its head with means by turn, its cells, names, rules, cursor; and all rows small beside it.

import { digits, number, plain, visible } from "./core.js";
import { CODE, start } from "./heat_rows.js";
import { Painter } from "./heat_paint.js";

export const GUTTER = 150;
export const STRIP = 46;
export const GAP = 18;
export const HEAD = 68;
const MIDDLE = 36; // axis of the means
const FONT = "11px system-ui, sans-serif";

/** Draw what is in sight. */
export function draw(heat, g, width, ink) {
  const { scrollTop, scrollLeft } = heat.scroller;
  const first = Math.floor(scrollTop / heat.zoom);
  const last = Math.min(heat.order.length, Math.ceil((scrollTop + heat.body) / heat.zoom));
  paint(heat, g, width, first, last);
  g.save();
  g.font = FONT;
  g.fillStyle = g.strokeStyle = ink;
  g.textBaseline = "middle";
  g.translate(-scrollLeft, 0);
  drawHead(heat, g, ink);
  g.beginPath();
  g.rect(scrollLeft, HEAD - 2, width, heat.body + 2);
  g.clip();
  g.translate(0, HEAD - scrollTop);
  drawRows(heat, g, first, last);
  drawCursor(heat, g);
  g.restore();
}

/** All cells in sight, in one pass over memory. */
function paint(heat, g, width, first, last) {
  const { data, zoom } = heat;
  const { scrollTop, scrollLeft } = heat.scroller;
  const dots = window.devicePixelRatio || 1;
  const [wide, tall] = [Math.max(1, Math.round(width * dots)), Math.max(1, Math.round(heat.body * dots))];
  if (heat.painter?.width !== wide || heat.painter.height !== tall) heat.painter = new Painter(wide, tall, dots);
  const { painter } = heat;
  painter.dots.fill(0);
  const x = (at) => Math.round((at - scrollLeft) * dots);
  const y = (at) => Math.round((at - scrollTop) * dots);
  const [air, low] = [heat.cell >= 6 ? 1 : 0, zoom >= 5 ? 1 : 0];
  const edges = heat.panels.map((panel) => Array.from({ length: data.width + 1 }, (_, c) => x(panel.x + c * heat.cell)));
  for (let i = first; i < last; i++) {
    const n = heat.order[i];
    const [y0, y1] = [y(i * zoom), y((i + 1) * zoom - low)];
    const faded = heat.some && !heat.rows[n];
    if (Number.isNaN(data.outcome[n])) painter.cell(CODE.u, x(GUTTER), x(GUTTER + STRIP), y0, y1, faded);
    else painter.bar((data.outcome[n] - heat.low) / (heat.high - heat.low || 1), x(GUTTER), x(GUTTER + STRIP), y0, y1, faded);
    heat.panels.forEach(({ codes }, p) => {
      for (let k = start(data, n), c = data.first[n]; k < data.ends[n]; k++, c++) {
        painter.cell(codes[k], edges[p][c], edges[p][c + 1] - air, y0, y1, heat.some && !heat.cells[k]);
      }
    });
  }
  g.putImageData(painter.image, 0, Math.round(HEAD * dots));
}

function drawHead(heat, g, ink) {
  const { data, most } = heat;
  const quiet = (words, x, y) => { g.globalAlpha = 0.72; g.fillText(words, x, y); };
  quiet("outcome", GUTTER, 8);
  quiet(`${plain(heat.low)} to ${plain(heat.high)}`, GUTTER, HEAD - 8);
  if (most) quiet(`mean${heat.some ? " of selection" : " by turn"} ±${number(most, digits(most), false)}`, 2, MIDDLE);
  const every = Math.max(1, Math.ceil((8 + 7 * String(data.width).length) / heat.cell));
  for (const { x, name, means } of heat.panels) {
    const wide = data.width * heat.cell;
    g.font = `600 ${FONT}`;
    g.globalAlpha = 1;
    g.fillText(fitted(g, name, wide), x, 8);
    g.font = FONT;
    for (let c = 0; c < data.width; c += every) quiet(String(c), x + c * heat.cell + 1, HEAD - 8);
    if (!means) continue;
    g.fillRect(x, MIDDLE, wide, 0.5);
    g.globalAlpha = 0.85;
    for (let c = 0; c < data.width; c++) {
      const long = most && means[c] ? Math.max(0.5, (17 * Math.abs(means[c])) / most) : 0;
      g.fillStyle = means[c] < 0 ? "rgb(213,94,0)" : "rgb(0,114,178)";
      g.fillRect(x + c * heat.cell, means[c] < 0 ? MIDDLE : MIDDLE - long, heat.cell - (heat.cell >= 6 ? 1 : 0), long);
    }
    g.fillStyle = ink;
  }
}

/** Names where there is room, rules between groups, a bar beside what is selected. */
function drawRows(heat, g, first, last) {
  const { data, zoom, order } = heat;
  const right = (heat.panels.at(-1)?.x ?? GUTTER + STRIP) + data.width * heat.cell;
  const grouped = heat.state.grouped !== false && data.kinds.length > 1;
  const ruled = grouped && (zoom * order.length) / data.kinds.length >= 6;
  let labelled = -99;
  for (let i = first; i < last; i++) {
    const n = order[i];
    const y = i * zoom;
    const begins = grouped && (i === 0 || data.group[order[i - 1]] !== data.group[n]);
    g.globalAlpha = zoom < 8 ? 0.22 : 0.4;
    if (begins && i && ruled) g.fillRect(0, y - 0.5, right, 0.8);
    g.globalAlpha = 0.8;
    if (zoom >= 12) g.fillText(fitted(g, visible(heat.ids(n).slice(heat.common)), GUTTER - 20, true), 8, y + zoom / 2);
    else if (begins && y - labelled >= 13) {
      g.fillText(fitted(g, visible(heat.groups(data.group[n])), GUTTER - 20, true), 8, y + 6);
      labelled = y;
    }
    g.globalAlpha = 1;
    if (heat.some && heat.rows[n]) g.fillRect(heat.scroller.scrollLeft, y, 3, zoom);
  }
}

function drawCursor(heat, g) {
  const i = heat.place[heat.cursor.n] ?? -1;
  if (i < 0) return;
  g.lineWidth = 1.5;
  for (const { x } of heat.panels) g.strokeRect(x + heat.cursor.turn * heat.cell - 1, i * heat.zoom - 1, heat.cell + 1, heat.zoom + 1);
  g.fillRect(GUTTER - 7, (i + 0.5) * heat.zoom - 0.75, 5, 1.5);
}

/** Shorten a text to a width; `end` keeps its end, which tells ids of one run apart. */
function fitted(g, text, wide, end = false) {
  let shown = text.slice(0, 200);
  for (let keep = Math.min(text.length, 200); keep > 1 && g.measureText(shown).width > wide; keep--) {
    shown = end ? `…${text.slice(1 - keep)}` : `${text.slice(0, keep - 1)}…`;
  }
  return shown;
}

/** All rollouts at once, a line of dots each or every so many-th, under the first method; and the part in sight. */
export function drawMini(heat, g, width, height, ink) {
  const { data, order, zoom } = heat;
  const dots = window.devicePixelRatio || 1;
  const painter = new Painter(Math.round(width * dots), Math.round(height * dots), dots);
  const x = (c) => Math.round((c * painter.width) / data.width);
  for (let y = 0; y < painter.height && heat.panels.length; y++) {
    const n = order[Math.floor((y * order.length) / painter.height)];
    for (let k = start(data, n), c = data.first[n]; k < data.ends[n]; k++, c++) painter.cell(heat.panels[0].codes[k], x(c), x(c + 1), y, y + 1, false);
  }
  g.putImageData(painter.image, 0, 0);
  const scale = height / (order.length * zoom);
  g.fillStyle = g.strokeStyle = ink;
  if (heat.some) order.forEach((n, i) => { if (heat.rows[n]) g.fillRect(0, i * zoom * scale, 3, Math.max(1, zoom * scale)); });
  g.strokeRect(0.5, heat.scroller.scrollTop * scale + 0.5, width - 1, Math.max(4, heat.body * scale) - 1);
}
