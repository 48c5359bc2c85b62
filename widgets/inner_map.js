// A credit map inside another view: its own module, loaded when the first is opened, as a widget whose kernel is that view.

/** Ask the kernel for the map of a rollout, and once for the module that draws it. */
export async function askMap(ctx, args) {
  const { script, map } = await ctx.ask("open", { ...args, script: !ctx.mapScript });
  ctx.mapScript ||= script;
  return map;
}

/**
 * Draw a packed map. `ask(name, args, progress)` answers what it asks; without one it hears nothing of ours but the link.
 * `set`: {trait: f} hears what it writes. Returns {down(), push(trait, value)}.
 */
export async function drawMap(ctx, map, place, { name = "map", state = {}, set = {}, ask = null } = {}) {
  ctx.mapModule ??= import(URL.createObjectURL(new Blob([ctx.mapScript], { type: "text/javascript" })));
  const { render } = (await ctx.mapModule).default;
  const [heard, open] = [{}, new Map()];
  const values = { kind: "credit_map", name, title: "Credit map", link: ctx.link, data: map, state };
  const send = async ({ ask: what, id, args, stop }) => {
    if (stop) open.get(stop)?.stop();
    if (!what || !ask) return;
    const tell = (said) => heard["msg:custom"]?.({ id, ...said });
    const answer = ask(what, args, (progress) => tell({ progress }));
    open.set(id, answer);
    try { tell({ answer: await answer }); } catch (error) { tell({ error: error.message }); }
    open.delete(id);
  };
  const model = {
    get: (key) => values[key], set: (key, value) => set[key]?.(value), save_changes() {}, send,
    on: (key, f) => { heard[key] = f; }, off: (key) => { delete heard[key]; },
  };
  const down = render({ model, el: place });
  return { down, push(key, value) { values[key] = value; heard[`change:${key}`]?.(); } };
}
