// Curves of several runs: methods as lines with the interval of their mean, seeds thin, over steps, rollouts, tokens or time.

import { el, fill, fold, keys, switcher, visible } from "./core.js";
import { amount, DASHES, duration, HUES, lineChart, share, together } from "./charts.js";

const WORDS = { step: "steps", rollouts: "rollouts", tokens: "tokens", seconds: "time" };

export function view(ctx) {
  const [tools, grid, means] = [el("div", { class: "tools" }), el("div", { class: "charts" }), el("div")];
  const line = el("p", { class: "note", "aria-live": "polite" });
  const shared = together();
  let charts = [];
  const x = () => (ctx.data.axes.includes(ctx.state.x) ? ctx.state.x : ctx.data.x);
  const series = (panel, axis) => panel.lines.flatMap((one) => {
    const look = { hue: one.look % HUES.length, dash: (one.look + Math.floor(one.look / HUES.length)) % DASHES.length };
    const thin = one.seeds.length > 1 || ctx.data.smooth > 1 ? one.seeds : [];
    return [{ name: one.name, x: one.x[axis], y: one.y, low: one.low, high: one.high, ...look },
      ...thin.map((s) => ({ name: s.seed, x: s.x[axis], y: s.y, thin: true, hue: look.hue, dash: 0 }))];
  });
  const set = (axis) => { ctx.remember({ x: axis === ctx.data.x ? null : axis }); show(); };
  const next = (by) => { const { axes } = ctx.data; set(axes[(axes.indexOf(x()) + by + axes.length) % axes.length]); };
  const show = () => {
    const axis = x();
    tools.firstChild?.set?.(axis);
    fill(line, visible(ctx.data.said[axis]));
    const xFormat = axis === "seconds" ? duration : amount;
    for (const [k, chart] of charts.entries()) chart.set({ series: series(ctx.data.panels[k], axis), xName: axis, xFormat, whole: axis !== "seconds" });
  };
  const make = () => {
    const { panels, axes, steps } = ctx.data;
    fill(tools, axes.length > 1 ? switcher("over", axes.map((a) => [a, WORDS[a]]), x(), set) : null);
    charts = steps ? panels.map((p) => lineChart(ctx, { title: p.metric, series: [], x: [], shared, height: 190,
      format: p.percent ? share : amount, range: p.percent ? [0, 1] : null })) : [];
    const known = panels.filter((p) => p.what);
    const words = () => known.map((p) => el("p", { class: "note" }, el("b", null, p.metric), ` ${p.what}`));
    fill(means, known.length ? fold("What they are", words) : null);
    fill(grid, charts.length ? charts : el("p", null, "No runs were given, or nothing was measured yet."));
    show();
  };
  for (const [name, f] of [["data", make], ["state", show]]) ctx.on(name, f);
  ctx.root.append(tools, grid, line, means, keys(ctx, [["x", "next axis", () => next(1)], ["ArrowRight", "in a chart: the next point", () => {}]]));
  make();
}
