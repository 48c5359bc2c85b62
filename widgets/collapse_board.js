// Where the signal dies: collapsed groups by cause over steps, measures against thresholds, and the groups behind a step.

import { button, canvas, coded, count, el, fill, fold, keys, oneLine, plain, visible } from "./core.js";
import { askMap, drawMap } from "./inner_map.js";
import { amount, known, lineChart, share, ticks, together } from "./charts.js";

const [EDGE, RIGHT, TOP, FOOT] = [44, 10, 8, 20];
const GRID = "rgba(128,128,128,.24)";
const ALIVE = "varied";

export function view(ctx) {
  const board = new Board(ctx);
  ctx.on("data", () => board.everything());
  ctx.on("state", () => board.restore());
  ctx.on("select", () => board.mark());
  ctx.on("dispose", () => board.down?.());
}

class Board {
  constructor(ctx) {
    this.ctx = ctx;
    this.at = -1; // the point of the cursor
    for (const name of ["title", "alarms", "top", "tiles", "behind", "opened"]) this[name] = el("div");
    this.title.className = "title";
    this.say = el("p", { class: "readout", role: "status" });
    ctx.root.append(this.title, this.alarms, this.top, this.say, this.behind, this.opened, this.tiles, keys(ctx, this.bindings()));
    this.everything();
  }

  bindings() {
    return [
      ["ArrowRight", "next step", () => this.move(1)],
      ["ArrowLeft", "previous step", () => this.move(-1)],
      ["Enter", "open the groups behind the step", () => this.open(this.stepAt(this.at))],
      ["c", "next cause; the groups of that cause alone", () => this.nextCause()],
      ["j ArrowDown", "next group or rollout", () => this.walk(1)],
      ["k ArrowUp", "previous group or rollout", () => this.walk(-1)],
      ["Escape", "close the credit map, the groups, the cause", () => this.close()],
    ];
  }

  everything() {
    const { data, ctx } = this;
    fill(this.title, visible(data.name || "Collapse of groups"), " ", el("span", { class: "quiet" },
      data.one ? `one batch of ${count(sum(data.count), "group")}` : `${data.name ? "collapse of groups, " : ""}${count(data.steps, "step")}`));
    if (ctx.live && !data.one) this.title.append(" ", button("look again", () => this.again()));
    const beyond = data.tiles.filter((t) => t.state === "beyond");
    fill(this.alarms, data.problem ? wrong("", data.problem) : null,
      data.alarms.filter((a) => a.now).map((a) => wrong(`! ${a.kind} `, `${a.text} (since step ${a.since.toLocaleString("en")})`)),
      beyond.map((t) => wrong(`! ${t.title} `, `${said(t)(t.now)}, ${t.verdict}. ${t.bad}`)));
    this.at = data.last.length - 1;
    this.drawTop();
    this.drawTiles();
    this.restore();
  }

  get data() { return this.ctx.data; }

  async again() {
    try { this.ctx.data = await this.ctx.ask("again"); this.everything(); } catch (error) { fill(this.say, visible(error.message)); }
  }

  // -- causes over steps ------------------------------------------------------------------------------------------------

  drawTop() {
    const { data, ctx } = this;
    if (!data.last.length) { fill(this.top, el("p", { class: "note" }, data.problem ? "" : "Nothing was measured yet.")); return; }
    const names = [...data.causes.map((c) => c.name), ...(data.groups_alive ? [ALIVE] : [])];
    this.legend = names.map((name) => {
      const cause = data.causes.find((c) => c.name === name);
      const groups = cause ? cause.groups : data.groups_alive;
      const node = button("", () => this.cause(name), { "aria-pressed": "false", title: cause ? cause.fix : "outcomes differ" });
      node.cause = name;
      fill(node, this.swatch(cause), visible(`${oneLine(name, 40)} `), el("span", { class: "quiet" }, groups.toLocaleString("en")));
      return node;
    });
    this.fix = el("p", { class: "note" });
    const legend = el("div", { class: "legend", role: "group", "aria-label": "groups by cause" }, this.legend);
    if (data.one) { fill(this.top, legend, this.fix, this.chance()); return; }
    this.canvas = canvas(ctx, (g, w, h, ink) => this.draw(g, w, h, ink), { role: "img" });
    const help = "Collapsed groups by cause. Arrow keys read the steps, Enter opens the groups of one.";
    this.stack = el("div", { class: "stack", tabindex: "0", role: "group", "aria-label": help }, this.canvas);
    this.canvas.addEventListener("pointermove", (e) => this.point(this.under(e.offsetX)));
    this.canvas.addEventListener("click", (e) => this.click(e.offsetX, e.offsetY));
    this.canvas.setAttribute("aria-label", `Share of collapsed groups by cause at ${count(data.last.length, "point")}; the line below says each.`);
    const each = data.each > 1 ? ` Each bar stands for ${data.each} steps.` : "";
    const kept = data.kept.length
      ? `Ticks below: ${count(data.kept.length, "step")} whose rollouts were kept; click one to open its groups.`
      : "No rollouts were kept, so no groups can be opened (`keep_every` of the plan).";
    const what = "Share of all groups; dashed: the forecast p^G + (1 − p)^G at the step's success rate.";
    fill(this.top, legend, this.fix, this.stack, el("p", { class: "note" }, `${what}${each} ${kept}`));
  }

  swatch(cause) {
    const draw = (g, w, h) => {
      Object.assign(g, { fillStyle: cause ? paint(g, cause) : "transparent", strokeStyle: "rgba(128,128,128,.8)" });
      g.fillRect(0, 0, w, h);
      if (!cause) g.strokeRect(0.5, 0.5, w - 1, h - 1);
    };
    return canvas(this.ctx, draw, { class: "swatch", "aria-hidden": "true" });
  }

  draw(g, width, height, ink) {
    const { data } = this;
    const [tall, n] = [height - TOP - FOOT, data.last.length];
    this.wide = (width - EDGE - RIGHT) / n;
    const y = (v) => TOP + tall * (1 - v);
    g.font = "11px system-ui, -apple-system, sans-serif";
    Object.assign(g, { fillStyle: ink, strokeStyle: GRID, textBaseline: "middle", textAlign: "right", lineWidth: 1 });
    for (const v of [0, 0.25, 0.5, 0.75, 1]) {
      g.fillRect(EDGE, Math.round(y(v)), width - RIGHT - EDGE, 0.25);
      if (v % 0.5 === 0) g.fillText(share(v), EDGE - 6, y(v));
    }
    const chosen = this.ctx.state.cause;
    const below = new Float32Array(n);
    this.paints = data.causes.map((c) => paint(g, c));
    for (const [i, cause] of data.causes.entries()) {
      g.fillStyle = this.paints[i];
      g.globalAlpha = chosen && chosen !== cause.name ? 0.25 : 1;
      for (let k = 0; k < n; k++) {
        if (!(cause.share[k] > 0)) continue;
        const top = y(below[k] + cause.share[k]);
        g.fillRect(EDGE + k * this.wide, top, Math.max(1, this.wide - (this.wide > 5 ? 1 : 0)), y(below[k]) - top);
        below[k] += cause.share[k];
      }
    }
    g.globalAlpha = 1;
    const { forecast } = data.tiles.find((t) => t.key === "collapsed");
    Object.assign(g, { strokeStyle: ink, lineWidth: 1.6 });
    g.setLineDash([4, 2]);
    g.beginPath();
    for (let k = 0; k < n; k++) {
      if (!known(forecast[k])) continue;
      g.moveTo(EDGE + k * this.wide, y(forecast[k]));
      g.lineTo(EDGE + (k + 1) * this.wide, y(forecast[k]));
    }
    g.stroke();
    g.setLineDash([]);
    this.marks(g, height, tall, ink);
  }

  /** Steps below, those that were kept, the cursor. */
  marks(g, height, tall, ink) {
    const { data } = this;
    const middle = (k) => EDGE + (k + 0.5) * this.wide;
    Object.assign(g, { fillStyle: ink, textAlign: "center", textBaseline: "alphabetic" });
    for (const k of this.data.kept.map((step) => this.placeOf(step))) if (k >= 0) g.fillRect(middle(k) - 1, TOP + tall + 1, 2, 4);
    for (const v of ticks(data.first[0], data.last[data.last.length - 1], 8, true)) {
      const k = this.placeOf(v);
      if (k >= 0) g.fillText(amount(v), middle(k), height - 4);
    }
    if (this.at < 0) return;
    Object.assign(g, { strokeStyle: ink, lineWidth: 1.4 });
    g.strokeRect(EDGE + this.at * this.wide - 1, TOP - 2, Math.max(2, this.wide) + 1, tall + 4);
  }

  placeOf(step) { return this.data.last.findIndex((last, k) => this.data.first[k] <= step && step <= last); }

  under(x) { return Math.max(0, Math.min(this.data.last.length - 1, Math.floor((x - EDGE) / this.wide))); }

  click(x, y) {
    const k = this.under(x);
    const height = this.canvas.getBoundingClientRect().height;
    let v = 1 - (y - TOP) / (height - TOP - FOOT);
    let hit = null;
    for (const cause of this.data.causes) {
      const own = cause.share[k] || 0;
      if (hit === null && v >= 0 && v < own) hit = cause.name;
      v -= own;
    }
    this.point(k);
    if (hit !== null) this.cause(hit, true);
    this.open(this.stepAt(k));
  }

  move(by) {
    if (this.data.one || !this.data.last.length) return;
    this.point(Math.max(0, Math.min(this.data.last.length - 1, this.at + by)));
  }

  point(k) {
    if (k !== this.at) { this.at = k; this.canvas.redraw(); }
    this.read();
  }

  read() {
    const { data } = this;
    if (data.one || this.at < 0) return;
    const k = this.at;
    const parts = data.causes.filter((c) => c.share[k] > 0).map((c) => `${oneLine(c.name, 40)} ${share(c.share[k])}`);
    const { forecast } = data.tiles.find((t) => t.key === "collapsed");
    const [first, last] = [data.first[k], data.last[k]];
    const step = first === last ? `step ${last.toLocaleString("en")}` : `steps ${first.toLocaleString("en")} to ${last.toLocaleString("en")}`;
    const none = data.count[k] ? "no group collapsed" : "no group counted";
    const kept = this.stepAt(k) ? "; rollouts kept" : "";
    const words = `${step}: ${count(data.count[k], "group")}; ${parts.join(", ") || none}; forecast ${share(forecast[k])}${kept}`;
    fill(this.say, visible(words));
  }

  /** The kept step a point stands for, the last of several; null if none was kept. */
  stepAt(k) {
    if (k < 0) return null;
    return this.data.kept.filter((step) => this.data.first[k] <= step && step <= this.data.last[k]).pop() ?? null;
  }

  cause(name, only = false) {
    this.ctx.remember({ cause: this.ctx.state.cause === name && !only ? null : name });
    this.showCause();
    if (this.step) this.listGroups();
    else if (this.data.kept.length) this.open(this.stepAt(this.at) ?? this.data.kept[this.data.kept.length - 1]);
  }

  nextCause() {
    const names = (this.legend || []).map((b) => b.cause);
    if (names.length) this.cause(names[(names.indexOf(this.ctx.state.cause) + 1) % names.length], true);
  }

  showCause() {
    const { cause } = this.ctx.state;
    for (const node of this.legend || []) node.setAttribute("aria-pressed", String(node.cause === cause));
    const found = this.data.causes.find((c) => c.name === cause);
    fill(this.fix || el("p"), found ? visible(`${oneLine(found.name, 40)}: ${found.fix || "no advice"}.`) : "");
    this.canvas?.redraw();
  }

  /** How likely a group is dead at this success rate. */
  chance() {
    const { chance } = this.data;
    if (!chance) return el("p", { class: "note" }, "Outcomes are not only 0 and 1, or none is known: no forecast P(dead) = p^G + (1 − p)^G.");
    const row = (name, f) => el("tr", null, el("th", { scope: "row" }, name), chance.sizes.map((s) => el("td", { class: "n" }, f(s))));
    const rows = [row("rollouts a group, G", (s) => s.members), row("groups here", (s) => s.groups), row("P(dead)", (s) => share(s.dead))];
    const p = `P(dead) = p^G + (1 − p)^G with p = ${plain(chance.p, 3)}, the share of rollouts that succeed here; `;
    return el("div", { class: "wide" }, el("p", { class: "sub" }, "How likely a group is dead"), el("table", null, el("tbody", null, rows)),
      el("p", { class: "note" }, `${p}where tasks differ in difficulty, more groups die.`));
  }

  // -- measures -----------------------------------------------------------------------------------------------------------

  drawTiles() {
    const { data, ctx } = this;
    const shared = together();
    fill(this.tiles, data.tiles.length ? el("p", { class: "sub" }, "Measures") : null, el("div", { class: "tiles" }, data.tiles.map((t) => {
      const means = fold("what it is", () => [el("p", null, t.what), t.equation ? el("p", { class: "mono" }, t.equation) : null,
        el("p", null, el("b", null, "If not: "), coded(t.bad))].filter(Boolean));
      const stands = el("p", { class: t.state }, t.state === "beyond" ? "! " : "", t.verdict);
      const verdict = el("div", { class: "verdict" }, stands, el("p", { class: "quiet" }, "Good: ", coded(t.good)));
      if (data.one || data.last.length < 2) return el("div", { class: "tile" }, el("div", { class: "chart-title" }, t.title), this.numbers(t), verdict, means);
      const rules = [t.to, t.from].filter((v) => v !== null).map((v, i) => ({ y: v, words: i ? "" : `threshold ${said(t)(v)}` }));
      const series = [{ name: t.title, y: t.y, low: t.low, high: t.high }];
      if (t.forecast) series.push({ name: "forecast", y: t.forecast });
      const chart = lineChart(ctx, { title: t.title, what: t.low ? "95 % interval" : "", x: data.last, series, rules, shared, format: said(t),
        range: t.span, pick: (_, k) => { this.point(k); this.open(this.stepAt(k)); } });
      return el("div", { class: "tile" }, chart, verdict, means);
    })));
  }

  numbers(t) {
    const methods = Object.entries(t.methods || {});
    if (methods.length < 2) return el("div", { class: "number" }, said(t)(t.now));
    const row = ([name, v]) => el("tr", null, el("th", { scope: "row" }, oneLine(name, 40)), el("td", { class: "n" }, said(t)(v)));
    return el("table", null, el("tbody", null, methods.map(row)));
  }

  // -- what is behind a step ------------------------------------------------------------------------------------------------

  async open(step, keep = true) {
    const { data, ctx } = this;
    this.shut();
    if (step === null || step === undefined) {
      this.step = null;
      ctx.remember({ step: null, group: null, open: null });
      const steps = data.kept.slice(-12).map((s) => s.toLocaleString("en")).join(", ");
      const kept = data.kept.length ? ` Kept: ${data.kept.length > 12 ? "… " : ""}${steps}.` : " None were, of this run.";
      const text = `The rollouts of this step were not kept, so its groups cannot be opened.${kept}`;
      fill(this.behind, el("p", { class: "note", role: "status" }, text));
      return;
    }
    this.step = step;
    if (keep) ctx.remember({ step: data.one ? null : step, group: null, open: null });
    const line = el("p", { class: "note", role: "status" }, "opening …");
    fill(this.behind, line);
    try {
      data.groups[step] ??= ctx.live ? (await ctx.ask("groups", { step })).groups : undefined;
      if (this.step !== step) return;
      if (data.groups[step]) this.listGroups();
      else if (data.unread[step]) fill(line, visible(`The rollouts of step ${step} cannot be read: ${data.unread[step]}`));
      else fill(line, `This file has not the groups of step ${step}, only of the newest that were kept; with a kernel any opens.`);
    } catch (error) {
      fill(line, visible(error.message));
    }
  }

  listGroups() {
    const { data, ctx, step } = this;
    const all = data.groups[step] || [];
    const { cause } = ctx.state;
    this.shown = all.filter((g) => !cause || g.cause === cause);
    const methods = all.length ? Object.keys(all[0].credit) : [];
    const dead = all.filter((g) => g.cause !== ALIVE).length;
    const head = ["group", "cause", ...methods.map((m) => oneLine(m, 24)), "P(dead)", "outcomes"];
    const words = data.one ? "Groups" : `Groups of step ${step.toLocaleString("en")}`;
    this.rows = this.shown.map((g) => this.row(g, methods));
    const heads = el("tr", null, head.map((h) => el("th", { scope: "col" }, h)));
    this.table = el("table", { class: "groups" }, el("thead", null, heads), el("tbody", null, this.rows));
    const hidden = data.one && data.hidden ? ` ${count(data.hidden, "more group")} not listed.` : "";
    const close = data.one ? null : button("close", () => this.closeStep());
    const filter = el("span", { class: "quiet" }, cause ? `only ${oneLine(String(cause), 40)}: ${this.shown.length} of ${all.length}`
      : `${dead} of ${count(all.length, "group")} cannot be told apart by outcome.${hidden}`);
    fill(this.behind, el("div", { class: "tools" }, el("strong", null, words), filter, cause ? button("all causes", () => this.cause(cause)) : null, close),
      all.length ? el("div", { class: "wide" }, this.table) : el("p", { class: "note" }, "No groups here."));
    this.mark();
  }

  row(g, methods) {
    const name = button(oneLine(g.group, 60), () => this.group(g), { class: "link", "aria-expanded": "false", title: g.group });
    const outcomes = g.rollouts.slice(0, 24).map((r) => (r.outcome === null ? "?" : plain(r.outcome, 3))).join(" ");
    const node = el("tr", null, el("td", null, name, g.question ? el("div", { class: "quiet" }, g.question) : null),
      el("td", null, oneLine(g.cause, 40), g.why ? el("div", { class: "quiet" }, g.why) : null),
      methods.map((m) => el("td", null, g.credit[m])), el("td", { class: "n" }, g.chance === null ? "–" : share(g.chance)),
      el("td", { class: "mono" }, outcomes, g.rollouts.length > 24 ? " …" : ""));
    Object.assign(node, { group: g, open: name });
    return node;
  }

  /** Select a group, and show its rollouts below it. */
  group(g, keep = true) {
    const row = this.rows.find((r) => r.group === g);
    const again = row?.nextSibling?.rollouts;
    for (const r of this.table.querySelectorAll("tr")) if (r.rollouts) r.remove();
    for (const r of this.rows) r.open.setAttribute("aria-expanded", "false");
    this.shut();
    if (!row || again) { this.ctx.remember({ group: null, open: null }); return; }
    row.open.setAttribute("aria-expanded", "true");
    const list = g.rollouts.map((r) => {
      const words = [`${oneLine(r.id, 48)}: ${plain(r.outcome, 3)}`, count(r.turns, "turn"), r.end].filter(Boolean).join(", ");
      const node = button(words, () => this.map(r.id), { "aria-expanded": "false", title: r.id });
      node.identity = r.id;
      return node;
    });
    const below = el("tr", null, el("td", { colspan: String(row.children.length), class: "rollouts" }, list));
    below.rollouts = list;
    row.after(below);
    if (keep) {
      this.ctx.select({ trajectories: g.rollouts.map((r) => r.id), by: "group" });
      this.ctx.remember({ group: g.group, open: null });
    }
    this.mark();
  }

  /** Mark the groups that hold what is selected, here or in a linked view. */
  mark() {
    const chosen = new Set([...(this.ctx.selection?.trajectories || []), ...(this.ctx.selection?.turns || []).map(([id]) => id)]);
    for (const r of this.rows || []) r.setAttribute("aria-current", String(r.group.rollouts.some((one) => chosen.has(one.id))));
  }

  // -- one rollout ------------------------------------------------------------------------------------------------------------

  async map(id, keep = true) {
    const again = this.openId === id;
    this.shut();
    if (again) { this.ctx.remember({ open: null }); return; }
    this.openId = id;
    for (const node of this.buttons()) node.setAttribute("aria-expanded", String(node.identity === id));
    if (keep) { this.ctx.remember({ open: id }); this.ctx.select({ trajectories: [id] }); }
    const [place, line] = [el("div"), el("p", { class: "note", role: "status" }, "opening …")];
    fill(this.opened, el("div", { class: "tools" }, el("strong", null, oneLine(id, 80)), button("close", () => this.close())), line, place);
    try {
      const map = await this.mapOf(id);
      if (!place.isConnected) return;
      if (map) this.down = (await drawMap(this.ctx, map, place)).down;
      fill(line, map ? "" : "This file has not the text of this rollout; with a kernel, .live() opens any.");
    } catch (error) {
      fill(line, visible(error.message));
    }
  }

  async mapOf(id) {
    const { carried } = this.data;
    if (carried) {
      this.ctx.mapScript = carried.script;
      return carried.maps[carried.names.indexOf(`${this.step} ${id}`)];
    }
    return askMap(this.ctx, { step: this.step, trajectory: id });
  }

  buttons() { return [...(this.table?.querySelectorAll("tr") || [])].flatMap((r) => r.rollouts || []); }

  walk(by) {
    const all = (this.rows || []).flatMap((r) => [r.open, ...(r.nextSibling?.rollouts || [])]);
    const at = all.indexOf(this.ctx.root.getRootNode().activeElement);
    all[Math.max(0, Math.min(all.length - 1, at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by))]?.focus();
  }

  shut() {
    this.down?.();
    Object.assign(this, { down: null, openId: null });
    fill(this.opened);
    for (const node of this.buttons()) node.setAttribute("aria-expanded", "false");
  }

  /** Close the innermost of what is open, and be where it was opened. */
  close() {
    const from = this.buttons().find((node) => node.identity === this.openId);
    if (this.openId) { this.shut(); this.ctx.remember({ open: null }); from?.focus(); return; }
    const group = this.rows?.find((r) => r.nextSibling?.rollouts);
    if (group) { this.group(group.group); group.open.focus(); return; }
    if (this.ctx.state.cause) { this.cause(this.ctx.state.cause); return; }
    this.closeStep();
  }

  closeStep() {
    if (this.data.one) return;
    this.shut();
    Object.assign(this, { step: null, rows: [], table: null });
    fill(this.behind);
    this.ctx.remember({ step: null, group: null, open: null });
    this.stack?.focus();
  }

  /** Stand as the permalink says. */
  async restore() {
    const { data } = this;
    const { step, group, open } = this.ctx.state;
    this.showCause();
    if (!data.last.length) return;
    const wanted = data.one ? 1 : Number(step) || null;
    if (wanted && this.placeOf(wanted) >= 0) {
      if (!data.one) this.at = this.placeOf(wanted);
      await this.open(data.kept.includes(wanted) ? wanted : null, false);
      const found = (this.shown || []).find((g) => g.group === group);
      if (found) this.group(found, false);
      if (found && found.rollouts.some((r) => r.id === open)) await this.map(open, false);
    }
    this.read();
    this.canvas?.redraw();
  }
}

const wrong = (head, text) => el("p", { class: "wrong" }, el("b", null, head), text);
const sum = (list) => list.reduce((a, b) => a + b, 0);
const said = (t) => (t.percent ? share : (v) => amount(v));

const UP = [[0, 8, 8, 0], [-2, 2, 2, -2], [6, 10, 10, 6]];
const DOWN = [[0, 0, 8, 8], [-2, 6, 2, 10], [6, -2, 10, 2]];
const LINES = { full: [], up: UP, down: DOWN, cross: [...UP, ...DOWN], flat: [[0, 4, 8, 4]], tall: [[4, 0, 4, 8]] };

/** Colour and pattern of a cause, as something to fill with. */
function paint(g, cause) {
  const tile = document.createElement("canvas");
  [tile.width, tile.height] = [8, 8];
  const t = tile.getContext("2d");
  t.fillStyle = `rgba(${cause.colour},${cause.pattern === "full" ? 0.85 : 0.3})`;
  t.fillRect(0, 0, 8, 8);
  Object.assign(t, { strokeStyle: `rgb(${cause.colour})`, lineWidth: 2 });
  t.beginPath();
  for (const [a, b, c, d] of LINES[cause.pattern]) { t.moveTo(a, b); t.lineTo(c, d); }
  t.stroke();
  return g.createPattern(tile, "repeat");
}
