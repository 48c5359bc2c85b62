"""One offline HTML file around a view: its own light and dark colours, no script, no network."""

from __future__ import annotations

from workbench.view.escape import esc

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

STYLE = """
:root { color-scheme: light dark; }
html { background: #fcfcfb; color: #1b1b1a; }
body { margin: 0 auto; padding: 40px 32px 72px; max-width: 1080px;
       font: 13px/1.5 system-ui, -apple-system, sans-serif; font-variant-numeric: tabular-nums lining-nums; }
h1 { font-size: 22px; font-weight: 600; letter-spacing: -.005em; line-height: 1.3; margin: 0 0 4px; }
header p { margin: 0 0 28px; opacity: .68; }
section { margin: 0 0 44px; }
summary:focus-visible { outline: 2px solid rgba(0,114,178,.8); outline-offset: 2px; border-radius: 2px; }
@media (prefers-color-scheme: dark) { html { background: #161718; color: #e6e6e3; } }
@media print { body { padding: 0; max-width: none; } * { print-color-adjust: exact; } }
"""


def page(title: str, sections: list[tuple[str, str]], lead: str = "") -> str:
    """Return a whole HTML document.

    Args:
        title: of the document and its first heading.
        sections: (what it shows in a few words, its HTML), in order.
        lead: one sentence under the title.
    """
    opening = f"<p>{esc(lead)}</p>" if lead else ""
    body = "\n".join(f'<section aria-label="{esc(name)}">{section}</section>' for name, section in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{esc(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{esc(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<header><h1>{esc(title)}</h1>{opening}</header>\n{body}\n</main>\n</body>\n</html>\n"
    )
