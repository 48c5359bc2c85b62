// The credit map: one rollout turn by turn, its tokens washed by the credit of one method, bars of all methods beside them.
// The text is cut into blocks which the browser skips while they are off screen; a block is washed when it comes near, so
// that another method costs what is visible and no more.

import {
  LETTERS, STATUS, button, canvas, choice, count, digits, el, fill, fold, keys, level, marks, number, oneLine, plain, ruler,
  switcher, visible, wash, washClass, worded,
} from "./core.js";
import { rerollPanel } from "./reroll.js";

const BLOCK = 400; // tokens after which a block ends at the next line break
const LONGEST = 1200; // or anywhere

export function view(ctx) {
  const map = new CreditMap(ctx);
  ctx.on("data", () => map.build());
  ctx.on("state", () => map.restore());
  ctx.on("select", (selection) => map.selected(selection));
  map.build();
}

class CreditMap {
  constructor(ctx) {
    this.ctx = ctx;
    this.readout = el("div", { class: "readout", "aria-live": "polite" });
    this.strip = canvas(ctx, (g, w, h, ink) => this.drawStrip(g, w, h, ink), { class: "strip", "aria-hidden": "true" });
    this.seen = new IntersectionObserver((entries) => this.near(entries), { rootMargin: "600px" });
    ctx.on("dispose", () => this.seen.disconnect());
    this.strip.addEventListener("pointerdown", (e) => this.dragStrip(e));
    this.help = keys(ctx, [
      ["j ArrowDown", "next turn", () => this.toTurn(this.turn + 1)],
      ["k ArrowUp", "previous turn", () => this.toTurn(this.turn - 1)],
      ["Home", "first turn", () => this.toTurn(0)],
      ["End", "last turn", () => this.toTurn(this.turns.length - 1)],
      ["ArrowRight l", "next unit in the text", () => this.step(1)],
      ["ArrowLeft h", "previous unit", () => this.step(-1)],
      ["]", "next method", () => this.setMethod(this.method + 1)],
      ["[", "previous method", () => this.setMethod(this.method - 1)],
      ["u", "next unit: token, word, ... turn", () => this.nextUnit()],
      ["s", "shared scale, own scale", () => this.setOwn(!this.own)],
      ["/", "search in the text", () => this.box.focus()],
      ["n", "next place found", () => this.toHit(1)],
      ["N", "previous place found", () => this.toHit(-1)],
      ...(ctx.data.reroll ? [["r", "sample this turn anew", () => this.openReroll(this.turn)]] : []),
      ["Escape", "back from search to the map", () => this.ctx.root.focus()],
    ]);
  }

  // ---------------------------------------------------------------------------------------------------------- building

  build() {
    const d = this.data = this.ctx.data;
    this.seen.disconnect();
    this.turns = d.story.turns;
    this.units = { token: null, ...d.units };
    this.turn = 0;
    this.at = -1; // token under the cursor
    this.hits = [];
    this.read();
    this.blocks = [];
    const list = el("div", { class: "turns", role: "list" }, this.turns.map((t, k) => this.turnNode(t, k)));
    this.list = list;
    this.scroller = el("div", { class: "scroller", tabindex: "-1", on: { scroll: () => this.strip.redraw() } }, list);
    list.addEventListener("pointermove", (e) => this.hover(e));
    list.addEventListener("click", (e) => this.click(e));
    this.legendBox = el("div", { class: "legend" });
    const rest = [el("div", { class: "stage" }, el("div", { class: "rail" }, this.strip), this.scroller), this.readout, this.ledger(), this.help];
    fill(this.ctx.root, this.head(), this.tools(), this.legendBox, ...(this.turns.length ? rest : [el("p", null, "This rollout has no turns.")]));
    this.paint();
    for (const block of this.blocks) this.seen.observe(block.node);
    if (this.ctx.state.turn !== undefined || this.ctx.state.find) this.restore();
    else this.say();
  }

  head() {
    const s = this.data.story;
    const said = [`outcome ${plain(s.outcome)}`, ...Object.entries(s.rewards).map(([k, v]) => `${k} ${plain(v)}`),
      count(s.turns.length, "turn"), s.has_tokens ? count(sampledIn(s), "sampled token") : "no tokens stored",
      `group ${s.group}`, s.truncated ? "truncated" : "", s.stop_reason ? `ended by ${s.stop_reason}` : "",
      s.parent ? `branched from ${s.parent[0]} after turn ${s.parent[1]}` : ""];
    const prompt = s.prompt.length
      ? fold([el("span", { class: "quiet" }, `prompt, ${count(s.prompt.length, "message")} `), oneLine(s.prompt.at(-1).text, 96)],
        () => s.prompt.map((m) => message(m, true)))
      : null;
    return [el("div", { class: "title" }, s.id, el("span", { class: "quiet" }, said.filter(Boolean).join(" · "))), prompt];
  }

  tools() {
    const { methods } = this.data;
    const names = methods.map((m, i) => [i, m.name]);
    const pick = (i) => this.setMethod(Number(i));
    this.pickMethod = methods.length > 1 && methods.length <= 5 && names.every(([, n]) => n.length < 24)
      ? switcher("method", names, this.method, pick)
      : choice("method", names.length ? names : [[0, "none"]], this.method, pick);
    this.pickUnit = choice("unit", Object.keys(this.units).map((u) => [u, u]), this.unit, (u) => this.setUnit(u));
    this.pickScale = switcher("scale", [["shared", "shared"], ["own", "own"]], this.own ? "own" : "shared", (v) => this.setOwn(v === "own"));
    this.box = el("input", { type: "search", placeholder: "search the text", "aria-label": "search the text" });
    this.found = el("span", { class: "quiet", role: "status" });
    this.box.addEventListener("input", () => this.search(this.box.value));
    this.box.addEventListener("keydown", (e) => { if (e.key === "Enter") this.toHit(e.shiftKey ? -1 : 1); });
    return el("div", { class: "tools" }, this.pickMethod, this.pickUnit, methods.length > 1 ? this.pickScale : null,
      el("span", { class: "control" }, this.box, this.found));
  }

  turnNode(t, k) {
    const inside = this.blocksOf(k).map(([from, to]) => {
      const node = el("div", { class: "block mono" });
      const block = { node, k, from, to, look: "" };
      node.textContent = visible(this.textOf(from, to)); // there for search and for ears before it is washed
      this.blocks.push(block);
      node.block = block;
      return node;
    });
    const m = t.action;
    const gutter = el("div", { class: "gutter" });
    const node = el("div", { class: "turn", role: "listitem" }, gutter, el("div", { class: "body" },
      el("div", { class: "facts" }, this.turnFacts(t, k)), inside,
      m.calls.map(call), t.observations.map((o) => message(o))));
    Object.assign(node, { gutter, k });
    return node;
  }

  turnFacts(t, k) {
    const said = [t.agent, t.sampled === null ? "" : count(t.sampled, "sampled token"),
      t.reward === null ? "" : `reward ${plain(t.reward)}`, ...Object.entries(t.rewards).map(([n, v]) => `${n} ${plain(v)}`),
      t.stop_reason ? `ended by ${t.stop_reason}` : "", t.trainable ? "" : `not trained: ${t.why_not}`].filter(Boolean).join(" · ");
    const again = this.data.reroll
      ? button("re-roll", () => this.openReroll(k), { class: "small", "aria-label": `sample turn ${t.index} anew` }) : null;
    return [el("b", null, `turn ${t.index}`), el("span", { class: "quiet" }, said), again];
  }

  /** Token ranges of a turn's blocks: cut at line breaks, so that a cut is not seen. */
  blocksOf(k) {
    const [start, end] = this.tokensOf(k);
    const out = [];
    let from = start;
    for (let i = start; i < end; i++) {
      const size = i + 1 - from;
      if (size >= LONGEST || (size >= BLOCK && this.textOf(i, i + 1).endsWith("\n"))) { out.push([from, i + 1]); from = i + 1; }
    }
    if (from < end || !out.length) out.push([from, end]);
    return out;
  }

  tokensOf(k) { return [k ? this.data.turn_ends[k - 1] : 0, this.data.turn_ends[k]]; }
  start(i) { return i ? this.data.ends[i - 1] : 0; }
  textOf(from, to) { return from < to ? this.data.text.slice(this.start(from), this.data.ends[to - 1]) : ""; }

  // ------------------------------------------------------------------------------------------------------ what is shown

  /** Read the controls from the state, which may come from a permalink: nothing in it is trusted to exist. */
  read() {
    const { state, data } = this.ctx;
    const named = data.methods.findIndex((m) => m.name === state.method);
    this.method = named < 0 ? 0 : named;
    this.unit = Object.hasOwn(this.units, state.unit) ? state.unit : "token";
    this.own = state.scale === "own";
  }

  restore() {
    this.read();
    this.pickMethod.set(this.method);
    this.pickUnit.set(this.unit);
    this.pickScale.set(this.own ? "own" : "shared");
    this.paint();
    if (this.ctx.state.find) { this.box.value = this.ctx.state.find; this.search(this.box.value, false); }
    const k = this.turns.findIndex((t) => t.index === this.ctx.state.turn);
    if (k >= 0) this.toTurn(k, false);
  }

  setMethod(i) {
    const n = this.data.methods.length;
    if (!n) return;
    this.method = (i + n) % n;
    this.pickMethod.set(this.method);
    this.ctx.remember({ method: this.data.methods[this.method].name });
    this.paint();
    this.say();
  }

  setUnit(unit) {
    this.unit = unit;
    this.pickUnit.set(unit);
    this.ctx.remember({ unit });
    this.paint();
    this.say();
  }

  nextUnit() {
    const all = Object.keys(this.units);
    this.setUnit(all[(all.indexOf(this.unit) + 1) % all.length]);
  }

  setOwn(own) {
    this.own = own;
    this.pickScale.set(own ? "own" : "shared");
    this.ctx.remember({ scale: own ? "own" : null });
    this.paint();
  }

  get m() { return this.data.methods[this.method]; }
  fullOf(m) { return this.own ? m.full : this.data.scale.full; }

  /** Draw everything that depends on method, unit and scale: of the text, only what is near. */
  paint() {
    const m = this.m;
    this.look = `${this.method} ${this.unit} ${this.own} ${this.hitsKey || ""}`;
    this.cells = m ? this.unitCells(m) : null;
    this.order = null;
    fill(this.legendBox, this.legend());
    for (const node of this.list.children) fill(node.gutter, this.gutter(node.k));
    for (const block of this.blocks) if (block.near) this.washBlock(block);
    this.outline();
    this.strip.redraw();
  }

  near(entries) {
    for (const entry of entries) {
      const { block } = entry.target;
      block.near = entry.isIntersecting;
      if (block.near) this.washBlock(block);
    }
  }

  /** Value and status of every token at the chosen unit: the mean over the unit's credited tokens. */
  unitCells(m) {
    const of = this.units[this.unit];
    if (!of) return { values: m.values, status: m.status };
    if (m.at?.unit === this.unit) return m.at;
    const size = of.reduce((a, b) => Math.max(a, b), -1) + 1;
    const [sum, n, seen] = [new Float64Array(size), new Uint32Array(size), new Uint8Array(size)];
    for (let i = 0; i < of.length; i++) {
      const u = of[i];
      if (u < 0) continue;
      const s = m.status[i];
      seen[u] |= 1 << s;
      if (s < 2) { sum[u] += m.values[i]; n[u]++; }
    }
    const values = new Float32Array(of.length).fill(NaN);
    const status = new Uint8Array(of.length).fill(4);
    for (let i = 0; i < of.length; i++) {
      const u = of[i];
      // What was not sampled keeps its mark; a unit without credited tokens is dropped, unknown, or not trained.
      if (u < 0 || (m.status[i] === 4 && seen[u] !== 16)) continue;
      status[i] = n[u] ? (seen[u] & 1 ? 0 : 1) : [3, 2, 4].find((s) => seen[u] & (1 << s));
      values[i] = n[u] ? sum[u] / n[u] : m.values[i];
    }
    m.at = { unit: this.unit, values, status };
    return m.at;
  }

  /** Wash the tokens of a block: equal neighbours are one run. */
  washBlock(block) {
    if (block.look === this.look) return;
    block.look = this.look;
    const { data } = this;
    const full = this.m ? this.fullOf(this.m) : null;
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
      const own = this.className(i, full);
      const text = data.text.slice(this.start(i), data.ends[i]);
      const alone = text === "" || text.includes("\n") || visible(text) !== text; // its text is shown in another length
      if (own !== kind || alone) flush(i);
      kind = own;
      if (alone) { flush(i + 1); kind = null; }
    }
    flush(block.to);
    block.node.replaceChildren(runs);
  }

  className(i, full) {
    const hit = this.isHit(i) ? " hit" : "";
    if (!this.cells) return hit.trim();
    const s = this.cells.status[i];
    if (s === 0) return washClass(level(this.cells.values[i], full)) + hit;
    const forced = this.data.origins[this.data.origin[i]];
    return (s === 4 && forced !== "sampled" && forced !== "turn" ? "s-n" : `s-${LETTERS[s]}`) + hit;
  }

  // ------------------------------------------------------------------------------------------------- bars, key, ledger

  gutter(k) {
    const { methods } = this.data;
    const decimals = digits(this.fullOf(this.m || { full: null }) || 1);
    return methods.map((m, i) => {
      const cell = m.cells[k];
      const full = this.fullOf(m);
      const size = cell.status === "v" && full ? Math.min(1, Math.abs(cell.value) / full) : 0;
      const bar = el("span", { class: `bar${cell.status === "u" ? " hatch" : ""}` },
        size ? el("span", { style: { width: `${Math.max(1, 50 * size)}%`, [cell.value < 0 ? "right" : "left"]: "50%",
          background: wash(cell.value < 0 ? -16 : 16) } }, Math.abs(cell.value) > full ? (cell.value < 0 ? "◂" : "▸") : "") : null);
      const said = `${m.name}: ${worded(cell.value, cell.status, digits(full))}${cell.why ? `, ${cell.why}` : ""}`;
      const words = el("span", { class: cell.status === "v" || cell.status === "z" ? "num" : "num quiet" },
        worded(cell.value, cell.status, i === this.method ? decimals : digits(full)));
      return el("button", { type: "button", class: i === this.method ? "lane on" : "lane", tabindex: "-1", title: said,
        "aria-label": said, on: { click: () => this.setMethod(i) } }, el("span", { class: "name" }, m.name), bar, words);
    });
  }

  legend() {
    const m = this.m;
    if (!m) return el("p", { class: "note" }, "No method was given: this is the text alone.");
    const full = this.fullOf(m);
    const counts = new Map();
    for (let i = 0; i < m.status.length; i++) {
      const code = m.status[i] === 0 ? (m.values[i] < 0 ? "-" : "+") : LETTERS[m.status[i]];
      counts.set(code, (counts.get(code) || 0) + 1);
    }
    const s = this.data.scale;
    const origin = this.own ? `98th percentile of ${m.name}’s own non-zero credits: colours of two methods do not compare`
      : s.given ? "as asked for, for all methods" : `98th percentile of all methods’ non-zero credits in ${count(this.data.rollouts, "rollout")}`;
    return [
      el("div", { class: "key" }, ruler(full), full ? el("span", { class: "quiet" },
        `${this.own ? "own scale" : "shared scale"}: full colour at ±${number(full, digits(full), false)}, the ${origin}`.replace("the as", "as")) : null),
      marks(["+", "-", "z", "u", "d", "n"].filter((c) => counts.get(c)).map((c) => [c, counts.get(c)])),
      this.data.more ? el("p", { class: "note" }, `${count(this.data.more, "more token")} not shown.`) : null,
    ];
  }

  ledger() {
    const rows = this.data.ledger;
    if (!rows.length) return null;
    const cell = (v, i) => el("td", { class: "n" }, number(v, digits(this.data.methods[i].full)));
    const verdict = (r) => r.holds === null ? el("td", { class: "quiet" }, r.says ? `${r.says} ${r.why}` : `No promise: ${r.why}.`)
      : el("td", null, el("b", { class: r.holds ? "" : "broken" }, r.holds ? "kept: " : "broken: "), r.says, r.holds ? "" : ` ${r.why}`);
    const head = ["method", "this rollout’s turns sum to", "its group’s turns", "what it promises"];
    return el("div", { class: "ledger" }, el("div", { class: "sub" }, "Ledger"), el("div", { class: "wide" }, el("table", null,
      el("thead", null, el("tr", null, head.map((h, i) => el("th", { scope: "col", class: i === 1 || i === 2 ? "n" : null }, h)))),
      el("tbody", null, rows.map((r, i) => el("tr", null, el("th", { scope: "row" }, r.name), cell(r.sum, i), cell(r.group, i), verdict(r)))))));
  }

  // -------------------------------------------------------------------------------------------------------- the minimap

  /** One row of dots is many tokens: their mean credit by size, blue or vermillion; the frame is what is on screen. */
  drawStrip(g, w, h, ink) {
    const n = this.data.origin.length;
    if (!n || !this.scroller) return;
    const full = this.m ? this.fullOf(this.m) : null;
    for (let y = 0; y < h; y++) {
      const [a, b] = [Math.floor((y / h) * n), Math.max(Math.floor(((y + 1) / h) * n), Math.floor((y / h) * n) + 1)];
      let [sum, many, unknown] = [0, 0, 0];
      for (let i = a; i < b && i < n; i++) {
        const s = this.cells ? this.cells.status[i] : 4;
        if (s === 0) { sum += this.cells.values[i]; many++; } else if (s === 2) unknown++;
      }
      if (many) g.fillStyle = wash(level(sum / many, full));
      else g.fillStyle = unknown ? "rgba(128,128,128,.34)" : "rgba(128,128,128,.1)";
      g.fillRect(0, y, w, 1);
    }
    g.fillStyle = "rgba(128,128,128,.55)";
    if (this.turns.length < h / 6) for (const end of this.data.turn_ends) g.fillRect(0, Math.round((end / n) * h) - 0.5, w, 1);
    const [top, bottom] = this.window();
    g.strokeStyle = ink;
    g.lineWidth = 1.5;
    g.strokeRect(0.75, (top / n) * h + 0.75, w - 1.5, Math.max(4, ((bottom - top) / n) * h - 1.5));
  }

  /** First and last token on screen, by the share of each turn that is. */
  window() {
    const box = this.scroller.getBoundingClientRect();
    const at = (y) => {
      let found = 0;
      for (const node of this.list.children) {
        const own = node.getBoundingClientRect();
        const [from, to] = this.tokensOf(node.k);
        if (own.bottom < y) { found = to; continue; }
        return own.top > y ? found : from + ((y - own.top) / Math.max(1, own.height)) * (to - from);
      }
      return found;
    };
    return [at(box.top), at(box.bottom)];
  }

  dragStrip(event) {
    const go = (e) => {
      const box = this.strip.getBoundingClientRect();
      const token = Math.min(0.9999, Math.max(0, (e.clientY - box.top) / box.height)) * this.data.origin.length;
      const block = this.blocks.find((b) => token < b.to) || this.blocks.at(-1);
      const share = (token - block.from) / Math.max(1, block.to - block.from);
      const own = block.node.getBoundingClientRect();
      this.scroller.scrollTop += own.top + share * own.height - this.scroller.getBoundingClientRect().top - this.scroller.clientHeight / 2;
    };
    go(event);
    this.strip.setPointerCapture(event.pointerId);
    this.strip.onpointermove = go;
    this.strip.onpointerup = () => { this.strip.onpointermove = null; };
  }

  // ------------------------------------------------------------------------------------------- where the reader is

  toTurn(k, remember = true) {
    if (k < 0 || k >= this.turns.length) return;
    this.turn = k;
    this.at = -1;
    this.into(this.list.children[k]);
    this.outline();
    this.say();
    if (!remember) return;
    this.ctx.remember({ turn: this.turns[k].index });
    this.ctx.select({ turns: [[this.data.story.id, this.turns[k].index]], trajectories: [this.data.story.id] });
  }

  /** Scroll inside the map only: the page stays where it is. */
  into(node) {
    const [box, own] = [this.scroller.getBoundingClientRect(), node.getBoundingClientRect()];
    if (own.top < box.top || own.height > box.height) this.scroller.scrollTop += own.top - box.top - 4;
    else if (own.bottom > box.bottom) this.scroller.scrollTop += Math.min(own.bottom - box.bottom + 4, own.top - box.top - 4);
  }

  /** Move the cursor to the next unit that the policy sampled. */
  step(by) {
    const of = this.units[this.unit];
    const n = this.data.origin.length;
    const [first, last] = this.tokensOf(this.turn);
    let i = this.at < 0 ? (by > 0 ? first - 1 : last) : this.at;
    const here = of && i >= 0 && i < n ? of[i] : null;
    for (i += by; i >= 0 && i < n; i += by) if (!of || (of[i] >= 0 && of[i] !== here)) break;
    if (i < 0 || i >= n) return;
    if (of && by < 0) while (i > 0 && of[i - 1] === of[i]) i--;
    this.show(i);
  }

  /** Put the cursor on a token: outline, scroll, say. */
  show(i) {
    this.at = i;
    const k = this.turnOf(i);
    this.turn = k;
    const block = this.blocks.find((b) => i >= b.from && i < b.to);
    this.washBlock(block);
    const rects = this.rects(i);
    this.outline();
    const box = this.scroller.getBoundingClientRect();
    if (rects[0] && rects[0].top < box.top + 4) this.scroller.scrollTop += rects[0].top - box.top - 40;
    else if (rects.length && rects.at(-1).bottom > box.bottom - 4) this.scroller.scrollTop += rects.at(-1).bottom - box.bottom + 40;
    else if (!rects.length) this.into(block.node);
    this.say();
  }

  turnOf(i) {
    let [low, high] = [0, this.turns.length - 1];
    while (low < high) {
      const mid = (low + high) >> 1;
      if (i < this.data.turn_ends[mid]) high = mid; else low = mid + 1;
    }
    return low;
  }

  /** Token range of the unit a token is in. */
  unitRange(i) {
    const of = this.units[this.unit];
    if (!of || of[i] < 0) return [i, i + 1];
    let [a, b] = [i, i + 1];
    while (a > 0 && of[a - 1] === of[i]) a--;
    while (b < of.length && of[b] === of[i]) b++;
    return [a, b];
  }

  /** Boxes of a unit on screen; of a long one, of its first tokens. */
  rects(i) {
    const [a, b] = this.unitRange(i);
    const out = [];
    for (const block of this.blocks) {
      if (block.to <= a || block.from >= b || block.look !== this.look) continue;
      for (const run of block.node.childNodes) {
        const next = run.nextSibling ? run.nextSibling.from : block.to;
        if (next <= a || run.from >= b || !run.firstChild) continue;
        const range = document.createRange();
        const long = run.firstChild.length;
        const [from, to] = [Math.max(a, run.from), Math.min(b, next)];
        range.setStart(run.firstChild, next - run.from === 1 ? 0 : Math.min(long, this.start(from) - this.start(run.from)));
        range.setEnd(run.firstChild, next - run.from === 1 ? long : Math.min(long, this.start(to) - this.start(run.from)));
        out.push(...range.getClientRects());
      }
    }
    return out;
  }

  /** Mark the turn and the unit the cursor is on. */
  outline() {
    for (const node of this.list.querySelectorAll(".box")) node.remove();
    for (const node of this.list.children) {
      const on = node.k === this.turn;
      node.classList.toggle("on", on);
      if (on) node.setAttribute("aria-current", "true"); else node.removeAttribute("aria-current");
    }
    if (this.at < 0) return;
    const origin = this.list.getBoundingClientRect();
    for (const r of this.rects(this.at).slice(0, 60)) {
      this.list.append(el("span", { class: "box", role: "presentation", style: { left: `${r.left - origin.left - 1}px`,
        top: `${r.top - origin.top - 1}px`, width: `${r.width + 2}px`, height: `${r.height + 2}px` } }));
    }
  }

  tokenAt(event) {
    const run = event.target.closest?.(".block > span");
    if (!run || run.from === undefined) return -1;
    const block = run.parentNode.block;
    const next = run.nextSibling ? run.nextSibling.from : block.to;
    if (next - run.from === 1) return run.from;
    const place = document.caretPositionFromPoint?.(event.clientX, event.clientY, { shadowRoots: [this.ctx.root.getRootNode()] });
    const offset = place?.offsetNode === run.firstChild ? place.offset : 0;
    const range = document.createRange();
    let i = run.from;
    while (i < next - 1 && this.data.ends[i] - this.start(run.from) <= offset) i++;
    // The caret stands between two letters: the token before it may be the one under the pointer.
    if (i > run.from && this.start(i) - this.start(run.from) === offset) {
      range.setStart(run.firstChild, offset - 1);
      range.setEnd(run.firstChild, offset);
      const r = range.getBoundingClientRect();
      if (event.clientX >= r.left && event.clientX < r.right && event.clientY >= r.top && event.clientY <= r.bottom) i--;
    }
    return i;
  }

  hover(event) {
    const i = this.tokenAt(event);
    if (i === this.hovered) return;
    this.hovered = i;
    if (i >= 0) this.say(i); else this.say();
  }

  click(event) {
    if (event.target.closest("button, summary, input, details")) return;
    const i = this.tokenAt(event);
    const k = event.target.closest(".turn")?.k;
    if (i >= 0) { this.show(i); this.remembered(); } else if (k !== undefined) this.toTurn(k);
  }

  remembered() {
    const { index } = this.turns[this.turn];
    this.ctx.remember({ turn: index });
    this.ctx.select({ turns: [[this.data.story.id, index]], trajectories: [this.data.story.id] });
  }

  selected(selection) {
    const mine = (selection?.turns || []).find(([id]) => id === this.data.story.id);
    const k = mine ? this.turns.findIndex((t) => t.index === mine[1]) : -1;
    if (k >= 0 && k !== this.turn) this.toTurn(k, false);
  }

  // --------------------------------------------------------------------------------------------------------------- words

  /** Say what is under the pointer or the cursor: value, rank, log-prob, origin; else the turn. */
  say(i = this.at) {
    if (!this.turns.length) return;
    fill(this.readout, i >= 0 ? this.unitWords(i) : this.turnWords());
  }

  turnWords() {
    const t = this.turns[this.turn];
    const place = `turn ${t.index}, ${this.turn + 1} of ${this.turns.length}`;
    if (!this.m) return [el("b", null, place)];
    const cell = this.m.cells[this.turn];
    const sizes = this.m.cells.filter((c) => c.status === "v").map((c) => Math.abs(c.value));
    const rank = 1 + sizes.filter((v) => v > Math.abs(cell.value)).length;
    const ranked = cell.status === "v" ? `, ${ordinal(rank)} by size` : "";
    return [el("b", null, place), ` ${this.m.name} ${worded(cell.value, cell.status, digits(this.m.full))}${ranked}`,
      cell.why ? el("span", { class: "quiet" }, ` ${cell.why}`) : ""];
  }

  unitWords(i) {
    const { data, m } = this;
    const [a, b] = this.unitRange(i);
    const text = el("span", { class: "mono quoted" }, oneLine(this.textOf(a, b).replaceAll("\n", "↵"), 40) || "∅");
    const origin = data.origins[data.origin[i]];
    const name = `turn ${this.turns[this.turnOf(i)].index}, ${origin === "turn" ? "whole turn" : this.unit}`;
    const parts = [el("b", null, name), text];
    if (m) {
      const s = LETTERS[this.cells.status[i]];
      const value = this.cells.values[i];
      parts.push(el("b", null, ` ${worded(value, s, digits(m.full))}`));
      if ("dn".includes(s) && !Number.isNaN(value)) parts.push(`, its value is ${number(value, digits(m.full))}`);
      if (s === "v") parts.push(` rank ${this.rank(i).toLocaleString("en")} of ${this.order.length.toLocaleString("en")} by size`);
    }
    if (origin === "sampled") parts.push(el("span", { class: "quiet" }, b - a === 1 ? `log-prob ${plain(data.logprob[i], 3)}` : `log-prob ${this.sumLogprob(a, b)}, ${count(b - a, "token")}`));
    parts.push(el("span", { class: "quiet" }, origin === "turn" ? "token texts are not stored" : origin === "sampled" ? "sampled" : `${origin}, not sampled: never trained`));
    return parts;
  }

  sumLogprob(a, b) {
    let [sum, known] = [0, 0];
    for (let i = a; i < b; i++) if (!Number.isNaN(this.data.logprob[i])) { sum += this.data.logprob[i]; known++; }
    return known ? plain(sum, 3) : "unknown";
  }

  /** Rank of a unit's value by size among the credited units of this rollout. */
  rank(i) {
    const { values, status } = this.cells;
    if (!this.order) {
      const of = this.units[this.unit];
      const sizes = [];
      for (let j = 0; j < values.length; j++) if (status[j] < 2 && (!of || j === 0 || of[j] !== of[j - 1])) sizes.push(Math.abs(values[j]));
      this.order = Float32Array.from(sizes).sort();
    }
    let [low, high] = [0, this.order.length];
    const size = Math.abs(values[i]);
    while (low < high) { const mid = (low + high) >> 1; if (this.order[mid] <= size) low = mid + 1; else high = mid; }
    return this.order.length - low + 1;
  }

  // -------------------------------------------------------------------------------------------------------------- search

  search(words, remember = true) {
    const needle = words.toLowerCase();
    this.hits = [];
    if (needle) {
      const hay = this.data.text.toLowerCase();
      const same = hay.length === this.data.text.length; // a few letters change length in lower case
      const [where, what] = same ? [hay, needle] : [this.data.text, words];
      for (let at = where.indexOf(what); at >= 0 && this.hits.length < 5000; at = where.indexOf(what, at + what.length)) {
        this.hits.push([this.tokenOf(at), this.tokenOf(at + what.length - 1)]);
      }
    }
    const elsewhere = needle ? this.turns.flatMap((t) => t.observations).filter((o) => o.text.toLowerCase().includes(needle)).length : 0;
    this.hitAt = -1;
    this.hitsKey = needle && `${needle} ${this.hits.length}`;
    const said = needle ? `${count(this.hits.length, "place")}${elsewhere ? `, and in ${count(elsewhere, "result")}` : ""}` : "";
    fill(this.found, said);
    if (needle) {
      for (const node of this.list.querySelectorAll("details")) {
        if (node.words?.toLowerCase().includes(needle)) { node.open = true; node.classList.add("hit"); } else node.classList.remove("hit");
      }
    } else for (const node of this.list.querySelectorAll("details.hit")) node.classList.remove("hit");
    if (remember) this.ctx.remember({ find: words || null });
    this.paint();
    if (this.hits.length) this.toHit(1);
  }

  tokenOf(letter) {
    let [low, high] = [0, this.data.ends.length - 1];
    while (low < high) { const mid = (low + high) >> 1; if (letter < this.data.ends[mid]) high = mid; else low = mid + 1; }
    return low;
  }

  isHit(i) {
    let [low, high] = [0, this.hits.length];
    while (low < high) { const mid = (low + high) >> 1; if (this.hits[mid][1] < i) low = mid + 1; else high = mid; }
    return low < this.hits.length && this.hits[low][0] <= i;
  }

  toHit(by) {
    const n = this.hits.length;
    if (!n) return;
    this.hitAt = (this.hitAt + by + n) % n;
    fill(this.found, `${this.hitAt + 1} of ${n.toLocaleString("en")}`);
    this.show(this.hits[this.hitAt][0]);
  }

  // ------------------------------------------------------------------------------------------------------------- re-roll

  openReroll(k) {
    const node = this.list.children[k];
    this.toTurn(k);
    node.panel ||= rerollPanel(this.ctx, k, this.turns[k].index, this.data.methods.map((m) => [m.name, m.cells[k], digits(m.full)]));
    if (!node.panel.isConnected) node.querySelector(".facts").after(node.panel);
    node.panel.querySelector("input, button").focus();
    this.outline();
  }
}

// ------------------------------------------------------------------------------------------------------------- pieces

function sampledIn(story) {
  return story.turns.reduce((n, t) => n + (t.sampled || 0), 0);
}

/** A sampled line break is a token like any other: it gets a sign to carry its wash. */
function shown(text, kind) {
  if (text === "") return "∅";
  const sampled = kind && !kind.startsWith("s-n");
  return sampled ? visible(text).replaceAll("\n", "↵\n") : visible(text);
}

function ordinal(n) {
  return n === 1 ? "largest" : n === 2 ? "second" : n === 3 ? "third" : `${n}th`;
}

function message(m, open = false) {
  const who = m.role + (m.author ? ` ${m.author}` : "");
  const more = m.more ? ` (${(m.text.length + m.more).toLocaleString("en")} characters)` : "";
  const node = fold([el("span", { class: "quiet" }, `${who}${more} `), oneLine(m.text, 96) || "(no text)"],
    () => [el("pre", { tabindex: "0" }, m.text, m.more ? `\n… ${m.more.toLocaleString("en")} more characters, not shown` : null), m.calls.map(call)], open);
  node.words = m.text;
  return node;
}

function call(c) {
  const node = fold([el("span", { class: "quiet" }, c.error === null ? "call " : "unreadable call "), el("b", null, c.name || "(no name)"),
    el("span", { class: "quiet" }, ` ${oneLine(c.arguments || c.error || c.raw, 80)}`)],
  () => [el("pre", { tabindex: "0" }, c.raw || c.arguments || ""), c.error === null ? null : el("p", { class: "note" }, `could not be parsed: ${c.error}`)].filter(Boolean));
  node.words = c.raw;
  return node;
}
