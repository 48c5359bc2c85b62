"""Text of models and tools is hostile: the one place where it becomes HTML."""

from __future__ import annotations

import html
import json
import re
from typing import Any

# What a reader could not see or what would reorder what she sees: C0 and C1 controls (tab and newline apart), bidi
# controls and marks, line and paragraph separators, zero-width characters that no script needs, tag characters, and
# halves of surrogate pairs (which no file can hold). The zero-width joiners U+200C and U+200D belong to ordinary text.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)


def visible(text: str) -> str:
    """Replace characters that cannot be seen, or that reorder text, by their boxed code point.

    Line ends of the form CR LF become LF: a browser does the same.

    Example:
        >>> visible("safe" + chr(0x202E) + "txt.exe")
        'safe⟦U+202E⟧txt.exe'
    """
    return _INVISIBLE.sub(lambda hit: f"⟦U+{ord(hit[0]):04X}⟧", text.replace("\r\n", "\n"))


def esc(text: str) -> str:
    """Escape text for HTML, inside elements and inside quoted attributes alike.

    Example:
        >>> esc('<b title="x">&')
        '&lt;b title=&quot;x&quot;&gt;&amp;'
    """
    return html.escape(visible(text), quote=True)


def json_for_html(data: Any) -> str:
    """Return JSON that can stand inside `<script type="application/json">`: nothing in it can end the element.

    Raises:
        ValueError: `data` holds NaN or an infinity, which JSON has no word for.

    Example:
        >>> json_for_html({"a": "</script>"})
        '{"a":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def cut(text: str, limit: int) -> tuple[str, int]:
    """Return the first `limit` characters and how many more there are."""
    return text[:limit], max(0, len(text) - limit)


def one_line(text: str, limit: int = 72) -> str:
    """Return the start of a text on one line, with an ellipsis if it goes on.

    Example:
        >>> one_line("Search:  capital of\\nPeru", 20)
        'Search: capital of…'
    """
    flat = " ".join(text[: 4 * limit].split())
    whole = len(text) <= 4 * limit and len(flat) <= limit
    return flat if whole else flat[: limit - 1].rstrip() + "…"
