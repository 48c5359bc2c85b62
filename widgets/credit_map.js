// The credit map: one rollout turn by turn, its tokens washed by the credit of one method, bars of all methods beside them.

import {
  LETTERS, button, choice, count, digits, el, fill, keys, number, oneLine, plain, switcher, worded,
} from "./core.js";
import { call, head, lanes, ledger, legend, message, strip, turnFacts } from "./map_parts.js";
import { Text } from "./map_text.js";
import { rerollPanel } from "./reroll.js";

const MOST_HITS = 5000;

export function view(ctx) {
  const map = new CreditMap(ctx);
  ctx.on("data", () => map.renew());
  ctx.on("live", (change) => map.change(change));
  ctx.on("state", () => map.restore());
  ctx.on("select", (selection) => map.selected(selection));
  ctx.on("dispose", () => map.text.stop());
  map.build();
}

class CreditMap {
  constructor(ctx) {
    this.ctx = ctx;
    this.help = keys(ctx, [
      ["j ArrowDown", "next turn", () => this.toTurn(this.turn + 1)],
      ["k ArrowUp", "previous turn", () => this.toTurn(this.turn - 1)],
      ["Home", "first turn", () => this.toTurn(0)],
      ["End", "last turn", () => this.toTurn(this.turns.length - 1)],
      ["l ArrowRight", "next unit of the text", () => this.step(1)],
      ["h ArrowLeft", "previous unit", () => this.step(-1)],
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

  /** Another rollout, or the same with other numbers. */
  renew() {
    if (this.ctx.data.story.id !== this.data.story.id) this.ctx.remember({ turn: undefined, find: undefined });
    this.build();
    this.selected(this.pending);
    this.pending = null;
  }

  build() {
    const d = this.data = this.ctx.data;
    this.text?.stop();
    this.text = new Text(d, () => this.now);
    Object.assign(this, { list: null, turns: d.story.turns, units: { token: null, ...d.units }, turn: 0, at: -1, hits: [], hitAt: -1 });
    this.read();
    this.readout = el("div", { class: "readout", "aria-live": "polite" });
    this.legendBox = el("div", { class: "legend" });
    this.sums = el("div", null, ledger(d));
    const tools = this.tools();
    if (!this.turns.length) {
      fill(this.ctx.root, head(d), el("p", null, "This rollout has no turns."), this.help);
      return;
    }
    this.list = el("div", { class: "turns", role: "list", on: { pointermove: (e) => this.hover(e), click: (e) => this.click(e) } },
      this.turns.map((t, k) => this.turnNode(t, k)));
    this.scroller = el("div", { class: "scroller", tabindex: "-1" }, this.list);
    this.strip = strip(this.ctx, d, this.text, this.scroller, this.list, () => this.now);
    const stage = el("div", { class: "stage" }, el("div", { class: "rail" }, this.strip), this.scroller);
    fill(this.ctx.root, head(d), tools, this.legendBox, stage, this.readout, this.sums, this.help);
    this.paint();
    this.say();
    if (this.ctx.state.turn !== undefined || this.ctx.state.find) this.restore();
  }

  /** Other numbers for the same text: the kernel computed the methods again. */
  change({ methods, ledger: sums, notes }) {
    if (!this.list || !(methods || sums)) return;
    this.round = (this.round || 0) + 1;
    Object.assign(this.data, methods && { methods, notes }, sums && { ledger: sums });
    if (methods) this.paint();
    fill(this.sums, ledger(this.data));
    this.say();
  }

  tools() {
    const names = this.data.methods.map((m, i) => [i, m.name]);
    const pick = (i) => this.setMethod(Number(i));
    const few = names.length > 1 && names.length <= 5 && names.every(([, name]) => name.length < 24);
    this.pickMethod = few ? switcher("method", names, this.method, pick)
      : choice("method", names.length ? names : [[0, "none"]], this.method, pick);
    this.pickUnit = choice("unit", Object.keys(this.units).map((u) => [u, u]), this.unit, (u) => this.setUnit(u));
    this.pickScale = switcher("scale", [["shared", "shared"], ["own", "own"]], this.own ? "own" : "shared",
      (v) => this.setOwn(v === "own"));
    this.box = el("input", { type: "search", placeholder: "search the text", "aria-label": "search the text",
      on: { input: () => this.search(this.box.value), keydown: (e) => { if (e.key === "Enter") this.toHit(e.shiftKey ? -1 : 1); } } });
    this.found = el("span", { class: "quiet", role: "status" });
    return el("div", { class: "tools" }, this.pickMethod, this.pickUnit, names.length > 1 ? this.pickScale : null,
      el("span", { class: "control" }, this.box, this.found));
  }

  turnNode(t, k) {
    const again = this.data.reroll
      ? button("re-roll", () => this.openReroll(k), { class: "small", "aria-label": `sample turn ${t.index} anew` }) : null;
    const gutter = el("div", { class: "gutter" });
    const node = el("div", { class: "turn", role: "listitem" }, gutter, el("div", { class: "body" },
      el("div", { class: "facts" }, turnFacts(t), again), this.text.nodesOf(k),
      t.action.calls.map(call), t.observations.map((o) => message(o))));
    return Object.assign(node, { gutter, k });
  }

  // ------------------------------------------------------------------------------------------------------- the controls

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
    if (!this.list) return;
    this.pickMethod.set(this.method);
    this.pickUnit.set(this.unit);
    this.pickScale.set(this.own ? "own" : "shared");
    this.paint();
    const { find, turn } = this.ctx.state;
    this.box.value = find ?? "";
    this.search(this.box.value, false);
    const k = this.turns.findIndex((t) => t.index === turn);
    if (k >= 0) this.toTurn(k, false);
  }

  setMethod(i) {
    const n = this.data.methods.length;
    if (!n) return;
    this.method = (i + n) % n;
    this.pickMethod.set(this.method);
    this.ctx.remember({ method: this.m.name });
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

  /** Draw all that depends on method, unit, scale and search: of the text, only what is near. */
  paint() {
    const { m } = this;
    this.cells = m ? unitCells(m, this.unit, this.units[this.unit]) : null;
    this.sizes = null;
    this.now = { cells: this.cells, full: m ? this.fullOf(m) : null, isHit: (i) => this.isHit(i),
      key: `${this.method} ${this.unit} ${this.own} ${this.round} ${this.needle || ""}` };
    fill(this.legendBox, legend(this.data, m, this.now.full, this.own));
    for (const node of this.list.children) {
      fill(node.gutter, note(this.data, node.k), lanes(this.data.methods, node.k, this.method, (x) => this.fullOf(x), (i) => this.setMethod(i)));
    }
    this.text.repaint();
    this.outline();
    this.strip.redraw();
  }

  // ------------------------------------------------------------------------------------------------ where the reader is

  toTurn(k, tell = true) {
    if (k < 0 || k >= this.turns.length) return;
    this.turn = k;
    this.at = -1;
    this.into(this.list.children[k]);
    this.outline();
    this.say();
    if (tell) this.tell();
  }

  /** Keep the turn in the permalink, and select it in linked views. */
  tell() {
    const [{ id }, { index }] = [this.data.story, this.turns[this.turn]];
    this.ctx.remember({ turn: index });
    this.ctx.select({ trajectories: [id], turns: [[id, index]] });
  }

  /** Follow a linked view: to a turn of this rollout, and with a kernel to another rollout. */
  selected(selection) {
    const id = selection?.turns?.[0]?.[0] ?? selection?.trajectories?.[0];
    if (id === undefined) return;
    if (id !== this.data.story.id) {
      this.pending = selection;
      if (this.ctx.live) this.ctx.ask("open", { trajectory: id }).catch(() => {}); // one that is not among its rollouts
      return;
    }
    const mine = (selection.turns || []).find(([owner]) => owner === id);
    const k = mine && this.list ? this.turns.findIndex((t) => t.index === mine[1]) : -1;
    if (k >= 0 && k !== this.turn) this.toTurn(k, false);
  }

  /** Scroll inside the map only: the page stays where it is. */
  into(node) {
    const [box, own] = [this.scroller.getBoundingClientRect(), node.getBoundingClientRect()];
    if (own.top < box.top || own.height > box.height) this.scroller.scrollTop += own.top - box.top - 4;
    else if (own.bottom > box.bottom) this.scroller.scrollTop += Math.min(own.bottom - box.bottom + 4, own.top - box.top - 4);
  }

  /** Move the cursor to the next or previous unit of the text. */
  step(by) {
    const of = this.units[this.unit];
    const n = this.data.origin.length;
    const [first, last] = this.text.tokensOf(this.turn);
    let i = this.at < 0 ? (by > 0 ? first - 1 : last) : this.at;
    const here = of && i >= 0 && i < n && this.at >= 0 ? of[i] : null;
    for (i += by; i >= 0 && i < n; i += by) if (!of || (of[i] >= 0 && of[i] !== here)) break;
    if (i >= 0 && i < n) this.show(this.range(i)[0]);
  }

  /** Put the cursor on a token: outline, scroll, say. */
  show(i) {
    this.at = i;
    this.turn = this.text.turnOf(i);
    const block = this.text.blockOf(i);
    this.text.wash(block);
    const rects = this.text.rects(...this.range(i));
    const box = this.scroller.getBoundingClientRect();
    if (!rects.length) this.into(block.node);
    else if (rects[0].top < box.top + 4) this.scroller.scrollTop += rects[0].top - box.top - 40;
    else if (rects[0].bottom > box.bottom - 4) this.scroller.scrollTop += rects[0].bottom - box.bottom + 40;
    this.outline();
    this.say();
  }

  /** Token range of the unit a token is in. */
  range(i) {
    const of = this.units[this.unit];
    if (!of || of[i] < 0) return [i, i + 1];
    let [a, b] = [i, i + 1];
    while (a > 0 && of[a - 1] === of[i]) a--;
    while (b < of.length && of[b] === of[i]) b++;
    return [a, b];
  }

  /** Mark the turn and the unit the cursor is on. */
  outline() {
    for (const node of this.list.querySelectorAll(".box")) node.remove();
    for (const node of this.list.children) {
      node.classList.toggle("on", node.k === this.turn);
      if (node.k === this.turn) node.setAttribute("aria-current", "true");
      else node.removeAttribute("aria-current");
    }
    if (this.at < 0) return;
    const home = this.list.children[this.turn].querySelector(".body");
    const origin = home.getBoundingClientRect();
    for (const r of this.text.rects(...this.range(this.at)).slice(0, 60)) {
      home.append(el("span", { class: "box", style: { left: `${r.left - origin.left - 1}px`, top: `${r.top - origin.top - 1}px`,
        width: `${r.width + 2}px`, height: `${r.height + 2}px` } }));
    }
  }

  hover(event) {
    const i = this.text.under(event, this.ctx.root);
    if (i === this.hovered) return;
    this.hovered = i;
    this.say(i >= 0 ? i : this.at);
  }

  click(event) {
    if (event.target.closest("button, details, .reroll")) return;
    const i = this.text.under(event, this.ctx.root);
    const k = event.target.closest(".turn")?.k;
    if (i >= 0) { this.show(i); this.tell(); } else if (k !== undefined) this.toTurn(k);
  }

  // --------------------------------------------------------------------------------------------------------------- words

  /** Say what is under the pointer or the cursor: value, rank, log-prob, origin; else the turn. */
  say(i = this.at) {
    fill(this.readout, i >= 0 ? this.unitWords(i) : this.turnWords());
  }

  turnWords() {
    const t = this.turns[this.turn];
    const place = el("b", null, `turn ${t.index}, ${this.turn + 1} of ${this.turns.length}`);
    if (!this.m) return place;
    const cell = this.m.cells[this.turn];
    const credited = this.m.cells.filter((c) => c.status === "v" || c.status === "z").map((c) => Math.abs(c.value));
    const rank = 1 + credited.filter((v) => v > Math.abs(cell.value)).length;
    return [place, el("span", null, `${this.m.name} `, el("b", null, worded(cell.value, cell.status, digits(this.m.full)))),
      cell.status === "v" ? el("span", null, `rank ${rank} of ${count(credited.length, "turn")} by size`) : null,
      cell.why ? el("span", { class: "quiet" }, cell.why) : null];
  }

  unitWords(i) {
    const { data, m } = this;
    const [a, b] = this.range(i);
    const origin = data.origins[data.origin[i]];
    const quiet = (words) => el("span", { class: "quiet" }, words);
    const out = [el("b", null, `turn ${this.turns[this.text.turnOf(i)].index}, ${origin === "turn" ? "whole turn" : this.unit}`),
      el("span", { class: "mono quoted", dir: "auto" }, oneLine(this.text.textOf(a, b).replaceAll("\n", "↵"), 40) || "∅")];
    if (m) out.push(...this.valueWords(i));
    if (origin === "turn") return [...out, quiet("token texts are not stored")];
    if (origin !== "sampled" && b - a === 1) return [...out, quiet(`${origin}, not sampled: never trained`)];
    let [sum, known] = [0, 0];
    for (let j = a; j < b; j++) if (!Number.isNaN(data.logprob[j])) { sum += data.logprob[j]; known++; }
    const tokens = b - a > 1 ? `, ${count(b - a, "token")}` : "";
    return [...out, quiet(`log-prob ${known ? plain(sum, 3) : "unknown"}${tokens}`), quiet(origin)];
  }

  valueWords(i) {
    const [s, value, decimals] = [LETTERS[this.cells.status[i]], this.cells.values[i], digits(this.m.full)];
    const out = [el("span", null, `${this.m.name} `, el("b", null, worded(value, s, decimals)))];
    if ("dn".includes(s) && !Number.isNaN(value)) out.push(el("span", null, `its value is ${number(value, decimals)}`));
    if (s !== "v") return out;
    const [rank, of] = this.rank(value);
    return [...out, el("span", null, `rank ${rank.toLocaleString("en")} of ${of.toLocaleString("en")} by size`)];
  }

  /** Rank of a value by size among the credited units of this rollout, and how many there are. */
  rank(value) {
    const { values, status } = this.cells;
    const of = this.units[this.unit];
    if (!this.sizes) {
      const sizes = [];
      for (let j = 0; j < values.length; j++) {
        const again = of && j > 0 && of[j] === of[j - 1] && status[j - 1] < 2;
        if (status[j] < 2 && !again) sizes.push(Math.abs(values[j]));
      }
      this.sizes = Float32Array.from(sizes).sort();
    }
    const size = Math.abs(value);
    let [low, high] = [0, this.sizes.length];
    while (low < high) {
      const mid = (low + high) >> 1;
      if (this.sizes[mid] <= size) low = mid + 1;
      else high = mid;
    }
    return [this.sizes.length - low + 1, this.sizes.length];
  }

  // -------------------------------------------------------------------------------------------------------------- search

  search(words, remember = true) {
    const needle = this.needle = words.toLowerCase();
    const [hay, what] = lower(this.data.text, words);
    this.hits = [];
    this.hitAt = -1;
    for (let at = needle ? hay.indexOf(what) : -1; at >= 0 && this.hits.length < MOST_HITS; at = hay.indexOf(what, at + what.length)) {
      this.hits.push([this.text.tokenOf(at), this.text.tokenOf(at + what.length - 1)]);
    }
    let folded = 0;
    for (const node of this.list.querySelectorAll("details")) {
      const hit = Boolean(needle) && Boolean(node.words?.toLowerCase().includes(needle));
      node.classList.toggle("hit", hit);
      folded += hit;
    }
    fill(this.found, needle ? count(this.hits.length, "place") + (folded ? `, and in ${folded} folded` : "") : "");
    if (remember) this.ctx.remember({ find: words || null });
    this.paint();
    if (this.hits.length) this.toHit(1);
  }

  isHit(i) {
    let [low, high] = [0, this.hits.length];
    while (low < high) {
      const mid = (low + high) >> 1;
      if (this.hits[mid][1] < i) low = mid + 1;
      else high = mid;
    }
    return low < this.hits.length && this.hits[low][0] <= i;
  }

  toHit(by) {
    const n = this.hits.length;
    if (!n) return;
    this.hitAt = (this.hitAt + by + n) % n;
    const folded = this.list.querySelectorAll("details.hit").length;
    fill(this.found, `${this.hitAt + 1} of ${n.toLocaleString("en")}${folded ? `, and in ${folded} folded` : ""}`);
    this.show(this.hits[this.hitAt][0]);
  }

  // ------------------------------------------------------------------------------------------------------------- re-roll

  openReroll(k) {
    const node = this.list.children[k];
    this.toTurn(k);
    const claims = this.data.methods.map((m) => [m.name, m.cells[k], digits(m.full)]);
    node.panel ||= rerollPanel(this.ctx, k, this.turns[k].index, claims);
    if (!node.panel.isConnected) node.querySelector(".facts").after(node.panel);
    node.panel.querySelector("input").focus();
  }
}

/** What is to be said of turn `k` beside its bars. */
const note = (data, k) => (data.notes?.[k] ? el("i", null, data.notes[k]) : null);

/** Text and words in lower case; as they are where that changes the length of the text. */
function lower(text, words) {
  const small = text.toLowerCase();
  return small.length === text.length ? [small, words.toLowerCase()] : [text, words];
}

/** Value and status of every token at a unit: the mean over the unit's credited tokens, zeros included. */
function unitCells(m, unit, of) {
  if (!of) return m;
  if (m.at?.unit === unit) return m.at;
  const size = of.reduce((a, b) => Math.max(a, b), -1) + 1;
  const [sum, n, seen] = [new Float64Array(size), new Uint32Array(size), new Uint8Array(size)];
  for (let i = 0; i < of.length; i++) {
    if (of[i] < 0) continue;
    seen[of[i]] |= 1 << m.status[i];
    if (m.status[i] < 2) { sum[of[i]] += m.values[i]; n[of[i]]++; }
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
  m.at = { unit, values, status };
  return m.at;
}
