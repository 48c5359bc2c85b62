// The text of a credit map: blocks of tokens, washed when they come near, and where a token is on screen.
// The browser skips blocks that are off screen; another method costs what is visible and no more.

import { LETTERS, el, level, visible, washClass } from "./core.js";

const BLOCK = 400; // tokens after which a block ends at the next line break
const LONGEST = 1200; // or anywhere

export class Text {
  /** `data`: the payload; `look`: a function that gives {cells, full, isHit, key} of what is to be seen now. */
  constructor(data, look) {
    Object.assign(this, { data, look, blocks: [] });
    this.watch = new IntersectionObserver((entries) => entries.forEach((e) => this.near(e)), { rootMargin: "600px" });
  }

  stop() { this.watch.disconnect(); }

  // ------------------------------------------------------------------------------------------------------ what is where

  /** First token of turn k, and the one after its last. */
  tokensOf(k) { return [k ? this.data.turn_ends[k - 1] : 0, this.data.turn_ends[k]]; }
  start(i) { return i ? this.data.ends[i - 1] : 0; }
  textOf(from, to) { return from < to ? this.data.text.slice(this.start(from), this.data.ends[to - 1]) : ""; }
  /** Turn of a token; token of a letter. */
  turnOf(i) { return place(this.data.turn_ends, i); }
  tokenOf(letter) { return place(this.data.ends, letter); }
  blockOf(i) { return this.blocks.find((b) => i >= b.from && i < b.to) || this.blocks.at(-1); }

  /** Token ranges of a turn's blocks: cut at line breaks, so that a cut is not seen. */
  rangesOf(k) {
    const [start, end] = this.tokensOf(k);
    const out = [];
    let from = start;
    for (let i = start; i < end; i++) {
      const size = i + 1 - from;
      if (size < BLOCK || (size < LONGEST && !this.textOf(i, i + 1).endsWith("\n"))) continue;
      out.push([from, i + 1]);
      from = i + 1;
    }
    return from < end || !out.length ? [...out, [from, end]] : out;
  }

  /** The nodes of a turn's text: plain at first, for search and for ears. */
  nodesOf(k) {
    return this.rangesOf(k).map(([from, to]) => {
      const node = el("div", { class: "block mono", dir: "auto" });
      node.textContent = visible(this.textOf(from, to));
      node.block = { node, k, from, to, key: null, near: false };
      this.blocks.push(node.block);
      this.watch.observe(node);
      return node;
    });
  }

  // ------------------------------------------------------------------------------------------------------------- washes

  near({ target, isIntersecting }) {
    target.block.near = isIntersecting;
    if (isIntersecting) this.wash(target.block);
  }

  /** Wash again what is near. */
  repaint() {
    for (const block of this.blocks) if (block.near) this.wash(block);
  }

  /** Wash the tokens of a block: equal neighbours are one run. */
  wash(block) {
    const look = this.look();
    if (block.key === look.key) return;
    block.key = look.key;
    const runs = document.createDocumentFragment();
    let [kind, from] = [null, block.from];
    const flush = (to) => {
      if (from >= to) return;
      const node = el("span", { class: kind || null });
      node.textContent = shown(this.textOf(from, to), kind);
      node.from = from;
      runs.append(node);
      from = to;
    };
    for (let i = block.from; i < block.to; i++) {
      const own = this.className(i, look);
      const text = this.data.text.slice(this.start(i), this.data.ends[i]);
      const alone = text === "" || text.includes("\n") || visible(text) !== text; // shown in another length
      if (own !== kind || alone) flush(i);
      kind = own;
      if (!alone) continue;
      flush(i + 1);
      kind = null;
    }
    flush(block.to);
    block.node.replaceChildren(runs);
  }

  className(i, { cells, full, isHit }) {
    const hit = isHit(i) ? " hit" : "";
    if (!cells) return hit.trim();
    const s = cells.status[i];
    return (s === 0 ? washClass(level(cells.values[i], full)) : `s-${LETTERS[s]}`) + hit;
  }

  // ---------------------------------------------------------------------------------------------------------- on screen

  /** Boxes on screen of tokens a to b, as far as they are washed. */
  rects(a, b) {
    const out = [];
    for (const block of this.blocks) {
      if (block.to <= a || block.from >= b || block.key === null) continue;
      for (const run of block.node.childNodes) {
        const next = run.nextSibling ? run.nextSibling.from : block.to;
        if (next <= a || run.from >= b || !run.firstChild) continue;
        const range = document.createRange();
        const whole = next - run.from === 1;
        const letter = (i) => Math.min(run.firstChild.length, this.start(i) - this.start(run.from));
        range.setStart(run.firstChild, whole ? 0 : letter(Math.max(a, run.from)));
        range.setEnd(run.firstChild, whole ? run.firstChild.length : letter(Math.min(b, next)));
        out.push(...range.getClientRects());
      }
    }
    return out;
  }

  /** Token under the pointer, -1 if none. */
  under(event, root) {
    const run = event.target.closest?.(".block > span");
    if (!run || run.from === undefined) return -1;
    const next = run.nextSibling ? run.nextSibling.from : run.parentNode.block.to;
    if (next - run.from === 1) return run.from;
    const caret = document.caretPositionFromPoint?.(event.clientX, event.clientY, { shadowRoots: [root.getRootNode()] });
    const offset = caret?.offsetNode === run.firstChild ? caret.offset : 0;
    const base = this.start(run.from);
    let i = run.from;
    while (i < next - 1 && this.data.ends[i] - base <= offset) i++;
    if (i === run.from || this.start(i) - base !== offset) return i;
    // The caret stands between two tokens: the letter before it may be the one under the pointer.
    const range = document.createRange();
    range.setStart(run.firstChild, offset - 1);
    range.setEnd(run.firstChild, offset);
    const r = range.getBoundingClientRect();
    return event.clientX >= r.left && event.clientX < r.right && event.clientY <= r.bottom ? i - 1 : i;
  }
}

/** A sampled line break is a token like any other: it gets a sign to carry its wash. */
function shown(text, kind) {
  if (text === "") return "∅";
  const sampled = kind && !kind.startsWith("s-n");
  return sampled ? visible(text).replaceAll("\n", "↵\n") : visible(text);
}

/** First place in rising `ends` that is above x. */
function place(ends, x) {
  let [low, high] = [0, ends.length - 1];
  while (low < high) {
    const mid = (low + high) >> 1;
    if (x < ends[mid]) high = mid;
    else low = mid + 1;
  }
  return low;
}
