"""A very small builder of HTML: what is not `Markup` is text, and is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from workbench.view.escape import esc

VOID = frozenset({"br", "hr", "meta", "img"})


class Markup(str):
    """HTML that was made here; a plain `str` is always text."""

    __slots__ = ()


@lru_cache(maxsize=8192)
def _attribute(value: str) -> str:
    """Escape an attribute; the same few styles and titles come thousands of times."""
    return esc(value)


def markup(child: str) -> Markup:
    """Return `child` as HTML, escaped unless it is HTML already."""
    return child if isinstance(child, Markup) else Markup(esc(child))


def join(children: Iterable[str], between: str = "") -> Markup:
    """Join children, and what stands between them, each escaped unless it is HTML already."""
    return Markup(markup(between).join(markup(child) for child in children))


def el(
    name: str, *children: str, style: str = "", title: str = "", attrs: Mapping[str, str | int] | None = None
) -> Markup:
    """Build one element.

    Args:
        name: tag name; a constant of ours, never data.
        children: text (escaped) or `Markup`.
        style: inline CSS, of our own making.
        title: tooltip, which is also the text alternative of a wash.
        attrs: further attributes; names are constants of ours, values are escaped.

    Example:
        >>> el("td", "a < b", style="text-align:right", attrs={"colspan": 2})
        '<td style="text-align:right" colspan="2">a &lt; b</td>'
    """
    all_attrs = {"style": style, "title": title, **(attrs or {})}
    opened = name + "".join(f' {key}="{_attribute(str(value))}"' for key, value in all_attrs.items() if value != "")
    if name in VOID:
        return Markup(f"<{opened}>")
    return Markup(f"<{opened}>{join(children)}</{name}>")
