// What a heat map shows, without drawing: which rollouts in which order, how a cell is coded, what is selected.
// Orders and filters are those of workbench/view/payload/orders.py; a test compares them.

import { LEVELS } from "./core.js";

export const GROUPS = ["mixed", "collapsed", "lone", "unknown"];
export const SORTS = {
  given: "as given", outcome: "outcome", length: "number of turns", credit: "mean credit",
  rank: "disagreement, by rank", sign: "disagreement, by sign", share: "disagreement, by share",
};
export const NONE = 255;
const NEAR = 1e-6;

// Codes of a cell: the step of the scale, one more beyond it, the marks, and RAMP + 0 to 16 for a share.
export const CODE = { beyond: LEVELS + 1, z: 0, u: 20, d: 21, n: 22, absent: 30, ramp: 40 };

/** Texts that Python put into one string, by place. */
export function textList({ text, ends }) {
  return (i) => text.slice(i ? ends[i - 1] : 0, ends[i]);
}

/** Where the turns of a rollout begin in the flat row of all turns. */
export function start(data, n) {
  return n ? data.ends[n - 1] : 0;
}

/** Where a turn of a rollout stands in that row; -1 if it has no such turn. */
export function cellAt(data, n, turn) {
  const k = start(data, n) + turn - data.first[n];
  return n >= 0 && turn >= data.first[n] && k < data.ends[n] ? k : -1;
}

/** How each cell of a method is drawn. */
export function codes(values, status, full) {
  const marks = [null, CODE.z, CODE.u, CODE.d, CODE.n];
  const out = new Int8Array(values.length);
  for (let k = 0; k < out.length; k++) {
    if (status[k]) { out[k] = marks[status[k]]; continue; }
    const size = full ? Math.abs(values[k]) / full : 0;
    const step = size > 1 + NEAR ? CODE.beyond : Math.max(1, Math.ceil(LEVELS * Math.min(1, size) - 1e-9));
    out[k] = values[k] < 0 ? -step : step;
  }
  return out;
}

/** How each cell of a disagreement is drawn. */
export function rampCodes(turn) {
  return Int8Array.from(turn, (v) => (v === NONE ? CODE.u : CODE.ramp + Math.round((16 * v) / (NONE - 1))));
}

/** Does a cell lie beyond the scale? */
export function beyond(value, full) {
  return Boolean(full) && Math.abs(value) > full * (1 + NEAR);
}

// ----------------------------------------------------------------------------------------------------------- orders

/** Places of the methods shown; all where the state names none that is there. */
export function shownMethods(data, state) {
  const chosen = [state.methods ?? []].flat().map((name) => data.methods.indexOf(name));
  const found = [...new Set(chosen)].filter((m) => m >= 0);
  return found.length ? found : data.methods.map((_, m) => m);
}

/** Mean credit of each rollout's turns, NaN where none has any. */
export function meanCredit(data, m) {
  const out = new Float64Array(data.count);
  for (let n = 0, k = 0; n < data.count; n++) {
    let [sum, size] = [0, 0];
    for (; k < data.ends[n]; k++) if (data.status[m][k] < 2) { sum += data.values[m][k]; size++; }
    out[n] = size ? sum / size : NaN;
  }
  return out;
}

/** What rollouts are sorted by, or null for the order given. */
export function sortKey(data, state) {
  if (state.sort === "outcome") return Float64Array.from(data.outcome);
  if (state.sort === "length") return Float64Array.from(data.ends, (end, n) => end - start(data, n));
  if (state.sort === "credit" && data.methods.length) return meanCredit(data, shownMethods(data, state)[0]);
  return Object.hasOwn(data.apart, state.sort) ? Float64Array.from(data.apart[state.sort].rollout) : null;
}

/** Largest first or the other way round; unknown last, ties as they stand. */
function largestFirst(places, key, flip) {
  const by = (n) => (Number.isNaN(key[n]) ? Infinity : flip ? key[n] : -key[n]);
  const keys = Float64Array.from(places, by);
  const at = Array.from(places, (_, i) => i).sort((a, b) => (keys[a] === keys[b] ? 0 : keys[a] < keys[b] ? -1 : 1));
  return at.map((i) => places[i]);
}

/** Rollouts shown, by place, in the order shown. */
export function shownRollouts(data, state) {
  const kept = keptRollouts(data, state);
  const flip = Boolean(state.flip);
  const given = sortKey(data, state);
  const key = given ?? Float64Array.from({ length: data.count }, (_, n) => -n);
  const order = given ? largestFirst(kept, key, flip) : flip ? kept.reverse() : kept;
  if (state.grouped === false || (!given && together(data, order))) return Int32Array.from(order);
  const groups = data.kinds.length;
  const [sum, size] = [new Float64Array(groups), new Float64Array(groups)];
  for (const n of kept) if (!Number.isNaN(key[n])) { sum[data.group[n]] += key[n]; size[data.group[n]]++; }
  const members = Array.from(sum, () => []);
  for (const n of order) members[data.group[n]].push(n);
  const mean = sum.map((s, g) => (size[g] ? s / size[g] : NaN));
  return Int32Array.from(largestFirst(Array.from(mean, (_, g) => g), mean, flip).flatMap((g) => members[g]));
}

/** Do the rollouts of each group stand together already? */
function together(data, order) {
  const seen = new Uint8Array(data.kinds.length);
  return order.every((n, i) => {
    const g = data.group[n];
    if (i && data.group[order[i - 1]] === g) return true;
    return !seen[g]++;
  });
}

function keptRollouts(data, state) {
  const [ids, groups, asked] = [data.ids, data.groups, data.questions].map(textList);
  const wanted = String(state.find ?? "").toLowerCase();
  const hit = wanted && Array.from(data.kinds, (_, g) => [groups, asked].some((t) => t(g).toLowerCase().includes(wanted)));
  const kind = GROUPS.indexOf(state.only);
  const rows = state.only === "selected" ? rowsOf(String(state.rows ?? ""), data.count) : null;
  const kept = [];
  for (let n = 0; n < data.count; n++) {
    const g = data.group[n];
    if (kind >= 0 && data.kinds[g] !== kind) continue;
    if (rows && !rows[n]) continue;
    if (wanted && !hit[g] && !ids(n).toLowerCase().includes(wanted)) continue;
    kept.push(n);
  }
  return kept;
}

// ------------------------------------------------------------------------------------------------------- selections

/** Read a set of rollouts from a permalink: n and ranges, or x and a bit each, four to a hex digit. */
export function rowsOf(text, count) {
  const out = new Uint8Array(count);
  if (text[0] === "x") return out.map((_, n) => (parseInt(text[1 + (n >> 2)], 16) >> (n & 3)) & 1);
  for (const part of text.slice(1).split(".")) {
    const [, first, last] = /^(\d+)(?:-(\d+))?$/.exec(part) ?? [];
    if (first) out.fill(1, +first, +(last ?? first) + 1);
  }
  return out;
}

/** Write a set of rollouts for a permalink, whichever way is shorter. */
export function rowsText(rows) {
  const ranges = [];
  const digits = new Uint8Array(Math.ceil(rows.length / 4));
  rows.forEach((on, n) => {
    if (!on) return;
    digits[n >> 2] |= 1 << (n & 3);
    if (n && rows[n - 1]) ranges.at(-1)[1] = n;
    else ranges.push([n]);
  });
  const text = ranges.map((range) => range.join("-")).join(".");
  return text.length <= Math.max(80, digits.length) ? `n${text}` : `x${Array.from(digits, (d) => d.toString(16)).join("")}`;
}

/** A pandas expression for a block of rollouts x turns; `all`: every rollout there is. */
export function blockExpression(ids, span, all) {
  const which = all ? [] : [`trajectory in [${ids.map((id) => JSON.stringify(id)).join(", ")}]`];
  if (span) which.push(span[0] === span[1] ? `turn == ${span[0]}` : `turn >= ${span[0]} and turn <= ${span[1]}`);
  return which.join(" and ") || "turn >= 0";
}

/** How many cells of the rollouts carry which mark, from the codes of the methods shown. */
export function countMarks(data, order, panels) {
  const found = new Uint32Array(64);
  for (const { codes: all } of panels) {
    for (const n of order) for (let k = start(data, n); k < data.ends[n]; k++) found[all[k] + CODE.beyond]++;
  }
  const at = (code) => found[code + CODE.beyond];
  const sum = (from, to) => found.subarray(from, to).reduce((x, y) => x + y, 0);
  const [plus, minus] = [sum(CODE.beyond + 1, 2 * CODE.beyond + 1), sum(0, CODE.beyond)];
  return {
    "+": plus, "-": minus, z: at(CODE.z), u: at(CODE.u), d: at(CODE.d), n: at(CODE.n), beyond: at(CODE.beyond) + at(-CODE.beyond),
  };
}

/**
 * Mean credit by turn, and in all (at `width`), over the cells `inside` says (null: all of the rollouts); NaN without any.
 * `span`: turns outside of it need not be looked at.
 */
export function meansByTurn(data, order, m, inside, span) {
  const sum = new Float64Array(data.width + 1);
  const size = new Uint32Array(data.width + 1);
  const values = data.values[m];
  const status = data.status[m];
  const { ends, first, width } = data;
  for (let i = 0; i < order.length; i++) {
    const n = order[i];
    const shift = (n ? ends[n - 1] : 0) - first[n];
    const last = span ? Math.min(ends[n], span[1] + shift + 1) : ends[n];
    for (let k = shift + Math.max(first[n], span ? span[0] : 0); k < last; k++) {
      if (status[k] > 1 || (inside && !inside[k])) continue;
      sum[k - shift] += values[k];
      size[k - shift]++;
    }
  }
  for (let turn = 0; turn < width; turn++) { sum[width] += sum[turn]; size[width] += size[turn]; }
  return sum.map((s, turn) => (size[turn] ? s / size[turn] : NaN));
}
