// The monitor of a run: state, progress, pause and stop, alarms, live curves, the newest rollouts and the map of one.

import { button, coded, count, digits, el, fill, keys, level, number, oneLine, plain, ruler, STATUS, switcher, washClass } from "./core.js";
import { askMap, drawMap } from "./inner_map.js";
import { amount, duration, known, lineChart, share, together } from "./charts.js";

const BEATS = 3; // a kernel that was silent for so many beats is gone
const BUSY_MS = 2000; // an answer that takes longer waits for a cell to end
const LOST_MS = 5000; // after which a question without an answer counts as lost
const AXES = {
  step: { xName: "step", words: "steps", xFormat: amount, whole: true },
  rollouts: { xName: "rollouts", words: "rollouts", xFormat: amount, whole: true },
  tokens: { xName: "tokens", words: "tokens", xFormat: amount, whole: true },
  seconds: { xName: "after", words: "time", xFormat: duration, whole: false },
};
const CELL = { u: "?", d: "×", n: "·" };

export function view(ctx) {
  const monitor = new Monitor(ctx);
  ctx.on("data", () => monitor.everything(ctx.data));
  ctx.on("live", (change) => monitor.heard(change));
  ctx.on("state", () => monitor.restore());
  ctx.on("dispose", () => monitor.leave());
  if (ctx.live) monitor.ask();
}

class Monitor {
  constructor(ctx) {
    this.ctx = ctx;
    Object.assign(this, { page: Math.random().toString(36).slice(2), last: performance.now(), lost: false, wanted: null });
    Object.assign(this, { refused: "", held: null, asking: NaN });
    this.line = el("p", { class: "line" });
    this.title = el("p", { class: "title" });
    this.progress = el("div", { class: "progress" });
    this.alarms = el("div", { class: "alarms", role: "status" });
    this.said = el("span", { class: "said", role: "status" });
    this.controls = el("div", { class: "tools" });
    this.axis = el("div", { class: "tools axis" });
    this.defined = el("div", { class: "defined", "aria-live": "polite" });
    this.newest = el("div", { class: "newest" });
    this.opened = el("div", { class: "opened" });
    this.buttons();
    const charts = el("div", { class: "charts" }, this.makeCharts());
    ctx.root.append(this.title, this.line, this.progress, this.controls, this.alarms, this.axis, charts, this.defined,
      this.newest, this.opened, keys(ctx, this.bindings()));
    this.everything(ctx.data);
    if (ctx.live) this.timer = setInterval(() => this.listen(), 500);
  }

  bindings() {
    const asks = [["p", "pause after this step, or go on", () => this.press(this.hold.what)], ["S", "stop after this step", () => this.press("stop")]];
    return [
      ...(this.ctx.live ? asks : []),
      ["x", "next axis: steps, rollouts, tokens, time", () => this.nextAxis()],
      ["ArrowRight", "in a chart: the next point", () => {}],
      ["j ArrowDown", "next rollout", () => this.step(1)],
      ["k ArrowUp", "previous rollout", () => this.step(-1)],
      ["Escape", "close the credit map, or the definition", () => this.close()],
    ];
  }

  // -- what is known -----------------------------------------------------------------------------------------------------

  everything(data) {
    Object.assign(this, { seq: data.seq, head: data.head, each: data.each, points: data.points, rollouts: data.rollouts });
    this.drawHead();
    this.drawCharts();
    this.drawNewest();
  }

  /** The kernel pushed a change, or only a beat. */
  heard(change) {
    this.last = performance.now();
    if (this.lost) { this.lost = false; this.drawHead(); }
    if (change.seq > this.seq + 1) { this.ask(); return; }
    if (change.seq !== this.seq + 1) return;
    this.seq = change.seq;
    if (change.head) {
      this.head = change.head;
      if (change.head.asked === this.wanted?.what) this.wanted = null; // the run was asked: nothing waits any longer
      this.drawHead();
    }
    if (change.points) {
      this.each = change.each;
      this.points = change.first ? joined(this.points, change.points, change.first) : change.points;
      this.drawCharts();
    }
    if (change.rollouts) this.arrived(change.rollouts);
  }

  /** Ask for everything: this page opened, or missed a change. A question that was lost while a page loaded is asked anew. */
  async ask() {
    if (performance.now() - this.asking < LOST_MS) return;
    const mine = this.asking = performance.now();
    try {
      const all = await this.ctx.ask("all", { page: this.page });
      this.last = performance.now();
      this.lost = false;
      if (all.seq >= this.seq) this.everything({ ...all, rollouts: this.busy() ? this.rollouts : all.rollouts });
    } catch (error) {
      this.refused = error.message;
      this.drawHead();
    }
    if (this.asking === mine) this.asking = NaN;
  }

  /** Is the kernel there? */
  listen() {
    const silent = performance.now() - this.last;
    const lost = silent > 1000 * BEATS * this.ctx.data.beat_s;
    const late = Boolean(this.wanted) && performance.now() - this.wanted.at > BUSY_MS;
    if (lost === this.lost && late === this.late) return;
    Object.assign(this, { lost, late });
    this.drawHead();
  }

  leave() {
    clearInterval(this.timer);
    this.down?.();
    if (this.ctx.live) this.ctx.ask("leave", { page: this.page }).catch(() => {});
  }

  // -- the head ------------------------------------------------------------------------------------------------------------

  drawHead() {
    const h = this.head;
    fill(this.title, h.name, " ", el("span", { class: "quiet" }, h.said));
    fill(this.line, el("b", null, `${h.mark} ${h.state}`), " ", el("span", { class: "quiet" }, h.going));
    this.drawProgress();
    const sounding = h.alarms.filter((a) => a.now);
    const since = (a) => (a.since === h.last_step ? "in the last step" : `since step ${a.since.toLocaleString("en")}`);
    const gone = h.alarms.filter((a) => !a.now).map((a) => `${a.kind} (${count(a.steps, "step")}, last from step ${a.since.toLocaleString("en")})`);
    fill(this.alarms,
      h.problems.map((text) => el("p", { class: "wrong" }, text)),
      sounding.map((a) => el("p", { class: "wrong" }, el("b", null, `! ${a.kind} `), a.text, el("span", { class: "quiet" }, ` (${since(a)})`))),
      gone.length ? el("p", { class: "note" }, `Earlier alarms, silent now: ${gone.join(", ")}.`) : null,
      h.notes.map((text) => el("p", { class: "note" }, text)));
    this.drawControls();
  }

  drawProgress() {
    const { step, steps, saved } = this.head;
    const part = (n) => `${steps ? Math.min(100, (100 * n) / steps) : 0}%`;
    const words = `step ${step} of ${steps}${saved ? `, saved at ${saved}` : ""}`;
    fill(this.progress, el("div", { class: "bar", role: "progressbar", "aria-label": "steps done", "aria-valuemin": "0",
      "aria-valuemax": steps, "aria-valuenow": Math.min(step, steps), "aria-valuetext": words, title: words },
    el("div", { class: "done", style: { width: part(step) } }),
    saved && saved < steps ? el("div", { class: "saved", style: { left: part(saved) } }) : null));
    this.progress.hidden = !steps;
  }

  // -- pause, go on, stop ---------------------------------------------------------------------------------------------------

  buttons() {
    if (!this.ctx.live) { this.controls.append(this.said); return; }
    this.hold = button("Pause", () => this.press(this.hold.what));
    this.stop = button("Stop", () => this.press("stop"));
    this.again = button("Go on from the checkpoint", () => this.press("resume"));
    this.controls.append(this.hold, this.stop, this.again, this.said);
  }

  can(what) {
    return !this.lost && this.wanted?.what !== what && this.head.can.includes(what === "run" ? "go_on" : what);
  }

  drawControls() {
    const { head, ctx } = this;
    if (ctx.live) {
      const waits = head.can.includes("go_on");
      this.hold.what = waits ? "run" : "pause";
      fill(this.hold, waits ? "Go on" : "Pause");
      this.again.hidden = !(ctx.data.resumes && head.can.includes("resume"));
      this.hold.hidden = this.stop.hidden = !this.again.hidden;
      // Not `disabled`: a button that has the focus keeps it.
      for (const [node, what] of [[this.hold, this.hold.what], [this.stop, "stop"], [this.again, "resume"]]) {
        node.setAttribute("aria-disabled", String(!this.can(what)));
      }
    }
    fill(this.said, this.sentence());
  }

  /** What there is to say about the buttons: why they do nothing, what was asked, what happened. */
  sentence() {
    const { head, ctx, lost, wanted, refused } = this;
    const code = (text) => el("span", { class: "mono" }, text);
    const start = head.start.length ? [" ", code(head.start[0]), ` ${head.start[1]}`] : null;
    if (!ctx.live) return [`As it stood at ${ctx.data.made}. `, head.stands, start, head.stands ? " " : "", code(head.again), " shows it live."];
    const gone = "The kernel of this view does not answer: it was restarted, or is gone. The run does not need it; above is how it was. ";
    if (lost) return [gone, code(head.again), " attaches again."];
    const busy = this.late ? " The kernel is busy with a cell, and passes it on when that ends." : "";
    if (wanted) return head.expected[wanted.what] + busy;
    return [refused, refused ? " " : null, head.stands, this.again.hidden ? start : ` ${head.trust}`];
  }

  /** Ask the run for something; say at once that it was heard. */
  async press(what) {
    if (!this.can(what)) {
      this.said.classList.remove("again");
      requestAnimationFrame(() => this.said.classList.add("again"));
      return;
    }
    const mine = { what, at: performance.now() };
    Object.assign(this, { wanted: mine, refused: "", late: false });
    this.drawControls();
    try {
      const { refused, head } = await this.ctx.ask("do", { what });
      Object.assign(this, { refused, head: head || this.head });
    } catch (error) {
      this.refused = error.message;
    }
    if (this.wanted === mine) this.wanted = null; // else something else was asked meanwhile
    this.drawHead();
  }

  // -- the curves -----------------------------------------------------------------------------------------------------------

  makeCharts() {
    const shared = together();
    this.charts = {};
    return this.ctx.data.panels.map((panel) => {
      const shares = panel.key === "outcome" || panel.key === "causes";
      const term = button(panel.title, () => this.define(panel, term), { class: "term", "aria-expanded": "false", title: "what it means" });
      const more = { range: panel.key === "causes" ? [0, 1] : null, stack: panel.key === "causes", format: shares ? share : amount };
      return (this.charts[panel.key] = lineChart(this.ctx, { title: term, name: panel.title, what: panel.what, series: [], shared, ...more }));
    });
  }

  axes() {
    return Object.keys(AXES).filter((name) => this.points.x[name].every(known));
  }

  nextAxis() {
    const all = this.axes();
    this.setAxis(all[(all.indexOf(this.x) + 1) % all.length]);
  }

  setAxis(x) {
    this.ctx.remember({ x: x === "step" ? null : x });
    this.drawCharts();
  }

  drawCharts() {
    const { x, y, causes } = this.points;
    const axes = this.axes();
    this.x = axes.includes(this.ctx.state.x) ? this.ctx.state.x : "step";
    const key = `${axes} ${this.each}`;
    if (key !== this.axesShown) {
      this.axesShown = key;
      this.axisSwitch = switcher("over", axes.map((name) => [name, AXES[name].words]), this.x, (name) => this.setAxis(name));
      fill(this.axis, this.axisSwitch, this.each > 1 ? el("span", { class: "quiet" }, `each point stands for ${this.each} steps together`) : null);
    }
    this.axisSwitch.set(this.x);
    const { xName, xFormat, whole } = AXES[this.x];
    const shares = y.outcome.every((v) => !known(v) || (v >= 0 && v <= 1));
    const lines = {
      outcome: [{ name: "success", y: y.outcome, low: y.low, high: y.high }],
      causes: causes.length ? causes : [{ name: "collapsed", y: y.outcome.map((v) => (known(v) ? 0 : NaN)) }],
    };
    for (const [name, chart] of Object.entries(this.charts)) {
      const own = name === "outcome" ? { range: shares ? [0, 1] : null, format: shares ? share : amount } : {};
      chart.set({ x: x[this.x], xName, xFormat, whole, series: lines[name] || [{ name, y: y[name] }], ...own });
    }
  }

  /** Show what the glossary says about a panel, or hide it. */
  define(panel, term) {
    const open = term.getAttribute("aria-expanded") !== "true";
    for (const one of this.ctx.root.querySelectorAll(".term")) one.setAttribute("aria-expanded", "false");
    term.setAttribute("aria-expanded", String(open));
    this.term = open ? term : null;
    fill(this.defined, open ? panel.defined.map((d) => el("div", { class: "definition" },
      el("p", null, el("b", { class: "mono" }, d.name), ` ${d.what}`),
      d.equation ? el("p", { class: "mono" }, d.equation) : null,
      el("p", null, el("b", null, "Good: "), coded(d.good)), el("p", null, el("b", null, "If not: "), coded(d.bad)))) : null);
  }

  // -- the newest rollouts ---------------------------------------------------------------------------------------------------

  /** Is the reader at the rollouts? Then they stay. */
  busy() {
    return Boolean(this.down || this.openedId) || this.newest.matches(":hover, :focus-within");
  }

  arrived(rollouts) {
    if (!this.busy() || !this.rollouts.new) { this.rollouts = rollouts; this.drawNewest(); return; }
    this.held = rollouts;
    fill(this.more, button(`show the rollouts of step ${(rollouts.step + 1).toLocaleString("en")}`, () => this.showHeld(), { class: "small" }));
  }

  showHeld() {
    this.shut();
    this.rollouts = this.held;
    this.drawNewest();
    this.rows[0]?.focus();
  }

  drawNewest() {
    const { new: found, problem } = this.rollouts;
    this.held = null;
    this.rows = [];
    this.more = el("span");
    if (!found) {
      fill(this.newest, el("p", { class: "note" }, problem || "No rollouts were kept yet; `keep_every` says how often a run keeps them."));
      return;
    }
    const { full } = found.scale;
    const decimals = digits(full);
    const head = (words, n) => el("th", { scope: "col", class: n ? "n" : null }, words);
    const credit = found.methods.length ? `credit by turn: ${oneLine(found.methods[0], 40)}` : "turns";
    const group = (g) => el("tr", null, el("th", { colspan: "4", scope: "rowgroup", class: "group" },
      oneLine(g.question || g.id, 96), el("span", { class: "quiet" }, ` ${ENDS[g.outcomes] || ""}`)));
    const marks = el("span", { class: "quiet" }, "0 zero, ? unknown, × dropped, · not trained; one cell a turn");
    fill(this.newest, el("div", { class: "tools" }, el("strong", null, found.title), this.more),
      problem ? el("p", { class: "note" }, problem) : null,
      el("div", { class: "wide", role: "group", "aria-label": "newest rollouts", tabindex: "-1" }, el("table", null,
        el("thead", null, el("tr", null, head("rollout"), head("outcome", true), head(credit), head("ends with"))),
        found.groups.map((g) => el("tbody", null, group(g), g.rows.map((row) => this.row(row, full, decimals)))))),
      found.methods.length ? el("div", { class: "tools key" }, ruler(full), marks) : null,
      found.hidden ? el("p", { class: "note" }, `Showing ${found.total - found.hidden} of ${count(found.total, "rollout")}; ${found.rest}.`) : null);
  }

  row(row, full, decimals) {
    const open = button(oneLine(row.id, 48), () => this.open(row.id), { class: "link", title: row.id, "aria-expanded": "false" });
    open.id_ = row.id;
    this.rows.push(open);
    const cells = (row.cells[0] || []).map((c, k) => {
      const text = c.status === "v" || c.status === "z" ? number(c.value, decimals) : CELL[c.status];
      const words = `turn ${k}: ${c.status === "v" ? text : STATUS[c.status]}${c.why ? `, ${c.why}` : ""}`;
      return el("span", { class: `cell ${c.status === "v" ? washClass(level(c.value, full)) : c.status === "u" ? "hatch" : ""}`, title: words }, text);
    });
    return el("tr", { on: { click: (e) => { if (!e.target.closest("button")) this.open(row.id); } } },
      el("td", null, open), el("td", { class: "n" }, plain(row.outcome, 3), row.truncated ? " truncated" : ""),
      el("td", null, cells.length ? cells : count(row.turns, "turn")), el("td", { class: "mono quiet", dir: "auto" }, row.last));
  }

  step(by) {
    const at = this.rows.indexOf(this.ctx.root.getRootNode().activeElement);
    const to = at < 0 ? (by > 0 ? 0 : this.rows.length - 1) : at + by;
    this.rows[Math.max(0, Math.min(this.rows.length - 1, to))]?.focus();
  }

  /** Show the credit map of a rollout below, or hide it if it is there. */
  async open(id) {
    const again = this.openedId === id;
    this.shut();
    if (again) return;
    const { step } = this.rollouts;
    this.openedId = id;
    for (const row of this.rows) row.setAttribute("aria-expanded", String(row.id_ === id));
    this.ctx.select({ trajectories: [id] });
    const [place, line] = [el("div", { class: "map" }), el("p", { class: "note", role: "status" }, "opening …")];
    fill(this.opened, el("div", { class: "tools" }, el("strong", null, oneLine(id, 80)), button("close", () => this.close())), line, place);
    try {
      const map = await this.mapOf(step, id);
      if (!place.isConnected) return;
      if (map) this.down = (await drawMap(this.ctx, map, place)).down;
      fill(line, map ? "" : "This file has no room for the text of this rollout; with a kernel any opens.");
    } catch (error) {
      fill(line, error.message);
    }
  }

  async mapOf(step, id) {
    const { carried } = this.ctx.data;
    if (!this.ctx.live) {
      this.ctx.mapScript = carried?.script;
      return carried?.maps[carried.ids.indexOf(`${step} ${id}`)];
    }
    if (this.lost) throw new Error("the kernel of this view does not answer");
    return askMap(this.ctx, { step, trajectory: id });
  }

  shut() {
    this.down?.();
    Object.assign(this, { down: null, openedId: null });
    fill(this.opened);
    for (const row of this.rows) row.setAttribute("aria-expanded", "false");
  }

  /** Close what is open, and be where it was opened. */
  close() {
    const from = this.rows.find((row) => row.id_ === this.openedId);
    if (this.openedId) { this.shut(); (from || this.ctx.root).focus(); return; }
    const { term } = this;
    if (term) { term.click(); term.focus(); } else this.ctx.root.focus();
  }

  restore() {
    this.drawCharts();
  }
}

const ENDS = { collapsed: "all outcomes equal", unknown: "outcomes not all known", lone: "alone in its group" };

/** Points with those from `first` on put in the place of the old ones. */
function joined(old, change, first) {
  const put = (a, b) => { const out = new Float32Array(first + b.length); out.set(a.subarray(0, first)); out.set(b, first); return out; };
  const each = (a, b) => Object.fromEntries(Object.keys(b).map((name) => [name, put(a[name], b[name])]));
  return { x: each(old.x, change.x), y: each(old.y, change.y), causes: change.causes.map(({ name, y }, i) => ({ name, y: put(old.causes[i].y, y) })) };
}
