// A turn sampled anew: what it was worth, measured by continuations, beside what each method says of it.

import { button, count, el, fill, fold, number, plain, worded } from "./core.js";

/** The panel of turn `k`; `claims`: [method, its cell, decimals]. */
export function rerollPanel(ctx, k, index, claims) {
  const many = el("input", { type: "number", min: "1", max: "64", value: "8", "aria-label": "continuations before and after" });
  const said = el("span", { class: "quiet", role: "status" });
  const out = el("div");
  const stop = button("stop", () => running?.stop());
  stop.disabled = true;
  let [running, seed] = [null, 0];
  const go = button("sample", async () => {
    if (running) return;
    go.disabled = true;
    stop.disabled = false;
    const begun = performance.now();
    try {
      running = ctx.ask("reroll", { turn: k, n: Number(many.value), seed: seed++ }, (p) => fill(said, `${p.done} of ${p.total} ${p.text || ""}`));
      fill(said, "starting");
      fill(out, result(await running, claims));
      fill(said, `${((performance.now() - begun) / 1000).toFixed(1)} s`);
    } catch (error) {
      fill(said, error.message === "stopped" ? "stopped; nothing is shown of what was begun" : error.message);
    }
    running = null;
    go.disabled = false;
    stop.disabled = true;
  });
  const close = button("close", () => { running?.stop(); panel.remove(); ctx.root.focus(); });
  const panel = el("div", { class: "reroll", role: "group", "aria-label": `turn ${index} sampled anew` },
    el("div", { class: "tools" }, el("label", { class: "control" }, el("span", null, "continuations"), many), go, stop, close, said), out);
  return panel;
}

function result(found, claims) {
  const rows = [["before the turn", found.before], ["after it", found.after]];
  const interval = (v) => v.mean === null ? "unknown" : `${v.mean.toFixed(2)} [${v.low.toFixed(2)}, ${v.high.toFixed(2)}]`;
  const line = ([name, v]) => el("tr", null, el("th", { scope: "row" }, name), el("td", null, range(v, 0, 1)),
    el("td", { class: "n" }, interval(v)), el("td", { class: "quiet" }, v.low === v.high ? "certain: the episode ends here"
      : `${count(v.known, "outcome")}${v.unknown ? `, ${v.unknown} unknown` : ""}`));
  const g = found.gain;
  const sure = g.mean !== null && (g.low > 0 || g.high < 0);
  const gain = el("tr", { class: "gain" }, el("th", { scope: "row" }, "what it was worth"), el("td", null, range(g, -1, 1)),
    el("td", { class: "n" }, el("b", null, g.mean === null ? "unknown" : `${number(g.mean)} [${number(g.low)}, ${number(g.high)}]`)),
    el("td", { class: "quiet" }, g.mean === null ? "" : sure ? "95 % interval without 0" : "0 lies in the 95 % interval"));
  const claim = ([name, cell, decimals]) => el("tr", null, el("th", { scope: "row" }, name), el("td"),
    el("td", { class: "n" }, worded(cell.value, cell.status, decimals)), el("td", { class: "quiet" }, agrees(cell, g, sure)));
  const branches = found.branches.length
    ? fold([el("span", { class: "quiet" }, "what was done instead, "), count(found.branches.length, "continuation")],
      () => el("ol", { class: "branches" }, found.branches.map((b) => el("li", null, el("b", null, `outcome ${plain(b.outcome)} `),
        el("span", { class: "mono" }, b.turns.join("  →  "))))))
    : null;
  const side = { class: "n", scope: "col" };
  const heading = el("tr", null, el("th", { scope: "col" }, "measured"), el("th"), el("th", side, "mean outcome"), el("th"));
  const words = "each method’s claim, in its own unit: only the sign compares";
  const divider = el("tr", null, el("th", { scope: "rowgroup", colspan: "4", class: "sub" }, words));
  const table = el("table", null, el("thead", null, heading), el("tbody", null, rows.map(line), gain),
    el("tbody", null, divider, claims.map(claim)));
  return [table, branches];
}

function agrees(cell, gain, sure) {
  if (cell.status === "z") return "says it did not matter";
  if (cell.status !== "v") return "says nothing";
  if (!sure) return "undecided by these samples";
  return Math.sign(cell.value) === Math.sign(gain.mean) ? "same sign as measured" : "opposite sign";
}

/** An interval with its mean on a line from low to high. */
function range(v, low, high) {
  const at = (x) => `${(100 * (x - low)) / (high - low)}%`;
  const node = el("span", { class: "range", role: "presentation" });
  if (low < 0) node.append(el("span", { class: "zero", style: { left: at(0) } }));
  node.append(el("span", { class: "whisker", style: { left: at(v.low), width: `calc(${at(low + v.high - v.low)} + 1px)` } }));
  if (v.mean !== null) node.append(el("span", { class: "dot", style: { left: at(v.mean) } }));
  return node;
}
