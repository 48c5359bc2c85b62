"""One offline HTML file around views: its own light and dark colours, no network; a script only if a view needs it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from workbench.view.escape import esc, json_for_html
from workbench.view.pack import pack, zipped
from workbench.view.tags import Markup, el

# Nothing is fetched, from nowhere. `blob:` is what saving a picture or a table of a view takes.
SEALED = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
SCRIPTED = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)

STYLE = """
:root { color-scheme: light dark; }
html { background: #fcfcfb; color: #1b1b1a; }
body { margin: 0 auto; padding: 40px 32px 72px; max-width: 1080px;
       font: 13px/1.5 system-ui, -apple-system, sans-serif; font-variant-numeric: tabular-nums lining-nums; }
h1 { font-size: 22px; font-weight: 600; letter-spacing: -.005em; line-height: 1.3; margin: 0 0 4px; }
header p { margin: 0 0 28px; opacity: .68; }
section { margin: 0 0 44px; }
summary:focus-visible { outline: 2px solid rgba(0,114,178,.8); outline-offset: 2px; border-radius: 2px; }
@media (prefers-color-scheme: dark) { html { background: #161718; color: #f0f0ed; } }
@media print { body { padding: 0; max-width: none; } * { print-color-adjust: exact; } }
"""


def island(static: str, kind: str, title: str, payload: dict[str, Any], state: dict[str, Any]) -> Markup:
    """Return a view's static HTML, followed by the payload of its interactive layer, which the page's script draws."""
    spec = {"kind": kind, "title": title, "link": "page", "state": state, "zip": zipped(pack(payload))}
    data = Markup(f'<script type="application/json" class="cw-data">{json_for_html(spec)}</script>')
    return Markup(el("div", Markup(static), attrs={"class": "cw-static"}) + data)


def page(title: str, sections: list[tuple[str, str]], lead: str = "", script: str = "") -> str:
    """Return a whole HTML document.

    Args:
        title: of the document and its first heading.
        sections: (what it shows in a few words, its HTML), in order.
        lead: one sentence under the title.
        script: of ours, from `sources.page_script`; "" for a page that runs none.
    """
    policy = SCRIPTED if script else SEALED
    code = f"<script>\n{script}</script>\n" if script else ""
    opening = f"<p>{esc(lead)}</p>" if lead else ""
    names = _told_apart([name for name, _ in sections])
    body = "\n".join(f'<section aria-label="{esc(n)}">{s}</section>' for n, (_, s) in zip(names, sections, strict=True))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{esc(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{esc(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<header><h1>{esc(title)}</h1>{opening}</header>\n{body}\n</main>\n{code}</body>\n</html>\n"
    )


def _told_apart(names: list[str]) -> list[str]:
    """Return the names with a number behind those that came before: a screen reader lists them."""
    seen: Counter[str] = Counter()
    out = []
    for name in names:
        seen[name] += 1
        out.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return out
