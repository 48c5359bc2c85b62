"""What a credit map of 100,000 tokens costs in the browser, beside one element a token, in the same run.

    python benchmarks/credit_map.py [--tokens 100000] [--turns 200] [--repeats 3]

Needs Playwright and a Chromium. Times are from the call that draws until the second frame after it, in ms, the least of
the repeats; the last column is ours over the naive way. A machine busy with other things makes all of them longer.
"""

from __future__ import annotations

import argparse
import base64
import random

import torch

from workbench import view
from workbench.credit import Credit
from workbench.rollouts import Rollouts
from workbench.trajectory import Message, Sequence, Span, Trajectory, Turn
from workbench.view.pack import pack
from workbench.view.shots import chromium
from workbench.view.sources import widget_script

MEASURE = """async ([bytes, what]) => {
  %s
  const raw = Uint8Array.from(atob(bytes), c => c.charCodeAt(0));
  const frame = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  const place = document.createElement('div');
  document.body.replaceChildren(place);
  await frame();
  const begun = performance.now();
  const data = core.unpack(raw);
  if (what === 'naive') {
    const m = data.methods[0];
    for (let i = 0; i < data.ends.length; i++) {
      const span = document.createElement('span');
      span.textContent = data.text.slice(i ? data.ends[i - 1] : 0, data.ends[i]);
      span.style.backgroundColor = core.wash(core.level(m.values[i], data.scale.full));
      place.append(span);
    }
    await frame();
    return {first: performance.now() - begun};
  }
  let kept;
  const source = {kind: 'credit_map', name: 'x', data, state: {}, style, page: false, wire: null};
  core.mount(ctx => { kept = ctx; views.credit_map(ctx); }, place, source);
  await frame();
  const first = performance.now() - begun;
  const root = place.shadowRoot;
  const again = performance.now();
  root.querySelectorAll('.switch button')[1].click();
  await frame();
  const change = performance.now() - again;
  const far = performance.now();
  root.querySelector('.scroller').scrollTop = 1e9;
  await frame();
  return {first, change, jump: performance.now() - far, spans: root.querySelectorAll('.block > span').length};
}"""


def rollout(tokens: int, turns: int, seed: int = 0) -> tuple[Rollouts, dict[str, Credit]]:
    """One episode of that many tokens, two methods: one value a token, and one a run of some tokens."""
    draw = random.Random(seed)
    words = [" the", " of", " country", " search", "ing", " is", ":", " 42", " capital", "\n"]
    made, spans = [], []
    for k in range(turns):
        pieces = tuple(draw.choice(words) for _ in range(tokens // turns))
        message = Message(f"m{k}", "assistant", "".join(pieces))
        made.append(Turn(message))
        spans.append(Span(tuple(range(len(pieces))), "sampled", k, message.id, None, pieces))
    t = Trajectory("long", "g", (), tuple(made), (Sequence(tuple(spans)),), outcome=1.0)
    n = tokens // turns * turns
    generator = torch.Generator().manual_seed(seed)
    each = torch.randn(n, generator=generator, dtype=torch.float64)
    runs = torch.randn(n // 8 + 1, generator=generator, dtype=torch.float64).repeat_interleave(8)[:n]
    known = torch.ones(n, dtype=torch.bool)
    return Rollouts((t,)), {"each token": Credit(each, "token", known), "runs of 8": Credit(runs, "token", known)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    script = widget_script(("credit_map",)).rsplit("export default", 1)[0]
    rollouts, credits = rollout(options.tokens, options.turns)
    data = base64.b64encode(pack(view.CreditMap(rollouts, 0, credits).interactive())).decode()
    found: dict[str, list[dict[str, float]]] = {"ours": [], "naive": []}
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        for _ in range(options.repeats):
            for what, results in found.items():
                page = browser.new_page(viewport={"width": 1160, "height": 900})
                results.append(page.evaluate(MEASURE % script, [data, what]))
                page.close()
        browser.close()
    least = {what: {key: min(r[key] for r in rs) for key in rs[0]} for what, rs in found.items()}
    ours, naive = least["ours"], least["naive"]["first"]
    print(f"{options.tokens:,} tokens in {options.turns} turns, {len(data) * 3 // 4 // 1000:,} kB of payload")
    for name, value in (
        ("first paint", ours["first"]),
        ("other method", ours["change"]),
        ("jump to the end", ours["jump"]),
    ):
        print(f"  {name:<18} {value:7.0f} ms   {value / naive:6.3f} of one element a token ({naive:,.0f} ms)")
    print(f"  elements of text after it: {ours['spans']:,.0f}")


if __name__ == "__main__":
    main()
