// What an exported file runs beside the views themselves.

import { el, mount, unpack } from "./core.js";

/** Read a packed payload from text: zlib, then base64, as a page carries them. */
async function unzip(text) {
  const raw = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** What an exported page runs: each embedded payload becomes its view, and the static one before it is hidden. */
export async function hydrate(views, style) {
  const embedded = [...document.querySelectorAll("script.cw-data")];
  for (const [i, node] of embedded.entries()) {
    const spec = JSON.parse(node.textContent);
    const place = el("div", { class: "cw-host" });
    try {
      const data = unpack(await unzip(spec.zip));
      node.before(place);
      mount(views[spec.kind], place, {
        kind: spec.kind, title: spec.title, name: `${spec.kind}-${i}`, hash: embedded.length > 1 ? `v${i + 1}` : "",
        link: spec.link, data, state: spec.state, style, page: true, wire: null,
      });
      const before = place.previousElementSibling;
      if (before?.classList.contains("cw-static")) before.hidden = true;
    } catch (error) {
      console.error(error); // the static view stays
    }
  }
  document.documentElement.dataset.drawn = "true";
}
