// Cells as dots of a picture: one pass over memory, whatever their number. The same marks as workbench/view/html/raster.py.

import { LEVELS, NEGATIVE, POSITIVE } from "./core.js";
import { CODE } from "./heat_rows.js";

const FADED = 0.28; // what is not selected while something is

function colour(rgb, alpha) {
  const [r, g, b] = rgb.split(",").map(Number);
  return ((Math.round(255 * alpha) << 24) | (b << 16) | (g << 8) | r) >>> 0; // as a little-endian machine stores it
}

const GREY = "128,128,128";
const shades = (fade) => {
  const steps = (rgb) => Array.from({ length: LEVELS + 2 }, (_, s) => colour(rgb, (0.8 * fade * Math.min(s, LEVELS)) / LEVELS));
  return {
    m: steps(NEGATIVE), p: steps(POSITIVE), line: colour(GREY, 0.9 * fade), hatch: colour(GREY, 0.6 * fade),
    faint: colour(GREY, 0.2 * fade), bar: colour(GREY, 0.55 * fade),
    ramp: Array.from({ length: 17 }, (_, s) => colour(GREY, (0.06 + 0.05 * s) * fade)),
  };
};
const SHADES = [shades(1), shades(FADED)];

/** A picture of `width` x `height` dots; `scale` dots are a CSS pixel. */
export class Painter {
  constructor(width, height, scale) {
    Object.assign(this, { width, height, scale, image: new ImageData(width, height) });
    this.dots = new Uint32Array(this.image.data.buffer);
  }

  /** Fill a box with one colour. */
  box(ink, x0, x1, y0, y1) {
    const [left, right] = [Math.max(0, x0), Math.min(this.width, x1)];
    if (left >= right) return;
    const bottom = Math.min(this.height, y1);
    for (let y = Math.max(0, y0); y < bottom; y++) this.dots.fill(ink, y * this.width + left, y * this.width + right);
  }

  /** Hatch a box: lines that fall to the left, three in ten dots. */
  hatch(ink, x0, x1, y0, y1) {
    const every = 4 * this.scale;
    const thick = Math.max(1, Math.round(1.2 * this.scale));
    for (let y = Math.max(0, y0); y < Math.min(this.height, y1); y++) {
      for (let x = Math.max(0, x0); x < Math.min(this.width, x1); x++) {
        if ((x + y) % every < thick) this.dots[y * this.width + x] = ink;
      }
    }
  }

  /** Draw a bar from the left, for an outcome. */
  bar(share, x0, x1, y0, y1, faded) {
    this.box(SHADES[faded ? 1 : 0].bar, x0, Math.max(x0 + 1, x0 + Math.round(share * (x1 - x0))), y0, y1);
  }

  /** Draw one cell; `faded` if something else is selected. */
  cell(code, x0, x1, y0, y1, faded) {
    const ink = SHADES[faded ? 1 : 0];
    const line = Math.max(1, Math.round(this.scale));
    const soft = y1 - y0 > 3 * line ? ink.line : ink.hatch; // a line through a low cell fills much of it
    if (code === CODE.absent) return;
    if (code === CODE.z) this.box(soft, x0, x1, Math.max(y0, y1 - line), y1);
    else if (code === CODE.u) this.hatch(ink.hatch, x0, x1, y0, y1);
    else if (code === CODE.n) this.box(ink.faint, x0, x1, y0, y1);
    else if (code === CODE.d) this.dashes(soft, x0, x1, Math.floor((y0 + y1 - line) / 2), line);
    else if (code >= CODE.ramp) this.box(ink.ramp[code - CODE.ramp], x0, x1, y0, y1);
    else {
      this.box(code < 0 ? ink.m[-code] : ink.p[code], x0, x1, y0, y1);
      if (Math.abs(code) === CODE.beyond) this.corner(x0, x1, y0, y1);
    }
  }

  dashes(ink, x0, x1, y, line) {
    for (let x = x0; x < x1; x += 4 * line) this.box(ink, x, Math.min(x1, x + 2 * line), y, y + line);
  }

  /** Take the upper right corner away. */
  corner(x0, x1, y0, y1) {
    const size = Math.min(6 * this.scale, x1 - x0, y1 - y0);
    for (let i = 0; i < size; i++) this.box(0, x1 - size + i, x1, y0 + i, y0 + i + 1);
  }
}
