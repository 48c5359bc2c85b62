// Many rollouts x turns on one canvas: order, group, brush, a cursor with words, and the credit map of one rollout below.

import {
  button, canvas, choice, count, digits, el, fill, fold, keys, LETTERS, many, number, oneLine, plain, ruler, switcher, visible,
  worded,
} from "./core.js";
import { askMap, drawMap } from "./inner_map.js";
import {
  beyond, blockExpression, cellAt, codes, countMarks, GROUPS, meansByTurn, NONE, rampCodes, rowsOf, rowsText, shownMethods,
  shownRollouts, SORTS, start, textList,
} from "./heat_rows.js";
import { draw, drawMini, GAP, GUTTER, HEAD, STRIP } from "./heat_draw.js";

const TALLEST = 480;
const HEIGHTS = [1, 2, 3, 5, 8, 12, 16, 22];
const PAIRS = 20000; // cells that are named one by one in a selection; of more, rollouts and an expression
const MARKS = [
  ["+", "positive", "p9"], ["-", "negative", "m9"], ["z", "zero", "zero"], ["u", "unknown", "hatch"],
  ["d", "dropped", "dashed"], ["n", "not trained", "faint"], ["beyond", "beyond the scale", "p16 cut"],
];

const short = (text, limit = 24) => oneLine(visible(text), limit);

export function view(ctx) {
  const heat = new Heat(ctx);
  ctx.on("data", () => heat.reset());
  ctx.on("state", () => heat.reset());
  ctx.on("select", (selection) => heat.follow(selection));
}

class Heat {
  constructor(ctx) {
    this.ctx = ctx;
    this.readout = el("p", { class: "readout", "aria-live": "polite" });
    this.legend = el("div", { class: "legend" });
    this.chosen = el("div", { class: "chosen" });
    this.opened = el("div", { class: "opened" });
    this.tools = el("div", { class: "tools" });
    this.canvas = canvas(ctx, (g, width, height, ink) => draw(this, g, width, ink), { role: "img" });
    this.spacer = el("div", { class: "spacer" }, this.canvas);
    this.scroller = el("div", { class: "scroller", tabindex: "0", role: "group", "aria-label": "Heat map: arrows move, Enter opens" }, this.spacer);
    this.mini = canvas(ctx, (g, width, height, ink) => drawMini(this, g, width, height, ink), { class: "mini", "aria-hidden": "true" });
    const stage = el("div", { class: "stage" }, this.scroller, this.mini);
    ctx.root.append(this.tools, stage, this.readout, this.legend, this.chosen, this.opened, keys(ctx, this.bindings()));
    this.scroller.addEventListener("scroll", () => this.redraw());
    this.point();
    const watch = new ResizeObserver(() => this.layout());
    watch.observe(this.scroller);
    ctx.on("dispose", () => { watch.disconnect(); this.down?.(); });
    this.reset();
  }

  get state() { return this.ctx.state; }
  get data() { return this.ctx.data; }

  keep(change) { this.ctx.remember(change); }

  redraw() {
    this.canvas.redraw();
    this.mini.redraw();
  }

  // -- what is shown ------------------------------------------------------------------------------------------------

  /** Everything anew: other data, or another permalink. */
  reset() {
    const { data, state } = this;
    [this.ids, this.groups] = [data.ids, data.groups].map(textList);
    this.texts = data.texts ? textList(data.texts) : () => "";
    this.common = beginning(this.ids, data.count);
    this.byId = null;
    this.rows = rowsOf(String(state.rows ?? ""), data.count);
    this.span = state.from >= 0 && state.to >= 0 ? [+state.from, +state.to] : null;
    this.fillCells();
    this.cursor = { n: state.at >= 0 && state.at < data.count ? Math.floor(state.at) : -1, turn: state.turn > 0 ? Math.floor(state.turn) : 0 };
    const known = data.outcome.filter((v) => !Number.isNaN(v));
    this.low = known.reduce((a, b) => Math.min(a, b), 0);
    this.high = known.reduce((a, b) => Math.max(a, b), 0);
    this.update();
    if (this.rows.includes(1)) this.commit("link");
    if (state.open >= 0 && state.open < data.count) this.open(Math.floor(state.open), false);
    else this.close(false);
  }

  /** The state changed: order, codes, words, picture. */
  update(change = null) {
    if (change) this.keep(change);
    const { data, state } = this;
    this.methods = shownMethods(data, state);
    this.panels = this.methods.map((m) => {
      const full = state.own ? data.own[m] : data.scale.full;
      return { m, full, name: visible(data.methods[m]), codes: codes(data.values[m], data.status[m], full) };
    });
    this.credits = [...this.panels];
    if (Object.hasOwn(data.apart, state.apart)) this.panels.push({ name: `≠ ${state.apart}`, codes: rampCodes(data.apart[state.apart].turn) });
    this.order = shownRollouts(data, state);
    this.place = new Int32Array(data.count).fill(-1);
    this.order.forEach((n, i) => { this.place[n] = i; });
    this.zoom = HEIGHTS.includes(state.zoom) ? state.zoom : HEIGHTS.findLast((h) => h * this.order.length <= 360) ?? 3;
    if (!(this.place[this.cursor.n] >= 0)) this.cursor.n = this.order[0] ?? -1;
    this.controls();
    this.layout();
    this.mean();
    this.describe();
    this.explain();
    this.say();
  }

  /** Widths and heights, from the room there is. */
  layout() {
    const [columns, panels] = [Math.max(1, this.data.width), this.panels.length];
    const room = this.scroller.clientWidth || 900;
    this.cell = Math.max(3, Math.min(22, Math.floor((room - GUTTER - STRIP - GAP * panels) / (columns * Math.max(1, panels)))));
    this.panels.forEach((panel, p) => { panel.x = GUTTER + STRIP + GAP + p * (columns * this.cell + GAP); });
    const wide = GUTTER + STRIP + (columns * this.cell + GAP) * panels;
    const tall = this.zoom * this.order.length;
    this.body = Math.min(TALLEST, Math.max(this.zoom, tall));
    this.mini.hidden = tall <= TALLEST;
    const size = (node, width, height) => { Object.assign(node.style, { width: width ? `${width}px` : "", height: `${height}px` }); };
    size(this.scroller, 0, HEAD + this.body + (wide > room ? 14 : 0));
    size(this.spacer, wide, HEAD + tall);
    size(this.canvas, Math.min(wide, room), HEAD + this.body);
    size(this.mini, 0, this.body);
    this.redraw();
  }

  // -- controls -----------------------------------------------------------------------------------------------------

  controls() {
    if (this.tools.contains(this.ctx.root.getRootNode().activeElement)) { this.pressed(); return; }
    const { data, state } = this;
    const toggle = (words, key, change) => {
      const node = button(words, () => this.update(change(node.getAttribute("aria-pressed") !== "true")));
      node.on = key;
      return node;
    };
    const sorts = Object.entries(SORTS).filter(([key, words]) => !words.startsWith("dis") || Object.hasOwn(data.apart, key));
    const sort = Object.hasOwn(SORTS, state.sort) ? state.sort : "given";
    const order = choice("Order", sorts, sort, (v) => this.update({ sort: v }));
    this.toggles = [
      toggle("reverse", () => this.state.flip, (on) => ({ flip: on || null })),
      toggle("groups together", () => this.state.grouped !== false, (on) => ({ grouped: on ? null : false })),
    ];
    this.found = el("input", { type: "search", placeholder: "id, group, question", on: { input: () => this.update({ find: this.found.value || null }) } });
    this.found.value = String(state.find ?? "");
    const only = [["all", "all rollouts"], ["selected", "what is selected"], ...GROUPS.map((kind) => [kind, `${kind} groups`])];
    const show = choice("Show", only, only.some(([key]) => key === state.only) ? state.only : "all", (v) => this.update({ only: v }));
    const group = (words, nodes) => el("span", { class: "control", role: "group", "aria-label": words },
      el("span", null, words), el("div", { class: "switch" }, nodes));
    const several = data.methods.length > 1 ? [
      this.methodChoice(group),
      switcher("Scale", [["", "shared"], ["own", "own"]], state.own ? "own" : "", (v) => this.update({ own: v ? true : null })),
      choice("Disagreement", [["", "not drawn"], ...Object.keys(data.apart).map((key) => [key, `by ${key}`])],
        state.apart ?? "", (v) => this.update({ apart: v || null })),
    ] : [];
    fill(this.tools, order, el("span", { class: "switch" }, this.toggles.slice(0, 2)), show,
      el("label", { class: "control" }, el("span", null, "Find"), this.found),
      group("Rows", [button("lower", () => this.taller(-1)), button("taller", () => this.taller(1))]), several);
    this.pressed();
  }

  methodChoice(group) {
    const names = this.data.methods;
    const press = (m) => {
      const next = this.methods.includes(m) ? this.methods.filter((other) => other !== m) : [...this.methods, m];
      if (next.length) this.update({ methods: next.map((i) => names[i]) });
    };
    const list = names.map((name, m) => button(short(name), () => press(m)));
    list.forEach((node, m) => { node.on = () => this.methods.includes(m); });
    this.toggles.push(...list);
    return list.length <= 6 ? group("Methods", list) : fold(`${names.length} methods`, () => el("span", { class: "switch many" }, list));
  }

  pressed() {
    for (const node of this.toggles) node.setAttribute("aria-pressed", String(Boolean(node.on())));
  }

  taller(step) {
    const next = HEIGHTS[HEIGHTS.indexOf(this.zoom) + step];
    if (!next) return;
    this.update({ zoom: next });
    this.reveal();
  }

  bindings() {
    const steps = () => {
      const screen = Math.max(1, Math.floor(this.body / this.zoom) - 1);
      return { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1, PageDown: screen, PageUp: -screen, Home: -1e9, End: 1e9 };
    };
    const row = (event) => this.move(steps()[event.key], 0, event.shiftKey);
    const turn = (event) => this.move(0, "ArrowRight l".includes(event.key) ? 1 : -1, event.shiftKey);
    return [
      ["ArrowDown j ArrowUp k", "rollout after, before; with Shift, select", row],
      ["ArrowRight l ArrowLeft h", "turn after, before", turn],
      ["PageDown PageUp Home End", "a screen down, up; first, last rollout", row],
      ["x", "select the rollout, or no longer", () => this.toggle()],
      ["a", "select the group", () => this.selectGroup()],
      ["Enter", "open the credit map of the rollout", () => this.open(this.cursor.n)],
      ["Escape", "close it, then select nothing", () => (this.opened.firstChild ? this.close() : this.nothing())],
      ["[ ]", "another method first", (e) => this.turnMethods(e.key === "]")],
      ["/", "find", () => this.found.focus()],
    ];
  }

  turnMethods(on) {
    const names = this.methods.map((m) => this.data.methods[m]);
    this.update({ methods: on ? [...names.slice(1), names[0]] : [names.at(-1), ...names.slice(0, -1)] });
  }

  // -- cursor and selection -----------------------------------------------------------------------------------------

  move(rows, turns, extend) {
    if (!this.order.length) return;
    const before = { ...this.cursor };
    const i = Math.max(0, Math.min(this.order.length - 1, this.place[this.cursor.n] + rows));
    this.cursor = { n: this.order[i], turn: Math.max(0, Math.min(this.data.width - 1, this.cursor.turn + turns)) };
    if (extend) {
      this.anchor ??= before;
      this.block(Math.max(0, this.place[this.anchor.n]), i, this.anchor.turn, this.cursor.turn);
      this.commit("keys");
    } else this.anchor = null;
    this.keep({ at: this.cursor.n, turn: this.cursor.turn });
    this.reveal();
    this.say();
  }

  /** Scroll so that the cursor is in sight. */
  reveal() {
    const { scroller, zoom, body, cell } = this;
    const y = this.place[this.cursor.n] * zoom;
    scroller.scrollTop = Math.max(Math.min(scroller.scrollTop, y), y + zoom - body);
    const x = (this.panels[0]?.x ?? 0) + this.cursor.turn * cell;
    scroller.scrollLeft = Math.max(Math.min(scroller.scrollLeft, x - GUTTER), x + cell - scroller.clientWidth);
    this.redraw();
  }

  /** Mark the cells of the selected rollouts between the selected turns. */
  fillCells() {
    this.cells = new Uint8Array(this.data.ends.at(-1) ?? 0);
    this.rows.forEach((on, n) => { if (on) this.markRow(n); });
  }

  markRow(n) {
    const from = start(this.data, n);
    const to = this.data.ends[n];
    const shift = from - this.data.first[n];
    const inside = (k) => Math.max(from, Math.min(to, k + shift));
    if (Array.isArray(this.span)) this.cells.fill(1, inside(this.span[0]), inside(this.span[1] + 1));
    else this.cells.fill(1, from, to);
  }

  /** Select what lies between two rows of the screen and two turns; null for all turns. */
  block(i, j, a, b) {
    this.rows.fill(0);
    this.cells.fill(0);
    this.span = a === null ? null : [Math.min(a, b), Math.max(a, b)];
    for (let r = Math.min(i, j); r <= Math.max(i, j); r++) {
      this.rows[this.order[r]] = 1;
      this.markRow(this.order[r]);
    }
  }

  toggle() {
    const { data, rows, cursor: { n } } = this;
    if (n < 0) return;
    rows[n] = 1 - rows[n];
    this.cells.fill(rows[n], start(data, n), data.ends[n]);
    if (this.span) this.span = "mixed";
    this.commit("keys");
  }

  selectGroup() {
    if (this.cursor.n < 0) return;
    const group = this.data.group[this.cursor.n];
    this.rows = Uint8Array.from(this.data.group, (g) => Number(g === group));
    this.span = null;
    this.fillCells();
    this.commit("keys");
  }

  nothing() {
    this.rows.fill(0);
    this.cells.fill(0);
    this.span = null;
    if (this.state.only === "selected") this.keep({ only: null });
    this.commit("keys");
    this.update();
  }

  /** The selection stands: tell linked views, Python and the permalink. */
  commit(by) {
    const { data, span } = this;
    const places = [];
    this.rows.forEach((on, n) => { if (on) places.push(n); });
    const ids = places.map(this.ids);
    const turns = [];
    if (span && places.length * (span === "mixed" ? data.width : span[1] - span[0] + 1) <= PAIRS) {
      for (const n of places) {
        for (let k = start(data, n); k < data.ends[n]; k++) if (this.cells[k]) turns.push([this.ids(n), data.first[n] + k - start(data, n)]);
      }
    }
    const selection = { trajectories: ids, turns, by };
    if (span !== "mixed") selection.expression = ids.length ? blockExpression(ids, span, ids.length === data.count) : "";
    const [from, to] = Array.isArray(span) ? span : [null, null];
    this.keep({ rows: ids.length ? rowsText(this.rows) : null, from, to });
    this.ctx.select(selection);
    this.changed();
  }

  /** Another view selected. */
  follow({ trajectories = [], turns = [] }) {
    const { data } = this;
    const place = this.byId ??= new Map(Array.from({ length: data.count }, (_, n) => [this.ids(n), n]));
    this.rows.fill(0);
    this.cells.fill(0);
    this.span = turns.length ? "mixed" : null;
    for (const [id, turn] of turns) {
      const k = place.has(id) ? cellAt(data, place.get(id), turn) : -1;
      if (k >= 0) this.rows[place.get(id)] = this.cells[k] = 1;
    }
    if (!turns.length) for (const id of trajectories) if (place.has(id)) { this.rows[place.get(id)] = 1; this.markRow(place.get(id)); }
    this.keep({ rows: this.rows.includes(1) ? rowsText(this.rows) : null, from: null, to: null });
    const n = this.rows.indexOf(1);
    if (n >= 0 && this.place[n] >= 0) {
      const k = this.cells.indexOf(1, start(data, n));
      this.cursor = { n, turn: data.first[n] + Math.max(0, k - start(data, n)) };
      this.reveal();
    }
    this.changed();
    this.say();
  }

  changed() {
    if (this.state.only === "selected") { this.update(); return; }
    this.mean();
    this.describe();
    this.redraw();
  }

  /** Means over what is selected, else over all shown. */
  mean() {
    this.some = this.rows.includes(1);
    const chosen = this.some ? this.order.filter((n) => this.rows[n]) : this.order;
    const span = this.some && Array.isArray(this.span) ? this.span : null;
    for (const panel of this.credits) panel.means = meansByTurn(this.data, chosen, panel.m, this.some ? this.cells : null, span);
    const known = this.credits.flatMap(({ means }) => Array.from(means.subarray(0, -1)).filter((v) => !Number.isNaN(v)));
    this.most = known.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  }

  // -- words --------------------------------------------------------------------------------------------------------

  said({ m, full, name }, k) {
    const [value, status] = [this.data.values[m][k], LETTERS[this.data.status[m][k]]];
    return `${short(name)} ${worded(value, status, digits(full))}${status === "v" && beyond(value, full) ? " (beyond the scale)" : ""}`;
  }

  /** The cell under the cursor, in words. */
  say({ n, turn } = this.cursor) {
    const { data } = this;
    if (n < 0) { fill(this.readout, data.count ? "No rollout passes the filters." : "There are no rollouts."); return; }
    const k = cellAt(data, n, turn);
    const last = data.first[n] + data.ends[n] - start(data, n) - 1;
    const credit = k < 0 ? "no such turn in this rollout" : this.credits.map((panel) => this.said(panel, k)).join(", ");
    const known = k < 0 ? [] : Object.entries(data.apart).filter(([, found]) => found.turn[k] !== NONE);
    const apart = known.map(([key, found]) => `${key} ${(found.turn[k] / (NONE - 1)).toFixed(2)}`);
    const where = [
      `${many(this.place[n] + 1)} of ${many(this.order.length)}`, `group ${short(this.groups(data.group[n]), 40)}`,
      `outcome ${plain(data.outcome[n])}${data.truncated[n] ? ", truncated" : ""}`, `turn ${turn} (its last is ${last})`,
    ];
    fill(this.readout, el("strong", null, short(this.ids(n), 60)), 
      el("span", null, ` · ${where.join(" · ")}: ${credit}`, apart.length ? ` · disagreement by ${apart.join(", by ")}` : null),
      k >= 0 && this.texts(k) ? el("span", { class: "quiet" }, ` · ${this.texts(k)}`) : null);
  }

  /** The legend: scale, marks, how many cells carry which. */
  explain() {
    const { scale } = this.data;
    const found = countMarks(this.data, this.order, this.credits);
    const rulers = this.state.own ? this.credits.map(({ name, full }) => el("span", null, `${short(name)} `, ruler(full))) : ruler(scale.full);
    const origin = this.state.own
      ? "each method on a scale of its own: colours do not compare"
      : `one scale for all methods, ${scale.given ? "as asked for" : "98th percentile of the non-zero credits"}`;
    const marks = MARKS.map(([key, words, look]) => el("span", null,
      el("span", { class: `sample ${look}` }), `${words} `, el("span", { class: "quiet" }, many(found[key]))));
    const grey = this.panels.length > this.credits.length ? "; ≠: disagreement, 0 clear to 1 grey" : null;
    fill(this.legend, el("div", { class: "scales" }, rulers, el("span", { class: "quiet" }, origin, grey)), el("div", { class: "marks" }, marks));
    this.canvas.setAttribute("aria-label",
      `Heat map of ${count(this.order.length, "rollout")} by ${count(this.data.width, "turn")}; its marks are counted below`);
  }

  /** What is selected, in words and as an expression. */
  describe() {
    const { data, span } = this;
    const rows = this.rows.reduce((a, b) => a + b, 0);
    if (!rows) {
      const hidden = data.count - this.order.length;
      const left = hidden ? ` shown, ${many(hidden)} filtered out` : "";
      fill(this.chosen, el("p", { class: "note" },
        `${count(this.order.length, "rollout")}${left}, up to ${count(data.width, "turn")}. Drag to select, click to open.`));
      return;
    }
    const groups = new Set(data.group.filter((_, n) => this.rows[n])).size;
    const turns = !Array.isArray(span) ? "" : span[0] === span[1] ? `, turn ${span[0]}` : `, turns ${span[0]} to ${span[1]}`;
    const cells = this.cells.reduce((a, b) => a + b, 0);
    const means = this.credits.map(({ name, means: all }) =>
      `${short(name)} ${Number.isNaN(all.at(-1)) ? "no credit" : number(all.at(-1), digits(data.scale.full))}`);
    const expression = this.ctx.selection?.expression;
    fill(this.chosen, el("div", { class: "tools" },
      el("span", null, el("strong", null, "Selected"),
        ` ${count(rows, "rollout")} in ${count(groups, "group")}${turns}: ${count(cells, "cell")}; mean ${means.join(", ")}`),
      this.state.only === "selected" ? null : button("show only these", () => this.update({ only: "selected" })), button("clear", () => this.nothing())),
    expression ? el("p", { class: "mono expression", title: "for frame.query(...)" }, short(expression, 240)) : null);
  }

  // -- one rollout --------------------------------------------------------------------------------------------------

  /** Show the credit map of a rollout below: from the kernel, or from the file if it has it. */
  async open(n, keep = true) {
    if (n < 0) return;
    if (keep) this.keep({ open: n });
    this.down?.();
    this.down = null;
    const place = el("div", { class: "map" });
    const line = el("p", { class: "note" }, "opening …");
    fill(this.opened, el("div", { class: "tools" }, el("strong", null, short(this.ids(n), 80)), button("close", () => this.close())), line, place);
    try {
      const map = await this.mapOf(n);
      if (!place.isConnected) return;
      const ask = (name, args, told) => this.ctx.ask(name, { ...args, trajectory: this.ids(n) }, told);
      if (map) this.down = (await drawMap(this.ctx, map, place, { state: { turn: this.cursor.turn }, ask })).down;
      fill(line, map ? "" : "This file has not the text of this rollout, only of those the methods part on most; `.live()` opens any.");
    } catch (error) {
      fill(line, visible(error.message));
    }
  }

  async mapOf(n) {
    const { carried } = this.data;
    if (carried) this.ctx.mapScript = carried.script;
    if (carried?.maps[n]) return carried.maps[n];
    if (!this.ctx.live) return null;
    return askMap(this.ctx, { trajectory: this.ids(n) });
  }

  close(keep = true) {
    this.down?.();
    this.down = null;
    fill(this.opened);
    if (!keep) return;
    this.keep({ open: null });
    this.scroller.focus();
  }

  // -- pointer ------------------------------------------------------------------------------------------------------

  /** What lies under a pointer: row of the screen, turn (null beside the panels), whether in the head. */
  under(event) {
    const [x, y] = [event.offsetX + this.scroller.scrollLeft, event.offsetY];
    const row = Math.floor((y - HEAD + this.scroller.scrollTop) / this.zoom);
    const panel = this.panels.find((one) => x >= one.x && x < one.x + this.data.width * this.cell);
    const inside = row >= 0 && row < this.order.length;
    return { row: Math.max(0, Math.min(this.order.length - 1, row)), turn: panel ? Math.floor((x - panel.x) / this.cell) : null, head: y < HEAD, inside };
  }

  point() {
    let from = null; // where the button went down
    let moved = false;
    const brush = (event) => {
      const to = this.under(event);
      if (to.turn !== null) from.last = to.turn;
      this.block(from.head ? 0 : from.row, from.head ? this.order.length - 1 : to.row, from.turn, from.last);
      this.mean();
      this.canvas.redraw();
    };
    const released = (event) => {
      if (moved || from.head) { brush(event); this.commit("brush"); return; }
      if (!from.inside) return;
      this.cursor = { n: this.order[from.row], turn: from.turn ?? this.cursor.turn };
      this.keep({ at: this.cursor.n, turn: this.cursor.turn });
      this.block(from.row, from.row, from.turn, from.turn);
      this.commit("click");
      this.say();
      this.open(this.cursor.n);
    };
    const handle = {
      pointerdown: (event) => {
        const at = this.under(event);
        if (event.button || !this.order.length || (at.head && at.turn === null)) return;
        [from, moved] = [{ ...at, last: at.turn, x: event.offsetX, y: event.offsetY }, false];
        this.canvas.setPointerCapture(event.pointerId);
        this.scroller.focus({ preventScroll: true });
        event.preventDefault();
      },
      pointermove: (event) => {
        const at = this.under(event);
        if (!from) { if (at.inside && !at.head && at.turn !== null) this.say({ n: this.order[at.row], turn: at.turn }); return; }
        moved ||= Math.hypot(event.offsetX - from.x, event.offsetY - from.y) > 3;
        if (moved) brush(event);
      },
      pointerup: (event) => { if (from) released(event); from = null; },
      pointercancel: () => { from = null; },
      pointerleave: () => { if (!from) this.say(); },
    };
    for (const [name, f] of Object.entries(handle)) this.canvas.addEventListener(name, f);
    this.mini.addEventListener("click", (event) => {
      this.scroller.scrollTop = (event.offsetY / this.body) * this.order.length * this.zoom - this.body / 2;
    });
  }
}

/** How many characters all ids begin with, up to a slash: a label of a row leaves them out. */
function beginning(ids, many) {
  let same = many > 1 ? ids(0).lastIndexOf("/") + 1 : 0;
  for (let n = 1; n < many && same; n++) while (ids(n).slice(0, same) !== ids(0).slice(0, same)) same = ids(0).lastIndexOf("/", same - 2) + 1;
  return same;
}
