"""Notebooks from their text sources: build them without losing the reader's work, run them, write them as one page.

A notebook's source is a `py:percent` text file; the `.ipynb` beside it belongs to the reader as soon as they change it.
A ledger remembers a hash of what was generated, which is how a changed notebook is told from an untouched one.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

JUPYTER = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "JUPYTER_PREFER_ENV_PATH": "1"}  # this environment's kernel


class NotebookError(Exception):
    """A cell that failed, or a notebook that took too long; the message names the cell."""


@dataclass(frozen=True)
class Built:
    """Where a notebook is now and how it came there.

    Args:
        path: the notebook that holds the current source.
        how: "written" (there was none), "updated" (the reader had not changed it), "kept" (it is current already), or
            "beside" (the reader's changed one was left alone).
        saved: copy of the former notebook, if outputs of changed cells would have been lost.
    """

    path: Path
    how: Literal["written", "updated", "kept", "beside"]
    saved: Path | None = None


def read_source(source: Path) -> Any:
    """Read a `py:percent` file as a notebook node."""
    import jupytext

    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata.pop("jupytext", None)  # the notebook is not paired: saving it must not write to the source
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # stable, so that building twice gives the same file
    return notebook


def fingerprint(notebook: Any) -> str:
    """Hash the kind and source of every cell; outputs, counts and metadata do not matter."""
    cells = [(cell.cell_type, cell.source.rstrip()) for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def build(source: Path, target: Path, ledger: Path, edit: Callable[[Any], Any] | None = None) -> Built:
    """Write the notebook of a source, and never over a notebook that the reader changed.

    Args:
        source: `py:percent` file.
        target: the `.ipynb`; if the reader changed it, the new one goes beside it as `NAME.new.ipynb`.
        ledger: JSON file that remembers what was generated.
        edit: makes the notebook that is written of the one that was read, e.g. `workbench.teach.exercises`.
    """
    import nbformat

    new, told = read_source(source), _read_ledger(ledger)
    new = edit(new) if edit else new
    for path in _candidates(target):
        key = os.path.relpath(path, ledger.parent)
        mine = _read_notebook(path) if path.exists() else None
        if mine is not None and fingerprint(mine) == fingerprint(new):
            how: Any = "kept"
        elif not path.exists():
            how = "written"
        elif mine is not None and fingerprint(mine) == told.get(key):
            how = "updated"
        else:
            continue
        saved = _save_outputs(mine, new, path) if how == "updated" else None
        if how != "kept":
            path.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(new, path)
        _write_ledger(ledger, {**told, key: fingerprint(new)})
        return Built(path, how if path == target else "beside", saved)
    raise AssertionError("there is always a free name")


def build_all(
    sources: Path,
    folder: Path,
    ledger: Path,
    say: Callable[[str], None] = print,
    edit: Callable[[Any], Any] | None = None,
) -> dict[str, Built]:
    """Build every notebook of a folder of sources; say what was left alone or kept aside. For `edit` see `build`.

    Returns:
        what became of each, by its name without suffix, e.g. "start" or "methods/igpo".
    """
    made = {}
    for source in sorted(path for path in sources.rglob("*.py") if not path.name.startswith("_")):
        name = source.relative_to(sources).with_suffix("").as_posix()
        built = made[name] = build(source, folder / f"{name}.ipynb", ledger, edit)
        if built.how == "beside":
            say(f"You changed {name}.ipynb: it is left alone. The current one is {built.path}")
        if built.saved:
            say(f"{name}.ipynb was updated; the former one with its outputs is {built.saved}")
    return made


def build_tutorials(sources: Path, folder: Path, ledger: Path, say: Callable[[str], None] = print) -> None:
    """Build every tutorial twice: NAME.ipynb for readers, with stubs, and NAME.solution.ipynb."""
    from workbench.teach import exercises

    build_all(sources, folder, ledger, say, exercises)
    for source in sorted(path for path in sources.rglob("*.py") if not path.name.startswith("_")):
        build(source, folder / source.relative_to(sources).with_suffix(".solution.ipynb"), ledger)


def _candidates(target: Path) -> Iterator[Path]:
    """NAME.ipynb, NAME.new.ipynb, NAME.new2.ipynb ..."""
    yield target
    yield target.with_suffix(".new.ipynb")
    number = 2
    while True:
        yield target.with_suffix(f".new{number}.ipynb")
        number += 1


def _read_notebook(path: Path) -> Any:
    """Read a notebook; None if it cannot be read (then it is the reader's to mend)."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except (ValueError, OSError, AttributeError, nbformat.reader.NotJSONError):
        return None


def _save_outputs(old: Any, new: Any, path: Path) -> Path | None:
    """Carry outputs of unchanged cells over into `new`; keep a copy of `old` if others would be lost."""
    import nbformat

    outputs: dict[str, list[Any]] = {}
    for cell in old.cells:
        if cell.cell_type == "code" and cell.outputs:
            outputs.setdefault(cell.source.rstrip(), []).append(cell)
    for cell in new.cells:
        if cell.cell_type == "code" and outputs.get(cell.source.rstrip()):
            before = outputs[cell.source.rstrip()].pop(0)
            cell["outputs"], cell["execution_count"] = before.outputs, before.execution_count
    if not any(outputs.values()):
        return None
    copy = path.with_suffix(f".{time.strftime('%Y%m%d-%H%M%S')}.ipynb")
    nbformat.write(old, copy)
    return copy


def _read_ledger(ledger: Path) -> dict[str, str]:
    try:
        return dict(json.loads(ledger.read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def _write_ledger(ledger: Path, told: dict[str, str]) -> None:
    ledger.parent.mkdir(parents=True, exist_ok=True)
    draft = ledger.with_name(f"{ledger.name}.{os.getpid()}")
    draft.write_text(json.dumps(told, indent=1, sort_keys=True), "utf-8")
    os.replace(draft, ledger)


# ---------------------------------------------------------------------------------------------------- running


def execute(notebook: Any, folder: Path, timeout: float, say: Callable[[str], None] = print) -> float:
    """Run a notebook in place, in a fresh kernel; return the seconds it took.

    Args:
        notebook: node; its outputs are filled in, also when it fails.
        folder: where its kernel works.
        timeout: seconds for the whole notebook.
        say: told each code cell and its seconds.

    Raises:
        NotebookError: a cell raised, or time ran out.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    os.environ.update({name: os.environ.get(name, value) for name, value in JUPYTER.items()})
    begun, total = time.monotonic(), len(notebook.cells)
    at: dict[str, Any] = {"cell": 0, "title": "", "start": begun}

    def started(cell: Any, cell_index: int) -> None:
        title = next((line for line in cell.source.splitlines() if line.strip()), "")
        at.update(cell=cell_index + 1, title=title[:80], start=time.monotonic())

    def ended(cell: Any, cell_index: int, execute_reply: Any) -> None:
        say(f"  {cell_index + 1:3d}/{total}  {time.monotonic() - at['start']:6.1f} s  {at['title']}")

    client = NotebookClient(
        notebook,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],  # its note on unencrypted loopback is not for a reader of this output
        coalesce_streams=True,  # one progress bar, not one line an update
        store_widget_state=False,  # a page without a kernel cannot use it
        timeout_func=lambda cell: max(1, int(timeout - (time.monotonic() - begun))),
        on_cell_execute=started,
        on_cell_executed=ended,
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise NotebookError(f"cell {at['cell']} ({at['title']}) failed:\n{error.traceback}") from None
    except (CellTimeoutError, DeadKernelError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NotebookError(f"cell {at['cell']} ({at['title']}): {reason}; the limit is {timeout:.0f} s") from None
    return time.monotonic() - begun


# --------------------------------------------------------------------------------------------------- one page

# `default-src 'none'`: whatever an output contains, the page fetches nothing.
POLICY = "default-src 'none'; img-src data:; media-src data:; font-src data:; " + (
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
STYLE = """
:root{color-scheme:light dark}
body{max-width:72rem;margin:0 auto;padding:1.5rem 1rem 4rem;font:16px/1.55 system-ui,sans-serif}
.input_area{border-left:3px solid #8884;margin:.6rem 0}
.input_area pre,.output_text pre,.output_stream pre{overflow-x:auto;padding:.5rem .8rem;margin:0}
.output_area pre,.input_area pre{font-size:.85rem;line-height:1.45}
.output_stderr{opacity:.75}.output_error pre{border-left:3px solid #D55E00}
.output_area{margin:.4rem 0;overflow-x:auto}.prompt,.anchor-link{display:none}
.rendered_html table:not([class]),table.dataframe{border-collapse:collapse;font-size:.9rem}
:is(table.dataframe,.text_cell_render,.output_markdown) :is(th,td){border:1px solid #8886;padding:.2rem .6rem}
.text_cell_render :not(pre)>code{background:#8882;padding:.1em .3em;border-radius:3px}
img{max-width:100%}math[display=block]{margin:.8rem 0}
"""


def _mathml(latex: str, display: Literal["inline", "block"]) -> str:
    """Turn LaTeX into MathML; what cannot be turned is shown as it is."""
    from latex2mathml.converter import convert

    try:
        return str(convert(latex.strip(), display=display))
    except Exception:  # the converter raises many kinds; a formula must not stop a page
        return f"<code>{html.escape(latex)}</code>"


def _markdown(source: str) -> str:
    """Render Markdown with its formulas as MathML, which browsers draw without a script."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Offline(IPythonRenderer):
        def block_math(self, body: str) -> str:
            return _mathml(body, "block")

        def inline_math(self, body: str) -> str:
            return _mathml(body, "inline")

        def multiline_math(self, text: str) -> str:
            return _mathml(text, "block")

        def latex_environment(self, name: str, body: str) -> str:
            return _mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")

    return str(MarkdownWithMath(renderer=Offline(escape=False, anchor_link_text="")).render(source))


def _has_static_form(output: Any) -> bool:
    """Strip from an output what wants a kernel or a script from elsewhere; tell whether something is left to show."""
    if output.output_type == "stream" and not output.text.strip():
        return False  # a progress bar that has closed has written spaces over itself: an empty line, and no more
    data = output.get("data", {})
    live = [kind for kind in data if "javascript" in kind or "widget-view" in kind]
    for kind in live:
        del data[kind]
    # The text of a widget is its state when it was first shown, e.g. a progress bar at 0 %: worse than nothing.
    return not live or bool(set(data) - {"text/plain"})


def page(notebook: Any, title: str) -> str:
    """Return a notebook with its outputs as one HTML page that needs no network and no kernel."""
    import copy

    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    still = copy.deepcopy(notebook)
    for cell in still.cells:
        if cell.cell_type == "code":
            cell["outputs"] = [output for output in cell.outputs if _has_static_form(output)]
    still.metadata.pop("widgets", None)
    exporter = HTMLExporter(template_name="basic", filters={"markdown2html": _markdown})
    body, _ = exporter.from_notebook_node(still)
    colours = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n"
        f"<style>{STYLE}{colours}\n@media (prefers-color-scheme:dark){{{dark}}}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )
