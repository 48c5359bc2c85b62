// Knobs of recipes and edits of rewards above a credit map: the kernel computes every method again while the hand moves.

import { button, choice, count, el, fill, fold, keys, oneLine, plain } from "./core.js";
import { drawMap } from "./inner_map.js";

const REST = 250; // ms without another position until sums are checked
const PATIENCE = 20000; // ms after which the kernel is said not to answer
const AS_IS = "as the methods say";

export function view(ctx) {
  const panel = new Panel(ctx);
  ctx.on("data", () => panel.build());
  ctx.on("state", () => panel.build());
  ctx.on("select", (selection) => panel.follow(selection));
  ctx.on("dispose", () => { clearTimeout(panel.resting); panel.model?.down(); });
}

class Panel {
  constructor(ctx) {
    this.ctx = ctx;
    this.help = ctx.live ? keys(ctx, [
      ["0", "all knobs as the methods say", () => this.turn({ knobs: {} })],
      ["e", "edit the rewards of the turn", () => this.rewards.querySelector("input")?.focus()],
      ["z", "undo the last edit", () => this.undo(this.edits.length - 1)],
    ], "Keys of knobs and edits") : null;
    this.build();
  }

  get knobs() { return this.ctx.state.knobs || {}; }
  get edits() { return this.ctx.state.edits || []; }

  build() {
    const { ctx } = this;
    this.place = el("div", { class: "map" });
    this.take(ctx.data);
    if (!ctx.live) {
      fill(ctx.root, el("p", { class: "note" }, ctx.data.says), this.place);
      this.draw(ctx.data.map);
      return;
    }
    this.methods = ctx.data.knobs[0].own.length + ctx.data.knobs[0].without.length;
    this.line = el("span", { class: "quiet", role: "status" });
    this.all = button(`all ${AS_IS}`, () => { this.turn({ knobs: {} }); ctx.root.focus(); });
    this.controls = new Map(ctx.data.knobs.map((knob) => [knob.name, knob.choices.length ? this.list(knob) : this.slider(knob)]));
    this.rewards = el("div", { class: "tools", role: "group", "aria-label": "rewards" });
    this.made = el("div");
    this.wrong = el("div", { role: "status" });
    this.code = el("pre", { tabindex: "0" }, ctx.data.code);
    fill(ctx.root,
      el("div", { class: "knobs" }, [...this.controls.values()].map((c) => c.row), el("div", { class: "foot" }, this.all, this.line)),
      this.wrong, this.rewards, this.made, this.place,
      fold("These methods as Python", () => [button("copy", () => this.copy()), this.code]), this.help);
    this.stand();
    this.ask();
    this.words(ctx.data);
    this.draw(ctx.data.map);
  }

  /** Another rollout. */
  take(data) {
    this.shown = data;
    this.k = Math.max(0, data.turns.indexOf(this.ctx.state.turn));
  }

  // ------------------------------------------------------------------------------------------------------------- knobs

  row(knob, control) {
    const reset = () => {
      this.set(knob.name, null);
      row.querySelector("input, select").focus(); // a button that is off takes no keys
    };
    const back = button("reset", reset, { class: "small", "aria-label": `${knob.title}: ${AS_IS}` });
    const by = new Map();
    for (const [name, value] of knob.own) by.set(value, [...(by.get(value) || []), name]);
    const who = (names) => (names.length === this.methods ? "" : `${names.join(", ")} `);
    const own = [...by].map(([value, names]) => [who(names), el("b", null, value)]);
    const said = own.flatMap((words, i) => (i ? [" · ", ...words] : words));
    const without = knob.without.length ? ` · not in ${knob.without.join(", ")}` : "";
    const row = el("div", { class: "knob", title: knob.says }, el("span", { class: "name" }, knob.title), control, back,
      el("span", { class: "quiet own" }, "own: ", said, without));
    return { row, back };
  }

  slider(knob) {
    const input = el("input", { type: "range", min: knob.low, max: knob.high, step: knob.step, "aria-label": knob.title,
      on: { input: () => this.set(knob.name, Number(input.value)) } });
    const said = el("output");
    const made = this.row(knob, [input, said]);
    const set = (value) => {
      input.value = value ?? knob.start;
      const words = value === undefined ? AS_IS : Number(value).toFixed(2);
      input.setAttribute("aria-valuetext", words);
      fill(said, words);
    };
    return { ...made, set };
  }

  list(knob) {
    const node = choice("", [["", AS_IS], ...knob.choices.map((c) => [c, c])], "", (v) => this.set(knob.name, v || null));
    node.querySelector("select").setAttribute("aria-label", knob.title);
    return { ...this.row(knob, node), set: (value) => node.set(value ?? "") };
  }

  set(name, value) {
    const next = { ...this.knobs, [name]: value };
    if (value === null) delete next[name];
    this.turn({ knobs: next });
  }

  /** Every control as it stands. */
  stand() {
    for (const [name, control] of this.controls) {
      const value = this.knobs[name];
      control.set(value);
      control.row.classList.toggle("turned", value !== undefined);
      control.back.disabled = value === undefined;
    }
    this.all.disabled = !Object.keys(this.knobs).length;
  }

  // ----------------------------------------------------------------------------------------------------------- rewards

  /** Fields for the rewards of one turn of the rollout, and for what belongs to all of it. */
  ask() {
    const { shown } = this;
    const others = choice("rollout", shown.peers.map((id) => [id, oneLine(id, 40)]), shown.rollout, (id) => this.show(id));
    const turns = choice("turn", shown.turns.map((t, k) => [k, t]), this.k, (k) => { this.k = Number(k); this.ask(); });
    const fields = (level) => shown.rewards.filter((r) => r.level === level).map((r) => this.field(r));
    fill(this.rewards, el("span", { class: "head" }, "Edit"), others, fields("trajectory"), shown.turns.length ? turns : null,
      shown.turns.length ? fields("turn") : null);
  }

  field(reward) {
    const k = reward.level === "turn" ? this.k : 0;
    const unit = reward.unit + k;
    const was = reward.values[k];
    const edit = () => this.edits.find(([column, u]) => column === reward.name && u === unit);
    const value = edit() ? edit()[2] : was;
    const mark = el("span", { class: "edited" }, edit() ? `edited, was ${plain(was)}` : "");
    const put = (next) => {
      const rest = this.edits.filter(([column, u]) => column !== reward.name || u !== unit);
      const same = next === short(was);
      fill(mark, same ? "" : `edited, was ${plain(was)}`);
      this.turn({ edits: same ? rest : [...rest, [reward.name, unit, next]] });
    };
    const input = el("input", { type: "number", step: "any", placeholder: "unknown", on: {
      input: () => { if (input.value !== "") put(Number(input.value)); },
      change: () => { if (input.value === "" && !input.validity.badInput) put(null); },
    } });
    input.value = short(value) ?? "";
    return el("label", { class: "control", title: "an empty field is an unknown value, not 0" },
      el("span", null, reward.name.replaceAll("_", " ")), input, mark);
  }

  undo(i) {
    if (i < 0) return;
    this.turn({ edits: this.edits.filter((_, j) => j !== i) });
    this.ask();
  }

  /** What was edited, and which methods could not be turned so. */
  words({ edits, problems }) {
    const line = (e, i) => el("li", null, `${e.column.replaceAll("_", " ")} of ${e.turn === null ? "" : `turn ${e.turn} of `}`,
      el("b", null, oneLine(e.trajectory, 60)), `: ${plain(e.before)} → ${plain(e.after)} `,
      button("undo", () => this.undo(i), { class: "small", "aria-label": `undo ${e.column} ${e.turn ?? ""} ${e.trajectory}` }));
    const held = this.made.contains(this.ctx.root.getRootNode().activeElement); // focus must not fall out of the view
    fill(this.made, edits.length ? el("ul", { class: "edits" }, edits.map(line)) : null,
      edits.length > 1 ? button("undo all edits", () => { this.turn({ edits: [] }); this.ask(); }, { class: "small" }) : null);
    if (held) (this.made.querySelector("button") || this.ctx.root).focus();
    fill(this.wrong, problems.map(([name, why]) => el("p", { class: "wrong" }, el("b", null, name), ` is shown as it was: ${why}`)));
  }

  /** A turn was chosen in the map, or in a linked view. */
  follow(selection) {
    const mine = (selection?.turns || []).find(([id]) => id === this.shown.rollout);
    const k = mine ? this.shown.turns.indexOf(mine[1]) : -1;
    if (!this.ctx.live || k < 0 || k === this.k) return;
    this.k = k;
    this.ask();
  }

  // ------------------------------------------------------------------------------------------------------- the kernel

  /** Controls stand otherwise. What waits is replaced: one question is under way, and only the last position follows it. */
  turn(change) {
    this.ctx.remember(change);
    this.wanted = performance.now();
    this.stand();
    if (!this.busy) this.run();
  }

  question() { return { knobs: this.knobs, edits: this.edits, rollout: this.shown.rollout }; }

  async run() {
    this.busy = true;
    clearTimeout(this.resting);
    while (this.wanted) {
      const begun = this.wanted;
      const asked = this.question();
      this.wanted = 0;
      try {
        const answer = await inTime(this.ctx.ask("step", asked));
        if (asked.rollout !== this.shown.rollout) continue; // another rollout was opened meanwhile
        this.model?.push("live", answer.patch);
        this.words(answer);
        fill(this.line, `computed again on ${count(this.shown.of, "rollout")}, on screen after ${Math.round(performance.now() - begun)} ms`);
        this.ctx.root.dataset.step = JSON.stringify(asked.knobs);
      } catch (error) { fill(this.line, error.message); }
    }
    this.busy = false;
    this.resting = setTimeout(() => this.rest(), REST);
  }

  /** The hand rests: are the sums what the methods promise? */
  async rest() {
    const asked = JSON.stringify(this.question());
    try {
      const answer = await inTime(this.ctx.ask("rest", this.question()));
      if (asked !== JSON.stringify(this.question())) return;
      this.model?.push("live", answer.patch);
      fill(this.code, answer.code);
      this.ctx.root.dataset.rest = asked;
    } catch (error) { fill(this.line, error.message); }
  }

  async show(rollout) {
    try {
      const data = await inTime(this.ctx.ask("show", { ...this.question(), rollout }));
      this.ctx.remember({ rollout: data.rollout, turn: null, find: null });
      this.take(data);
      this.ask();
      this.words(data);
      if (this.model) this.model.push("data", data.map);
      else this.draw(data.map);
    } catch (error) { fill(this.line, error.message); }
  }

  copy() {
    const done = (words) => () => fill(this.line, words);
    const clip = navigator.clipboard?.writeText(this.code.textContent);
    (clip || Promise.reject()).then(done("copied"), done("this browser does not let a page copy: select the text"));
  }

  // ----------------------------------------------------------------------------------------------------------- the map

  /** The credit map, as a widget whose kernel is this panel. */
  async draw(map) {
    const { ctx } = this;
    this.model?.down();
    this.model = null;
    ctx.mapScript = ctx.data.script;
    this.model = await drawMap(ctx, map, this.place, {
      name: `${ctx.name}-map`,
      state: { ...ctx.state },
      set: { selection: (s) => ctx.select(s), state: ({ knobs, edits, rollout, ...own }) => ctx.remember(own) },
      ask: async (name, args) => {
        if (ctx.live && name === "open") this.show(args.trajectory);
        throw new Error("answered by the panel above");
      },
    });
    ctx.root.dataset.drawn = "true";
  }
}

/** A number as a field shows it: without the last bits. */
const short = (value) => (value === null ? null : Number(value.toPrecision(6)));

/** An answer, or an error once it takes too long; one that comes later than that is dropped. */
function inTime(answer) {
  const late = new Error(`the kernel has not answered for ${PATIENCE / 1000} s; what is shown is its last answer`);
  return Promise.race([answer, new Promise((_, refuse) => { setTimeout(() => refuse(late), PATIENCE); })]);
}
