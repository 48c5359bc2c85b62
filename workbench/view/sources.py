"""The scripts and styles under `widgets/`, joined as text: what one widget or one page loads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

WIDGET_BYTES = 60_000  # what one widget loads
ALL_BYTES = 200_000  # all sources together

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";\n', re.M)
_COMMENT = re.compile(r"^[ \t]*(?://[^\n]*|/\*(?:(?!\*/).)*\*/[ \t]*)$", re.M | re.S)
_BEHIND = re.compile(r"(?<=\s)//\s[^\"'`]*$")
_EXPORT = re.compile(r"^export (async function|function|class|const) (\w+)", re.M)


def folder() -> Path:
    """Return where the sources are: inside an installed package, or beside it in a checkout.

    Raises:
        FileNotFoundError: neither is there.
    """
    here = Path(__file__).resolve()
    for place in (here.parent / "static", here.parents[2] / "widgets"):
        if (place / "core.js").is_file():
            return place
    raise FileNotFoundError(
        f"the interactive views' sources are missing: no core.js in {here.parent / 'static'} (an installed package) or "
        f"{here.parents[2] / 'widgets'} (a checkout); install the package again"
    )


def order(kinds: Iterable[str], place: Path | None = None) -> list[str]:
    """Return the modules the kinds need, each after what it imports; a kind is the module of that name."""
    found: list[str] = []
    for kind in ("core", *kinds):
        _visit(kind, place or folder(), found, ())
    return found


def _visit(name: str, place: Path, found: list[str], above: tuple[str, ...]) -> None:
    if name in above:
        raise ValueError(f"modules import each other in a circle: {' > '.join((*above, name))}")
    if name in found:
        return
    path = place / f"{name}.js"
    if not re.fullmatch(r"\w+", name) or not path.is_file():
        raise FileNotFoundError(
            f"no module {name}.js in {place}; there are {sorted(p.stem for p in place.glob('*.js'))}"
        )
    for _, needed in _IMPORT.findall(path.read_text(encoding="utf-8")):
        _visit(needed, place, found, (*above, name))
    found.append(name)


def bare(text: str) -> str:
    """Return a source without indentation and comments (those behind code only where no quote follows them).

    A page need not load them. Hence the rule for sources: no template literal over several lines.
    """
    lines = (_BEHIND.sub("", line).strip() for line in _COMMENT.sub("", text).splitlines())
    return "".join(f"{line}\n" for line in lines if line)


def _scoped(name: str, text: str) -> str:
    """Return a module as a function of its own, so that its names meet no other module's."""
    exported = [found for _, found in _EXPORT.findall(text)]
    text = _IMPORT.sub(lambda m: f"const {{{m[1].replace(' as ', ': ')}}} = {m[2]};\n", text)
    text = _EXPORT.sub(r"\1 \2", text)
    if left := re.search(r"^(import|export)\b.*", text, re.M):
        raise ValueError(f'{name}.js: only `import {{...}} from "./x.js";` and exported declarations: {left[0]!r}')
    return f"const {name} = (() => {{\n{text}\nreturn {{ {', '.join(exported)} }};\n}})();\n"


def _parts(kinds: tuple[str, ...], place: Path, more: tuple[str, ...] = ()) -> str:
    names = order((*kinds, *more), place)
    code = "".join(_scoped(name, bare((place / f"{name}.js").read_text(encoding="utf-8"))) for name in names)
    sheets = [place / f"{name}.css" for name in names]
    style = "".join(bare(sheet.read_text(encoding="utf-8")) for sheet in sheets if sheet.is_file())
    views = ", ".join(f"{kind}: {kind}.view" for kind in kinds)
    return f"{code}const views = {{ {views} }};\nconst style = {json.dumps(style, ensure_ascii=False)};\n"


def widget_script(kinds: tuple[str, ...], place: Path | None = None) -> str:
    """Return the ES module a live widget of these kinds loads."""
    return f"{_parts(kinds, place or folder())}export default core.widget(views, style);\n"


def page_script(kinds: tuple[str, ...], place: Path | None = None) -> str:
    """Return the script of a page with views of these kinds."""
    return f"(() => {{\n{_parts(kinds, place or folder(), ('page',))}page.hydrate(views, style);\n}})();\n"
