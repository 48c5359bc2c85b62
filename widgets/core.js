// What every view shares: reading a payload, text, numbers, colours, keys, controls, selections, permalinks, the host.
// Every module of this folder is plain ES; Python joins the ones a view needs into one script (workbench/view/sources.py).
// Text of models and tools is hostile: it reaches the page through `el` and `textContent` alone.

// ------------------------------------------------------------------------------------------------ numbers as bytes

const ARRAYS = {
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array,
  float32: Float32Array, float64: Float64Array,
};

/** Read what workbench/view/pack.py wrote: JSON, and typed arrays put back where they were (with their `shape`). */
export function unpack(bytes) {
  const at = bytes.byteOffset || 0;
  const buffer = bytes.buffer || bytes;
  const size = new DataView(buffer, at, 4).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, at + 4, size)));
  const start = at + Math.ceil((4 + size) / 8) * 8;
  for (const { path, dtype, shape, offset } of head.arrays) {
    const Kind = ARRAYS[dtype];
    const count = shape.reduce((a, b) => a * b, 1);
    const from = start + offset;
    const array = from % Kind.BYTES_PER_ELEMENT
      ? new Kind(buffer.slice(from, from + count * Kind.BYTES_PER_ELEMENT))
      : new Kind(buffer, from, count);
    array.shape = shape;
    let place = head.payload;
    for (const key of path.slice(0, -1)) place = place[key];
    place[path[path.length - 1]] = array;
  }
  return head.payload;
}

// ----------------------------------------------------------------------------------- numbers in words and in colours
// The same encoding as workbench/view/palette.py: a test compares them.

export const LEVELS = 16;
export const NEGATIVE = "213,94,0";
export const POSITIVE = "0,114,178";
export const STATUS = { v: "credited", z: "zero", u: "unknown", d: "dropped", n: "not trained" };
export const LETTERS = "vzudn"; // a status as a number is its place here

/** Step of the colour scale, -16 to 16; 0 is for exactly 0 and for unknown alone. */
export function level(value, full) {
  if (!value || !full) return 0; // NaN too
  const step = Math.max(1, Math.ceil(LEVELS * Math.min(1, Math.abs(value) / full) - 1e-9));
  return value < 0 ? -step : step;
}

/** CSS colour of a step. */
export function wash(step) {
  return `rgba(${step < 0 ? NEGATIVE : POSITIVE},${+((0.8 * Math.abs(step)) / LEVELS).toFixed(3)})`;
}

/** How many decimals suit values of this scale. */
export function digits(full) {
  if (!full) return 2;
  const size = Math.floor(Math.log10(full));
  return Math.min(6, Math.max(0, size >= -1 ? 2 - Math.max(0, size) : 1 - size));
}

/** A number with sign and fixed decimals; unknown is "unknown", exact zero "0". */
export function number(value, decimals = 2, signed = true) {
  if (value === null || value === undefined || Number.isNaN(value)) return "unknown";
  if (value === 0) return "0";
  const sign = value < 0 ? "−" : signed ? "+" : "";
  let text = rounded(Math.abs(value), decimals);
  if (Number(text) === 0 || text.length + (sign ? 1 : 0) > decimals + 7) {
    text = Math.abs(value).toExponential(0).replace("e+", "e");
  }
  return sign + text;
}

/** Fixed decimals; an exact tie goes to the even digit, as in Python. */
function rounded(size, decimals) {
  const scaled = size * 10 ** decimals;
  const tie = scaled % 1 === 0.5 && Number.isInteger(size * 2 ** (decimals + 1)) && Math.floor(scaled) % 2 === 0;
  return (tie ? Math.floor(scaled) / 10 ** decimals : size).toFixed(decimals);
}

/** A quantity that is no credit (an outcome, a reward, a log-prob) as short as it can be said. */
export function plain(value, figures = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "unknown";
  const size = Math.abs(value);
  if (value === 0 || (size >= 1e-4 && size < 10 ** figures)) return String(Number(value.toPrecision(figures))).replace("-", "−");
  const [mantissa, exponent] = size.toExponential(figures - 1).split("e");
  const power = `${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
  return `${value < 0 ? "−" : ""}${Number(mantissa)}e${power}`;
}

/** What a cell holds: its number, or the word for why there is none. */
export function worded(value, status, decimals) {
  return status === "v" || status === "z" ? number(value, decimals) : STATUS[status];
}

/** 12,000: thousands apart. By hand: the browser's own way costs 20 ms when it is first asked. */
export function many(n) {
  return String(n).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** 1 turn, 2 turns, 12,000 turns. */
export function count(n, noun) {
  return `${many(n)} ${noun}${n === 1 ? "" : "s"}`;
}

// ------------------------------------------------------------------------------------------------------------- text

// C0 and C1 controls, bidi controls and marks, separators, zero-width and tag characters, halves of surrogate pairs.
const UNSEEN = new RegExp("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200b\\u200e\\u200f\\u2028\\u2029\\u202a-\\u202e\\u2060"
  + "\\u2066-\\u2069\\ufeff\\ufff9-\\ufffb\\u{e0000}-\\u{e007f}\\ud800-\\udfff]", "gu");

/** Make characters visible that cannot be seen or that reorder text; the same as `visible` in escape.py. */
export function visible(text) {
  return String(text)
    .replaceAll("\r\n", "\n")
    .replace(UNSEEN, (c) => `⟦U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟧`);
}

/** The start of a text on one line. */
export function oneLine(text, limit = 72) {
  const flat = text.slice(0, 4 * limit).replace(/\s+/g, " ").trim();
  return flat.length <= limit && text.length <= 4 * limit ? flat : `${flat.slice(0, limit - 1).trimEnd()}…`;
}

/**
 * Build an element. `props`: `on: {click: f}`, `style: {"--x": 1}`, anything else is an attribute (true is "", false
 * and null leave it out). Children: nodes, text (made visible), null.
 */
export function el(name, props = null, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") for (const [event, f] of Object.entries(value)) node.addEventListener(event, f);
    else if (key === "style") for (const [prop, v] of Object.entries(value)) node.style.setProperty(prop, v);
    else if (key.startsWith("on")) throw new Error(`no handlers as attributes: ${key}`);
    else node.setAttribute(key, value === true ? "" : visible(value));
  }
  return fill(node, ...children);
}

/** Put other children into a node: nodes, text (made visible), null. */
export function fill(node, ...children) {
  const there = children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== "");
  node.replaceChildren(...there.map((c) => (c instanceof Node ? c : visible(c))));
  return node;
}

/** Words of ours in which names stand between backticks: those as code. */
export function coded(words) {
  return words.split("`").map((part, i) => (i % 2 ? el("span", { class: "mono" }, part) : part));
}

/** A folded part whose inside is made when it is first opened. */
export function fold(summary, inside, open = false) {
  const node = el("details", null, el("summary", null, summary));
  const make = () => {
    if (node.open && node.children.length === 1) node.append(...[inside()].flat(Infinity));
  };
  node.addEventListener("toggle", make);
  node.open = open;
  make();
  return node;
}

// --------------------------------------------------------------------------------------------------------- controls

/** A labelled list of choices: [[value, words], ...]. */
export function choice(label, options, value, change) {
  const list = el("select", { on: { change: () => change(list.value) } });
  for (const [v, words] of options) list.append(el("option", { value: v }, words));
  list.value = value;
  const node = el("label", { class: "control" }, el("span", null, label), list);
  node.set = (v) => { list.value = v; };
  return node;
}

/** Buttons of which one is pressed: [[value, words], ...]. */
export function switcher(label, options, value, change) {
  const node = el("div", { class: "control", role: "group", "aria-label": label }, el("span", null, label));
  const box = el("div", { class: "switch" });
  const buttons = options.map(([v, words]) =>
    el("button", { type: "button", on: { click: () => { node.set(v); change(v); } } }, words));
  node.set = (v) => buttons.forEach((b, i) => b.setAttribute("aria-pressed", String(options[i][0]) === String(v)));
  node.set(value);
  box.append(...buttons);
  node.append(box);
  return node;
}

export function button(words, press, props = {}) {
  return el("button", { type: "button", ...props, on: { click: press } }, words);
}

/** The colour scale as a ruler: -s, the colours, +s. */
export function ruler(full) {
  if (!full) return el("span", { class: "quiet" }, "no credit other than 0: no colour scale");
  const decimals = digits(full);
  const [low, high] = [number(-full, decimals), number(full, decimals)];
  const ramp = el("span", { class: "ramp", role: "img", "aria-label": `colour scale from ${low} over 0 to ${high}` });
  return el("span", { class: "ruler" }, low, ramp, high);
}

/** What the marks mean: [letter or "+" or "-", count or null]. */
export function marks(entries) {
  const words = { "+": "positive", "-": "negative", ...STATUS };
  const look = { "+": "p9", "-": "m9" };
  return el("span", { class: "marks" }, entries.map(([code, n]) =>
    el("span", null, el("span", { class: look[code] || `s-${code}` }, words[code]), n === null ? null : ` ${many(n)}`)));
}

/** A canvas that stays sharp and is drawn again when its size or the theme changes. `draw(g, width, height, ink)`. */
export function canvas(ctx, draw, props = {}) {
  const node = el("canvas", props);
  let waiting = 0;
  const paint = () => {
    waiting = 0;
    const box = node.getBoundingClientRect();
    if (!box.width || !box.height) return;
    const dots = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(box.width * dots), Math.round(box.height * dots)];
    if (node.width !== w || node.height !== h) [node.width, node.height] = [w, h];
    const g = node.getContext("2d");
    g.setTransform(dots, 0, 0, dots, 0, 0);
    g.clearRect(0, 0, box.width, box.height);
    draw(g, box.width, box.height, getComputedStyle(ctx.root).color);
  };
  node.redraw = () => { waiting ||= requestAnimationFrame(paint); };
  const watch = new ResizeObserver(node.redraw);
  watch.observe(node);
  ctx.on("theme", node.redraw);
  ctx.on("dispose", () => { watch.disconnect(); cancelAnimationFrame(waiting); });
  return node;
}

// ------------------------------------------------------------------------------------------------------------- keys

/**
 * Bind keys while the focus is inside the view. `bindings`: [["j ArrowDown", "next turn", f], ...], several keys apart
 * by spaces. Nothing a reader types inside reaches the notebook's shortcuts; Ctrl, Alt and Meta stay the browser's.
 */
export function keys(ctx, bindings, title = "Keys") {
  const byKey = new Map(bindings.flatMap(([names, , f]) => names.split(" ").map((k) => [k === "Space" ? " " : k, f])));
  ctx.host.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    event.stopPropagation();
    const target = event.composedPath()[0];
    const typing = target.matches("input:not([type=range]):not([type=checkbox]), textarea, select");
    if (typing && event.key !== "Escape") return;
    const own = target.matches("button, summary, input, a") && (event.key === " " || event.key === "Enter");
    const slides = target.matches("input[type=range]") && event.key.startsWith("Arrow");
    const f = byKey.get(event.key);
    if (!f || own || slides) return;
    event.preventDefault();
    f(event);
  });
  for (const name of ["keypress", "keyup"]) ctx.host.addEventListener(name, (event) => event.stopPropagation());
  const line = ([names, words]) => [el("dt", null, names.split(" ").map((k) => el("kbd", null, NAMES[k] || k))), el("dd", null, words)];
  return fold(title, () => el("dl", { class: "keys" }, bindings.map(line)));
}

const NAMES = { ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc" };

// ------------------------------------------------------------------------------------------------------- selections

const HEARD = "workbench-selection";

/** A pandas expression for `frame.query(...)` that gives a selection. */
export function expression({ trajectories = [], turns = [] }) {
  const quoted = (ids) => `[${ids.map((id) => JSON.stringify(id)).join(", ")}]`;
  if (turns.length) {
    const by = new Map();
    for (const [id, turn] of turns) by.set(id, [...(by.get(id) || []), turn]);
    return [...by].map(([id, ks]) => `(trajectory == ${JSON.stringify(id)} and turn in [${ks.join(", ")}])`).join(" or ");
  }
  return trajectories.length ? `trajectory in ${quoted(trajectories)}` : "";
}

/** Share a selection with the other views of the same link in this page; needs no kernel. */
function share(ctx, link) {
  let known = null;
  const tell = (detail) => document.dispatchEvent(new CustomEvent(HEARD, { detail: { link, from: ctx.name, ...detail } }));
  const listen = ({ detail }) => {
    if (detail.link !== link || detail.from === ctx.name) return;
    if (detail.ask) { if (known) tell({ selection: known }); return; }
    known = detail.selection;
    ctx.selection = known;
    ctx.emit("select", known);
  };
  document.addEventListener(HEARD, listen);
  ctx.on("dispose", () => document.removeEventListener(HEARD, listen));
  return { ask: () => tell({ ask: true }), tell: (selection) => { known = selection; tell({ selection }); } };
}

// --------------------------------------------------------------------------------------------------------- permalinks

/** The part of `#a.turn=3&b.method=igpo` that belongs to a view; `name` is "" where a page has one view. */
function readHash(name) {
  const out = {};
  for (const [key, value] of new URLSearchParams(location.hash.slice(1))) {
    const [owner, own] = key.includes(".") ? key.split(/\.(.*)/) : ["", key];
    if (owner !== name) continue;
    try { out[own] = JSON.parse(value); } catch { out[own] = value; }
  }
  return out;
}

function writeHash(name, state) {
  const all = new URLSearchParams(location.hash.slice(1));
  for (const key of [...all.keys()]) if ((key.includes(".") ? key.split(".")[0] : "") === name) all.delete(key);
  for (const [key, value] of Object.entries(state)) {
    if (value === null || value === undefined || value === "") continue;
    const bare = typeof value === "string" && !/^[\d\s"[{+-]|^(true|false|null)$/.test(value);
    all.set(name ? `${name}.${key}` : key, bare ? value : JSON.stringify(value));
  }
  history.replaceState(null, "", `#${all}`);
}

// --------------------------------------------------------------------------------------------------------- the host

function later(f, wait = 120) {
  let timer = 0;
  const run = () => { clearTimeout(timer); timer = setTimeout(f, wait); };
  run.cancel = () => clearTimeout(timer);
  return run;
}

/** Tell a view when the theme changes, whoever changes it. */
function watchTheme(ctx) {
  const changed = () => ctx.emit("theme");
  const observer = new MutationObserver(changed);
  for (const node of [document.documentElement, document.body]) {
    observer.observe(node, { attributes: true, attributeFilter: ["class", "style", "data-jp-theme-light", "data-vscode-theme-kind"] });
  }
  const query = matchMedia("(prefers-color-scheme: dark)");
  query.addEventListener("change", changed);
  ctx.on("dispose", () => { observer.disconnect(); query.removeEventListener("change", changed); });
}

/**
 * Draw a view into an element. `source`: kind, name, link, data, style, state, page (true in a file), wire (the kernel's
 * side, or null). Returns the function that takes it down.
 */
export function mount(make, place, source) {
  const listeners = {};
  const ctx = {
    host: place, name: source.name, kind: source.kind, data: source.data, live: Boolean(source.wire), page: source.page,
    link: source.link, // for a view that puts another one into itself
    selection: null,
    state: { ...source.state },
    on(name, f) { (listeners[name] ||= []).push(f); },
    emit(name, value) { for (const f of listeners[name] || []) f(value); },
    /** Keep what is on screen: in the permalink of a file, and where Python's `to_frame` reads it. */
    remember(change) { Object.assign(ctx.state, change); write(); },
    /** Select, here and in linked views. */
    select(selection) {
      ctx.selection = { trajectories: [], turns: [], by: "click", ...selection };
      ctx.selection.expression ??= expression(ctx.selection);
      linked.tell(ctx.selection);
      source.wire?.set("selection", ctx.selection);
    },
    /** Ask Python; `progress` hears {text, share}. The promise has `stop()`. */
    ask(name, args = {}, progress = null) {
      if (source.wire) return source.wire.ask(name, args, progress);
      const refused = Promise.reject(new Error("this needs a kernel: show the view with .live()"));
      refused.stop = () => {};
      return refused;
    },
  };
  const write = later(() => {
    if (source.page) writeHash(source.hash, ctx.state);
    source.wire?.set("state", ctx.state);
  });
  ctx.on("dispose", write.cancel);
  const linked = share(ctx, source.link || ctx.name);
  place.dataset.lmSuppressShortcuts = "true"; // JupyterLab leaves keys alone in here
  const shadow = place.shadowRoot || place.attachShadow({ mode: "open" });
  ctx.root = el("div", { class: `cw ${source.kind}`, role: "group", "aria-label": source.title || source.kind, tabindex: "0" });
  fill(shadow, el("style", null), ctx.root);
  shadow.firstChild.textContent = washes() + source.style;
  watchTheme(ctx);
  if (source.page) {
    Object.assign(ctx.state, readHash(source.hash));
    const changed = () => { ctx.state = { ...source.state, ...readHash(source.hash) }; ctx.emit("state", ctx.state); };
    addEventListener("hashchange", changed);
    ctx.on("dispose", () => removeEventListener("hashchange", changed));
  }
  source.wire?.listen(ctx);
  try {
    make(ctx);
  } catch (error) {
    fill(ctx.root, el("p", { class: "wrong", role: "alert" }, `This view could not be drawn: ${error.message}`));
    console.error(error);
  }
  linked.ask();
  return () => ctx.emit("dispose");
}

/** Washes as classes: m16 .. m1, p1 .. p16. */
function washes() {
  let css = "";
  for (let step = 1; step <= LEVELS; step++) css += `.m${step}{background:${wash(-step)}}.p${step}{background:${wash(step)}}`;
  return css;
}

/** Class of a step of the scale. */
export function washClass(step) {
  return step < 0 ? `m${-step}` : step > 0 ? `p${step}` : "";
}

/** The kernel's side of a widget: traits `data`, `live`, `state`, `selection`, and questions by message. */
function wired(model) {
  const open = new Map();
  const wire = {
    set(name, value) { model.set(name, value); model.save_changes(); },
    ask(name, args, progress) {
      const id = Math.random().toString(36).slice(2);
      const answer = new Promise((resolve, reject) => open.set(id, { resolve, reject, progress }));
      answer.stop = () => model.send({ stop: id });
      model.send({ ask: name, id, args });
      return answer;
    },
    listen(ctx) {
      const heard = {
        "change:data": () => { ctx.data = unpack(model.get("data")); ctx.emit("data", ctx.data); },
        "change:live": () => ctx.emit("live", unpack(model.get("live"))),
        "change:pushed": () => { ctx.selection = model.get("pushed"); ctx.emit("select", ctx.selection); },
        "msg:custom": (message, buffers) => {
          const call = open.get(message.id);
          if (!call) return;
          if (message.progress) { call.progress?.(message.progress); return; }
          open.delete(message.id);
          if (message.error) call.reject(new Error(message.error));
          else call.resolve(message.answer ?? unpack(buffers[0]));
        },
      };
      for (const [name, f] of Object.entries(heard)) model.on(name, f);
      ctx.on("dispose", () => { for (const [name, f] of Object.entries(heard)) model.off(name, f); });
    },
  };
  return wire;
}

/** What anywidget loads: draws the view of the model's kind, and hides the static one that stands above it. */
export function widget(views, style) {
  const render = ({ model, el: place }) => {
    const id = model.get("name");
    const hideStatic = (hidden) => {
      for (const node of place.closest(".jp-OutputArea")?.querySelectorAll(`.cw-of-${CSS.escape(id)}`) || []) {
        const child = node.closest(".jp-OutputArea-child") || node;
        child.style.display = hidden ? "none" : "";
      }
    };
    const down = mount(views[model.get("kind")], place, {
      kind: model.get("kind"), name: `${id}-${Math.random().toString(36).slice(2)}`, title: model.get("title"),
      link: model.get("link"), data: unpack(model.get("data")), state: model.get("state"), style, page: false, wire: wired(model),
    });
    hideStatic(true);
    // An output can be attached after it is drawn: the static one is looked for once more then.
    const again = requestAnimationFrame(() => hideStatic(true));
    return () => { cancelAnimationFrame(again); hideStatic(false); down(); };
  };
  return { render };
}
