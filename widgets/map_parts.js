// Parts of a credit map that are made from the payload alone: heading, bars, key, ledger, folded messages, the minimap.

import {
  LETTERS, canvas, count, digits, el, fold, level, marks, number, oneLine, plain, ruler, wash, worded,
} from "./core.js";

const quiet = (...children) => el("span", { class: "quiet" }, children);
const facts = (...said) => said.filter(Boolean).join(" · ");
const rewards = (named) => Object.entries(named).map(([name, value]) => `${name} ${plain(value)}`);

export function head({ story: s }) {
  const sampled = s.turns.reduce((n, t) => n + (t.sampled || 0), 0);
  const said = facts(`outcome ${plain(s.outcome)}`, ...rewards(s.rewards), count(s.turns.length, "turn"),
    s.has_tokens ? count(sampled, "sampled token") : "no tokens stored", `group ${s.group}`, s.truncated ? "truncated" : "",
    s.stop_reason ? `ended by ${s.stop_reason}` : "", s.parent ? `branched from ${s.parent[0]} after turn ${s.parent[1]}` : "");
  const first = s.prompt.length ? oneLine(s.prompt.at(-1).text, 96) : "";
  const prompt = s.prompt.length
    ? fold([quiet(`prompt, ${count(s.prompt.length, "message")} `), first], () => s.prompt.map((m) => message(m, true)))
    : null;
  const gold = ["", "{}"].includes(s.gold) ? null : fold([quiet("reference "), oneLine(s.gold, 96)], () => pre(s.gold));
  return [el("div", { class: "title" }, s.id, quiet(said)), prompt, gold];
}

export function turnFacts(t) {
  const said = facts(t.agent, t.sampled === null ? "" : count(t.sampled, "sampled token"),
    t.reward === null ? "" : `reward ${plain(t.reward)}`, ...rewards(t.rewards),
    t.stop_reason ? `ended by ${t.stop_reason}` : "", t.trainable ? "" : `not trained: ${t.why_not}`);
  return [el("b", null, `turn ${t.index}`), quiet(said)];
}

function pre(text, more = 0) {
  const rest = more ? `\n… ${more.toLocaleString("en")} more characters, not shown` : null;
  return el("pre", { tabindex: "0", dir: "auto" }, text, rest);
}

export function message(m, open = false) {
  const who = m.role + (m.author ? ` ${m.author}` : "");
  const more = m.more ? ` (${(m.text.length + m.more).toLocaleString("en")} characters)` : "";
  const summary = [quiet(`${who}${more} `), oneLine(m.text, 96) || "(no text)"];
  const node = fold(summary, () => [pre(m.text, m.more), ...m.calls.map(call)], open);
  node.words = m.text;
  return node;
}

export function call(c) {
  const summary = [quiet(c.error === null ? "call " : "unreadable call "), el("b", null, c.name || "(no name)"),
    quiet(` ${oneLine(c.arguments || c.error || c.raw, 80)}`)];
  const wrong = c.error === null ? [] : [el("p", { class: "note" }, `could not be parsed: ${c.error}`)];
  const node = fold(summary, () => [pre(c.raw || c.arguments || "", c.more), ...wrong]);
  node.words = c.raw;
  return node;
}

/** One lane a method: its name, a bar left or right of the axis, its number; `on` is the one that washes the text. */
export function lanes(methods, k, on, fullOf, pick) {
  return methods.map((m, i) => {
    const cell = m.cells[k];
    const full = fullOf(m);
    const words = worded(cell.value, cell.status, digits(full));
    const said = `${m.name}${m.mark || ""}: ${words}${cell.why ? `, ${cell.why}` : ""}`;
    return el("button", { type: "button", class: i === on ? "lane on" : "lane", tabindex: "-1", title: said, "aria-label": said,
      on: { click: () => pick(i) } },
    el("span", { class: "name" }, m.name, m.mark), bar(cell, full),
    el("span", { class: cell.status === "v" || cell.status === "z" ? "num" : "num word" }, words));
  });
}

function bar(cell, full) {
  const node = el("span", { class: cell.status === "u" ? "bar hatch" : "bar" });
  if (cell.status !== "v" || !full) return node;
  const [down, over] = [cell.value < 0, Math.abs(cell.value) > full];
  const width = `${Math.max(1, 50 * Math.min(1, Math.abs(cell.value) / full))}%`;
  const style = { width, [down ? "right" : "left"]: "50%", background: wash(down ? -16 : 16) };
  node.append(el("span", { class: down ? "down" : "up", style }, over ? (down ? "◂" : "▸") : ""));
  return node;
}

/** The scale in numbers and words, the marks with their counts, and what was left out. */
export function legend(data, m, full, own) {
  if (!m) return el("p", { class: "note" }, "No method was given: this is the text alone.");
  const counts = new Map();
  for (let i = 0; i < m.status.length; i++) {
    const code = m.status[i] === 0 ? (m.values[i] < 0 ? "-" : "+") : LETTERS[m.status[i]];
    counts.set(code, (counts.get(code) || 0) + 1);
  }
  const origin = own ? `the 98th percentile of ${m.name}’s own non-zero credits; two methods’ colours do not compare`
    : data.scale.given ? "as asked for, for all methods"
      : `the 98th percentile of the non-zero credits of all methods in ${count(data.rollouts, "rollout")}`;
  const said = full ? quiet(`${own ? "own" : "shared"} scale: full colour at ±${number(full, digits(full), false)}, ${origin}`) : null;
  return [
    el("div", { class: "key" }, ruler(full), said),
    marks(["+", "-", "z", "u", "d", "n"].filter((c) => counts.get(c)).map((c) => [c, counts.get(c)])),
    data.more ? el("p", { class: "note" }, `${count(data.more, "more token")} not shown.`) : null,
  ];
}

/** Whether credit sums to what each method promises. */
export function ledger(data) {
  if (!data.ledger.length) return null;
  const cell = (v, i) => el("td", { class: "n" }, number(v, digits(data.methods[i].full)));
  const verdict = (r) => {
    if (r.holds === null) return el("td", { class: "quiet" }, r.says ? `${r.says} ${r.why}` : `none: ${r.why}`);
    return el("td", null, el("b", { class: r.holds ? null : "broken" }, r.holds ? "kept: " : "broken: "), r.says, r.holds ? "" : ` ${r.why}`);
  };
  const [{ says, why, holds }] = data.ledger;
  const alike = data.ledger.length > 1 && data.ledger.every((r) => r.holds === null && holds === null && r.says === says && r.why === why);
  const heads = [["method", null], ["sum over this rollout’s turns", "n"], ["over its group’s turns", "n"], alike ? null : ["promise about sums", null]];
  const rows = data.ledger.map((r, i) =>
    el("tr", null, el("th", { scope: "row" }, r.name), cell(r.sum, i), cell(r.group, i), alike ? null : verdict(r)));
  return el("div", { class: "ledger" }, el("div", { class: "sub" }, "Ledger"), el("div", { class: "wide" }, el("table", null,
    el("thead", null, el("tr", null, heads.filter(Boolean).map(([h, side]) => el("th", { scope: "col", class: side }, h)))),
    el("tbody", null, rows))), alike ? el("p", { class: "note" }, `Promise about sums: ${says || "none"}${says ? " " : ": "}${why}.`) : null);
}

/**
 * The minimap: one row of dots is many tokens, their mean credit in colour; the frame is what is on screen.
 * `now()` gives {cells, full}; `text` is the text layer; `scroller` holds `list`.
 */
export function strip(ctx, data, text, scroller, list, now) {
  const n = data.origin.length;
  const at = (y) => { // token at a height of the screen
    let found = 0;
    for (const node of list.children) {
      const own = node.getBoundingClientRect();
      const [from, to] = text.tokensOf(node.k);
      if (own.top > y) return found;
      found = own.bottom < y ? to : from + ((y - own.top) / Math.max(1, own.height)) * (to - from);
      if (own.bottom >= y) return found;
    }
    return found;
  };
  const draw = (g, w, h, ink) => {
    const { cells, full } = now();
    for (let y = 0; y < h && n; y++) {
      const from = Math.floor((y / h) * n);
      g.fillStyle = tint(cells, full, from, Math.max(from + 1, Math.floor(((y + 1) / h) * n)));
      g.fillRect(0, y, w, 1);
    }
    g.fillStyle = "rgba(128,128,128,.55)";
    if (list.children.length < h / 6) for (const end of data.turn_ends) g.fillRect(0, Math.round((end / n) * h) - 0.5, w, 1);
    const box = scroller.getBoundingClientRect();
    const [top, bottom] = [at(box.top), at(box.bottom)];
    if (bottom - top > 0.98 * n) return;
    g.strokeStyle = ink;
    g.lineWidth = 1.5;
    g.strokeRect(0.75, (top / n) * h + 0.75, w - 1.5, Math.max(4, ((bottom - top) / n) * h - 1.5));
  };
  const node = canvas(ctx, draw, { class: "strip", "aria-hidden": "true" });
  const go = (event) => {
    const box = node.getBoundingClientRect();
    const token = Math.min(0.9999, Math.max(0, (event.clientY - box.top) / box.height)) * n;
    const block = text.blockOf(Math.floor(token));
    const own = block.node.getBoundingClientRect();
    const middle = own.top + ((token - block.from) / Math.max(1, block.to - block.from)) * own.height;
    scroller.scrollTop += middle - scroller.getBoundingClientRect().top - scroller.clientHeight / 2;
  };
  node.addEventListener("pointerdown", (event) => { node.setPointerCapture(event.pointerId); go(event); });
  node.addEventListener("pointermove", (event) => { if (event.buttons) go(event); });
  scroller.addEventListener("scroll", node.redraw);
  return node;
}

function tint(cells, full, from, to) {
  let [sum, many, unknown] = [0, 0, 0];
  for (let i = from; cells && i < to && i < cells.status.length; i++) {
    if (cells.status[i] === 0) { sum += cells.values[i]; many++; } else if (cells.status[i] === 2) unknown++;
  }
  return many ? wash(level(sum / many, full)) : unknown ? "rgba(128,128,128,.34)" : "rgba(128,128,128,.1)";
}
